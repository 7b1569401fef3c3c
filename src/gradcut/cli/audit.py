"""'gradcut audit'."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gradcut import files
from gradcut.cli.help import ASKED, PHOTOGRAPHS, WRITTEN
from gradcut.cli.options import (
    CLASSIFIER,
    AsJson,
    ClassifierName,
    Device,
    Limit,
    Resamples,
    Size,
    Threshold,
    ValueRange,
    app,
    check_file,
    check_folder,
    check_output,
    dataset_names,
    load,
    out,
    saliency_names,
)
from gradcut.cli.progress import bar, err, working
from gradcut.cli.telling import tell_errors
from gradcut.errors import GradcutError

#: What an audit needs, for somebody who does not have it.
_NEEDED = (
    "an audit needs to know where the classes are, and gradcut's own masks would only say what it was asked: give "
    "--labels FILE.json, COCO annotations with masks or boxes, or --masks DIR, PNG files, or --dataset NAME"
)


@app.command(
    examples="""
    gradcut audit val2017/ --labels instances_val2017.json -o audit/
    gradcut audit in/ --masks masks/ --label cat -c timm/resnet50   # PNG masks
    gradcut audit VOCdevkit/ --dataset voc --names coco --saliency LRP
    """
)
def audit(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="The photographs; with --dataset the data set's folder.",
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="COCO annotations, with masks or with boxes.",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="Mask PNGs of the photographs' names: with --label or --classes.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="With --masks: the name of every pixel that is not 0.",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="With --masks: a text file whose line i names the value i of the masks.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, **dataset_names, show_default=False,
            help="DIR is laid out as this data set: voc, pets or imagenet-s.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default="the data set's validation",
            help="With --dataset: which part of it, as for 'gradcut evaluate'.",
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default="voc; species",
            help="With --dataset: whose class names, as for 'gradcut evaluate'.",
        ),
    ] = None,
    size: Size = None,
    value_range: ValueRange = None,
    limit: Limit = None,
    classifier: ClassifierName = CLASSIFIER,
    threshold: Threshold = None,
    saliency: Annotated[
        str,
        typer.Option(
            "--saliency", **saliency_names, metavar="NAME", rich_help_panel=ASKED,
            help="Whose maps show where the evidence is.",
        ),
    ] = "GradCAM",
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", rich_help_panel=WRITTEN,
            help="Folder for audit.html, audit.csv and audit.json.",
        ),
    ] = Path("audit"),
    gallery: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", rich_help_panel=WRITTEN, help="Show N photographs of each verdict on the page.",
        ),
    ] = 12,
    resamples: Resamples = 1000,
    as_json: AsJson = False,
    device: Device = None,
) -> None:  # fmt: skip
    """Find out whether a classifier looks at the object.

    How much of a class's evidence lies in its true masks or boxes, against chance, and whether the class is seen with
    the object painted over, too: by class, and for each photograph, the worst first.
    """
    check_folder("DIR", folder)
    where = _where(folder, labels, masks, label, classes, dataset, split, names)
    if value_range is not None:
        where["value_range"] = list(value_range)
    check_output(output)
    with working(f"loading {classifier}"):
        from gradcut import audit as judging
        from gradcut.catalogue import check
        from gradcut.datasets.opening import open_dataset
        from gradcut.recipes import METHODS
        from gradcut.records import described, versions

        samples = open_dataset(**where)[:limit]
        method = METHODS[check("saliency", saliency, METHODS)]()
        asked = load(classifier, device, label=None if samples.labels is None else list(samples.labels))
        asked = asked if size is None else asked.at(size)
    members = judging.known_labels(asked, samples)
    if unknown := [name for name in samples.labels or () if name not in members]:
        few = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        err.print(f"gradcut: left out, as {asked.name} does not have {len(unknown)} of the classes: {few}")
    cases: list[Any] = []
    errors: list[str] = []
    with bar("auditing", len(samples)) as track:
        for found in track(judging.audit(samples, asked, method, threshold)):
            if isinstance(found, str):
                errors.append(found)
            else:
                cases += found
    tell_errors(errors, ", in audit.json" if cases else "")
    if not cases:
        wanted = f"photographs with a class that {asked.name} has" + (" that can be judged" if errors else "")
        raise GradcutError(f"DIR: expected {wanted}, got none in {folder}")
    cases = judging.ranked(cases)
    with working("resampling"):
        figures = judging.summarise(cases, resamples)
    boxed = sum(case.boxed for case in cases)
    truth = "masks" if not boxed else "boxes" if boxed == len(cases) else f"masks, and boxes of {boxed} classes"
    settings = {
        "title": samples.title, "method": described(method), "classifier": asked.record(), "dataset": where,
        "threshold": asked.threshold if threshold is None else threshold, "truth": truth, "versions": versions(),
    }  # fmt: skip
    chosen = [case for verdict in judging.VERDICTS for case in [c for c in cases if c.verdict == verdict][:gallery]]
    with bar("drawing", len(chosen)) as track:
        cards = list(track(judging.draw(chosen, samples, asked, method)))
    text = judging.page(cases, figures, settings, cards, errors)
    document = {"settings": settings, **figures, "cases": [case.row() for case in cases], "errors": errors}
    with files.writing(output):
        for name, content in (
            ("audit.csv", _table(cases).encode()),
            ("audit.html", text.encode()),
            ("audit.json", files.encode_json(document, indent=1) + b"\n"),
        ):
            files.Folder(str(output)).write(name, content)
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        _print(figures)
        print(output / "audit.html")
    raise typer.Exit(1 if errors else 0)


def _where(
    folder: Path, labels: Path | None, masks: Path | None, label: str | None, classes: Path | None,
    dataset: str | None, split: str | None, names: str | None,
) -> dict[str, Any]:  # fmt: skip
    """How the data set is opened, as `open_dataset` takes it."""
    given = [name for name, value in (("--labels", labels), ("--masks", masks), ("--dataset", dataset)) if value]
    if not given:
        raise GradcutError(f"labels: {_NEEDED}")
    if len(given) > 1:
        raise GradcutError(f"{', '.join(given)}: expected one of them")
    for option, value, of in (
        ("--label", label, "--masks"), ("--classes", classes, "--masks"),
        ("--split", split, "--dataset"), ("--names", names, "--dataset"),
    ):  # fmt: skip
        if value is not None and of not in given:
            raise GradcutError(f"{option}: expected together with {of} alone, got it with {given[0]}")
    if dataset is not None:
        if dataset in ("coco", "folder", "imagenet-seg"):
            raise GradcutError(f"--dataset: expected voc, pets or imagenet-s, got {dataset}; {_NEEDED}")
        options = {"split": split, "names": names}
        return {"kind": dataset, "root": str(folder), **{key: value for key, value in options.items() if value}}
    if masks is not None:
        check_folder("--masks", masks)
        if (label is None) == (classes is None):
            raise GradcutError("--masks: expected --label NAME or --classes FILE with it: what are the masks of?")
        if classes is not None:
            check_file("--classes", classes)
        if any((place / "run.json").is_file() for place in (masks, masks.parent)):
            raise GradcutError(f"--masks: {masks} are the masks of a run of gradcut; {_NEEDED}")
        named = {"label": label, "classes": None if classes is None else str(classes)}
        return {"kind": "folder", "images": str(folder), "masks": str(masks), **{k: v for k, v in named.items() if v}}
    assert labels is not None
    check_file("--labels", labels)
    if labels.suffix.lower() != ".json":
        raise GradcutError(f"--labels: {labels} says at most what is in a photograph; {_NEEDED}")
    return {"kind": "coco", "images": str(folder), "annotations": str(labels), "boxes": True}


def _table(cases: list[Any]) -> str:
    """The cases as CSV, the worst first."""
    text = io.StringIO()
    rows = [{"rank": rank, **case.row()} for rank, case in enumerate(cases, start=1)]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()


def _print(figures: dict[str, Any]) -> None:
    """The figures of all the classes and of the worst ten, in a table that fits a terminal of 80 columns."""
    table = Table("class", "n", "evidence on it", "chance", "elsewhere", "wrong reason")
    for label, entry in [("all", figures["all"]), *list(figures["by_class"].items())[:10]]:
        table.add_row(
            label, str(entry["cases"]), _shown(entry["inside"]), _shown(entry["area"], False),
            _shown(entry["elsewhere"], False), _shown(entry["wrong_reason"], False),
        )  # fmt: skip
    out.print(table)
    rest = len(figures["by_class"]) - 10
    if rest > 0:
        out.print(f"and {rest} more classes, whose evidence is more above chance, on the page", highlight=False)


def _shown(figure: dict[str, Any], between: bool = True) -> str:
    if figure["value"] is None:
        return "-"
    interval = figure["interval"] if between else None
    return f"{figure['value']:.0%}" + (f" ({interval[0]:.0%} to {interval[1]:.0%})" if interval else "")

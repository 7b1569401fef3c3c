"""'gradcut fit'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gradcut.cli.help import PHOTOGRAPHS, WRITTEN
from gradcut.cli.memory import keep_freed_memory
from gradcut.cli.options import (
    AsJson,
    Device,
    Size,
    ValueRange,
    app,
    check_file,
    check_folder,
    classifier_names,
    out,
)
from gradcut.cli.progress import bar, err, working
from gradcut.errors import GradcutError

FITTED = "How the head is fitted"

#: What a folder is hardly called.
FILES = (
    ".bin", ".ckpt", ".csv", ".gz", ".h5", ".jpg", ".json", ".keras", ".npy", ".npz", ".onnx", ".pickle", ".pkl",
    ".png", ".pt", ".pth", ".safetensor", ".tar", ".tflite", ".txt", ".yaml", ".yml", ".zip",
)  # fmt: skip


@app.command(
    examples="""
    gradcut fit --images in/ --labels labels.csv -o head.safetensors
    gradcut fit --images in/ --labels labels.csv -o heads/ --folds 3
    gradcut fit --images in/ --labels labels.csv -o heads/ --backbone hf/FOLDER
    gradcut fit --corrections run/ -o new.safetensors  # from what was corrected
    """
)
def fit(
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", rich_help_panel=WRITTEN, show_default=False,
            help="HEAD.safetensors; or a folder, which gets the head, and each fold's head with folds.csv.",
        ),
    ],
    folders: Annotated[
        list[Path],
        typer.Option(
            "--images", metavar="DIR", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="Folder of the photographs; one for each --labels, or one for all.",
        ),
    ] = [],  # noqa: B006  typer reads it
    tables: Annotated[
        list[Path],
        typer.Option(
            "--labels", metavar="CSV", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="CSV with the columns file, labels (a;b;c) and, if not all is known, known; may be repeated.",
        ),
    ] = [],  # noqa: B006
    corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="In the place of --images and --labels: fit the head of this run again, to its corrected photographs.",
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            **classifier_names, metavar="NAME", rich_help_panel=FITTED,
            help="Classifier whose last linear layer is replaced, or any network of timm or transformers.",
        ),
    ] = "lite2",
    size: Size = None,
    value_range: ValueRange = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default="those of the CSV",
            help="Classes to fit: coco, voc, or a file with a class a line.",
        ),
    ] = None,
    known: Annotated[
        list[str],
        typer.Option(
            metavar="WHAT", rich_help_panel=PHOTOGRAPHS, show_default="all",
            help="Classes that were looked for: all, labels (of each photograph its own), coco, voc, or a file with a "
            "class a line; one for each --labels, or one for all.",
        ),
    ] = ["all"],  # noqa: B006  typer reads it
    judged: Annotated[
        int | None,
        typer.Option(
            metavar="N", rich_help_panel=FITTED, show_default="all",
            help="Judge the photographs of the first N --labels; all folds learn from the others.",
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=FITTED, help="Parts of the cross-validation.")
    ] = 5,
    l2: Annotated[
        float, typer.Option(metavar="X", rich_help_panel=FITTED, help="Strength of the pull towards the prior.")
    ] = 2e-4,
    prior: Annotated[
        float,
        typer.Option(
            metavar="X", rich_help_panel=FITTED, help="Factor of the backbone's own rows in the prior; 0 for none.",
        ),
    ] = 1.5,
    mirror: Annotated[bool, typer.Option(rich_help_panel=FITTED, help="Learn from mirror images, too.")] = True,
    places: Annotated[
        bool, typer.Option(rich_help_panel=FITTED, help="Fit weights for places, too, which make better masks.")
    ] = True,
    seed: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=FITTED, help="Seed of the folds.")
    ] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=WRITTEN, show_default="beside the output",
            help="Folder to keep what is computed of each photograph in, for a run that was stopped.",
        ),
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Fit a head for classes of your own, from image-level labels.

    It stands on a frozen backbone, in the place of its last linear layer; no pixel labels are needed. With
    --corrections, the head of a run goes on from what was corrected there, pixels too.
    """
    alone = output.suffix == ".safetensors"
    if output.is_dir() if alone else output.is_file() or output.suffix.lower() in FILES:
        raise GradcutError(f"output: expected HEAD.safetensors or a folder, got {str(output)!r}")
    cache = cache or (output.with_suffix(".features") if alone else output / "features")
    if corrections is not None:
        _check_alone(context)
        _learn(corrections, output if alone else output / "head.safetensors", cache, device, as_json)
        return
    if not folders or not tables:
        raise GradcutError("labels: expected --images and --labels, or --corrections RUN")
    for folder in folders:
        check_folder("--images", folder)
    for table in tables:
        check_file("--labels", table)
    keep_freed_memory()
    with working("loading"):
        from gradcut.fit import LinearFit, PlaceFit, fit_backbone, fit_folds, read_labels
        from gradcut.fit.labels import WORDS
        from gradcut.labels import vocabulary

    data = read_labels(
        tables, folders, None if classes is None else vocabulary(classes) or _listed("classes", "coco, voc", classes),
        value_range, [word if word in WORDS else _listed("known", ", ".join(WORDS), word) for word in known], judged,
    )  # fmt: skip
    if data.doubtful:
        labels = ", ".join(data.doubtful)
        err.print(f"gradcut: at most one judged photograph has {labels}: nothing can be said of how well it is found")
    classifier = fit_backbone(backbone, places, device)
    heads = fit_folds(
        classifier if size is None else classifier.at(size), data, LinearFit(l2, prior, folds, seed),
        PlaceFit(seed=seed) if places else None, every_fold=not alone, mirror=mirror,
        cache=cache, progress=bar,
    )  # fmt: skip
    heads.save(output)
    head, fitted = heads.head, heads.fitted
    if as_json:
        print(json.dumps({"head": str(output), "threshold": head.threshold, **head.figures}, indent=1))
        return
    per_class = Table("class", "photographs", "known", "average precision")
    for name, score in head.figures["average_precision"].items():
        counts = (str(head.figures[count][name]) for count in ("examples", "known"))
        per_class.add_row(name, *counts, "-" if score is None else f"{score:.3f}")
    out.print(per_class)
    judged_alone = "" if data.judged.all() else f"{data.judged.sum()} of them judged, "
    out.print(
        f"{len(data.files)} photographs, {judged_alone}{len(data.labels)} classes, {folds} folds: "
        f"mean average precision {fitted.mean_average_precision:.3f}; at the threshold {fitted.threshold:.2f} "
        f"F1 {fitted.f1:.3f}, precision {fitted.precision:.3f}, recall {fitted.recall:.3f}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    print(output)


#: What goes with --corrections; all else is the head's, or the run's.
WITH_CORRECTIONS = {"corrections", "output", "cache", "device", "as_json"}


def _check_alone(context: typer.Context) -> None:
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in WITH_CORRECTIONS and source is not None and source.name == "COMMANDLINE":
            raise GradcutError(
                f"{parameter.opts[0]}: it does not go with --corrections, which fits the run's own head again"
            )


def _learn(run: Path, output: Path, cache: Path, device: str | None, as_json: bool) -> None:
    with working("loading"):
        from gradcut.files import writing
        from gradcut.runs.learn import fit_corrections

    taught = fit_corrections(run, device=device, cache=cache, progress=bar)
    with writing(output):
        taught.head.save(output)
    for problem in taught.problems:
        err.print(f"gradcut: left out: {problem}")
    if taught.left_out:
        err.print(f"gradcut: the head has no {', '.join(taught.left_out)}; it has not learnt what it is")
    if as_json:
        figures = taught.head.figures["corrections"]
        told = {"left_out": list(taught.left_out), "problems": list(taught.problems)}
        print(json.dumps({"head": str(output), **figures, **told}, indent=1))
        return
    before = f", beside {taught.before} that had taught it before" if taught.before else ""
    number = len(taught.photographs)
    pixels = "and their pixels have taught it" if taught.head.places else "have taught it, without weights for places"
    out.print(
        f"{number} corrected photograph{'s' * (number != 1)} of {run} {pixels}{before}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    print(output)


def _listed(option: str, words: str, name: str) -> tuple[str, ...]:
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise GradcutError(f"{option}: expected {words} or a file with a class a line, got {name!r}") from error
    return tuple(line.strip() for line in lines if line.strip())

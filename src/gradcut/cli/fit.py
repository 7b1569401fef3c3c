"""'gradcut fit'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gradcut.errors import GradcutError

if TYPE_CHECKING:
    pass
from gradcut.cli.help import PHOTOGRAPHS, WRITTEN
from gradcut.cli.options import AsJson, Device, Size, ValueRange, app, classifier_names, load, out
from gradcut.cli.progress import bar, err, working

FITTED = "How the head is fitted"


@app.command(
    examples="""
    gradcut fit --images in/ --labels labels.csv -o head.safetensors
    gradcut fit --images in/ --labels labels.csv -o heads/ --folds 3
    gradcut segment in/ -c head.safetensors     # with the fitted head
    """
)
def fit(
    folder: Annotated[
        Path,
        typer.Option(
            "--images", metavar="DIR", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="Folder of the photographs.",
        ),
    ],
    table: Annotated[
        Path,
        typer.Option(
            "--labels", metavar="FILE", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="CSV with the columns file and labels (a;b;c).",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", rich_help_panel=WRITTEN, show_default=False,
            help="HEAD.safetensors; or a folder, which gets the head, and each fold's head with folds.csv.",
        ),
    ],
    backbone: Annotated[
        str,
        typer.Option(
            **classifier_names, metavar="NAME", rich_help_panel=FITTED,
            help="Classifier whose last linear layer is replaced.",
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
            metavar="FILE", rich_help_panel=WRITTEN, show_default="beside the output",
            help="File to keep the features in.",
        ),
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Fit a head for classes of your own, from image-level labels.

    It replaces the last linear layer of a frozen backbone; no pixel labels are needed.
    """
    with working("loading"):
        from gradcut.fit import LinearFit, PlaceFit, fit_folds, read_labels

    data = read_labels(table, folder, _classes(classes), value_range)
    if data.doubtful:
        labels = ", ".join(data.doubtful)
        err.print(f"gradcut: only one photograph has {labels}: nothing can be said of how well it is found")
    alone = output.suffix == ".safetensors"
    classifier = load(backbone, device)
    heads = fit_folds(
        classifier if size is None else classifier.at(size), data, LinearFit(l2, prior, folds, seed),
        PlaceFit(seed=seed) if places else None, every_fold=not alone, mirror=mirror,
        cache=cache or (output.with_suffix(".features.npz") if alone else output / "features.npz"), progress=bar,
    )  # fmt: skip
    heads.save(output)
    head, fitted = heads.head, heads.fitted
    if as_json:
        print(json.dumps({"head": str(output), "threshold": head.threshold, **head.figures}, indent=1))
        return
    per_class = Table("class", "photographs", "average precision")
    for name, score in head.figures["average_precision"].items():
        per_class.add_row(name, str(head.figures["examples"][name]), f"{score:.3f}")
    out.print(per_class)
    out.print(
        f"{len(data.files)} photographs, {len(data.labels)} classes, {folds} folds: "
        f"mean average precision {fitted.mean_average_precision:.3f}; at the threshold {fitted.threshold:.2f} "
        f"F1 {fitted.f1:.3f}, precision {fitted.precision:.3f}, recall {fitted.recall:.3f}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    print(output)


def _classes(name: str | None) -> tuple[str, ...] | None:
    from gradcut.labels import vocabulary

    if name is None or (known := vocabulary(name)):
        return None if name is None else known
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise GradcutError(f"classes: expected coco, voc or a file with a class a line, got {name!r}") from error
    return tuple(line.strip() for line in lines if line.strip())

"""'gradcut fit'."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gradcut.errors import GradcutError
from gradcut.files import writing

if TYPE_CHECKING:
    pass
from gradcut.cli.options import AsJson, Device, Size, app, bar, err, load, out


@app.command()
def fit(
    folder: Annotated[Path, typer.Option("--images", help="Folder of the photographs.", show_default=False)],
    table: Annotated[
        Path, typer.Option("--labels", help="CSV with the columns file and labels (a;b;c).", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            show_default=False,
            help="HEAD.safetensors; or a folder, which gets the head, and each fold's head with folds.csv.",
        ),
    ],
    backbone: Annotated[str, typer.Option(help="Classifier whose last linear layer is replaced.")] = "lite2",
    size: Size = None,
    classes: Annotated[
        str | None,
        typer.Option(help="coco, voc, or a file with a class a line. [default: those of the CSV]", show_default=False),
    ] = None,
    folds: Annotated[int, typer.Option(help="Parts of the cross-validation.")] = 5,
    l2: Annotated[float, typer.Option(help="Strength of the pull towards the prior.")] = 2e-4,
    prior: Annotated[float, typer.Option(help="Factor of the backbone's own rows in the prior; 0 for none.")] = 1.5,
    mirror: Annotated[bool, typer.Option(help="Learn from mirror images too.")] = True,
    places: Annotated[bool, typer.Option(help="Fit weights for places too, which make better masks.")] = True,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(help="File to keep the features in. [default: beside the output]", show_default=False),
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Fit a linear multi-label head on a frozen backbone, from image-level labels alone."""
    import warnings

    import numpy as np

    from gradcut.errors import SaliencyError
    from gradcut.files import replacing
    from gradcut.fit import head as fitting
    from gradcut.fit.places import PlaceFit

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        data = fitting.read_labels(table, folder, _classes(classes))
    for warning in caught:
        err.print(f"gradcut: warning: {warning.message}", markup=False)
    alone = output.suffix == ".safetensors"
    asked = load(backbone, device)
    asked = asked if size is None else asked.at(size)
    options = fitting.LinearFit(l2, prior, folds, seed)
    with writing(output if not alone else output.parent), bar("looking", len(data.files)) as advance:
        cache = cache or (output.with_suffix(".features.npz") if alone else output / "features.npz")
        x = fitting.features(asked, data.files, cache, mirror, advance)
    head, found = fitting.fit(asked, data, options, x)
    parts = [np.ones(len(data.files), bool)] + ([] if alone else [found.folds != fold for fold in range(folds)])
    heads = [head, *(fitting.fit(asked, data.part(kept), options, x[:, kept])[0] for kept in parts[1:])]
    if places:
        with bar("looking at places", PlaceFit.rounds * len(data.files)) as advance:
            try:
                fitted = PlaceFit(seed=seed)(asked, data, heads, parts, advance)
                heads = [replace(one, places=each) for one, each in zip(heads, fitted, strict=True)]
            except SaliencyError as error:
                err.print(f"gradcut: warning: no weights for places: {error}", markup=False)
    with writing(output if not alone else output.parent):
        heads[0].save(output if alone else output / "head.safetensors")
        if not alone:
            for fold, one in enumerate(heads[1:]):
                one.save(output / f"fold-{fold}.safetensors")
            lines = [f"{file.name},{fold}" for file, fold in zip(data.files, found.folds, strict=True)]
            with replacing(output / "folds.csv") as temporary:
                temporary.write_text("\n".join(["file,fold", *lines]) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps({"head": str(output), "threshold": head.threshold, **head.figures}, indent=1))
        return
    per_class = Table("class", "photographs", "average precision")
    for name, score in head.figures["average_precision"].items():
        per_class.add_row(name, str(head.figures["examples"][name]), f"{score:.3f}")
    out.print(per_class)
    out.print(
        f"{len(data.files)} photographs, {len(data.labels)} classes, {folds} folds: "
        f"mean average precision {found.mean_average_precision:.3f}; at the threshold {found.threshold:.2f} "
        f"F1 {found.f1:.3f}, precision {found.precision:.3f}, recall {found.recall:.3f}",
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

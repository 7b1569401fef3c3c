"""'gradcut classify', 'recipes' and 'classifiers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gradcut import catalogue
from gradcut.cli.options import (
    CLASSIFIER,
    AsJson,
    ClassifierName,
    Device,
    Paths,
    Size,
    Threshold,
    TopK,
    ValueRange,
    app,
    known_recipe,
    load,
    out,
)
from gradcut.cli.progress import bar, err, working
from gradcut.errors import GradcutError


@app.command()
def classify(
    paths: Paths,
    classifier: ClassifierName = CLASSIFIER,
    top_k: TopK = None,
    threshold: Threshold = None,
    size: Size = None,
    value_range: ValueRange = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Print what the classifier sees in photographs."""
    from dataclasses import asdict

    from gradcut import files, images

    photographs, errors = files.find(paths)
    results: dict[str, Any] = {}
    table = Table("photograph", "label", "score")
    if any(not isinstance(path, Path) or path.exists() for path, _ in photographs):  # else what is slow is spared
        with working(f"loading {classifier}"):
            from torch import inference_mode

            asked = load(classifier, device)
            asked = asked if size is None else asked.at(size)
    with bar("classifying", len(photographs)) as track:
        for path, _ in track(photographs):
            try:
                photograph = images.read(path, value_range=value_range)
            except GradcutError as error:
                errors.append(str(error))
                continue
            with inference_mode():
                logits = asked.logits(asked.prepare([photograph]))
            detected = asked.decide(logits, threshold, top_k)[0]
            results[str(path)] = [asdict(detection) for detection in detected]
            # Somebody who named no limits is shown what comes next, too.
            shown = asked.decide(logits, 0, 5)[0] if threshold is None and top_k is None else detected
            for number, detection in enumerate(sorted({*detected, *shown}, key=lambda one: -one.score)):
                below = "" if detection in detected else "  not detected"
                table.add_row("" if number else str(path), detection.label, f"{detection.score:.3f}{below}")
            if not shown:
                table.add_row(str(path), "(nothing reaches the threshold)", "")
    if as_json:
        print(json.dumps({"results": results, "errors": errors}, indent=1))
    elif table.row_count:
        out.print(table)
    for reason in [*files.left_out(paths), *errors]:
        err.print(f"gradcut: {reason}")
    raise typer.Exit(1 if errors else 0)


@app.command()
def recipes(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Show the steps of these.", callback=known_recipe, show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes: named choices of saliency, seeds and mask maker."""
    if not names and not as_json:
        table = Table("recipe", "what it does")
        for name, summary in catalogue.RECIPES.items():
            table.add_row(name, summary)
        out.print(table)
        return
    from gradcut.recipes import RECIPES

    chosen = {name: RECIPES[name] for name in names or RECIPES}
    if as_json:
        print(json.dumps({name: {"summary": r.summary, "steps": repr(r)} for name, r in chosen.items()}, indent=1))
        return
    table = Table("recipe", "step", "what does it")
    for name, recipe in chosen.items():
        for step in ("saliency", "seeds", "masks"):
            table.add_row(name if step == "saliency" else "", step, repr(getattr(recipe, step)))
    out.print(table)


@app.command()
def classifiers(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a pattern such as 'resnet*'.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what --classifier takes; with a pattern, timm's models too."""
    if pattern is None:
        found = dict(catalogue.CLASSIFIERS)
    else:
        from gradcut.classifiers.sources import list_classifiers

        found = list_classifiers(pattern)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    if not found:
        raise GradcutError(f"pattern: no classifier is called like {pattern!r}")
    table = Table("classifier", "what it is")
    for name, what in found.items():
        table.add_row(name, what)
    out.print(table)

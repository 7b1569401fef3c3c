"""The command line: a thin shell. Results to files and standard output, messages to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gradcut.errors import GradcutError

if TYPE_CHECKING:
    from gradcut.batch import Outcome
    from gradcut.classifier import Classifier

app = typer.Typer(
    help="Turns any image classifier into a segmenter, with no segmentation training.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True, soft_wrap=True, highlight=False)

Paths = Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.", show_default=False)]
ClassifierName = Annotated[str, typer.Option("--classifier", "-c", help="Which classifier to ask.")]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", help="How masks are made; see 'gradcut recipes'.")]
Threshold = Annotated[
    float | None,
    typer.Option(help="Least probability of a class. [default: the classifier's]", show_default=False),
]
TopK = Annotated[
    int | None,
    typer.Option(help="Most classes in a photograph. [default: the classifier's]", show_default=False),
]
Size = Annotated[
    int | None,
    typer.Option(min=32, help="Photographs are resized to SIZE x SIZE for the classifier.", show_default=False),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps. [default: cpu]", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first LIMIT photographs only.", show_default=False)]


def main() -> None:
    """Entry point: unusable arguments end in one line and exit status 2."""
    try:
        app()
    except GradcutError as error:
        err.print(f"gradcut: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("gradcut: stopped")
        sys.exit(130)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("gradcut-demo"),
    recipe: RecipeName = "default",
) -> None:
    """Segment a photograph of a cat with the embedded classifier, offline."""
    from skimage.data import chelsea

    from gradcut import export
    from gradcut.segmenter import Segmenter
    from gradcut.sources import load_classifier

    record = export.save(Segmenter(load_classifier("embedded"), recipe)(chelsea()), output, "chelsea")
    for found in record["objects"]:
        share = found["area"] / (record["width"] * record["height"])
        out.print(f"{found['label']}  score {found['score']:.2f}  {share:.0%} of the photograph", highlight=False)
    print(output / record["files"]["picture"])


@app.command()
def segment(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    classifier: ClassifierName = "embedded",
    recipe: RecipeName = "default",
    label: Annotated[
        list[str] | None,
        typer.Option(help="Ask for this class whatever its score; may be repeated.", show_default=False),
    ] = None,
    top_k: TopK = None,
    threshold: Threshold = None,
    size: Size = None,
    device: Device = None,
    limit: Limit = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished photographs again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write masks of what the classifier sees in photographs. Finished photographs are skipped."""
    from dataclasses import replace

    from gradcut import images
    from gradcut.batch import segment_all
    from gradcut.segmenter import Segmenter, as_recipe

    asked = _load(classifier, device)
    steps = as_recipe(recipe) if size is None else replace(as_recipe(recipe), size=size)
    segmenter = Segmenter(asked, steps, threshold, top_k)
    for name in label or ():
        asked.index(name)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GradcutError(f"output: {output} cannot be written: {error.strerror or error}") from error
    photographs, failed = images.find(paths)
    for reason in failed:
        err.print(f"gradcut: {reason}", markup=False)
    outcomes = []
    for outcome in _progress(
        segment_all(segmenter, photographs[:limit], output, label, overwrite), len(photographs[:limit])
    ):
        outcomes.append(outcome)
        _tell(outcome, as_json)
    errors = failed + [outcome.error for outcome in outcomes if outcome.error]
    if as_json:
        print(json.dumps({"results": [o.record for o in outcomes if o.record], "errors": errors}, indent=1))
    else:
        _summarise(outcomes, errors, output)
    raise typer.Exit(1 if errors else 0)


@app.command()
def classify(
    paths: Paths,
    classifier: ClassifierName = "embedded",
    top_k: TopK = None,
    threshold: Threshold = None,
    size: Size = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Print what the classifier sees in photographs."""
    from dataclasses import asdict

    from gradcut import images

    asked = _load(classifier, device)
    asked = asked if size is None else asked.at(size)
    photographs, errors = images.find(paths)
    results: dict[str, Any] = {}
    table = Table("photograph", "label", "score")
    for path, _ in photographs:
        try:
            photograph = images.read(path)
        except GradcutError as error:
            errors.append(str(error))
            continue
        found = asked.detect([photograph], threshold, top_k)[0]
        results[str(path)] = [asdict(detection) for detection in found]
        for number, detection in enumerate(found):
            table.add_row("" if number else str(path), detection.label, f"{detection.score:.3f}")
        if not found:
            table.add_row(str(path), "(nothing reaches the threshold)", "")
    if as_json:
        print(json.dumps({"results": results, "errors": errors}, indent=1))
    elif table.row_count:
        out.print(table)
    for reason in errors:
        err.print(f"gradcut: {reason}", markup=False)
    raise typer.Exit(1 if errors else 0)


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """List the recipes: named choices of saliency, seeds and mask maker."""
    from gradcut.segmenter import RECIPES

    if as_json:
        print(json.dumps({name: {"summary": r.summary, "steps": repr(r)} for name, r in RECIPES.items()}, indent=1))
        return
    table = Table("recipe", "what it does", "saliency", "seeds", "masks")
    for name, recipe in RECIPES.items():
        table.add_row(name, recipe.summary, *map(repr, (recipe.saliency, recipe.seeds, recipe.masks)))
    out.print(table)


def _load(name: str, device: str | None) -> Classifier:
    from gradcut.sources import load_classifier

    classifier = load_classifier(name)
    return classifier if device is None else classifier.to(device)


def _progress(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    columns = (TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=total)
        for outcome in outcomes:
            bar.advance(task)
            yield outcome


def _tell(outcome: Outcome, quiet: bool) -> None:
    """One line about one photograph: failures and empty results to standard error, the rest to standard output."""
    if outcome.error or outcome.record is None:
        err.print(f"gradcut: {outcome.error}", markup=False)
    elif not outcome.record["objects"]:
        best = ", ".join(f"{label} {score:.2f}" for label, score in outcome.record["best_scores"].items())
        err.print(f"{outcome.path}: nothing reaches the threshold; the best are {best}", markup=False)
    elif not quiet:
        found = ", ".join(f"{o['label']} {o['score']:.2f}" for o in outcome.record["objects"])
        note = "  (done before)" if outcome.skipped else ""
        out.print(f"{outcome.path}: {found}{note}", markup=False, highlight=False, soft_wrap=True)


def _summarise(outcomes: Sequence[Outcome], errors: Sequence[str], output: Path) -> None:
    done = sum(outcome.record is not None for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    parts = [f"{done} photographs in {output}"]
    if skipped:
        parts.append(f"{skipped} of them done before")
    if errors:
        parts.append(f"{len(errors)} failed")
    err.print("gradcut: " + ", ".join(parts), markup=False)

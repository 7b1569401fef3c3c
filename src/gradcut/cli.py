"""The command line: a thin shell. Results to files and standard output, messages to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    """Segment a photograph of a cat with the coco80 classifier, offline."""
    from skimage.data import chelsea

    from gradcut import export
    from gradcut.segmenter import Segmenter
    from gradcut.sources import load_classifier

    result = Segmenter(load_classifier("coco80"), recipe)(chelsea())
    with writing(output):
        record = export.save(result, output, "chelsea", "skimage.data.chelsea()")
    for found in record["objects"]:
        share = found["area"] / (record["width"] * record["height"])
        out.print(f"{found['label']}  score {found['score']:.2f}  {share:.0%} of the photograph", highlight=False)
    print(output / record["files"]["picture"])


@app.command()
def segment(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    classifier: ClassifierName = "coco80",
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
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
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
    classifier: ClassifierName = "coco80",
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

    from gradcut import fit as fitting
    from gradcut.images import replacing

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        data = fitting.read_labels(table, folder, _classes(classes))
    for warning in caught:
        err.print(f"gradcut: warning: {warning.message}", markup=False)
    alone = output.suffix == ".safetensors"
    asked = _load(backbone, device)
    asked = asked if size is None else asked.at(size)
    options = fitting.LinearFit(l2, prior, folds, seed)
    with writing(output if not alone else output.parent), _bar("looking", len(data.files)) as advance:
        cache = cache or (output.with_suffix(".features.npz") if alone else output / "features.npz")
        x = fitting.features(asked, data.files, cache, mirror, advance)
    head, found = fitting.fit(asked, data, options, x)
    with writing(output if not alone else output.parent):
        head.save(output if alone else output / "head.safetensors")
        if not alone:
            for fold in range(folds):
                kept = found.folds != fold
                fitting.fit(asked, data.part(kept), options, x[:, kept])[0].save(output / f"fold-{fold}.safetensors")
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


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[Iterable[Path]], Iterator[Path]]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def track(items: Iterable[Path]) -> Iterator[Path]:
            for item in items:
                yield item
                bar.advance(task)

        yield track


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


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a folder that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        raise GradcutError(f"output: {folder} cannot be written: {error.strerror or error}") from error

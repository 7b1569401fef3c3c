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

    record = export.save(Segmenter(load_classifier("coco80"), recipe)(chelsea()), output, "chelsea")
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


# evaluate and report -------------------------------------------------------------------------------------------------

#: What each dataset is opened from: the options that it needs, and those that it takes beside them.
_DATASETS = {
    "coco": (("images", "annotations"), ()),
    "voc": (("root",), ("split", "names")),
    "imagenet-s": (("root",), ("split",)),
    "imagenet-seg": (("root",), ()),
    "pets": (("root",), ("split", "names")),
    "folder": (("images",), ("masks", "label", "classes")),
}


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Argument(help="coco, voc, imagenet-s, imagenet-seg, pets or folder.")],
    images: Annotated[Path | None, typer.Option(help="coco, folder: the photographs.", show_default=False)] = None,
    annotations: Annotated[Path | None, typer.Option(help="coco: instances_*.json.", show_default=False)] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="voc, imagenet-s, pets: the dataset's folder. imagenet-seg: gtsegs_ijcv.mat.", show_default=False
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="voc: val; imagenet-s: validation; pets: test.", show_default=False)
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(help="Class names. voc: voc or coco; pets: species or breed.", show_default=False),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="folder: the mask PNGs. [default: beside the photographs]", show_default=False)
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="folder: the name of every pixel that is not 0.", show_default=False)
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="folder: text file, line i names the value i of the masks.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON lines, one a photograph and recipe; resumes.", show_default=False),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier",
            "-c",
            help="Which classifier to ask. [default: coco80; imagenet-*: embedded]",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(
            help="Folder of 'gradcut fit --folds': each photograph is judged by the head that was fitted without it.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", "-r", help="May be repeated. [default: default]", show_default=False)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="truth: ask for the classes that are there; predicted: leave it to the classifier. "
            "[default: truth; imagenet-seg: predicted]",
            show_default=False,
        ),
    ] = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Squash photographs and masks to SIZE x SIZE first. [default: their own size]",
            show_default=False,
        ),
    ] = None,
    only_known: Annotated[
        bool, typer.Option("--only-known", help="Leave classes that the classifier does not know out of the truth.")
    ] = False,
    limit: Limit = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the numbers do not depend on it.")] = 1,
    resamples: Annotated[int, typer.Option(min=0, help="Of the bootstrap behind the intervals.")] = 1000,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare masks with the truth, beside two baselines: the whole photograph, and a centre box."""
    from gradcut import evaluation, summary

    given = {
        "images": images, "annotations": annotations, "root": root, "split": split, "names": names, "masks": masks,
        "label": label, "classes": classes,
    }  # fmt: skip
    where = {"kind": dataset} | {key: str(value) for key, value in given.items() if value is not None}
    samples = _dataset(where)[:limit]
    asked = labels or ("predicted" if samples.labels is None else "truth")
    name = classifier or ("embedded" if dataset.startswith("imagenet") else "coco80")
    source = {
        "classifier": name, "folds": None if folds is None else str(folds), "threshold": threshold, "top_k": top_k,
    }  # fmt: skip
    segmenters = _segmenters(source, recipe or ["default"], device)
    settings = {
        "gradcut": _version(), "dataset": where, "title": samples.title, "source": source, "labels": asked,
        "size": size, "only_known": only_known,
        "recipes": {key: _fingerprint(one) for key, one in segmenters.items()},
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    if output is not None:
        with writing(output):
            rows = evaluation.resume(output, settings, overwrite)
    here = set(samples.names)
    wanted = {*segmenters, *evaluation.BASELINES}
    rows = [row for row in rows if row["photograph"] in here and row["recipe"] in wanted]
    more = evaluation.evaluate(
        samples, segmenters, asked, size=size, only_known=only_known, workers=workers,  # type: ignore[arg-type]
        skip={(row["photograph"], row["recipe"]) for row in rows},
    )  # fmt: skip
    total = len(samples) * len(wanted)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=len(rows))
        for row in more:
            rows.append(row)
            if output is not None:
                with writing(output), output.open("a", encoding="utf-8") as file:
                    file.write(evaluation.line(row))
            bar.advance(task)
    errors = list(dict.fromkeys(row["error"] for row in rows if "error" in row))
    for reason in errors:
        err.print(f"gradcut: {reason}", markup=False)
    figures = summary.summarise(rows, resamples)
    if as_json:
        print(json.dumps({"settings": settings, **figures, "errors": errors}, indent=1))
    else:
        _print_figures(samples.title, asked, figures)
    raise typer.Exit(1 if errors else 0)


def _dataset(where: dict[str, str]) -> Any:
    """Open a dataset from its kind and options, and name those that are missing or out of place."""
    from gradcut import datasets

    kind, options = where["kind"], {key: value for key, value in where.items() if key != "kind"}
    if kind not in _DATASETS:
        raise GradcutError(f"dataset: expected one of {', '.join(_DATASETS)}, got {kind!r}")
    needs, takes = _DATASETS[kind]
    if missing := [f"--{key}" for key in needs if key not in options]:
        raise GradcutError(f"{kind}: needs {' and '.join(missing)}")
    if beside := [f"--{key}" for key in options if key not in (*needs, *takes)]:
        raise GradcutError(f"{kind}: has no use for {' and '.join(beside)}")
    if kind == "coco":
        return datasets.coco(options["images"], options["annotations"])
    if kind == "imagenet-seg":
        return datasets.imagenet_segmentation(options["root"])
    if kind == "folder":
        if "label" in options and "classes" in options:
            raise GradcutError("folder: --label and --classes exclude each other")
        labels: Any = options.get("label")
        if "classes" in options:
            try:
                labels = Path(options["classes"]).read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise GradcutError(f"classes: {options['classes']} cannot be read: {error}") from error
            labels = [line.strip() for line in labels if line.strip()]
        return datasets.folder(options["images"], options.get("masks"), labels)
    opened: dict[str, Any] = {"voc": datasets.voc, "imagenet-s": datasets.imagenet_s, "pets": datasets.pets}
    return opened[kind](**options)


def _segmenters(source: dict[str, Any], names: Sequence[str], device: str | None) -> dict[str, Any]:
    """Recipes by name, each with the classifier, or with one classifier a fold."""
    from gradcut.evaluation import OutOfFold, read_folds
    from gradcut.segmenter import Segmenter

    limits = source["threshold"], source["top_k"]
    if source["folds"] is None:
        asked = _load(source["classifier"], device)
        return {name: Segmenter(asked, name, *limits) for name in names}
    folder = Path(source["folds"])
    folds = read_folds(folder / "folds.csv")
    heads = [_load(str(folder / f"fold-{number}.safetensors"), device) for number in range(max(folds.values()) + 1)]
    return {name: OutOfFold(tuple(Segmenter(head, name, *limits) for head in heads), folds) for name in names}


def _fingerprint(segmenter: Any) -> dict[str, Any]:
    """What a recipe's rows depend on, as JSON values."""
    parts = getattr(segmenter, "segmenters", None) or (segmenter,)
    recipe = parts[0].recipe
    return {
        "summary": recipe.summary, "sha256": recipe.fingerprint, "saliency": repr(recipe.saliency),
        "seeds": repr(recipe.seeds), "masks": repr(recipe.masks),
        "classifiers": [part.classifier.fingerprint for part in parts],
    }  # fmt: skip


def _version() -> str:
    from gradcut import __version__

    return __version__


def _print_figures(title: str, labels: str, figures: dict[str, Any]) -> None:
    """The summary as tables: means, breakdowns, and which recipe is better than which."""
    recipes = figures["recipes"]
    share = figures["bootstrap"]["confidence"]
    out.print(f"{title}, {labels} labels; {share:.0%} intervals over photographs", highlight=False)
    columns = {
        "class IoU": "class_iou", "union IoU": "union_iou", "mIoU": "miou", "precision": "precision",
        "recall": "recall", "pixels right": "pixel_accuracy", "pointing": "pointing", "energy inside": "energy",
        "mAP": "map",
    }  # fmt: skip
    columns = {name: key for name, key in columns.items() if any(one[key]["n"] for one in recipes.values())}
    table = Table("recipe", "photographs", *columns)
    for name, one in recipes.items():
        table.add_row(name, str(one["photographs"]), *(_figure(one[key]) for key in columns.values()))
    out.print(table)
    for name, one in recipes.items():
        if "protocol" in one:
            parts = ", ".join(f"{key} {_figure(value)}" for key, value in one["protocol"].items())
            out.print(f"ImageNet-Segmentation protocol, {name}: {parts}", highlight=False, markup=False)
    for key, heading in (("by_size", "largest object"), ("by_number", "objects")):
        groups = next(iter(recipes.values()))[key]
        for measure, of in (("class_iou", "class IoU"), ("union_iou", "union IoU")):
            table = Table(
                f"{of} by {heading}", *(f"{group} (n = {one[measure]['n']})" for group, one in groups.items())
            )
            for name, one in recipes.items():
                table.add_row(name, *(_figure(one[key][group][measure]) for group in groups))
            out.print(table)
    if figures["differences"]:
        table = Table("paired differences", "photographs", "class IoU", "union IoU", "mIoU")
        for entry in figures["differences"]:
            shown = (_figure(entry[key], sign="+") for key in ("class_iou", "union_iou", "miou"))
            table.add_row(" - ".join(entry["recipes"]), str(entry["photographs"]), *shown)
        out.print(table)


def _figure(figure: dict[str, Any], sign: str = "") -> str:
    if figure["value"] is None:
        return ""
    low, high = figure["interval"] or (None, None)
    return f"{figure['value']:{sign}.3f}" + ("" if low is None else f"\n{low:{sign}.3f} to {high:{sign}.3f}")


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
def writing(path: Path) -> Iterator[None]:
    """Turns a place that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        raise GradcutError(f"output: {path} cannot be written: {error.strerror or error}") from error

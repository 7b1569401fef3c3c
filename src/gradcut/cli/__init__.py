"""The command line: a thin shell. Results to files and standard output, messages to standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gradcut.errors import GradcutError

if TYPE_CHECKING:
    from gradcut.classifiers.classifier import Classifier

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

    from gradcut import results
    from gradcut.classifiers.sources import load_classifier
    from gradcut.segmenter import Segmenter

    record = results.save(Segmenter(load_classifier("coco80"), recipe)(chelsea()), output, "chelsea")
    for found in record["objects"]:
        share = found["area"] / (record["width"] * record["height"])
        out.print(f"{found['label']}  score {found['score']:.2f}  {share:.0%} of the photograph", highlight=False)
    print(output / record["files"]["picture"])


@app.command()
def segment(
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="Folder or address (s3://, gs://) for the results.", show_default=False),
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photographs, folders of them, patterns ('*.jpg'), addresses; - reads a list from standard input.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[
        list[Path] | None,
        typer.Option("--list", help="Text file with a path a line; may be repeated.", show_default=False),
    ] = None,
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
    void: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH", show_default=False,
            help="Class maps are void where more than LOW and less than HIGH of the masks from changed seeds agree.",
        ),
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Write a picture of each photograph for a person.")] = True,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", show_default=False,
            help="Export the finished run to OUTPUT/exports/FORMAT; may be repeated; see 'gradcut export'.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, show_default=False, help="Photographs at work at once; ray: actors. [default: cores; 2]"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Photographs the network sees at once. [default: 1; not cpu: 16]", show_default=False),
    ] = None,
    engine: Annotated[str, typer.Option(help="local: threads here; ray: actors on a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="ray: of the cluster. [default: one on this machine]", show_default=False)
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="ray: GPUs an actor, a share of one allowed.")] = 0,
    limit: Limit = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished photographs again.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write masks of what the classifier sees in photographs. Run it again to finish what was interrupted."""
    from contextlib import closing

    from gradcut import formats as exports
    from gradcut import images
    from gradcut.recipes import as_recipe
    from gradcut.runs.job import Job, Task, segment_all
    from gradcut.runs.run import Place
    from gradcut.segmenter import Segmenter

    for name in formats or ():
        exports.check(name)
    asked = _load(classifier, device)
    steps = as_recipe(recipe) if size is None else replace(as_recipe(recipe), size=size)
    for name in label or ():
        asked.find(name)
    job = Job(
        Segmenter(asked, steps, threshold, top_k), Place(output), None if label is None else tuple(label), void,
        pictures, batch or (1 if asked.device.type == "cpu" and not gpus else 16),
    )  # fmt: skip
    runner, workers = _engine(engine, address, gpus, workers)
    photographs, failures = images.find(_given(paths or [], listed or []))
    tasks = [Task(str(path), name) for path, name in photographs[:limit]]
    for reason in failures:
        err.print(f"gradcut: {reason}", markup=False)
    tally = _Tally(len(tasks))
    try:
        with closing(segment_all(job, tasks, workers, overwrite, runner)) as lines:
            for line, skipped in tally.watch(lines):
                if line["state"] == "failed":
                    failures.append(line["error"])
                _tell(line, skipped, as_json)
    except KeyboardInterrupt:
        err.print(f"gradcut: stopped; {tally.summary(output)}; the same command does the rest", markup=False)
        raise typer.Exit(130) from None
    for name in formats or ():
        exports.write(output, f"{output}/exports/{name}", name)
    if as_json:
        _print_records(job.place, tasks, failures)
    else:
        err.print(f"gradcut: {tally.summary(output)}", markup=False)
    raise typer.Exit(1 if failures else 0)


def _given(paths: list[str], listed: list[Path]) -> list[str]:
    """The photographs of the command line: arguments, lists, and standard input."""
    given: list[str] = []
    for path in paths:
        given += [line.rstrip("\r\n") for line in sys.stdin] if path == "-" else [path]
    for each in listed:
        try:
            given += each.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError as error:
            raise GradcutError(f"list: {each} cannot be read: {error.strerror or error}") from error
    given = [path for path in given if path.strip()]
    if not given:
        raise GradcutError("paths: expected photographs, folders or patterns, got none")
    return given


def _engine(name: str, address: str | None, gpus: float, workers: int | None) -> tuple[Any, int]:
    """Who does the job, and with how many workers."""
    import os

    if name == "ray":
        from gradcut.runs.cluster import OnRay

        return OnRay(address, gpus), workers or 2
    if name != "local":
        raise GradcutError(f"engine: expected local or ray, got {name!r}")
    if address is not None or gpus:
        raise GradcutError("address, gpus: they are for --engine ray")
    return None, workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [1])


def _print_records(place: Any, tasks: Sequence[Any], errors: Sequence[str]) -> None:
    """One JSON document, a record at a time: a long run's records do not fit into memory."""
    print('{"results": [', end="")
    separator = ""
    for task in tasks:
        record = place.read(f"results/{task.name}.json")
        if record is not None:
            print(separator + record.decode().rstrip(), end="")
            separator = ",\n"
    print(f'], "errors": {json.dumps(list(errors))}}}')


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Folder that 'gradcut segment' wrote.", show_default=False)],
    formats: Annotated[
        list[str],
        typer.Option(
            "--format", "-f", show_default=False,
            help="coco, coco-results, yolo, voc, label-studio, cvat or fiftyone; may be repeated.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[default: RUN/exports/FORMAT]", show_default=False)
    ] = None,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="coco, label-studio: outlines instead of run lengths.")
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="Outlines may leave the mask's edge by so many pixels; 0 keeps the mask exactly."),
    ] = 0,
    minimum: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Leave objects below this confidence out.")
    ] = 0,
) -> None:  # fmt: skip
    """Write a finished run in the formats of annotation and training tools."""
    from gradcut import formats as exports

    for name in formats:
        exports.check(name)
    for name in formats:
        folder = output if output is not None and len(formats) == 1 else Path(output or f"{run}/exports") / name
        print(exports.write(run, folder, name, polygons=polygons, tolerance=tolerance, minimum=minimum))


@app.command()
def review(
    run: Annotated[str, typer.Argument(help="Folder that 'gradcut segment' wrote.", show_default=False)],
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """List a run's photographs, the least certain first."""
    from gradcut.runs.run import review as ranked

    lines = list(ranked(run))[:limit]
    if as_json:
        print(json.dumps(lines, indent=1, ensure_ascii=False))
        return
    for line in lines:
        found = ", ".join(f"{o['label']} {o['confidence']:.2f}" for o in line["objects"]) or "nothing found"
        sure = "    " if line["confidence"] is None else f"{line['confidence']:.2f}"
        print(f"{sure}  {line['photograph']}: {found}")


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
    from gradcut.recipes import RECIPES

    if as_json:
        print(json.dumps({name: {"summary": r.summary, "steps": repr(r)} for name, r in RECIPES.items()}, indent=1))
        return
    table = Table("recipe", "what it does", "saliency", "seeds", "masks")
    for name, recipe in RECIPES.items():
        table.add_row(name, recipe.summary, *map(repr, (recipe.saliency, recipe.seeds, recipe.masks)))
    out.print(table)


@app.command()
def classifiers(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name, or a pattern such as 'resnet*'.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what --classifier takes; with a pattern, timm's models too."""
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
    from gradcut.fit import head as fitting
    from gradcut.fit.places import PlaceFit
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
    parts = [np.ones(len(data.files), bool)] + ([] if alone else [found.folds != fold for fold in range(folds)])
    heads = [head, *(fitting.fit(asked, data.part(kept), options, x[:, kept])[0] for kept in parts[1:])]
    if places:
        with _bar("looking at places", len(data.files)) as advance:
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
    from gradcut import evaluation
    from gradcut.evaluation import summary

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
        with _writing(output):
            rows = evaluation.resume(output, settings, overwrite)
    here = set(samples.names)
    wanted = {*segmenters, *evaluation.BASELINES}
    rows = [row for row in rows if row["photograph"] in here and row["recipe"] in wanted]
    more = evaluation.evaluate(
        samples, segmenters, asked, size=size, only_known=only_known, workers=workers,
        skip={(row["photograph"], row["recipe"]) for row in rows},
    )  # fmt: skip
    total = len(samples) * len(wanted)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=len(rows))
        for row in more:
            rows.append(row)
            if output is not None:
                with _writing(output), output.open("a", encoding="utf-8") as file:
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


@app.command()
def report(
    scores: Annotated[Path, typer.Argument(help="As 'gradcut evaluate -o' wrote them.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="Chooses the gallery. [default: the best class IoU]", show_default=False),
    ] = None,
    gallery: Annotated[
        int, typer.Option(min=0, help="How many of the best, the median and the worst; 0 needs no photographs.")
    ] = 8,
    resamples: Annotated[int, typer.Option(min=0, help="Of the bootstrap behind the intervals.")] = 1000,
    device: Device = None,
) -> None:
    """One HTML page of scores: tables, breakdowns, and a gallery for which the chosen photographs are run again."""
    from gradcut import evaluation, images
    from gradcut.evaluation import report as page
    from gradcut.evaluation import summary

    rows = evaluation.read_rows(scores)
    settings = evaluation.read_settings(scores)
    figures = summary.summarise(rows, resamples)
    entries: list[Any] = []
    ours = [name for name in settings["recipes"] if name in figures["recipes"]]
    by = recipe or max(ours, key=lambda name: figures["recipes"][name]["class_iou"]["value"] or 0, default=None)
    if gallery and by:
        choices = page.choose(rows, by, gallery)
        dataset = _dataset(settings["dataset"])
        segmenters = _segmenters(settings["source"], ours, device)
        for name, one in segmenters.items():
            if _fingerprint(one) != settings["recipes"][name]:
                raise GradcutError(f"{name}: recipe or classifier have changed since {scores}; evaluate again")
        columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
            drawn = page.draw(
                choices, dataset, segmenters, settings["labels"], settings["size"], settings["only_known"]
            )
            entries.extend(bar.track(drawn, total=len(choices)))
    text = page.page(rows, figures, settings, entries, by)
    with _writing(output), images.replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(output)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Turns a file that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        raise GradcutError(f"output: {output} cannot be written: {error.strerror or error}") from error


# serve ---------------------------------------------------------------------------------------------------------------


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 7860,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            "--classifier", "-c", help="For the page's menu; may be repeated. [default: embedded]", show_default=False
        ),
    ] = None,
    recipe: RecipeName = "default",
    device: Device = None,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Of one upload.")] = 20,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Of one photograph.")] = 50,
) -> None:
    """Serve the web page: see masks, correct them with strokes, download them. Needs gradcut[web]."""
    try:
        from gradcut.web import server as web
        from gradcut.web import state as webstate
    except ModuleNotFoundError as error:
        raise GradcutError(f"serve: {error.name} is missing; pip install 'gradcut[web]'") from None
    from gradcut.recipes import as_recipe

    asked = {name: _load(name, device) for name in classifier or ["embedded"]}
    here = host in ("127.0.0.1", "localhost", "::1")
    limits = webstate.Limits(megabytes=max_megabytes, megapixels=max_megapixels)
    page = web.create_app(asked, as_recipe(recipe).name, limits, web.LOOPBACK if here else None)
    server = web.Server(page, host, port)
    if not here:
        err.print("gradcut: everyone who reaches this address can use the page; it asks for no password")
    print(server.url, flush=True)
    server.run()


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
    from gradcut.evaluation.evaluate import OutOfFold, read_folds
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
    """The summary as tables that fit a terminal of 80 columns; what is left out of them is in --json."""
    recipes = figures["recipes"]
    share = figures["bootstrap"]["confidence"]
    out.print(f"{title}, {labels} labels; {share:.0%} intervals over photographs", highlight=False)
    first = {"class IoU": "class_iou", "union IoU": "union_iou", "mIoU": "miou"}
    table = Table("recipe", "photographs", *first)
    for name, one in recipes.items():
        table.add_row(name, str(one["photographs"]), *(_figure(one[key]) for key in first.values()))
    out.print(table)
    second = {
        "precision": "precision", "recall": "recall", "pixels right": "pixel_accuracy", "pointing": "pointing",
        "energy inside": "energy", "mAP": "map",
    }  # fmt: skip
    second = {title: key for title, key in second.items() if any(one[key]["n"] for one in recipes.values())}
    table = Table("recipe", *second)
    for name, one in recipes.items():
        table.add_row(name, *(_figure({**one[key], "interval": None}) for key in second.values()))
    out.print(table)
    if any("protocol" in one for one in recipes.values()):
        table = Table("ImageNet-Segmentation protocol", "pixels right", "mIoU", "mAP")
        for name, one in recipes.items():
            if "protocol" in one:
                table.add_row(name, *(_figure(one["protocol"][key]) for key in ("pixel_accuracy", "miou", "map")))
        out.print(table)
    for key, heading in (("by_size", "largest object"), ("by_number", "number of objects")):
        groups = next(iter(recipes.values()))[key]
        for measure, of in (("class_iou", "class IoU"), ("union_iou", "union IoU")):
            heads = (f"{group}\nn = {one[measure]['n']}" for group, one in groups.items())
            table = Table(f"{of} by\n{heading}", *heads)
            for name, one in recipes.items():
                table.add_row(name, *(_figure(one[key][group][measure]) for group in groups))
            out.print(table)
    if figures["differences"]:
        table = Table("paired difference", *first)
        for entry in figures["differences"]:
            shown = (_figure(entry[key], sign="+") for key in first.values())
            table.add_row(" - ".join(entry["recipes"]), *shown)
        out.print(table)


def _figure(figure: dict[str, Any], sign: str = "") -> str:
    if figure["value"] is None:
        return ""
    value, interval = f"{figure['value']:{sign}.3f}", figure["interval"]
    return value if interval is None else f"{value}\n{interval[0]:{sign}.3f}..{interval[1]:{sign}.3f}"


def _load(name: str, device: str | None) -> Classifier:
    from gradcut.classifiers.sources import load_classifier

    classifier = load_classifier(name)
    return classifier if device is None else classifier.to(device)


class _Tally:
    """Counts a run's photographs, shows how far it is, and says in one line how it went."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.before, self.failed, self.empty = total, 0, 0, 0, 0
        self.began = time.perf_counter()

    def watch(self, lines: Iterator[tuple[dict[str, Any], bool]]) -> Iterator[tuple[dict[str, Any], bool]]:
        columns = (
            TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
            task = bar.add_task("", total=self.total, rate="")
            for line, skipped in lines:
                self.failed += line["state"] == "failed"
                self.empty += line["state"] == "empty"
                self.done += line["state"] != "failed"
                self.before += skipped
                bar.update(task, advance=1, rate=f"{self.rate:.1f}/s")
                yield line, skipped

    @property
    def rate(self) -> float:
        return (self.done + self.failed - self.before) / max(time.perf_counter() - self.began, 1e-9)

    def summary(self, output: str) -> str:
        parts = [f"{self.done} photograph{'' if self.done == 1 else 's'} in {output}"]
        if self.before:
            parts.append(f"{self.before} of them done before")
        if self.empty:
            parts.append(f"{self.empty} without an object")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.done + self.failed > self.before:
            parts.append(f"{self.rate:.1f} a second")
        return ", ".join(parts)


def _tell(line: dict[str, Any], skipped: bool, quiet: bool) -> None:
    """One line about one photograph: failures and empty results to standard error, the rest to standard output."""
    if line["state"] == "failed":
        err.print(f"gradcut: {line['error']}", markup=False)
    elif line["state"] == "empty":
        best = ", ".join(f"{label} {score:.2f}" for label, score in line["best_scores"].items())
        err.print(f"{line['photograph']}: nothing reaches the threshold; the best are {best}", markup=False)
    elif not quiet:
        found = ", ".join(f"{o['label']} {o['score']:.2f}" for o in line["objects"])
        note = "  (done before)" if skipped else ""
        out.print(f"{line['photograph']}: {found}{note}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a place that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        raise GradcutError(f"output: {path} cannot be written: {error.strerror or error}") from error

"""'gradcut demo', 'segment', 'export' and 'review'."""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from gradcut import files
from gradcut.cli.help import ASKED, PHOTOGRAPHS, RUNNING, WRITTEN
from gradcut.cli.options import (
    CLASSIFIER,
    AsJson,
    ClassifierName,
    Device,
    Limit,
    MinConfidence,
    RecipeName,
    SaliencyName,
    Size,
    Threshold,
    TopK,
    ValueRange,
    app,
    bar,
    engine_names,
    err,
    format_names,
    load,
    out,
)
from gradcut.errors import GradcutError


@app.command(
    examples="""
    gradcut demo                                # into gradcut-demo/
    gradcut demo -r simonyan -o out/            # by another recipe
    """
)
def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", rich_help_panel=WRITTEN, help="Folder for the results."),
    ] = Path("gradcut-demo"),
    recipe: RecipeName = "default",
) -> None:
    """Segment a photograph that comes with gradcut, offline."""
    from skimage.data import chelsea

    from gradcut import results
    from gradcut.classifiers.sources import load_classifier
    from gradcut.segmenter import Segmenter

    record = results.save(Segmenter(load_classifier(CLASSIFIER), recipe)(chelsea()), output, "chelsea")
    for found in record["objects"]:
        share = found["area"] / (record["width"] * record["height"])
        part = "blank: no mask" if found["state"] == "blank" else f"{share:.0%} of the photograph"
        out.print(f"{found['label']}  score {found['score']:.2f}  {part}", highlight=False)
    print(output / record["files"]["picture"])


@app.command(
    examples="""
    gradcut segment cat.jpg holidays/ -o out/   # files and folders
    gradcut segment 'in/**/*.png' --label dog   # one class, whatever its score
    gradcut segment in/ -r fast -f coco         # quicker; COCO's format, too
    gradcut segment in/ --device cuda --json    # on a GPU, for a program
    """
)
def segment(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PHOTOGRAPH", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="Photographs, folders of them, patterns ('*.jpg') or addresses; - reads a list from standard input.",
        ),
    ] = None,
    listed: Annotated[
        list[Path] | None,
        typer.Option(
            "--list", metavar="FILE", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="Read paths from a text file, one a line; may be repeated.",
        ),
    ] = None,
    size: Size = None,
    value_range: ValueRange = None,
    limit: Limit = None,
    classifier: ClassifierName = CLASSIFIER,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", rich_help_panel=ASKED, show_default=False,
            help="Ask for this class whatever its score; may be repeated.",
        ),
    ] = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    min_confidence: MinConfidence = None,
    recipe: RecipeName = "default",
    saliency: SaliencyName = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="DIR", rich_help_panel=WRITTEN, show_default="runs/CLASSIFIER-RECIPE",
            help="Folder or address (s3://, gs://) for the results.",
        ),
    ] = None,
    void: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH", rich_help_panel=WRITTEN, show_default=False,
            help="Mark pixels of class maps as void where more than LOW and less than HIGH of the masks from changed "
            "seeds agree.",
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option(rich_help_panel=WRITTEN, help="Write a picture of each photograph for a person.")
    ] = True,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", **format_names, metavar="NAME", rich_help_panel=WRITTEN, show_default=False,
            help="Export the finished run to OUTPUT/exports/NAME; may be repeated; 'gradcut export --help' has the "
            "names.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=WRITTEN, help="Do finished photographs again.")
    ] = False,
    as_json: AsJson = False,
    device: Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=RUNNING, show_default="one a core; with ray 2",
            help="Work on so many photographs at once; with --engine ray, the number of actors.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=RUNNING, show_default="1 on a CPU, else 16",
            help="Show the network so many photographs at once.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME", rich_help_panel=RUNNING, **engine_names,
            help="local: threads of this process; ray: actors on a Ray cluster.",
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", rich_help_panel=RUNNING, show_default="one on this machine",
            help="With --engine ray: the cluster's address.",
        ),
    ] = None,
    gpus: Annotated[
        float,
        typer.Option(
            min=0, metavar="N", rich_help_panel=RUNNING,
            help="With --engine ray: GPUs for each actor; a share of one is allowed.",
        ),
    ] = 0,
) -> None:  # fmt: skip
    """Write masks of what the classifier sees in photographs.

    Run it again to finish what was interrupted.
    """
    from contextlib import closing

    output = output or f"runs/{re.sub(r'[^A-Za-z0-9._]+', '-', classifier)}-{recipe}"
    photographs = _given(paths or [], listed or [])
    found, failures = files.find(photographs)
    gone = all(isinstance(path, Path) and not path.exists() for path, _ in found)
    if gone and files.Folder(output).read("run.json") is None:  # nothing to do or to tell of: what is slow is spared
        failures += [f"{path}: no such file" for path, _ in found]
        for sentence in [*failures, *files.left_out(photographs)]:
            err.print(f"gradcut: {sentence}")
        if as_json:
            print(json.dumps({"results": [], "errors": failures}))
        raise typer.Exit(1)

    from gradcut.recipes import as_recipe, with_saliency
    from gradcut.runs.job import Job, Task
    from gradcut.runs.segment import default_batch, segment_all
    from gradcut.segmenter import Segmenter

    steps = as_recipe(recipe) if saliency is None else with_saliency(recipe, saliency)
    steps = steps if size is None else replace(steps, size=size)
    segmenter = Segmenter(load(classifier, device), steps, threshold, top_k, min_confidence)
    batch = batch or (16 if gpus else default_batch(segmenter))
    job = Job(
        segmenter, files.Folder(output), None if label is None else tuple(label), void, pictures, batch, value_range
    )
    runner = _engine(engine, address, gpus)
    tasks = [Task(str(path), name) for path, name in found[:limit]]
    for sentence in [*failures, *files.left_out(photographs)]:
        err.print(f"gradcut: {sentence}")
    tally = _Tally(len(tasks))
    try:
        with closing(segment_all(job, tasks, workers, overwrite, runner)) as lines:
            for line, skipped in tally.watch(lines):
                if line["state"] == "failed":
                    failures.append(line["error"])
                _tell(line, skipped, as_json)
    except KeyboardInterrupt:
        err.print(f"gradcut: stopped; {tally.summary(output)}; the same command does the rest")
        raise typer.Exit(130) from None
    for name in formats or ():
        _written(output, f"{output}/exports/{name}", name)
    if as_json:
        _print_records(job.folder, tasks, failures)
    else:
        err.print(f"gradcut: {tally.summary(output)}")
        if tally.done:
            shown = f"pictures for a person are in {output}/pictures; " if pictures else ""
            err.print(f"gradcut: {shown}'gradcut review {output}' lists the least certain first")
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


def _engine(name: str, address: str | None, gpus: float) -> Any:
    """Who does the job; None for this process."""
    if name == "ray":
        from gradcut.runs.cluster import OnRay

        return OnRay(address, gpus)
    if address is not None or gpus:
        raise GradcutError("address, gpus: they are for --engine ray")
    return None


def _print_records(folder: Any, tasks: Sequence[Any], errors: Sequence[str]) -> None:
    """One JSON document, a record at a time: a long run's records do not fit into memory."""
    print('{"results": [', end="")
    separator = ""
    for task in tasks:
        record = folder.read(f"results/{task.name}.json")
        if record is not None:
            print(separator + record.decode().rstrip(), end="")
            separator = ",\n"
    print(f'], "errors": {json.dumps(list(errors))}}}')


@app.command(
    examples="""
    gradcut export runs/coco80-default -f coco            # instances.json
    gradcut export out/ -f yolo -f voc -o exports/        # two formats
    gradcut export out/ -f coco --min-confidence 0.3      # the surer objects
    """
)
def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", show_default=False, help="The folder that 'gradcut segment' wrote.")
    ],
    formats: Annotated[
        list[str],
        typer.Option(
            "--format", "-f", **format_names, metavar="NAME", show_default=False,
            help="coco, coco-results, yolo, voc, label-studio, cvat or fiftyone; may be repeated.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", show_default="RUN/exports/NAME", help="Folder for the export.",
        ),
    ] = None,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Write outlines instead of run lengths: coco and label-studio.")
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, metavar="PIXELS",
            help="Let outlines leave the mask's edge by so many pixels; 0 keeps the mask exactly.",
        ),
    ] = 0,
    minimum: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, metavar="0..1", help="Leave objects below this confidence out."),
    ] = 0,
) -> None:  # fmt: skip
    """Write a finished run for annotation and training tools."""
    for name in formats:
        folder = output if output is not None and len(formats) == 1 else Path(output or f"{run}/exports") / name
        print(_written(run, folder, name, polygons=polygons, tolerance=tolerance, minimum=minimum))


def _written(run: str, folder: str | Path, name: str, **options: Any) -> Path:
    """Export a run; what the library warns of is a line."""
    from gradcut import formats as exports

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        path = exports.write(run, folder, name, **options)
    for warning in said:
        err.print(f"gradcut: {warning.message}")
    return path


@app.command(
    examples="""
    gradcut review runs/coco80-default          # what to look at first
    gradcut review out/ --label dog --limit 20  # dogs only, 20 photographs
    """
)
def review(
    run: Annotated[
        str, typer.Argument(metavar="RUN", show_default=False, help="The folder that 'gradcut segment' wrote.")
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", rich_help_panel=PHOTOGRAPHS, show_default=False,
            help="List photographs with this class only; may be repeated.",
        ),
    ] = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List a finished run's photographs, the least certain first.

    In front stands how sure a photograph's least sure object is: the IoU to expect of its mask, or the score where
    the recipe has none.
    """
    from gradcut.runs.run import review as ranked

    every = ranked(run)
    if label:
        every = [line for line in every if {item["label"] for item in line["objects"]} & set(label)]
    lines = every[:limit]
    if as_json:
        print(json.dumps(lines, indent=1, ensure_ascii=False))
        return
    for line in lines:
        found = ", ".join(f"{o['label']}{_sure(o, ' ')}{_blank(o)}" for o in line["objects"]) or "nothing found"
        sure = "   -" if line["certainty"] is None else f"{line['certainty']:.2f}"
        picture = line["files"].get("picture")
        print(f"{sure}  {line['photograph']}: {found}{f'  {run}/{picture}' if picture else ''}")
    without = sum(not line["objects"] for line in every)
    err.print(
        f"gradcut: {len(lines)} of {len(every)} photographs, {without} without an object; "
        f"'gradcut export {run} -f coco' takes them to an annotation tool"
    )


def _sure(entry: dict[str, Any], before: str = "") -> str:
    """The confidence in two digits, if there is one."""
    return "" if entry["confidence"] is None else f"{before}{entry['confidence']:.2f}"


class _Tally:
    """Counts a run's photographs, shows how far it is, and says in one line how it went."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.before, self.failed, self.empty, self.blank = total, 0, 0, 0, 0, 0
        self.began = time.perf_counter()

    def watch(self, lines: Iterator[tuple[dict[str, Any], bool]]) -> Iterator[tuple[dict[str, Any], bool]]:
        with bar("segmenting", self.total, note=lambda: f"{self.rate:.1f}/s") as track:
            for line, skipped in track(lines):
                self.failed += line["state"] == "failed"
                self.empty += line["state"] == "empty"
                self.blank += line["state"] == "blank"
                self.done += line["state"] != "failed"
                self.before += skipped
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
        if self.blank:
            parts.append(f"{self.blank} without a mask, their saliency being blank")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.done + self.failed > self.before:
            parts.append(f"{self.rate:.1f} a second")
        return ", ".join(parts)


def _tell(line: dict[str, Any], skipped: bool, quiet: bool) -> None:
    """One line about one photograph: failures and empty results to standard error, the rest to standard output."""
    if line["state"] == "failed":
        err.print(f"gradcut: {line['error']}")
    elif line["state"] == "empty" and "dropped" in line:
        err.print(f"{line['photograph']}: nothing is sure enough{_dropped(line)}")
    elif line["state"] == "empty":
        best = ", ".join(f"{label} {score:.2f}" for label, score in line["best_scores"].items())
        err.print(f"{line['photograph']}: nothing reaches the threshold; the best are {best}")
    elif not quiet:
        found = ", ".join(f"{o['label']} {o['score']:.2f}{_blank(o)}" for o in line["objects"])
        note = "  (done before)" if skipped else ""
        out.print(f"{line['photograph']}: {found}{_dropped(line)}{note}", highlight=False, soft_wrap=True)
    if "advice" in line:
        err.print(f"{line['photograph']}: {line['advice']}")


def _dropped(line: dict[str, Any]) -> str:
    """What --min-confidence has left out."""
    below = ", ".join(f"{o['label']} {o['score']:.2f} (confidence {_sure(o)})" for o in line.get("dropped", ()))
    return f"; {len(line['dropped'])} below --min-confidence: {below}" if below else ""


def _blank(entry: dict[str, Any]) -> str:
    """The word for an object without a mask."""
    return " (blank)" if entry["state"] == "blank" else ""

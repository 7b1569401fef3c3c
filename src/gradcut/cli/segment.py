"""'gradcut segment'."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from gradcut import files
from gradcut.catalogue import CLASSIFIERS, RECIPES
from gradcut.cli.exports import opened, written
from gradcut.cli.help import PHOTOGRAPHS, RUNNING, WRITTEN
from gradcut.cli.memory import keep_freed_memory
from gradcut.cli.options import (
    CLASSIFIER,
    AsJson,
    AskedFor,
    BackgroundWords,
    ClassifierName,
    Device,
    Disjoint,
    Half,
    LabelsFile,
    Limit,
    MinConfidence,
    RecipeName,
    RecipeSize,
    SaliencyName,
    Templates,
    Threshold,
    TopK,
    ValueRange,
    app,
    check_gives_confidence,
    check_labels,
    check_output,
    engine_names,
    format_names,
    load,
    read_labels,
    unslashed,
)
from gradcut.cli.progress import err, working
from gradcut.cli.telling import Tally, tell, tell_letters
from gradcut.errors import GradcutError


@app.command(
    examples="""
    gradcut segment cat.jpg holidays/ -o out/   # files and folders
    gradcut segment 'in/**/*.png' --label dog   # one class, whatever its score
    gradcut segment in/ -r fast -f coco --device cuda  # quicker; for COCO, too
    gradcut segment in/ -c hf/openai/clip-vit-base-patch16 --label forklift
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
    size: RecipeSize = None,
    value_range: ValueRange = None,
    limit: Limit = None,
    classifier: ClassifierName = CLASSIFIER,
    label: AskedFor = None,
    labels: LabelsFile = None,
    template: Templates = None,
    background: BackgroundWords = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    min_confidence: MinConfidence = None,
    recipe: RecipeName = "default",
    saliency: SaliencyName = None,
    disjoint: Disjoint = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", callback=unslashed, metavar="DIR", rich_help_panel=WRITTEN,
            show_default="runs/CLASSIFIER-RECIPE", help="Folder or address (s3://, gs://) for the results.",
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
    cutouts: Annotated[
        bool,
        typer.Option(
            "--cutouts", rich_help_panel=WRITTEN, help="Write every object cut out, on a transparent ground.",
        ),
    ] = False,
    maps: Annotated[
        bool,
        typer.Option(
            "--maps", rich_help_panel=WRITTEN,
            help="Write the saliency of every object: 16-bit grey, from 0 to its maximum.",
        ),
    ] = False,
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
    corrections: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", rich_help_panel=WRITTEN, show_default="refuse where there are any",
            help="With --overwrite: keep leaves a person's corrections in force over the new results, skip does only "
            "the photographs again that nobody has decided on, remove removes corrections.",
        ),
    ] = None,
    as_json: AsJson = False,
    device: Device = None,
    bfloat16: Half = False,
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
    output = output or f"runs/{re.sub(r'[^A-Za-z0-9._]+', '-', classifier)}-{recipe}"
    check_output(output)
    check_labels(classifier, label or ())
    words = read_labels(labels)
    if min_confidence is not None:
        check_gives_confidence([recipe], saliency, size)
    photographs = _given(paths or [], listed or [])
    found, failures = files.find(photographs)
    gone = all(files.is_missing(path) for path, _ in found)
    folder = files.Folder(output)
    before = folder.read("run.json")
    if gone and before is None:  # nothing to do or to tell of: what is slow is spared
        failures += [f"{path}: no such file" for path, _ in found]
        for sentence in [*failures, *files.left_out(photographs)]:
            err.print(f"gradcut: {sentence}")
        if as_json:
            print(json.dumps({"results": [], "errors": failures}))
        raise typer.Exit(1)

    kept = None
    if overwrite or corrections is not None:
        from gradcut.runs.corrections import check_kept

        kept = check_kept(output, overwrite, corrections)
    if before is not None and not overwrite:
        _check_settings(
            folder, before, classifier, recipe if saliency is None else None,
            labels=label or None, void=void and list(void), range=value_range and list(value_range), pictures=pictures,
            cutouts=cutouts, maps=maps or None, disjoint=disjoint or None, min_confidence=min_confidence,
            **({} if threshold is None else {"threshold": threshold}),
            **({} if top_k is None else {"top_k": top_k}),
        )  # fmt: skip
    keep_freed_memory()
    with working(f"loading {classifier}"):
        from gradcut.recipes import as_recipe, with_saliency
        from gradcut.runs.job import Job, Task
        from gradcut.runs.segment import default_batch, segment_all
        from gradcut.segmenter import Segmenter

        steps = as_recipe(recipe) if saliency is None else with_saliency(recipe, saliency)
        steps = steps if size is None else replace(steps, size=size)
        loaded = load(classifier, device, label, words, template, background, bfloat16)
        segmenter = Segmenter(loaded, steps, threshold, top_k, min_confidence, disjoint)
    batch = batch or (16 if gpus else default_batch(segmenter))
    job = Job(
        segmenter,
        folder,
        None if label is None else tuple(label),
        void,
        pictures,
        batch,
        value_range,
        cutouts,
        maps,
    )
    runner = _engine(engine, address, gpus)
    tasks = [Task(str(path), name) for path, name in found[:limit]]
    for sentence in failures:
        err.print(f"gradcut: {sentence}")
    tally = Tally(len(tasks))
    drawn: set[str] = set()
    try:
        with closing(segment_all(job, tasks, workers, overwrite, runner, kept)) as lines:
            for line, skipped in tally.watch(lines):
                if line["state"] == "failed":
                    failures.append(line["error"])
                elif pictures:
                    drawn.update(item["label"] for item in line["objects"])
                tell(line, skipped, as_json)
    except KeyboardInterrupt:
        err.print(f"gradcut: stopped; {tally.summary(output)}; the same command does the rest")
        raise typer.Exit(130) from None
    if formats:
        pile = opened(output)
        failures += pile.problems
        for name in formats:
            export = written(pile, f"{output}/exports/{name}", name)
            if not as_json:
                print(export)
        if (held := len(pile.flat)) > tally.done:
            err.print(
                f"gradcut: an export holds all {held} photographs of {output}, not only the {tally.done} named now"
            )
    tell_letters(drawn)
    for sentence in files.left_out(photographs):
        err.print(f"gradcut: {sentence}")
    if as_json:
        _print_records(folder, tasks, failures)
    else:
        err.print(f"gradcut: {tally.summary(output)}")
        if tally.done:
            shown = f"pictures for a person are in {output}/pictures; " if pictures else ""
            err.print(f"gradcut: {shown}'gradcut review {output}' lists the least certain first")
    raise typer.Exit(1 if failures else 0)


def _check_settings(folder: files.Folder, before: bytes, classifier: str, recipe: str | None, **settings: Any) -> None:
    """Refuse a folder that was surely made with other settings, before anything slow is imported.

    Names that may mean the same, such as a file's, are left to `Run`, which knows what they stand for.

    Args:
        before: the folder's ``run.json``.
    """
    from gradcut.runs.run import compare, settings_of

    earlier = settings_of(folder, before)
    for kind, now, names in (("classifier", classifier, CLASSIFIERS), ("recipe", recipe, RECIPES)):
        with suppress(KeyError, TypeError):  # an older version's record, which is for `Run` to compare
            then = earlier[kind]["name"]
            if then in names and now in names and {then, now} != {"embedded", "lite0"}:
                earlier[kind], settings[kind] = then, now
    compare(folder, earlier, settings)


def _given(paths: list[str], listed: list[Path]) -> list[str]:
    """The photographs of the command line: arguments, lists, and standard input."""
    given: list[str] = []
    for path in paths:
        given += [line.rstrip("\r\n") for line in sys.stdin] if path == "-" else [path]
    for each in listed:
        try:
            given += each.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError as error:
            raise GradcutError(f"--list: {each} cannot be read: {error.strerror or error}") from error
    given = [path for path in given if path.strip()]
    if not given:
        raise GradcutError("photographs: expected files, folders or patterns, got none. See 'gradcut segment --help'.")
    return given


def _engine(name: str, address: str | None, gpus: float) -> Any:
    """Who does the job; None for this process."""
    if name == "ray":
        from gradcut.runs.cluster import OnRay

        return OnRay(address, gpus)
    if address is not None or gpus:
        raise GradcutError("--address, --gpus: they are for --engine ray")
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

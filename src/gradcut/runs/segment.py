"""Photographs into a run's folder, in one call: what 'gradcut segment' does, from Python."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing

from gradcut import files
from gradcut.errors import GradcutError, RunError
from gradcut.files import Folder
from gradcut.runs import correct
from gradcut.runs.corrections import Kept, check_kept, read_about, read_all
from gradcut.runs.job import Engine, Job, Task
from gradcut.runs.run import Entry, Run
from gradcut.segmenter import Segmenter

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def segment_folder(
    segmenter: Segmenter,
    photographs: Paths,
    output: str | os.PathLike[str],
    labels: Sequence[str] | None = None,
    *,
    void: tuple[float, float] | None = None,
    pictures: bool = True,
    cutouts: bool = False,
    maps: bool = False,
    batch: int | None = None,
    value_range: tuple[float, float] | None = None,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    engine: Engine | None = None,
    corrections: Kept = None,
) -> list[Entry]:
    """Segment many photographs into a folder, as 'gradcut segment' does, and return the manifest's lines.

    A line says what was found in a photograph and where it lies, or why the photograph failed. Interrupted or killed,
    the same call does the rest. Where millions of lines are too many at a time, `segment_all` yields them.

    Args:
        photographs: a folder, a file, a pattern or an address, or several, as for `gradcut.files.find`.
        output: the folder to write, here or at an address (``s3://``, ``gs://``).
        labels: classes to ask for whatever their score, instead of the detected ones.
        void, pictures, cutouts, maps: as for `Job`.
        batch: photographs that the network sees at once; by default as `default_batch` says.
        value_range: the numbers that become black and white in photographs of more than 8 bits; by default what the
            files say.
        workers: threads here, actors on Ray; by default one a core, or 2 actors.
        limit: take the first so many photographs only.
        overwrite: do finished photographs again.
        engine: who does it, such as `gradcut.runs.cluster.OnRay`; by default threads of this process.
        corrections: as for `segment_all`.

    Raises:
        RunError: the folder holds results of other settings, or corrections that are to be overwritten, or is in use.
        GradcutError: no photographs, unusable options, or a folder that cannot be written.
    """
    if not isinstance(segmenter, Segmenter):
        raise GradcutError(f"segmenter: expected a Segmenter, got {type(segmenter).__name__}")
    if isinstance(labels, str):
        raise GradcutError(f"labels: expected a list of labels, got {labels!r}")
    tasks, problems = find_tasks(photographs, limit)
    if problems or not tasks:
        raise GradcutError(f"photographs: {'; '.join(problems) or 'expected at least one, got none'}")
    batch = default_batch(segmenter) if batch is None else batch
    job = Job(
        segmenter,
        Folder(os.fspath(output)),
        None if labels is None else tuple(labels),
        void,
        pictures,
        batch,
        value_range,
        cutouts,
        maps,
    )
    with closing(segment_all(job, tasks, workers, overwrite, engine, corrections)) as lines:
        return [line for line, _ in lines]


def find_tasks(photographs: Paths, limit: int | None = None) -> tuple[list[Task], list[str]]:
    """Photographs with the names for their results, and a sentence for each folder or pattern that has none."""
    several = [photographs] if isinstance(photographs, str | os.PathLike) else photographs
    paths, problems = files.find(several)
    return [Task(str(path), name) for path, name in paths[:limit]], problems


def default_batch(segmenter: Segmenter) -> int:
    """How many photographs the network sees at once: 1 on a CPU, where more bring nothing, and 16 elsewhere."""
    return 1 if segmenter.classifier.device.type == "cpu" else 16


def segment_all(
    job: Job,
    tasks: Sequence[Task],
    workers: int | None = None,
    overwrite: bool = False,
    engine: Engine | None = None,
    corrections: Kept = None,
) -> Generator[tuple[Entry, bool]]:
    """Do a job into its folder and yield every photograph's line, and whether it was done before.

    Killed at any moment, the same call finishes what is missing. The manifest ends in the order of the tasks.

    Args:
        tasks: with names that are all different, as `find_tasks` gives them.
        workers: of the engine: threads here, actors on Ray.
        overwrite: do finished photographs again.
        engine: who does it; the job itself by default.
        corrections: with ``overwrite``: "keep" leaves a person's corrections in force over the new results, "remove"
            removes them, "skip" does only the photographs again of which nobody has decided anything: the others stay
            as they are, with the results that they were decided on. A run that goes on keeps them.

    Raises:
        RunError: the folder holds results of other settings, or corrections that are to be overwritten and nothing
            says what becomes of them, or is in use; or photographs are to be skipped and the classifier has other
            classes than theirs, whose numbers class maps have.
        GradcutError: it cannot be written.
    """
    local = job.folder.local
    check_kept(job.folder.url, overwrite, corrections)
    skipped = _decided(job) if corrections == "skip" else set()
    with Run(job.folder, job.settings, job.about(), overwrite, skipped) as run:
        if local is not None:
            with files.writing(job.folder.url):
                if corrections == "remove":
                    correct.remove_all(local)
                correct.sweep(local)
        missing = []
        before = run.done
        for task in tasks:
            if task.name not in run:
                missing.append(task)
            elif before[task.name] != task.photograph:
                raise RunError(
                    f"output: {task.name} in {job.folder.url} was made from {before[task.name]}, not from "
                    f"{task.photograph}; choose another folder or --overwrite"
                )
        for line in run.lines(task.name for task in tasks if task.name in before):
            yield line, True
        try:
            with closing((engine or Job.__call__)(job, missing, workers)) as lines:
                for line in lines:
                    run.append(line)
                    yield line, False
        except (KeyboardInterrupt, GeneratorExit):
            run.finish(task.name for task in tasks)
            raise
        run.finish(task.name for task in tasks)


def _decided(job: Job) -> set[str]:
    """The names of the photographs that a person has decided on; one whose correction cannot be read is among them."""
    known, problems = read_all(job.folder.url)
    names = {name for name, item in known.items() if item.state != "untouched"} | problems.keys()
    if names:
        before, now = read_about(job.folder)[0], tuple(job.about()["classes"])
        if before != now:
            raise RunError(
                f"corrections: skip needs the classes that {job.folder.url} was made with, {len(before)} from "
                f"{before[0]} to {before[-1]}, got {len(now)} from {now[0]} to {now[-1]}; keep takes others"
            )
    return names

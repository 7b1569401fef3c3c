"""What a run's corrections teach the head that the run was made with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import as_file
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from gradcut import files, images, labels
from gradcut.classifiers import Classifier, load_classifier
from gradcut.classifiers.heads import Head, read_head
from gradcut.errors import ClassifierError, FitError, GradcutError
from gradcut.files import Folder
from gradcut.fit.corrections import UNKNOWN, CorrectionFit
from gradcut.fit.folds import Progress, unseen
from gradcut.fit.labels import ImageLabels
from gradcut.ranges import Range
from gradcut.records import differing
from gradcut.runs import corrections
from gradcut.runs.run import Entry, read_run


@dataclass(frozen=True, eq=False)
class Taught:
    """A head that corrections have taught.

    Attributes:
        head: its card says under ``corrections`` what it has learnt from.
        photographs: those that taught it now.
        before: how many of the run's corrections had taught it before, and were not counted again.
        left_out: classes that stand in these photographs and that the head does not have: it has not learnt them.
        problems: a sentence for each correction that could not be used.
    """

    head: Head
    photographs: tuple[Path, ...] = field(repr=False)
    before: int
    left_out: tuple[str, ...]
    problems: tuple[str, ...]


class _Lesson(NamedTuple):
    """A corrected photograph: its digest tells corrections apart, ``classes`` stand in it, by label and number."""

    photograph: Path
    digest: str
    classes: Mapping[str, int]
    blank: bool  # whether a class stands without a pixel
    size: tuple[int, int]
    classmap: str | None  # the file's path below the run


def fit_corrections(
    run: str | os.PathLike[str],
    options: CorrectionFit | None = None,
    *,
    device: str | None = None,
    cache: Path | None = None,
    progress: Progress = unseen,
) -> Taught:
    """Fit the head that a run was made with again, to the photographs that were accepted or corrected since.

    In such a photograph are the classes that stand. All others that the run found in any photograph, was asked for, or
    was corrected by, are not: whoever accepts a photograph has seen them elsewhere in the run. Of the head's other
    classes nothing is known. Every pixel of the class map is of the class that has it, or of background; where a class
    stands without a pixel, nothing is known of background, and pixels of a class that the head does not have are left
    out. Rejected photographs teach nothing.

    A correction teaches a head once: its digest is in the head's card. A head that has learnt, and with which the run's
    other photographs were done again, learns from what was corrected since.

    Args:
        run: its folder, here or at an address.
        options: by default `CorrectionFit`'s own.
        device: where the network runs.
        cache: a folder that keeps what is computed of each photograph, so that a fit that was stopped goes on.
        progress: shows how far it is.

    Raises:
        RunError: the folder holds no run.
        FitError: it was made with something else than a head of `gradcut fit`, or a head that has changed since; or
            no correction can teach it anything new.
        OutputError: the cache cannot be written.
    """
    options = options or CorrectionFit()
    about, manifest = read_run(run)
    head, classifier = _head_of(run, about["settings"]["classifier"])
    lines = {line["name"]: line for line in manifest if line["state"] != "failed"}
    standing, problems = corrections.standing(run)
    items = {name: item for name, item in corrections.read_all(run)[0].items() if name in standing}
    value_range = about["settings"].get("range")
    lessons = []
    for name, item in sorted(items.items()):
        try:
            if item.state in ("accepted", "corrected"):
                lessons.append(_lesson(run, corrections.corrected_line(run, lines[name], item), name, value_range))
        except GradcutError as error:
            problems[name] = str(error)
    learnt = set(head.figures.get("corrections", {}).get("learnt", ()))
    new = [lesson for lesson in lessons if lesson.digest not in learnt]
    if not new:
        why = next(iter(problems.values()), f"{os.fspath(run)} has no accepted or corrected photograph")
        why = f"all {len(lessons)} of {os.fspath(run)} have taught this head before" if lessons else why
        raise FitError(f"corrections: expected some that teach the head anything new; {why}")
    own = {label: labels.group(label, head.labels) for label in corrections.classes(run)}
    seen = {item["label"] for line in lines.values() for item in line["objects"]}
    seen.update(about["settings"].get("labels") or ())
    for name, item in items.items():
        seen.update((*standing[name].classes, *item.removed, *item.added))
    known = _rows(seen, own, head)
    truth = np.stack([_rows(lesson.classes, own, head) for lesson in new])
    data = ImageLabels(
        tuple(lesson.photograph for lesson in new), head.labels, truth, truth | known, np.ones(len(new), bool),
        hashlib.sha256("".join(sorted(lesson.digest for lesson in new)).encode()).hexdigest(),
        None if value_range is None else (value_range[0], value_range[1]),
    )  # fmt: skip

    def classmap(number: int) -> Int[np.ndarray, "H W"]:
        return _classmap(Folder(os.fspath(run)), new[number], own)

    with progress("looking at what was corrected", len(new)) as track:
        head = options(head, classifier if device is None else classifier.to(device), data, classmap, track, cache)
    learnt |= {lesson.digest for lesson in new}
    card = {"photographs": len(learnt), "options": asdict(options), "learnt": sorted(learnt)}
    unlearnt = {label for lesson in new for label in lesson.classes if len(own.get(label, ())) != 1}
    return Taught(
        replace(head, figures={**head.figures, "corrections": card}), data.files, len(lessons) - len(new),
        tuple(sorted(unlearnt)), tuple(problems[name] for name in sorted(problems)),
    )  # fmt: skip


def _head_of(run: str | os.PathLike[str], record: Mapping[str, Any]) -> tuple[Head, Classifier]:
    """The head that a run was made with, and the classifier."""
    name, where = str(record["name"]), os.fspath(run)
    try:
        with as_file(package_files("gradcut").joinpath("data/coco80.safetensors")) as own:
            head = read_head(own if name == "coco80" else Path(name))
    except ClassifierError as error:
        raise FitError(
            f"corrections: expected a run with a head of 'gradcut fit', {where} was made with {name}; {error}"
        ) from error
    classifier = load_classifier(name)
    same, now = ("weights", "labels"), classifier.record()  # a recipe may have taken it at another size
    if found := differing({key: record.get(key) for key in same}, {key: now[key] for key in same}):
        raise FitError(f"corrections: expected the head that {where} was made with; it has changed since: {found[0]}")
    return head, classifier


def _lesson(run: str | os.PathLike[str], line: Entry, name: str, value_range: Range | None) -> _Lesson:
    """A photograph of the run as it stands.

    Raises:
        GradcutError: the photograph is missing, or another one by now, or its class map is damaged.
    """
    folder, path = Folder(os.fspath(run)), Path(line["photograph"])
    if files.is_url(line["photograph"]) or not path.is_file():
        raise FitError(f"corrections: expected the photograph of {name} on this machine, {path} is no file")
    size = line["height"], line["width"]
    if images.read(path, value_range=value_range).shape[:2] != size:
        raise FitError(f"corrections: expected {path} as it was corrected, it has another size")
    lesson = _Lesson(
        path, hashlib.sha256(folder.read(f"corrections/{name}.json") or b"").hexdigest()[:16],
        {item["label"]: item["index"] for item in line["objects"]},
        any(item["state"] == "blank" for item in line["objects"]), size, line["files"].get("classmap"),
    )  # fmt: skip
    _values(folder, lesson)
    return lesson


def _values(folder: Folder, lesson: _Lesson) -> Int[np.ndarray, "H W"]:
    """The class map as the run numbers it; nothing but background where there is none."""
    if lesson.classmap is None:
        return np.zeros(lesson.size, np.int64)
    values = images.read_values(f"{folder.url}/{lesson.classmap}").astype(np.int64)
    if values.shape != lesson.size:
        raise FitError(f"corrections: expected {lesson.classmap} of {lesson.size} pixels, got {values.shape}")
    return values


def _classmap(folder: Folder, lesson: _Lesson, own: Mapping[str, tuple[int, ...]]) -> Int[np.ndarray, "H W"]:
    """The class map as the head numbers it."""
    values = _values(folder, lesson)
    classmap = np.full(lesson.size, UNKNOWN)
    if not lesson.blank:
        classmap[values == 0] = 0
    for label, number in lesson.classes.items():
        if len(own.get(label, ())) == 1:
            classmap[values == number + 1] = own[label][0] + 1
    return classmap


def _rows(classes: Iterable[str], own: Mapping[str, tuple[int, ...]], head: Head) -> Bool[np.ndarray, " k"]:
    """Which of the head's classes are among some of the run's; one that stands for several of the head's is not."""
    chosen = {own[label][0] for label in classes if len(own.get(label, ())) == 1}
    return np.isin(np.arange(len(head.labels)), sorted(chosen))

"""Masks against the truth: one row of numbers a photograph and recipe.

A row is plain JSON. It holds counts of pixels, so that every mean, interval and breakdown can be made from rows
alone (`gradcut.evaluation.summary`), today's or last year's. Ignored pixels count nowhere.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from PIL import Image

from gradcut import files, images
from gradcut.classifiers.threads import each_on_one_thread
from gradcut.datasets import OBJECT, Dataset, Sample
from gradcut.errors import EvaluationError, GradcutError
from gradcut.images import Photograph
from gradcut.segmenter import Segmenter, answers_key

Row = dict[str, Any]
#: Called as ``segment(image, labels)``, labels None for those that are detected. The result has ``objects``, best
#: first, each with ``label``, ``mask``, and if there is one ``saliency``, and ``labelmap()``, as a `Segmentation` has.
Segment = Callable[[Photograph, Sequence[str] | None], Any]


# Pure functions on masks ---------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Pixels that are in both masks, in the prediction alone, in the truth alone, in neither.

    A ratio without pixels to speak of is None.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def iou(self) -> float | None:
        """Intersection over union (Jaccard 1912); None where both masks are empty."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """Share of the prediction that is true; None for an empty prediction."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Share of the truth that was found; None where the truth is empty."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def accuracy(self) -> float | None:
        """Share of the pixels that are right."""
        return _ratio(self.tp + self.tn, sum(self))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def counts(
    prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"] | None = None
) -> Counts:
    """Compare two masks pixel by pixel, without the ignored ones."""
    if ignore is not None and ignore.any():
        prediction, truth = prediction[~ignore], truth[~ignore]
    both, predicted, true = map(int, map(np.count_nonzero, (prediction & truth, prediction, truth)))
    return Counts(both, predicted - both, true - both, truth.size - predicted - true + both)


def iou(
    prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"] | None = None
) -> float | None:
    """Intersection over union in [0, 1]; None where both masks are empty."""
    return counts(prediction, truth, ignore).iou


def pointing(
    saliency: Float[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"]
) -> bool | None:
    """The pointing game (Zhang et al. 2016): does the map's maximum, its first, lie in the mask? No tolerance."""
    if ignore.all():
        return None
    return bool(truth.flat[np.argmax(np.where(ignore, -np.inf, saliency))])


def energy_inside(
    saliency: Float[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"]
) -> float | None:
    """Share of the map's sum that lies in the mask (Wang et al. 2020, there in the box); None for an empty map."""
    total = float(saliency[~ignore].sum(dtype=np.float64))
    return float(saliency[truth & ~ignore].sum(dtype=np.float64)) / total if total > 0 else None


def average_precision(scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float | None:
    """Area under precision over recall as a sum over thresholds, ties together; None without a true one."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = np.cumsum(truth[order])[ends]
    if not len(found) or not found[-1]:
        return None
    return float((np.diff(found, prepend=0) / found[-1] * found / (ends + 1)).sum())


#: Of the ImageNet-Segmentation protocol, height and width.
PROTOCOL_SIZE = (224, 224)


def protocol(saliency: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """ImageNet-Segmentation's way to judge a saliency map (Chefer et al. 2021), everything at 224 x 224.

    The map, scaled to [0, 1], is foreground above its mean. The average precision ranks both classes' pixels
    together: each pixel once with the map as foreground, once with its complement as background.

    Returns:
        ``counts`` of pixels of the thresholded map, and the average precision ``ap``.
    """
    values = images.resize_map(saliency, PROTOCOL_SIZE).astype(np.float64)
    span = float(values.max() - values.min())
    values = (values - values.min()) / span if span else np.zeros_like(values)
    height, width = PROTOCOL_SIZE
    target = np.asarray(Image.fromarray(truth).resize((width, height), Image.Resampling.NEAREST))
    both = np.concatenate([1 - values.ravel(), values.ravel()])
    ap = average_precision(both, np.concatenate([~target.ravel(), target.ravel()]))
    return {"counts": list(counts(values > values.mean(), target)), "ap": ap}


def true_labelmap(sample: Sample, labels: Sequence[str]) -> Integer[np.ndarray, "H W"]:
    """The truth with one class a pixel: 0 is background, i + 1 the i-th label; the smaller mask lies on top."""
    joint = np.zeros(sample.image.shape[:2], dtype=np.int32)
    for label in sorted(sample.masks, key=lambda label: (-np.count_nonzero(sample.masks[label]), label)):
        joint[sample.masks[label]] = labels.index(label) + 1
    return joint


# Baselines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rectangle:
    """A baseline that looks at nothing: every class is a centred box.

    Args:
        side: of the box, as a share of the photograph's height and width, in (0, 1].
    """

    side: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.side <= 1:
            raise EvaluationError(f"side: expected a share above 0, at most 1, got {self.side}")

    def __call__(self, image: Photograph, labels: Sequence[str] | None) -> _Plain:
        if labels is None:
            raise EvaluationError("labels: a baseline detects nothing; expected labels, got None")
        size = image.shape[:2]
        mask = np.zeros(size, dtype=bool)
        top, left = (round(length * (1 - self.side) / 2) for length in size)
        mask[top : size[0] - top, left : size[1] - left] = True
        return _Plain(tuple(_PlainObject(label, mask) for label in labels), size)


#: They stand beside every recipe. The box has three quarters of the photograph's height and width.
BASELINES: Mapping[str, Rectangle] = {"whole": Rectangle(1.0), "box": Rectangle(0.75)}


@dataclass(frozen=True, eq=False)
class _PlainObject:
    label: str
    mask: Bool[np.ndarray, "H W"]
    saliency: Float[np.ndarray, "h w"] | None = None
    score: float | None = None


@dataclass(frozen=True, eq=False)
class _Plain:
    objects: tuple[_PlainObject, ...]
    size: tuple[int, ...]

    def labelmap(self) -> Integer[np.ndarray, "H W"]:
        joint = np.zeros(self.size, dtype=np.int32)
        for number, one in reversed(list(enumerate(self.objects, start=1))):
            joint[one.mask] = number
        return joint


# One photograph ------------------------------------------------------------------------------------------------------


def score(result: Any, sample: Sample, labels: Sequence[str] | None) -> Row:
    """One result against the truth.

    Args:
        result: as `Segment` returns it.
        labels: every class that the truth knows; what else was found cannot be judged and is left out. None where
            the truth does not name classes: then all that was found together is compared, with the saliency of
            the best.

    Returns:
        ``union``: `Counts` of all masks together. ``classes``: of each class that is true or found: its ``counts``;
        ``joint``, [tp, fp, fn] with one class a pixel, as VOC counts; whether it is ``true`` and ``found``; how many
        ``objects`` it has, and the share of the ``largest`` in the photograph; its ``score``; ``pointing`` and
        ``energy`` of its saliency. ``background``: [tp, fp, fn]. ``protocol``: see there, where classes have no names.
    """
    objects, joint = list(result.objects), np.asarray(result.labelmap()).astype(np.int32)
    if labels is None:
        objects, joint = _nameless(objects, sample)
        labels = (OBJECT,)
    valid = ~sample.ignore
    places = {label.casefold(): number for number, label in enumerate(labels, start=1)}
    doubtful = sample.doubtful | {label for label, mask in sample.masks.items() if not (mask & valid).any()}
    lookup = np.zeros(len(objects) + 1, dtype=np.int32)
    found: dict[str, Any] = {}
    for number, one in enumerate(objects, start=1):
        place = places.get(one.label.casefold(), 0)
        lookup[number] = -1 if place and labels[place - 1] in doubtful else place
        if lookup[number] > 0:
            found[labels[place - 1]] = one
    predicted, truth = lookup[joint], true_labelmap(sample, labels)
    for label in doubtful & set(sample.masks):
        truth[truth == labels.index(label) + 1] = -1
    valid &= (predicted >= 0) & (truth >= 0)
    predicted, truth = predicted[valid], truth[valid]

    size = sample.image.shape[:2]
    empty = np.zeros(size, dtype=bool)
    union = empty.copy()
    classes: dict[str, Row] = {}
    for label in sorted((set(sample.masks) - doubtful) | set(found)):
        one, mask = found.get(label), sample.masks.get(label, empty)
        areas = sample.areas.get(label, ())
        place = labels.index(label) + 1
        entry: Row = {
            "true": label in sample.masks,
            "found": one is not None,
            "counts": list(counts(empty if one is None else one.mask, mask, sample.ignore)),
            "joint": _joint(predicted == place, truth == place),
            "objects": len(areas),
            "largest": _short(max(areas, default=0.0)),
        }
        if one is not None:
            union |= one.mask
            entry["score"] = None if one.score is None else _short(one.score)
            if label in sample.masks and one.saliency is not None:
                saliency = images.resize_map(one.saliency, size)
                entry["pointing"] = pointing(saliency, mask, sample.ignore)
                energy = energy_inside(saliency, mask, sample.ignore)
                entry["energy"] = None if energy is None else _short(energy)
        classes[label] = entry
    row: Row = {
        "size": list(size),
        "union": list(counts(union, sample.truth, sample.ignore)),
        "background": _joint(predicted == 0, truth == 0),
        "classes": classes,
    }
    if labels == (OBJECT,) and objects and objects[0].saliency is not None and OBJECT in sample.masks:
        row["protocol"] = protocol(objects[0].saliency, sample.masks[OBJECT])
    if sample.doubtful:
        row["doubtful"] = sorted(sample.doubtful)
    return row


def _nameless(objects: Sequence[Any], sample: Sample) -> tuple[list[Any], Integer[np.ndarray, "H W"]]:
    union = np.zeros(sample.image.shape[:2], dtype=bool)
    for one in objects:
        union |= one.mask
    first = objects[0] if objects else None
    merged = [] if first is None else [_PlainObject(OBJECT, union, first.saliency, first.score)]
    return merged, union.astype(np.int32)


def _joint(predicted: Bool[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> list[int]:
    both, p, t = map(int, map(np.count_nonzero, (predicted & truth, predicted, truth)))
    return [both, p - both, t - both]


def _short(value: float) -> float:
    """Six significant digits: what a row needs."""
    return float(f"{value:.6g}")


# Many photographs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutOfFold:
    """A recipe with one segmenter a fold: each photograph goes through the one that was fitted without it.

    Args:
        segmenters: one a fold.
        folds: from a photograph's file name to the fold that left it out.
    """

    segmenters: tuple[Segment, ...]
    folds: Mapping[str, int] = field(repr=False)

    def of(self, name: str) -> Segment:
        """The segmenter for the photograph of that name.

        Raises:
            EvaluationError: no fold has left it out.
        """
        fold = self.folds.get(Path(name).name)
        if fold is None or not 0 <= fold < len(self.segmenters):
            raise EvaluationError(f"folds: expected a fold below {len(self.segmenters)} for {name}, got {fold}")
        return self.segmenters[fold]


def read_folds(path: Path) -> dict[str, int]:
    """``folds.csv`` with the columns file and fold, as ``gradcut fit --folds`` writes it: file name to fold."""
    import csv

    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {Path(line["file"]).name: int(line["fold"]) for line in csv.DictReader(file)}
    except OSError as error:
        raise EvaluationError(f"folds: {path}: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise EvaluationError(f"folds: {path}: expected the columns file and fold, a number: {error!r}") from error


def evaluate(
    samples: Dataset | Sequence[Sample],
    segmenters: Mapping[str, Segment | OutOfFold],
    labels: str = "truth",
    *,
    size: int | tuple[int, int] | None = None,
    baselines: bool = True,
    classification: bool = True,
    only_known: bool = False,
    workers: int = 1,
    skip: Collection[tuple[str, str]] = (),
) -> Iterator[Row]:
    """Run recipes over photographs and compare what they find with the truth.

    Args:
        samples: a `Dataset`, or a list of `Sample`s.
        segmenters: by the name that their rows get; see `Segment`.
        labels: ``"truth"`` asks for the classes that are there; ``"predicted"`` leaves it to the classifier.
        size: squash photographs and masks to this height and width first; None keeps each photograph's own.
        baselines: add the rows of `BASELINES`, for the classes of the first recipe.
        classification: add the probabilities of all classes, for the mean average precision: one more forward
            pass a photograph and input size.
        only_known: leave classes that a classifier does not know out of the truth. Otherwise they are an error.
        workers: processes. The numbers do not depend on it: torch gets one thread in each, and in this one while
            the iterator lasts. A script that asks for more than one needs ``if __name__ == "__main__":``.
        skip: pairs of photograph and recipe that need no row.

    Yields:
        Rows in the order of the samples: ``photograph``, ``recipe``, what `score` returns, ``scores`` by class, and
        ``seconds`` by step; or, where a photograph failed, ``photograph``, ``recipe`` and ``error``.

    Raises:
        EvaluationError: unusable arguments, or classes that a classifier does not know.
    """
    if labels not in ("truth", "predicted"):
        raise EvaluationError(f"labels: expected 'truth' or 'predicted', got {labels!r}")
    if not segmenters or set(segmenters) & set(BASELINES):
        raise EvaluationError(
            f"segmenters: expected one at least, none called {' or '.join(BASELINES)}, got {list(segmenters)}"
        )
    if workers < 1:
        raise EvaluationError(f"workers: expected 1 at least, got {workers}")
    dataset = samples if isinstance(samples, Dataset) else _as_dataset(samples)
    square = (size, size) if isinstance(size, int) else size
    if square is not None and min(square) < 1:
        raise EvaluationError(f"size: expected positive height and width, got {square}")
    known = judged_labels(dataset, segmenters, labels, only_known)
    task = _Task(dataset, dict(segmenters), labels, square, baselines, classification, known, frozenset(skip))
    names = list(segmenters) + (list(BASELINES) if baselines else [])
    wanted = [
        number for number, name in enumerate(dataset.names) if any((name, recipe) not in task.skip for recipe in names)
    ]
    return task.here(wanted) if workers == 1 else task.elsewhere(wanted, workers)


def _as_dataset(samples: Sequence[Sample]) -> Dataset:
    by_name = {sample.name: sample for sample in samples}
    if len(by_name) != len(samples):
        raise EvaluationError("samples: expected no name twice")
    labels = tuple(sorted({label for sample in samples for label in sample.masks}))
    return Dataset("samples", None if labels == (OBJECT,) else labels, tuple(by_name), by_name.__getitem__)


def judged_labels(
    dataset: Dataset, segmenters: Mapping[str, Segment | OutOfFold], labels: str, only_known: bool
) -> tuple[str, ...] | None:
    """The classes to judge: the dataset's, or with ``only_known`` those that every classifier has; None: no names.

    Raises:
        EvaluationError: classes that a classifier would have to know.
    """
    if dataset.labels is None:
        if labels == "truth":
            raise EvaluationError(f"labels: {dataset.title} does not name its classes; ask for 'predicted'")
        return None
    unknown: dict[str, None] = {}
    for segmenter in segmenters.values():
        one = segmenter.segmenters[0] if isinstance(segmenter, OutOfFold) else segmenter
        if (classifier := getattr(one, "classifier", None)) is not None:
            unknown |= dict.fromkeys(label for label in dataset.labels if not _knows(classifier, label))
    known = tuple(label for label in dataset.labels if label not in unknown)
    if unknown and (not known or (labels == "truth" and not only_known)):
        few = ", ".join(list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
        raise EvaluationError(
            f"labels: the classifier does not know {len(unknown)} of the {len(dataset.labels)} classes of "
            f"{dataset.title}: {few}" + ("; leave them out with only_known (--only-known)" if known else "")
        )
    return known if only_known else dataset.labels


def _knows(classifier: Any, label: str) -> bool:
    try:
        classifier.find(label)
    except GradcutError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Task:
    """Everything that a process needs for its share."""

    dataset: Dataset
    segmenters: Mapping[str, Segment | OutOfFold]
    labels: str
    size: tuple[int, int] | None
    baselines: bool
    classification: bool
    known: tuple[str, ...] | None
    skip: frozenset[tuple[str, str]]

    def here(self, wanted: Iterable[int]) -> Iterator[Row]:
        return each_on_one_thread(row for number in wanted for row in self.rows(number))

    def elsewhere(self, wanted: Sequence[int], workers: int) -> Iterator[Row]:
        try:
            # Pickled here, once: torch would otherwise pass weights by file descriptors, one a tensor and process.
            payload = pickle.dumps(self)
        except Exception as error:
            raise EvaluationError(f"workers: more than one needs steps that can be pickled: {error}") from error
        spawn = multiprocessing.get_context("spawn")  # a forked torch may hang
        pool = ProcessPoolExecutor(min(workers, max(1, len(wanted))), spawn, _start, (payload,))
        waiting: deque[Future[list[Row]]] = deque()
        turns = iter(wanted)
        try:
            waiting.extend(pool.submit(_work, number) for number in islice(turns, 2 * workers))
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(_work, number) for number in islice(turns, 1))
                yield from done
        except BrokenProcessPool as error:
            raise EvaluationError(
                "workers: a process could not start or ended early: is there memory enough, and can the model's class "
                "be imported (one that a script or notebook defines cannot)? workers=1 does without"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def rows(self, number: int) -> list[Row]:
        """Of one photograph, in the order of the recipes."""
        name = self.dataset.names[number]
        names = list(self.segmenters) + (list(BASELINES) if self.baselines else [])
        todo = [recipe for recipe in names if (name, recipe) not in self.skip]
        try:
            sample = prepared(self.dataset[number], self.known, self.size)
        except GradcutError as error:
            return [{"photograph": name, "recipe": recipe, "error": str(error)} for recipe in todo]
        cache: dict[Any, Any] = {}
        return [{"photograph": name, "recipe": recipe} | self._row(recipe, sample, cache) for recipe in todo]

    def _row(self, recipe: str, sample: Sample, cache: dict[Any, Any]) -> Row:
        try:
            if recipe in BASELINES:
                asked = self._found(next(iter(self.segmenters)), sample, cache)
                return score(BASELINES[recipe](sample.image, asked), sample, self.known)
            segmenter = self._of(recipe, sample)
            result = self._segment(segmenter, sample, cache)
            cache.setdefault(("found", recipe), [one.label for one in result.objects])
            row = score(result, sample, self.known)
            if self.classification and self.known is not None and hasattr(segmenter, "classifier"):
                row["scores"] = self._probabilities(segmenter.classifier, sample, cache)
            if seconds := getattr(result, "seconds", None):
                row["seconds"] = {step: round(value, 4) for step, value in seconds.items()}
            return row
        except GradcutError as error:
            return {"error": f"{sample.name}: {error}"}

    def _of(self, recipe: str, sample: Sample) -> Segment:
        segmenter = self.segmenters[recipe]
        return segmenter.of(sample.name) if isinstance(segmenter, OutOfFold) else segmenter

    def _segment(self, segmenter: Segment, sample: Sample, cache: dict[Any, Any]) -> Any:
        """Recipes that differ in seeds or masks alone share their saliency."""
        if type(segmenter) is not Segmenter:
            return segmenter(sample.image, self._asked(sample))
        key = ("evidence", segmenter.evidence_key)
        if key not in cache:
            (cache[key],) = segmenter.explain([sample.image], self._asked(sample))
        return segmenter.cut(cache[key])

    def _asked(self, sample: Sample) -> list[str] | None:
        return sorted(sample.masks) if self.labels == "truth" else None

    def _found(self, recipe: str, sample: Sample, cache: dict[Any, Any]) -> list[str]:
        """The classes that a baseline draws: the true ones, or those that the first recipe found."""
        if (asked := self._asked(sample)) is not None:
            return asked
        if ("found", recipe) not in cache:
            result = self._segment(self._of(recipe, sample), sample, cache)
            cache["found", recipe] = [one.label for one in result.objects]
        return list(cache["found", recipe])

    def _probabilities(self, classifier: Any, sample: Sample, cache: dict[Any, Any]) -> dict[str, float]:
        key = ("scores", answers_key(classifier))
        if key not in cache:
            mine = {label.casefold(): label for label in self.known or ()}
            (detections,) = classifier.detect([sample.image], threshold=0, top_k=len(classifier.labels))
            scores = {one.label.casefold(): _short(one.score) for one in detections}
            cache[key] = {label: scores[folded] for folded, label in mine.items() if folded in scores}
        return dict(cache[key])


def prepared(sample: Sample, known: Collection[str] | None, size: tuple[int, int] | None) -> Sample:
    """The sample as it is judged: with the known classes alone, and squashed to ``size``."""
    if known is not None and not set(sample.masks) <= set(known):
        kept = {label: mask for label, mask in sample.masks.items() if label in known}
        sample = replace(sample, masks=kept, areas={label: sample.areas[label] for label in kept})
    return sample if size is None else sample.resized(size)


_task: _Task | None = None


def _start(payload: bytes) -> None:
    global _task
    torch.set_num_threads(1)
    _task = pickle.loads(payload)


def _work(number: int) -> list[Row]:
    assert _task is not None  # `_start` ran before
    return _task.rows(number)


# A file of rows ------------------------------------------------------------------------------------------------------


def settings_path(path: Path) -> Path:
    """Where the settings of a file of rows stand: ``scores.settings.json`` beside ``scores.jsonl``."""
    return path.with_suffix(".settings.json")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that a file of rows was made with.

    Raises:
        EvaluationError: they are not beside it.
    """
    beside = settings_path(path)
    try:
        found: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise EvaluationError(f"scores: {path} needs its settings in {beside}: {error}") from error


def read_rows(path: Path) -> list[Row]:
    """The rows in a JSON-lines file; a last line that was cut off is left out.

    Raises:
        EvaluationError: the file is missing, or another line is no row.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise EvaluationError(f"scores: {path}: {error.strerror or error}") from error
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            row["photograph"], row["recipe"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # not ended: the run was stopped while it wrote
                break
            raise EvaluationError(f"scores: {path}: line {number} is no row of scores") from None
        rows.append(row)
    return rows


def resume(path: Path, settings: Mapping[str, Any], overwrite: bool = False) -> list[Row]:
    """Prepare a file for more rows, and return those that it has: all but the failures, which are tried again.

    Args:
        settings: what the rows depend on. ``recipes`` maps each recipe to its own, and may grow from run to run.
        overwrite: begin anew.

    Raises:
        EvaluationError: the file holds rows that were made with other settings.
    """
    beside = settings_path(path)
    done: list[Row] = []
    if path.exists() and not overwrite:
        try:
            before = read_settings(path)
        except EvaluationError:
            raise EvaluationError(
                f"output: {path} is there without its settings, {beside.name}; choose another name or --overwrite"
            ) from None
        plain = json.loads(json.dumps(settings))
        both = set(before["recipes"]) & set(plain["recipes"])
        differing = [
            key for key in plain.keys() | before.keys() if key != "recipes" and before.get(key) != plain.get(key)
        ]
        differing += [f"recipe {name}" for name in both if before["recipes"][name] != plain["recipes"][name]]
        if differing:
            raise EvaluationError(
                f"output: {path} was made with another {', '.join(sorted(differing))}; "
                "choose another name or --overwrite"
            )
        settings = {**plain, "recipes": before["recipes"] | plain["recipes"]}
        done = [row for row in read_rows(path) if "error" not in row]
    files.write_json(beside, settings)
    with files.replacing(path) as temporary:
        temporary.write_text("".join(map(line, done)), encoding="utf-8")
    return done


def line(row: Row) -> str:
    """A row as one line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"

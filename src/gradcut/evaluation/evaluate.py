"""Many photographs: recipes run over them and compared with the truth, a row each.

A row is plain JSON. It holds counts of pixels, so that every mean, interval and breakdown can be made from rows
alone (`gradcut.evaluation.summary`), today's or last year's. Ignored pixels count nowhere.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice

import torch

from gradcut.catalogue import LABELS, check
from gradcut.classifiers import Classifier
from gradcut.classifiers.threads import each_on_one_thread
from gradcut.datasets import OBJECT, Dataset, Sample
from gradcut.errors import EvaluationError, GradcutError
from gradcut.evaluation.baselines import BASELINES
from gradcut.evaluation.faithfulness import Faithfulness
from gradcut.evaluation.scoring import Row, score, short, shortened, spelt
from gradcut.evaluation.segment import OutOfFold, ResultLike, Segment, segmenter_for
from gradcut.results import Segmentation
from gradcut.saliency.presence import detect
from gradcut.segmenter import Evidence, Segmenter, answers_key


def evaluate(
    samples: Dataset | Sequence[Sample],
    segmenters: Mapping[str, Segment | OutOfFold],
    labels: str = "truth",
    *,
    size: int | tuple[int, int] | None = None,
    baselines: bool = True,
    classification: bool = True,
    only_known: bool = False,
    faithfulness: Faithfulness | None = None,
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
        faithfulness: ask the network about the maps, too: what it measures stands in each class's ``faithfulness``.
        workers: processes. The numbers do not depend on it: torch gets one thread in each, and in this one while
            a photograph is at work. A script that asks for more than one needs ``if __name__ == "__main__":``.
        skip: pairs of photograph and recipe that need no row.

    Yields:
        Rows in the order of the samples: ``photograph``, ``recipe``, what `score` returns, ``scores`` by class, and
        ``seconds`` by step; or, where a photograph failed, ``photograph``, ``recipe`` and ``error``.

    Raises:
        EvaluationError: unusable arguments, or classes that a classifier does not know.
    """
    labels = check("labels", labels, LABELS, EvaluationError)
    if not segmenters or set(segmenters) & set(BASELINES):
        raise EvaluationError(
            f"segmenters: expected one at least, none called {' or '.join(BASELINES)}, got {list(segmenters)}"
        )
    if faithfulness is not None:
        parts = {name: s.segmenters if isinstance(s, OutOfFold) else (s,) for name, s in segmenters.items()}
        others = [name for name, several in parts.items() if not all(isinstance(s, Segmenter) for s in several)]
        if others:
            raise EvaluationError(f"faithfulness: expected Segmenters, whose network is known, got {others[0]!r}")
    if workers < 1:
        raise EvaluationError(f"workers: expected 1 at least, got {workers}")
    dataset = samples if isinstance(samples, Dataset) else _as_dataset(samples)
    square = (size, size) if isinstance(size, int) else size
    if square is not None and min(square) < 1:
        raise EvaluationError(f"size: expected positive height and width, got {square}")
    known = judged_labels(dataset, segmenters, labels, only_known)
    ours, done = dict(segmenters), frozenset(skip)
    task = _Task(dataset, ours, labels, square, baselines, classification, known, faithfulness, done)
    wanted = [number for number, name in enumerate(dataset.names) if task.todo(name)]
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
        for part in segmenter.segmenters if isinstance(segmenter, OutOfFold) else (segmenter,):
            if isinstance(part, Segmenter):
                unknown |= dict.fromkeys(label for label in dataset.labels if not _knows(part.classifier, label))
    known = tuple(label for label in dataset.labels if label not in unknown)
    if unknown and (not known or (labels == "truth" and not only_known)):
        few = ", ".join(list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
        raise EvaluationError(
            f"labels: the classifier does not know {len(unknown)} of the {len(dataset.labels)} classes of "
            f"{dataset.title}: {few}" + ("; leave them out with only_known (--only-known)" if known else "")
        )
    return known if only_known else dataset.labels


def _knows(classifier: Classifier, label: str) -> bool:
    try:
        classifier.find(label)
    except GradcutError:
        return False
    return True


@dataclass
class _Photograph:
    """What the recipes share on one photograph."""

    sample: Sample
    evidence: dict[Hashable, Evidence] = field(default_factory=dict)
    scores: dict[Hashable, dict[str, float]] = field(default_factory=dict)
    found: dict[str, list[str]] = field(default_factory=dict)


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
    faithfulness: Faithfulness | None
    skip: frozenset[tuple[str, str]]

    def todo(self, name: str) -> list[str]:
        """The recipes and baselines that the photograph of that name still needs."""
        names = [*self.segmenters, *(BASELINES if self.baselines else ())]
        return [recipe for recipe in names if (name, recipe) not in self.skip]

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
        todo = self.todo(name)
        try:
            photograph = _Photograph(prepared(self.dataset[number], self.known, self.size))
        except GradcutError as error:
            return [{"photograph": name, "recipe": recipe, "error": str(error)} for recipe in todo]
        return [{"photograph": name, "recipe": recipe} | self._row(recipe, photograph) for recipe in todo]

    def _row(self, recipe: str, photograph: _Photograph) -> Row:
        sample = photograph.sample
        try:
            if recipe in BASELINES:
                labels = self._drawn(next(iter(self.segmenters)), photograph)
                return score(BASELINES[recipe](sample.image, labels), sample, self.known)
            segmenter = segmenter_for(self.segmenters[recipe], sample.name)
            result = self._segment(segmenter, photograph)
            photograph.found.setdefault(recipe, [item.label for item in result.objects])
            row = score(result, sample, self.known)
            if self.faithfulness is not None and isinstance(result, Segmentation):
                self._judge_maps(self.faithfulness, result, row)
            if self.classification and self.known is not None and isinstance(segmenter, Segmenter):
                row["scores"] = self._probabilities(segmenter.classifier, photograph)
            if isinstance(result, Segmentation):
                row["seconds"] = {step: round(value, 4) for step, value in result.seconds.items()}
            return row
        except GradcutError as error:
            return {"error": f"{sample.name}: {error}"}

    def _judge_maps(self, faithfulness: Faithfulness, result: Segmentation, row: Row) -> None:
        """Add to each class that was found what the network says of its map."""
        items = result.objects
        names = [OBJECT] * len(items[:1]) if self.known is None else spelt(items, self.known)
        judged = {name: item for name, item in zip(names, items, strict=False) if name in row["classes"]}
        classifier, method = result.classifier, result.recipe.saliency
        groups, maps = ([getattr(item, key) for item in judged.values()] for key in ("members", "saliency"))
        values = faithfulness(classifier, method, classifier.prepare([result.image]), groups, maps)
        for name, value in zip(judged, values, strict=True):
            row["classes"][name]["faithfulness"] = shortened(value)

    def _segment(self, segmenter: Segment, photograph: _Photograph) -> ResultLike:
        """Recipes that differ in seeds or masks alone share their saliency."""
        image, labels = photograph.sample.image, self._asked(photograph.sample)
        if not isinstance(segmenter, Segmenter):
            return segmenter(image, labels)
        key = segmenter.evidence_key
        if key not in photograph.evidence:
            (photograph.evidence[key],) = segmenter.explain([image], labels)
        return segmenter.cut(photograph.evidence[key])

    def _asked(self, sample: Sample) -> list[str] | None:
        return sorted(sample.masks) if self.labels == "truth" else None

    def _drawn(self, recipe: str, photograph: _Photograph) -> list[str]:
        """The classes that a baseline draws: the true ones, or those that the first recipe found."""
        if (asked := self._asked(photograph.sample)) is not None:
            return asked
        if recipe not in photograph.found:
            segmenter = segmenter_for(self.segmenters[recipe], photograph.sample.name)
            photograph.found[recipe] = [item.label for item in self._segment(segmenter, photograph).objects]
        return photograph.found[recipe]

    def _probabilities(self, classifier: Classifier, photograph: _Photograph) -> dict[str, float]:
        key = answers_key(classifier)
        if key not in photograph.scores:
            (detections,) = detect(classifier, [photograph.sample.image], threshold=0, top_k=len(classifier.labels))
            own = {detection.label: short(detection.score) for detection in detections}
            folded = {label.casefold(): value for label, value in reversed(own.items())}
            scores = {label: own.get(label, folded.get(label.casefold())) for label in self.known or ()}
            photograph.scores[key] = {label: value for label, value in scores.items() if value is not None}
        return dict(photograph.scores[key])


def prepared(sample: Sample, known: Collection[str] | None, size: tuple[int, int] | None) -> Sample:
    """The sample as it is judged: with the known classes alone, and squashed to ``size``."""
    if known is not None and not set(sample.masks) <= set(known):
        masks = {label: mask for label, mask in sample.masks.items() if label in known}
        sample = replace(sample, masks=masks, areas={label: sample.areas[label] for label in masks})
    return sample if size is None else sample.resized(size)


_task: _Task | None = None


def _start(payload: bytes) -> None:
    global _task
    torch.set_num_threads(1)
    _task = pickle.loads(payload)


def _work(number: int) -> list[Row]:
    assert _task is not None  # `_start` ran before
    return _task.rows(number)

"""Predictions for tasks, and masks that follow what a person paints."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from gradcut.classifiers.sources import reworded
from gradcut.classifiers.words import words_of
from gradcut.errors import GradcutError
from gradcut.formats.label_studio import brush_mask, prediction, regions
from gradcut.images import Photograph
from gradcut.integrations import asking
from gradcut.integrations.label_studio.interface import Interface, read_interface
from gradcut.integrations.label_studio.photographs import Photographs
from gradcut.painting import Stroke, rasterise
from gradcut.records import fingerprint
from gradcut.results import Object, Segmentation
from gradcut.segmenter import Segmenter
from gradcut.strokes import refine

log = logging.getLogger(__name__)

#: How many photographs, results and wordings are kept for the next stroke.
_KEPT = 8


class Backend:
    """Answers Label Studio's requests. One call at a time.

    Args:
        segmenter: of a classifier with classes of its own; or of one that takes words, whose classes the labelling
            configuration's labels then are.
        photographs: where they come from.
        tolerance: of polygons, in pixels, as in `gradcut.formats.outlines.outlines`.
    """

    def __init__(self, segmenter: Segmenter, photographs: Photographs, tolerance: float = 1.0) -> None:
        self.segmenter, self.photographs, self.tolerance = segmenter, photographs, tolerance
        record = {**segmenter.record(), "tolerance": tolerance}
        self.version = f"gradcut {segmenter.classifier.name} {segmenter.recipe.name} {fingerprint(record)[:8]}"
        self._told: set[str] = set()
        self._segmenters: dict[tuple[str, ...], Segmenter] = {}
        self._looked_at: dict[tuple[bytes, tuple[str, ...]], Segmentation] = {}

    def check(self, configuration: object) -> Interface:
        """A project's labelling configuration; what of it the classifier does not know is told once, in a line.

        Raises:
            GradcutError: it has no control for masks, or no label that the classifier knows.
        """
        interface = read_interface(configuration)
        if words_of(self.segmenter.classifier.model) is None:
            known = interface.known(self.segmenter.classifier)
            others = ", ".join(label for label in interface.labels if label not in known)
            if others and others not in self._told:
                self._told.add(others)
                name = self.segmenter.classifier.name
                log.warning("gradcut: labels that %s does not know get no masks: %s", name, others)
        return interface

    def predict(self, document: Mapping[str, Any], token: str | None = None) -> list[Any]:
        """For each task of a request to ``/predict`` a prediction, or an empty list where its photograph is unusable.

        Label Studio keeps nothing of an empty list, and asks again; why it is empty is told in a line. With strokes in
        ``params.context.result`` the first task's classes that were painted are asked for and cut again.

        Args:
            token: for Label Studio's own address, where `Photographs` has none.

        Raises:
            GradcutError: a request of another form, a configuration as in `check`, or strokes that cannot be used.
        """
        interface = read_interface(document.get("label_config"))
        tasks = document.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise GradcutError(f"tasks: expected a list of objects, got {str(tasks)[:60]!r}")
        segmenter = self._segmenter(interface)
        known = interface.known(segmenter.classifier)
        context = (document.get("params") or {}).get("context") or {}
        if painted := context.get("result"):
            if len(tasks) != 1:
                raise GradcutError(f"tasks: expected one with strokes, got {len(tasks)}")
            return [self._corrected(segmenter, interface, known, tasks[0], painted, token)]
        answers: list[Any] = []
        for task in tasks:
            try:
                photograph = self._photograph(interface, task, token)
                answers.append(self._found(segmenter, interface, known, photograph))
            except GradcutError as error:
                log.warning("gradcut: task %s: %s", task.get("id", "?"), error)
                answers.append([])
        return answers

    def close(self) -> None:
        """Forget all photographs."""
        self._looked_at.clear()

    def _segmenter(self, interface: Interface) -> Segmenter:
        own = self.segmenter
        if words_of(own.classifier.model) is None:
            return own
        words = tuple({name.casefold(): name for names in interface.labels.values() for name in names}.values())
        if words not in self._segmenters:
            classifier = reworded(own.classifier, words)
            made = Segmenter(classifier, own.recipe, own.threshold, own.top_k, own.min_confidence, own.disjoint)
            _keep(self._segmenters, words, made)
        return self._segmenters[words]

    def _photograph(self, interface: Interface, task: Mapping[str, Any], token: str | None) -> Photograph:
        data = task.get("data")
        if not isinstance(data, Mapping) or interface.key not in data:
            raise GradcutError(f"data: expected the photograph's address under {interface.key!r}, got {str(data)[:60]}")
        return self.photographs(data[interface.key], task.get("id"), token)

    def _found(
        self, segmenter: Segmenter, interface: Interface, known: Mapping[str, list[str]], photograph: Photograph
    ) -> dict[str, Any]:
        names = {name: label for label, own in known.items() for name in own}
        result = asking.found(segmenter, list(names), photograph)
        labels = {called: label for name, label in names.items() for called in segmenter.asked([name])}
        return self._prediction(interface, [(item, labels[item.label]) for item in result.objects])

    def _corrected(
        self, segmenter: Segmenter, interface: Interface, known: Mapping[str, list[str]], task: Mapping[str, Any],
        painted: object, token: str | None,
    ) -> dict[str, Any]:  # fmt: skip
        photograph = self._photograph(interface, task, token)
        strokes = _strokes(painted, photograph.shape[:2])
        if unknown := [label for label in strokes if label not in known]:
            raise GradcutError(f"label: {segmenter.classifier.name} does not know {unknown[0]!r}")
        names = {label: known[label] for label in strokes}
        if any(len(own) > 1 for own in names.values()):
            scores = asking.scores(segmenter, [name for own in names.values() for name in own], photograph)
            names = {label: [max(own, key=scores.__getitem__)] for label, own in names.items()}
        labels = {called: label for label, own in names.items() for called in segmenter.asked(own)}
        key = hashlib.sha256(photograph.tobytes()).digest(), tuple(labels)
        if key not in self._looked_at:
            # What is painted is asked for, however sure the mask.
            painter = Segmenter(segmenter.classifier, segmenter.recipe, disjoint=segmenter.disjoint)
            _keep(self._looked_at, key, asking.found(painter, list(labels), photograph, always=True))
        sides = ({called: strokes[label][side] for called, label in labels.items()} for side in (True, False))
        refined = refine(self._looked_at[key], *sides)
        return self._prediction(interface, [(item, labels[item.label]) for item in refined.objects])

    def _prediction(self, interface: Interface, found: Sequence[tuple[Object, str]]) -> dict[str, Any]:
        tolerance = None if interface.is_brush else self.tolerance
        names = interface.control, interface.image
        listed = [
            region
            for item, label in found
            for region in regions(item.mask, label, tolerance, item.confidence, uuid.uuid4().hex[:10], names)
        ]
        return prediction(listed, self.version)


def _keep(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Put a value in; those that came first go first."""
    while len(known) >= _KEPT:
        known.pop(next(iter(known)))
    known[key] = value


def _strokes(painted: object, size: tuple[int, ...]) -> dict[str, dict[bool, Bool[np.ndarray, "H W"]]]:
    """What was painted as each label's (True) and what as not its (False); a later stroke covers an earlier one.

    A rectangle says that its label is nowhere outside it, nor outside the label's other ones, and nothing of what is
    inside; a negative one, that it is not inside.

    Raises:
        GradcutError: something else than regions of a brush, key points or rectangles, on a photograph of that size.
    """
    if not isinstance(painted, list) or not all(isinstance(region, dict) for region in painted):
        raise GradcutError(f"context: expected a list of regions, got {str(painted)[:60]!r}")
    strokes: dict[str, dict[bool, np.ndarray]] = {}
    within: dict[str, np.ndarray] = {}
    for region in painted:
        kind, value = region.get("type"), region.get("value")
        if kind not in _KINDS or not isinstance(value, dict):
            raise GradcutError(f"context: expected one of {', '.join(_KINDS)}, got {str(kind)[:60]!r}")
        if (came := (region.get("original_height"), region.get("original_width"))) != size:
            raise GradcutError(f"context: expected regions on a photograph of {size}, got {came}")
        labels = value.get(kind)
        if not isinstance(labels, list) or len(labels) != 1:
            raise GradcutError(f"context: expected one label of a region, got {str(labels)[:60]!r}")
        mask = _KINDS[kind](value, size)
        mine = strokes.setdefault(str(labels[0]), {side: np.zeros(size, dtype=bool) for side in (True, False)})
        side = bool(region.get("is_positive", value.get("is_positive", True)))
        if side and kind == "rectanglelabels":
            within[str(labels[0])] = within.get(str(labels[0]), False) | mask
            continue
        mine[side] |= mask
        mine[not side] &= ~mask
    for label, inside in within.items():
        strokes[label][False] |= ~inside & ~strokes[label][True]
    return strokes


def _brush(value: Mapping[str, Any], size: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    return brush_mask(value.get("rle"), (size[0], size[1]))


def _numbers(value: Mapping[str, Any], names: Sequence[str], what: str) -> list[float]:
    numbers = [value.get(name, 0) for name in names]
    if not all(isinstance(number, int | float) and np.isfinite(number) for number in numbers):
        raise GradcutError(f"context: expected numbers of a {what}, got {numbers}")
    return numbers


def _point(value: Mapping[str, Any], size: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    """A key point as a dab, of its own width, in hundredths of the photograph's; three pixels wide at least."""
    height, width = size
    x, y, across = _numbers(value, ("x", "y", "width"), "key point")
    point = (x / 100 * width, y / 100 * height)
    return rasterise([Stroke("foreground", max(1.5, across / 200 * width), [point])], size).foreground


def _rectangle(value: Mapping[str, Any], size: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    """The pixels in a rectangle, in hundredths of the photograph's sides; turned clockwise about its first corner."""
    height, width = size
    x, y, across, down, degrees = _numbers(value, ("x", "y", "width", "height", "rotation"), "rectangle")
    corner = np.array([x / 100 * width, y / 100 * height])
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    along, aside = across / 100 * width * np.array([cosine, sine]), down / 100 * height * np.array([-sine, cosine])
    ys, xs = np.mgrid[:height, :width] + 0.5
    inside: np.ndarray = np.ones((height, width), dtype=bool)
    for side in (along, aside):
        place = ((xs - corner[0]) * side[0] + (ys - corner[1]) * side[1]) / max(float(side @ side), 1e-9)
        inside &= (place >= 0) & (place <= 1)
    return inside


#: What may be painted, and how it becomes a mask.
_KINDS: Mapping[str, Callable[[Mapping[str, Any], tuple[int, ...]], Bool[np.ndarray, "H W"]]] = {
    "brushlabels": _brush,
    "keypointlabels": _point,
    "rectanglelabels": _rectangle,
}

"""What the report's gallery shows: classes that a recipe does best, worst and in between, drawn again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, UInt8

from gradcut import images, pictures
from gradcut.datasets import OBJECT, Dataset, Sample
from gradcut.errors import EvaluationError
from gradcut.evaluation.evaluate import judged_labels, prepared
from gradcut.evaluation.measures import Counts
from gradcut.evaluation.scoring import Row
from gradcut.evaluation.segment import OutOfFold, Segment, segmenter_for
from gradcut.images import Photograph
from gradcut.pictures import Picture
from gradcut.results import Segmentation

#: A photograph or a picture at the gallery's size.
Small = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Choice:
    """A class in a photograph, why it is shown, and the IoU of each recipe there."""

    photograph: str
    label: str
    group: str
    ious: Mapping[str, float]


def choose(rows: Iterable[Row], recipe: str, most: int = 8) -> list[Choice]:
    """The best, the median and the worst of a recipe's classes, at most ``most`` of each, by IoU and then by name.

    Only classes that are there and were looked for count; none is shown twice. Where they are fewer than three times
    ``most``, each of the three gets about a third; where there is none, none is chosen.

    Raises:
        EvaluationError: no row of that recipe.
    """
    rows = list(rows)
    if all(row["recipe"] != recipe for row in rows):
        raise EvaluationError(f"scores: no row of {recipe!r}")
    ious: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        for label, entry in row.get("classes", {}).items():
            value = Counts(*entry["counts"]).iou
            if value is not None and entry["true"] and entry["found"]:
                ious.setdefault((row["photograph"], label), {})[row["recipe"]] = value
    order = sorted((pair for pair, by in ious.items() if recipe in by), key=lambda pair: (-ious[pair][recipe], pair))
    n = len(order)
    ends = min(most, (n + 1) // 3)
    between = min(most, n - 2 * ends)
    start = min(max(ends, n // 2 - between // 2), n - ends - between)
    groups = {"best": order[:ends], "median": order[start : start + between], "worst": order[::-1][:ends]}
    return [Choice(*pair, group, ious[pair]) for group, pairs in groups.items() for pair in pairs]


@dataclass(frozen=True, eq=False)
class Card:
    """One card of the gallery: panels with their captions, ``(caption, picture)``, and those of each recipe."""

    choice: Choice
    truth: Sequence[tuple[str, Picture]] = field(repr=False)
    recipes: Mapping[str, Sequence[tuple[str, Picture]]] = field(repr=False)


def draw(
    choices: Sequence[Choice],
    dataset: Dataset,
    segmenters: Mapping[str, Segment | OutOfFold],
    labels: str,
    size: int | None = None,
    only_known: bool = False,
    height: int = 180,
) -> Iterator[Card]:
    """Run the recipes again on the chosen photographs, and draw what they do.

    Args:
        labels, size, only_known: as the scores were made.
        height: of a panel in pixels.

    Raises:
        EvaluationError: a segmenter that is not gradcut's, or a mask that does not have the IoU that its row has:
            something changed since.
    """
    known = judged_labels(dataset, segmenters, labels, only_known)
    for choice in choices:
        sample = prepared(dataset.load(choice.photograph), known, None if size is None else (size, size))
        # Among the same classes as then: some steps look at all of a photograph's classes together.
        asked = sorted(sample.masks) if labels == "truth" else None
        truth = sample.masks[choice.label]
        small = _shrunk(sample.image, height)
        panels = {}
        for name, segmenter in segmenters.items():
            if name not in choice.ious:
                continue
            result = segmenter_for(segmenter, sample.name)(sample.image, asked)
            if not isinstance(result, Segmentation):
                raise EvaluationError(f"{name}: expected a Segmentation to draw, got {type(result).__name__}")
            panels[name] = _panels(result, choice, name, sample, small)
        first = [("photograph", small), ("true mask", _tinted(small, truth, sample.ignore))]
        yield Card(choice, first, panels)


def _panels(
    result: Segmentation, choice: Choice, recipe: str, sample: Sample, small: Small
) -> list[tuple[str, Picture]]:
    if choice.label == OBJECT:
        item, mask = result.objects[0], result.mask
    else:
        item = result[choice.label]
        mask = item.mask
    keep = ~sample.ignore
    both, either = (mask & sample.masks[choice.label] & keep), ((mask | sample.masks[choice.label]) & keep)
    again = np.count_nonzero(both) / np.count_nonzero(either)
    if abs(again - choice.ious[recipe]) > 0.005:
        raise EvaluationError(
            f"{choice.photograph}: {choice.label}: {recipe} has an IoU of {choice.ious[recipe]:.3f} in the scores and "
            f"of {again:.3f} now: photographs, classifier or recipe have changed since; evaluate again"
        )
    return [
        ("saliency", images.resize(pictures.heat(item.saliency), small.shape[:2])),
        ("seeds", pictures.draw_seeds(small, item.seeds)),
        (f"mask, IoU {choice.ious[recipe]:.2f}", _tinted(small, mask, sample.ignore)),
    ]


def _shrunk(photograph: Photograph, height: int) -> Small:
    H, W = photograph.shape[:2]
    return images.resize(photograph, (height, max(1, round(W / H * height))))


_TINT, _VOID = np.array([255, 196, 0]), np.array([128, 128, 128])


def _tinted(small: Small, mask: Bool[np.ndarray, "H W"], ignore: Bool[np.ndarray, "H W"]) -> Small:
    """The mask in yellow with an outline on a dimmed photograph, ignored pixels in grey."""
    inside, void = (images.resize_mask(area, small.shape[:2]) for area in (mask, ignore))
    picture = small * 0.45
    picture[inside] = 0.5 * small[inside] + 0.5 * _TINT
    picture[pictures.outline(inside.astype(np.int32))] = _TINT
    picture[void] = 0.3 * small[void] + 0.7 * _VOID
    return picture.round().astype(np.uint8)

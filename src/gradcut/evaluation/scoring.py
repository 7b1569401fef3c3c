"""One photograph: a result against the truth, as a row of counts of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from gradcut import images
from gradcut.datasets import OBJECT, Sample
from gradcut.evaluation.measures import counts, energy_inside, pointing, protocol
from gradcut.evaluation.segment import ObjectLike, Region, ResultLike
from gradcut.seeds import is_constant

#: Plain JSON; `gradcut.evaluation.summary` makes figures of many.
Row = dict[str, Any]


def true_labelmap(sample: Sample, vocabulary: Sequence[str]) -> Integer[np.ndarray, "H W"]:
    """The truth with one class a pixel: 0 is background, i + 1 the i-th class; the smaller mask lies on top."""
    joint = np.zeros(sample.image.shape[:2], dtype=np.int32)
    for label in sorted(sample.masks, key=lambda label: (-np.count_nonzero(sample.masks[label]), label)):
        joint[sample.masks[label]] = vocabulary.index(label) + 1
    return joint


def score(result: ResultLike, sample: Sample, vocabulary: Sequence[str] | None) -> Row:
    """One result against the truth.

    Args:
        vocabulary: every class that the truth knows; what else was found cannot be judged and is left out. None where
            the truth does not name classes: then all that was found together is compared, with the saliency of
            the best.

    Returns:
        ``union``: `Counts` of all masks together. ``classes``: of each class that is true or found: its ``counts``;
        ``joint``, [tp, fp, fn] with one class a pixel, as VOC counts; whether it is ``true`` and ``found``, and
        ``blank`` where it has no mask because its saliency is the same everywhere, which is not found; how many
        ``instances`` the truth has of it, and the share of the ``largest`` in the photograph; its ``score``;
        ``pointing`` and ``energy`` of its saliency. ``background``: [tp, fp, fn]. ``protocol``: see there, where
        classes have no names.
    """
    objects, joint = list(result.objects), np.asarray(result.labelmap()).astype(np.int32)
    nameless = vocabulary is None
    if vocabulary is None:
        objects, joint = _nameless(objects, sample)
        vocabulary = (OBJECT,)
    doubtful = sample.doubtful | {label for label, mask in sample.masks.items() if not (mask & ~sample.ignore).any()}
    judged: dict[str, ObjectLike] = {}
    numbers = np.zeros(len(objects) + 1, dtype=np.int32)  # of the result's labelling in the vocabulary; -1 is void
    for number, (label, item) in enumerate(zip(spelt(objects, vocabulary), objects, strict=True), start=1):
        if label is not None and label not in doubtful:
            judged[label] = item
            numbers[number] = vocabulary.index(label) + 1
        elif label is not None:
            numbers[number] = -1
    predicted, truth = numbers[joint], true_labelmap(sample, vocabulary)
    for label in doubtful & set(sample.masks):
        truth[truth == vocabulary.index(label) + 1] = -1
    valid = ~sample.ignore & (predicted >= 0) & (truth >= 0)
    predicted, truth = predicted[valid], truth[valid]

    union = np.zeros(sample.image.shape[:2], dtype=bool)
    classes: dict[str, Row] = {}
    for label in sorted((set(sample.masks) - doubtful) | set(judged)):
        number = vocabulary.index(label) + 1
        joint_counts = _joint(predicted == number, truth == number)
        classes[label] = _class_row(judged.get(label), label, sample, joint_counts)
        if label in judged:
            union |= judged[label].mask
    row: Row = {
        "size": list(union.shape),
        "union": list(counts(union, sample.truth, sample.ignore)),
        "background": _joint(predicted == 0, truth == 0),
        "classes": classes,
    }
    if nameless and objects and objects[0].saliency is not None and OBJECT in sample.masks:
        row["protocol"] = protocol(objects[0].saliency, sample.masks[OBJECT])
    if sample.doubtful:
        row["doubtful"] = sorted(sample.doubtful)
    return row


def spelt(objects: Sequence[ObjectLike], vocabulary: Sequence[str]) -> list[str | None]:
    """What the vocabulary calls each object; None for one that it does not know."""
    folded = {label.casefold(): label for label in reversed(vocabulary)}
    return [item.label if item.label in vocabulary else folded.get(item.label.casefold()) for item in objects]


def _class_row(item: ObjectLike | None, label: str, sample: Sample, joint: list[int]) -> Row:
    """What a row says of one class that is true, or was found as ``item``."""
    size = sample.image.shape[:2]
    empty = np.zeros(size, dtype=bool)
    true, instances = sample.masks.get(label, empty), sample.areas.get(label, ())
    row: Row = {
        "true": label in sample.masks,
        "found": item is not None and not _is_blank(item),
        "counts": list(counts(empty if item is None else item.mask, true, sample.ignore)),
        "joint": joint,
        "instances": len(instances),
        "largest": short(max(instances, default=0.0)),
    }
    if item is not None:
        if _is_blank(item):
            row["blank"] = True
        row["score"] = None if item.score is None else short(item.score)
        if label in sample.masks and item.saliency is not None:
            saliency = images.resize_map(item.saliency, size)
            row["pointing"] = pointing(saliency, true, sample.ignore)
            energy = energy_inside(saliency, true, sample.ignore)
            row["energy"] = None if energy is None else short(energy)
    return row


def _is_blank(item: ObjectLike) -> bool:
    return item.saliency is not None and is_constant(item.saliency) and not item.mask.any()


def _nameless(objects: Sequence[ObjectLike], sample: Sample) -> tuple[list[ObjectLike], Integer[np.ndarray, "H W"]]:
    """All the objects as one, with the saliency and the score of the first, and its labelling."""
    union = np.zeros(sample.image.shape[:2], dtype=bool)
    for item in objects:
        union |= item.mask
    merged: list[ObjectLike] = [Region(OBJECT, union, item.saliency, item.score) for item in objects[:1]]
    return merged, union.astype(np.int32)


def _joint(predicted: Bool[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> list[int]:
    return list(counts(predicted, truth))[:3]


def short(value: float) -> float:
    """Six significant digits: what a row needs."""
    return float(f"{value:.6g}")


def shortened(value: Any) -> Any:
    """The numbers in lists and dictionaries, `short`."""
    if isinstance(value, dict):
        return {key: shortened(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shortened(part) for part in value]
    return short(value) if isinstance(value, float) else value

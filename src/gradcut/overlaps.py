"""Pixels that several classes' masks hold: whose they are, and which classes have little else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from gradcut import images
from gradcut.compact import STRIP, CompactMask, as_compact

#: A class of which more than this share of the mask is in masks of surer classes has their pixels, not its own.
MOST = 0.5
#: Surer is a class whose probability is so many times as high.
SURER = 1.75


def note(owner: str) -> str:
    """What is said to a person of a class with another's pixels."""
    return f"most of its pixels are those of {owner}"


def joint_labels(
    masks: Sequence[CompactMask] | Sequence[Bool[np.ndarray, "H W"]],
    saliency: Sequence[Float[np.ndarray, "h w"]],
    size: tuple[int, int],
) -> Integer[np.ndarray, "H W"]:
    """One class a pixel: 0 is background, i + 1 the i-th class.

    Where masks overlap, the pixel goes to the class with the higher saliency, relative to its own maximum. Saliency is
    enlarged only there.

    Args:
        size: of the masks, height and width.
    """
    labels = np.zeros(size, dtype=np.uint8 if len(masks) < 256 else np.int32)
    compact = [as_compact(mask) for mask in masks]
    count = max(1, STRIP // size[1])
    for top in range(0, size[0], count):
        bottom = min(top + count, size[0])
        strip, contested = labels[top:bottom], np.zeros((bottom - top, size[1]), dtype=bool)
        rows = [mask.rows(top, bottom) for mask in compact]
        for number, own in enumerate(rows, start=1):
            contested |= own & (strip > 0)
            strip[own] = number
        if (box := images.box_of(contested)) is not None:
            left, above, width, height = box
            place = slice(above, above + height), slice(left, left + width)
            part = (top + above, top + above + height, left, left + width)
            strongest = np.full((height, width), -1.0, dtype=np.float32)
            for number, (own, values) in enumerate(zip(rows, saliency, strict=True), start=1):
                claimed = own[place] & contested[place]
                if claimed.any():
                    relative = _relative(values, size, part)
                    won = claimed & (relative > strongest)
                    strip[place][won], strongest[won] = number, relative[won]
    return labels


def _relative(
    values: Float[np.ndarray, "h w"], size: tuple[int, int], part: tuple[int, int, int, int]
) -> Float[np.ndarray, "r c"]:
    """Part of a map at that size, relative to its maximum there; enlarged many times, that is the map's own."""
    if size[0] * size[1] > STRIP:
        return images.resize_map(values, size, part) / (float(values.max()) or 1.0)
    whole = images.resize_map(values, size)
    top, bottom, left, right = part
    return whole[top:bottom, left:right] / (float(whole.max()) or 1.0)


def owners(
    masks: Sequence[CompactMask] | Bool[np.ndarray, "n H W"],
    scores: Sequence[float],
    members: Sequence[Sequence[int]],
    size: tuple[int, int],
) -> list[int | None]:
    """Of each class whose pixels are mostly those of surer classes, the one of them that holds most; None of others.

    Measured at another size, which costs less. The surest class comes first; one whose pixels are others' owns none.

    Args:
        scores: probabilities of the classes, each for itself.
        members: the classifier's outputs that each class consists of: classes that share one own nothing of each other.
        size: height and width to measure at.
    """
    small = [as_compact(mask).resized(size) for mask in masks]
    found: list[int | None] = [None] * len(small)
    own: list[int] = []
    for number in sorted(range(len(small)), key=lambda number: -scores[number]):
        mask = small[number]
        surer = [
            other
            for other in own
            if scores[other] >= SURER * scores[number] and not {*members[other]} & {*members[number]}
        ]
        held = [mask & small[other] for other in surer]
        if held and np.logical_or.reduce(held).sum() > MOST * mask.sum():
            found[number] = surer[int(np.argmax([np.count_nonzero(part) for part in held]))]
        else:
            own.append(number)
    return found

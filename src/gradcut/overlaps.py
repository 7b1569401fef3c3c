"""Pixels that several classes' masks hold: whose they are, and which classes have little else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from gradcut import images

#: A class of which more than this share of the mask is in masks of surer classes has their pixels, not its own.
MOST = 0.5
#: Surer is a class whose probability is so many times as high.
SURER = 1.75


def note(owner: str) -> str:
    """What is said to a person of a class with another's pixels."""
    return f"most of its pixels are those of {owner}"


def joint_labels(
    masks: Sequence[Bool[np.ndarray, "H W"]], saliency: Sequence[Float[np.ndarray, "h w"]], size: tuple[int, int]
) -> Integer[np.ndarray, "H W"]:
    """One class a pixel: 0 is background, i + 1 the i-th class.

    Where masks overlap, the pixel goes to the class with the higher saliency, relative to its own maximum.

    Args:
        size: of the masks, height and width.
    """
    labels = np.zeros(size, dtype=np.uint8 if len(masks) < 256 else np.int32)
    strongest = np.full(size, -1.0, dtype=np.float32)
    for number, (mask, values) in enumerate(zip(masks, saliency, strict=True), start=1):
        own = images.resize_map(values, size)
        relative = own / (float(own.max()) or 1.0)
        won = mask & (relative > strongest)
        labels[won], strongest[won] = number, relative[won]
    return labels


def owners(
    masks: Bool[np.ndarray, "n H W"],
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
    small = [images.resize_mask(mask, size) for mask in masks]
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

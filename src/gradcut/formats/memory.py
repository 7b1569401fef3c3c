"""Results in memory as what the formats are written from; apart, because it needs the network's modules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool

from gradcut.errors import GradcutError
from gradcut.formats.piles import AnnotatedObject, AnnotatedPhotograph, Pile, below_common
from gradcut.names import distinct
from gradcut.results import Segmentation


def pile(results: Sequence[Segmentation]) -> Pile:
    """Results in memory, all of one classifier.

    They are called as their files are below the folder that all lie in, without the ending; those without a path
    ``photograph-1`` and so on.

    Raises:
        GradcutError: no results, or results of other classes than the first one's.
    """
    if not results:
        raise GradcutError("results: expected at least one, got none")
    classes = max((result.classes for result in results), key=len)
    if any(result.classes != classes[: len(result.classes)] for result in results):
        raise GradcutError("results: expected one classifier and the same groups of classes in all of them")
    below = iter(below_common([result.source for result in results if result.source]))
    names = distinct([
        os.path.splitext(next(below))[0] if result.source else f"photograph-{number}"  # noqa: PTH122  not of folders
        for number, result in enumerate(results, start=1)
    ])  # fmt: skip
    photographs = [
        AnnotatedPhotograph(
            name, result.source or f"{name}.png", result.image.shape[:2],
            tuple(
                AnnotatedObject(
                    o.label, result.number(o), o.score, o.confidence, partial(getattr, o, "mask"),
                    partial(_own, result, value),
                )
                for value, o in enumerate(result.objects, start=1)
                if not o.blank
            ),
            result.classmap, partial(getattr, result, "image"), sum(o.blank for o in result.objects),
            None if result.source else partial(getattr, result, "image"),
        )
        for name, result in zip(names, results, strict=True)
    ]  # fmt: skip
    return Pile(classes, photographs)


def _own(result: Segmentation, value: int) -> Bool[np.ndarray, "H W"]:
    mask: np.ndarray = result.labelmap() == value
    return mask

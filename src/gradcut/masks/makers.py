"""What a mask maker is, and what every maker checks and does.

A mask maker is called as ``maker(photograph, saliency, seeds)`` with the maps and seeds of all the classes of one
photograph, at the maps' size, and returns ``Bool "n H W"`` at the photograph's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from gradcut.compact import CompactMask, stacked
from gradcut.errors import MaskError
from gradcut.images import Photograph
from gradcut.masks.contrasts import EdgeMap, Exponential, Inverse
from gradcut.seeds import Seeds, described

#: Called with a photograph ``UInt8 "H W 3"``, the saliency of its ``n`` classes (finite, at least 0, any scale) and
#: one `Seeds` of the maps' size for each; returns a mask for each class, at the photograph's size.
MaskMaker = Callable[[Photograph, Float[np.ndarray, "n h w"], Sequence[Seeds]], Bool[np.ndarray, "n H W"]]


class CompactMaker:
    """A mask maker that works on fewer pixels than a large photograph has, and can leave the masks so.

    It is called as any other, or by `compact`, which it defines.
    """

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        return stacked(self.compact(photograph, saliency, seeds), photograph.shape[:2])

    def compact(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> list[CompactMask]:
        """The masks as they were made, before they are enlarged."""
        raise NotImplementedError


def is_one_by_one(maker: object) -> bool:
    """Whether a class's mask depends on nothing but the photograph, that class's map and its seeds.

    A maker says so by a method ``unmoved(saliency, before, after)``, which tells whether seeds that were added, each on
    its own side of the mask from those before, leave that mask as it was. One that is made of another maker is so if
    the other is, and one with a contrast if that is gradcut's.
    """
    parts = [getattr(maker, name, None) for name in ("maker", "contrast")]
    return (
        hasattr(maker, "unmoved")
        and (parts[0] is None or is_one_by_one(parts[0]))
        and (parts[1] is None or isinstance(parts[1], Inverse | Exponential | EdgeMap))
    )


def only_more(before: Seeds, after: Seeds) -> bool:
    """Whether seeds were added and none taken away."""
    return not any((a & ~b).any() for a, b in zip(before, after, strict=True))


def enlarged(masks: Iterable[Bool[np.ndarray, "_ _"]], photograph: Photograph) -> Bool[np.ndarray, "n H W"]:
    """Masks of any size, brought to the photograph's."""
    size = photograph.shape[:2]
    return stacked([CompactMask(mask, size) for mask in masks], size)


def check_input(photograph: Any, saliency: Any, seeds: Any) -> None:
    """Raise MaskError unless photograph, maps and seeds are what a mask maker is promised."""
    is_array = isinstance(photograph, np.ndarray) and photograph.dtype == np.uint8 and photograph.ndim == 3
    if not is_array or photograph.shape[2] != 3 or photograph.size == 0:
        raise MaskError(f"photograph: expected uint8 of (height, width, 3), got {described(photograph)}")
    is_array = isinstance(saliency, np.ndarray) and saliency.dtype.kind == "f" and saliency.ndim == 3
    if not is_array or 0 in saliency.shape[1:]:
        raise MaskError(f"saliency: expected floats of (classes, height, width), got {described(saliency)}")
    if saliency.size and not (saliency.min() >= 0 and saliency.max() < np.inf):
        worst = saliency.max() if saliency.min() >= 0 else saliency.min()
        raise MaskError(f"saliency: expected finite values of at least 0, got {worst}")
    if len(seeds) != len(saliency):
        raise MaskError(f"seeds: expected {len(saliency)}, one for each map of the saliency, got {len(seeds)}")
    size = saliency.shape[1:]
    for number, drawn in enumerate(seeds):
        if not isinstance(drawn, tuple) or len(drawn) != 2:
            raise MaskError(f"seeds[{number}]: expected Seeds(foreground, background), got {described(drawn)}")
        for side, mask in zip(Seeds._fields, drawn, strict=True):
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != size:
                raise MaskError(f"seeds[{number}].{side}: expected bool of {size}, got {described(mask)}")
        if both := int((drawn[0] & drawn[1]).sum()):
            raise MaskError(f"seeds[{number}]: expected disjoint masks, got {both} pixels in both")


def check_masks(
    masks: Any,
    photograph: Photograph,
    saliency: Float[np.ndarray, "n h w"],
    maker: MaskMaker,
) -> None:
    """Raise MaskError unless a maker returned one mask of the photograph's size for each map."""
    shape = (len(saliency), *photograph.shape[:2])
    if not isinstance(masks, np.ndarray) or masks.dtype != np.bool_ or masks.shape != shape:
        raise MaskError(f"maker: expected masks from {maker!r}, bool of {shape}, got {described(masks)}")


def check_callable(maker: object, name: str, what: str) -> None:
    """Raise MaskError unless an option is something to call."""
    if not callable(getattr(maker, name)):
        raise MaskError(f"{name}: expected {what}, got {getattr(maker, name)!r}")


def check_between(maker: object, name: str, low: float, high: float = float("inf")) -> None:
    """Raise MaskError unless an option is a number above ``low`` and below ``high``."""
    check_number(maker, name)
    if not low < getattr(maker, name) < high:
        below = "" if high == float("inf") else f" and below {high}"
        raise MaskError(f"{name}: expected a number above {low}{below}, got {getattr(maker, name)}")


def check_fraction(maker: object, name: str) -> None:
    """Raise MaskError unless an option is a number from 0 to less than 1."""
    check_number(maker, name)
    if not 0 <= getattr(maker, name) < 1:
        raise MaskError(f"{name}: expected a fraction from 0 to less than 1, got {getattr(maker, name)}")


def check_number(maker: object, name: str) -> None:
    """Raise MaskError unless an option is a number."""
    value = getattr(maker, name)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise MaskError(f"{name}: expected a number, got {value!r}")

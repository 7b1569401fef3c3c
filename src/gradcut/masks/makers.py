"""What a mask maker is.

A mask maker is called as ``maker(photograph, saliency, seeds)`` with the maps and seeds of all the classes of one
photograph, at the maps' size, and returns ``Bool "n H W"`` at the photograph's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from gradcut import images
from gradcut.errors import MaskError
from gradcut.images import Photograph
from gradcut.seeds import Seeds

MaskMaker = Callable[[Photograph, Float[np.ndarray, "n h w"], Sequence[Seeds]], Bool[np.ndarray, "n H W"]]


def enlarged(found: Iterable[Bool[np.ndarray, "_ _"]], photograph: Photograph) -> Bool[np.ndarray, "n H W"]:
    """Masks of any size, brought to the photograph's."""
    size = photograph.shape[:2]
    masks = [images.resize_mask(mask, size) for mask in found]
    return np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)


def check_fraction(maker: object, name: str) -> None:
    """Raise MaskError unless an option is from 0 to less than 1."""
    if not 0 <= getattr(maker, name) < 1:
        raise MaskError(f"{name}: expected a fraction from 0 to less than 1, got {getattr(maker, name)}")

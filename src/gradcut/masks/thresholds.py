"""Masks from the saliency alone, whatever the seeds: thresholds, superpixels, and the student project's expansion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import slic

from gradcut import images
from gradcut.errors import MaskError, check_least
from gradcut.images import Photograph
from gradcut.masks.makers import check_fraction, enlarged
from gradcut.seeds import Seeds


@dataclass(frozen=True)
class Threshold:
    """Pixels whose saliency lies above a fraction of the map's maximum, at the photograph's size.

    Args:
        at: the fraction, from 0 to less than 1.
    """

    at: float = 0.4

    def __post_init__(self) -> None:
        check_fraction(self, "at")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        size = photograph.shape[:2]
        return enlarged([images.resize_map(one, size) > self.at * float(one.max()) for one in saliency], photograph)


@dataclass(frozen=True)
class Otsu:
    """Pixels above the threshold that separates the map's values best (Otsu 1979), at the photograph's size.

    It maximises the variance between the two sides, over a histogram of 256 steps. A constant map gives an empty
    mask.
    """

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        size = photograph.shape[:2]
        return enlarged([images.resize_map(one, size) > threshold_otsu(one) for one in saliency], photograph)


@dataclass(frozen=True)
class Superpixels:
    """Superpixels (SLIC, Achanta et al. 2012) whose mean saliency lies above a fraction of the map's maximum.

    A fast path to the photograph's edges without a cut: one segmentation, on a square grid, for all the classes.

    Args:
        count: about how many superpixels, at least 1.
        at: the fraction of the maximum, from 0 to less than 1.
        grid: places a side, at least 2.
    """

    count: int = 400
    at: float = 0.4
    grid: int = 160

    def __post_init__(self) -> None:
        check_least(MaskError, self, count=1, grid=2)
        check_fraction(self, "at")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        size = (self.grid, self.grid)
        parts = slic(images.resize(photograph, size), self.count, start_label=0)
        pixels = np.maximum(np.bincount(parts.ravel()), 1)
        found = []
        for one in saliency:
            mean = np.bincount(parts.ravel(), images.resize_map(one, size).ravel()) / pixels
            found.append((mean > self.at * float(one.max()))[parts])
        return enlarged(found, photograph)


@dataclass(frozen=True)
class Expansion:
    """The student project's recursive expansion: from the most salient pixels outwards, over salient pixels.

    From each of the ``start`` most salient pixels the mask grows, over the 4-connected grid, to all pixels above
    the ``percentile`` of the map. It is empty where no start lies above the percentile, as on a constant map.

    Args:
        start: how many pixels to start from, at least 1; of equal ones the first in reading order.
        percentile: of the map, from 0 to 100.
    """

    start: int = 50
    percentile: float = 90

    def __post_init__(self) -> None:
        check_least(MaskError, self, start=1)
        if not 0 <= self.percentile <= 100:
            raise MaskError(f"percentile: expected a number from 0 to 100, got {self.percentile}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        return enlarged([self._expand(one) for one in saliency], photograph)

    def _expand(self, saliency: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        # What recursion reaches is the connected part that the start lies in.
        part, _ = ndimage.label(saliency > np.percentile(saliency, self.percentile))
        starts = part.flat[np.argsort(-saliency, axis=None, kind="stable")[: self.start]]
        reached: Bool[np.ndarray, "h w"] = np.isin(part, starts[starts > 0])
        return reached

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
from gradcut.masks.makers import check_between, check_fraction, check_input, check_number, enlarged
from gradcut.seeds import Seeds, is_constant


@dataclass(frozen=True)
class Threshold:
    """Pixels whose saliency lies above a fraction of the map's maximum, at the photograph's size.

    Args:
        at: the fraction, from 0 to less than 1.

    Raises:
        MaskError: an option outside its range.
    """

    at: float = 0.4

    def __post_init__(self) -> None:
        check_fraction(self, "at")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        check_input(photograph, saliency, seeds)
        size = photograph.shape[:2]
        return enlarged(
            [images.resize_map(class_map, size) > self.at * float(class_map.max()) for class_map in saliency],
            photograph,
        )


@dataclass(frozen=True)
class Otsu:
    """Pixels above the threshold that separates the map's values best (Otsu 1979), at the photograph's size.

    It maximises the variance between the two sides, over a histogram. A constant map gives an empty mask.

    Args:
        bins: of the histogram, at least 2.

    Raises:
        MaskError: an option outside its range.
    """

    bins: int = 256

    def __post_init__(self) -> None:
        check_least(MaskError, self, bins=2)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        check_input(photograph, saliency, seeds)
        return enlarged([self._above(class_map, photograph.shape[:2]) for class_map in saliency], photograph)

    def _above(self, saliency: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        if is_constant(saliency):  # what separates rounding from rounding is no threshold
            return np.zeros(size, dtype=bool)
        above: Bool[np.ndarray, "H W"] = images.resize_map(saliency, size) > threshold_otsu(saliency, self.bins)
        return above


@dataclass(frozen=True)
class Superpixels:
    """Superpixels (SLIC, Achanta et al. 2012) whose mean saliency lies above a fraction of the map's maximum.

    A fast path to the photograph's edges without a cut: one segmentation, on a square grid, for all the classes.

    Args:
        count: about how many superpixels, at least 1.
        at: the fraction of the maximum, from 0 to less than 1.
        grid: places a side, at least 2.
        compactness: what nearness weighs against colour, above 0: higher is squarer.
        iterations: of the clustering, at least 1.

    Raises:
        MaskError: an option outside its range.
    """

    count: int = 400
    at: float = 0.4
    grid: int = 160
    compactness: float = 10.0
    iterations: int = 10

    def __post_init__(self) -> None:
        check_least(MaskError, self, count=1, grid=2, iterations=1)
        check_between(self, "compactness", 0)
        check_fraction(self, "at")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        check_input(photograph, saliency, seeds)
        size = (self.grid, self.grid)
        superpixels = slic(
            images.resize(photograph, size), self.count, self.compactness, self.iterations, start_label=0
        )
        pixels = np.maximum(np.bincount(superpixels.ravel()), 1)
        masks = []
        for class_map in saliency:
            mean = np.bincount(superpixels.ravel(), images.resize_map(class_map, size).ravel()) / pixels
            masks.append((mean > self.at * float(class_map.max()))[superpixels])
        return enlarged(masks, photograph)


@dataclass(frozen=True)
class Expansion:
    """The student project's recursive expansion: from the most salient pixels outwards, over salient pixels.

    From each of the ``start`` most salient pixels the mask grows, over the 4-connected grid, to all pixels above
    the ``percentile`` of the map. It is empty where no start lies above the percentile, as on a constant map.

    Args:
        start: how many pixels to start from, at least 1; of equal ones the first in reading order.
        percentile: of the map, from 0 to 100.

    Raises:
        MaskError: an option outside its range.
    """

    start: int = 50
    percentile: float = 90

    def __post_init__(self) -> None:
        check_least(MaskError, self, start=1)
        check_number(self, "percentile")
        if not 0 <= self.percentile <= 100:
            raise MaskError(f"percentile: expected a number from 0 to 100, got {self.percentile}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        check_input(photograph, saliency, seeds)
        return enlarged([self._expand(class_map) for class_map in saliency], photograph)

    def _expand(self, saliency: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        if is_constant(saliency):
            return np.zeros(saliency.shape, dtype=bool)
        # What recursion reaches is the connected part that the start lies in.
        part, _ = ndimage.label(saliency > np.percentile(saliency, self.percentile))
        starts = part.flat[np.argsort(-saliency, axis=None, kind="stable")[: self.start]]
        reached: Bool[np.ndarray, "h w"] = np.isin(part, starts[starts > 0])
        return reached

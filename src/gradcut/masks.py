"""From seeds, saliency and photograph to masks.

A mask maker is called as ``maker(photograph, saliency, seeds)`` with the maps and seeds of all the classes
of one photograph, at the maps' size, and returns ``Bool "n H W"`` at the photograph's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from gradcut import images
from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.maxflow import min_cut
from gradcut.seeds import Seeds

MaskMaker = Callable[[Photograph, Float[np.ndarray, "n h w"], Sequence[Seeds]], Bool[np.ndarray, "n H W"]]


@dataclass(frozen=True)
class GraphCut:
    """The minimum cut between hard seeds over the 4-connected grid (Boykov & Jolly 2001), one class at a time.

    Neighbouring pixels of colours ``a``, ``b`` (0-255) are held together by ``1 / (1 + |a - b|^2)``; nothing
    else draws a pixel to either side. The cut is made at the saliency map's size.
    """

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        small = images.resize(photograph, saliency.shape[1:])
        right, down = inverse_contrast(small)
        masks = [self._cut(one, right, down) for one in seeds]
        size = photograph.shape[:2]
        return np.stack([images.resize_mask(mask, size) for mask in masks]) if masks else np.zeros((0, *size), bool)

    @staticmethod
    def _cut(
        seeds: Seeds, right: Float[np.ndarray, "h w_1"], down: Float[np.ndarray, "h_1 w"]
    ) -> Bool[np.ndarray, "h w"]:
        foreground_cost = np.where(seeds.background, np.inf, 0.0)
        background_cost = np.where(seeds.foreground, np.inf, 0.0)
        return min_cut(foreground_cost, background_cost, right, down)[0]


def inverse_contrast(photograph: Photograph) -> tuple[Float[np.ndarray, "H W-1"], Float[np.ndarray, "H-1 W"]]:
    """``1 / (1 + squared distance of colour)`` between each pixel and its right and its lower neighbour."""
    colour = photograph.astype(np.float64)
    right = ((colour[:, 1:] - colour[:, :-1]) ** 2).sum(2)
    down = ((colour[1:] - colour[:-1]) ** 2).sum(2)
    return 1 / (1 + right), 1 / (1 + down)


class MaskError(GradcutError):
    """An option from which no masks can be made."""


@dataclass(frozen=True)
class Expansion:
    """The student project's recursive expansion: from the most salient pixels outwards, over salient pixels.

    From each of the ``start`` most salient pixels the mask grows, over the 4-connected grid, to all pixels above
    the ``percentile`` of the map. It looks at neither seeds nor photograph, and is empty where no start lies above
    the percentile, as on a constant map.

    Args:
        start: how many pixels to start from, at least 1; of equal ones the first in reading order.
        percentile: of the map, from 0 to 100.
    """

    start: int = 50
    percentile: float = 90

    def __post_init__(self) -> None:
        if self.start < 1:
            raise MaskError(f"start: expected 1 pixel at least, got {self.start}")
        if not 0 <= self.percentile <= 100:
            raise MaskError(f"percentile: expected a number from 0 to 100, got {self.percentile}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, one in zip(masks, saliency, strict=True):
            mask[:] = images.resize_mask(self._expand(one), photograph.shape[:2])
        return masks

    def _expand(self, saliency: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        # What recursion reaches is the connected part that the start lies in.
        part, _ = ndimage.label(saliency > np.percentile(saliency, self.percentile))
        starts = part.flat[np.argsort(-saliency, axis=None, kind="stable")[: self.start]]
        reached: Bool[np.ndarray, "h w"] = np.isin(part, starts[starts > 0])
        return reached

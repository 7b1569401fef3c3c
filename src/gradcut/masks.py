"""From seeds, saliency and photograph to masks.

A mask maker is called as ``maker(photograph, saliency, seeds)`` with the maps and seeds of all the classes
of one photograph, at the maps' size, and returns ``Bool "n H W"`` at the photograph's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from gradcut import images
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

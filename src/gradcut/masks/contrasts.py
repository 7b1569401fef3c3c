"""How firmly neighbouring pixels hold together: the edge weights of a cut, from the photograph.

A contrast is called as ``contrast(photograph)`` and returns the weights to the right, down, down right and down left,
in the order of `gradcut.masks.maxflow.min_cut`; a maker with 4 neighbours leaves the diagonals out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from skimage.color import rgb2lab
from skimage.filters import sobel

from gradcut.masks.maxflow import ends

#: Weights from 0 to 1 of the edges to the right ``Float "h w-1"``, down ``Float "h-1 w"``, and down right and down left
#: ``Float "h-1 w-1"``; 1 where neighbours look alike.
Edges = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

#: Called with a photograph, which may be of any size, also of one row or column; returns its `Edges`.
Contrast = Callable[[UInt8[np.ndarray, "h w 3"]], Edges]

#: A diagonal neighbour is farther away, and a boundary crosses more of them (Boykov & Kolmogorov 2003).
DIAGONAL = 1 / np.sqrt(2)


@dataclass(frozen=True)
class Inverse:
    """``1 / (1 + |a - b|^2)`` for neighbours of colours a, b (0-255): the student project's weight."""

    def __call__(self, photograph: UInt8[np.ndarray, "h w 3"]) -> Edges:
        right, down, down_right, down_left = (1 / (1 + squared) for squared in squared_steps(photograph))
        return right, down, down_right * DIAGONAL, down_left * DIAGONAL


@dataclass(frozen=True)
class Exponential:
    """``exp(-|a - b|^2 / 2 mean(|a - b|^2))`` in CIELAB (Boykov & Jolly 2001).

    The scale follows the photograph's own contrast, as in GrabCut (Rother et al. 2004).
    """

    def __call__(self, photograph: UInt8[np.ndarray, "h w 3"]) -> Edges:
        return _exponential(squared_steps(rgb2lab(photograph)))


@dataclass(frozen=True)
class EdgeMap:
    """As `Exponential`, of the stronger of two neighbours' edges instead of their difference.

    Edges are Sobel's gradient magnitude of the lightness, which sees three pixels at once, so that noise in single
    pixels counts for less and a soft boundary for more.
    """

    def __call__(self, photograph: UInt8[np.ndarray, "h w 3"]) -> Edges:
        edge = sobel(rgb2lab(photograph)[..., 0])
        return _exponential([np.maximum(a, b) ** 2 for a, b in ends(edge)])


def squared_steps(colour: Float[np.ndarray, "h w c"] | UInt8[np.ndarray, "h w c"]) -> list[np.ndarray]:
    """Squared distance of colour to the four neighbours, in `min_cut`'s order."""
    # A plane at a time: numpy is slow at sums over an axis as short as the channels'.
    planes = np.moveaxis(colour, 2, 0).astype(np.float64, order="C")
    return [np.add.reduce([(a - b) ** 2 for a, b in neighbours]) for neighbours in zip(*map(ends, planes), strict=True)]


#: Of CIELAB: far below a single colour's step of one in 255, far above what rounding leaves of equal colours, which
#: differs from processor to processor.
ROUNDING = 1e-6


def _exponential(squared: list[np.ndarray]) -> Edges:
    """``exp(-squared / 2 mean)``, the mean over the means of the four directions, for 4 neighbours too."""
    squared = [np.where(steps > ROUNDING**2, steps, 0) for steps in squared]
    scale = 2 * float(np.mean([steps.mean() for steps in squared if steps.size] or [0.0])) or 1.0
    right, down, down_right, down_left = (np.exp(-steps / scale) for steps in squared)
    return right, down, down_right * DIAGONAL, down_left * DIAGONAL

"""How firmly neighbouring pixels hold together: the edge weights of a cut, from the photograph.

A contrast is called as ``contrast(photograph)`` and returns the weights to the right, down, down right and down left,
in the order of `gradcut.masks.maxflow.min_cut`; a maker with 4 neighbours leaves the diagonals out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from skimage.color import rgb2lab
from skimage.filters import sobel

Edges = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Contrast = Callable[[UInt8[np.ndarray, "h w 3"]], Edges]

#: A diagonal neighbour is farther away, and a boundary crosses more of them (Boykov & Kolmogorov 2003).
DIAGONAL = 1 / np.sqrt(2)


@dataclass(frozen=True)
class Inverse:
    """``1 / (1 + |a - b|^2)`` for neighbours of colours a, b (0-255): the student project's weight."""

    def __call__(self, photograph: UInt8[np.ndarray, "h w 3"]) -> Edges:
        right, down, down_right, down_left = (1 / (1 + each) for each in squared_steps(photograph))
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
        return _exponential([np.maximum(a, b) ** 2 for a, b in pairs(edge)])


def squared_steps(colour: Float[np.ndarray, "h w c"] | UInt8[np.ndarray, "h w c"]) -> list[np.ndarray]:
    """Squared distance of colour to the four neighbours, in `min_cut`'s order."""
    # A plane at a time: numpy is slow at sums over an axis as short as the channels'.
    planes = np.moveaxis(colour, 2, 0).astype(np.float64, order="C")
    return [np.add.reduce([(a - b) ** 2 for a, b in ends]) for ends in zip(*map(pairs, planes), strict=True)]


def pairs(values: Shaped[np.ndarray, "h w *c"]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The two ends of every edge, in `min_cut`'s order, as views."""
    return (
        (values[:, 1:], values[:, :-1]), (values[1:], values[:-1]),
        (values[1:, 1:], values[:-1, :-1]), (values[1:, :-1], values[:-1, 1:]),
    )  # fmt: skip


#: Of CIELAB: far below a single colour's step of one in 255, far above what rounding leaves of equal colours, which
#: differs from processor to processor.
ROUNDING = 1e-6


def _exponential(squared: list[np.ndarray]) -> Edges:
    squared = [np.where(each > ROUNDING**2, each, 0) for each in squared]
    scale = 2 * float(np.mean([each.mean() for each in squared if each.size] or [0.0])) or 1.0
    right, down, down_right, down_left = (np.exp(-each / scale) for each in squared)
    return right, down, down_right * DIAGONAL, down_left * DIAGONAL

"""Masks from seeds: minimum cuts of the pixel grid, and the random walker.

Seeds are hard: pixels of ``seeds.foreground`` end inside and those of ``seeds.background`` outside, so that a user's
strokes are seeds like any other. Where a maker works on a coarser grid, a place that any foreground seed falls in is
inside, and a place of background seeds alone outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.special import expit
from skimage.color import rgb2lab

from gradcut import images
from gradcut.errors import MaskError, check_least
from gradcut.images import Photograph
from gradcut.masks.contrasts import Contrast, Exponential, Inverse, pairs
from gradcut.masks.makers import enlarged
from gradcut.masks.maxflow import alpha_expansion, min_cut
from gradcut.masks.mixtures import fit_mixture, log_likelihood, products
from gradcut.seeds import Seeds


@dataclass(frozen=True)
class GraphCut:
    """The minimum cut between hard seeds (Boykov & Jolly 2001), one class at a time.

    Neighbouring pixels are held together by the contrast's weights; nothing else draws a pixel to either side.

    Args:
        contrast: the weights between neighbours, see `gradcut.masks.contrasts`; the default is the student project's.
        neighbours: 4, or 8 with the diagonals.
        grid: places a side of a square grid to cut, at least 2; None cuts at the saliency map's size.
    """

    contrast: Contrast = field(default_factory=Inverse)
    neighbours: int = 4
    grid: int | None = None

    def __post_init__(self) -> None:
        _check_neighbours(self.neighbours)
        if self.grid is not None:
            check_least(MaskError, self, grid=2)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        h, w = saliency.shape[1:] if self.grid is None else (self.grid, self.grid)
        edges = self.contrast(images.resize(photograph, (h, w)))[: self.neighbours // 2]
        sides = (_sides(one, (h, w)) for one in seeds)
        return enlarged([_cut(np.zeros((h, w)), *each, edges) for each in sides], photograph)


class Unaries(NamedTuple):
    """What a `ColourCut` minimises, for the n classes of one photograph, beside the smoothness of the boundary.

    ``odds`` are the log odds of being inside, finite; ``inside`` and ``outside`` the seeds, disjoint; ``edges`` the
    weights in the order of `gradcut.masks.maxflow.min_cut`.
    """

    odds: Float[np.ndarray, "n grid grid"]
    inside: Bool[np.ndarray, "n grid grid"]
    outside: Bool[np.ndarray, "n grid grid"]
    edges: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class ColourCut:
    """A cut with unaries: saliency as log odds, and colour models of either side, as in GrabCut (Rother et al. 2004).

    One class at a time, on a square grid of ``grid`` places a side. With ``s`` the saliency relative to its maximum,
    the energy is ``sum_p u_p [L_p = 0] + smoothness sum_pq w_pq [L_p != L_q]`` with the contrast's weights ``w`` and
    ``u = slope (s - middle) + log p(colour | foreground) - log p(colour | background)``, the colours' part clipped to
    ``CLIP`` either way. The colours, in CIELAB, are mixtures of Gaussians fitted to all pixels, weighted in the first
    round by ``sigmoid(10 (s - middle))`` and the rest, afterwards by the mean of ``sigmoid(u)`` and the last cut. A
    seed against what is believed of its pixel counts as ``SURPRISE`` pixels of its own side: a stroke over what the
    saliency has wrong says which colours are wrong elsewhere too.

    Args:
        middle: relative saliency that says nothing either way, above 0 and below 1.
        slope: log odds for the whole range of the saliency; at least 0.
        smoothness: of the boundary, at least 0.
        components: of each mixture; 0 leaves the colours out.
        grid: places a side, at least 2.
        rounds: how often colours are fitted and cut, at least 1.
        contrast: the weights between neighbours, see `gradcut.masks.contrasts`.
        neighbours: 4, or 8 with the diagonals.
    """

    middle: float = 0.45
    slope: float = 6.0
    smoothness: float = 3.0
    components: int = 5
    grid: int = 160
    rounds: int = 1
    contrast: Contrast = field(default_factory=Exponential)
    neighbours: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.middle < 1:
            raise MaskError(f"middle: expected a number above 0 and below 1, got {self.middle}")
        check_least(MaskError, self, slope=0.0, smoothness=0.0, components=0, grid=2, rounds=1)
        _check_neighbours(self.neighbours)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        odds, inside, outside, edges = self.unaries(photograph, saliency, seeds)
        places = zip(odds, inside, outside, strict=True)
        return enlarged([_cut(*each, edges) for each in places], photograph)

    def unaries(self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]) -> Unaries:
        """The energy's terms; with several rounds those of the last."""
        size = (self.grid, self.grid)
        small = images.resize(photograph, size)
        edges = tuple(self.smoothness * weight for weight in self.contrast(small)[: self.neighbours // 2])
        pixels = products(rgb2lab(small).reshape(-1, 3)) if self.components else np.zeros((10, 0), np.float32)
        odds = np.empty((len(saliency), *size))
        inside, outside = np.empty((2, *odds.shape), dtype=bool)
        for n, (one, hard) in enumerate(zip(saliency, seeds, strict=True)):
            inside[n], outside[n] = _sides(hard, size)
            relative = images.resize_map(one, size).astype(np.float64) / (float(one.max()) or 1.0)
            belief = expit(10 * (relative - self.middle))
            for left in reversed(range(self.rounds)):
                odds[n] = self.slope * (relative - self.middle) + self._colour_odds(
                    pixels, belief, inside[n], outside[n]
                )
                if left:
                    belief = (expit(odds[n]) + _cut(odds[n], inside[n], outside[n], edges)) / 2
        return Unaries(odds, inside, outside, edges)

    def _colour_odds(
        self,
        pixels: Float32[np.ndarray, "10 p"],
        belief: Float[np.ndarray, "grid grid"],
        inside: Bool[np.ndarray, "grid grid"],
        outside: Bool[np.ndarray, "grid grid"],
    ) -> Float[np.ndarray, "grid grid"]:
        surprising = np.where(inside, belief < 0.5, outside & (belief > 0.5))
        belief = np.where(surprising, inside, belief)
        weight = np.where(surprising, SURPRISE, 1.0)
        # Neighbours are alike, so a regular sample of the grid fits as well as all of it.
        step = max(1, round(self.grid / SAMPLE))
        sides = [(weight * side)[::step, ::step].ravel() for side in (belief, 1 - belief)]
        # A model needs a pixel for each of its Gaussians.
        if not self.components or min(side.sum() for side in sides) < self.components:
            return np.zeros_like(belief)
        chosen = pixels.reshape(10, *belief.shape)[:, ::step, ::step].reshape(10, -1)
        inside, outside = (log_likelihood(pixels, fit_mixture(chosen, side, self.components)) for side in sides)
        odds: np.ndarray = np.clip(inside - outside, -CLIP, CLIP)
        return odds.reshape(belief.shape)


#: What a pixel's colour can say at most, as log odds: a Gaussian's tails are not to be believed.
CLIP = 5.0

#: Pixels that a seed counts as where the opposite was believed; of 1, 10, 30 and 100, chosen by strokes on 40 objects.
#: The seeds that come from the saliency itself are never against it, so that without strokes nothing changes.
SURPRISE = 30.0

#: Mixtures are fitted to about so many places a side.
SAMPLE = 80


@dataclass(frozen=True)
class JointCut:
    """All classes of a photograph and the background at once, so that they compete for pixels and never overlap.

    The labelling's energy is ``sum_p -u_p(L_p) + smoothness sum_pq w_pq [L_p != L_q]`` with the unaries ``u`` and
    the weights of ``cut`` and ``u = 0`` for the background, minimised by alpha-expansion (Boykov et al. 2001). With
    one class this is ``cut`` itself. A place that foreground seeds of several classes claim goes to one of them.

    Args:
        cut: where unaries, weights and the grid come from.
    """

    cut: ColourCut = field(default_factory=ColourCut)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        odds, inside, outside, edges = self.cut.unaries(photograph, saliency, seeds)
        claimed = inside.any(axis=0)
        costs = np.concatenate([np.where(claimed, np.inf, 0.0)[None], -odds])
        costs[1:][outside | (claimed & ~inside)] = np.inf
        labels, _ = alpha_expansion(costs, *edges)
        masks = enlarged([labels == number for number in range(1, len(costs))], photograph)
        # Halfway between two places both of them may round up.
        for number in range(1, len(masks)):
            masks[number] &= ~masks[:number].any(axis=0)
        return masks


@dataclass(frozen=True)
class RandomWalker:
    """Pixels from which a random walk reaches the foreground's seeds before the background's (Grady 2006).

    The walk steps to a neighbour with a chance in proportion to the contrast's weight. The chance ``x`` of reaching
    the foreground first minimises ``sum_pq w_pq (x_p - x_q)^2``, where the cut minimises ``|x_p - x_q|``: it does
    not shrink the boundary round few seeds. On a square grid, one class at a time.

    Args:
        grid: places a side, at least 2.
        contrast: the weights between neighbours, see `gradcut.masks.contrasts`.
        neighbours: 4, or 8 with the diagonals.
    """

    grid: int = 128
    contrast: Contrast = field(default_factory=Exponential)
    neighbours: int = 4

    def __post_init__(self) -> None:
        check_least(MaskError, self, grid=2)
        _check_neighbours(self.neighbours)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        size = (self.grid, self.grid)
        edges = self.contrast(images.resize(photograph, size))[: self.neighbours // 2]
        # The least chance, as scikit-image's walker has it, to leave a place whose neighbours all differ.
        affinity = _matrix(tuple(weight + 1e-10 for weight in edges), size)
        sides = (_sides(one, size) for one in seeds)
        return enlarged([_first_reached(affinity, *each) > 0.5 for each in sides], photograph)


def _first_reached(
    affinity: sparse.csr_array, inside: Bool[np.ndarray, "h w"], outside: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """The chance of reaching a place inside first; without places inside 0, without places outside else 1."""
    chance = inside.astype(np.float64)
    free = ~(inside | outside)
    if not inside.any() or not outside.any():
        chance[free] = inside.any()
    elif free.any():
        rows = affinity[free.ravel()]
        laplacian = sparse.diags_array(rows.sum(axis=1)) - rows[:, free.ravel()]
        chance[free] = spsolve(laplacian.tocsc(), rows @ chance.ravel())
    return chance


def _matrix(edges: Sequence[np.ndarray], size: tuple[int, int]) -> sparse.csr_array:
    """The weights as a symmetric matrix over the places in reading order."""
    places = np.arange(size[0] * size[1]).reshape(size)
    ends = pairs(places)[: len(edges)]
    a, b = (np.concatenate([end[side].ravel() for end in ends]) for side in (0, 1))
    one_way = sparse.coo_array((np.concatenate([weight.ravel() for weight in edges]), (a, b)), (places.size,) * 2)
    return (one_way + one_way.T).tocsr()


def _sides(seeds: Seeds, size: tuple[int, int]) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Seeds on a grid of another size, disjoint."""
    inside = images.coverage(seeds.foreground, size) > 0
    return inside, (images.coverage(seeds.background, size) > 0) & ~inside


def _cut(
    odds: Float[np.ndarray, "h w"],
    inside: Bool[np.ndarray, "h w"],
    outside: Bool[np.ndarray, "h w"],
    edges: Sequence[np.ndarray],
) -> Bool[np.ndarray, "h w"]:
    foreground_cost = np.where(outside, np.inf, np.maximum(-odds, 0))
    background_cost = np.where(inside, np.inf, np.maximum(odds, 0))
    return min_cut(foreground_cost, background_cost, *edges)[0]


def _check_neighbours(neighbours: int) -> None:
    if neighbours not in (4, 8):
        raise MaskError(f"neighbours: expected 4 or 8, got {neighbours!r}")

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
from jaxtyping import Bool, Float, Float32, Float64
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.special import expit
from skimage.color import rgb2lab

from gradcut import images
from gradcut.compact import CompactMask
from gradcut.errors import MaskError, check_least
from gradcut.images import Photograph
from gradcut.masks.contrasts import Contrast, Exponential, Inverse
from gradcut.masks.makers import CompactMaker, check_between, check_callable, check_input, enlarged, only_more
from gradcut.masks.maxflow import alpha_expansion, ends, min_cut
from gradcut.masks.mixtures import fit_mixture, log_likelihood, products
from gradcut.seeds import Seeds, is_constant


@dataclass(frozen=True)
class GraphCut(CompactMaker):
    """The minimum cut between hard seeds (Boykov & Jolly 2001), one class at a time.

    Neighbouring pixels are held together by the contrast's weights; nothing else draws a pixel to either side.

    Args:
        contrast: the weights between neighbours, see `gradcut.masks.contrasts`; the default is the student project's.
        neighbours: 4, or 8 with the diagonals.
        grid: places a side of a square grid to cut, at least 2; None cuts at the saliency map's size.

    Raises:
        MaskError: an option outside its range.
    """

    contrast: Contrast = field(default_factory=Inverse)
    neighbours: int = 4
    grid: int | None = None

    def __post_init__(self) -> None:
        _check_neighbours(self)
        check_callable(self, "contrast", "a contrast")
        if self.grid is not None:
            check_least(MaskError, self, grid=2)

    def compact(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> list[CompactMask]:
        check_input(photograph, saliency, seeds)
        h, w = saliency.shape[1:] if self.grid is None else (self.grid, self.grid)
        pairwise = self.contrast(images.resize(photograph, (h, w)))[: self.neighbours // 2]
        unary = np.zeros((h, w))
        size = photograph.shape[:2]
        return [CompactMask(_minimum(unary, _trimap(drawn, (h, w)), pairwise), size) for drawn in seeds]


class Energy(NamedTuple):
    """What a `ColourCut` minimises, for the n classes of one photograph, on its square grid.

    Attributes:
        unary: the log odds of being foreground, finite.
        foreground, background: the hard seeds, disjoint.
        pairwise: the weights between neighbours, in the order of `gradcut.masks.maxflow.min_cut`, times the
            smoothness; two arrays with 4 neighbours, four with 8.
    """

    unary: Float[np.ndarray, "n grid grid"]
    foreground: Bool[np.ndarray, "n grid grid"]
    background: Bool[np.ndarray, "n grid grid"]
    pairwise: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class ColourCut(CompactMaker):
    """A cut with unaries: saliency as log odds, and colour models of either side, as in GrabCut (Rother et al. 2004).

    One class at a time, on a square grid of ``grid`` places a side. With ``s`` the saliency relative to its maximum,
    the energy is ``sum_p u_p [L_p = 0] + smoothness sum_pq w_pq [L_p != L_q]`` with the contrast's weights ``w`` and
    ``u = slope (s - middle) + log p(colour | foreground) - log p(colour | background)``, the colours' part clipped to
    ``clip`` either way. The colours, in CIELAB, are mixtures of Gaussians fitted to the pixels, weighted in the first
    round by ``sigmoid(steepness (s - middle))`` and the rest, afterwards by the mean of ``sigmoid(u)`` and the last
    cut. A seed where the opposite is more probable counts as ``seed_weight`` pixels of its own side: a stroke over
    what the saliency has wrong says which colours are wrong elsewhere too. Where saliency is 0 everywhere the mask is
    empty.

    Args:
        middle: relative saliency that says nothing either way, above 0 and below 1.
        slope: log odds for the whole range of the saliency; at least 0.
        smoothness: of the boundary, at least 0.
        components: of each mixture; 0 leaves the colours out.
        grid: places a side, at least 2.
        rounds: how often colours are fitted and cut, at least 1.
        contrast: the weights between neighbours, see `gradcut.masks.contrasts`.
        neighbours: 4, or 8 with the diagonals.
        steepness: of the first round's weights for the colours, at least 0.
        clip: what a pixel's colour can say at most, as log odds, at least 0: a Gaussian's tails are not to be
            believed.
        seed_weight: pixels that a seed counts as where the saliency says the opposite, at least 0; of 1, 10, 30 and
            100, chosen by strokes on 40 objects. Seeds that come from the saliency itself hardly contradict it, so
            that without strokes little depends on this.
        sample: mixtures are fitted to about so many places a side, at least 1: neighbours are alike.
        least_variance: of each Gaussian along every axis, in squared units of CIELAB, above 0: two colours nearer
            than about 4.5 units are hardly told apart.
        iterations: of expectation maximisation, at least 1; the split that it begins with is near a maximum already.

    Raises:
        MaskError: an option outside its range.
    """

    middle: float = 0.45
    slope: float = 6.0
    smoothness: float = 3.0
    components: int = 5
    grid: int = 160
    rounds: int = 1
    contrast: Contrast = field(default_factory=Exponential)
    neighbours: int = 8
    steepness: float = 10.0
    clip: float = 5.0
    seed_weight: float = 30.0
    sample: int = 80
    least_variance: float = 20.0
    iterations: int = 8

    def __post_init__(self) -> None:
        check_between(self, "middle", 0, 1)
        check_between(self, "least_variance", 0)
        check_least(MaskError, self, slope=0.0, smoothness=0.0, steepness=0.0, clip=0.0, seed_weight=0.0)
        check_least(MaskError, self, components=0, grid=2, rounds=1, sample=1, iterations=1)
        _check_neighbours(self)
        check_callable(self, "contrast", "a contrast")

    def compact(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> list[CompactMask]:
        unary, foreground, background, pairwise = self.energy(photograph, saliency, seeds)
        trimaps, size = map(Seeds, foreground, background), photograph.shape[:2]
        return [CompactMask(_minimum(u, trimap, pairwise), size) for u, trimap in zip(unary, trimaps, strict=True)]

    def energy(self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]) -> Energy:
        """The energy's terms; with several rounds those of the last.

        Raises:
            MaskError: a photograph, maps or seeds that do not go together.
        """
        check_input(photograph, saliency, seeds)
        size = (self.grid, self.grid)
        small = images.resize(photograph, size)
        pairwise = tuple(self.smoothness * weight for weight in self.contrast(small)[: self.neighbours // 2])
        colours = products(rgb2lab(small).reshape(-1, 3)) if self.components else np.zeros((10, 0), np.float32)
        unary = np.empty((len(saliency), *size))
        trimaps = [_trimap(drawn, size) for drawn in seeds]
        for n, (class_map, trimap) in enumerate(zip(saliency, trimaps, strict=True)):
            relative = _relative(class_map, size)
            probability = expit(self.steepness * (relative - self.middle))
            for rounds_left in reversed(range(self.rounds)):
                unary[n] = self.slope * (relative - self.middle) + self._colour_odds(colours, probability, trimap)
                if rounds_left:
                    probability = (expit(unary[n]) + _minimum(unary[n], trimap, pairwise)) / 2
        foreground, background = np.zeros((2, *unary.shape), dtype=bool)
        for n, trimap in enumerate(trimaps):
            foreground[n], background[n] = trimap
        return Energy(unary, foreground, background, pairwise)

    def unmoved(self, saliency: Float[np.ndarray, "h w"], before: Seeds, after: Seeds) -> bool:
        """Whether added seeds leave the colours' models alone: then a cut that agrees with them is still the least."""
        if not only_more(before, after):
            return False
        size = (self.grid, self.grid)
        probability = expit(self.steepness * (_relative(saliency, size) - self.middle))
        contradicted = [_contradicted(probability, _trimap(seeds, size)) for seeds in (before, after)]
        return bool((contradicted[0] == contradicted[1]).all())

    def _colour_odds(
        self, colours: Float32[np.ndarray, "10 p"], probability: Float[np.ndarray, "grid grid"], trimap: Seeds
    ) -> Float[np.ndarray, "grid grid"]:
        """``log p(colour | foreground) - log p(colour | background)``, clipped; 0 where too few pixels are left."""
        is_contradicted = _contradicted(probability, trimap)
        probability = np.where(is_contradicted, trimap.foreground, probability)
        weight = np.where(is_contradicted, self.seed_weight, 1.0)
        step = max(1, round(self.grid / self.sample))
        weights = [(weight * side)[::step, ::step].ravel() for side in (probability, 1 - probability)]
        # A model needs a pixel for each of its Gaussians.
        if not self.components or min(side.sum() for side in weights) < self.components:
            return np.zeros_like(probability)
        sample = colours.reshape(10, *probability.shape)[:, ::step, ::step].reshape(10, -1)
        foreground, background = (
            log_likelihood(colours, fit_mixture(sample, side, self.components, self.least_variance, self.iterations))
            for side in weights
        )
        odds: np.ndarray = np.clip(foreground - background, -self.clip, self.clip)
        return odds.reshape(probability.shape)


@dataclass(frozen=True)
class JointCut:
    """All classes of a photograph and the background at once, so that they compete for pixels and never overlap.

    The labelling's energy is ``sum_p -u_p(L_p) + smoothness sum_pq w_pq [L_p != L_q]`` with the unaries ``u`` and
    the weights of ``cut`` and ``u = 0`` for the background, minimised by alpha-expansion (Boykov et al. 2001). With
    one class this is ``cut`` itself. A place that foreground seeds of several classes claim goes to one of them.

    Args:
        cut: where unaries, weights and the grid come from.

    Raises:
        MaskError: an option outside its range.
    """

    cut: ColourCut = field(default_factory=ColourCut)

    def __post_init__(self) -> None:
        if not isinstance(self.cut, ColourCut):
            raise MaskError(f"cut: expected a ColourCut, got {self.cut!r}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        unary, foreground, background, pairwise = self.cut.energy(photograph, saliency, seeds)
        claimed = foreground.any(axis=0)
        costs = np.concatenate([np.where(claimed, np.inf, 0.0)[None], -unary])
        costs[1:][background | (claimed & ~foreground)] = np.inf
        labels, _ = alpha_expansion(costs, *pairwise)
        masks = enlarged([labels == number for number in range(1, len(costs))], photograph)
        # Halfway between two places both of them may round up.
        for number in range(1, len(masks)):
            masks[number] &= ~masks[:number].any(axis=0)
        return masks


@dataclass(frozen=True)
class RandomWalker(CompactMaker):
    """Pixels from which a random walk reaches the foreground's seeds before the background's (Grady 2006).

    The walk steps to a neighbour with a chance in proportion to the contrast's weight. The chance ``x`` of reaching
    the foreground first minimises ``sum_pq w_pq (x_p - x_q)^2``, where the cut minimises ``|x_p - x_q|``: it does
    not shrink the boundary round few seeds. On a square grid, one class at a time.

    Args:
        grid: places a side, at least 2.
        contrast: the weights between neighbours, see `gradcut.masks.contrasts`.
        neighbours: 4, or 8 with the diagonals.

    Raises:
        MaskError: an option outside its range.
    """

    grid: int = 128
    contrast: Contrast = field(default_factory=Exponential)
    neighbours: int = 4

    def __post_init__(self) -> None:
        check_least(MaskError, self, grid=2)
        _check_neighbours(self)
        check_callable(self, "contrast", "a contrast")

    def compact(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> list[CompactMask]:
        check_input(photograph, saliency, seeds)
        size = (self.grid, self.grid)
        pairwise = self.contrast(images.resize(photograph, size))[: self.neighbours // 2]
        # The least chance, as scikit-image's walker has it, to leave a place whose neighbours all differ.
        affinity = _affinity(tuple(weight + 1e-10 for weight in pairwise), size)
        chances = (_foreground_chance(affinity, _trimap(drawn, size)) for drawn in seeds)
        # Halfway between the seeds of a flat photograph the solver's rounding would decide: ties are background.
        return [CompactMask(chance > 0.5 + 1e-9, photograph.shape[:2]) for chance in chances]


def _foreground_chance(affinity: sparse.csr_array, trimap: Seeds) -> Float[np.ndarray, "h w"]:
    """The chance to reach the foreground first; 0 everywhere without foreground, else 1 without background."""
    chance = trimap.foreground.astype(np.float64)
    is_unknown = ~(trimap.foreground | trimap.background)
    if not trimap.foreground.any() or not trimap.background.any():
        chance[is_unknown] = trimap.foreground.any()
    elif is_unknown.any():
        rows = affinity[is_unknown.ravel()]
        laplacian = sparse.diags_array(rows.sum(axis=1)) - rows[:, is_unknown.ravel()]
        chance[is_unknown] = spsolve(laplacian.tocsc(), rows @ chance.ravel())
    return chance


def _affinity(pairwise: Sequence[np.ndarray], size: tuple[int, int]) -> sparse.csr_array:
    """The weights as a symmetric matrix over the places in reading order."""
    places = np.arange(size[0] * size[1]).reshape(size)
    neighbours = ends(places)[: len(pairwise)]
    a, b = (np.concatenate([pair[side].ravel() for pair in neighbours]) for side in (0, 1))
    one_way = sparse.coo_array((np.concatenate([weight.ravel() for weight in pairwise]), (a, b)), (places.size,) * 2)
    return (one_way + one_way.T).tocsr()


def _contradicted(probability: Float[np.ndarray, "h w"], trimap: Seeds) -> Bool[np.ndarray, "h w"]:
    """Seeds where the saliency says the opposite."""
    contradicted: np.ndarray = np.where(trimap.foreground, probability < 0.5, trimap.background & (probability > 0.5))
    return contradicted


def _relative(saliency: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float64[np.ndarray, "grid grid"]:
    """The saliency on a grid, as a share of its maximum."""
    maximum = float(saliency.max())
    if is_constant(saliency):  # its rounding would decide between classes that are all alike
        return np.full(size, float(maximum > 0))
    return images.resize_map(saliency, size).astype(np.float64) / maximum


def _trimap(seeds: Seeds, size: tuple[int, int]) -> Seeds:
    """Seeds on a grid of another size, disjoint: foreground, background, and unknown elsewhere."""
    foreground = images.coverage(seeds.foreground, size) > 0
    return Seeds(foreground, (images.coverage(seeds.background, size) > 0) & ~foreground)


def _minimum(unary: Float[np.ndarray, "h w"], trimap: Seeds, pairwise: Sequence[np.ndarray]) -> Bool[np.ndarray, "h w"]:
    """The labelling of least energy, true in the foreground; ``unary`` are log odds of the foreground."""
    foreground_cost = np.where(trimap.background, np.inf, np.maximum(-unary, 0))
    background_cost = np.where(trimap.foreground, np.inf, np.maximum(unary, 0))
    return min_cut(foreground_cost, background_cost, *pairwise)[0]


def _check_neighbours(maker: GraphCut | ColourCut | RandomWalker) -> None:
    # 8.0 would be equal to 8, but is no slice's end.
    if maker.neighbours not in (4, 8) or not isinstance(maker.neighbours, int):
        raise MaskError(f"neighbours: expected 4 or 8, got {maker.neighbours!r}")

"""From seeds, saliency and photograph to masks.

A mask maker is called as ``maker(photograph, saliency, seeds)`` with the maps and seeds of all the classes
of one photograph, at the maps' size, and returns ``Bool "n H W"`` at the photograph's size. The cuts and the random
walker take seeds as hard: pixels of ``seeds.foreground`` end inside and those of ``seeds.background`` outside, so a
user's strokes are seeds like any other. The thresholds, `Superpixels` and `Expansion` look at the saliency alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.special import expit
from skimage.color import rgb2lab
from skimage.filters import threshold_otsu
from skimage.segmentation import random_walker, slic

from gradcut import images
from gradcut.contrasts import Contrast, Exponential, Inverse
from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.maxflow import alpha_expansion, min_cut
from gradcut.mixtures import fit_mixture, log_likelihood
from gradcut.seeds import Seeds

MaskMaker = Callable[[Photograph, Float[np.ndarray, "n h w"], Sequence[Seeds]], Bool[np.ndarray, "n H W"]]


class MaskError(GradcutError):
    """An option from which no masks can be made."""


@dataclass(frozen=True)
class GraphCut:
    """The minimum cut between hard seeds (Boykov & Jolly 2001), one class at a time.

    Neighbouring pixels are held together by the contrast's weights; nothing else draws a pixel to either side. The
    cut is made at the saliency map's size.

    Args:
        contrast: the weights between neighbours, see `gradcut.contrasts`; the default is the student project's.
        neighbours: 4, or 8 with the diagonals.
    """

    contrast: Contrast = field(default=Inverse())
    neighbours: Literal[4, 8] = 4

    def __post_init__(self) -> None:
        _check_neighbours(self.neighbours)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        edges = self.contrast(images.resize(photograph, saliency.shape[1:]))[: self.neighbours // 2]
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, one in zip(masks, seeds, strict=True):
            foreground_cost = np.where(one.background, np.inf, 0.0)
            background_cost = np.where(one.foreground, np.inf, 0.0)
            mask[:] = images.resize_mask(min_cut(foreground_cost, background_cost, *edges)[0], mask.shape)
        return masks


@dataclass(frozen=True)
class ColourCut:
    """A cut with unaries: saliency as log odds, and colour models of either side, as in GrabCut (Rother et al. 2004).

    One class at a time, on a square grid of ``grid`` places a side. With ``s`` the saliency relative to its maximum,
    the energy is ``sum_p u_p [L_p = 0] + smoothness sum_pq w_pq [L_p != L_q]`` with the contrast's weights ``w`` and
    ``u = slope (s - middle) + log p(colour | foreground) - log p(colour | background)``, the colours' part clipped to
    ``CLIP`` either way. The colours, in CIELAB, are mixtures of Gaussians fitted to all pixels, weighted in the first
    round by ``sigmoid(10 (s - middle))`` and the rest, afterwards by the mean of ``sigmoid(u)`` and the last cut.

    Seeds are hard: a place that any foreground seed falls in is inside, a place of background seeds alone outside.

    Args:
        middle: relative saliency that says nothing either way, above 0 and below 1.
        slope: log odds for the whole range of the saliency; at least 0.
        smoothness: of the boundary, at least 0.
        components: of each mixture; 0 leaves the colours out.
        grid: places a side, at least 2.
        rounds: how often colours are fitted and cut, at least 1.
        contrast: the weights between neighbours, see `gradcut.contrasts`.
        neighbours: 4, or 8 with the diagonals.
    """

    middle: float = 0.6
    slope: float = 6.0
    smoothness: float = 3.0
    components: int = 5
    grid: int = 160
    rounds: int = 1
    contrast: Contrast = field(default=Exponential())
    neighbours: Literal[4, 8] = 8

    def __post_init__(self) -> None:
        if not 0 < self.middle < 1:
            raise MaskError(f"middle: expected a number above 0 and below 1, got {self.middle}")
        least = {"slope": 0, "smoothness": 0, "components": 0, "grid": 2, "rounds": 1}
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise MaskError(f"{name}: expected at least {value}, got {getattr(self, name)}")
        _check_neighbours(self.neighbours)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, (odds, edges) in zip(masks, self._prepared(photograph, saliency, seeds), strict=True):
            mask[:] = images.resize_mask(_cut(odds, edges), mask.shape)
        return masks

    def posterior(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Float[np.ndarray, "n grid grid"]:
        """Each place's probability of being inside, before its neighbours have their say; 0 and 1 at seeds."""
        found = [expit(odds) for odds, _ in self._prepared(photograph, saliency, seeds)]
        return np.stack(found) if found else np.zeros((0, self.grid, self.grid))

    def log_odds(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> tuple[Float[np.ndarray, "n grid grid"], tuple[np.ndarray, ...]]:
        """The unaries ``u``, infinite at seeds, and the edge weights."""
        prepared = list(self._prepared(photograph, saliency, seeds))
        if not prepared:
            return np.zeros((0, self.grid, self.grid)), ()
        return np.stack([odds for odds, _ in prepared]), prepared[0][1]

    def _prepared(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Iterator[tuple[Float[np.ndarray, "grid grid"], tuple[np.ndarray, ...]]]:
        size = (self.grid, self.grid)
        small = images.resize(photograph, size)
        edges = tuple(self.smoothness * weight for weight in self.contrast(small)[: self.neighbours // 2])
        colours = rgb2lab(small).reshape(-1, 3)
        for one, hard in zip(saliency, seeds, strict=True):
            relative = images.resize_map(one, size).astype(np.float64) / (float(one.max()) or 1.0)
            inside = images.coverage(hard.foreground, size) > 0
            outside = (images.coverage(hard.background, size) > 0) & ~inside
            yield self._one(colours, relative, inside, outside, edges), edges

    def _one(
        self,
        colours: Float[np.ndarray, "p 3"],
        relative: Float[np.ndarray, "grid grid"],
        inside: Bool[np.ndarray, "grid grid"],
        outside: Bool[np.ndarray, "grid grid"],
        edges: tuple[np.ndarray, ...],
    ) -> Float[np.ndarray, "grid grid"]:
        saliency_odds = self.slope * (relative - self.middle)
        belief = expit(10 * (relative - self.middle))
        for number in range(self.rounds):
            odds = saliency_odds + self._colour_odds(colours, belief)
            odds[inside], odds[outside] = np.inf, -np.inf
            if number + 1 < self.rounds:
                belief = (expit(odds) + _cut(odds, edges)) / 2
        return odds

    def _colour_odds(
        self, colours: Float[np.ndarray, "p 3"], belief: Float[np.ndarray, "grid grid"]
    ) -> Float[np.ndarray, "grid grid"]:
        sides = belief.ravel(), 1 - belief.ravel()
        # A model needs a pixel for each of its Gaussians.
        if not self.components or min(side.sum() for side in sides) < self.components:
            return np.zeros_like(belief)
        # Neighbours are alike, so a regular sample of the grid fits as well as all of it.
        step = max(1, round(self.grid / SAMPLE))
        sample = np.zeros(belief.shape, dtype=bool)
        sample[::step, ::step] = True
        chosen = sample.ravel()
        models = [fit_mixture(colours[chosen], side[chosen], self.components) for side in sides]
        likelihoods = [log_likelihood(colours, model) for model in models]
        odds: np.ndarray = np.clip(likelihoods[0] - likelihoods[1], -CLIP, CLIP).reshape(belief.shape)
        return odds


#: What a pixel's colour can say at most, as log odds: a Gaussian's tails are not to be believed.
CLIP = 5.0

#: Mixtures are fitted to about so many places a side.
SAMPLE = 80


def _cut(odds: Float[np.ndarray, "h w"], edges: Sequence[np.ndarray]) -> Bool[np.ndarray, "h w"]:
    labels, _ = min_cut(np.maximum(-odds, 0), np.maximum(odds, 0), *edges)
    return labels


def _check_neighbours(neighbours: int) -> None:
    if neighbours not in (4, 8):
        raise MaskError(f"neighbours: expected 4 or 8, got {neighbours!r}")


@dataclass(frozen=True)
class JointCut:
    """All classes of a photograph and the background at once, so that they compete for pixels and never overlap.

    The labelling's energy is ``sum_p -u_p(L_p) + smoothness sum_pq w_pq [L_p != L_q]`` with the unaries ``u`` and
    the weights of ``cut`` and ``u = 0`` for the background, minimised by alpha-expansion (Boykov et al. 2001). With
    one class this is ``cut`` itself. A pixel that is a foreground seed of several classes is the first one's.

    Args:
        cut: where unaries, weights and the grid come from.
    """

    cut: ColourCut = ColourCut()

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        if not len(masks):
            return masks
        odds, edges = self.cut.log_odds(photograph, saliency, seeds)
        costs = np.concatenate([np.zeros_like(odds[:1]), -odds])
        taken = np.zeros(odds.shape[1:], dtype=bool)
        for number, certain in enumerate(odds == np.inf, start=1):
            mine = certain & ~taken
            costs[:, mine] = np.inf
            costs[number, mine] = 0
            taken |= mine
        labels, _ = alpha_expansion(costs, *edges)
        for number, mask in enumerate(masks, start=1):
            mask[:] = images.resize_mask(labels == number, mask.shape)
        return masks


@dataclass(frozen=True)
class RandomWalker:
    """Pixels from which a random walk reaches the foreground's seeds before the background's (Grady 2006).

    The chance of a step falls with ``exp(-beta |a - b|^2)`` of the colours. On a square grid, one class at a time.

    Args:
        beta: how much contrast hinders a walk, above 0.
        grid: places a side, at least 2; seeds are brought to it as `ColourCut` does.
    """

    beta: float = 130.0
    grid: int = 128

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise MaskError(f"beta: expected a number above 0, got {self.beta}")
        if self.grid < 2:
            raise MaskError(f"grid: expected at least 2, got {self.grid}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, chance in zip(masks, self.posterior(photograph, saliency, seeds), strict=True):
            mask[:] = images.resize_mask(chance > 0.5, mask.shape)
        return masks

    def posterior(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Float[np.ndarray, "n grid grid"]:
        """Each place's probability of reaching the foreground first."""
        size = (self.grid, self.grid)
        small = images.resize(photograph, size)
        chances = np.zeros((len(saliency), *size))
        for chance, one in zip(chances, seeds, strict=True):
            inside = images.coverage(one.foreground, size) > 0
            outside = (images.coverage(one.background, size) > 0) & ~inside
            marks = np.where(inside, 1, np.where(outside, 2, 0))
            if not outside.any() or marks.all():
                chance[:] = inside if outside.any() else 1.0
                continue
            chance[:] = random_walker(
                small, marks, beta=self.beta, mode="cg_j", channel_axis=-1, return_full_prob=True
            )[0]
        return chances


@dataclass(frozen=True)
class Threshold:
    """Pixels whose saliency lies above a fraction of the map's maximum, at the photograph's size.

    Args:
        at: the fraction, from 0 up to 1.
    """

    at: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.at < 1:
            raise MaskError(f"at: expected a fraction from 0 to less than 1, got {self.at}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, one in zip(masks, saliency, strict=True):
            mask[:] = images.resize_map(one, mask.shape) > self.at * float(one.max())
        return masks


@dataclass(frozen=True)
class Otsu:
    """Pixels above the threshold that separates the map's values best (Otsu 1979), at the photograph's size.

    It maximises the variance between the two sides, so the mask's size follows the map. A constant map gives an
    empty mask.
    """

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, one in zip(masks, saliency, strict=True):
            if one.min() < one.max():
                mask[:] = images.resize_map(one, mask.shape) > threshold_otsu(one)
        return masks


@dataclass(frozen=True)
class Superpixels:
    """Superpixels (SLIC, Achanta et al. 2012) whose mean saliency lies above a fraction of the map's maximum.

    A fast path without a cut: one segmentation of the photograph, on a square grid, for all its classes.

    Args:
        count: about how many superpixels, at least 1.
        compactness: how much place counts against colour; above 0.
        at: the fraction of the maximum, from 0 up to 1.
        grid: places a side, at least 2.
    """

    count: int = 400
    compactness: float = 10.0
    at: float = 0.4
    grid: int = 160

    def __post_init__(self) -> None:
        if self.count < 1 or self.grid < 2:
            raise MaskError(f"count, grid: expected at least 1 and 2, got {self.count} and {self.grid}")
        if not self.compactness > 0:
            raise MaskError(f"compactness: expected a number above 0, got {self.compactness}")
        if not 0 <= self.at < 1:
            raise MaskError(f"at: expected a fraction from 0 to less than 1, got {self.at}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        size = (self.grid, self.grid)
        parts = slic(images.resize(photograph, size), self.count, self.compactness, start_label=0)
        pixels = np.bincount(parts.ravel())
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, one in zip(masks, saliency, strict=True):
            mean = np.bincount(parts.ravel(), images.resize_map(one, size).ravel()) / pixels
            mask[:] = images.resize_mask((mean > self.at * float(one.max()))[parts], mask.shape)
        return masks


@dataclass(frozen=True)
class Cleaned:
    """Another maker's masks without small holes and crumbs (connected over the edges of pixels).

    Args:
        maker: whose masks.
        holes: fill holes smaller than this share of the photograph, from 0 up to 1.
        crumbs: drop parts smaller than this share; the largest part always stays.
    """

    maker: MaskMaker
    holes: float = 0.001
    crumbs: float = 0.001

    def __post_init__(self) -> None:
        for name in ("holes", "crumbs"):
            if not 0 <= getattr(self, name) <= 1:
                raise MaskError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = self.maker(photograph, saliency, seeds)
        return np.stack([self._clean(mask) for mask in masks]) if len(masks) else masks

    def _clean(self, mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        parts, _ = ndimage.label(mask)
        sizes = np.bincount(parts.ravel())
        if len(sizes) > 1:
            kept = sizes >= min(self.crumbs * mask.size, sizes[1:].max())
            kept[0] = False
            mask = kept[parts]
        gaps, _ = ndimage.label(~mask)
        # A hole touches no border; what does is the outside.
        open_gaps = np.unique(np.concatenate([gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]]))
        filled = np.bincount(gaps.ravel()) < self.holes * mask.size
        filled[open_gaps] = False
        filled[0] = False
        cleaned: Bool[np.ndarray, "H W"] = mask | filled[gaps]
        return cleaned


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

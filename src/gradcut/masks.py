"""From seeds, saliency and photograph to masks.

A mask maker is called as ``maker(photograph, saliency, seeds)`` with the maps and seeds of all the classes
of one photograph, at the maps' size, and returns ``Bool "n H W"`` at the photograph's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.special import expit, logsumexp
from skimage.color import rgb2lab

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
class ColourCut:
    """A cut with unaries: saliency as log odds, and colour models of either side, as in GrabCut (Rother et al. 2004).

    One class at a time, on a square grid of ``grid`` places a side, in CIELAB. With ``s`` the saliency relative to
    its maximum, foreground and background colours are mixtures of ``components`` Gaussians, fitted with the weights
    ``sigmoid(10 (s - middle))`` and the rest. The energy is ``sum_p u_p [L_p = 0] + sum_pq w_pq [L_p != L_q]`` with
    ``u = slope (s - middle) + log p(colour | foreground) - log p(colour | background)``, the colours' part clipped to
    5 either way, and over 8 neighbours Boykov and Jolly's (2001) contrast ``w = smoothness exp(-d^2 / 2 mean(d^2))``,
    diagonals divided by ``sqrt 2``. Seeds are hard: a place that any foreground seed falls in is inside, a place of
    background seeds alone outside.

    Args:
        middle: relative saliency that says nothing either way, above 0 and below 1.
        slope: log odds for the whole range of the saliency; at least 0.
        smoothness: of the boundary, at least 0.
        components: of each mixture; 0 leaves the colours out.
        grid: places a side, at least 2.
    """

    middle: float = 0.45
    slope: float = 6.0
    smoothness: float = 3.0
    components: int = 5
    grid: int = 160

    def __post_init__(self) -> None:
        if not 0 < self.middle < 1:
            raise MaskError(f"middle: expected a number above 0 and below 1, got {self.middle}")
        for name, least in (("slope", 0), ("smoothness", 0), ("components", 0), ("grid", 2)):
            if not getattr(self, name) >= least:
                raise MaskError(f"{name}: expected at least {least}, got {getattr(self, name)}")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        size = (self.grid, self.grid)
        colour = rgb2lab(images.resize(photograph, size))
        weights = exponential_contrast(colour, self.smoothness)
        masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
        for mask, one, hard in zip(masks, saliency, seeds, strict=True):
            odds = self._log_odds(colour, images.resize_map(one, size) / (float(one.max()) or 1.0))
            inside = images.coverage(hard.foreground, size) > 0
            outside = (images.coverage(hard.background, size) > 0) & ~inside
            foreground_cost = np.where(outside, np.inf, np.maximum(-odds, 0))
            background_cost = np.where(inside, np.inf, np.maximum(odds, 0))
            cut, _ = min_cut(foreground_cost, background_cost, *weights)
            mask[:] = images.resize_mask(cut, photograph.shape[:2])
        return masks

    def _log_odds(self, colour: Float[np.ndarray, "h w 3"], relative: Float[np.ndarray, "h w"]) -> np.ndarray:
        odds: np.ndarray = self.slope * (relative.astype(np.float64) - self.middle)
        inside = expit(10 * (relative.astype(np.float64) - self.middle)).ravel()
        if not self.components or min(inside.sum(), (1 - inside).sum()) < self.components:
            return odds
        pixels: np.ndarray = colour.reshape(-1, 3).astype(np.float64)
        likelihoods = [log_likelihood(pixels, fit_mixture(pixels, w, self.components)) for w in (inside, 1 - inside)]
        odds += np.clip(likelihoods[0] - likelihoods[1], -5, 5).reshape(odds.shape)
        return odds


def exponential_contrast(
    colour: Float[np.ndarray, "h w c"], smoothness: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boykov and Jolly's (2001) edge weights to the right, down, down right and down left, in `min_cut`'s order."""
    pairs = (
        (colour[:, 1:], colour[:, :-1]), (colour[1:], colour[:-1]),
        (colour[1:, 1:], colour[:-1, :-1]), (colour[1:, :-1], colour[:-1, 1:]),
    )  # fmt: skip
    squared = [((a - b) ** 2).sum(2).astype(np.float64) for a, b in pairs]
    scale = 2 * float(np.mean([each.mean() for each in squared])) or 1.0
    right, down, down_right, down_left = (smoothness * np.exp(-each / scale) for each in squared)
    return right, down, down_right / np.sqrt(2), down_left / np.sqrt(2)


class Mixture(NamedTuple):
    """Gaussians: log weights ``k``, means ``k 3``, inverse covariances ``k 3 3``, their log determinants ``k``."""

    weight: np.ndarray
    mean: np.ndarray
    precision: np.ndarray
    determinant: np.ndarray


def fit_mixture(
    pixels: Float[np.ndarray, "p 3"], weight: Float[np.ndarray, " p"], components: int, rounds: int = 8
) -> Mixture:
    """Weighted expectation maximisation (Dempster et al. 1977), deterministic.

    It begins, as GrabCut does (Orchard & Bouman 1991), by splitting the part with the largest variance along its
    principal axis until there are enough parts. Covariances are held above 20 squared CIELAB units.
    """
    part = np.zeros(len(pixels), dtype=int)
    moments = [_moments(pixels, weight)]
    for new in range(1, components):
        widest = int(np.argmax([values[-1] * share for _, values, _, share in moments]))
        mean, _, axis, _ = moments[widest]
        members = part == widest
        part[members & ((pixels - mean) @ axis > 0)] = new
        moments[widest] = _moments(pixels[part == widest], weight[part == widest])
        moments.append(_moments(pixels[part == new], weight[part == new]))
    mixture = _maximised(pixels, weight, np.eye(components)[part])
    for _ in range(rounds - 1):
        joint = _joint(pixels, mixture)
        mixture = _maximised(pixels, weight, np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))
    return mixture


def _maximised(pixels: np.ndarray, weight: np.ndarray, share: np.ndarray) -> Mixture:
    """The mixture in which component k answers for ``share[:, k]`` of every pixel."""
    each = share * weight[:, None]
    total = each.sum(0) + 1e-8
    mean = each.T @ pixels / total[:, None]
    covariance = np.empty((len(total), 3, 3))
    for k in range(len(total)):
        away = pixels - mean[k]
        covariance[k] = (away * each[:, k, None]).T @ away / total[k] + 20 * np.eye(3)
    return Mixture(np.log(total / total.sum()), mean, np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1])


def _moments(pixels: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean, ascending variances along the principal axes, the principal axis, and the weight of a part."""
    total = float(weight.sum())
    if total < 1e-6:
        return np.zeros(3), np.zeros(3), np.array([0.0, 0, 1]), 0.0
    mean = weight @ pixels / total
    away = pixels - mean
    values, axes = np.linalg.eigh((away * weight[:, None]).T @ away / total)
    return mean, values, axes[:, -1], total


def _joint(pixels: np.ndarray, mixture: Mixture) -> np.ndarray:
    """``log(weight_k p_k(pixel))``, shape p k."""
    columns = []
    for weight, mean, precision, determinant in zip(*mixture, strict=True):
        away = pixels - mean
        distance = ((away @ precision) * away).sum(1)
        columns.append(weight - 0.5 * (distance + determinant + 3 * np.log(2 * np.pi)))
    return np.stack(columns, axis=1)


def log_likelihood(pixels: Float[np.ndarray, "p 3"], mixture: Mixture) -> Float[np.ndarray, " p"]:
    """``log p(pixel)`` under a mixture."""
    likelihood: np.ndarray = logsumexp(_joint(pixels, mixture), axis=1)
    return likelihood


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

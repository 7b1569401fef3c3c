"""From a saliency map to seeds: pixels that are surely the object, and pixels that are surely not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from gradcut.errors import SeedError


class Seeds(NamedTuple):
    """Two masks of the saliency map's size, disjoint, neither of them empty."""

    foreground: Bool[np.ndarray, "h w"]
    background: Bool[np.ndarray, "h w"]


SeedRule = Callable[[Float[np.ndarray, "h w"]], Seeds]


@dataclass(frozen=True)
class Percentiles:
    """Foreground above one percentile of the map, background below another.

    Where ties leave a side without pixels, all pixels at the map's maximum (minimum) count; on a constant
    map, the pixels nearest to (farthest from) the centre, as many as the percentiles say.

    Args:
        foreground, background: percentiles, 0 <= background <= foreground <= 100.
    """

    foreground: float = 95
    background: float = 30

    def __post_init__(self) -> None:
        if not 0 <= self.background <= self.foreground <= 100:
            raise SeedError(
                "foreground, background: expected percentiles, 0 <= background <= foreground <= 100, "
                f"got {self.foreground} and {self.background}"
            )

    def __call__(self, saliency: Float[np.ndarray, "h w"]) -> Seeds:
        checked(saliency)
        # Sorted, because numpy sorts all pixels sooner than it finds the few that it interpolates between.
        ranked = np.sort(saliency, axis=None)
        high, low = np.percentile(ranked, (self.foreground, self.background))
        return disjoint(saliency, high, low, 1 - self.foreground / 100, self.background / 100)


@dataclass(frozen=True)
class Fractions:
    """Foreground above one fraction of the map's maximum, background below another; ties as in `Percentiles`.

    Unlike percentiles, fractions let the size of the seeds follow the size of the object.

    Args:
        foreground, background: fractions of the maximum, 0 <= background <= foreground <= 1.
    """

    foreground: float = 0.6
    background: float = 0.15

    def __post_init__(self) -> None:
        if not 0 <= self.background <= self.foreground <= 1:
            raise SeedError(
                "foreground, background: expected fractions, 0 <= background <= foreground <= 1, "
                f"got {self.foreground} and {self.background}"
            )

    def __call__(self, saliency: Float[np.ndarray, "h w"]) -> Seeds:
        checked(saliency)
        top = float(saliency.max())
        return disjoint(saliency, self.foreground * top, self.background * top, 0.05, 0.3)


def checked(saliency: Float[np.ndarray, "h w"]) -> None:
    """Raise SeedError unless the map has two pixels at least and no NaN or infinity."""
    if saliency.ndim != 2 or saliency.size < 2:
        raise SeedError(f"saliency: expected a map of two pixels at least, got shape {saliency.shape}")
    if not np.isfinite(saliency).all():
        raise SeedError("saliency: expected finite values, got NaN or infinity")


def disjoint(saliency: Float[np.ndarray, "h w"], high: float, low: float, most: float, least: float) -> Seeds:
    """Foreground above ``high``, background below ``low``, with ties resolved as `Percentiles` says.

    ``most`` and ``least`` are the shares of the pixels that a constant map gives to either side.
    """
    foreground, background = saliency > high, saliency < low
    smallest, largest = saliency.min(), saliency.max()
    if smallest == largest:
        return _centred(saliency.shape, most, least)
    if not foreground.any():
        foreground = saliency == largest
    if not background.any():
        background = saliency == smallest
    return Seeds(foreground, background)


def _centred(shape: tuple[int, ...], most: float, least: float) -> Seeds:
    h, w = shape
    y, x = np.mgrid[:h, :w]
    distance = ((y - (h - 1) / 2) / h) ** 2 + ((x - (w - 1) / 2) / w) ** 2
    order = np.argsort(distance, axis=None, kind="stable")
    foreground, background = (np.zeros(h * w, dtype=bool) for _ in range(2))
    inside = min(max(1, round(most * h * w)), h * w - 1)
    outside = min(max(1, round(least * h * w)), h * w - inside)
    foreground[order[:inside]] = True
    background[order[h * w - outside :]] = True
    return Seeds(foreground.reshape(h, w), background.reshape(h, w))

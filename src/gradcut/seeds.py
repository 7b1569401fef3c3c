"""From a saliency map to seeds: pixels that are surely the object, and pixels that are surely not.

A seed rule is called as ``rule(saliency)`` with one class's map, ``Float "h w"``, and returns `Seeds` of its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from gradcut.errors import SeedError

__all__ = ["Fractions", "Percentiles", "SeedError", "SeedRule", "Seeds", "check_map", "is_constant"]


class Seeds(NamedTuple):
    """Two disjoint masks of the saliency map's size: surely the object, and surely not.

    Both are empty where the map says nothing (`is_constant`), else neither is.
    """

    foreground: Bool[np.ndarray, "h w"]
    background: Bool[np.ndarray, "h w"]


#: Called with one class's saliency (finite, at least 0, any scale); returns `Seeds` of its size.
SeedRule = Callable[[Float[np.ndarray, "h w"]], Seeds]


@dataclass(frozen=True)
class Percentiles:
    """Foreground above one percentile of the map, background below another.

    The student project's rule, after Simonyan et al. 2014. Where ties leave a side without pixels, all pixels at the
    map's maximum (minimum) count. A constant map gives no seeds.

    Args:
        foreground, background: percentiles, 0 <= background <= foreground <= 100.

    Raises:
        SeedError: percentiles out of order, or called with what is no saliency map.
    """

    foreground: float = 95
    background: float = 30

    def __post_init__(self) -> None:
        _check_order(self, "percentiles", 100)

    def __call__(self, saliency: Float[np.ndarray, "h w"]) -> Seeds:
        check_map(saliency)
        # Sorted, because numpy sorts all pixels sooner than it finds the few that it interpolates between.
        ranked = np.sort(saliency, axis=None)
        high, low = np.percentile(ranked, (self.foreground, self.background))
        return _between(saliency, high, low)


@dataclass(frozen=True)
class Fractions:
    """Foreground above one fraction of the map's maximum, background below another; ties as in `Percentiles`.

    Unlike percentiles, fractions let the size of the seeds follow the size of the object.

    Args:
        foreground, background: fractions of the maximum, 0 <= background <= foreground <= 1.

    Raises:
        SeedError: fractions out of order, or called with what is no saliency map.
    """

    foreground: float = 0.6
    background: float = 0.15

    def __post_init__(self) -> None:
        _check_order(self, "fractions", 1)

    def __call__(self, saliency: Float[np.ndarray, "h w"]) -> Seeds:
        check_map(saliency)
        maximum = float(saliency.max())
        return _between(saliency, self.foreground * maximum, self.background * maximum)


#: Of a map's maximum: far above what rounding leaves of equal values in single precision.
ROUNDING = 1e-6


def is_constant(saliency: Float[np.ndarray, "h w"]) -> bool:
    """Whether a map is the same everywhere, up to rounding: then it says nothing about where an object is."""
    return float(saliency.max() - saliency.min()) <= ROUNDING * float(saliency.max())


def check_map(saliency: Any) -> None:
    """Raise SeedError unless a map has a pixel at least, and finite values of at least 0."""
    is_array = isinstance(saliency, np.ndarray) and saliency.dtype.kind == "f" and saliency.ndim == 2
    if not is_array or saliency.size == 0:
        raise SeedError(f"saliency: expected floats of (height, width), got {described(saliency)}")
    if not np.isfinite(saliency).all():
        raise SeedError("saliency: expected finite values, got NaN or infinity")
    if saliency.min() < 0:
        raise SeedError(f"saliency: expected values of at least 0, got {saliency.min()}")


def described(value: object) -> str:
    """A value as the end of an error's sentence: an array's dtype and shape, else its type."""
    return f"{value.dtype} of {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _check_order(rule: Percentiles | Fractions, unit: str, top: float) -> None:
    for name in ("foreground", "background"):
        value = getattr(rule, name)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise SeedError(f"{name}: expected a number, got {value!r}")
    if not 0 <= rule.background <= rule.foreground <= top:
        raise SeedError(
            f"foreground, background: expected {unit}, 0 <= background <= foreground <= {top}, "
            f"got {rule.foreground} and {rule.background}"
        )


def _between(saliency: Float[np.ndarray, "h w"], high: float, low: float) -> Seeds:
    """Foreground above ``high``, background below ``low``, with ties resolved as `Percentiles` says."""
    if is_constant(saliency):
        nowhere = np.zeros(saliency.shape, dtype=bool)
        return Seeds(nowhere, nowhere.copy())
    foreground, background = saliency > high, saliency < low
    if not foreground.any():
        foreground = saliency == saliency.max()
    if not background.any():
        background = saliency == saliency.min()
        foreground &= ~background
    return Seeds(foreground, background)

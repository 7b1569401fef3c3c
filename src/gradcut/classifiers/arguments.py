"""What may be given to a classifier: every wrong argument is a ClassifierError of one line that names it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

from gradcut.errors import ClassifierError


def as_labels(labels: Any) -> tuple[str, ...]:
    """Names as they are; a number n stands for "0" to "n - 1"."""
    if _whole(labels):
        if labels < 1:
            raise ClassifierError(f"labels: expected names, or the number of outputs from 1, got {labels}")
        return tuple(map(str, range(labels)))
    if isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Sequence):
        raise ClassifierError(
            f"labels: expected a list of names in the order of the outputs, or their number, got {_shown(labels)}"
        )
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ClassifierError(f"labels: expected names that are not empty, got {_shown(label)} among them")
    repeated = sorted(label for label, times in Counter(labels).items() if times > 1)
    if not labels or repeated:
        raise ClassifierError(f"labels: expected at least one and no label twice, got {repeated or 'none'}")
    return tuple(labels)


def as_size(size: Any) -> tuple[int, int]:
    """Height and width; one number is both."""
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or not all(map(_whole, sides)) or min(sides) < 1:
        raise ClassifierError(f"size: expected a positive whole number, or height and width, got {_shown(size)}")
    return int(sides[0]), int(sides[1])


def as_colour(name: str, values: Any) -> tuple[float, float, float]:
    """Three numbers for colours in [0, 1]; those of ``std`` above 0."""
    iterable = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    colour = tuple(values) if iterable else ()
    if len(colour) != 3 or not all(isinstance(value, Real) and math.isfinite(value) for value in colour):
        raise ClassifierError(f"{name}: expected three numbers, for red, green and blue, got {_shown(values)}")
    if name == "std" and min(colour) <= 0:
        raise ClassifierError(f"std: expected three numbers above 0, got {_shown(values)}")
    if max(colour) > 2:  # none is so large, of colours in [0, 1]
        raise ClassifierError(f"{name}: expected numbers for colours in [0, 1], got {_shown(values)}; divide by 255")
    red, green, blue = map(float, colour)
    return red, green, blue


def check_limits(threshold: Any, top_k: Any) -> None:
    """Raise ClassifierError unless 0 <= threshold <= 1 and top_k >= 1, or None for either."""
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 <= threshold <= 1):
        raise ClassifierError(f"threshold: expected a probability from 0 to 1, got {threshold!r}")
    if top_k is not None and not (_whole(top_k) and top_k >= 1):
        raise ClassifierError(f"top_k: expected a whole number of at least 1, got {top_k!r}")


def check_factor(factor: Any) -> None:
    """Raise ClassifierError unless it is a finite number above 0."""
    if isinstance(factor, bool) or not isinstance(factor, Real) or not 0 < float(factor) < math.inf:
        raise ClassifierError(f"factor: expected a number above 0, got {_shown(factor)}")


def check_photographs(photographs: Any) -> None:
    """Raise ClassifierError unless it is a list of photographs, ``UInt8[ndarray, "H W 3"]``, and not empty."""
    if isinstance(photographs, str) or not isinstance(photographs, Sequence):
        shape = getattr(photographs, "shape", None)
        came = _shown(photographs) if shape is None else f"an array of shape {tuple(shape)}"
        raise ClassifierError(f"photographs: expected a list of photographs, got {came}; put a single one into a list")
    if not photographs:
        raise ClassifierError("photographs: expected at least one, got none")
    for photograph in photographs:
        array = isinstance(photograph, np.ndarray)
        if not array or photograph.dtype != np.uint8 or photograph.shape[2:] != (3,) or not photograph.size:
            came = f"{photograph.dtype} of shape {photograph.shape}" if array else _shown(photograph)
            raise ClassifierError(
                f"photographs: expected uint8 arrays of shape (H, W, 3), as gradcut.images.read gives them, got {came}"
            )


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."

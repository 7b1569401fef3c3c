"""The kernels of `gradcut.masks.outlines`: how alike neighbours are in and round narrow bands, compiled by numba."""

# numba has no types, so that its decorator hides those of the kernels:
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy import ndarray


@njit(inline="always")
def _squared(a: ndarray, b: ndarray) -> Any:
    """The squared distance of two colours."""
    total: Any = 0
    for channel in range(3):
        difference = np.int64(a[channel]) - np.int64(b[channel])
        total += difference * difference
    return total


@njit(nogil=True, cache=True)
def widen(near: ndarray, band: ndarray) -> None:
    """Mark a band's pixels and their eight neighbours: ``near`` is ``UInt8 "h w"``, the band positions in it."""
    h, w = near.shape
    for p in band:
        y, x = p // w, p % w
        for row in range(max(y - 1, 0), min(y + 2, h)):
            for column in range(max(x - 1, 0), min(x + 2, w)):
                near[row, column] = 1


@njit(nogil=True, cache=True)
def contrast_within(photograph: ndarray, near: ndarray) -> tuple[int, int]:
    """Of all pairs of neighbours (8) among the marked pixels: the sum of squared differences, and how many."""
    h, w = near.shape
    total, count = 0, 0
    for y in range(h):
        for x in range(w):
            if not near[y, x]:
                continue
            if x + 1 < w and near[y, x + 1]:
                total += _squared(photograph[y, x], photograph[y, x + 1])
                count += 1
            if y + 1 == h:
                continue
            for column in range(max(x - 1, 0), min(x + 2, w)):
                if near[y + 1, column]:
                    total += _squared(photograph[y, x], photograph[y + 1, column])
                    count += 1
    return total, count


@njit(nogil=True, cache=True)
def likeness(
    photograph: ndarray, band: ndarray, neighbours: ndarray, factor: float, diagonal: float, out: ndarray
) -> None:
    """``exp(factor |a_p - a_q|^2)`` from a band's pixels to their neighbours, into ``out``, ``Float32 "8 m"``.

    On diagonals times ``diagonal``; 0 beyond the photograph's border.
    """
    h, w = photograph.shape[:2]
    for i in range(len(band)):
        y, x = band[i] // w, band[i] % w
        for direction in range(8):
            row, column = y + neighbours[direction, 0], x + neighbours[direction, 1]
            if 0 <= row < h and 0 <= column < w:
                squared = np.float32(_squared(photograph[y, x], photograph[row, column]))
                weight = np.exp(squared * np.float32(factor))
                out[direction, i] = weight * np.float32(diagonal) if direction >= 4 else weight

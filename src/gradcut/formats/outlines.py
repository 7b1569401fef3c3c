"""Masks as polygons, and polygons without holes: what tools that know no pixels take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

Polygon = Float[np.ndarray, "_ 2"]

# The four directions along pixel edges, clockwise in an image: right, down, left, up. The mask is on the right hand,
# and the pixel there lies so far from the edge's first corner.
_PIXEL = np.array([(0, 0), (-1, 0), (-1, -1), (0, -1)])


def outlines(mask: Bool[np.ndarray, "H W"], tolerance: float = 0, centres: bool = False) -> list[Polygon]:
    """One closed polygon ``(x, y)`` for each 4-connected part of the mask, its holes joined to it by slits.

    Args:
        tolerance: how far, in pixels, the polygon may leave the mask's edge to save points; 0 keeps it exactly.
        centres: through the centres of the mask's outermost pixels, as tools that fill polygons and paint
            their border, too, want it (a quarter of a pixel from the corner, so that neither cutting down nor rounding
            to whole pixels moves a point); otherwise along the edges of the pixels.
    """
    parts: dict[int, tuple[list[Polygon], list[Polygon]]] = {}
    from scipy import ndimage  # exports without outlines do without its import

    numbers: Any = ndimage.label(mask)[0]
    for corners, directions in _loops(mask):
        x, y = corners[0] + _PIXEL[directions[0]]
        if centres:
            points = corners + _PIXEL[directions]
            points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)] if len(points) > 4 else points[:1]
        else:
            points = corners
        points = _simplified(points.astype(np.float64), tolerance)
        parts.setdefault(int(numbers[y, x]), ([], []))[0 if _area(corners) > 0 else 1].append(points)
    joined = []
    for (outer,), holes in parts.values():
        for hole in holes:
            outer = _joined(outer, hole)
        joined.append(outer + 0.25 if centres else outer)
    return joined


def _loops(mask: Bool[np.ndarray, "H W"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The mask's edges as closed loops: the pixel corners in order, and the direction from each to the next."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    width = mask.shape[1] + 1
    keys = []
    # The first corner of an edge on each side of a pixel: top, right, bottom, left.
    for side, (beside, (dx, dy)) in enumerate(
        zip((padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]), -_PIXEL, strict=True)
    ):
        y, x = np.nonzero(inner & ~beside)
        keys.append(((y + dy) * width + x + dx) * 4 + side)
    edges = np.sort(np.concatenate(keys))
    if not len(edges):
        return []
    corner, direction = edges // 4, edges % 4
    end = corner + np.array([1, width, -1, -width])[direction]
    after = np.full(len(edges), -1)
    # A right turn first: pixels that touch at a corner only stay apart.
    for turn in (3, 0, 1):  # left, straight on, right: the later ones win
        wanted = end * 4 + (direction + turn) % 4
        at = np.minimum(np.searchsorted(edges, wanted), len(edges) - 1)
        after = np.where(edges[at] == wanted, at, after)
    following = after.tolist()
    free = bytearray(b"\1") * len(following)
    loops = []
    for first in range(len(following)):
        if free[first]:
            loop = []
            edge = first
            while free[edge]:
                free[edge] = 0
                loop.append(edge)
                edge = following[edge]
            chosen = np.array(loop)
            loops.append((np.stack([corner[chosen] % width, corner[chosen] // width], axis=1), direction[chosen]))
    return loops


def _area(points: np.ndarray) -> float:
    """Twice the signed area: positive for clockwise loops in an image, which are outer ones."""
    x, y = points.astype(np.int64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _simplified(points: Polygon, tolerance: float) -> Polygon:
    if len(points) < 3:
        return np.repeat(points[:1], 3, axis=0) if len(points) == 1 else points[[0, 1, 1]]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & ((before * after).sum(1) > 0)
    points = points[~straight]
    if tolerance and len(points) > 4:
        from skimage.measure import approximate_polygon  # its import takes half a second, for these only

        fewer = approximate_polygon(np.concatenate([points, points[:1]]), tolerance)[:-1]
        points = fewer if len(fewer) > 2 else points
    return points if len(points) > 2 else points[[0, -1, -1]]


def _joined(outer: Polygon, hole: Polygon) -> Polygon:
    """One polygon that goes to the hole, round it, and back the same way, by the shortest way between two points."""
    gaps = ((outer[:, None] - hole[None]) ** 2).sum(2)
    here, there = np.unravel_index(int(gaps.argmin()), gaps.shape)
    around = np.concatenate([hole[there:], hole[: there + 1]])
    return np.concatenate([outer[: here + 1], around, outer[here:]])


def flat(polygons: Sequence[Polygon]) -> list[list[float]]:
    """As COCO writes them: x and y of all points in turn."""
    return [polygon.ravel().tolist() for polygon in polygons]

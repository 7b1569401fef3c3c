"""What Segment Anything is asked with: a box, a point inside and points outside, from a mask and its saliency."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num

from gradcut.compact import CompactMask
from gradcut.seeds import Seeds, is_constant

#: How many cells of the map are looked at along its shorter side, at least: a point needs no more.
_CELLS = 80
#: How many points outside the mask there are at most.
OUTSIDE = 2


def prompts(mask: CompactMask, saliency: Float[np.ndarray, "h w"], seeds: Seeds) -> dict[str, Any] | None:
    """The prompts of a mask, in pixels of the photograph as SAM takes them; None for an empty mask.

    ``box`` is ``[left, top, right, bottom]``, the outermost pixels of the mask; ``points`` are ``[x, y]``;
    ``point_labels`` is 1 for the first, which lies in the mask, among its foreground seeds if it can, far from its edge
    and where the saliency is high, and 0 for the others, which lie outside it, among its background seeds if they can,
    within the box enlarged by half, far from the mask and where the saliency is low.

    Args:
        saliency, seeds: of the class, at any size.
    """
    if (box := mask.box) is None:
        return None
    from scipy import ndimage  # not for those who only read records

    step = max(1, min(saliency.shape) // _CELLS)
    saliency, foreground, background = (part[step // 2 :: step, step // 2 :: step] for part in (saliency, *seeds))
    left, top, across, down = box
    whole = mask.array()
    height, width = whole.shape
    inside = mask.resized(saliency.shape)
    strength = np.ones_like(saliency) if is_constant(saliency) else saliency / saliency.max()
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]
    best = _pixels(depth * strength, inside & foreground, whole) or _pixels(depth * strength, inside, whole)
    points = [best[0] if best else _any(whole)]

    rows, columns = saliency.shape
    down_by, across_by = height / rows, width / columns
    near = np.zeros(saliency.shape, dtype=bool)
    near[
        int(max(0, (top - down / 4) / down_by)) : int(np.ceil((top + 1.25 * down) / down_by)),
        int(max(0, (left - across / 4) / across_by)) : int(np.ceil((left + 1.25 * across) / across_by)),
    ] = True
    far = np.zeros_like(strength) if inside.all() else np.asarray(ndimage.distance_transform_edt(~inside))
    value = far * (1.01 - strength)
    for _ in range(OUTSIDE):
        outside = near & ~inside
        found = _pixels(value, outside & background, ~whole) or _pixels(value, outside, ~whole)
        if not found:
            break
        points.append(found[0])
        x, y = found[0]
        # The next one elsewhere: not within half of the box.
        near[
            int(max(0, (y - down / 2) / down_by)) : int(np.ceil((y + down / 2) / down_by)),
            int(max(0, (x - across / 2) / across_by)) : int(np.ceil((x + across / 2) / across_by)),
        ] = False
    return {
        "box": [left, top, left + across - 1, top + down - 1],
        "points": [list(point) for point in points],
        "point_labels": [1] + [0] * (len(points) - 1),
    }


def _pixels(
    value: Num[np.ndarray, "h w"], cells: Bool[np.ndarray, "h w"], wanted: Bool[np.ndarray, "H W"]
) -> list[tuple[int, int]]:
    """The middle pixel of the best cell whose middle pixel is wanted; no list with one where there is none."""
    down, across = (whole / part for whole, part in zip(wanted.shape, value.shape, strict=True))
    ys, xs = np.nonzero(cells & (value > 0))
    rows, columns = ((ys + 0.5) * down).astype(int), ((xs + 0.5) * across).astype(int)
    fits = wanted[rows, columns]
    if not fits.any():
        return []
    chosen = int(np.argmax(np.where(fits, value[ys, xs], -1)))
    return [(int(columns[chosen]), int(rows[chosen]))]


def _any(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int]:
    """A pixel of a mask that has no cell of its own: the middle one in reading order."""
    y, x = np.argwhere(mask)[int(mask.sum()) // 2].tolist()
    return x, y

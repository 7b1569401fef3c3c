"""What is done with maps, whichever method made them: number types, sizes, scales, and maps beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Size = Sequence[int]  # height and width


def wide(values: Tensor) -> Tensor:
    """In float32 at least: what leaves the network goes through here, as 16 bits are too few for quotients."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def relative(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Each map divided by its maximum; a map of zeros stays."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def above_least(maps: Float[Tensor, "n h w"], rounding: float = 4.0) -> Float[Tensor, "n h w"]:
    """Each map less its minimum; what is the same everywhere up to rounding comes out as zeros.

    Divided by its maximum afterwards, the rounding would otherwise pass for a map.

    Args:
        rounding: how many times the number type's precision the values may be off, relative to the largest.
    """
    above = maps - maps.amin((1, 2), keepdim=True)
    largest = maps.abs().amax((1, 2), keepdim=True)
    constant = above.amax((1, 2), keepdim=True) <= rounding * torch.finfo(maps.dtype).eps * largest
    return above.masked_fill(constant, 0)


def upsampled(maps: Float[Tensor, "n gh gw"], size: Size) -> Float[Tensor, "n h w"]:
    """Bilinear, to height and width, in float32 at least."""
    maps = wide(maps)
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if not len(maps):
        return maps.new_zeros(0, *size)
    return F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def resized(maps: Float[Tensor, "n h w"], size: Size) -> Float[Tensor, "n _ _"]:
    """To height and width, in float32 at least: bilinear, or means of what a place covers where neither side grows."""
    h, w = size
    if (h, w) != maps.shape[1:] and h <= maps.shape[1] and w <= maps.shape[2] and len(maps):
        return F.adaptive_avg_pool2d(wide(maps), (h, w))
    return upsampled(maps, size)


def rows_by_photograph(photographs: Sequence[int]) -> dict[int, list[int]]:
    """Of each photograph the rows of its maps, of which the n-th is of photograph ``photographs[n]``."""
    rows: dict[int, list[int]] = {}
    for n, photograph in enumerate(photographs):
        rows.setdefault(photograph, []).append(n)
    return rows


def against_each_other(
    maps: Float[Tensor, "n h w"], photographs: Sequence[int], strength: float = 1.0
) -> Float[Tensor, "n h w"]:
    """`Rivals`' formula, for maps of which the n-th is of photograph ``photographs[n]``."""
    maps = relative(maps)
    for rows in rows_by_photograph(photographs).values():
        neighbours = rows[-1] - rows[0] + 1 == len(rows)
        own = maps[rows[0] : rows[-1] + 1] if neighbours else maps[rows]  # a view, where that can be
        share = own / own.amax(0).clamp(min=torch.finfo(maps.dtype).tiny)
        own *= share if strength == 1 else share.pow_(strength)
        if not neighbours:
            maps[rows] = own
    return maps

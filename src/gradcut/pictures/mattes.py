"""Cut-outs with soft edges: how much of each pixel is the object's, and the object's own colour there.

Alpha is the closed-form matte of a band along the mask's edge, with large windows: the guided filter of the mask, with
the photograph's colours as its guide, filtered again and again (He, Sun and Tang, "Fast Matting Using Large Kernel
Matting Laplacian Matrices", 2010, and "Guided Image Filtering", 2010). Of large photographs its coefficients are
computed on smaller ones (He and Sun, "Fast Guided Filter", 2015). Colours are those of Forte, "Approximate Fast
Foreground Colour Estimation", 2021.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, UInt8

from gradcut import images
from gradcut.images import Photograph, box_of

#: Added to the variance of colours, from 0 to 1, in the guided filter: how faint an edge it follows.
SMOOTH = 1e-4
#: How often the mask is filtered, each time what is outside the band being set back to it.
_TIMES = 3
#: How steeply the mask gives way to the matte at the ends of the band.
_RAMP = 5
#: Half the band's width in pixels from which on coefficients are computed on a smaller photograph.
_FINE = 8

Colours = Float[np.ndarray, "h w 3"]
Map = Float[np.ndarray, "h w"]


def edge_of(size: tuple[int, ...]) -> int:
    """Half the width of the band in which a photograph's cut-outs are soft, in pixels: a seventieth of its diagonal."""
    return max(2, round(math.hypot(*size[:2]) / 70))


def soft_cut_out(
    photograph: Photograph, mask: Bool[np.ndarray, "H W"], edge: int | None = None
) -> UInt8[np.ndarray, "H W 4"]:
    """The photograph inside the mask, RGBA: its edge is where the photograph's is, if that is near, and soft.

    In the band the ground's colour is taken out of the photograph's. Transparent pixels are black.

    Args:
        edge: half the width of the band in pixels; by default `edge_of`.
    """
    edge = edge_of(mask.shape) if edge is None else edge
    picture = np.zeros((*mask.shape, 4), dtype=np.uint8)
    if (box := box_of(mask)) is None:
        return picture
    left, top, width, height = box
    reach = 9 * edge  # as far as any filter sees from a pixel in the band
    place = slice(max(0, top - reach), top + height + reach), slice(max(0, left - reach), left + width + reach)
    colours, inside = photograph[place], mask[place]
    scale = max(1.0, edge / _FINE)
    rows, columns = (max(1, round(length / scale)) for length in inside.shape)
    small = images.resize(colours, (rows, columns)).astype(np.float32) / 255
    share = images.coverage(inside, (rows, columns)).astype(np.float32)
    radius = max(1, round(edge / scale))

    near, slopes, offsets = _filtered(small, share, radius)
    fore, ground = _grounds(small, _alpha(small, share, near, slopes, offsets), radius)

    size = inside.shape[0], inside.shape[1]
    full = colours.astype(np.float32) / 255
    alpha = _alpha(full, inside.astype(np.float32), *(_enlarged(values, size) for values in (near, slopes, offsets)))
    pure = _own(full, alpha[..., None], _enlarged(fore, size), _enlarged(ground, size))
    cut = np.dstack([np.where((alpha < 1)[..., None], np.rint(pure * 255), colours), np.rint(alpha * 255)])
    cut[cut[..., 3] == 0] = 0
    picture[place] = cut.astype(np.uint8)
    return picture


def _mean(values: Map, radius: int) -> Map:
    from scipy.ndimage import uniform_filter  # for these cut-outs only

    smooth: np.ndarray = uniform_filter(values, 2 * radius + 1, mode="nearest")
    return smooth


def _enlarged(values: Float[np.ndarray, "h w *c"], size: tuple[int, int]) -> Float[np.ndarray, "H W *c"]:
    if values.ndim == 2:
        return images.resize_map(values, size)
    return np.dstack([images.resize_map(values[..., channel], size) for channel in range(values.shape[2])])


def _filtered(colours: Colours, share: Map, radius: int) -> tuple[Map, Colours, Map]:
    """The mask's mean round each pixel, and the last guided filter's mean slopes and offsets.

    Alpha is the colour times the slopes, plus the offset. The windows are twice as wide as the band, so that each sees
    what is certain.
    """
    near, wide = _mean(share, radius), 2 * radius
    channels = [colours[..., channel] for channel in range(3)]
    means = [_mean(channel, wide) for channel in channels]
    variance = np.empty((*share.shape, 3, 3), dtype=np.float32)
    for i in range(3):
        for j in range(i, 3):
            variance[..., i, j] = _mean(channels[i] * channels[j], wide) - means[i] * means[j]
            variance[..., j, i] = variance[..., i, j]
    inverse = np.linalg.inv(variance + SMOOTH * np.eye(3, dtype=np.float32))
    alpha = share
    for _ in range(_TIMES):
        middle = _mean(alpha, wide)
        covariance = np.dstack([_mean(channels[i] * alpha, wide) - means[i] * middle for i in range(3)])
        own = np.einsum("hwij,hwj->hwi", inverse, covariance)
        offsets = _mean(middle - (own * np.dstack(means)).sum(axis=2), wide)
        slopes = np.dstack([_mean(own[..., channel], wide) for channel in range(3)])
        alpha = _alpha(colours, share, near, slopes, offsets)
    return near, slopes, offsets


def _alpha(colours: Colours, share: Map, near: Map, slopes: Colours, offsets: Map) -> Map:
    """The guided filter in the band, where ``near``, the mask's mean round a pixel, is neither 0 nor 1.

    Towards the band's ends it becomes the mask, so that no step is seen there.
    """
    weight = (_RAMP * np.minimum(near, 1 - near)).clip(0, 1)
    filtered = (np.einsum("hwc,hwc->hw", colours, slopes) + offsets).clip(0, 1)
    alpha: np.ndarray = share + weight * (filtered - share)
    return alpha


def _grounds(colours: Colours, alpha: Map, radius: int) -> tuple[Colours, Colours]:
    """The colours of the object and of what is round it, as means of those near by."""
    fore = ground = colours
    for wide in (4 * radius, max(1, radius // 2)):
        own, others = _mean(alpha, wide) + 1e-5, _mean(1 - alpha, wide) + 1e-5
        blurred = np.dstack([_mean(fore[..., c] * alpha, wide) / own for c in range(3)])
        ground = np.dstack([_mean(ground[..., c] * (1 - alpha), wide) / others for c in range(3)])
        fore = _own(colours, alpha[..., None], blurred, ground)
    return fore, ground


def _own(colours: Colours, alpha: Float[np.ndarray, "h w 1"], fore: Colours, ground: Colours) -> Colours:
    """The object's colours, changed so that laid on the ground they give the photograph's."""
    pure: np.ndarray = (fore + alpha * (colours - alpha * fore - (1 - alpha) * ground)).clip(0, 1)
    return pure

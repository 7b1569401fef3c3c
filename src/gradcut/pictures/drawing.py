"""Saliency, seeds and masks in colours, on the photograph or alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from scipy import ndimage

from gradcut import images
from gradcut.images import Photograph
from gradcut.seeds import Seeds

#: What a person looks at: RGB, 0 to 255.
Picture = UInt8[np.ndarray, "rows columns 3"]

#: How light red, green and blue are to the eye (ITU-R BT.709).
_LIGHTNESS = np.array([0.2126, 0.7152, 0.0722])

#: Of seeds.
FOREGROUND, BACKGROUND = (230, 60, 60), (50, 110, 230)

#: Sixteen even steps through matplotlib's "inferno" (van der Walt, Smith and Firing 2015; CC0): from black over purple
#: and orange to a light yellow, each step as much lighter to the eye as the one before.
_INFERNO = np.array([
    (0, 0, 4), (12, 8, 38), (36, 12, 79), (66, 10, 104), (93, 18, 110), (120, 28, 109), (147, 38, 103), (174, 48, 92),
    (199, 62, 76), (221, 81, 58), (237, 105, 37), (248, 133, 15), (252, 165, 10), (250, 198, 45), (242, 230, 97),
    (252, 255, 164),
])  # fmt: skip

#: Bright colours, so that they show on a photograph. The first seven are told apart by the colour-blind, too (Okabe and
#: Ito 2008); the others are from Trubetskoy's list of distinct colours (2017).
_BRIGHT = np.array([
    (86, 180, 233), (213, 94, 0), (240, 228, 66), (0, 158, 115), (204, 121, 167), (230, 159, 0), (0, 114, 178),
    (230, 25, 75), (191, 239, 69), (145, 30, 180), (66, 212, 244), (240, 50, 230), (154, 99, 36), (170, 255, 195),
    (128, 0, 0), (250, 190, 212), (128, 128, 0), (0, 0, 117),
])  # fmt: skip


def palette(n: int = 256) -> UInt8[np.ndarray, "n 3"]:
    """Pascal VOC's colours: entry 0 is black, the others spread by the bits of their number."""
    number = np.arange(n)[:, None] >> (3 * np.arange(8))
    channels = [((number >> channel & 1) << (7 - np.arange(8))).sum(1) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def class_colours(n: int) -> UInt8[np.ndarray, "n 3"]:
    """Colours of ``n`` classes on a photograph: 18 bright ones, after them those of `palette`."""
    return np.concatenate([_BRIGHT, palette(max(n, len(_BRIGHT)))[len(_BRIGHT) :]])[:n].astype(np.uint8)


def inferno(share: Float[np.ndarray, "*size"]) -> UInt8[np.ndarray, "*size 3"]:
    """Shares from 0 to 1 as colours from black over purple and orange to light yellow, in steps even to the eye."""
    anchors = np.linspace(0, 1, len(_INFERNO))
    return np.stack([np.interp(share, anchors, channel) for channel in _INFERNO.T], axis=-1).round().astype(np.uint8)


def stretch(saliency: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Where `heat` bends: a share of the map's maximum, and its place among the colours, both from 0 to 1.

    The share is the map's 99.5th percentile. Where few pixels outshine all others it is small; it then gets the place
    0.85, but no more than six times its share, so that what is as good as 0 stays black. Else the two are the same.
    """
    maximum = float(saliency.max())
    share = min(1.0, float(np.percentile(saliency, 99.5)) / maximum) if maximum > 0 else 1.0
    return share, max(share, min(0.85, 6 * share))


def heat(saliency: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A map of any scale, at least 0, in the colours of `inferno`: 0 is black, the map's maximum the lightest.

    Nothing is clipped: shares of the maximum are spread over the colours in two straight lines that meet where
    `stretch` says.
    """
    return inferno(_places(saliency))


def _places(saliency: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Where each value lies among the colours, from 0 to 1."""
    share, place = stretch(saliency)
    places: np.ndarray = np.interp(saliency / (float(saliency.max()) or 1.0), (0, share, 1), (0, place, 1))
    return places


def glow(photograph: Photograph, saliency: Float[np.ndarray, "h w"]) -> Picture:
    """The photograph in dark grey, and on it a map of any size and scale in the colours of `heat`."""
    # Resized first: single high pixels of a larger map would be lost in what is shown of it, and all be dark.
    return glowing(photograph @ _LIGHTNESS, _places(images.resize_map(saliency, photograph.shape[:2])))


def glowing(grey: Float[np.ndarray, "h w"], places: Float[np.ndarray, "h w"]) -> Picture:
    """Places from 0 to 1 among the colours of `inferno`, the higher the more opaque, on values from 0 to 255."""
    places = places.clip(0, 1)
    opacity = (0.82 * places**0.6)[..., None]
    picture: Picture = ((1 - opacity) * (0.62 * grey + 12)[..., None] + opacity * inferno(places)).astype(np.uint8)
    return picture


def overlay(
    photograph: Photograph,
    labelmap: Integer[np.ndarray, "H W"],
    opacity: float = 0.5,
    thickness: int | None = None,
    unsure: Sequence[int] = (),
    colours: Integer[np.ndarray, "n 3"] | None = None,
) -> Picture:
    """The photograph with every label's pixels tinted in its class's colour and outlined.

    An outline lies between two lines of white, or of black where its own colour is light, so that it shows on any
    photograph.

    Args:
        labelmap: of the photograph's size; 0 is no label, i + 1 has the i-th of `class_colours`.
        opacity: of the tint, from 0 to 1.
        thickness: as for `outline`.
        unsure: labels whose pixels are hatched instead, with a thinner outline.
        colours: of the labels from 1 on, in the place of `class_colours`.
    """
    thickness = thickness or _thickness(labelmap)
    own = class_colours(int(labelmap.max())) if colours is None else colours
    palette_here = np.concatenate([palette(1), own])
    labels, tinted = labelmap.ravel(), photograph.copy()
    pixels = tinted.reshape(-1, 3)
    is_unsure = np.isin(labelmap, np.array(unsure, dtype=labelmap.dtype))
    if opacity > 0:
        is_hole = is_unsure & ~_stripes(labelmap.shape, 4 * thickness)
        at = np.flatnonzero((labelmap > 0) & ~is_hole)
        pixels[at] = ((1 - opacity) * pixels[at] + opacity * palette_here[labels[at]]).round()
    half = max(1, thickness // 2)
    edges = outline(labelmap, thickness) & ~is_unsure
    thin = outline(labelmap, half) & is_unsure
    dark = palette_here @ _LIGHTNESS <= 140  # and so cased in white
    casing = np.zeros(labelmap.shape, dtype=np.uint8)
    for lines, width in ((edges, half), (thin, max(1, half // 2))):
        at = np.flatnonzero(lines)
        if len(at):
            lined = np.zeros(casing.shape, dtype=np.uint8)
            lined.ravel()[at] = 1 + dark[labels[at]]
            casing = np.maximum(casing, ndimage.maximum_filter(lined, 1 + 2 * width))
    at = np.flatnonzero(casing)
    pixels[at] = np.where(casing.ravel()[at] == 2, 255, 0)[:, None]
    at = np.flatnonzero(edges | thin)
    pixels[at] = palette_here[labels[at]]
    return tinted


def hatched(colour: Sequence[int], height: int, width: int) -> Picture:
    """A patch of the legend for a class whose pixels are hatched: its colour and white, in stripes, with a border."""
    patch = np.where(_stripes((height, width), 4)[..., None], np.array(colour), 255).astype(np.uint8)
    patch[[0, -1]] = patch[:, [0, -1]] = colour
    return patch


def _stripes(size: tuple[int, ...], width: int) -> Bool[np.ndarray, "H W"]:
    """Every second one of diagonal stripes, so many pixels wide from left to right."""
    is_stripe: np.ndarray = np.add.outer(np.arange(size[0]), np.arange(size[1])) // width % 2 == 0
    return is_stripe


def _thickness(labelmap: Integer[np.ndarray, "H W"]) -> int:
    return int(max(1, max(labelmap.shape) // 400))


def outline(labelmap: Integer[np.ndarray, "H W"], thickness: int | None = None) -> Bool[np.ndarray, "H W"]:
    """Pixels of a label above 0 with a neighbour of another one.

    Args:
        thickness: in pixels; by default a 400th of the longer side.
    """
    edge = np.zeros(labelmap.shape, dtype=bool)
    for distance in range(1, 1 + (thickness or _thickness(labelmap))):
        edge[:, :-distance] |= labelmap[:, distance:] != labelmap[:, :-distance]
        edge[:, distance:] |= labelmap[:, distance:] != labelmap[:, :-distance]
        edge[:-distance] |= labelmap[distance:] != labelmap[:-distance]
        edge[distance:] |= labelmap[distance:] != labelmap[:-distance]
    return edge & (labelmap > 0)


def draw_seeds(photograph: Photograph, seeds: Seeds) -> Picture:
    """The photograph in grey, foreground seeds red, background seeds blue; the seeds may have another size."""
    grey = np.repeat(photograph.mean(axis=2, keepdims=True), 3, axis=2) * 0.6 + 80
    size = photograph.shape[:2]
    for mask, colour in ((seeds.background, BACKGROUND), (seeds.foreground, FOREGROUND)):
        is_seed = images.resize_mask(mask, size)
        grey[is_seed] = 0.35 * grey[is_seed] + 0.65 * np.array(colour)
    return grey.astype(np.uint8)


def cut_out(photograph: Photograph, mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 4"]:
    """The photograph inside the mask, RGBA: opaque inside, transparent black outside."""
    opaque = np.full(mask.shape, 255, dtype=np.uint8)
    return np.where(mask[..., None], np.dstack([photograph, opaque]), np.uint8(0))

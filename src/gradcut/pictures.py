"""Drawing: what a person looks at. Arrays in, pictures (``UInt8 "rows columns 3"``) out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from gradcut import images
from gradcut.images import Photograph
from gradcut.seeds import ROUNDING, Seeds, is_constant

#: What a person looks at: RGB, 0 to 255.
Picture = UInt8[np.ndarray, "rows columns 3"]

_GAP, _INK, _PAPER = 8, (32, 33, 36), (255, 255, 255)
_FOREGROUND, _BACKGROUND = (230, 60, 60), (50, 110, 230)


def palette(n: int = 256) -> UInt8[np.ndarray, "n 3"]:
    """Pascal VOC's colours: entry 0 is black, the others spread by the bits of their number."""
    number = np.arange(n)[:, None] >> (3 * np.arange(8))
    channels = [((number >> channel & 1) << (7 - np.arange(8))).sum(1) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def heat(saliency: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A map of any scale, at least 0, as colours from black over red and yellow to white.

    Its 99.5th percentile is white; where that is no more than rounding, because the map is 0 nearly everywhere, its
    maximum is.
    """
    maximum = float(saliency.max())
    white = float(np.percentile(saliency, 99.5))
    if white <= ROUNDING * maximum:
        white = maximum or 1.0
    share = np.clip(saliency / white, 0, 1)[..., None]
    return (np.clip(share * 3 - np.arange(3), 0, 1) * 255).astype(np.uint8)


def overlay(photograph: Photograph, labelmap: Integer[np.ndarray, "H W"], opacity: float = 0.5) -> Picture:
    """The photograph with every label's pixels tinted in its palette colour and outlined.

    Args:
        labelmap: of the photograph's size; 0 is no label.
        opacity: of the tint, from 0 to 1.
    """
    colours = palette(max(256, int(labelmap.max()) + 1))[labelmap]
    inside = labelmap > 0
    tinted = np.where(inside[..., None], (1 - opacity) * photograph + opacity * colours, photograph)
    edges = outline(labelmap)
    tinted[edges] = colours[edges]
    return tinted.round().astype(np.uint8)


def outline(labelmap: Integer[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels of a label above 0 with a neighbour of another one, as thick as a 400th of the longer side."""
    edge = np.zeros(labelmap.shape, dtype=bool)
    for distance in range(1, 1 + max(1, max(labelmap.shape) // 400)):
        edge[:, :-distance] |= labelmap[:, distance:] != labelmap[:, :-distance]
        edge[:, distance:] |= labelmap[:, distance:] != labelmap[:, :-distance]
        edge[:-distance] |= labelmap[distance:] != labelmap[:-distance]
        edge[distance:] |= labelmap[distance:] != labelmap[:-distance]
    return edge & (labelmap > 0)


def draw_seeds(photograph: Photograph, seeds: Seeds) -> Picture:
    """The photograph in grey, foreground seeds red, background seeds blue; the seeds may have another size."""
    grey = np.repeat(photograph.mean(axis=2, keepdims=True), 3, axis=2) * 0.6 + 80
    size = photograph.shape[:2]
    for mask, colour in ((seeds.background, _BACKGROUND), (seeds.foreground, _FOREGROUND)):
        is_seed = images.resize_mask(mask, size)
        grey[is_seed] = 0.35 * grey[is_seed] + 0.65 * np.array(colour)
    return grey.astype(np.uint8)


def cut_out(photograph: Photograph, mask: Bool[np.ndarray, "H W"]) -> Picture:
    """The photograph inside the mask, white outside."""
    return np.where(mask[..., None], photograph, 255).astype(np.uint8)


def strip(
    photograph: Photograph,
    rows: Sequence[tuple[str, Float[np.ndarray, "h w"], Seeds, Bool[np.ndarray, "H W"]]],
    height: int = 240,
) -> Picture:
    """One row an object: photograph, saliency, seeds, mask and masked photograph, under the row's title.

    Of a saliency that is the same everywhere, with an empty mask, there are the first two, and the title says "blank".

    Args:
        rows: title, saliency, seeds and mask of each object; the mask has the photograph's size, maps and seeds
            any other.
        height: of a panel, in pixels; the width follows from the photograph, between a third and three times it.
    """
    H, W = photograph.shape[:2]
    width = round(np.clip(W / H, 1 / 3, 3) * height)
    small = images.resize(photograph, (height, width))
    text, title = ImageFont.load_default(13), ImageFont.load_default(17)
    names = ("photograph", "saliency", "seeds", "mask", "masked photograph")
    head, foot = 30, 22
    sheet = Image.new("RGB", (_GAP + len(names) * (width + _GAP), len(rows) * (head + height + foot) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (caption, saliency, seeds, mask) in enumerate(rows):
        top = number * (head + height + foot)
        blank = is_constant(saliency) and not mask.any()
        draw.text((_GAP, top + 7), f"{caption}  blank: no mask" if blank else caption, fill=_INK, font=title)
        inside = images.resize_mask(mask, (height, width))
        panels = (
            small,
            images.resize(heat(saliency), (height, width)),
            draw_seeds(small, seeds),
            np.repeat(inside[..., None].astype(np.uint8) * 255, 3, axis=2),
            cut_out(small, inside),
        )
        for column, (name, panel) in enumerate(list(zip(names, panels, strict=True))[: 2 if blank else None]):
            left = _GAP + column * (width + _GAP)
            sheet.paste(Image.fromarray(panel), (left, top + head))
            draw.rectangle((left - 1, top + head - 1, left + width, top + head + height), outline=(200, 200, 200))
            draw.text((left, top + head + height + 3), name, fill=_INK, font=text)
    return np.array(sheet)

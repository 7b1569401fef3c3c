"""The picture of a comparison: what several saliency methods say of several classes of one photograph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from gradcut import images
from gradcut.images import Photograph
from gradcut.pictures.drawing import Picture, glow, glowing, overlay
from gradcut.pictures.letters import Font, font, plain
from gradcut.pictures.table import (
    FAINT,
    GAP,
    HIGHEST,
    INK,
    LINE,
    MARGIN,
    PAPER,
    WARNING,
    WIDEST,
    aspect_of,
    fitted,
)
from gradcut.seeds import is_constant


@dataclass(frozen=True)
class Heading:
    """What a method or a class is called, and a few words beside it."""

    title: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class Panel:
    """A map of one method for one class, of any size, and a mask of the photograph's size if there is one."""

    saliency: Float[np.ndarray, "h w"] = field(repr=False)
    mask: Bool[np.ndarray, "H W"] | None = field(default=None, repr=False)


#: Of a panel: the greatest height, and the least that still shows anything; the least width, which names need.
_TALL, _SHORT, _NARROW = 300, 110, 104
#: Heights: of the photograph, of the names above panels, of the names of columns, of a line of the head.
_HEAD, _NAMES, _COLUMNS, _LINE = 232, 26, 22, 22
#: Of the scale: width of its bar, and height.
_BAR, _THICK = 240, 14
#: Between two groups of panels that stand side by side, in pixels.
_BETWEEN = 26
_MASK = np.array([255, 255, 255])


def comparison(
    photograph: Photograph,
    name: str,
    methods: Sequence[Heading],
    classes: Sequence[Heading],
    panels: Sequence[Sequence[Panel]],
    notes: Sequence[str] = (),
) -> Picture:
    """The photograph, its classes and a colour scale; below it a panel for each method and class.

    A row is a method and a column a class, or the other way round where there are more classes than methods; rows
    stand side by side as long as they find room in `WIDEST` pixels. A panel is the photograph in grey with the map in
    colour, by its own scale from 0 to its maximum, and the mask's outline in white if there is a mask. Panels are as
    large as `HIGHEST` pixels of height allow, but never so small that nothing is to be seen on them.

    Args:
        name: of the photograph.
        methods, classes: at least one of each.
        panels: of each method, one a class.
        notes: what else a person has to know, a line each, in the head.
    """
    if len(classes) > len(methods):
        rows, columns = classes, methods
        panels = [[strip[number] for strip in panels] for number in range(len(classes))]
    else:
        rows, columns = methods, classes
    size, beside = _arranged(aspect_of(photograph), len(rows), len(columns))
    named = len(columns) > 1
    wide = len(columns) * (size[1] + GAP) - GAP
    width = max(900, 2 * MARGIN + beside * (wide + _BETWEEN) - _BETWEEN)
    width = min(width, WIDEST)
    head = _head(photograph, name, methods, classes, notes, width)
    deep = math.ceil(len(rows) / beside)
    pitch = _NAMES + size[0] + GAP
    top = head.height + (_COLUMNS if named else 0)
    picture = Image.new("RGB", (width, top + deep * pitch + 4), PAPER)
    picture.paste(head, (0, 0))
    draw = ImageDraw.Draw(picture)
    small, twice = images.resize(photograph, size), images.resize(photograph, (2 * size[0], 2 * size[1]))
    for place in range(min(beside, len(rows)) if named else 0):
        for number, column in enumerate(columns):
            left = MARGIN + place * (wide + _BETWEEN) + number * (size[1] + GAP)
            both = plain(f"{column.title}  {column.note}")
            if columns is classes or font(13, both).getlength(both) > size[1]:  # the classes' notes stand in the head
                title = plain(column.title)
                both = fitted(title, font(13, title), size[1])
            draw.text((left, head.height), both, FAINT, font(13, both))
    for number, (row, strip) in enumerate(zip(rows, panels, strict=True)):
        left, upper = MARGIN + number % beside * (wide + _BETWEEN), top + number // beside * pitch
        _name(draw, row, (left, upper), wide, all(is_constant(panel.saliency) for panel in strip))
        for panel in strip:
            picture.paste(Image.fromarray(_drawn(panel, small, twice)), (left, upper + _NAMES))
            draw.rectangle((left - 1, upper + _NAMES - 1, left + size[1], upper + _NAMES + size[0]), outline=LINE)
            left += size[1] + GAP
    return np.array(picture)


def _arranged(aspect: float, rows: int, columns: int) -> tuple[tuple[int, int], int]:
    """Height and width of a panel, and how many rows stand side by side: the largest panels that find room."""
    inner = WIDEST - 2 * MARGIN
    lowest = max(_SHORT, math.ceil(_NARROW / aspect))
    room = HIGHEST - _HEAD - 2 * MARGIN - _COLUMNS
    choices = []
    for beside in range(1, rows + 1):
        across = (inner + _BETWEEN) / beside - _BETWEEN
        widest = ((across + GAP) / columns - GAP) / aspect
        deep = math.ceil(rows / beside)
        height = min(_TALL, widest, max(room / deep - _NAMES - GAP, lowest))
        beyond = max(0.0, deep * (height + _NAMES + GAP) - room)
        choices.append((height, -beyond, beside))
    height, _, beside = max(choices)
    return (max(1, int(height)), max(1, int(height * aspect))), int(beside)


def _drawn(panel: Panel, small: Photograph, twice: UInt8[np.ndarray, "h w 3"]) -> Picture:
    picture = glow(small, panel.saliency)
    if panel.mask is None:
        return picture
    large = glow(twice, panel.saliency)
    inside = images.resize_mask(panel.mask, (twice.shape[0], twice.shape[1]))
    outlined = overlay(large, inside.astype(np.int32), 0.0, max(2, round(twice.shape[0] / 130)), colours=_MASK[None])
    return images.resize(outlined, (small.shape[0], small.shape[1]))


def _name(draw: ImageDraw.ImageDraw, row: Heading, corner: tuple[int, int], width: int, blank: bool) -> None:
    """A row's title, and in fainter ink beside it what its note says, or that its maps are blank."""
    left, top = corner
    title = plain(row.title)
    hand, fine = font(16, title), font(13)
    title = fitted(title, hand, width)
    draw.text((left, top), title, INK, hand)
    after = hand.getlength(title) + 10
    note, ink = ("blank", WARNING) if blank else (plain(row.note), FAINT)
    if fine.getlength(note) <= width - after:
        draw.text((left + after, top + 3), note, ink, fine)


# The head ------------------------------------------------------------------------------------------------------------


def _head(
    photograph: Photograph,
    name: str,
    methods: Sequence[Heading],
    classes: Sequence[Heading],
    notes: Sequence[str],
    width: int,
) -> Image.Image:
    """The photograph, and beside it its name, the classes with their scores, the scale and the notes."""
    aspect = aspect_of(photograph)
    high = min(_HEAD, int((width - 2 * MARGIN) / 2 / aspect))
    size = (max(1, high), max(1, int(high * aspect)))
    left = MARGIN + size[1] + _BETWEEN
    inner = width - MARGIN - left
    called = plain(name)
    bold = font(22, called)
    lines = _classes(classes, inner)
    about = "" if len(methods) > 1 or len(classes) <= 1 else f"{methods[0].title}  {methods[0].note}".strip()
    height = max(size[0], 30 + (len(lines) + bool(about) + len(notes)) * _LINE + 62)
    head = Image.new("RGB", (width, MARGIN + height + MARGIN), PAPER)
    head.paste(Image.fromarray(images.resize(photograph, size)), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(head)
    draw.text((left, MARGIN - 5), fitted(called, bold, inner), INK, bold)
    top = MARGIN + 30
    for line in lines:
        across = left
        for text, ink, hand in line:
            draw.text((across, top), text, ink, hand)
            across += int(hand.getlength(text))
        top += _LINE
    for note in ([about] if about else []) + list(notes):
        text = plain(note)
        hand = font(15, text)
        draw.text((left, top), fitted(text, hand, inner), FAINT, hand)
        top += _LINE
    _scale(head, (left, MARGIN + height - 48), min(_BAR, inner))
    return head


def _classes(classes: Sequence[Heading], width: int) -> list[list[tuple[str, tuple[int, int, int], Font]]]:
    """Titles and notes of the classes, as many in a line as find room."""
    fine = font(15)
    lines: list[list[tuple[str, tuple[int, int, int], Font]]] = [[]]
    used = 0.0
    for heading in classes:
        title = f"{plain(heading.title)} "
        hand = font(15, title)
        title = fitted(title, hand, width - 60)
        note = f"{plain(heading.note)}    "
        wide = hand.getlength(title) + fine.getlength(note)
        if lines[-1] and used + wide > width:
            lines.append([])
            used = 0.0
        lines[-1] += [(title, INK, hand), (note, FAINT, fine)]
        used += wide
    return lines


def _scale(head: Image.Image, corner: tuple[int, int], width: int) -> None:
    """The colours that a map has on the photograph, over its middle grey, and what they stand for."""
    left, top = corner
    bar = glowing(np.full((_THICK, width), 128.0), np.broadcast_to(np.linspace(0, 1, width), (_THICK, width)))
    head.paste(Image.fromarray(bar), (left, top))
    draw = ImageDraw.Draw(head)
    draw.text((left, top + _THICK + 2), "0", FAINT, font(13))
    draw.text((left + width, top + _THICK + 2), "the map's own maximum", FAINT, font(13), anchor="ra")

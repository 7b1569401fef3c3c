"""The picture of a result: all classes in colour with a legend, and a row a class of what led to its mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Integer
from PIL import Image, ImageDraw

from gradcut import images
from gradcut.images import Photograph
from gradcut.pictures.drawing import (
    BACKGROUND,
    FOREGROUND,
    Picture,
    class_colours,
    draw_seeds,
    hatched,
    heat,
    inferno,
    overlay,
    stretch,
)
from gradcut.pictures.letters import Font, font, plain
from gradcut.seeds import Seeds, is_constant


@dataclass(frozen=True, eq=False)
class Row:
    """What is drawn of one class: its label, or any title, and what led to its mask.

    Args:
        saliency, seeds: of any size.
        mask: of the photograph's size.
        score, confidence: told beside the label, if there are any.
        unsure: whether the confidence is too low to trust the mask; told in words.
    """

    title: str
    saliency: Float[np.ndarray, "h w"] = field(repr=False)
    seeds: Seeds = field(repr=False)
    mask: Bool[np.ndarray, "H W"] = field(repr=False)
    score: float | None = None
    confidence: float | None = None
    unsure: bool = False

    @property
    def blank(self) -> bool:
        """Whether the saliency is the same everywhere, and the mask empty."""
        return is_constant(self.saliency) and not self.mask.any()

    @property
    def mark(self) -> str:
        """What a person has to know of the mask, in words; empty where nothing is amiss."""
        return "blank: no mask" if self.blank else "unsure" if self.unsure else ""


#: A picture's most pixels in width and height.
WIDEST, HIGHEST = 1600, 1600

INK, FAINT, LINE, PAPER, WARNING = (32, 33, 36), (95, 99, 104), (218, 220, 224), (255, 255, 255), (176, 58, 0)
MARGIN, GAP = 20, 14
#: Widths: of a row's text, of the scale beside a saliency, of the legend's narrowest column, of the narrowest picture.
_TEXT, _SCALE, _ENTRY, _NARROWEST = 180, 62, 330, 900
#: Heights: of a row's text, of a row's highest panel, of the lowest that still shows anything, of the two photographs.
_WORDS, _HIGH, _LOW, _TOP = 90, 300, 96, 380
#: Heights: of the line of the panels' names, of a line of the legend, of the last line.
_HEADING, _ENTRY_LINE, _LAST = 28, 21, 26
#: The most lines of notes.
_NOTES = 4
_PANELS = ("saliency", "seeds", "mask", "cut-out")
# The longest side over the other; a photograph beyond it is drawn with it.
_SLENDER = 12.0


def sheet(
    photograph: Photograph, labelmap: Integer[np.ndarray, "H W"], rows: Sequence[Row], notes: Sequence[str] = ()
) -> Picture:
    """A result for a person: the photograph with all classes in colour, a legend, and a row a class as in `strip`.

    It is no wider than `WIDEST` and no higher than `HIGHEST`: many classes make the rows lower, and of still more only
    the first are shown, and a line says how many are not.

    Args:
        labelmap: 0 is no label, i + 1 is the i-th row's.
        rows: at least one.
        notes: what else a person has to know, a line each, between the legend and the rows; beyond `_NOTES` the last
            line says how many more there are.
    """
    top = _TOP if len(rows) <= 4 else _TOP * 4 // 5
    _, panel = _panel(photograph, min(_HIGH, max(_LOW, (HIGHEST - top) // len(rows) - GAP)))
    beside = 2 * MARGIN + 2 * (round(top * aspect_of(photograph)) + GAP) + _ENTRY
    width = min(WIDEST, max(_NARROWEST, _width(panel), beside))
    head = _head(photograph, labelmap, rows, width, top)
    noted = _noted(notes, width)
    room = HIGHEST - head.height - noted.height
    return np.array(_stacked([head, noted, _table(photograph, rows, width, _HIGH, room)]))


def strip(photograph: Photograph, rows: Sequence[Row], height: int = _HIGH) -> Picture:
    """One row a class: saliency with its scale, seeds, the mask's outline on the photograph, and the cut-out.

    Of a saliency that is the same everywhere, with an empty mask, there is the first, and the text says "blank".

    Args:
        height: of a panel, in pixels, at most; see `sheet`.
    """
    return np.array(_table(photograph, rows, _width(_panel(photograph, height)[1]), height, HIGHEST))


def _panel(photograph: Photograph, height: float) -> tuple[int, int]:
    """Height and width of a panel that is at most so high, in the photograph's proportions."""
    aspect = aspect_of(photograph)
    widest = (WIDEST - 2 * MARGIN - _TEXT - _SCALE) / len(_PANELS) - GAP
    height = min(height, widest / aspect)
    return max(1, int(height)), max(1, int(height * aspect))


def aspect_of(photograph: Photograph) -> float:
    return float(np.clip(photograph.shape[1] / photograph.shape[0], 1 / _SLENDER, _SLENDER))


def _width(panel: int) -> int:
    """Of a table whose panels are so wide; each has room for its name."""
    return 2 * MARGIN + _TEXT + _SCALE + len(_PANELS) * (max(panel, 70) + GAP)


def _stacked(parts: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
    for number, part in enumerate(parts):
        whole.paste(part, (0, sum(above.height for above in parts[:number])))
    return whole


# The head ------------------------------------------------------------------------------------------------------------


def _head(
    photograph: Photograph, labelmap: Integer[np.ndarray, "H W"], rows: Sequence[Row], width: int, top: int
) -> Image.Image:
    """All classes in colour, the photograph beside it, and the legend: beside them where it finds room, else below."""
    aspect, inner = aspect_of(photograph), width - 2 * MARGIN
    height, alone = (int(min(top, (inner - less) / 2 / aspect)) for less in (2 * GAP + _ENTRY, GAP))
    beside = height >= 0.7 * alone and (len(rows) + 1) * _ENTRY_LINE <= height
    height = height if beside else alone
    size = (max(1, height), max(1, int(height * aspect)))
    unsure = [number for number, row in enumerate(rows, start=1) if row.unsure]
    pictures = (_overlaid(photograph, labelmap, size, unsure), images.resize(photograph, size))
    left = MARGIN + 2 * (size[1] + GAP)
    legend = _legend(rows, width - MARGIN - left, 1, size[0]) if beside else _legend(rows, inner, inner // _ENTRY, 460)
    bottom = MARGIN + size[0]
    head = Image.new("RGB", (width, bottom + (0 if beside else GAP + legend.height) + 6), PAPER)
    for number, picture in enumerate(pictures):
        head.paste(Image.fromarray(picture), (MARGIN + number * (size[1] + GAP), MARGIN))
    head.paste(legend, (left, MARGIN) if beside else (MARGIN, bottom + GAP))
    return head


def _legend(rows: Sequence[Row], width: int, columns: int, height: int) -> Image.Image:
    """Each class's colour, label, score and confidence, in columns, under their names; beyond the height it says how
    many more there are."""
    most = height // _ENTRY_LINE - 1
    lines = min(most, math.ceil(len(rows) / columns))
    shown = len(rows) if len(rows) <= lines * columns else lines * columns - 1
    picture = Image.new("RGB", (width, (lines + 1) * _ENTRY_LINE), PAPER)
    draw, column = ImageDraw.Draw(picture), width // columns
    sure = any(row.confidence is not None for row in rows)
    for left in range(0, min(columns, math.ceil(len(rows) / lines)) * column, column):
        draw.text((left + 24, 0), "class", FAINT, font(13))
        draw.text((left + column - 170, 0), "score", FAINT, font(13))
        draw.text((left + column - 120, 0), "expected IoU" if sure else "", FAINT, font(13))
    for number, (row, colour) in enumerate(zip(rows[:shown], class_colours(shown).tolist(), strict=True)):
        left, top = number // lines * column, (number % lines + 1) * _ENTRY_LINE
        _swatch(picture, row, colour, (left, top + 1))
        title = plain(row.title)
        hand = font(15, title)
        draw.text((left + 24, top), fitted(title, hand, column - 204), INK, hand)
        draw.text((left + column - 170, top), _number(row.score), INK, font(15))
        words = row.mark if row.blank else f"{_number(row.confidence)}  {row.mark}".strip()
        draw.text((left + column - 120, top), words, WARNING if row.mark else INK, font(15))
    if shown < len(rows):
        left, top = shown // lines * column, (shown % lines + 1) * _ENTRY_LINE
        draw.text((left + 24, top), f"and {len(rows) - shown} more", FAINT, font(15))
    return picture


def _noted(notes: Sequence[str], width: int) -> Image.Image:
    """A line for each note, of which there are a few."""
    shown = list(notes) if len(notes) <= _NOTES else [*notes[: _NOTES - 1], f"and {len(notes) - _NOTES + 1} more"]
    picture = Image.new("RGB", (width, len(shown) * _ENTRY_LINE), PAPER)
    for number, note in enumerate(shown):
        text = plain(note)
        hand = font(15, text)
        text = fitted(text, hand, width - 2 * MARGIN)
        ImageDraw.Draw(picture).text((MARGIN, number * _ENTRY_LINE), text, FAINT, hand)
    return picture


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


# The rows ------------------------------------------------------------------------------------------------------------


def _table(photograph: Photograph, rows: Sequence[Row], width: int, height: int, room: int) -> Image.Image:
    """A row a class, with panels of at most ``height``, in at most ``room`` pixels of height."""
    room -= _HEADING + _LAST
    highest, _ = _panel(photograph, height)
    lowest = min(_LOW, highest)
    size = _panel(photograph, min(highest, max(lowest, room // len(rows) - GAP)))
    pitch = max(size[0], _WORDS) + GAP
    shown = rows[: room // pitch]
    rest = len(rows) - len(shown)
    table = Image.new("RGB", (width, _HEADING + len(shown) * pitch + (_LAST if rest else 6)), PAPER)
    draw = ImageDraw.Draw(table)
    first = MARGIN + _TEXT
    # Lower rows have narrower panels, which stand apart, so that the table stays as wide as what is above it.
    step = (width - MARGIN - first - _SCALE) / len(_PANELS)
    lefts = [first, *(round(first + _SCALE + number * step) for number in range(1, len(_PANELS)))]
    for left, name in zip(lefts, _PANELS, strict=True):
        draw.text((left, 3), name, FAINT, font(13))
    if step > 190:
        draw.text((lefts[1] + 45, 3), "object", FOREGROUND, font(13))
        draw.text((lefts[1] + 92, 3), "background", BACKGROUND, font(13))
    small, twice = images.resize(photograph, size), images.resize(photograph, (2 * size[0], 2 * size[1]))
    for number, row in enumerate(shown):
        top = _HEADING + number * pitch
        draw.line((MARGIN, top - GAP // 2, width - MARGIN, top - GAP // 2), LINE)
        _swatch(table, row, class_colours(number + 1)[-1].tolist(), (MARGIN, top + 3))
        _words(draw, row, top, pitch - GAP)
        panels = [images.resize(heat(row.saliency), size)]
        if not row.blank:
            _scale(table, row.saliency, (first + size[1] + 5, top), size[0])
            panels += [draw_seeds(small, row.seeds), _outlined(twice, row.mask, number), _checkered(twice, row.mask)]
        for left, panel in zip(lefts, panels, strict=False):
            table.paste(Image.fromarray(panel), (left, top))
            draw.rectangle((left - 1, top - 1, left + size[1], top + size[0]), outline=LINE)
    if rest:
        words = f"{rest} more class{'es have' if rest > 1 else ' has'} no row here"
        draw.text((MARGIN, table.height - _LAST + 2), words, FAINT, font(15))
    return table


def _words(draw: ImageDraw.ImageDraw, row: Row, top: int, height: int) -> None:
    """The row's text: title, score, confidence, and what is amiss."""
    notes = [f"score {row.score:.2f}"] if row.score is not None else []
    notes += [f"expected IoU {row.confidence:.2f}"] if row.confidence is not None and not row.blank else []
    notes += [row.mark] if row.mark else []
    title = plain(row.title)
    hand = font(16, title)
    lines = _wrapped(title, hand, _TEXT - 24 - GAP, (height - 18 * len(notes)) // 20)
    for number, line in enumerate(lines):
        draw.text((MARGIN + 24, top + 20 * number), line, INK, hand)
    for number, note in enumerate(notes):
        ink = WARNING if note == row.mark else FAINT
        draw.text((MARGIN + 24, top + 20 * len(lines) + 2 + 18 * number), note, ink, font(14))


def _scale(table: Image.Image, saliency: Float[np.ndarray, "h w"], corner: tuple[int, int], height: int) -> None:
    """The colours of `heat` with the numbers that they stand for: lowest, highest, and where the scale bends, if it
    does, else the middle."""
    left, top = corner
    bar = np.repeat(inferno(np.linspace(1, 0, height))[:, None], 10, axis=1)
    table.paste(Image.fromarray(bar), (left, top))
    maximum, draw = float(saliency.max()), ImageDraw.Draw(table)
    share, place = stretch(saliency)
    middle = (share, place, "m") if share < place else (0.5, 0.5, "m")
    ticks = [(1.0, 1.0, "t"), *([middle] if height >= _LOW else []), (0.0, 0.0, "b")]
    for value, tick, anchor in ticks:
        where = (left + 14, top + round((1 - tick) * (height - 1)) + (5 if anchor == "m" and tick > 0.8 else 0))
        draw.text(where, f"{value * maximum:.2g}", FAINT, font(11), anchor=f"l{anchor}")


# Small pieces --------------------------------------------------------------------------------------------------------


def _swatch(picture: Image.Image, row: Row, colour: Sequence[int], corner: tuple[int, int]) -> None:
    """The class's colour as it is in the picture of all classes."""
    left, top = corner
    if row.unsure:
        picture.paste(Image.fromarray(hatched(colour, 15, 15)), (left, top))
    else:
        ImageDraw.Draw(picture).rectangle((left, top, left + 14, top + 14), tuple(colour))


def _overlaid(
    photograph: Photograph, labelmap: Integer[np.ndarray, "H W"], size: tuple[int, int], unsure: Sequence[int]
) -> Picture:
    """`overlay` at another size, with smooth outlines: drawn twice as large, then shrunk."""
    height, width = 2 * size[0], 2 * size[1]
    labels = np.asarray(Image.fromarray(labelmap).resize((width, height), Image.Resampling.NEAREST))
    return images.resize(overlay(images.resize(photograph, (height, width)), labels, 0.45, 4, unsure), size)


def _outlined(twice: Photograph, mask: Bool[np.ndarray, "h w"], number: int) -> Picture:
    """The mask's outline in the class's colour, at half the size."""
    height, width = twice.shape[:2]
    inside = images.resize_mask(mask, (height, width))
    thickness = max(2, round(height / 110))
    picture = overlay(twice, inside * np.int32(number + 1), 0.0, thickness)
    return images.resize(picture, (height // 2, width // 2))


def _checkered(twice: Photograph, mask: Bool[np.ndarray, "h w"]) -> Picture:
    """The photograph inside the mask, on a light checker, at half the size."""
    height, width = twice.shape[:2]
    is_light = np.equal.outer(np.arange(height) // 16 % 2, np.arange(width) // 16 % 2)
    ground = np.where(is_light, np.uint8(232), np.uint8(255))
    inside = Image.fromarray(images.resize_mask(mask, (height, width)))
    picture = Image.composite(Image.fromarray(twice), Image.fromarray(ground).convert("RGB"), inside)
    return images.resize(np.asarray(picture), (height // 2, width // 2))


def fitted(text: str, font: Font, width: float) -> str:
    """The text in one line of at most so many pixels, shortened with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _wrapped(text: str, font: Font, width: float, most: int) -> list[str]:
    """The text in at most so many lines of at most so many pixels; the last is shortened with an ellipsis."""
    lines: list[str] = []
    words = text.split(" ")
    while words and len(lines) < most - 1:
        taken = max(1, sum(font.getlength(" ".join(words[: n + 1])) <= width for n in range(len(words))))
        lines.append(fitted(" ".join(words[:taken]), font, width))
        words = words[taken:]
    return [*lines, fitted(" ".join(words), font, width)] if words else lines

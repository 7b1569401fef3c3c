"""Exact changes of a joint labelling: a region is given to another class, holes are filled, crumbs dropped.

They work on one class a pixel, as it is seen, after the cut; nothing is cut again for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, get_args

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from gradcut import images
from gradcut.errors import GradcutError
from gradcut.painting import Stroke, rasterise

#: Regions smaller than this share of a class's largest are its crumbs.
CRUMBS = 0.1

#: How many edits of one photograph there may be: each takes time.
MOST = 200

#: Letters of a class's name.
LONGEST = 200

#: How far beside a region a point may be, as a share of the photograph's longer side: outlines at another size differ.
_BESIDE = 0.005

Kind = Literal["give", "fill", "crumbs"]


@dataclass(frozen=True)
class Edit:
    """One exact change.

    Args:
        kind: ``give`` makes pixels of a class those of another, or of none; ``fill`` gives a class the background that
            it surrounds; ``crumbs`` takes from a class its regions smaller than a tenth of its largest.
        label: the class.
        to: of ``give``, who gets the pixels; None makes them background.
        at: of ``give``, a point (x, y) of the connected region that is meant, in the photograph's pixels; None is all
            of the class.
        after: for each class how many of its strokes were painted before: later ones have the last word. A class that
            is not named had none.

    Raises:
        GradcutError: another kind, something else than names, or a point or a target where none is.
    """

    kind: Kind
    label: str
    to: str | None = None
    at: tuple[float, float] | None = None
    after: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            _wrong("kind give, fill or crumbs", self.kind)
        check_name("edits", self.label)
        if self.to is not None:
            check_name("edits", self.to)
        if self.kind != "give" and (self.to, self.at) != (None, None):
            _wrong("to and at of give alone", self.kind)
        if self.to == self.label:
            _wrong("to to be another class", self.to)

    @classmethod
    def parse(cls, document: Any) -> tuple[Edit, ...]:
        """The edits in a JSON value, a list of objects with the fields' names; `to`, `at` and `after` may be missing.

        Raises:
            GradcutError: something else, or more than `MOST`.
        """
        if not isinstance(document, list) or len(document) > MOST:
            _wrong(f"a list of at most {MOST} edits", document)
        try:
            return tuple(
                cls(item["kind"], item["label"], item.get("to"), _point(item.get("at")), _counts(item.get("after", {})))
                for item in document
            )
        except GradcutError:
            raise
        except (AttributeError, TypeError, ValueError, KeyError, OverflowError):
            _wrong("objects with kind, label, to, at and after", document)


def check_name(argument: str, label: object) -> None:
    """Raise GradcutError unless a class's name is a text of 1 to `LONGEST` letters, in one line."""
    if not isinstance(label, str) or not 0 < len(label) <= LONGEST or not label.isprintable() or label.isspace():
        raise GradcutError(f"{argument}: expected a class's name of 1 to {LONGEST} letters, got {str(label)[:60]!r}")


def _wrong(expected: str, got: object) -> NoReturn:
    raise GradcutError(f"edits: expected {expected}, got {str(got)[:60]!r}")


def _point(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    x, y = value
    point = float(x), float(y)
    if not all(map(math.isfinite, point)):
        _wrong("finite points", value)
    return point


def _counts(value: Any) -> dict[str, int]:
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in value.values()):
        _wrong("numbers of strokes, 0 or above", value)
    return dict(value)


def apply(
    labels: Integer[np.ndarray, "H W"],
    names: Sequence[str],
    edits: Sequence[Edit],
    strokes: Mapping[str, Sequence[Stroke]],
    scale: float = 1.0,
) -> tuple[Integer[np.ndarray, "H W"], list[int]]:
    """A labelling after edits, and which of them changed no pixel, by their places in the list.

    Where a stroke was painted after an edit, its pixels are what it says.

    Args:
        labels: 0 is background, i + 1 the i-th of ``names``.
        strokes: of each class, as they are counted in `Edit.after`.
        scale: from the pixels of edits and strokes to those of ``labels``.
    """
    values = labels.copy()
    numbers = {name: number for number, name in enumerate(names, start=1)}
    idle = []
    for place, edit in enumerate(edits):
        pixels = _pixels(values, numbers, edit, scale)
        if pixels.any():
            values[pixels] = {"give": numbers.get(edit.to or "", 0), "fill": numbers.get(edit.label, 0)}.get(
                edit.kind, 0
            )
        else:
            idle.append(place)
        until = edits[place + 1].after if place + 1 < len(edits) else None
        for label, drawn in strokes.items():
            later = drawn[edit.after.get(label, 0) : None if until is None else until.get(label, 0)]
            if later and label in numbers:
                inside, outside = rasterise(later, values.shape, scale)
                values[outside & (values == numbers[label])] = 0
                values[inside] = numbers[label]
    return values, idle


def _pixels(
    values: Integer[np.ndarray, "H W"], numbers: Mapping[str, int], edit: Edit, scale: float
) -> Bool[np.ndarray, "H W"]:
    """Those that an edit changes; none where it asks for a class that is not there."""
    pixels = np.zeros(values.shape, dtype=bool)
    if edit.label not in numbers or (edit.to is not None and edit.to not in numbers):
        return pixels
    own = values == numbers[edit.label]
    box = images.box_of(own)
    if box is None:
        return pixels
    left, top, width, height = box
    part = np.s_[top : top + height, left : left + width]
    inside = own[part]
    if edit.kind == "fill":
        pixels[part] = _surrounded(inside) & (values[part] == 0)
    elif edit.kind == "crumbs":
        regions, sizes = _regions(inside)
        sizes[0] = 0
        pixels[part] = (sizes < CRUMBS * sizes.max())[regions] & inside
    elif edit.at is None:
        pixels = own
    else:
        x, y = (value * scale for value in edit.at)
        rows, columns = np.nonzero(inside)
        far = np.hypot(rows + top + 0.5 - y, columns + left + 0.5 - x)
        nearest = int(far.argmin())
        if far[nearest] <= max(1.5, _BESIDE * max(values.shape)):
            regions, _ = _regions(inside)
            pixels[part] = regions == regions[rows[nearest], columns[nearest]]
    return pixels


def _regions(inside: Bool[np.ndarray, "h w"]) -> tuple[Integer[np.ndarray, "h w"], Integer[np.ndarray, " n"]]:
    """Connected regions, over the corners of pixels too, counted from 1; and their sizes, that of the rest first."""
    regions, number = ndimage.label(inside, structure=np.ones((3, 3)))
    return regions, np.bincount(regions.ravel(), minlength=number + 1)


def _surrounded(inside: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """What is outside, and not connected over the edges of pixels with the border."""
    gaps, number = ndimage.label(~inside)
    is_hole = np.ones(number + 1, dtype=bool)
    is_hole[0] = False
    for border in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
        is_hole[border] = False
    return np.asarray(is_hole[gaps])

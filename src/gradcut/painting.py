"""What a person paints: strokes, read from JSON and filled in as masks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from PIL import Image, ImageDraw

from gradcut.errors import GradcutError
from gradcut.seeds import Seeds

#: How often the strokes of one class may cover the photograph.
_COATS = 200

#: What stands in a mask's canvas for each kind.
_VALUES = {"foreground": 1, "background": 2, "erase": 0}

#: The least and the greatest number of points of each shape.
_POINTS = {"line": (0, math.inf), "polygon": (3, math.inf), "box": (2, 2)}


class Stroke(NamedTuple):
    """What was painted in one go, in pixels (x, y) of the photograph.

    A line is a brush of that radius drawn along the points; a polygon is filled, where its sides cross by the even-odd
    rule; a box has two opposite corners, and says that what is outside is background, and nothing of what is inside.
    ``erase`` takes strokes away that were painted before, so that these pixels are free again.
    """

    kind: Literal["foreground", "background", "erase"]
    radius: float
    points: Sequence[tuple[float, float]]
    shape: Literal["line", "polygon", "box"] = "line"


def parse_strokes(document: Any) -> dict[str, list[Stroke]]:
    """The strokes of each label in a JSON value, as `Stroke` has them; ``shape`` may be missing, of lines.

    Raises:
        GradcutError: something else.
    """
    try:
        strokes = {
            str(label): [
                Stroke(
                    s["kind"], float(s["radius"]), [(float(x), float(y)) for x, y in s["points"]],
                    s.get("shape", "line"),
                )
                for s in drawn
            ]
            for label, drawn in document.items()
        }  # fmt: skip
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError):
        _wrong("lists of kind, radius and points for each label", document)
    flat = [stroke for drawn in strokes.values() for stroke in drawn]
    for kind, radius, points, shape in flat:
        if kind not in list(_VALUES) or not 0 < radius < 1e5:
            _wrong("kind foreground, background or erase, and a radius above 0", document)
        if shape not in list(_POINTS):
            _wrong("shape line, polygon or box", document)
        least, most = _POINTS[shape]
        if not least <= len(points) <= most:
            _wrong("3 points of a polygon at least, and 2 of a box", document)
        if shape == "box" and kind != "background":
            _wrong("kind background of a box", document)
    if not np.isfinite([value for stroke in flat for point in stroke.points for value in point]).all():
        _wrong("finite points", document)
    return strokes


def _wrong(expected: str, got: object) -> NoReturn:
    raise GradcutError(f"strokes: expected {expected}, got {str(got)[:60]!r}")


def rasterise(strokes: Sequence[Stroke], size: tuple[int, ...], scale: float = 1.0) -> Seeds:
    """Strokes as two masks of that size; a later stroke covers an earlier one.

    Args:
        scale: from the strokes' pixels to those of the masks.

    Raises:
        GradcutError: they would cover more than so many photographs, which takes minutes.
    """
    height, width = size
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    diagonal = math.hypot(height, width)
    far = 10 * diagonal  # beyond, a hand has not been
    paint = 0.0
    for kind, reach, marks, shape in strokes:
        value, radius = _VALUES[kind], min(reach * scale, diagonal)
        points = [(x, y) for x, y in (scale * np.array(marks).reshape(-1, 2)).clip(-far, far).tolist()]
        if shape == "line":
            lengths = [math.dist(a, b) for a, b in itertools.pairwise(points)]
            areas = [*(2 * radius * length for length in lengths), *[4 * radius**2] * len(points)]
            paint += sum(min(area, height * width) for area in areas)
        else:  # each row that is filled asks for all of the sides, which costs more than a pixel
            paint += height * (width + 16 * len(points))
        if paint > _COATS * height * width:
            raise GradcutError(f"strokes: expected to cover the photograph at most {_COATS} times; take some back")
        if shape == "polygon":
            draw.polygon(points, fill=value)
        elif shape == "box":
            (left, right), (top, bottom) = (sorted(ends) for ends in zip(*points, strict=True))
            inside = Image.new("1", (width, height), 1)
            ImageDraw.Draw(inside).rectangle((left, top, right, bottom), fill=0)
            draw.bitmap((0, 0), inside, fill=value)
        else:
            if len(points) > 1:
                draw.line(points, fill=value, width=max(1, round(2 * radius)), joint="curve")
            for x, y in points:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value)
    values = np.asarray(canvas)
    return Seeds(values == 1, values == 2)

"""What a person paints: strokes of a brush, read from JSON and filled in as masks."""

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


class Stroke(NamedTuple):
    """A brush drawn along points (x, y), in pixels of the photograph."""

    kind: Literal["foreground", "background"]
    radius: float
    points: Sequence[tuple[float, float]]


def parse_strokes(document: Any) -> dict[str, list[Stroke]]:
    """The strokes of each label in a JSON value, as `Stroke` has them.

    Raises:
        GradcutError: something else.
    """
    try:
        strokes = {
            str(label): [
                Stroke(s["kind"], float(s["radius"]), [(float(x), float(y)) for x, y in s["points"]]) for s in drawn
            ]
            for label, drawn in document.items()
        }
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError):
        _wrong("lists of kind, radius and points for each label", document)
    flat = [stroke for drawn in strokes.values() for stroke in drawn]
    if any(kind not in ("foreground", "background") or not 0 < radius < 1e5 for kind, radius, _ in flat):
        _wrong("kind foreground or background, and a radius above 0", document)
    if not np.isfinite([value for *_, points in flat for point in points for value in point]).all():
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
    paint = 0.0
    for kind, reach, marks in strokes:
        value = 1 if kind == "foreground" else 2
        diagonal = math.hypot(height, width)
        radius = min(reach * scale, diagonal)
        far = 10 * diagonal  # beyond, a hand has not been
        points = [(x, y) for x, y in (scale * np.array(marks).reshape(-1, 2)).clip(-far, far).tolist()]
        lengths = [math.dist(a, b) for a, b in itertools.pairwise(points)]
        areas = [*(2 * radius * length for length in lengths), *[4 * radius**2] * len(points)]
        paint += sum(min(area, height * width) for area in areas)
        if paint > _COATS * height * width:
            raise GradcutError(f"strokes: expected to cover the photograph at most {_COATS} times; take some back")
        if len(points) > 1:
            draw.line(points, fill=value, width=max(1, round(2 * radius)), joint="curve")
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value)
    values = np.asarray(canvas)
    return Seeds(values == 1, values == 2)

"""What a person paints: strokes of every shape as masks, and what is no stroke."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcut.errors import GradcutError
from gradcut.painting import Stroke, parse_strokes, rasterise

SIZE = (24, 40)

COORDINATES = st.tuples(st.floats(-20, 60), st.floats(-20, 60))
KINDS = st.sampled_from(["foreground", "background", "erase"])
RADII = st.floats(0.1, 50)
STROKES = st.one_of(
    st.builds(Stroke, KINDS, RADII, st.lists(COORDINATES, max_size=6), st.just("line")),
    st.builds(Stroke, KINDS, RADII, st.lists(COORDINATES, min_size=3, max_size=6), st.just("polygon")),
    st.builds(
        Stroke, st.just("background"), RADII, st.lists(COORDINATES, min_size=2, max_size=2), st.just("box")
    ),
)  # fmt: skip


@given(st.lists(STROKES, max_size=5))
def test_the_two_sides_are_disjoint_and_strokes_come_back_from_json(strokes):
    inside, outside = rasterise(strokes, SIZE)
    assert inside.shape == outside.shape == SIZE
    assert not (inside & outside).any()
    assert parse_strokes({"cat": [stroke._asdict() for stroke in strokes]})["cat"] == strokes


@given(st.lists(STROKES, max_size=4), STROKES)
def test_a_stroke_decides_where_it_goes_and_nowhere_else(strokes, last):
    before, after = rasterise(strokes, SIZE), rasterise([*strokes, last], SIZE)
    painted = rasterise([last._replace(kind="background")], SIZE).background
    for was, now in zip(before, after, strict=True):
        assert np.array_equal(was[~painted], now[~painted])
    assert (after.foreground[painted] == (last.kind == "foreground")).all()
    assert (after.background[painted] == (last.kind == "background")).all()


@given(COORDINATES, COORDINATES)
def test_a_box_says_that_what_is_outside_is_background(a, b):
    inside, outside = rasterise([Stroke("background", 1, [a, b], "box")], SIZE)
    assert not inside.any()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    (left, right), (top, bottom) = sorted((a[0], b[0])), sorted((a[1], b[1]))
    free = (left + 1 <= x) & (x <= right - 1) & (top + 1 <= y) & (y <= bottom - 1)
    far = (x < left - 1) | (x > right + 1) | (y < top - 1) | (y > bottom + 1)
    assert not outside[free].any()
    assert outside[far].all()


def test_a_polygon_is_filled_at_any_scale():
    corners = [(4, 4), (20, 4), (20, 16), (4, 16)]
    small = rasterise([Stroke("foreground", 1, corners, "polygon")], SIZE).foreground
    assert small[5:16, 5:20].all()
    assert small.sum() == 13 * 17, "its sides belong to it"
    large = rasterise([Stroke("foreground", 1, corners, "polygon")], (240, 400), 10.0).foreground
    assert large.mean() == pytest.approx(12 * 16 / (24 * 40), abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "glue"}, "kind foreground, background or erase, and a radius"),
        ({"kind": ["erase"]}, "kind foreground, background or erase, and a radius"),
        ({"radius": 0}, "kind foreground, background or erase, and a radius"),
        ({"shape": "star"}, "shape line, polygon or box"),
        ({"shape": {}}, "shape line, polygon or box"),
        ({"shape": "polygon", "points": [[1, 2], [3, 4]]}, "3 points of a polygon at least, and 2 of a box"),
        ({"shape": "box", "kind": "background", "points": [[1, 2]] * 3}, "3 points of a polygon at least, and 2"),
        ({"shape": "box", "kind": "erase", "points": [[1, 2]] * 2}, "kind background of a box"),
        ({"points": [[1, float("nan")]]}, "finite points"),
    ],
)
def test_what_is_no_stroke_is_refused(change, message):
    stroke = {"kind": "foreground", "radius": 2.0, "points": [[1, 2]]}
    assert parse_strokes({"cat": [stroke]}) == {"cat": [Stroke("foreground", 2.0, [(1.0, 2.0)], "line")]}
    with pytest.raises(GradcutError, match=f"^strokes: expected {message}") as error:
        parse_strokes({"cat": [stroke | change]})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", ["polygon", "box"])
def test_no_strokes_hold_the_server_for_long(shape):
    points = [(x % 1400, 999 * (x % 2)) for x in range(100_000 if shape == "polygon" else 2)]
    stroke = Stroke("background", 1, points, shape)
    began = time.process_time()
    with pytest.raises(GradcutError, match="cover the photograph at most 200 times"):
        rasterise([stroke] * 300, (1000, 1400))
    assert time.process_time() - began < 10  # seconds of the processor; it takes 1

"""Exact changes of a joint labelling."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gradcut.edits import Edit, apply
from gradcut.errors import GradcutError
from gradcut.painting import Stroke

NAMES = ("car", "truck", "bus")


@pytest.fixture
def labels():
    """A car with a hole and a crumb, a second car, and a truck."""
    values = np.zeros((40, 60), np.uint8)
    values[5:15, 5:15] = 1
    values[8:11, 8:11] = 0
    values[2, 2] = 1
    values[25:35, 5:15] = 1
    values[5:15, 30:40] = 2
    return values


def test_a_region_or_all_of_a_class_is_given_away(labels):
    upper, lower = np.s_[0:20, 0:20], np.s_[20:40, 0:20]
    one, _ = apply(labels, NAMES, [Edit("give", "car", "truck", (10.0, 30.0))], {})
    assert set(np.unique(one[lower])) == {0, 2}
    assert np.array_equal(one[upper], labels[upper])
    every, _ = apply(labels, NAMES, [Edit("give", "car", "bus")], {})
    assert np.array_equal(every == 3, labels == 1)
    assert not (every == 1).any()
    nobody, _ = apply(labels, NAMES, [Edit("give", "car", None, (10.0, 30.0))], {})
    assert not nobody[lower].any()


def test_a_point_beside_a_region_means_it_and_one_far_away_nothing(labels):
    near, idle = apply(labels, NAMES, [Edit("give", "car", "truck", (15.5, 30.0))], {})
    assert (near[25:35, 5:15] == 2).all()
    assert idle == []
    far, idle = apply(labels, NAMES, [Edit("give", "car", "truck", (50.0, 30.0))], {})
    assert np.array_equal(far, labels)
    assert idle == [0]


def test_points_are_the_photographs(labels):
    large = np.kron(labels, np.ones((4, 4), np.uint8))
    small, _ = apply(labels, NAMES, [Edit("give", "car", "truck", (40.0, 120.0))], {}, 0.25)
    whole, _ = apply(large, NAMES, [Edit("give", "car", "truck", (40.0, 120.0))], {})
    assert np.array_equal(whole[::4, ::4], small)
    assert (small[25:35, 5:15] == 2).all()


def test_holes_are_filled_and_those_that_another_class_holds_stay(labels):
    filled, _ = apply(labels, NAMES, [Edit("fill", "car")], {})
    assert (filled[5:15, 5:15] == 1).all()
    assert np.array_equal(filled[:, 20:], labels[:, 20:])
    labels[8:11, 8:11] = 2
    assert apply(labels, NAMES, [Edit("fill", "car")], {})[1] == [0]


def test_crumbs_are_regions_smaller_than_a_tenth_of_the_largest(labels):
    labels[20, 20:30] = 1
    labels[22, 20:29] = 1
    without, _ = apply(labels, NAMES, [Edit("crumbs", "car")], {})
    assert not without[2, 2]
    assert (without[20, 20:30] == 1).all(), "ten pixels are a tenth of a hundred"
    assert not without[22, 20:29].any()
    assert np.array_equal(without == 2, labels == 2)


def test_edits_follow_each_other_and_later_strokes_have_the_last_word(labels):
    both = [Edit("fill", "car"), Edit("give", "car", "bus", (6.0, 6.0))]
    assert (apply(labels, NAMES, both, {})[0][5:15, 5:15] == 3).all()
    assert (apply(labels, NAMES, both[::-1], {})[0][8:11, 8:11] == 0).all(), "the car has no hole any more"

    dot = Stroke("foreground", 1.5, [(10.0, 30.0)])
    before = Edit("give", "car", "truck", (10.0, 30.0), {"car": 1})
    later = Edit("give", "car", "truck", (10.0, 30.0))
    assert apply(labels, NAMES, [before], {"car": [dot]})[0][30, 10] == 2
    assert apply(labels, NAMES, [later], {"car": [dot]})[0][30, 10] == 1
    # Between two edits it holds for the second one only.
    second = Edit("give", "car", "bus", (10.0, 30.0), {"car": 1})
    values, _ = apply(labels, NAMES, [later, second], {"car": [dot]})
    assert (values[30, 10], values[26, 6]) == (3, 2)
    gone, _ = apply(labels, NAMES, [later], {"truck": [dot._replace(kind="background")]})
    assert (gone[30, 10], gone[26, 6]) == (0, 2)


def test_what_asks_for_a_class_that_is_not_there_is_told_of(labels):
    asked = [Edit("give", "tram", "car"), Edit("give", "car", "tram"), Edit("crumbs", "bus"), Edit("fill", "truck")]
    values, idle = apply(labels, NAMES, asked, {"tram": [Stroke("foreground", 9, [(20, 20)])]})
    assert np.array_equal(values, labels)
    assert idle == [0, 1, 2, 3]


def test_edits_come_back_from_json():
    edits = (Edit("give", "car", "truck", (1.5, 2.0), {"car": 2}), Edit("give", "car"), Edit("fill", "a car"))
    assert Edit.parse(json.loads(json.dumps([vars(edit) for edit in edits]))) == edits
    assert Edit.parse([{"kind": "crumbs", "label": "car"}]) == (Edit("crumbs", "car"),)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "a list of at most 200 edits"),
        ([{"kind": "fill", "label": "car"}] * 201, "a list of at most 200 edits"),
        ([5], "objects with kind, label, to, at and after"),
        ([{"kind": "fill"}], "objects with kind, label, to, at and after"),
        ([{"kind": "melt", "label": "car"}], "kind give, fill or crumbs, got 'melt'"),
        ([{"kind": ["give"], "label": "car"}], "kind give, fill or crumbs"),
        ([{"kind": "fill", "label": "x" * 201}], "a class's name of 1 to 200 letters"),
        ([{"kind": "fill", "label": None}], "a class's name of 1 to 200 letters"),
        ([{"kind": "fill", "label": "a\nb"}], "a class's name of 1 to 200 letters"),
        ([{"kind": "give", "label": "car", "to": 5}], "a class's name of 1 to 200 letters"),
        ([{"kind": "give", "label": "car", "to": "car"}], "to to be another class"),
        ([{"kind": "fill", "label": "car", "at": [1, 2]}], "to and at of give alone"),
        ([{"kind": "give", "label": "car", "at": [1]}], "objects with kind, label, to, at and after"),
        ([{"kind": "give", "label": "car", "at": [1, float("inf")]}], "finite points"),
        ([{"kind": "give", "label": "car", "after": {"car": -1}}], "numbers of strokes, 0 or above"),
        ([{"kind": "give", "label": "car", "after": [1]}], "objects with kind, label, to, at and after"),
    ],
)
def test_what_is_no_edit_is_refused(document, message):
    with pytest.raises(GradcutError, match=f"^edits: expected {message}") as error:
        Edit.parse(document)
    assert "\n" not in str(error.value)

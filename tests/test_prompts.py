"""What SAM is asked with, in its own conventions: x before y, pixels, XYXY boxes of the outermost pixels."""

from __future__ import annotations

import numpy as np
import pytest

from gradcut import Segmenter
from gradcut.compact import as_compact
from gradcut.prompts import prompts
from gradcut.seeds import Fractions, Seeds


def blob(size, left, top, right, bottom):
    mask = np.zeros(size, dtype=bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def test_boxes_and_points_are_in_pixels_of_the_photograph_x_first():
    """A photograph twice as wide as high, and a map of another shape: nothing is exchanged or scaled twice."""
    mask = blob((200, 400), 300, 20, 380, 90)
    saliency = np.zeros((32, 32), dtype=np.float32)
    saliency[3:14, 24:31] = 0.2
    saliency[9, 29] = 1.0  # where x is 29.5 / 32 of 400
    found = prompts(as_compact(mask), saliency, Fractions()(saliency))
    assert found["box"] == [300, 20, 380, 90]
    assert found["point_labels"] == [1, 0, 0]
    (x, y), *others = found["points"]
    assert (x, y) == (int(29.5 * 400 / 32), int(9.5 * 200 / 32))
    assert mask[y, x]
    for x, y in others:
        assert not mask[y, x]
        assert 260 <= x < 400
        assert 0 <= y < 125
    assert np.hypot(*np.subtract(*others)) > 20, "the second lies elsewhere"


def test_saliency_and_the_distance_from_the_edge_decide():
    mask = blob((64, 64), 10, 10, 50, 50)
    flat = np.ones((64, 64), dtype=np.float32)
    nothing = Seeds(np.zeros((64, 64), dtype=bool), np.zeros((64, 64), dtype=bool))
    middle = prompts(as_compact(mask), flat, nothing)["points"][0]
    assert np.abs(np.subtract(middle, 30)).max() <= 1
    corner = Seeds(blob((64, 64), 12, 12, 18, 18), blob((64, 64), 0, 0, 5, 63))
    x, y = prompts(as_compact(mask), flat, corner)["points"][0]
    assert corner.foreground[y, x]
    assert all(corner.background[y, x] for x, y in prompts(as_compact(mask), flat, corner)["points"][1:])


@pytest.mark.parametrize("seed", range(8))
def test_points_are_on_their_side_of_any_mask(seed):
    """Also of masks thinner than a cell of the map, single pixels, and masks that leave nothing outside."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(20, 300, 2)
    masks = [generator.random((height, width)) > 0.5, np.eye(height, width, dtype=bool), np.ones((height, width), bool)]
    masks.append(blob((height, width), 7, 3, 7, 3))
    saliency = generator.random((16, 24)).astype(np.float32)
    for mask in masks:
        found = prompts(as_compact(mask), saliency, Fractions()(saliency))
        (x, y), *others = found["points"]
        assert mask[y, x]
        assert not any(mask[y, x] for x, y in others)
        assert len(found["points"]) == len(found["point_labels"])
    assert prompts(as_compact(masks[2]), saliency, Fractions()(saliency))["point_labels"] == [1]
    assert prompts(as_compact(~masks[2]), saliency, Fractions()(saliency)) is None


def test_records_have_them(brightness, drawn, tmp_path):
    result = Segmenter(brightness)(drawn[0])
    for item, entry in zip(result, result.save(tmp_path)["objects"], strict=True):
        left, top, right, bottom = entry["prompts"]["box"]
        assert (left, top, right - left + 1, bottom - top + 1) == item.box
        x, y = entry["prompts"]["points"][0]
        assert drawn[1][item.label][y, x], "in what was drawn, not only in the mask"

from __future__ import annotations

import numpy as np
import pytest

from gradcut import pictures
from gradcut.seeds import Seeds


def test_palette_is_pascal_voc():
    # The first entries as the VOC development kit lists them.
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert pictures.palette()[:7].tolist() == [list(colour) for colour in expected]
    assert len(np.unique(pictures.palette(), axis=0)) == 256


def test_heat_rises_with_the_map():
    ramp = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    colours = pictures.heat(ramp).astype(int).sum(2).ravel()
    assert (np.diff(colours) >= 0).all()
    assert colours[0] == 0
    assert colours[-1] == 3 * 255
    assert (pictures.heat(np.zeros((4, 4), dtype=np.float32)) == 0).all()


def test_rounding_is_not_drawn_as_heat():
    """Where a map is 0 nearly everywhere, so is its percentile, but for what rounding leaves."""
    spot = np.zeros((100, 100))
    spot[3, 4] = 1
    rounding = np.abs(np.random.default_rng(0).normal(0, 1e-9, spot.shape))
    assert np.array_equal(pictures.heat(spot + rounding), pictures.heat(spot))
    assert (pictures.heat(spot)[3, 4] == 255).all()
    assert pictures.heat(spot).any(2).sum() == 1


def test_overlay_tints_labelled_pixels_only():
    photograph = np.full((40, 40, 3), 100, dtype=np.uint8)
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[10:30, 10:30] = 1
    picture = pictures.overlay(photograph, labels)
    assert (picture[labels == 0] == 100).all()
    assert picture[20, 20].tolist() == [114, 50, 50]  # half way to VOC's first colour
    assert picture[10, 10].tolist() == [128, 0, 0]  # the outline
    assert (pictures.overlay(photograph, labels, opacity=0.0)[20, 20] == 100).all()


@pytest.mark.parametrize("shape", [(1, 1), (4, 900), (900, 4), (60, 80)])
@pytest.mark.parametrize("objects", [1, 3])
def test_strip_has_a_row_an_object(shape, objects):
    photograph = np.full((*shape, 3), 90, dtype=np.uint8)
    mask = np.ones(shape, dtype=bool)
    half = np.arange(64).reshape(8, 8) < 32
    row = ("cat  0.91", np.ones((8, 8), dtype=np.float32), Seeds(half, ~half), mask)
    one = pictures.strip(photograph, [row])
    picture = pictures.strip(photograph, [row] * objects)
    assert picture.shape[1] == one.shape[1]
    assert picture.shape[0] - one.shape[0] == (objects - 1) * (one.shape[0] - 8)
    assert (picture != 255).any(axis=(1, 2)).sum() > objects * 240


def test_seeds_are_red_and_blue():
    half = np.arange(64).reshape(8, 8) < 32
    picture = pictures.draw_seeds(np.full((8, 8, 3), 90, dtype=np.uint8), Seeds(half, ~half)).astype(int)
    assert (picture[half][:, 0] > picture[half][:, 2] + 50).all()
    assert (picture[~half][:, 2] > picture[~half][:, 0] + 50).all()


def test_a_row_of_a_blank_map_says_so():
    photograph = np.full((60, 80, 3), 90, dtype=np.uint8)
    nowhere = np.zeros((8, 8), dtype=bool)
    blank = ("cat  0.91", np.zeros((8, 8), dtype=np.float32), Seeds(nowhere, nowhere), np.zeros((60, 80), dtype=bool))
    picture = pictures.strip(photograph, [blank])
    right = picture[:, picture.shape[1] * 2 // 5 + 10 :]
    assert (right[40:] == 255).all(), "no seeds, no mask"
    without = pictures.strip(photograph, [(blank[0], np.eye(8, dtype=np.float32), *blank[2:])])
    assert (picture[:30] != without[:30]).any(), "the title says blank"

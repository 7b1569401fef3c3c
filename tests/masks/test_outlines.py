"""`Outlined` and the cut in a band that it makes, on drawn scenes and held to the whole grid's cut."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import perimeter_crofton
from typecheck import unchecked

from gradcut import images
from gradcut.errors import MaskError
from gradcut.masks import ColourCut, MaskMaker, Otsu, Outlined
from gradcut.masks.maxflow import NEIGHBOURS, min_cut, min_cut_within
from gradcut.seeds import Fractions, Seeds

NO_MAP = np.ones((1, 20, 20), dtype=np.float32)
NO_SEEDS = Seeds(*np.zeros((2, 20, 20), dtype=bool))


def coarse(mask: np.ndarray, grid: int = 160) -> MaskMaker:
    """Always this mask, as a maker would have it that works on a grid."""
    places = images.coverage(mask, (grid, grid)) >= 0.5
    return lambda photograph, saliency, seeds: np.stack([images.resize_mask(places, photograph.shape[:2])])


def outlined(maker: MaskMaker, photograph: np.ndarray, seeds: Seeds = NO_SEEDS, **options: float) -> np.ndarray:
    (mask,) = Outlined(maker, **options)(photograph, NO_MAP, [seeds])
    return mask


def made(maker: MaskMaker, photograph: np.ndarray) -> np.ndarray:
    return maker(photograph, NO_MAP, [NO_SEEDS])[0]


def disc(size: tuple[int, int], shift: float = 0, radius: float = 0.3) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    place = np.array(size) / 160
    y0, x0 = np.array([0.52, 0.47]) * size + shift * place
    mask: np.ndarray = (y - y0) ** 2 + (x - x0) ** 2 < (radius * size[0]) ** 2
    return mask


def polygon(size: tuple[int, int], shift: float = 0) -> np.ndarray:
    """A triangle, by its three half planes."""
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None] - shift / 160
    mask: np.ndarray = (y < 0.85) & (y - 0.15 > 1.4 * (x - 0.55)) & (y - 0.15 > -1.9 * (x - 0.55))
    return mask


def painted(mask: np.ndarray) -> np.ndarray:
    """The mask in green on brown, both with noise."""
    noise = np.random.default_rng(0).normal(0, 8, (*mask.shape, 3))
    return (np.where(mask[..., None], (60, 160, 70), (150, 110, 60)) + noise).clip(0, 255).astype(np.uint8)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


# --- The outline ---


@pytest.mark.parametrize("size", [(480, 640), (700, 400), (1100, 900)])
@pytest.mark.parametrize("shape", [disc, polygon])
def test_a_mask_that_is_off_by_half_a_place_comes_to_the_edge(
    size: tuple[int, int], shape: Callable[..., np.ndarray]
) -> None:
    truth, maker = shape(size), coarse(shape(size, 0.5))
    photograph = painted(truth)
    before = iou(made(maker, photograph), truth)
    assert before < 0.987
    assert iou(outlined(maker, photograph), truth) > max(0.98, before + 0.01)


@pytest.mark.parametrize("size", [(480, 640), (1100, 900)])
def test_on_a_flat_photograph_the_outline_is_smooth(size: tuple[int, int]) -> None:
    """The steps go: a disc's outline is no longer than a disc's, and nearer to it."""
    truth, flat = disc(size), np.full((*size, 3), 90, np.uint8)
    maker = coarse(truth)
    before, after = made(maker, flat), outlined(maker, flat)
    length = 2 * np.pi * 0.3 * size[0]
    assert perimeter_crofton(before) > 1.025 * length
    assert perimeter_crofton(after) < 1.01 * length
    assert iou(after, truth) > iou(before, truth)


def test_a_straight_edge_that_crosses_the_grid_has_no_steps() -> None:
    y, x = np.mgrid[:800, :800]
    truth, flat = y > 260 + 0.3 * x, np.full((800, 800, 3), 90, np.uint8)
    before, after = made(coarse(truth), flat), outlined(coarse(truth), flat)
    deviation = [(~mask).sum(axis=0)[20:-20] - (260 + 0.3 * x[0])[20:-20] for mask in (before, after)]
    assert deviation[0].std() > 1.0  # of 5 pixels a place
    assert deviation[1].std() < 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(20, 150), st.integers(20, 150)), st.integers(4, 40))
def test_outside_the_band_nothing_changes(seed: int, size: tuple[int, int], grid: int) -> None:
    rng = np.random.default_rng(seed)
    photograph = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    maker = coarse(ndimage.gaussian_filter(rng.normal(size=size), min(size) / 8) > 0, grid)
    reach = float(rng.choice([0.5, 1, 1.5, 3]))
    before = made(maker, photograph)
    changed = before != outlined(maker, photograph, grid=grid, reach=reach, smoothness=2.0)
    # A cell more than the reach, since one that the boundary crosses is of either side.
    cells = [min(2 * grid, side) for side in size]
    steps = [int(np.ceil((round(reach * n / grid) + 1) * side / n)) for n, side in zip(cells, size, strict=True)]
    window = [2 * step + 1 for step in steps]
    assert not (changed & (ndimage.minimum_filter(before, window) == ndimage.maximum_filter(before, window))).any()


def test_what_is_thin_is_not_lost() -> None:
    """Bars, and gaps, of one, two and three places across; the cut alone would shorten the outline by all of them."""
    places = np.zeros((160, 160), dtype=bool)
    for left, width in ((20, 1), (60, 2), (100, 3)):
        places[30:130, left : left + width] = True
    for thin in (places, ~places):
        mask = np.kron(thin, np.ones((6, 6), dtype=bool))
        after = outlined(coarse(mask), np.full((960, 960, 3), 90, np.uint8), smoothness=3.0)
        assert ndimage.label(after)[1] == ndimage.label(mask)[1]
        assert ndimage.label(~after)[1] == ndimage.label(~mask)[1]


def test_seeds_in_the_band_are_hard() -> None:
    size = (400, 400)
    photograph, maker = painted(disc(size)), coarse(disc(size))
    seeds = Seeds(*np.zeros((2, 20, 20), dtype=bool))
    plain = outlined(maker, photograph, reach=8)
    seeds.foreground[4, 9], seeds.background[16, 9] = True, True  # a place of 20 x 20 pixels, half beyond the edge
    inside, outside = (np.kron(side, np.ones((20, 20), dtype=bool)) for side in seeds)
    assert 0 < plain[inside].mean() < 1
    assert 0 < plain[outside].mean() < 1
    mask = outlined(maker, photograph, seeds, reach=8)
    assert mask[inside].all()
    assert not mask[outside].any()


def test_each_class_is_outlined_alone() -> None:
    size = (200, 240)
    photograph = painted(disc(size))
    several = np.stack([disc(size, 0.5), np.zeros(size, dtype=bool), disc(size, radius=0.1), np.ones(size, dtype=bool)])
    together = Outlined(lambda *_: several, grid=20)(photograph, np.ones((4, 20, 20)), [NO_SEEDS] * 4)
    assert np.array_equal(together[[1, 3]], several[[1, 3]])
    assert (together[[0, 2]] != several[[0, 2]]).any(axis=(1, 2)).all()


def test_a_large_photograph_is_cut_smaller_and_its_masks_enlarged() -> None:
    truth = disc((600, 800))
    photograph, small = painted(truth), images.resize(painted(truth), (300, 400))
    maker, limit = ColourCut(grid=80), 300 * 400
    y, x = np.mgrid[:30, :40]
    saliency = np.exp(-((y - 15) ** 2 + (x - 19) ** 2) / 100)[None]
    arguments = saliency, [Fractions(0.95, 0.02)(saliency[0])]
    (shrunk,) = Outlined(maker, grid=80)(small, *arguments)
    (mask,) = Outlined(maker, grid=80, limit=limit)(photograph, *arguments)
    assert np.array_equal(mask, images.resize_mask(shrunk, (600, 800)))
    assert iou(mask, truth) > 0.98


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"maker": "otsu"}, "maker: expected a mask maker, got 'otsu'"),
        ({"grid": 0}, "grid: expected a whole number of at least 1, got 0"),
        ({"reach": 0}, "reach: expected a number above 0, got 0"),
        ({"blur": 0.0}, "blur: expected a number above 0, got 0.0"),
        ({"smoothness": -1}, "smoothness: expected a number of at least 0, got -1"),
        ({"limit": 2.5e6}, "limit: expected a whole number of at least 1, got 2500000.0"),
    ],
)
def test_unusable_options(option: dict[str, object], message: str) -> None:
    with pytest.raises(MaskError, match=f"^{message}$"):
        unchecked(Outlined, **({"maker": Otsu()} | option))


# --- The cut in a band ---


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_the_cut_in_a_band_is_the_whole_grids_with_the_others_fixed(seed: int, h: int, w: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels, is_free = rng.random((h, w)) < 0.5, rng.random((h, w)) < share
    odds = rng.normal(size=(h, w)) * 2
    edges = [rng.random(size) for size in ((h, w - 1), (h - 1, w), (h - 1, w - 1), (h - 1, w - 1))]
    expected, _ = min_cut(
        np.where(is_free, np.maximum(-odds, 0), np.where(labels, 0, np.inf)),
        np.where(is_free, np.maximum(odds, 0), np.where(labels, np.inf, 0)),
        *edges,
    )
    weights = np.full((8, h, w), 9.0)  # what leads out of the grid is ignored
    for number, edge in enumerate(edges):
        down, right = NEIGHBOURS[2 * number]
        for y in range(h - down):
            for x in range(max(0, -right), w - max(0, right)):
                weight = edge[y, x - max(0, -right)]
                weights[2 * number, y, x] = weights[2 * number + 1, y + down, x + right] = weight
    free = np.flatnonzero(is_free)
    labels.flat[free] = min_cut_within(labels, free, odds.flat[free], weights.reshape(8, -1)[:, free])
    assert np.array_equal(labels, expected)


def test_the_time_grows_with_the_boundary_and_not_with_the_photograph() -> None:
    """Four times the pixels round the same band."""
    band, seconds = np.zeros((400, 400), dtype=bool), []
    band[100:104, 50:350] = True
    for grid in (band, np.pad(band, 200)):
        labels = np.zeros(grid.shape, dtype=bool)
        labels[: np.flatnonzero(grid.any(1))[1]] = True
        free = np.flatnonzero(grid)
        arguments = labels, free, np.zeros(len(free)), np.ones((8, len(free)))
        min_cut_within(*arguments)
        best = float("inf")
        for _ in range(20):
            started = time.process_time()
            min_cut_within(*arguments)
            best = min(best, time.process_time() - started)
        seconds.append(best)
    assert seconds[1] < 2 * seconds[0]

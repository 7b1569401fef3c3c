"""What was cut lately is found again by content, and is what would be cut anew."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from gradcut.masks import Cleaned, ColourCut, EdgeMap, Exponential, GraphCut, Outlined, RandomWalker, Threshold, Vote
from gradcut.masks.bands import contrast_within, likeness, widen
from gradcut.masks.kept import KEPT, Kept, digest
from gradcut.masks.makers import is_one_by_one
from gradcut.masks.maxflow import NEIGHBOURS
from gradcut.seeds import Fractions, Seeds

MAKER = Outlined(Cleaned(ColourCut(grid=40)), grid=40)


@pytest.fixture(autouse=True)
def nothing_is_kept() -> None:
    KEPT._values.clear()


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, list[Seeds]]:
    """A photograph of blobs in noise, and the maps and seeds of two classes."""
    rng = np.random.default_rng(seed)
    maps = np.stack([ndimage.gaussian_filter(rng.random((60, 60)), 6) for _ in range(2)]).astype(np.float32)
    maps = (maps - maps.min((1, 2), keepdims=True)) / np.ptp(maps, (1, 2), keepdims=True)
    colours = np.kron(maps[0] > 0.5, np.ones((3, 4)))[..., None] * (90, 60, 10) + 80
    photograph = (colours + rng.normal(0, 12, colours.shape)).clip(0, 255).astype(np.uint8)
    return photograph, maps, [Fractions(0.95, 0.02)(values) for values in maps]


def test_the_same_again_is_not_cut_again(monkeypatch: pytest.MonkeyPatch) -> None:
    photograph, maps, seeds = scene(0)
    first = MAKER(photograph, maps, seeds)
    monkeypatch.setattr(ColourCut, "energy", None)
    assert np.array_equal(MAKER(photograph.copy(), maps.copy(), seeds), first)
    changed = photograph.copy()
    changed[0, 0] += 1
    with pytest.raises(TypeError):
        MAKER(changed, maps, seeds)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_added_seeds_give_what_they_give_anew(seed: int) -> None:
    """Whether or not what was cut before is found to hold still."""
    KEPT._values.clear()
    photograph, maps, seeds = scene(seed)
    before = MAKER(photograph, maps, seeds)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, 55, 2)
    painted = np.zeros((60, 60), dtype=bool)
    painted[y : y + 5, x : x + 5] = True
    more = [Seeds(side.foreground & ~painted, side.background | painted) for side in seeds]
    again = MAKER(photograph, maps, more)
    KEPT._values.clear()
    anew = MAKER(photograph, maps, more)
    # The seeds leave the band, and with it the contrast's mean: by a step at most.
    assert (again != anew).mean() < 2e-3
    assert before.shape == anew.shape


def test_seeds_that_say_nothing_new_are_told_from_those_that_do() -> None:
    photograph, maps, seeds = scene(1)
    values, drawn = maps[0], seeds[0]
    MAKER(photograph, maps, seeds)
    surely_not, surely = values < 0.1, values > 0.8
    cut = ColourCut(grid=40)
    assert cut.unmoved(values, drawn, Seeds(drawn.foreground, drawn.background | surely_not))
    assert not cut.unmoved(values, drawn, Seeds(drawn.foreground, drawn.background | surely & ~drawn.foreground))
    assert not cut.unmoved(values, drawn, Seeds(drawn.foreground & False, drawn.background))


def test_which_makers_may_be_kept() -> None:
    assert is_one_by_one(Cleaned(ColourCut()))
    assert is_one_by_one(ColourCut(contrast=EdgeMap()))
    others = (
        RandomWalker(),
        GraphCut(),
        Threshold(),
        Vote([ColourCut()]),
        ColourCut(contrast=lambda p: Exponential()(p)),
    )
    for maker in (*others, Cleaned(Threshold()), lambda *_: None):
        assert not is_one_by_one(maker)


def test_a_maker_of_ones_own_is_asked_each_time() -> None:
    photograph, maps, seeds = scene(2)
    answers = iter([maps > 0.5, maps > 0.7])
    maker = Outlined(lambda p, s, _: np.kron(next(answers), np.ones((1, 3, 4))) > 0, grid=40)
    first, second = (maker(photograph, maps, seeds).sum() for _ in range(2))
    assert second < first


def test_threads_get_what_one_gets() -> None:
    scenes = [scene(number) for number in range(3)]
    expected = [MAKER(*each) for each in scenes]
    KEPT._values.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: MAKER(*scenes[number % 3]), range(12)))
    for number, masks in enumerate(found):
        assert np.array_equal(masks, expected[number % 3])


def test_the_last_used_are_kept() -> None:
    kept = Kept(2)
    for name in "ab":
        kept.put((name, 1), name)
    assert kept.find(("a", 1)) == "a"
    kept.put(("c", 1), "c")
    assert kept.find(("b", 1)) is None
    assert kept.get(("b", 2), lambda: "new") == "new"
    assert kept.alike(("b",)) == ["new"]
    assert digest(np.zeros(4)) != digest(np.zeros((2, 2)))
    assert digest(np.zeros(4, np.float32)) != digest(np.zeros(2))


def test_the_contrast_of_a_band() -> None:
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    band = np.flatnonzero(rng.random(63) < 0.15).astype(np.int32)
    near = np.zeros((7, 9), dtype=np.uint8)
    widen(near, band)
    marked = np.zeros((7, 9), dtype=bool)
    marked.flat[band] = True
    assert np.array_equal(near > 0, ndimage.binary_dilation(marked, np.ones((3, 3))))
    weights = np.zeros((8, len(band)), np.float32)
    likeness(photograph, band, np.array(NEIGHBOURS), -1e-4, 0.5, weights)
    total = count = 0
    for y, x in np.ndindex(7, 9):
        for direction, (down, right) in enumerate(NEIGHBOURS):
            if 0 <= y + down < 7 and 0 <= x + right < 9:
                squared = ((photograph[y, x].astype(int) - photograph[y + down, x + right]) ** 2).sum()
                if near[y, x] and near[y + down, x + right]:
                    total, count = total + squared, count + 1
                if marked[y, x]:
                    found = weights[direction, np.searchsorted(band, 9 * y + x)]
                    assert found == pytest.approx(np.exp(-1e-4 * squared) * (0.5 if direction >= 4 else 1), rel=1e-5)
    assert contrast_within(photograph, near) == (total // 2, count // 2)

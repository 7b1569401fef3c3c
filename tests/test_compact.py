"""Masks held small: what is made of them is what the whole mask would be, in strips or at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from gradcut import compact, images
from gradcut.compact import CompactMask, Patch, as_compact, nowhere, together
from gradcut.masks import ColourCut, Outlined
from gradcut.objects import Object
from gradcut.overlaps import joint_labels
from gradcut.seeds import Seeds

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))


def drawn(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    mask: np.ndarray = ndimage.gaussian_filter(rng.normal(size=size), 1.5, mode="constant") > rng.choice([0.05, 0.2])
    return mask


def reference(made: np.ndarray, size: tuple[int, int], painted: list[tuple[np.ndarray, bool]]) -> np.ndarray:
    """As a mask of all the photograph's pixels, at once."""
    mask = images.resize_mask(made, size).copy()
    for pixels, value in painted:
        mask[pixels] = value
    return mask


@pytest.mark.parametrize("strip", [100, 10**6])
@given(st.integers(0, 2**32 - 1), SIZES, SIZES)
def test_a_compact_mask_is_the_whole_mask(strip: int, seed: int, small: tuple[int, int], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    made = drawn(rng, small)
    painted = [(drawn(rng, size), True), (drawn(rng, size), False)][: rng.integers(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "STRIP", strip)
        mask = CompactMask(made, size).with_painted([(Patch(pixels), value) for pixels, value in painted])
        whole, expected = mask.array(), reference(made, size, painted)
        # A part's weights are rounded on their own: a grey value of one half may fall to the other side.
        grey = np.asarray(Image.fromarray(made.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR))
        assert (np.abs(grey[whole != expected] - 127.5) <= (0 if strip > whole.size else 1.5)).all()
        assert (mask.area, mask.box, mask.any()) == (whole.sum(), images.box_of(whole), whole.any())


def test_a_large_mask_is_made_when_it_is_asked_for_and_not_kept() -> None:
    made = np.zeros((10, 10), dtype=bool)
    made[3:6, 2:8] = True
    mask = CompactMask(made, (300, 400))
    whole = mask.array()
    assert mask.array() is whole, "while somebody has it"
    assert not whole.flags.writeable
    del whole
    assert mask._whole is not None
    assert mask._whole() is None
    own = CompactMask(made)
    assert own.array() is made
    assert as_compact(own) is own


def test_a_patch_covers_what_its_pixels_cover() -> None:
    """But where rounding decides whether a pixel's middle lies in one place or the next."""
    rng, differing = np.random.default_rng(0), 0
    for _ in range(400):
        sides = rng.integers(1, 61, (2, 2))
        size, grid = tuple(sides.max(axis=0).tolist()), tuple(sides.min(axis=0).tolist())
        pixels = drawn(rng, size)
        patch, expected = Patch(pixels), images.coverage(pixels, grid)
        assert np.array_equal(patch.coverage(grid), expected)
        differing += not np.allclose(patch._coverage(grid), expected, atol=1e-5)
    assert differing < 20


def test_patches_together() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (drawn(rng, (30, 40)) for _ in range(3))
    whole = np.zeros((30, 40), dtype=bool)
    together([Patch(nowhere((30, 40))), Patch(a), Patch(b)], Patch(c)).lay(whole, 0, True)
    assert np.array_equal(whole, (a | b) & ~c)
    assert not together([Patch(nowhere((30, 40)))])


@pytest.mark.parametrize("strip", [100, 10**6])
@given(st.integers(0, 2**32 - 1), SIZES)
def test_joint_labels_are_those_of_whole_maps(strip: int, seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.random((4, 20, 20), dtype=np.float32)
    masks = [drawn(rng, size) for _ in maps]
    expected, strongest = np.zeros(size, dtype=int), np.full(size, -1.0, dtype=np.float32)
    for number, (mask, values) in enumerate(zip(masks, maps, strict=True), start=1):
        own = images.resize_map(values, size)
        won = mask & (own / own.max() > strongest)
        expected[won], strongest[won] = number, (own / own.max())[won]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradcut.overlaps.STRIP", strip)
        if strip > expected.size:
            assert np.array_equal(joint_labels(masks, list(maps), size), expected)
        else:  # the maps' own maxima count, and every pixel is still one of those that hold it
            labels = joint_labels(masks, list(maps), size)
            held = np.stack([np.zeros(size, dtype=bool), *masks])
            assert np.array_equal(labels > 0, held.any(axis=0))
            assert np.take_along_axis(held, labels[None].astype(int), axis=0)[0][labels > 0].all()


def test_an_object_has_its_mask_as_an_array_whatever_it_is_made_from() -> None:
    made, values = np.eye(4, dtype=bool), np.eye(4, dtype=np.float32)
    item = Object("cat", (0,), 0.5, values, Seeds(made, ~made), CompactMask(made, (8, 8)), None)  # type: ignore[arg-type]
    assert np.array_equal(item.mask, images.resize_mask(made, (8, 8)))
    assert (item.area, item.box) == (item.mask.sum(), images.box_of(item.mask))
    assert item.changed(score=0.25).compact is item.compact
    assert dataclasses.replace(item, mask=made).mask is made
    assert dataclasses.replace(item, score=0.25).mask is item.mask


def test_masks_of_a_large_photograph_are_left_small() -> None:
    photograph = np.zeros((900, 1200, 3), dtype=np.uint8)
    photograph[300:700, 400:900] = 200
    saliency = images.coverage(photograph[..., 0] > 0, (96, 96))[None]
    seeds = [Seeds(saliency[0] > 0.9, saliency[0] < 0.1)]
    maker = Outlined(ColourCut(), limit=100_000)
    (mask,) = maker.compact(photograph, saliency, seeds)
    assert mask.made.size <= maker.limit
    assert np.array_equal(maker(photograph, saliency, seeds)[0], mask.array())

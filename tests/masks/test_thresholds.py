"""The makers that look at the saliency alone; `test_expansion.py` has the student project's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from typecheck import unchecked

from gradcut import images
from gradcut.errors import MaskError
from gradcut.masks import Expansion, MaskMaker, Otsu, Superpixels, Threshold
from gradcut.seeds import Percentiles

GREY = np.full((40, 60, 3), 128, dtype=np.uint8)


def mask_of(maker: MaskMaker, saliency: np.ndarray, photograph: np.ndarray = GREY) -> np.ndarray:
    (mask,) = maker(photograph, saliency[None], [Percentiles()(saliency)])
    return mask


def test_a_threshold_is_a_fraction_of_the_maximum() -> None:
    saliency = np.linspace(0, 4, 40 * 60).reshape(40, 60)
    for at in (0.0, 0.25, 0.9):
        assert np.array_equal(mask_of(Threshold(at), saliency), saliency.astype(np.float32) > at * 4)


def test_a_threshold_crosses_between_the_maps_pixels() -> None:
    """The map is interpolated, not the mask: a quarter of the step is a quarter of the way."""
    saliency = np.zeros((4, 6))
    saliency[:, 3:] = 1
    edge = [int(mask_of(Threshold(at), saliency)[20].argmax()) for at in (0.1, 0.5, 0.8)]
    assert edge == sorted(set(edge))
    assert edge[1] == 30


def test_otsus_threshold_is_scikit_images() -> None:
    rng = np.random.default_rng(0)
    saliency = np.concatenate([rng.normal(1, 0.2, 800), rng.normal(3, 0.4, 1600)]).reshape(40, 60).astype(np.float32)
    mask = mask_of(Otsu(), saliency)
    assert np.array_equal(mask, saliency > threshold_otsu(saliency))
    assert mask.sum() == pytest.approx(1600, abs=20)
    small = images.resize_map(saliency, (20, 30))
    assert np.array_equal(mask_of(Otsu(), small), images.resize_map(small, (40, 60)) > threshold_otsu(small))


@pytest.mark.parametrize("maker", [Threshold(), Otsu(), Superpixels(), Expansion()], ids=repr)
def test_a_map_of_zeros_gives_an_empty_mask(maker: MaskMaker) -> None:
    assert not mask_of(maker, np.zeros((20, 30))).any()


def test_superpixels_carry_a_coarse_map_to_the_drawn_boundary() -> None:
    y, x = np.mgrid[:120, :160]
    disc = (y - 60) ** 2 + (x - 80) ** 2 < 40**2
    photograph = np.where(disc[..., None], (60, 160, 70), (150, 110, 60)).astype(np.uint8)
    saliency = images.coverage(disc, (6, 8))
    wrong = [(mask_of(maker, saliency, photograph) != disc).sum() for maker in (Superpixels(at=0.5), Threshold(0.5))]
    assert wrong[0] < 0.5 * wrong[1]


@pytest.mark.parametrize(
    ("maker", "option", "message"),
    [
        (Threshold, {"at": 1.0}, "at: expected a fraction from 0 to less than 1, got 1.0"),
        (Threshold, {"at": -0.1}, "at: expected a fraction from 0 to less than 1, got -0.1"),
        (Superpixels, {"at": 2}, "at: expected a fraction from 0 to less than 1, got 2"),
        (Superpixels, {"count": 0}, "count: expected a whole number of at least 1, got 0"),
        (Superpixels, {"grid": 1}, "grid: expected a whole number of at least 2, got 1"),
        (Superpixels, {"count": "400"}, "count: expected a whole number of at least 1, got '400'"),
        (Superpixels, {"compactness": 0.0}, "compactness: expected a number above 0, got 0.0"),
        (Superpixels, {"iterations": 0}, "iterations: expected a whole number of at least 1, got 0"),
        (Threshold, {"at": "0.4"}, "at: expected a number, got '0.4'"),
        (Otsu, {"bins": 1}, "bins: expected a whole number of at least 2, got 1"),
        (Expansion, {"percentile": "90"}, "percentile: expected a number, got '90'"),
    ],
)
def test_unusable_options(maker: Callable[..., MaskMaker], option: dict[str, object], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        unchecked(maker, **option)

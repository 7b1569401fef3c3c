from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcut.masks import ColourCut, GraphCut, MaskError, fit_mixture, inverse_contrast, log_likelihood
from gradcut.seeds import Seeds


def seeds_of(inside, outside):
    return Seeds(inside, outside)


@pytest.fixture
def scene():
    """A green disc on brown, both with noise; a blurred map of half the disc; a few sure pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    disc = (y - 50) ** 2 + (x - 44) ** 2 < 26**2
    photograph = np.where(disc[..., None], (60, 160, 70), (150, 110, 60)) + rng.normal(0, 8, (96, 96, 3))
    saliency = np.exp(-((y - 46) ** 2 + (x - 40) ** 2) / (2 * 16**2)).astype(np.float32)
    return photograph.clip(0, 255).astype(np.uint8), disc, saliency, Seeds(saliency > 0.97, saliency < 0.01)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_colours_carry_the_mask_to_the_drawn_boundary(scene):
    photograph, disc, saliency, seeds = scene
    (mask,) = ColourCut()(photograph, saliency[None], [seeds])
    assert iou(mask, disc) > 0.95
    (alone,) = ColourCut(components=0)(photograph, saliency[None], [seeds])
    assert iou(alone, disc) < iou(mask, disc)


@pytest.mark.parametrize(
    "option", [{"middle": 0.8}, {"slope": 40.0}, {"smoothness": 200.0}, {"components": 0}, {"grid": 24}]
)
def test_every_option_of_the_colour_cut_matters(scene, option):
    photograph, _, saliency, seeds = scene
    noisy = photograph.copy()
    noisy[:, 60:] = noisy[:, 60:][:, ::-1]
    (plain,), (changed,) = (ColourCut(**o)(noisy, saliency[None], [seeds]) for o in ({}, option))
    assert not np.array_equal(plain, changed)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"middle": 1.0}, "middle: expected a number above 0 and below 1, got 1.0"),
        ({"slope": -1.0}, "slope: expected at least 0, got -1.0"),
        ({"grid": 1}, "grid: expected at least 2, got 1"),
    ],
)
def test_unusable_options(option, message):
    with pytest.raises(MaskError, match=message):
        ColourCut(**option)


@pytest.mark.parametrize("maker", [GraphCut(), ColourCut(grid=96)])
def test_seeds_are_hard(scene, maker):
    photograph, _disc, saliency, _ = scene
    inside, outside = np.zeros((2, 96, 96), dtype=bool)
    inside[2:6, 2:6] = True  # far from the disc
    outside[40:50, 40:50] = True  # in its middle
    (mask,) = maker(photograph, saliency[None], [Seeds(inside, outside)])
    assert mask[inside].all()
    assert not mask[outside].any()


def test_the_colour_cut_answers_for_every_class_on_its_own(scene):
    photograph, _, saliency, seeds = scene
    other = saliency[::-1].copy()
    both = ColourCut()(photograph, np.stack([saliency, other]), [seeds, Seeds(other > 0.97, other < 0.01)])
    assert np.array_equal(both[0], ColourCut()(photograph, saliency[None], [seeds])[0])
    assert ColourCut()(photograph, np.zeros((0, 96, 96), dtype=np.float32), []).shape == (0, 96, 96)


def test_a_flat_photograph_and_a_flat_map_are_cut_all_the_same():
    flat = np.full((40, 30, 3), 7, dtype=np.uint8)
    half = np.zeros((20, 20), dtype=bool)
    half[:10] = True
    (mask,) = ColourCut()(flat, np.zeros((1, 20, 20), dtype=np.float32), [Seeds(half, ~half)])
    assert mask[:18].all()
    assert not mask[22:].any()


def test_a_mixture_finds_the_clusters_it_was_drawn_from():
    rng = np.random.default_rng(3)
    centres = np.array([[20.0, 0, 0], [60, 40, 0], [80, -40, 30]])
    pixels = np.concatenate([centre + rng.normal(0, 3, (400, 3)) for centre in centres])
    mixture = fit_mixture(pixels, np.ones(len(pixels)), 3)
    nearest = np.abs(mixture.mean[:, None] - centres[None]).max(2).min(0)
    assert (nearest < 1).all()
    assert np.exp(mixture.weight).sum() == pytest.approx(1)
    assert log_likelihood(centres, mixture).min() > log_likelihood(np.array([[50.0, -60, -60]]), mixture)[0] + 10


def test_a_mixtures_weights_count_pixels_repeatedly():
    rng = np.random.default_rng(4)
    pixels = rng.normal(50, 20, (60, 3))
    weight = rng.integers(1, 4, 60)
    one = fit_mixture(pixels, weight.astype(float), 2)
    repeated = np.repeat(pixels, weight, axis=0)
    other = fit_mixture(repeated, np.ones(len(repeated)), 2)
    for a, b in zip(one, other, strict=True):
        assert np.allclose(a, b)


@given(st.integers(0, 255), st.integers(0, 255))
def test_inverse_contrast_does_not_wrap_round(a, b):
    """Bytes would: 0 - 255 is 1 among them."""
    photograph = np.array([[[a, a, a], [b, b, b]]], dtype=np.uint8)
    right, down = inverse_contrast(photograph)
    assert right[0, 0] == pytest.approx(1 / (1 + 3 * (a - b) ** 2))
    assert down.shape == (0, 2)

"""Mixtures of Gaussians, held to scikit-learn's expectation maximisation and to densities written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from gradcut.masks.mixtures import fit_mixture, log_likelihood, products

LEAST_VARIANCE, ITERATIONS = 20.0, 8

CENTRES = np.array([[20.0, 0, 0], [60, 40, 0], [80, -40, 30]])


def clusters(each: int = 400, noise: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.concatenate([centre + rng.normal(0, noise, (each, 3)) for centre in CENTRES])


def test_it_finds_the_clusters_it_was_drawn_from() -> None:
    colours = clusters()
    mixture = fit_mixture(products(colours), np.ones(len(colours)), 3, LEAST_VARIANCE, ITERATIONS)
    nearest = np.abs(mixture.mean[:, None] - CENTRES[None]).max(2).min(0)
    assert (nearest < 1).all()
    assert np.exp(mixture.weight) == pytest.approx(np.full(3, 1 / 3), abs=1e-3)
    here, far = products(CENTRES), products(np.array([[50.0, -60, -60]]))
    assert log_likelihood(here, mixture).min() > log_likelihood(far, mixture)[0] + 10


def test_the_density_is_the_one_of_the_textbook() -> None:
    colours = clusters(50, noise=15)
    mixture = fit_mixture(products(colours), np.ones(len(colours)), 4, LEAST_VARIANCE, ITERATIONS)
    parts = zip(*mixture, strict=True)
    joint = [weight + multivariate_normal(mean, covariance).logpdf(colours) for weight, mean, covariance in parts]
    assert log_likelihood(products(colours), mixture) == pytest.approx(logsumexp(joint, axis=0), abs=2e-3)


def test_it_is_as_likely_as_scikit_learns() -> None:
    colours = clusters(300, noise=12)
    pixels = products(colours)
    ours = log_likelihood(pixels, fit_mixture(pixels, np.ones(len(colours)), 3, LEAST_VARIANCE, 200)).mean()
    theirs = GaussianMixture(3, reg_covar=LEAST_VARIANCE, random_state=0, tol=1e-8, max_iter=500).fit(colours)
    assert ours == pytest.approx(theirs.score(colours), abs=1e-3)


def test_weights_count_pixels_repeatedly() -> None:
    rng = np.random.default_rng(4)
    colours = rng.normal(50, 20, (60, 3))
    weight = rng.integers(1, 4, 60)
    one = fit_mixture(products(colours), weight.astype(float), 2, LEAST_VARIANCE, ITERATIONS)
    repeated = np.repeat(colours, weight, axis=0)
    other = fit_mixture(products(repeated), np.ones(len(repeated)), 2, LEAST_VARIANCE, ITERATIONS)
    for a, b in zip(one, other, strict=True):
        assert np.allclose(a, b, rtol=1e-3)


def test_equal_pixels_and_empty_parts_keep_the_numbers_finite() -> None:
    pixels = products(np.full((9, 3), 40.0))
    mixture = fit_mixture(pixels, np.ones(9), 5, LEAST_VARIANCE, ITERATIONS)
    assert all(np.isfinite(each).all() for each in mixture)
    expected = -1.5 * np.log(2 * np.pi * LEAST_VARIANCE)
    assert log_likelihood(pixels, mixture) == pytest.approx(np.full(9, expected), abs=1e-2)

"""Mixtures of Gaussians over colours, fitted to weighted pixels.

A Gaussian's log density is linear in the ten products 1, x, y, z, xx, xy, ... of a colour's coordinates, and its
moments are weighted sums of the same: either step of the fit is one product of matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64

#: Covariances are held above this, in squared CIELAB units: two colours nearer than about 4.5 units are hardly told
#: apart, and a flat region would otherwise get an infinite density.
LEAST_VARIANCE = 20.0

#: Steps of expectation maximisation; the split that they begin with is near a maximum already.
ROUNDS = 8

#: Which coordinates the quadratic products multiply.
_ROW, _COLUMN = np.triu_indices(3)


class Mixture(NamedTuple):
    """Gaussians: log weights, means and covariances."""

    weight: Float64[np.ndarray, " k"]
    mean: Float64[np.ndarray, "k 3"]
    covariance: Float64[np.ndarray, "k 3 3"]


def products(colours: Float[np.ndarray, "p 3"]) -> Float32[np.ndarray, "10 p"]:
    """The products that `fit_mixture` and `log_likelihood` ask for, made once for all the classes of a photograph.

    In single precision, which is enough for colours of magnitude 100, and three times as fast.
    """
    flat = colours.T.astype(np.float32)
    return np.concatenate([np.ones_like(flat[:1]), flat, flat[_ROW] * flat[_COLUMN]])


def fit_mixture(pixels: Float32[np.ndarray, "10 p"], weight: Float[np.ndarray, " p"], components: int) -> Mixture:
    """Weighted expectation maximisation (Dempster et al. 1977), deterministic.

    It begins, as GrabCut does (Orchard & Bouman 1991), by splitting the part with the largest variance along its
    principal axis until there are enough parts. Covariances are held above `LEAST_VARIANCE`.

    Args:
        pixels: as `products` makes them.
    """
    weight = weight.astype(np.float32)
    part = np.zeros(len(weight), dtype=int)
    for new in range(1, components):
        total, mean, covariance = _moments(weight * (part == np.arange(new)[:, None]), pixels)
        variances, axes = np.linalg.eigh(covariance)
        widest = int(np.argmax(total * variances[:, -1]))
        ahead = axes[widest, :, -1] @ (pixels[1:4] - mean[widest][:, None]) > 0
        part[(part == widest) & ahead] = new
    mixture = _maximised(weight * (part == np.arange(components)[:, None]), pixels)
    for _ in range(ROUNDS - 1):
        share, _ = _shares(pixels, mixture)
        mixture = _maximised(weight * share, pixels)
    return mixture


def log_likelihood(pixels: Float32[np.ndarray, "10 p"], mixture: Mixture) -> Float32[np.ndarray, " p"]:
    """``log p(pixel)`` under a mixture."""
    return _shares(pixels, mixture)[1]


def _moments(weight: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Total weight ``k``, mean ``k 3`` and covariance ``k 3 3`` under each of the weights ``k p``."""
    sums = (weight @ pixels.T).astype(np.float64)
    total = sums[:, 0] + 1e-8  # a part may be empty
    mean = sums[:, 1:4] / total[:, None]
    second = np.empty((len(sums), 3, 3))
    second[:, _ROW, _COLUMN] = second[:, _COLUMN, _ROW] = sums[:, 4:] / total[:, None]
    return total, mean, second - mean[:, :, None] * mean[:, None, :]


def _maximised(weight: np.ndarray, pixels: np.ndarray) -> Mixture:
    total, mean, covariance = _moments(weight, pixels)
    return Mixture(np.log(total / total.sum()), mean, covariance + LEAST_VARIANCE * np.eye(3))


def _shares(pixels: np.ndarray, mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Each component's share ``k p`` in each pixel, and the pixels' log likelihood ``p``."""
    weight, mean, covariance = mixture
    precision = np.linalg.inv(covariance)
    pull = np.einsum("kij,kj->ki", precision, mean)
    constant = weight - 0.5 * (
        np.einsum("ki,ki->k", pull, mean) + np.linalg.slogdet(covariance)[1] + 3 * np.log(2 * np.pi)
    )
    # The product of two different coordinates stands for both its places in the symmetric matrix.
    quadratic = precision[:, _ROW, _COLUMN] * np.where(_ROW == _COLUMN, -0.5, -1.0)
    joint = np.concatenate([constant[:, None], pull, quadratic], axis=1).astype(np.float32) @ pixels
    highest = joint.max(axis=0)
    share = np.exp(joint - highest)
    total = share.sum(axis=0)
    return share / total, highest + np.log(total)

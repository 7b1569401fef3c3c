"""Mixtures of Gaussians over colours, fitted to weighted pixels.

A Gaussian's log density is linear in the ten products 1, x, y, z, xx, xy, ... of a colour's coordinates, and its
moments are weighted sums of the same: either step of the fit is one product of matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64

#: Which coordinates the quadratic products multiply.
_ROW, _COLUMN = np.triu_indices(3)


class Mixture(NamedTuple):
    """Gaussians over colours: the logarithms of their weights (which sum to 1), their means and covariances."""

    weight: Float64[np.ndarray, " k"]
    mean: Float64[np.ndarray, "k 3"]
    covariance: Float64[np.ndarray, "k 3 3"]


def products(colours: Float[np.ndarray, "p 3"]) -> Float32[np.ndarray, "10 p"]:
    """The products that `fit_mixture` and `log_likelihood` ask for, made once for all the classes of a photograph.

    In single precision, which is enough for colours of magnitude 100, and three times as fast.
    """
    flat = colours.T.astype(np.float32)
    return np.concatenate([np.ones_like(flat[:1]), flat, flat[_ROW] * flat[_COLUMN]])


def fit_mixture(
    pixels: Float32[np.ndarray, "10 p"],
    weight: Float[np.ndarray, " p"],
    components: int,
    least_variance: float,
    iterations: int,
) -> Mixture:
    """Weighted expectation maximisation (Dempster et al. 1977), deterministic.

    It begins, as GrabCut does (Orchard & Bouman 1991), by splitting the part with the largest variance along its
    principal axis until there are enough parts.

    Args:
        pixels: as `products` makes them.
        weight: of each pixel, finite and at least 0.
        components: how many Gaussians, at least 1.
        least_variance: added to each Gaussian's variance along every axis, above 0, in squared units of the colours:
            a flat region would otherwise get an infinite density.
        iterations: steps of expectation maximisation, at least 1; the first maximises over the split.
    """
    weight = weight.astype(np.float32)
    part = np.zeros(len(weight), dtype=int)
    for new in range(1, components):
        total, mean, covariance = _moments(weight * (part == np.arange(new)[:, None]), pixels)
        variances, axes = np.linalg.eigh(covariance)
        widest = int(np.argmax(total * variances[:, -1]))
        ahead = axes[widest, :, -1] @ (pixels[1:4] - mean[widest][:, None]) > 0
        part[(part == widest) & ahead] = new
    mixture = _maximised(weight * (part == np.arange(components)[:, None]), pixels, least_variance)
    for _ in range(iterations - 1):
        share, _ = _shares(pixels, mixture)
        mixture = _maximised(weight * share, pixels, least_variance)
    return mixture


def log_likelihood(pixels: Float32[np.ndarray, "10 p"], mixture: Mixture) -> Float32[np.ndarray, " p"]:
    """``log p(colour)`` of each pixel under a mixture; ``pixels`` as `products` makes them."""
    return _shares(pixels, mixture)[1]


def _moments(
    weight: Float32[np.ndarray, "k p"], pixels: Float32[np.ndarray, "10 p"]
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "k 3"], Float64[np.ndarray, "k 3 3"]]:
    """Total weight, mean and covariance of the pixels under each of ``k`` weights."""
    sums = (weight @ pixels.T).astype(np.float64)
    total = sums[:, 0] + 1e-8  # a part may be empty
    mean = sums[:, 1:4] / total[:, None]
    second = np.empty((len(sums), 3, 3))
    second[:, _ROW, _COLUMN] = second[:, _COLUMN, _ROW] = sums[:, 4:] / total[:, None]
    return total, mean, second - mean[:, :, None] * mean[:, None, :]


def _maximised(
    weight: Float32[np.ndarray, "k p"], pixels: Float32[np.ndarray, "10 p"], least_variance: float
) -> Mixture:
    """The maximisation step: Gaussians with the moments of the pixels under each component's weights."""
    total, mean, covariance = _moments(weight, pixels)
    return Mixture(np.log(total / total.sum()), mean, covariance + least_variance * np.eye(3))


def _shares(
    pixels: Float32[np.ndarray, "10 p"], mixture: Mixture
) -> tuple[Float32[np.ndarray, "k p"], Float32[np.ndarray, " p"]]:
    """The expectation step: each component's share in each pixel, and the pixels' log likelihood."""
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

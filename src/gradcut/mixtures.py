"""Mixtures of Gaussians over colours, fitted to weighted pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

#: Covariances are held above this, in squared CIELAB units: two colours nearer than about 4.5 units are hardly told
#: apart, and a flat region would otherwise get an infinite density.
LEAST_VARIANCE = 20.0


class Mixture(NamedTuple):
    """Gaussians: log weights ``k``, means ``k 3``, inverse covariances ``k 3 3``, their log determinants ``k``."""

    weight: np.ndarray
    mean: np.ndarray
    precision: np.ndarray
    determinant: np.ndarray


def fit_mixture(
    pixels: Float[np.ndarray, "p 3"], weight: Float[np.ndarray, " p"], components: int, rounds: int = 8
) -> Mixture:
    """Weighted expectation maximisation (Dempster et al. 1977), deterministic.

    It begins, as GrabCut does (Orchard & Bouman 1991), by splitting the part with the largest variance along its
    principal axis until there are enough parts. Covariances are held above `LEAST_VARIANCE`.
    """
    part = np.zeros(len(pixels), dtype=int)
    moments = [_moments(pixels, weight)]
    for new in range(1, components):
        widest = int(np.argmax([values[-1] * share for _, values, _, share in moments]))
        mean, _, axis, _ = moments[widest]
        members = part == widest
        part[members & ((pixels - mean) @ axis > 0)] = new
        moments[widest] = _moments(pixels[part == widest], weight[part == widest])
        moments.append(_moments(pixels[part == new], weight[part == new]))
    mixture = _maximised(pixels, weight, np.eye(components)[part])
    for _ in range(rounds - 1):
        joint = _joint(pixels, mixture)
        mixture = _maximised(pixels, weight, np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))
    return mixture


def _maximised(pixels: np.ndarray, weight: np.ndarray, share: np.ndarray) -> Mixture:
    """The mixture in which component k answers for ``share[:, k]`` of every pixel."""
    each = share * weight[:, None]
    total = each.sum(0) + 1e-8
    mean = each.T @ pixels / total[:, None]
    covariance = np.empty((len(total), 3, 3))
    for k in range(len(total)):
        away = pixels - mean[k]
        covariance[k] = (away * each[:, k, None]).T @ away / total[k] + LEAST_VARIANCE * np.eye(3)
    return Mixture(np.log(total / total.sum()), mean, np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1])


def _moments(pixels: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean, ascending variances along the principal axes, the principal axis, and the weight of a part."""
    total = float(weight.sum())
    if total < 1e-6:
        return np.zeros(3), np.zeros(3), np.array([0.0, 0, 1]), 0.0
    mean = weight @ pixels / total
    away = pixels - mean
    values, axes = np.linalg.eigh((away * weight[:, None]).T @ away / total)
    return mean, values, axes[:, -1], total


def _joint(pixels: np.ndarray, mixture: Mixture) -> np.ndarray:
    """``log(weight_k p_k(pixel))``, shape p k."""
    columns = []
    for weight, mean, precision, determinant in zip(*mixture, strict=True):
        away = pixels - mean
        distance = ((away @ precision) * away).sum(1)
        columns.append(weight - 0.5 * (distance + determinant + 3 * np.log(2 * np.pi)))
    return np.stack(columns, axis=1)


def log_likelihood(pixels: Float[np.ndarray, "p 3"], mixture: Mixture) -> Float[np.ndarray, " p"]:
    """``log p(pixel)`` under a mixture."""
    likelihood: np.ndarray = logsumexp(_joint(pixels, mixture), axis=1)
    return likelihood

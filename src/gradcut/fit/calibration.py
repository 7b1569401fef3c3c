"""Probabilities that mean what they say, the threshold that serves best, and the folds that both are judged by."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import expit


def stratified_folds(truth: Bool[np.ndarray, "n k"], folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """A fold for each photograph, so that every class is spread as evenly as its examples allow.

    Iterative stratification (Sechidis et al. 2011): the rarest class that is left goes first, each of its
    photographs to the fold that lacks the class most.
    """
    random = np.random.default_rng(seed)
    fold = np.full(len(truth), -1)
    lacking = np.tile(truth.sum(0) / folds, (folds, 1))
    room = np.full(folds, len(truth) / folds)
    order = random.permutation(len(truth))
    while (fold < 0).any():
        left = truth[fold < 0].sum(0)
        rarest = int(np.argmin(np.where(left > 0, left, np.inf))) if left.any() else None
        for photograph in order:
            if fold[photograph] >= 0 or (rarest is not None and not truth[photograph, rarest]):
                continue
            need = np.zeros(folds) if rarest is None else lacking[:, rarest]
            best = int(np.lexsort((random.random(folds), room, need))[-1])
            fold[photograph] = best
            lacking[best] -= truth[photograph]
            room[best] -= 1
    return fold


def platt(
    columns: Float[np.ndarray, "columns pairs"], truth: Bool[np.ndarray, " pairs"]
) -> tuple[Float[np.ndarray, " columns"], float]:
    """Slopes and an offset that turn logits into calibrated ones (Platt 1999), the same for all classes.

    Here and below, ``pairs`` are of a photograph and a class.

    Args:
        columns: the logits, and what else speaks for a class; each has its slope, the first above 0, others at least 0.
    """
    y = truth.astype(np.float64)

    def loss(p: Float[np.ndarray, " n"]) -> tuple[float, Float[np.ndarray, " n"]]:
        logits = p[:-1] @ columns + p[-1]
        residual = expit(logits) - y
        value = float((np.logaddexp(0, logits) - y * logits).mean())
        return value, np.append(columns @ residual, residual.sum()) / len(y)

    first = np.zeros(len(columns) + 1)
    first[0] = 1.0
    bounds = [(1e-3, None), *[(0, None)] * (len(columns) - 1), (None, None)]
    solved = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds)
    return solved.x[:-1], float(solved.x[-1])


def best_threshold(
    truth: Bool[np.ndarray, "*pairs"], scores: Float[np.ndarray, "*pairs"]
) -> tuple[float, float, float, float]:
    """Threshold (two decimals) with the best F1 over all pairs of photograph and class; F1, precision, recall."""
    best = (0.5, 0.0, 0.0, 0.0)
    for threshold in np.round(np.arange(0.01, 1, 0.01), 2):
        found = scores >= threshold
        hits = int((found & truth).sum())
        f1 = 2 * hits / max(1, int(found.sum()) + int(truth.sum()))
        if f1 > best[1]:
            best = (float(threshold), f1, hits / max(1, int(found.sum())), hits / max(1, int(truth.sum())))
    return best


def calibration_error(truth: Bool[np.ndarray, "*pairs"], scores: Float[np.ndarray, "*pairs"], bins: int = 15) -> float:
    """Expected calibration error over bins of equal width (Naeini et al. 2015)."""
    place = np.minimum((scores.ravel() * bins).astype(int), bins - 1)
    gap = np.bincount(place, scores.ravel() - truth.ravel(), bins)
    return float(np.abs(gap).sum() / scores.size)

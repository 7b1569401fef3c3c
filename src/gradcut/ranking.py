"""Average precision: how far up in a ranking the true ones are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def average_precision(*, scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float | None:
    """Area under precision over recall as a sum over thresholds, in [0, 1]; None without a true one.

    Of equal scores all count at the last one's place, so that the order of what is ranked does not matter.
    """
    if not truth.any():
        return None
    return float(average_precisions(scores=scores, truth=truth, weights=np.ones((1, len(scores))))[0])


def average_precisions(
    *, scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"], weights: Float[np.ndarray, "b n"]
) -> Float[np.ndarray, " b"]:
    """One average precision for each row of weights, each at least 0; NaN where no true one has a weight."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    ranked = weights[:, order]
    seen, hits = np.cumsum(ranked, axis=1)[:, ends], np.cumsum(ranked * truth[order], axis=1)[:, ends]
    precision = np.divide(hits, seen, out=np.zeros(hits.shape), where=seen > 0)
    gained, total = np.diff(hits, axis=1, prepend=0), (weights * truth).sum(1)
    areas: Float[np.ndarray, " b"] = (gained * precision).sum(1)
    areas = np.divide(areas, total, out=np.full(len(weights), np.nan), where=total > 0)
    return areas

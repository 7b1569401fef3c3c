"""What a map is like by itself, whatever the network."""

from __future__ import annotations

import numpy as np

from gradcut.evaluation.faithfulness.curves import Map


def gini(map: Map) -> float | None:
    """The Gini index: 0 for a map that is the same everywhere, near 1 for one of few pixels (Chalasani et al. 2020).

    ``sum_i (2 i - n - 1) m_i / (n sum m)`` of the n values in rising order. None for a map of zeros.
    """
    values = np.sort(map.ravel().astype(np.float64))
    total, n = float(values.sum()), values.size
    return float(((2 * np.arange(1, n + 1) - n - 1) * values).sum()) / (n * total) if total > 0 else None


def complexity(map: Map) -> float | None:
    """Entropy of the pixels' shares of the map's sum, in nats (Bhatt et al. 2020); None for a map of zeros.

    Lower is simpler: 0 for a map of one pixel, log n for one that is the same at n pixels.
    """
    values = map.ravel().astype(np.float64)
    total = float(values.sum())
    if total <= 0:
        return None
    shares = values[values > 0] / total
    return float(-(shares * np.log(shares)).sum())


def area(map: Map) -> float:
    """Mean of the map from 0 to 1, which Poppi et al. (2021) and ARCC call complexity; 0 for one that is constant."""
    least, most = float(map.min()), float(map.max())
    return (float(map.mean(dtype=np.float64)) - least) / (most - least) if most > least else 0.0


def arcc(coherency: float, area: float, road: float) -> float:
    """ARCC (Domeniconi et al. 2026, as pytorch-grad-cam 1.5.7 has it): harmonic mean of three, each in [0, 1].

    They are the coherency, 1 less the map's `area`, and twice ROAD's gap, at least 0 and at most 1. Higher is better;
    0 where any of the three is.
    """
    parts = (coherency, 1 - area, min(1.0, max(0.0, 2 * road)))
    return 3 / sum(1 / part for part in parts) if min(parts) > 0 else 0.0

"""Means and differences with the intervals that resampled photographs give them (Efron 1979).

Every figure is a function of weights, one a photograph: with all weights 1 it is the figure itself, and with the
weights of a resample one of the values that its interval is read from. Photographs are what is resampled: classes of
one photograph depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from gradcut.errors import EvaluationError

#: ``value`` and ``interval``, None where nothing was counted, the interval also where one photograph was; and
#: ``n``, how many values there are.
Figure = dict[str, Any]
Metric = Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, " b"]]
#: Of each photograph, the values that a mean is taken over: none, one, or one a class.
Values = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of n photographs: the same for every figure, so that differences are paired.

    Args:
        resamples: how many; 0 leaves the intervals out.
        seed: of the resamples.
        confidence: of the percentile intervals.

    Raises:
        EvaluationError: arguments out of range.
    """

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95
    _weights: dict[int, Float[np.ndarray, "b n"]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.resamples < 0 or not 0 < self.confidence < 1:
            raise EvaluationError(
                "resamples, confidence: expected 0 or more and a share between 0 and 1, "
                f"got {self.resamples} and {self.confidence}"
            )

    def weights(self, n: int) -> Float[np.ndarray, "b n"]:
        """How often each photograph is drawn; the first row is the photographs themselves."""
        if n not in self._weights:
            generator = np.random.default_rng([self.seed, n])
            drawn = generator.multinomial(n, np.full(n, 1 / n), size=self.resamples)
            self._weights[n] = np.concatenate([np.ones((1, n)), drawn])
        return self._weights[n]

    def figure(self, photographs: int, metric: Metric, n: int, counted: int | None = None) -> Figure:
        """A metric of so many photographs, over n values.

        Args:
            counted: how many of the photographs have a value, if not all. One that stands alone gives no interval: its
                resamples are all the same, which would look like certainty.
        """
        if not photographs or not n:
            return {"value": None, "interval": None, "n": 0}
        value, *drawn = metric(self.weights(photographs))
        if not np.isfinite(value):
            return {"value": None, "interval": None, "n": n}
        finite = np.array(drawn)[np.isfinite(drawn)]
        tail = 50 * (1 - self.confidence)
        several = len(finite) and (photographs if counted is None else counted) > 1
        interval = [float(v) for v in np.percentile(finite, (tail, 100 - tail))] if several else None
        return {"value": float(value), "interval": interval, "n": n}

    def mean(self, values: Values) -> Figure:
        """The mean over all the values of all photographs."""
        return self.figure(len(values), *mean_of(values), _counted(values))

    def paired(self, values: Values, others: Values) -> Figure:
        """The first mean minus the second, on the same photographs, resampled together.

        Raises:
            EvaluationError: not as many photographs in both.
        """
        if len(values) != len(others):
            raise EvaluationError(f"others: expected {len(values)} photographs, as in values, got {len(others)}")
        (metric, n), (other, _) = mean_of(values), mean_of(others)
        return self.figure(len(values), minus(metric, other), n, min(_counted(values), _counted(others)))


def mean_of(values: Values) -> tuple[Metric, int]:
    """The mean over all the values of all photographs, and how many values they are."""
    total = np.array([sum(several) for several in values], dtype=float)
    number = np.array([len(several) for several in values], dtype=float)
    return ratio(total, number), int(number.sum())


def _counted(values: Values) -> int:
    return sum(len(several) > 0 for several in values)


def minus(metric: Metric, other: Metric) -> Metric:
    """The difference of two metrics of the same photographs."""
    return lambda weights: metric(weights) - other(weights)


def ratio(part: Float[np.ndarray, " n"], whole: Float[np.ndarray, " n"]) -> Metric:
    """A sum over photographs divided by another."""

    def metric(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        return divide(weights @ part, weights @ whole)

    return metric


def divide(part: Float[np.ndarray, "*s"], whole: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """NaN where there is nothing to divide by."""
    shares: Float[np.ndarray, "*s"] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares

"""Average precision, held to scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from gradcut.ranking import average_precision, average_precisions


@pytest.mark.parametrize("digits", [6, 1])  # with one digit there are many ties
def test_weights_are_repetitions(digits):
    rng = np.random.default_rng(0)
    scores, truth = rng.random(60).round(digits), rng.random(60) < 0.3
    weights = rng.integers(0, 4, (5, 60)).astype(float)
    precisions = average_precisions(scores=scores, truth=truth, weights=weights)
    for precision, counts in zip(precisions, weights.astype(int), strict=True):
        assert precision == pytest.approx(average_precision_score(truth.repeat(counts), scores.repeat(counts)))
    assert average_precision(scores=scores, truth=truth) == pytest.approx(average_precision_score(truth, scores))


def test_nothing_true():
    assert average_precision(scores=np.array([0.5]), truth=np.array([False])) is None
    assert average_precision(scores=np.zeros(0), truth=np.zeros(0, dtype=bool)) is None
    weights = np.array([[1.0, 0.0], [0.0, 1.0]])
    precisions = average_precisions(scores=np.array([0.5, 0.2]), truth=np.array([True, False]), weights=weights)
    assert precisions[0] == 1
    assert np.isnan(precisions[1])


def test_the_order_of_equal_scores_does_not_matter():
    for truth in ([True, False], [False, True]):
        assert average_precision(scores=np.zeros(2), truth=np.array(truth)) == 0.5

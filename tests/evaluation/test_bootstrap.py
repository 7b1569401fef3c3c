"""Intervals of means and of paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from gradcut.errors import EvaluationError
from gradcut.evaluation.bootstrap import Bootstrap

RNG = np.random.default_rng(0)
VALUES = [RNG.random(int(n)).tolist() for n in RNG.integers(0, 4, 50)]


def test_mean_is_over_all_values_and_its_interval_over_photographs():
    figure = Bootstrap(2000).mean(VALUES)
    flat = np.concatenate(VALUES)
    assert figure["value"] == pytest.approx(flat.mean())
    assert figure["n"] == len(flat)
    drawn = [np.concatenate([VALUES[n] for n in RNG.integers(0, 50, 50)]).mean() for _ in range(2000)]
    assert figure["interval"] == pytest.approx(list(np.percentile(drawn, (2.5, 97.5))), abs=0.01)


def test_paired_differences_are_surer_than_both_means():
    """Whatever the photographs are like, the first is a tenth better in each of them."""
    better = [[value + 0.1 for value in several] for several in VALUES]
    figure = Bootstrap().paired(better, VALUES)
    assert figure["value"] == pytest.approx(0.1)
    assert figure["interval"] == pytest.approx([0.1, 0.1])
    with pytest.raises(EvaluationError, match="others: expected 50 photographs, as in values, got 49"):
        Bootstrap().paired(better, VALUES[1:])


def test_nothing_and_no_resamples():
    assert Bootstrap().mean([[], []]) == {"value": None, "interval": None, "n": 0}
    assert Bootstrap().mean([]) == {"value": None, "interval": None, "n": 0}
    assert Bootstrap(0).mean([[1.0], [0.0]]) == {"value": 0.5, "interval": None, "n": 2}


def test_one_photograph_has_no_interval():
    """Its resamples are all the same, which would look like certainty."""
    for values in ([[0.2, 0.4]], [[], [0.2, 0.4], []]):
        assert Bootstrap().mean(values) == {"value": pytest.approx(0.3), "interval": None, "n": 2}
        assert Bootstrap().paired(values, values)["interval"] is None
    assert Bootstrap().paired([[0.2], [0.4]], [[0.1], []])["interval"] is None
    assert Bootstrap().mean([[0.2], [0.4]])["interval"] == [0.2, 0.4]

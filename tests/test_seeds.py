"""Seed rules: which pixels count, ties, maps that say nothing, and what is refused."""

from __future__ import annotations

import dataclasses
from inspect import unwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typecheck import unchecked

from gradcut import seeds
from gradcut.errors import SeedError
from gradcut.seeds import Fractions, Percentiles, SeedRule, is_constant

RULES: list[SeedRule] = [Percentiles(), Percentiles(50, 50), Percentiles(100, 0), Fractions(), Fractions(1, 1)]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 1000]))
def test_sides_are_disjoint_and_none_is_empty(rule: SeedRule, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    saliency = rng.integers(0, levels + 1, (int(rng.integers(1, 9)), int(rng.integers(2, 9)))).astype(np.float32)
    foreground, background = rule(saliency)
    assert foreground.shape == background.shape == saliency.shape
    assert not (foreground & background).any()
    assert foreground.any() == background.any() == (saliency.min() < saliency.max())
    if foreground.any():
        assert saliency[foreground].min() > saliency[background].max()


def test_percentiles_and_fractions_count_pixels() -> None:
    saliency = np.arange(1, 101, dtype=np.float64).reshape(10, 10)
    assert [side.sum() for side in Percentiles(95, 30)(saliency)] == [5, 30]
    assert [side.sum() for side in Fractions(0.6, 0.15)(saliency)] == [40, 14]


def test_ties_go_to_the_maximum_and_the_minimum() -> None:
    saliency = np.array([[0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0]])
    foreground, background = Percentiles(95, 30)(saliency)
    assert foreground.tolist() == (saliency == 2).tolist()
    assert background.tolist() == (saliency == 0).tolist()


def test_a_map_that_is_high_everywhere_has_a_background() -> None:
    """All of it lies above the foreground's fraction; its minimum is on one side only."""
    saliency = np.array([[0.7, 0.8, 1.0, 0.7]])
    foreground, background = Fractions(0.6, 0.15)(saliency)
    assert foreground.tolist() == [[False, True, True, False]]
    assert background.tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("level", [0.0, 1e-9, 0.7, 1e6])
def test_a_constant_map_gives_no_seeds(rule: SeedRule, level: float) -> None:
    for noise in (0, 1e-7):
        shaken = level * (1 + noise * np.random.default_rng(0).uniform(-1, 1, (7, 9)))
        saliency = shaken.astype(np.float32)
        assert is_constant(saliency)
        assert not np.any(rule(saliency))
    step = np.full((7, 9), level)
    step[3, 4] *= 1.001
    assert is_constant(step) == (level == 0)


@pytest.mark.parametrize("rule", [Percentiles(80, 20), Fractions(0.8, 0.2)], ids=repr)
@pytest.mark.parametrize("side", ["foreground", "background"])
def test_every_option_matters(rule: Percentiles | Fractions, side: str) -> None:
    assert [option.name for option in dataclasses.fields(rule)] == ["foreground", "background"]
    saliency = np.random.default_rng(0).random((20, 20))
    changed = dataclasses.replace(rule, **{side: 0.6 * getattr(rule, side)})
    other = "background" if side == "foreground" else "foreground"
    assert not np.array_equal(getattr(changed(saliency), side), getattr(rule(saliency), side))
    assert np.array_equal(getattr(changed(saliency), other), getattr(rule(saliency), other))


@pytest.mark.parametrize("rule", [Percentiles(), Fractions()], ids=repr)
@pytest.mark.parametrize(
    ("saliency", "message"),
    [
        (np.zeros((0, 3)), r"saliency: expected floats of \(height, width\), got float64 of \(0, 3\)"),
        (np.zeros((2, 3, 4)), r"saliency: expected floats of \(height, width\), got float64 of \(2, 3, 4\)"),
        (np.zeros((3, 4), dtype=int), r"saliency: expected floats of \(height, width\), got int64 of \(3, 4\)"),
        ([[1.0, 2.0]], r"saliency: expected floats of \(height, width\), got list"),
        (np.array([[np.nan, 1]]), "saliency: expected finite values, got NaN or infinity"),
        (np.array([[np.inf, 1]]), "saliency: expected finite values, got NaN or infinity"),
        (np.array([[-0.5, 1]]), "saliency: expected values of at least 0, got -0.5"),
    ],
)
def test_what_is_no_saliency_map_is_refused(rule: SeedRule, saliency: object, message: str) -> None:
    with pytest.raises(SeedError, match=f"^{message}$"):
        unwrap(type(rule).__call__)(rule, saliency)


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (Percentiles, {"foreground": 20}, "foreground, background: expected percentiles, .*<= 100, got 20 and 30"),
        (Percentiles, {"foreground": 101}, "expected percentiles, .* got 101 and 30"),
        (Fractions, {"foreground": 60}, "foreground, background: expected fractions, .*<= 1, got 60 and 0.15"),
        (Fractions, {"background": float("nan")}, "expected fractions, .* got 0.6 and nan"),
        (Percentiles, {"foreground": "95"}, "^foreground: expected a number, got '95'$"),
        (Fractions, {"background": None}, "^background: expected a number, got None$"),
    ],
)
def test_unusable_options(rule: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(SeedError, match=message):
        unchecked(rule, **options)


def test_exported_names() -> None:
    classes = {name for name, value in vars(seeds).items() if getattr(value, "__module__", "") == seeds.__name__}
    assert {name for name in classes if name[0].isupper()} < set(seeds.__all__) <= set(vars(seeds))
    assert seeds.__all__ == sorted(seeds.__all__, key=lambda name: (not name[0].isupper(), name))

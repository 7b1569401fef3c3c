"""The recursive expansion, held to a recursion written out."""

from __future__ import annotations

import numpy as np
import pytest

from gradcut import RECIPES
from gradcut.errors import MaskError
from gradcut.masks import Expansion
from gradcut.seeds import Percentiles


def expand(saliency: np.ndarray, **options: float) -> np.ndarray:
    photograph = np.zeros((*saliency.shape, 3), dtype=np.uint8)
    (mask,) = Expansion(**options)(photograph, saliency[None], [Percentiles()(saliency)])
    return mask


def by_hand(saliency: np.ndarray, start: int, percentile: float) -> np.ndarray:
    """As the project describes it: from the top pixels outwards to neighbours above the threshold."""
    threshold = np.percentile(saliency, percentile)
    mask = np.zeros(saliency.shape, dtype=bool)
    order = np.argsort(-saliency, axis=None, kind="stable")[:start]
    todo = [tuple(int(i) for i in np.unravel_index(index, saliency.shape)) for index in order]
    while todo:
        y, x = todo.pop()
        inside = 0 <= y < saliency.shape[0] and 0 <= x < saliency.shape[1]
        if inside and saliency[y, x] > threshold and not mask[y, x]:
            mask[y, x] = True
            todo += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return mask


@pytest.mark.parametrize(("start", "percentile"), [(50, 90), (1, 90), (5, 60), (50, 0)])
def test_it_reaches_what_the_recursion_reaches(start: int, percentile: float) -> None:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.random((6, 8)), np.ones((5, 5))) + 0.3 * rng.random((30, 40))
    expected = by_hand(smooth, start, percentile)
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(expand(smooth, start=start, percentile=percentile), expected)


def test_every_option_matters() -> None:
    saliency = np.zeros((20, 20))
    saliency[2:5, 2:5], saliency[10:16, 10:16] = 2.0, 1.0
    both = expand(saliency, start=10, percentile=80)
    assert both.sum() == 45
    assert expand(saliency, start=1, percentile=80).sum() == 9
    assert expand(saliency, start=10, percentile=99).sum() == 0  # nothing is above: nothing is made up


def test_a_constant_map_gives_an_empty_mask() -> None:
    assert not expand(np.ones((8, 8))).any()


def test_masks_have_the_size_of_the_photograph() -> None:
    saliency = np.zeros((2, 10, 10))
    saliency[0, :5, :5] = saliency[1, 5:, 5:] = 1
    photograph = np.zeros((40, 60, 3), dtype=np.uint8)
    masks = Expansion(percentile=50)(photograph, saliency, [Percentiles()(one) for one in saliency])
    assert masks.shape == (2, 40, 60)
    assert masks[0, :18, :28].all()
    assert masks[1, 22:, 32:].all()
    assert masks.mean() == pytest.approx(0.25, abs=0.02)
    assert Expansion()(photograph, np.zeros((0, 10, 10)), []).shape == (0, 40, 60)


@pytest.mark.parametrize("options", [{"start": 0}, {"percentile": -1}, {"percentile": 101}])
def test_unusable_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(MaskError, match=next(iter(options))):
        Expansion(**options)


def test_the_recipe_is_the_projects() -> None:
    recipe = RECIPES["expansion"]
    assert recipe.masks == Expansion(start=50, percentile=90)
    assert recipe.saliency == RECIPES["simonyan"].saliency
    assert recipe.size == 448

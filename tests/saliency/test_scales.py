"""Sizes are said once: what looks at photographs, what walks over features and how large they are prepared agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradcut import RECIPES, Classifier, Recipe, Segmenter
from gradcut.network.view import View
from gradcut.saliency import (
    CAM,
    Attention,
    Crops,
    Features,
    MultiScale,
    PlaceProbability,
    Rivals,
    Walk,
    resolve,
    scales_of,
)
from gradcut.saliency.maps import against_each_other


@pytest.mark.parametrize(
    ("method", "scales"),
    [
        (CAM(), (1.0,)),
        (len, (1.0,)),
        (PlaceProbability(), (1.0,)),
        (MultiScale(CAM(), (1, 2)), (1.0, 2.0)),
        (Walk(Rivals(Crops(MultiScale(CAM(), (1, 2, 3)))), Attention()), (1.0, 2.0, 3.0)),
    ],
    ids=repr,
)
def test_the_sizes_that_a_method_looks_at(method: Any, scales: tuple[float, ...]) -> None:
    assert scales_of(method) == scales


@pytest.mark.parametrize(
    ("scales", "middle"), [((1.0,), 1.0), ((1.0, 2.0), 2.0), ((2.0, 1.0, 3.0), 2.0), ((0.5, 1.0, 2.0, 3.0), 2.0)]
)
def test_a_walk_takes_the_middle_one(scales: tuple[float, ...], middle: float, embedded: Classifier) -> None:
    small = embedded.at(96)
    x = torch.randn(1, 3, 288, 288, generator=torch.Generator().manual_seed(0))
    method = MultiScale(CAM(), scales, flip=False)
    unsaid, said = (Walk(method, Features(8), scale=scale)(small, x, [(0, 5)]) for scale in (None, middle))
    assert unsaid.equal(said)
    others = [Walk(method, Features(8), scale=scale)(small, x, [(0, 5)]) for scale in {1.0, 2.0, 3.0} - {middle}]
    assert not any(torch.allclose(unsaid, other) for other in others)


def test_photographs_are_prepared_at_the_largest(brightness: Classifier, drawn: Any) -> None:
    seen = []

    def spy(classifier: Classifier, x: Tensor, targets: Any) -> Tensor:
        seen.append(tuple(x.shape[2:]))
        return CAM()(classifier, x, targets)

    steps = RECIPES["fast"].seeds, RECIPES["fast"].masks
    for detail in (None, 1.0):
        recipe = Recipe("x", "", Walk(Rivals(MultiScale(spy, (1, 1.5, 2), flip=False))), *steps, detail=detail)
        assert recipe.largest == (detail or 2.0)
        (evidence,) = Segmenter(brightness, recipe).explain([drawn[0]])
        assert evidence.saliency.shape[1:] == (64, 64)
    assert seen == [(64, 64), (96, 96), (128, 128)] * 2
    recipes = [Recipe("x", "", MultiScale(CAM(), (1, 2)), *steps, detail=detail) for detail in (1.0, None)]
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    maps = [Segmenter(brightness, recipe).explain([stripes], ["red"])[0].saliency for recipe in recipes]
    assert not np.allclose(*maps)


def test_the_recipes_say_each_size_once() -> None:
    assert {name: recipe.largest for name, recipe in RECIPES.items()} == {
        "default": 8 / 3, "best": 4, "fast": 1, "simonyan": 1, "guided": 1, "deconvnet": 1, "expansion": 1,
        "clip-es": 1, "words": 1,
    }  # fmt: skip
    assert all(recipe.detail is None for recipe in RECIPES.values())
    walks = {name: RECIPES[name].saliency.methods for name in ("default", "best")}
    assert {sorted(walk.scales)[1] for walk in walks["default"]} == {5 / 3}
    assert {walk.scale for walk in walks["default"]} == {None}
    assert {walk.scale for walk in walks["best"]} == {5 / 3}, "as default's"


def squares(classifier: Classifier, x: Tensor, targets: Any) -> Tensor:
    """A map with detail in single pixels, which depends on the photograph's size."""
    h, w = x.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    n = len(resolve(targets, classifier.logits(x)))
    return ((rows // 2 + columns // 3) % 5 == 0).float().expand(n, -1, -1).contiguous()


@pytest.mark.parametrize(("size", "coarse"), [((64, 64), (64, 64)), ((640, 640), (320, 320)), ((480, 960), (160, 320))])
@pytest.mark.parametrize("flip", [False, True])
def test_walks_are_given_means_of_what_several_sizes_say(
    size: tuple[int, int], coarse: tuple[int, int], flip: bool, brightness: Classifier
) -> None:
    method, x = MultiScale(squares, (1, 2), flip), torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    pairs = [(0, 0), (0, 1)]
    view = View(brightness.at((size[0] // 2, size[1] // 2)), x)
    maps = method.coarse(view, pairs)
    assert maps.shape[1:] == coarse
    whole = method.explain(view, pairs)
    assert whole.shape[1:] == size
    grid, whole_on_it = (F.adaptive_avg_pool2d(values, (40, 40)) for values in (maps, whole))
    assert float((grid - whole_on_it).abs().max()) < 0.1 * float(whole_on_it.max())
    assert maps.equal(whole) == (size == coarse)
    assert Rivals(method).explain(view, pairs).equal(against_each_other(whole, [0, 0]))
    assert Rivals(method).coarse(view, pairs).equal(against_each_other(maps, [0, 0]))

"""Maps of a small CLIP beside what the authors' public code made of the same weights: see `reference`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from torch import Tensor

from gradcut import RECIPES
from gradcut.classifiers.words import words_of
from gradcut.network.blocks import at_places
from gradcut.saliency import DenseProbability, LeGrad, SoftmaxGradCAM, View
from gradcut.saliency.maps import relative

GIVEN = {
    name: torch.from_numpy(values) for name, values in np.load(Path(__file__).parents[1] / "public_code.npz").items()
}
TARGETS = [(0, 0), (0, 1), (1, 0), (1, 1)]
SIZE = (reference.SIDE, reference.SIDE)


def enlarged(maps: Tensor) -> Tensor:
    """Maps of 8 x 8 places, at the photographs' size, their maximum 1."""
    return relative(F.interpolate(maps, SIZE, mode="bilinear").flatten(0, 1))


@pytest.fixture(scope="module")
def words():
    return reference.classifier()


@pytest.fixture(scope="module")
def labels_alone():
    return reference.classifier(background=False)


@pytest.fixture(scope="module")
def x():
    return reference.photographs()


def close(found: Tensor, given: Tensor) -> None:
    torch.testing.assert_close(found, given, rtol=0, atol=1e-4)


def test_the_network_is_the_same(labels_alone, x):
    close(labels_alone.logits(x) / reference.SCALE, GIVEN["image"][:, : len(reference.LABELS)])


@pytest.mark.parametrize("attention", ["maskclip", "sclip", "clearclip", "naclip"])
def test_the_last_attention_replaced(labels_alone, words, x, attention):
    cosines = GIVEN[attention].transpose(1, 2).unflatten(2, (8, 8))
    close(at_places(View(labels_alone, x), attention) / reference.SCALE, cosines[:, : len(reference.LABELS)])
    # And each label's probability in a softmax among itself and the background words.
    scaled, background = cosines * reference.SCALE, len(words_of(words.model).background)
    shares = [torch.cat([scaled[:, [c]], scaled[:, -background:]], 1).softmax(1)[:, 0] for c in range(2)]
    close(DenseProbability(attention).coarse(View(words, x), TARGETS), torch.stack(shares, 1).flatten(0, 1))


def test_the_ways_differ_from_each_other_and_from_none(labels_alone, x):
    made = [at_places(View(labels_alone, x), how) for how in (None, "maskclip", "sclip", "clearclip", "naclip")]
    for i, one in enumerate(made):
        assert all(float((one - other).abs().max()) > 0.1 for other in made[:i])


def test_clip_es(words, x):
    close(relative(SoftmaxGradCAM()(words, x, TARGETS)), enlarged(GIVEN["clip-es, Grad-CAM"]))
    close(relative(RECIPES["clip-es"].saliency(words, x, TARGETS)), enlarged(GIVEN["clip-es, refined"]))


def test_legrad(labels_alone, x):
    close(relative(LeGrad()(labels_alone, x, TARGETS)), enlarged(GIVEN["legrad"]))

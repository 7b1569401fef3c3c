"""Sizes that a network takes: rounded where that is enough, and a way out where a network takes one alone."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from gradcut import Classifier
from gradcut.classifiers.sizes import patch

PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


class Patches(nn.Module):
    """Cuts patches of 8 x 8, of which it merges two by two if asked to, and counts its passes."""

    def __init__(self, merged: int = 1) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 4, 8, 8)
        self.head = nn.Linear(4, 2)
        self.step = 8 * merged
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        if any(length % self.step for length in x.shape[2:]):
            raise ValueError(f"expected multiples of {self.step}")
        return self.head(self.embed(x).mean((2, 3)))


def classifier(model: nn.Module, size: int = 64) -> Classifier:
    return Classifier(model, ["a", "b"], size=size)


@pytest.mark.parametrize(
    ("merged", "asked", "taken"), [(1, 100, 96), (1, 102, 104), (1, 3, 8), (2, 100, 96), (4, 100, 96), (4, 86, 96)]
)
def test_sizes_are_rounded_to_what_the_network_takes(merged, asked, taken):
    other = classifier(Patches(merged)).at(asked)
    assert other.size == (taken, taken)
    assert other.record()["size"] == [taken, taken]
    assert classifier(Patches(merged)).scaled(asked / 64) == (taken, taken)
    assert other.prepare([PHOTOGRAPH]).shape[2:] == (taken, taken)
    assert other.detect([PHOTOGRAPH])


def test_a_size_is_tried_once():
    model = Patches()
    assert classifier(model).at((100, 64)).size == (96, 64)
    passes = model.passes
    assert 1 <= passes <= 2
    assert classifier(model).at((100, 64)).size == (96, 64)
    classifier(model).at(96)
    classifier(model).scaled(1)
    assert model.passes == passes


def test_a_network_that_takes_any_size_keeps_it():
    model = timm.create_model("test_convnext", num_classes=2)
    assert patch(model) > 1
    assert classifier(model).at(61).size == (61, 61)
    convolutions = timm.create_model("test_resnet", num_classes=2)
    convolutions.forward = None  # it is not even tried
    assert classifier(convolutions).at(61).size == (61, 61)

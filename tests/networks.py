"""The small networks that tests share: whose evidence is known, or that are hard to follow; and what they do inside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcut import Classifier
from gradcut.classifiers.heads import PlacedLinear, PlaceWeights
from gradcut.classifiers.words import Worded, Words
from gradcut.errors import ClassifierError


def refused(load: Callable[[Any], Classifier], content: Any, *words: str) -> None:
    """Loading a classifier fails in one line that has the words."""
    with pytest.raises(ClassifierError) as error:
        load(content)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


class Brightness(nn.Module):
    """Sees 'red' where red is bright and 'blue' where blue is: a classifier whose evidence is known.

    A 1 x 1 convolution keeps both channels, ReLU, mean over the pixels, linear.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.act = nn.ReLU()
        self.fc = nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1.0]])[:, :, None, None])
            self.conv.bias.fill_(0.0)
            self.fc.weight.copy_(torch.tensor([[40.0, 0], [0, 40.0]]))
            self.fc.bias.fill_(-2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


def brightness() -> Classifier:
    """Multi-label over 'red' and 'blue'; input values are the photograph's in [0, 1]."""
    return Classifier(
        Brightness().eval(), ("red", "blue"), size=64, mean=(0, 0, 0), std=(1, 1, 1), multilabel=True, name="brightness"
    )


def placed(classifier: Classifier) -> Classifier:
    """`Brightness` with weights for places, which say what its head says; the confidence is fitted to such heads."""
    model = copy.deepcopy(classifier.model)
    weight, bias = model.fc.weight.detach(), model.fc.bias.detach()
    weights = torch.cat([weight, weight.new_zeros(1, weight.shape[1])]), torch.cat([bias, bias.new_zeros(1)])
    model.fc = PlacedLinear(PlaceWeights(*weights))
    with torch.no_grad():
        model.fc.weight.copy_(weight)
        model.fc.bias.copy_(bias)
    return replace(classifier, model=model)


class SmallNet(nn.Module):
    """Two convolutions, batch normalisation, dropout, ReLU, mean, linear: small, with state that could be spoilt."""

    def __init__(self, activation: Callable[[], nn.Module] = lambda: nn.ReLU(inplace=True), classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), activation(),
            nn.Conv2d(8, 12, 3, padding=1, stride=2), nn.BatchNorm2d(12), activation(), nn.Dropout(0.5),
        )  # fmt: skip
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Tokens(nn.Module):
    """Places of a map to tokens, with something of their own."""

    def __init__(self, places: int, channels: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, places, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2) + self.position


class Block(nn.Module):
    """Attention of two heads, far from the same everywhere, and a perceptron."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 9), nn.GELU(), nn.Linear(9, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        x = x + F.scaled_dot_product_attention(q, k, v, scale=3.0).transpose(1, 2).flatten(2)
        return x + self.perceptron(x)


class SmallTransformer(nn.Module):
    """Patches of 4 by 4 pixels, two blocks, the mean of the tokens, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 4, 4), nn.BatchNorm2d(12), nn.GELU(), Tokens(36, 12), Block(12), Block(12),
            nn.LayerNorm(12), nn.Dropout(0.5),
        )  # fmt: skip
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(1))


def small_words() -> Worded:
    """A `SmallTransformer` whose mean token is the embedding of an image, and rows of five words and two rivals."""

    class Tower(SmallTransformer):
        config = SimpleNamespace(model_type="clip")

        def get_image_features(self, pixel_values: Tensor) -> Tensor:
            return self.features(pixel_values).mean(1)

    words = Words(tuple("abcde"), background=("sky", "sea"))
    model = Worded(Tower(), {}, None, nn.Linear(12, 7, bias=False), words)
    model.features = model.model.features  # where the tests look for them
    return model


class TwoResolutions(nn.Module):
    """Maps of two resolutions and a head of two layers or one."""

    def __init__(self, deep: bool = False, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.head = (
            nn.Sequential(nn.Linear(12, 9), nn.SiLU(), nn.Linear(9, classes)) if deep else nn.Linear(12, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class ReshapedPatches(nn.Module):
    """A transformer without a convolution: patches cut out by reshape, one class token, torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        patches = x.reshape(b, 3, h // 8, 8, w // 8, 8).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        tokens = torch.cat([self.token.expand(b, -1, -1), self.embed(patches)], 1)
        return self.head(self.blocks(tokens)[:, 0])


class Halves(nn.Module):
    """Features that are alike within the left and within the right half; evidence in one corner of the left."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.fc = nn.Linear(3, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])
            self.fc.weight.copy_(torch.tensor([[0.0, 0, 1.0]]))

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class SixFeatures(nn.Module):
    """Six features, whose means over the places the head reads; weights as torch draws them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


class ColoursOfPlaces(nn.Module):
    """Features of a place: how red, green, blue and grey it is, and one that is always there."""

    def __init__(self) -> None:
        super().__init__()
        fine = nn.Conv2d(3, 5, 2, 2)
        self.conv = nn.Sequential(fine, nn.AvgPool2d(2))
        self.head = nn.Linear(5, 3)
        with torch.no_grad():
            mixed = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [0.1, 0.1, 0.1], [0, 0, 0]])
            fine.weight.copy_((mixed / 4)[:, :, None, None].expand(-1, -1, 2, 2))
            fine.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0.05]))

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


def attention_of(classifier: Classifier, x: Tensor) -> list[Tensor]:
    """What timm's own layers attend to, seen by hooks."""
    seen: list[Tensor] = []
    handles = [
        block.attn.attn_drop.register_forward_hook(lambda module, args, output: seen.append(output))
        for block in classifier.model.blocks
    ]
    with torch.no_grad():
        classifier.model(x)
    for handle in handles:
        handle.remove()
    return seen

"""Checkpoints in the layout of ML-Decoder's authors, written by an independent implementation from the papers."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradcut import load_classifier
from gradcut.classifiers.mldecoder import LAYOUTS
from gradcut.errors import ClassifierError
from gradcut.labels import coco_ids

COCO = tuple(coco_ids())


class InplaceNorm(nn.Module):
    """InplaceABN in evaluation: batch norm by the absolute value of the weight, then leaky ReLU."""

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.weight = nn.Parameter(torch.empty(channels).uniform_(-1.3, 1.3))
        self.bias = nn.Parameter(torch.empty(channels).normal_(0, 0.1))
        self.register_buffer("running_mean", torch.empty(channels).normal_(0, 0.1))
        self.register_buffer("running_var", torch.empty(channels).uniform_(0.5, 1.5))

    def forward(self, x):
        scale = (self.weight.abs() + 1e-5) / (self.running_var + 1e-5).sqrt()
        shift = self.bias - self.running_mean * scale
        return F.leaky_relu(x * scale[:, None, None] + shift[:, None, None], self.slope)


class Blur(nn.Module):
    def forward(self, x):
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, stride=2, groups=x.shape[1])


class Squeeze(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


def unit(inputs: int, outputs: int, kernel: int, slope: float, blur: bool = False) -> nn.Sequential:
    pair = nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), InplaceNorm(outputs, slope)
    )
    return nn.Sequential(pair, Blur()) if blur else pair


class Block(nn.Module):
    """``deep``: 1 x 1, 3 x 3, 1 x 1 with four times the width; else two 3 x 3."""

    def __init__(self, inputs: int, width: int, stride: int, deep: bool, squeeze: bool) -> None:
        super().__init__()
        outputs = width * (4 if deep else 1)
        halve = stride == 2
        if deep:
            self.conv1 = unit(inputs, width, 1, 1e-3)
            self.conv2 = unit(width, width, 3, 1e-3, blur=halve)
            self.conv3 = unit(width, outputs, 1, 1.0)
        else:
            self.conv1 = unit(inputs, width, 3, 1e-3, blur=halve)
            self.conv2 = unit(width, width, 3, 1.0)
        if squeeze:
            inner = max(outputs // 8, 64) if deep else max(outputs // 4, 64)
            self.se = Squeeze(width, inner)
        if halve or inputs != outputs:
            pool = [nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)] if halve else []
            self.downsample = nn.Sequential(*pool, unit(inputs, outputs, 1, 1.0))
        self.deep = deep

    def forward(self, x):
        short = self.downsample(x) if hasattr(self, "downsample") else x
        y = self.conv2(self.conv1(x))
        y = self.se(y) if hasattr(self, "se") else y
        return ((self.conv3(y) if self.deep else y) + short).relu()


class Space(nn.Module):
    def forward(self, x):
        b, c, h, w = x.shape
        parts = x.reshape(b, c, h // 4, 4, w // 4, 4)
        return parts.permute(0, 3, 5, 1, 2, 4).reshape(b, 16 * c, h // 4, w // 4)


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.multihead_attn = nn.MultiheadAttention(width, 8)
        self.linear1, self.linear2 = nn.Linear(width, 2048), nn.Linear(2048, width)

    def forward(self, queries, memory):
        # No self-attention: the queries are added to themselves in its place.
        q = self.norm1(2 * queries)
        heads, d = 8, q.shape[-1] // 8
        w, b = self.multihead_attn.in_proj_weight.chunk(3), self.multihead_attn.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(source, weight, bias).unflatten(-1, (heads, d)).transpose(1, 2)
            for source, weight, bias in zip((q, memory, memory), w, b, strict=True)
        )
        looked = (query @ key.transpose(-1, -2) / d**0.5).softmax(-1) @ value
        q = self.norm2(q + self.multihead_attn.out_proj(looked.transpose(1, 2).flatten(2)))
        return self.norm3(q + self.linear2(self.linear1(q).relu()))


class Original(nn.Module):
    def __init__(self, blocks: list[int], deep: bool, classes: int, queries: int, width: int = 768) -> None:
        super().__init__()
        stages: dict[str, nn.Module] = {"SpaceToDepth": Space(), "conv1": unit(48, 64, 3, 1e-2)}
        inputs = 64
        for number, count in enumerate(blocks):
            is_deep = deep or number >= 2
            members = []
            for place in range(count):
                stride = 2 if number and not place else 1
                members.append(Block(inputs, 64 << number, stride, is_deep, squeeze=number < 3))
                inputs = (64 << number) * (4 if is_deep else 1)
            stages[f"layer{number + 1}"] = nn.Sequential(*members)
        self.body = nn.Sequential(OrderedDict(stages))
        decoder = nn.Module()
        decoder.layers = nn.ModuleList([Layer(width)])
        decoder.embed_standart = nn.Linear(inputs, width)
        decoder.query_embed = nn.Embedding(queries, width)
        decoder.duplicate_pooling = nn.Parameter(torch.randn(queries, width, -(-classes // queries)) / width**0.5)
        decoder.duplicate_pooling_bias = nn.Parameter(torch.randn(classes))
        self.head = nn.Module()
        self.head.decoder = decoder
        self.classes = classes
        # Signals keep their strength through the body, so that what the photograph shows reaches the logits.
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.normal_(decoder.embed_standart.weight, 0, 0.3)

    def forward(self, x):
        parts = self.head.decoder
        memory = parts.embed_standart(self.body(x).flatten(2).transpose(1, 2)).relu()
        found = parts.layers[0](parts.query_embed.weight.expand(len(x), -1, -1), memory)
        each = [found[:, i] @ parts.duplicate_pooling[i] for i in range(len(parts.duplicate_pooling))]
        return torch.cat(each, 1)[:, : self.classes] + parts.duplicate_pooling_bias


def checkpoint(path, network: nn.Module, names=COCO, **changes) -> str:
    document = {"model": network.state_dict(), "idx_to_class": dict(enumerate(names)), **changes}
    torch.save({key: value for key, value in document.items() if value is not None}, path)
    return f"ml-decoder@{path}"


@pytest.fixture(scope="module")
def medium() -> nn.Module:
    torch.manual_seed(0)
    return Original(*LAYOUTS["tresnet_m"], 80, 80).eval()


def compare(model: nn.Module, name: str) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    x[1, :, :, 20:] *= 0.1
    classifier = load_classifier(name)
    with torch.inference_mode():
        expected, found = model(x), classifier.logits(x)
    assert expected.std() > 0.3
    assert (expected[0] - expected[1]).abs().max() > 0.05  # the photograph matters
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("variant", "blocks", "deep"), [
    ("tresnet_m", [3, 4, 11, 3], False), ("tresnet_l", [3, 4, 23, 3], True), ("tresnet_xl", [3, 8, 34, 5], True),
])  # fmt: skip
def test_logits_are_the_originals(variant, blocks, deep, tmp_path):
    torch.manual_seed(0)
    assert LAYOUTS[variant] == (blocks, deep)
    model = Original(blocks, deep, 80, 80).eval()
    compare(model, checkpoint(tmp_path / f"{variant}.pth", model))


def test_groups_of_several_classes(tmp_path):
    torch.manual_seed(0)
    model = Original(*LAYOUTS["tresnet_m"], 7, 3).eval()
    compare(model, checkpoint(tmp_path / "seven.pth", model, [f"class {i}" for i in range(7)]))


def test_the_seeds_settings(medium, tmp_path):
    classifier = load_classifier(checkpoint(tmp_path / "m.pth", medium, COCO[::-1]))
    assert classifier.labels == COCO[::-1]
    assert classifier.size == (448, 448)
    assert (classifier.mean, classifier.std) == ((0, 0, 0), (1, 1, 1))
    assert (classifier.multilabel, classifier.threshold, classifier.top_k) == (True, 0.75, 20)


def test_what_does_not_fit(medium, tmp_path):
    state = medium.state_dict()
    less = {key: value for key, value in state.items() if key != "body.layer3.4.conv1.0.weight"}
    reshaped = {**state, "head.decoder.query_embed.weight": torch.zeros(79, 768)}
    cases = {
        r"1 are missing, the first is 'body.layer3.4.conv1.conv.weight'": {"model": less},
        r"1 are unknown, the first is 'head.fc.bias'": {"model": {**state, "head.fc.bias": torch.zeros(3)}},
        r"1 have another shape: 'head.decoder.query_embed.weight' expected \(80, 768\), got \(79, 768\)": {
            "model": reshaped
        },
        "expected COCO's 80 classes, got 'dragon'": {"idx_to_class": dict(enumerate(("dragon", *COCO[1:])))},
        "expected idx_to_class from 0 to 79": {"idx_to_class": dict(enumerate(COCO, start=1))},
        "expected numbers": {"idx_to_class": {name: name for name in COCO}},
        "expected ML-Decoder's 'model' and 'idx_to_class', got 'model'": {"idx_to_class": None},
    }
    for says, changes in cases.items():
        with pytest.raises(ClassifierError, match=says) as error:
            load_classifier(checkpoint(tmp_path / "wrong.pth", medium, **changes))
        assert "\n" not in str(error.value)

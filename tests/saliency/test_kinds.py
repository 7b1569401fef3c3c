"""`default` for every classifier: the kind of a network is seen, and what it is asked answers where the signal is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import conformance
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Brightness, SmallNet, SmallTransformer, TwoResolutions, placed
from timm.models import VisionTransformer
from torch import Tensor, nn

from gradcut import RECIPES, Classifier, Segmenter
from gradcut.recipes import for_classifier
from gradcut.saliency import (
    CAM,
    SUITED,
    Attention,
    GradCAM,
    HiResCAM,
    Kind,
    Mean,
    MultiScale,
    PlaceProbability,
    Rivals,
    Walk,
    at_one_size,
    kind_of,
    suited,
)

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("architecture", "reads", "attention", "sizes"),
    [
        ("resnet18", "mean", False, 3),
        ("mobilenetv3_small_050", "map", False, 3),
        ("convnext_atto", "map", False, 3),
        ("mixer_s32_224", "mean", False, 1),
        ("vit_tiny_patch16_224", "class token", True, 2),
    ],
)
def test_what_default_asks_answers_where_the_signal_is(architecture, reads, attention, sizes):
    """`make conformance` tries more of timm's; of transformers' see the tests of its families."""
    row = conformance.tried(architecture)
    assert row.verdict == "right", row
    assert (row.reads, row.walk == "Attention", row.sizes) == (reads, attention, sizes)


def test_the_conformance_test_tells_right_from_wrong():
    """Maps elsewhere, or the same for every photograph, have no correlation with the patches."""
    patches = [conformance.photograph((40, 50), i, place)[1] for i, place in enumerate(conformance.PLACES)]
    inside = torch.from_numpy(np.stack(patches)).float()
    assert conformance.alike(inside, inside) == 1
    assert conformance.alike(inside[0].expand_as(inside), inside) == 0
    assert conformance.alike(inside.roll(1, 0), inside) < 0
    assert conformance.alike(inside.roll((20, 25), (1, 2)), inside) < conformance.CORRELATION


class Words(nn.Module):
    """Rows beside features of length 1, as of words."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.rows = TwoResolutions().body, nn.Linear(12, 4, bias=False)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return 50 * self.rows(F.normalize(self.tower(self.stem(x)).mean((2, 3)), dim=1))


def named(model: nn.Module, size: int = 48, classes: int = 5) -> Classifier:
    torch.manual_seed(0)
    return Classifier(model.eval(), classes, size)


SIZES = (1.0, 5 / 3, 8 / 3)


def test_the_kind_of_a_network_is_seen():
    assert kind_of(named(SmallNet())) == Kind("mean")
    assert kind_of(named(TwoResolutions(deep=True))) == Kind("map")
    assert kind_of(named(SmallTransformer(), 24)) == Kind("mean", moves=True)
    assert kind_of(named(Words(), classes=4)) == Kind("map")
    assert kind_of(placed(Classifier(Brightness().eval(), 2, 64))) == Kind("places")
    assert kind_of(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), 5, 4)) is None


def test_what_suits_each_kind():
    default, fast = (RECIPES[name].saliency for name in ("default", "fast"))
    assert suited(default, named(SmallNet())) is default
    assert suited(fast, named(SmallNet())) is fast
    deep = named(TwoResolutions(deep=True))
    assert suited(fast, deep) == Walk(Rivals(HiResCAM()), steps=(8, 4))
    assert suited(default, deep) == Walk(Rivals(MultiScale(HiResCAM(), SIZES, flip=False)), steps=(8, 4))
    assert suited(fast, named(Words(), classes=4)) == Walk(Rivals(HiResCAM()), steps=(8, 4))
    options = {"embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5, "dynamic_img_size": True}
    token = named(VisionTransformer(img_size=32, patch_size=8, **options), 32)
    scales = SUITED["class token"].scales
    assert suited(default, token) == Walk(Rivals(MultiScale(GradCAM(), scales, flip=False)), Attention())


class AnySizeButLarge(SmallNet):
    """Fixed to one size; deep: with a layer after the head."""

    def __init__(self, deep: bool) -> None:
        super().__init__()
        self.deep = deep

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (48, 48):
            raise RuntimeError("expected 48")
        return super().forward(x).sigmoid() if self.deep else super().forward(x)


@pytest.mark.parametrize("deep", [False, True])
def test_a_network_of_one_size_is_asked_at_that(deep):
    """Else at three: what is asked is recorded."""
    photograph = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    segment = Segmenter(named(AnySizeButLarge(deep)))
    assert segment.recipe.saliency == Walk(Rivals(HiResCAM() if deep else CAM()), steps=(8, 4))
    assert segment.recipe.largest == 1
    assert segment.record()["recipe"]["saliency"] != RECIPES["default"].record()["saliency"]
    assert segment(photograph, labels=["1"]).masks.shape == (1, 60, 50)


def test_methods_at_one_size():
    method = Mean((Walk(Rivals(MultiScale(PlaceProbability(), SIZES))), Walk(MultiScale(CAM()))))
    assert at_one_size(method) == Mean((Walk(Rivals(PlaceProbability())), Walk(CAM())))
    assert at_one_size(GradCAM()) == GradCAM()
    assert at_one_size(len) is len


def test_only_the_saliency_of_the_two_recipes_adapts():
    """What a person chose stays what it is, and is refused where it cannot be."""
    deep = named(TwoResolutions(deep=True))
    chosen = replace(RECIPES["fast"], saliency=Walk(CAM()))
    assert for_classifier(chosen, deep) is chosen
    assert for_classifier(RECIPES["simonyan"], deep) is RECIPES["simonyan"]
    other = replace(RECIPES["fast"], seeds=RECIPES["simonyan"].seeds)
    assert for_classifier(other, deep).saliency == for_classifier(RECIPES["fast"], deep).saliency


def test_a_model_is_left_as_it_was():
    classifier = named(SmallNet())
    before = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    classifier.model.train()
    Segmenter(classifier)
    assert all(module.training for module in classifier.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in classifier.model.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.model.parameters())


def test_the_documented_table_is_the_one_in_the_code():
    lines = (DOCS / "masks.md").read_text("utf-8").splitlines()
    for kind in SUITED.values():
        (line,) = (line for line in lines if line.startswith(f"| {kind.head}"))
        sizes = {1.0: "1", 5 / 3: "5/3", 8 / 3: "8/3"}
        assert line.endswith(f"| {', '.join(sizes[scale] for scale in kind.scales)} |")
        assert kind.maps is None or f"`{kind.maps.__name__}()`" in line


def test_the_documented_architectures_are_those_of_the_conformance_test():
    text = (DOCS / "classifiers.md").read_text("utf-8")
    rows = text.split(conformance.BEGIN)[1].split(conformance.END)[0].splitlines()[2:]
    assert sorted(row.split("`")[1] for row in rows) == sorted(conformance.ARCHITECTURES)
    assert len(rows) >= 60

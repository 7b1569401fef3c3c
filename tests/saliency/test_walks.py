from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from networks import Halves, attention_of

from gradcut import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.passes import Wanted
from gradcut.saliency import (
    CAM,
    Attention,
    AttentionRollout,
    Features,
    GradCAM,
    Gradient,
    Mean,
    MultiScale,
    Rivals,
    View,
    Walk,
    explained,
)
from gradcut.saliency.maps import above_least, relative


@pytest.fixture
def x(brightness, drawn):
    return brightness.prepare([drawn[0], drawn[0][::-1].copy()])


PAIRS = [(0, 0), (0, 1), (1, 0)]


def test_rivals_follow_their_formula(brightness, x):
    maps = CAM()(brightness, x, PAIRS)
    n = maps / maps.amax((1, 2), keepdim=True)
    strongest = torch.maximum(n[0], n[1]).clamp(min=1e-38)
    rivals = Rivals(CAM(), 2.0)(brightness, x, PAIRS)
    assert torch.allclose(rivals[0], n[0] * (n[0] / strongest) ** 2)
    assert torch.allclose(rivals[1], n[1] * (n[1] / strongest) ** 2)
    assert torch.allclose(rivals[2], n[2])  # alone in its photograph


@pytest.fixture
def halves():
    return Classifier(Halves().eval(), ["corner"], 16, (0, 0, 0), (1, 1, 1), multilabel=True)


@pytest.fixture
def corner():
    """The left half red, the right half green, and a blue tinge in the left half's upper corner."""
    x = torch.zeros(1, 3, 16, 16)
    x[:, 0, :, :8] = 1
    x[:, 1, :, 8:] = 1
    x[:, 2, :4, :4] = 0.2
    return x


def test_the_walk_spreads_over_what_looks_alike(halves, corner):
    (before,), (after,) = (method(halves, corner, [(0, 0)]) for method in (CAM(), Walk(CAM(), Features(16, 1))))
    assert before[8:, :8].max() == 0
    assert after[8:, :8].min() > 0.5 * after[:4, :4].max()
    assert after[:, 8:].max() < 0.01 * after[:, :8].min()
    assert after.min() == 0


def test_a_walk_that_reaches_everywhere_keeps_its_contrast(halves, corner):
    """Where all places are alike the walk tends to a constant, which is no saliency."""
    before, after = (Walk(CAM(), Features(16, 1), steps)(halves, corner + 1, [(0, 0)]) for steps in ((0,), (1,)))
    assert after.min() == 0
    assert 0 < after.max() < 0.2 * before.max()
    assert relative(after)[0, :4, :4].min() > 0.9  # the corner still stands out
    assert Walk(CAM(), Features(16, 1), (50,))(halves, corner + 1, [(0, 0)]).max() == 0  # rounding is left, no contrast


def test_classes_compete_between_two_walks(embedded, cat):
    small = embedded.at(128)
    x, pairs = small.prepare([cat]), [(0, 285), (0, 904)]
    found = Walk(CAM(), Features(16), steps=(8, 4))(small, x, pairs)
    view = View(small, x)
    view.keep(levels=3)
    maps = explained(CAM(), view, pairs)
    features = [
        F.normalize(
            (F.adaptive_avg_pool2d(m, 16) if m.shape[2] > 16 else F.interpolate(m, (16, 16), mode="bilinear"))[0]
            .flatten(1),
            dim=0,
        )
        for m in view.kept.maps
    ]  # fmt: skip
    affinity = (sum(f.T @ f for f in features) / 3).clamp(min=0) ** 12
    walk = affinity / affinity.sum(1, keepdim=True)
    at = F.adaptive_avg_pool2d(maps, 16).flatten(1) @ torch.linalg.matrix_power(walk, 8).T
    n = at / at.amax(1, keepdim=True)
    at = (n * n / n.amax(0)) @ torch.linalg.matrix_power(walk, 4).T
    expected = F.interpolate((at - at.amin(1, True)).view(1, 2, 16, 16), (128, 128), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.amax((1, 2)).min() > 0.05


def test_walks_over_the_same_affinities_share_them(embedded, cat, monkeypatch):
    small = embedded.at(64)
    x, pairs, walks = small.prepare([cat]), [(0, 285)], []
    walk = Features.walk
    monkeypatch.setattr(Features, "walk", lambda self, levels: walks.append(self) or walk(self, levels))
    both = Mean((Walk(CAM(), Features(8)), Walk(Rivals(CAM()), Features(8)), Walk(CAM(), Features(6))))
    found = both(small, x, pairs)
    assert walks == [Features(8), Features(6)]
    alone = [relative(method(small, x, pairs)) for method in both.methods]
    torch.testing.assert_close(found, sum(alone) / 3, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "scale", "passes"),
    [(CAM(), 1.0, 1), (CAM(), 1.5, 2), (MultiScale(CAM(), (1, 1.5), flip=False), None, 2), (Gradient(), 1.0, 1)],
)
def test_features_come_from_the_methods_own_pass_where_there_is_one(embedded, cat, method, scale, passes):
    small = embedded.at(64)
    x, pairs, walk = small.prepare([cat]), [(0, 285)], Walk(method, Features(8), scale=scale)
    walk(small, x, pairs)  # compares its passes with bare ones
    calls = []
    handle = small.model.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    shared = walk(small, x, pairs)
    handle.remove()
    assert calls == [1] * passes
    maps = method(small, x, pairs)
    alone = Walk(lambda _, __, targets: maps[: len(targets(small.logits(x)))], Features(8), scale=scale or 1.5)
    alone = alone(small, x, pairs)
    assert torch.allclose(shared, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "option",
    [
        {"over": Features(8)}, {"over": Features(16, power=1.0)}, {"over": Features(16, levels=2)}, {"steps": (1,)},
        {"steps": (8, 4)}, {"scale": 1.5},
    ],
)  # fmt: skip
def test_every_option_of_the_walk_matters(embedded, cat, option):
    x = embedded.at(128).prepare([cat])
    plain, changed = (
        Walk(CAM(), **{"over": Features(16)} | o)(embedded.at(128), x, [(0, 285), (0, 904)]) for o in ({}, option)
    )
    assert plain.shape == changed.shape
    assert not torch.allclose(plain, changed)


@pytest.mark.parametrize(
    "method", [Walk(Rivals(CAM()), Features(16)), Rivals(Gradient()), Walk(Gradient(), Features(8))]
)
def test_batches_targets_and_no_targets(embedded, cat, method):
    small = embedded.at(96)
    x = small.prepare([cat, np.ascontiguousarray(cat[:, ::-1])])
    pairs = [(0, 285), (1, 281), (0, 281)]
    together = method(small, x, pairs)
    assert together.shape == (3, 96, 96)
    assert (together >= 0).all()
    alone = method(small, x[1:], [(0, 281)])
    assert torch.allclose(together[1], alone[0], rtol=1e-3, atol=1e-5)
    seen = []
    called = method(small, x, lambda logits: seen.append(logits.shape) or pairs)
    assert torch.equal(called, together)
    assert seen == [(2, 1000)]
    assert method(small, x, []).shape == (0, 96, 96)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Rivals(CAM(), -1.0), "strength: expected a number from 0, got -1.0"),
        (lambda: Features(1), "grid: expected .*at least 2, got 1"),
        (lambda: Features(levels=0), "levels: expected .*at least 1, got 0"),
        (lambda: Features(power=-1.0), "power: expected .*at least 0.*, got -1.0"),
        (lambda: Walk(CAM(), steps=()), r"steps: expected a tuple of one number at least, none below 0, got \(\)"),
        (lambda: Walk(CAM(), steps=(-1,)), "steps: expected a tuple of one number at least, none below 0, got "),
        (lambda: Walk(CAM(), scale=0), "scale: expected a number above 0, got 0"),
        (lambda: Walk(CAM(), scale=float("inf")), "scale: expected a number above 0, got inf"),
        (lambda: Attention(layers=0), "layers: expected .*at least 1, got 0"),
        (lambda: Attention(power=-1.0), "power: expected .*at least 0.*, got -1.0"),
    ],
)
def test_unusable_options(build, message):
    with pytest.raises(SaliencyError, match=message):
        build()


def test_places_without_features_keep_what_they_have(brightness, drawn):
    """Black is 0 in every feature of this classifier: the walk must not divide by 0."""
    x = brightness.prepare([drawn[0], np.zeros_like(drawn[0])])
    maps = Walk(CAM(), Features(16))(brightness, x, [(0, 0), (1, 0)])
    assert maps.isfinite().all()
    assert maps[0].max() > 0
    assert (maps[1] == 0).all()


# Attention


def vit(fused: bool = True, **options: Any) -> Classifier:
    torch.manual_seed(0)
    options = {"img_size": (48, 64), "depth": 3, "num_classes": 5, "dynamic_img_size": True} | options
    model = timm.create_model("vit_tiny_patch16_224", **options)
    for parameter in model.parameters():  # attention that is not the same everywhere
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    for block in model.blocks:
        block.attn.fused_attn = fused
    return Classifier(model.eval(), 5, (48, 64))


PHOTOGRAPHS = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def attended(
    maps: torch.Tensor, attention: list[torch.Tensor], prefix: int, power: float, steps: tuple[int, ...]
) -> torch.Tensor:
    """One photograph's maps after walks over its attention, place by place, on a grid of 3 by 4."""
    mean = sum(layer[heads] for layer in attention for heads in range(layer.shape[0]))[prefix:, prefix:].double()
    walk = torch.zeros(12, 12, dtype=torch.float64)
    for p in range(12):
        for q in range(12):
            walk[p, q] = float(mean[p, q] + mean[q, p]) ** power
        walk[p] /= walk[p].sum()
    at = F.adaptive_avg_pool2d(maps.double(), (3, 4)).flatten(1)
    for number, many in enumerate(steps):
        if number:
            n = at / at.amax(1, keepdim=True)
            at = n * n / n.amax(0)
        at = at @ torch.linalg.matrix_power(walk, many).T
    at = (at - at.amin(1, keepdim=True)).view(1, -1, 3, 4)
    return F.interpolate(at, (48, 64), mode="bilinear")[0].float()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("options", "prefix"),
    [
        ({}, 1),
        ({"reg_tokens": 2}, 3),
        ({"class_token": False, "global_pool": "avg"}, 0),
        ({"class_token": False, "global_pool": "map"}, 0),  # whose last attention is of one query
    ],
    ids=["class token", "class and register tokens", "no class token", "attention pooling"],
)
def test_the_walk_over_attention_by_hand(fused, options, prefix):
    slow = attention_of(vit(False, **options), PHOTOGRAPHS)
    classifier = vit(fused, **options)
    assert classifier.model.num_prefix_tokens == prefix
    pairs = [(0, 0), (1, 3), (0, 2)]
    maps = Gradient()(classifier, PHOTOGRAPHS, pairs)
    found = Walk(Gradient(), Attention(2, 3.0), (1, 2))(classifier, PHOTOGRAPHS, pairs)
    for b, here in ((0, [0, 2]), (1, [1])):
        expected = attended(maps[here], [layer[b] for layer in slow[-2:]], prefix, 3.0, (1, 2))
        assert expected.amax((1, 2)).min() > 0
        torch.testing.assert_close(found[here], expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_the_walk_over_the_attention_of_torchs_own_layer():
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(64, 16, 2, 2, 16, 32, num_classes=5).eval()
    torch.nn.init.normal_(model.heads.head.weight)
    classifier = Classifier(model, 5, 64)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    tokens = []
    layers = [layer.self_attention for layer in model.encoder.layers]
    handles = [layer.register_forward_pre_hook(lambda module, args: tokens.append(args[0])) for layer in layers]
    with torch.no_grad():
        model(x)
        for handle in handles:
            handle.remove()
        seen = [layer(t, t, t)[1] for layer, t in zip(layers, tokens, strict=True)]  # the mean over the heads
    mean = ((seen[0] + seen[1]) / 2)[1, 1:, 1:]
    affinity = (mean + mean.T) ** 2
    walk = affinity / affinity.sum(1, keepdim=True)
    maps = GradCAM()(classifier, x, [(1, 2)])
    at = (walk @ walk @ F.adaptive_avg_pool2d(maps, 4).flatten()).view(1, 1, 4, 4)
    found = Walk(GradCAM(), Attention())(classifier, x, [(1, 2)])
    expected = F.interpolate(at - at.min(), (64, 64), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))
    assert found.max() > 0


def test_no_steps_over_attention_bring_the_map_to_the_grid():
    classifier = vit()
    maps = Gradient()(classifier, PHOTOGRAPHS, [(0, 1)])
    at = F.adaptive_avg_pool2d(maps, (3, 4))[None]
    found = Walk(Gradient(), Attention(), (0,))(classifier, PHOTOGRAPHS, [(0, 1)])
    torch.testing.assert_close(found, F.interpolate(at - at.min(), (48, 64), mode="bilinear")[0])


@pytest.mark.parametrize(
    "option",
    [{"over": Attention(1)}, {"over": Attention(power=1.0)}, {"steps": (1,)}, {"steps": (2, 1)}, {"scale": 2.0}],
    ids=repr,
)
def test_every_option_of_the_walk_over_attention_matters(option):
    classifier, pairs = vit(), [(0, 0), (0, 1)]
    plain, changed = (
        Walk(Gradient(), **{"over": Attention()} | o)(classifier, PHOTOGRAPHS, pairs) for o in ({}, option)
    )
    assert plain.shape == changed.shape == (2, 48, 64)
    assert (changed >= 0).all()
    plain, changed = (maps / maps.sum((1, 2), keepdim=True) for maps in (plain, changed))
    assert float((plain - changed).abs().sum((1, 2)).max()) > 0.01


@pytest.mark.parametrize(
    ("method", "scale", "passes"),
    [(Gradient(), 1.0, 1), (AttentionRollout(), 1.0, 1), (GradCAM(), 1.0, 1), (GradCAM(), 2.0, 2)],
)
def test_attention_comes_from_the_methods_own_pass_where_there_is_one(method, scale, passes):
    classifier, pairs = vit(), [(0, 1), (1, 2)]
    maps, walk = method(classifier, PHOTOGRAPHS, pairs), Walk(method, Attention(), scale=scale)
    walk(classifier, PHOTOGRAPHS, pairs)  # finds the map, and compares its passes with bare ones
    calls = []
    handle = classifier.model.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    shared = walk(classifier, PHOTOGRAPHS, pairs)
    handle.remove()
    assert calls == [2] * passes
    alone = Walk(lambda _, __, targets: maps[: len(targets(classifier.logits(PHOTOGRAPHS)))], Attention(), scale=scale)
    torch.testing.assert_close(shared, alone(classifier, PHOTOGRAPHS, pairs), rtol=1e-3, atol=1e-6)


def test_photographs_larger_than_the_classifier_takes():
    """The attention is that at the size that is asked for; the map keeps the photographs' size."""
    classifier = vit()
    large = F.interpolate(PHOTOGRAPHS, (96, 128), mode="bilinear")
    method = MultiScale(GradCAM(), (1, 2), flip=False)
    own, middle, named = (Walk(method, Attention(), scale=scale)(classifier, large, [(0, 1)]) for scale in (1, None, 2))
    assert own.shape == (1, 96, 128)
    assert middle.equal(named)
    assert not torch.allclose(own, middle)


def test_attention_that_is_kept_begins_no_graph():
    classifier = vit()
    view = View(classifier, PHOTOGRAPHS)
    view.keep(attention=True)
    with torch.enable_grad():
        made = view.watch()
    assert [tuple(layer.weights.shape) for layer in view.kept.attention] == [(2, 3, 13, 13)] * 3
    assert not any(layer.weights.requires_grad for layer in made.attention)
    assert View(classifier, PHOTOGRAPHS).watch().attention == ()


def test_networks_without_attention_between_places(brightness, x):
    message = (
        r"Walk over Attention needs .*; brightness has attention nowhere\. A walk over Features\(\) works with any"
    )
    with pytest.raises(SaliencyError, match=message) as raised:
        Walk(CAM(), Attention())(brightness, x, PAIRS)
    assert "\n" not in str(raised.value)
    assert Walk(CAM())(brightness, x, PAIRS).max() > 0


def test_windows_are_no_attention_between_places():
    """A Swin transformer has some where one window is the whole map, in its last layers at most."""
    torch.manual_seed(0)
    model = torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=5).eval()
    small, large = (torch.randn(2, 3, side, side) for side in (32, 64))
    windows = Classifier(model, 5, 64)
    with pytest.raises(SaliencyError, match="custom has attention among 16 by 16 tokens"):
        Walk(GradCAM(), Attention())(windows, large, [(0, 1)])
    found = Walk(GradCAM(), Attention(power=1.0), (1,))(windows.at(32), small, [(1, 1)])
    layers = [layer.weights for layer in View(windows.at(32), small).watch(Wanted(attention=True)).attention]
    mean = sum(layer[1].mean(0) for layer in layers[-2:])
    assert [len(layer) for layer in layers] == [8, 8, 2, 2]
    affinity = (mean + mean.T).detach()
    maps = F.adaptive_avg_pool2d(GradCAM()(windows.at(32), small, [(1, 1)]), 4).flatten()
    at = (affinity / affinity.sum(1, keepdim=True) @ maps).view(1, 1, 4, 4)
    torch.testing.assert_close(found, F.interpolate(at - at.min(), (32, 32), mode="bilinear")[0], rtol=1e-3, atol=1e-6)


class OneQuery(torch.nn.Module):
    """Every place attends to the class token alone, from `loud` on up to the last bit."""

    def __init__(self, loud: float) -> None:
        super().__init__()
        self.patches, self.fc, self.loud = torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Linear(4, 2), loud

    def forward(self, x):
        tokens = F.pad(self.patches(x).flatten(2).transpose(1, 2), (0, 0, 1, 0))
        logits = torch.zeros(1, 1, 1, tokens.shape[1])
        logits[..., 0] = self.loud
        return self.fc((F.scaled_dot_product_attention(*[tokens[:, None]] * 3, logits)[:, 0] + tokens).mean(1))


def test_places_that_attend_to_no_place_keep_what_they_have():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 16, 16)
    for loud, stay in ((0.0, False), (1e4, True)):
        classifier = Classifier(OneQuery(loud).eval(), 2, 16)
        still, walked = (
            Walk(Gradient(), Attention(power=20.0), steps)(classifier, x, [(0, 0)]) for steps in ((0,), (9,))
        )
        assert walked.isfinite().all()
        assert torch.equal(still, walked) == stay


@pytest.mark.parametrize("walk", [Walk(GradCAM(), Attention()), Walk(GradCAM(), Features(8), (2,))], ids=repr)
def test_walks_in_other_number_types(walk):
    classifier = vit()
    expected = walk(classifier, PHOTOGRAPHS, [(0, 1)])
    with torch.autocast("cpu", torch.bfloat16):
        found = walk(classifier, PHOTOGRAPHS, [(0, 1)])
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).abs().sum() / expected.sum()) < 0.3
    classifier.model.double()
    found = walk(classifier, PHOTOGRAPHS.double(), [(0, 1)])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-3 * float(expected.max()))


@pytest.mark.parametrize("over", [Attention(), Features()], ids=repr)
def test_a_constant_map_comes_out_as_zeros(over):
    """Rows that sum to 1 leave it as it is, under autocast too, but for rounding, which is no map."""

    def everywhere(classifier, x, targets):
        return torch.ones(len(targets(classifier.logits(x))), 48, 64)

    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            for method in (everywhere, Rivals(everywhere)):
                assert Walk(method, over, (8, 4))(vit(), PHOTOGRAPHS, [(0, 1), (0, 2)]).max() == 0


def test_what_is_constant_but_for_rounding_is_zero():
    rounding = torch.full((1, 8, 8), 3.0) + torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2e-7
    assert rounding.max() > rounding.min()
    assert above_least(rounding).max() == 0
    faint = torch.full((1, 8, 8), 1e-20)
    faint[0, 3, 4] = 2e-20
    assert above_least(faint)[0, 3, 4] == pytest.approx(1e-20)
    assert above_least(-faint)[0, 0, 0] == pytest.approx(1e-20)


def test_more_levels_or_layers_than_there_are(brightness, x):
    with pytest.raises(SaliencyError, match="levels: expected at most 1, the resolutions of brightness, got 2"):
        Walk(CAM(), Features(levels=2))(brightness, x, PAIRS)
    with pytest.raises(SaliencyError, match=r"layers: expected at most 3, those of custom in which all .*, got 4"):
        Walk(Gradient(), Attention(4))(vit(), PHOTOGRAPHS, [(0, 1)])

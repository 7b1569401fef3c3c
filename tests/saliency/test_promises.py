"""Options, scores, groups, costs, transformers' attention, compiled and scripted modules, number types, and leaks."""

from __future__ import annotations

import gc
import os
import re
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from networks import TwoResolutions, attention_of
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcut import saliency
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.activations import Backward, guided
from gradcut.network.passes import Wanted
from gradcut.saliency import (
    CAM,
    RISE,
    AblationCAM,
    Attention,
    AttentionGradient,
    AttentionRollout,
    DeconvNet,
    Difference,
    EigenCAM,
    EigenGradCAM,
    Features,
    FinerCAM,
    FullGrad,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GradientXInput,
    GuidedBackprop,
    GuidedGradCAM,
    HiResCAM,
    IntegratedGradients,
    KernelSHAP,
    LayerCAM,
    Mean,
    Method,
    MultiScale,
    Occlusion,
    RefineCAM,
    Rivals,
    ScoreCAM,
    ShapleyCAM,
    SmoothGrad,
    VarGrad,
    View,
    Walk,
    XGradCAM,
    resolve,
    score_gradient,
    scores,
    sized,
)
from gradcut.saliency.maps import resized
from gradcut.saliency.shapley import shapley_values


def net(deep: bool = False, multilabel: bool = False, classes: int = 5) -> Classifier:
    torch.manual_seed(2)
    model = TwoResolutions(deep, classes)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.35)
    return Classifier(model.eval(), classes, 24, multilabel=multilabel)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))


TARGETS = [(0, 1), (1, 3), (0, 4)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Gradient(), Gradient(of="probability")),
        (Gradient(of="contrast"), Gradient(of="logit")),
        (Gradient(signed=True), Gradient()),
        (Gradient(channels="sum"), Gradient()),
        (Gradient(channels="l2"), Gradient(channels="sum")),
        (GuidedBackprop(signed=True), GuidedBackprop()),
        (GuidedBackprop(), Gradient()),
        (DeconvNet(), GuidedBackprop()),
        (GradientXInput(GuidedBackprop()), GradientXInput()),
        (SmoothGrad(samples=2), SmoothGrad(samples=3)),
        (SmoothGrad(samples=2), SmoothGrad(samples=2, noise=0.3)),
        (SmoothGrad(samples=2), SmoothGrad(samples=2, seed=1)),
        (SmoothGrad(GuidedBackprop(), samples=2), SmoothGrad(samples=2)),
        (VarGrad(samples=3), SmoothGrad(samples=3)),
        (IntegratedGradients(steps=1), IntegratedGradients(steps=8)),
        (IntegratedGradients(steps=2, baseline="black"), IntegratedGradients(steps=2)),
        (IntegratedGradients(steps=2, baseline="white"), IntegratedGradients(steps=2, baseline="black")),
        (IntegratedGradients(GuidedBackprop(), steps=2), IntegratedGradients(steps=2)),
        (CAM(of="probability"), CAM()),
        (CAM(of="contrast"), CAM()),
        (GradCAM(of="contrast"), GradCAM()),
        (GradCAM(layers=2), GradCAM()),
        (GradCAM(layers=2, fuse="max"), GradCAM(layers=2)),
        (GradCAM(layers=2, fuse="product"), GradCAM(layers=2)),
        (RefineCAM(layers=2), GradCAMPlusPlus(layers=2)),
        (GradCAM(layers="body.1"), GradCAM()),
        (EigenCAM(), EigenGradCAM()),
        (FinerCAM(), GradCAM()),
        (FinerCAM(of=Difference(strength=0.5)), FinerCAM()),
        (FinerCAM(of=Difference(similar=1)), FinerCAM()),
        (FullGrad(), FullGrad(of="probability")),
        (ShapleyCAM(of="probability"), ShapleyCAM(of="contrast")),
        (IntegratedGradients(steps=2, baseline=torch.ones(3, 24, 24)), IntegratedGradients(steps=2)),
        (Occlusion(), Occlusion(of="probability")),
        (Occlusion(window=0.3), Occlusion()),
        (Occlusion(stride=1.0), Occlusion()),
        (Occlusion(baseline="black"), Occlusion()),
        (RISE(masks=40), RISE(masks=50)),
        (RISE(masks=40, cells=4), RISE(masks=40)),
        (RISE(masks=40, keep=0.3), RISE(masks=40)),
        (RISE(masks=40, seed=1), RISE(masks=40)),
        (RISE(masks=40, of="contrast"), RISE(masks=40)),
        (KernelSHAP(samples=40), KernelSHAP(samples=50)),
        (KernelSHAP(samples=40, segments=9), KernelSHAP(samples=40)),
        (KernelSHAP(samples=40, seed=1), KernelSHAP(samples=40)),
        (KernelSHAP(samples=40, baseline="black"), KernelSHAP(samples=40)),
        (KernelSHAP(samples=40, of="contrast"), KernelSHAP(samples=40)),
        (ScoreCAM(layers="body.1"), ScoreCAM()),
        (AblationCAM(of="contrast"), AblationCAM()),
        (XGradCAM(layers="body.1"), GradCAM(layers="body.1")),
        (GradCAM(layers=("stem", "body")), GradCAM(layers="stem")),
        (GuidedGradCAM(pixels=Gradient()), GuidedGradCAM()),
        (GuidedGradCAM(regions=LayerCAM(layers=2)), GuidedGradCAM()),
        (MultiScale(CAM()), CAM()),
        (MultiScale(CAM(), scales=(1, 2)), MultiScale(CAM(), scales=(1, 3))),
        (MultiScale(CAM(), flip=False), MultiScale(CAM())),
        (MultiScale(CAM(), scales=(2,)), MultiScale(CAM(), scales=(1, 2))),
    ],
    ids=repr,
)
def test_every_option_changes_the_map(one: Any, other: Any, x: Tensor) -> None:
    classifier = net()
    first, second = (method(classifier, x, [(0, i) for i in range(5)]) for method in (one, other))
    first, second = (m / m.sum((1, 2), keepdim=True).clamp(min=1e-20) for m in (first, second))
    assert float((first - second).abs().sum((1, 2)).max()) > 0.01
    assert repr(one) != repr(other)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (
            Gradient,
            {"of": "loss"},
            "of: expected 'logit', 'probability', .* or a function of .*, got 'loss'",
        ),
        (CAM, {"of": "loss"}, "of: expected"),
        (GradCAM, {"of": "loss"}, "of: expected"),
        (AttentionGradient, {"of": "loss"}, "of: expected"),
        (Gradient, {"channels": "mean"}, "channels: expected 'max', 'sum' or 'l2', got 'mean'"),
        (Gradient, {"signed": True, "channels": "l2"}, "channels: expected 'max' or 'sum' for a signed map"),
        (SmoothGrad, {"samples": 0}, "samples: expected a whole number of at least 1, got 0"),
        (VarGrad, {"samples": 1}, "samples: expected a whole number of at least 2, got 1"),
        (SmoothGrad, {"noise": 0.0}, "noise: expected a positive fraction"),
        (SmoothGrad, {"method": CAM()}, r"method: expected one that gives .* a value, such as Gradient\(\), got CAM"),
        (GradientXInput, {"method": CAM()}, "method: expected"),
        (IntegratedGradients, {"method": CAM()}, "method: expected"),
        (GuidedGradCAM, {"pixels": CAM()}, "method: expected"),
        (IntegratedGradients, {"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        (
            IntegratedGradients,
            {"baseline": "grey"},
            "baseline: expected 'mean', 'black', .* or a tensor, got 'grey'",
        ),
        (GradCAM, {"layers": 0}, "layers: expected a number from 1, a name or a tuple of names, got 0"),
        (Occlusion, {"window": 0.0}, "window: expected a number above 0, at most 1, got 0.0"),
        (Occlusion, {"stride": 1.5}, "stride: expected a number above 0, at most 1, got 1.5"),
        (Occlusion, {"batch": 0}, "batch: expected a whole number of at least 1, got 0"),
        (Occlusion, {"baseline": "grey"}, "baseline: expected"),
        (RISE, {"masks": 0}, "masks: expected a whole number of at least 1, got 0"),
        (RISE, {"keep": 0.0}, "keep: expected a number above 0, at most 1, got 0.0"),
        (KernelSHAP, {"segments": 0}, "segments: expected a whole number of at least 1, got 0"),
        (KernelSHAP, {"samples": 7}, "samples: expected an even number, got 7"),
        (KernelSHAP, {"baseline": "grey"}, "baseline: expected"),
        (ScoreCAM, {"batch": 0}, "batch: expected a whole number of at least 1, got 0"),
        (Difference, {"strength": -1.0}, "strength: expected a number of at least 0, got -1.0"),
        (Difference, {"similar": 0}, "similar: expected a whole number of at least 1, got 0"),
        (FullGrad, {"of": "loss"}, "of: expected"),
        (GradCAM, {"fuse": "sum"}, "fuse: expected 'mean', 'max' or 'product', got 'sum'"),
    ],
)
def test_unusable_options(method: type, options: dict[str, Any], message: str) -> None:
    made = method()
    for key, value in options.items():  # past the types that the tests check round every constructor
        object.__setattr__(made, key, value)
    with pytest.raises(SaliencyError, match=message):
        made.__post_init__()


@pytest.mark.parametrize("scales", [(), (1, 1.0), (-1,), (float("inf"),)])
def test_unusable_scales(scales: tuple[float, ...]) -> None:
    with pytest.raises(SaliencyError, match="scales: expected positive numbers, none twice, got"):
        MultiScale(CAM(), scales=scales)


SCORES = ["logit", "probability", "contrast", "share", Difference(), lambda z, classes: z[list(classes)].square().sum()]


@pytest.mark.parametrize("of", SCORES, ids=lambda of: of if isinstance(of, str) else type(of).__name__)
@pytest.mark.parametrize("multilabel", [False, True])
def test_scores_have_the_gradient_that_is_taken(of: Any, multilabel: bool) -> None:
    classifier = net(multilabel=multilabel or of == "share")
    z = (torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2).requires_grad_()
    groups = [(2,), (1, 4)]
    values = scores(classifier, z, groups, of)
    assert values.shape == (2, 2)
    for column, group in enumerate(groups):
        (expected,) = torch.autograd.grad(values[1, column], z, retain_graph=True)
        found = score_gradient(classifier, z.detach(), [(1, other) for other in groups], of)[column]
        torch.testing.assert_close(found, expected[1], rtol=1e-6, atol=1e-12), group


def test_a_score_of_ones_own(x: Tensor) -> None:
    """Of two classes in one target: what speaks for the one and not for the other."""
    classifier = net(deep=True)
    between = Gradient(of=lambda z, classes: z[classes[0]] - z[classes[1]])
    found = between.attribution(View(classifier, x), [(0, (3, 1)), (1, (2, 0))])
    leaf = x.clone().requires_grad_()
    z = classifier.model(leaf)
    (expected,) = torch.autograd.grad(z[0, 3] - z[0, 1] + z[1, 2] - z[1, 0], leaf)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda z, classes: z, r"of: expected <function .* to return a tensor of one finite number, got .* \(5,\)"),
        (lambda z, classes: 1.0, "one finite number, got float"),
        (lambda z, classes: z.sum() / 0, "one finite number, got NaN or infinity"),
        (lambda z, classes: z.detach().sum(), "to be differentiable in the logits, got a constant"),
    ],
)
def test_unusable_scores(of: Any, message: str, x: Tensor) -> None:
    with pytest.raises(SaliencyError, match=message):
        Gradient(of=of)(net(), x, [(0, 1)])


@pytest.mark.parametrize("of", ["logit", "probability", "contrast"])
@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("target", [2, (2,), (1, 4), (0, 1, 3)])
def test_the_score_gradient_is_that_of_the_score(of: Any, multilabel: bool, target: Any) -> None:
    classifier = net(multilabel=multilabel)
    z = (torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2).requires_grad_()
    members = [target] if isinstance(target, int) else list(target)
    others = [i for i in range(5) if i not in members]
    score = {
        "logit": z[1, members].logsumexp(0),
        "contrast": z[1, members].logsumexp(0) - z[1, others].logsumexp(0),
        "probability": 1 - (1 - z[1, members].sigmoid()).prod() if multilabel else z[1].softmax(0)[members].sum(),
    }[of]
    (expected,) = torch.autograd.grad(score, z)
    found = score_gradient(classifier, z.detach().float(), resolve([(1, target)], z), of)
    torch.testing.assert_close(found[0].double(), expected[1], rtol=1e-5, atol=1e-7)


def test_a_group_is_one_map(x: Tensor) -> None:
    classifier = net()
    group, single = Gradient(of="logit").attribution(View(classifier, x), [(0, (1, 3)), (0, 1)])
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(classifier.model(leaf)[0, [1, 3]].logsumexp(0), leaf)
    torch.testing.assert_close(group, expected[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(group, single)
    for method in (CAM(), GradCAM(), GuidedBackprop()):
        assert method(classifier, x, [(0, (1, 3)), (1, 2), (1, (0, 4))]).shape == (3, 24, 24)


def test_unusable_groups() -> None:
    logits = torch.zeros(2, 5)
    for target in [(0, ()), (0, (1, 5))]:
        with pytest.raises(SaliencyError, match="targets: expected photographs below 2 and classes below 5"):
            resolve([target], logits)
    with pytest.raises(SaliencyError, match=r"targets: expected every class once in a group, got \(0, \(1, 1\)\)"):
        resolve([(0, (1, 1))], logits)
    with pytest.raises(SaliencyError, match="'contrast' needs another class"):
        score_gradient(net(), logits, [(0, (0, 1, 2, 3, 4))], "contrast")


def test_the_contrast_does_not_fade_with_certainty(x: Tensor) -> None:
    classifier = net()
    with torch.no_grad():
        classifier.model.head.bias[1] += 30
    probability, contrast = (Gradient(of=of)(classifier, x, [(0, 1)])[0] for of in ("probability", "contrast"))
    assert float(probability.max()) < 1e-9 < 1e-3 < float(contrast.max())
    torch.testing.assert_close(probability / probability.max(), contrast / contrast.max(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("of", ["logit", "probability"])
@pytest.mark.parametrize("baseline", ["mean", "black"])
def test_integrated_gradients_are_complete(of: Any, baseline: Any, x: Tensor) -> None:
    """They sum to the score's difference between the photograph and the baseline."""
    classifier = net(deep=True)
    method = IntegratedGradients(Gradient(of=of), steps=100, baseline=baseline)
    found = method.attribution(View(classifier, x), TARGETS).sum((1, 2, 3))
    ends = [classifier.model(at).detach() for at in (x, method.start(classifier, x).expand_as(x))]
    ends = [end.softmax(1) if of == "probability" else end for end in ends]
    expected = torch.stack([ends[0][i, c] - ends[1][i, c] for i, c in TARGETS])
    assert float(expected.abs().max()) > 0.1
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-3)


def test_integrated_gradients_of_a_straight_line(x: Tensor) -> None:
    """One step is exact for a linear classifier."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 5))
    classifier = Classifier(model, 5, 24)
    one, many = (IntegratedGradients(steps=n).attribution(View(classifier, x), TARGETS) for n in (1, 9))
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one, GradientXInput().attribution(View(classifier, x), TARGETS), rtol=1e-4, atol=1e-6)


def test_smoothgrad_by_hand(x: Tensor) -> None:
    classifier = net(deep=True)
    method = Gradient(of="logit")
    generator = torch.Generator().manual_seed(4)
    spread = x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True)
    noisy = [x + 0.1 * spread * torch.randn(3, 24, 24, generator=generator) for _ in range(4)]
    values = torch.stack([method.attribution(View(classifier, at), TARGETS) for at in noisy])
    smooth = SmoothGrad(method, samples=4, noise=0.1, seed=4)
    torch.testing.assert_close(smooth.attribution(View(classifier, x), TARGETS), values.mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(smooth(classifier, x, TARGETS), values.mean(0).abs().amax(1), rtol=1e-4, atol=1e-6)
    variance = VarGrad(method, samples=4, noise=0.1, seed=4).attribution(View(classifier, x), TARGETS)
    torch.testing.assert_close(variance, values.var(0, unbiased=False), rtol=1e-3, atol=1e-6)


def test_multi_scale_by_hand(x: Tensor) -> None:
    classifier = net()
    half = F.interpolate(x, (12, 12), mode="bilinear", antialias=True)
    parts = [
        CAM()(classifier, x, TARGETS),
        CAM()(classifier, x.flip(3), TARGETS).flip(2),
        CAM().sized(View(classifier, half), TARGETS, (24, 24)),
        CAM().sized(View(classifier, half.flip(3)), TARGETS, (24, 24)).flip(2),
    ]
    found = MultiScale(CAM(), scales=(0.5, 1))(classifier, x, TARGETS)
    torch.testing.assert_close(found, torch.stack(parts).mean(0), rtol=1e-4, atol=1e-6)


def test_multi_scale_counts_from_the_classifiers_own_size() -> None:
    """Larger photographs bring their own detail to the larger scales; detection sees the classifier's own size."""
    classifier = net()
    large = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(5))
    own = F.interpolate(large, (24, 24), mode="bilinear", antialias=True)
    seen = []
    found = MultiScale(CAM(), (1, 2), flip=False)(classifier, large, lambda z: seen.append(z) or TARGETS)
    parts = CAM().sized(View(classifier, own), TARGETS, (48, 48)), CAM()(classifier, large, TARGETS)
    torch.testing.assert_close(found, torch.stack(parts).mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen[0], classifier.logits(own), rtol=1e-4, atol=1e-5)


#: By the size of the maps that are asked for, what brings the methods' own maps there.
SIZES = {(24, 24): "the photographs'", (12, 16): "smaller", (30, 47): "larger"}


@pytest.mark.parametrize("size", SIZES, ids=SIZES.get)
@pytest.mark.parametrize(
    "method",
    [CAM(), GradCAM(), GradCAM(layers=2, fuse="max"), ScoreCAM(), Gradient(), Rivals(CAM()), MultiScale(CAM(), (1, 2)),
     Walk(CAM(), Features(8)), Mean((CAM(), Walk(CAM(), Features(8))))],
    ids=repr,
)  # fmt: skip
def test_maps_of_a_size_are_the_method_s(method: Any, size: tuple[int, int], x: Tensor) -> None:
    view = View(net(), x)
    maps, whole = sized(method, view, TARGETS, size), method.explain(view, TARGETS)
    assert maps.shape == (3, *size)
    if size == (24, 24):
        torch.testing.assert_close(maps, whole)
    else:  # without going over the photographs' size, so not the same, but the same picture
        for one, other in zip(maps, resized(whole, size), strict=True):
            assert float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) > 0.9


def test_a_method_with_a_grid_cannot_be_overridden_where_nobody_would_call_it() -> None:
    with pytest.raises(TypeError, match="Own: a GridMethod computes its maps in sized, not in explain"):

        class Own(CAM):
            def explain(self, view: View, targets: Any) -> Tensor:
                return super().explain(view, targets)

    class Mixed(Method):
        def explain(self, view: View, targets: Any) -> Tensor:
            return CAM().explain(view, targets)

    with pytest.raises(TypeError, match="Both: a GridMethod computes its maps in sized, not in explain"):

        class Both(Mixed, CAM):
            pass


def test_cam_and_its_gradient_kin_agree_on_a_linear_head(x: Tensor) -> None:
    classifier = net()
    cam = CAM()(classifier, x, TARGETS)
    for method in (GradCAM(), HiResCAM()):
        torch.testing.assert_close(method(classifier, x, TARGETS) * 36, cam, rtol=1e-4, atol=1e-5)


def test_kin_of_grad_cam_under_a_linear_head(x: Tensor) -> None:
    """Where the gradient is the same at all places and the score linear in the map, these are Grad-CAM."""
    classifier = net()
    expected = GradCAM()(classifier, x, TARGETS)
    for method in (XGradCAM(), ShapleyCAM()):
        torch.testing.assert_close(method(classifier, x, TARGETS), expected, rtol=1e-3, atol=1e-5)


def test_shapley_cam_by_hand(x: Tensor) -> None:
    """The Hessian written out, behind a head of two layers and a softmax."""
    classifier = net(deep=True)
    model = classifier.model
    with torch.no_grad():
        A = model.body(model.stem(x[:1]))

    def score(features: Tensor) -> Tensor:
        return model.head(features.mean((2, 3))).softmax(1)[0, 3]

    G = torch.autograd.functional.jacobian(score, A)
    H = torch.autograd.functional.hessian(score, A).reshape(A.numel(), A.numel())
    assert float(H.abs().max()) > 0
    weights = (G - (H @ A.flatten()).view_as(A) / 2).mean((2, 3))
    expected = torch.einsum("nc,nchw->nhw", weights, A).clamp(min=0)
    expected = F.interpolate(expected[:, None], (24, 24), mode="bilinear")[:, 0].detach()
    found = ShapleyCAM(of="probability")(classifier, x, [(1, 2), (0, 3)])
    torch.testing.assert_close(found[1:], expected, rtol=1e-3, atol=1e-6)


def test_full_gradients_are_complete(x: Tensor) -> None:
    """The photograph's part, that of the biases of the convolutions and that of the head's sum to the score."""
    classifier = net()
    with torch.enable_grad():
        made = View(classifier, x).watch(Wanted(gradients=True, biases=True))
        ends = [made.x, *(bias.edge for bias in made.biases)]
        own, *found = torch.autograd.grad(made.logits[1, 3], ends)
    parts = [bias.values[:, None, None] * gradient[1] for bias, gradient in zip(made.biases, found, strict=True)]
    total = (x[1] * own[1]).sum() + sum(part.sum() for part in parts) + classifier.model.head.bias[3]
    assert len(parts) == 3
    torch.testing.assert_close(total, made.logits[1, 3], rtol=1e-4, atol=1e-5)


def test_full_grad_needs_biases(x: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(SaliencyError, match=r"FullGrad needs a convolution or a batch norm with biases; custom shows"):
        FullGrad()(Classifier(model, 5, 24), x, [(0, 1)])


def test_rise_by_hand(x: Tensor) -> None:
    classifier = net()
    generator = torch.Generator().manual_seed(3)
    grids = torch.rand(9, 5, 5, generator=generator) < 0.4
    shifts = torch.stack([torch.randint(0, 5, (9,), generator=generator) for _ in range(2)], 1)
    masks = []
    for grid, (top, left) in zip(grids, shifts.tolist(), strict=True):
        larger = F.interpolate(grid[None, None].float(), (30, 30), mode="bilinear")[0, 0]
        masks.append(larger[top : top + 24, left : left + 24])
    with torch.no_grad():
        p = torch.stack([classifier.model(x[1:] * mask).softmax(1)[0, 3] for mask in masks])
    total = sum(mask * (value - p.mean()) for mask, value in zip(masks, p, strict=True)) / (9 * 0.4)
    found = RISE(masks=9, cells=5, keep=0.4, seed=3, batch=4)(classifier, x, [(0, 1), (1, 3)])[1]
    torch.testing.assert_close(found, total - total.min(), rtol=1e-3, atol=1e-5)


def test_kernel_shap_by_hand(x: Tensor) -> None:
    """Of few superpixels the values are Shapley's own: the mean, over all orders, of what each adds."""
    classifier, method = net(), KernelSHAP(of="probability", segments=4, baseline="black")
    regions = method.superpixels(classifier, x[1])
    count = int(regions.max()) + 1
    assert 3 <= count <= 6
    assert regions.unique().tolist() == list(range(count))
    black = x.new_tensor(classifier.prepared((0, 0, 0))).view(3, 1, 1)

    @cache
    def value(there: frozenset[int]) -> float:
        mask = torch.isin(regions, torch.tensor(sorted(there), dtype=regions.dtype))
        with torch.no_grad():
            return float(classifier.model(torch.where(mask, x[1], black)[None]).softmax(1)[0, 3])

    phi = torch.zeros(count)
    orders = list(permutations(range(count)))
    for order in orders:
        for place, added in enumerate(order):
            phi[added] += (value(frozenset(order[: place + 1])) - value(frozenset(order[:place]))) / len(orders)
    assert float(phi.abs().min()) > 1e-4
    found = method(classifier, x, [(0, 1), (1, 3)])[1]
    torch.testing.assert_close(found, phi.clamp(min=0)[regions], rtol=1e-3, atol=1e-6)


def test_kernel_shap_comes_near_with_samples(x: Tensor) -> None:
    """Drawn sets lead to the values of all sets; what the values sum to is exact from the beginning."""
    generator = torch.Generator().manual_seed(5)
    W, pairs = (torch.randn(size, generator=generator).double() for size in ((11, 2), (11, 11)))

    def value(there: Tensor) -> Tensor:
        Z = there.double()
        return 1 + Z @ W + torch.einsum("mi,ij,mj->m", Z, pairs, Z)[:, None]

    def values(samples: int, seed: int = 0) -> Tensor:
        there, weights = KernelSHAP(samples=samples, seed=seed).sets(11)
        ends = torch.stack([torch.zeros(11), torch.ones(11)]).bool()
        return shapley_values(there, weights, value(torch.cat([ends, there])))

    exact = values(2046)
    assert len(KernelSHAP(samples=2046).sets(11)[0]) == 2**11 - 2
    torch.testing.assert_close(exact, W + (pairs.diagonal() + (pairs + pairs.T).fill_diagonal_(0).sum(1) / 2)[:, None])
    errors = [float((values(samples) - exact).abs().max()) for samples in (60, 600, 2000)]
    assert errors[2] < 0.1 * float(exact.abs().max())
    assert not torch.equal(values(60), values(60, seed=1))
    for samples in (4, 60, 600):  # fewer sets than superpixels, too
        torch.testing.assert_close(values(samples).sum(0), exact.sum(0))
    alone = shapley_values(torch.zeros(0, 1).bool(), torch.zeros(0).double(), torch.tensor([[1.0], [3.0]]).double())
    assert alone.tolist() == [[2.0]]


@pytest.mark.parametrize("method", [Occlusion, RISE, KernelSHAP, ScoreCAM, AblationCAM])
def test_the_batch_decides_nothing_and_progress_is_told(method: Any, x: Tensor) -> None:
    classifier, told = net(), []
    options = {"masks": 20} if method is RISE else {"samples": 20} if method is KernelSHAP else {}
    expected = method(**options)(classifier, x, TARGETS)
    watched = method(**options, batch=7, progress=lambda done, total: told.append((done, total)))
    torch.testing.assert_close(watched(classifier, x, TARGETS), expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {total for _, total in told} == {told[-1][0]}
    assert len(told) > 2
    assert watched == method(**options, batch=7)


def test_a_dead_channel_is_tried_once(x: Tensor) -> None:
    classifier = net()
    with torch.no_grad():
        classifier.model.body[2].bias[:7] = -1e4
    ScoreCAM()(classifier, x, TARGETS)  # finds the maps
    told: list[int] = []
    with Costs(classifier) as costs:
        found = ScoreCAM(batch=1, progress=lambda done, total: told.append(done))(classifier, x[:1], [(0, 1)])
        with torch.no_grad():
            alive = int((classifier.model.body(classifier.model.stem(x[:1])).std((2, 3)) > 0).sum())
    assert 1 < alive <= 5
    assert costs.forward == 1 + alive + 1 + 1  # the last is this test's own
    assert told[-1] == 12
    assert float(found.max()) > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_tries_out_needs_no_sight(x: Tensor) -> None:
    classifier = net()
    scripted = Classifier(torch.jit.trace(classifier.model, x), 5, 24)
    for method in (Occlusion(), RISE(masks=20), KernelSHAP(samples=20)):
        expected = method(classifier, x, TARGETS)
        torch.testing.assert_close(method(scripted, x, TARGETS), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 24), (1, 24, 24), (3, 12, 12), (4, 3, 24, 24)])
def test_baselines_of_another_shape(shape: tuple[int, ...], x: Tensor) -> None:
    with pytest.raises(
        SaliencyError, match=r"baseline: expected a shape that broadcasts to the photographs' \(2, 3, 24"
    ):
        IntegratedGradients(baseline=torch.zeros(shape))(net(), x, TARGETS)


def test_gaps_are_of_plain_gradients(x: Tensor) -> None:
    with pytest.raises(SaliencyError, match="gap: expected the plain gradient"):
        IntegratedGradients(GuidedBackprop()).gap(net(), x, TARGETS)


class Costs(TorchFunctionMode):
    """Counts a network's passes by its first convolution: forward, and backward by its input's gradient."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.weight = classifier.model.stem[0].weight
        self.forward = self.backward = self.weights = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.conv2d and args[1].data_ptr() == self.weight.data_ptr():
            self.forward += 1
            self.weights += args[1].requires_grad and torch.is_grad_enabled()
            if result.requires_grad:
                result.register_hook(self.count)
        return result

    def count(self, gradient: Tensor) -> None:
        self.backward += 1


@pytest.mark.parametrize(
    ("method", "forward", "backward"),
    [
        (Gradient(), 1, 3),
        (GuidedBackprop(), 1, 3),
        (DeconvNet(), 1, 3),
        (GradientXInput(), 1, 3),
        (CAM(), 1, 0),
        (GradCAM(), 1, 0),
        (LayerCAM(), 1, 0),
        (EigenCAM(), 1, 0),
        (ShapleyCAM(), 1, 0),
        (FullGrad(), 1, 3),
        (Occlusion(window=0.5, stride=1.0, batch=3), 1 + 2 * 2, 0),
        (RISE(masks=6, batch=3), 1 + 2 * 2, 0),
        (KernelSHAP(samples=6, batch=4), 1 + 2 * 2, 0),
        (ScoreCAM(batch=12), 1 + 2, 0),
        (AblationCAM(batch=6), 1 + 2 * 2, 0),
        (GuidedGradCAM(), 2, 3),
        (SmoothGrad(samples=2), 3, 6),
        (IntegratedGradients(steps=2), 3, 6),
        (MultiScale(CAM(), scales=(1, 2)), 4, 0),
        (MultiScale(CAM(), scales=(2,)), 3, 0),
    ],
    ids=repr,
)
def test_costs(method: Any, forward: int, backward: int, x: Tensor) -> None:
    """Detection included: the targets are a function. Three classes at most in one photograph, two photographs."""
    classifier = net()
    targets = [(0, 1), (1, 2), (0, 3), (0, 4), (1, 0)]
    method(classifier, x, targets)  # finds the maps
    with Costs(classifier) as costs:
        method(classifier, x, lambda logits: targets)
    assert (costs.forward, costs.backward, costs.weights) == (forward, backward, 0)


# Transformers


def vit(**options: Any) -> Classifier:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=5, **options)
    for parameter in model.parameters():  # attention that is not the same everywhere
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.15)
    return Classifier(model.eval(), 5, 64)


PHOTOGRAPHS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def set_fused(classifier: Classifier, fused: bool) -> None:
    for block in classifier.model.blocks:
        block.attn.fused_attn = fused


@pytest.mark.parametrize("fused", [True, False])
def test_attention_rollout_by_hand(fused: bool) -> None:
    classifier = vit()
    set_fused(classifier, False)
    rolled = torch.eye(17)
    for attention in attention_of(classifier, PHOTOGRAPHS):
        rolled = (attention.mean(1) + torch.eye(17)) / 2 @ rolled
    expected = F.interpolate(rolled[:, 0, 1:].view(2, 1, 4, 4), (64, 64), mode="bilinear")[:, 0]
    set_fused(classifier, fused)
    found = AttentionRollout()(classifier, PHOTOGRAPHS, [(0, 1), (1, 1), (0, 2)])
    torch.testing.assert_close(found[:2], expected, rtol=1e-4, atol=1e-6)
    assert found[0].equal(found[2])  # whatever the class


@pytest.mark.parametrize("fused", [True, False])
def test_attention_gradient_by_hand(fused: bool) -> None:
    classifier = vit()
    set_fused(classifier, False)
    seen: list[Tensor] = []
    handles = [
        block.attn.attn_drop.register_forward_hook(lambda module, args, output: seen.append(output))
        for block in classifier.model.blocks
    ]
    logits = classifier.model(PHOTOGRAPHS[:1])
    for handle in handles:
        handle.remove()
    rolled = torch.eye(17)
    for attention, gradient in zip(seen, torch.autograd.grad(logits[0, 3], seen), strict=True):
        rolled = rolled + (attention * gradient).clamp(min=0).mean(1)[0].detach() @ rolled
    expected = F.interpolate(rolled[0, 1:].view(1, 1, 4, 4), (64, 64), mode="bilinear")[0, 0]
    set_fused(classifier, fused)
    found = AttentionGradient()(classifier, PHOTOGRAPHS, [(1, 2), (0, 3), (0, 1)])
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[1], found[2], rtol=0.1)


def torchvisions() -> Classifier:
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(64, 16, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return Classifier(model.eval(), 5, 64)


def test_attention_of_torchs_own_layer() -> None:
    classifier = torchvisions()
    seen: list[Tensor] = []
    layers = [layer.self_attention for layer in classifier.model.encoder.layers]
    with torch.no_grad():  # the same layers asked for their weights
        tokens = []
        handles = [layer.register_forward_pre_hook(lambda module, args: tokens.append(args[0])) for layer in layers]
        classifier.model(PHOTOGRAPHS)
        for handle in handles:
            handle.remove()
        seen = [layer(t, t, t, average_attn_weights=False)[1] for layer, t in zip(layers, tokens, strict=True)]
    rolled = torch.eye(17)
    for attention in seen:
        rolled = (attention.mean(1) + torch.eye(17)) / 2 @ rolled
    expected = F.interpolate(rolled[:, 0, 1:].view(2, 1, 4, 4), (64, 64), mode="bilinear")[:, 0]
    found = AttentionRollout()(classifier, PHOTOGRAPHS, [(0, 1), (1, 1)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    one, other = AttentionGradient()(classifier, PHOTOGRAPHS, [(0, 1), (0, 2)])
    assert float(one.max()) > 0
    assert not torch.allclose(one, other, rtol=0.1)


def test_attention_where_the_tokens_are_averaged() -> None:
    classifier = vit(class_token=False, global_pool="avg")
    for method in (AttentionRollout(), AttentionGradient(of="probability")):
        maps = method(classifier, PHOTOGRAPHS, [(0, 1), (1, 1)])
        assert maps.shape == (2, 64, 64)
        assert float(maps.amin()) >= 0
        assert float(maps[0].max()) > 1.05 * float(maps[0].min())


def test_attention_needs_attention(x: Tensor) -> None:
    torch.manual_seed(0)
    swin = torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=5)
    for classifier, where in [(net(), "nowhere"), (Classifier(swin.eval(), 5, 32), "among .* tokens")]:
        for method in (AttentionRollout(), AttentionGradient()):
            with pytest.raises(SaliencyError, match=rf"custom has attention ({where})\. GradCAM\(\) works"):
                method(classifier, torch.randn(1, 3, 32, 32), [(0, 1)])


@pytest.mark.parametrize(
    "method",
    [
        Gradient(), GuidedBackprop(), GradCAM(), LayerCAM(layers="blocks.1"), AttentionRollout(), AttentionGradient(),
        Walk(GradCAM(), Attention()), Walk(Gradient(), Attention()),
    ],
    ids=repr,
)  # fmt: skip
def test_transformers_keep_the_promises(method: Any) -> None:
    classifier = vit()
    targets = [(0, 1), (1, 3), (0, 4)]
    maps = method(classifier, PHOTOGRAPHS, targets)
    assert maps.shape == (3, 64, 64)
    assert float(maps.min()) >= 0
    for one, (i, c) in zip(maps, targets, strict=True):
        alone = method(classifier, PHOTOGRAPHS[i : i + 1], lambda logits, c=c: [(0, c)])[0]
        torch.testing.assert_close(one, alone, rtol=1e-3, atol=1e-4 * float(alone.max()))
    assert all(p.grad is None and p.requires_grad for p in classifier.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in classifier.model.modules())


# Compiled, scripted, other number types

METHODS = (Gradient(of="logit"), GuidedBackprop(of="logit"), CAM(), GradCAM(), LayerCAM(layers="body.3"))


@pytest.mark.parametrize("how", ["torch.compile", "compile a part", "compile in place"])
def test_compiled_modules_are_explained_as_written(how: str, x: Tensor) -> None:
    classifier = net()
    expected = [method(classifier, x, TARGETS) for method in METHODS]
    model = net().model
    if how == "torch.compile":
        model = torch.compile(model, backend="eager")
    elif how == "compile a part":
        model.body = torch.compile(model.body, backend="eager")
    else:
        model.compile(backend="eager")
    compiled = Classifier(model, 5, 24)
    for method, maps in zip(METHODS, expected, strict=True):
        torch.testing.assert_close(method(compiled, x, TARGETS), maps, rtol=1e-5, atol=1e-6)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripted_modules_get_an_answer(how: str, x: Tensor) -> None:
    classifier = net()
    model = torch.jit.script(classifier.model) if how == "script" else torch.jit.trace(classifier.model, x)
    scripted = Classifier(model, 5, 24)
    expected = Gradient()(classifier, x, TARGETS)
    torch.testing.assert_close(Gradient()(scripted, x, TARGETS), expected, rtol=1e-4, atol=1e-7)
    for method in (GuidedBackprop(), DeconvNet(), GradCAM(), LayerCAM(layers="body"), AttentionRollout()):
        with pytest.raises(SaliencyError, match="TorchScript module"):
            method(scripted, x, TARGETS)
    with pytest.raises(SaliencyError, match=r"CAM needs .* Gradient\(\) with any"):
        CAM()(scripted, x, TARGETS)


@pytest.mark.parametrize("method", [*METHODS, GradCAMPlusPlus(), GuidedGradCAM(), MultiScale(CAM())], ids=repr)
def test_bfloat16_autocast(method: Any, x: Tensor) -> None:
    classifier = net()
    expected = method(classifier, x, TARGETS)
    with torch.autocast("cpu", torch.bfloat16):
        found = method(classifier, x, TARGETS)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().sum() / expected.sum()) < 0.15
    assert not found.equal(expected)


def test_bfloat16_autocast_of_attention() -> None:
    classifier = vit()
    for method in (AttentionRollout(), AttentionGradient(), GradCAM(), Walk(GradCAM(), Attention())):
        expected = method(classifier, PHOTOGRAPHS, [(0, 1)])
        with torch.autocast("cpu", torch.bfloat16):
            found = method(classifier, PHOTOGRAPHS, [(0, 1)])
        assert found.dtype == torch.float32
        assert float((found - expected).abs().sum() / expected.sum()) < 0.3


def test_double_precision(x: Tensor) -> None:
    classifier = net()
    expected = [method(classifier, x, TARGETS) for method in METHODS]
    classifier.model.double()
    for method, maps in zip(METHODS, expected, strict=True):
        found = method(classifier, x.double(), TARGETS)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), maps, rtol=1e-3, atol=1e-5)


# Leaks


def resident() -> int:
    """Bytes of memory that the process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc/self/statm")
def test_five_hundred_calls_leave_nothing(x: Tensor) -> None:
    classifier, small = net(), x[:1, :, :12, :12]
    methods = (
        *METHODS, DeconvNet(), GradientXInput(), SmoothGrad(samples=1), IntegratedGradients(steps=1), GradCAMPlusPlus(),
        HiResCAM(), LayerCAM(layers=2), GuidedGradCAM(), MultiScale(CAM(), scales=(1.5,), flip=False),
    )  # fmt: skip

    def calls(times: int) -> None:
        for number in range(times):
            methods[number % len(methods)](classifier, small, [(0, 1), (0, 3)])

    def everything() -> tuple[int, int]:
        gc.collect()
        tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
        kinds = [(m, name) for m in classifier.model.modules() for name in vars(m) if name.endswith("_hooks")]
        hooks = sum(len(getattr(module, name) or ()) for module, name in kinds)
        return tensors, hooks

    calls(100)
    before, memory = everything(), resident()
    calls(500)
    assert everything() == before
    assert resident() - memory < 25e6


def test_a_model_can_go(x: Tensor) -> None:
    """What is remembered about a model does not keep it alive."""
    import weakref

    classifier = net()
    GradCAM()(classifier, x, TARGETS)
    model = weakref.ref(classifier.model)
    del classifier
    gc.collect()
    assert model() is None


def test_the_count_of_activations_that_followed(x: Tensor) -> None:
    with Backward(guided) as backward:
        net(deep=True).model(x.clone().requires_grad_())
    assert backward.followed == 4


def test_the_page_names_every_method_and_shows_its_pictures() -> None:
    page = Path(__file__).parents[2] / "docs/saliency.md"
    text = page.read_text(encoding="utf-8")
    methods = [name for name in saliency.__all__ if hasattr(getattr(saliency, name), "__dataclass_fields__")]
    assert len(methods) >= 15
    for name in methods:
        assert f"`{name}" in text or f"({name}(" in text, name
    shown = set(re.findall(r"!\[[^]]*\]\(saliency/([^)]+)\)", text))
    assert shown == {path.name for path in (page.parent / "saliency").iterdir()}

"""Every method that captum or pytorch-grad-cam has too, against them: a small network and timm's resnet18."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.saliency import (
    AblationCAM,
    DeconvNet,
    EigenCAM,
    EigenGradCAM,
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
    Occlusion,
    PixelMethod,
    RefineCAM,
    ScoreCAM,
    ShapleyCAM,
    SmoothGrad,
    VarGrad,
    View,
    XGradCAM,
)

pytestmark = pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks")


def small() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 7),
    )  # fmt: skip


def resnet18() -> nn.Module:
    torch.manual_seed(4)
    model = timm.create_model("resnet18", num_classes=7)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # statistics and weights of a network that has seen something
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
    return model


#: A network, the size of its photographs, and its last layer that makes a map.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, Callable[[Any], nn.Module]]] = {
    "small": (small, 24, lambda model: model[4]),
    "resnet18": (resnet18, 48, lambda model: model.layer4[-1]),
}

#: Two photographs, three classes, not in order; two classes in one photograph.
TARGETS = [(1, 3), (0, 5), (1, 4)]


class Case:
    """In double precision: in single, a ReLU whose input is almost 0 may be on for one and off for the other."""

    def __init__(self, network: str) -> None:
        make, size, layer = NETWORKS[network]
        self.model = make().eval().double()
        self.layer = layer(self.model)
        self.head = [module for module in self.model.modules() if isinstance(module, nn.Linear)][-1]
        self.classifier = Classifier(self.model, 7, size)
        self.x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(5)).double()

    def one_by_one(self, attribute: Callable[[Tensor, int], Tensor]) -> Tensor:
        alone = [self.x[i : i + 1].clone().requires_grad_() for i, _ in TARGETS]
        found = [attribute(x, index).detach() for x, (_, index) in zip(alone, TARGETS, strict=True)]
        return torch.cat(found)


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    """To 1e-4 of the largest value."""
    assert float(expected.abs().max()) > 0
    scale = expected.abs().amax(tuple(range(1, expected.ndim)), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-4)


CAPTUM: dict[str, tuple[PixelMethod, Callable[[nn.Module], Any], dict[str, Any]]] = {
    "Gradient": (Gradient(of="logit"), captum.attr.Saliency, {"abs": False}),
    "GuidedBackprop": (GuidedBackprop(of="logit"), captum.attr.GuidedBackprop, {}),
    "DeconvNet": (DeconvNet(of="logit"), captum.attr.Deconvolution, {}),
    "GradientXInput": (GradientXInput(), captum.attr.InputXGradient, {}),
    "IntegratedGradients": (IntegratedGradients(steps=2), captum.attr.IntegratedGradients, {"n_steps": 2}),
    "IntegratedGradients from black": (
        IntegratedGradients(steps=2, baseline="black"),
        captum.attr.IntegratedGradients,
        {
            "n_steps": 2,
            "baselines": -torch.tensor([0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225]).double().view(1, 3, 1, 1),
        },
    ),
}


@pytest.mark.parametrize("name", CAPTUM)
def test_captum(name: str, case: Case) -> None:
    method, peer, options = CAPTUM[name]
    if "baselines" in options:
        options = {**options, "baselines": options["baselines"].expand(1, -1, *case.x.shape[2:])}
    attribute = peer(separate_activations(case.model)).attribute
    expected = case.one_by_one(lambda x, index: attribute(x, target=index, **options))
    found = method.attribution(View(case.classifier, case.x), TARGETS)
    assert_equal(found, expected)
    largest = expected.abs().amax(1) if "X" not in name and "Integrated" not in name else expected.abs().sum(1)
    assert_equal(method(case.classifier, case.x, TARGETS), largest)


def separate_activations(model: nn.Module) -> nn.Module:
    """For captum, whose hooks want no activation in place; the weights are shared."""
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


@pytest.mark.parametrize(("method", "kind"), [(SmoothGrad, "smoothgrad"), (VarGrad, "vargrad")])
@pytest.mark.parametrize("inner", ["Gradient", "GuidedBackprop"])
def test_captum_noise_tunnel(method: Any, kind: str, inner: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient, peer, options = CAPTUM[inner]
    tunnel = captum.attr.NoiseTunnel(peer(separate_activations(case.model)))

    def attribute(x: Tensor, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        # captum draws with this function, of which our seed decides here
        draw = lambda mean, std: torch.randn(std.shape[1:], generator=generator) * std  # noqa: E731
        monkeypatch.setattr(torch, "normal", draw)
        noise = 0.2 * float(x.detach().max() - x.detach().min())
        return tunnel.attribute(
            x, nt_type=kind, nt_samples=2, nt_samples_batch_size=1, stdevs=noise, target=index, **options
        )

    expected = case.one_by_one(attribute)
    ours = method(gradient, samples=2, noise=0.2, seed=7)
    assert_equal(ours.attribution(View(case.classifier, case.x), TARGETS), expected)


def test_captum_guided_grad_cam(case: Case) -> None:
    peer = captum.attr.GuidedGradCam(separate_activations(case.model), case.layer)
    expected = case.one_by_one(lambda x, index: peer.attribute(x, target=index, interpolate_mode="bilinear"))
    assert_equal(GuidedGradCAM().attribution(View(case.classifier, case.x), TARGETS), expected)


def test_captum_layer_grad_cam(case: Case) -> None:
    peer = captum.attr.LayerGradCam(case.model, case.layer)
    low = case.one_by_one(lambda x, index: peer.attribute(x, target=index, relu_attributions=True))
    expected = captum.attr.LayerAttribution.interpolate(low, case.x.shape[2:], "bilinear")[:, 0]
    assert_equal(GradCAM()(case.classifier, case.x, TARGETS), expected)


CAMS = {
    "GradCAM": GradCAM,
    "GradCAMPlusPlus": GradCAMPlusPlus,
    "LayerCAM": LayerCAM,
    "HiResCAM": HiResCAM,
    "XGradCAM": XGradCAM,
    "EigenCAM": EigenCAM,
    "EigenGradCAM": EigenGradCAM,
    "ShapleyCAM": ShapleyCAM,
    "FullGrad": FullGrad,
    "FinerCAM": FinerCAM,
}


@pytest.fixture(autouse=True)
def same_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A principal component has either sign; the peer takes LAPACK's, gradcut the one that goes with the sum."""

    def projected(X: np.ndarray) -> np.ndarray:
        found = get_2d_projection(X)
        return np.stack([p * np.sign((p * x.sum(0)).sum()) for p, x in zip(found, X, strict=True)])

    for module in (pytorch_grad_cam.eigen_cam, pytorch_grad_cam.eigen_grad_cam):
        monkeypatch.setattr(module, "get_2d_projection", projected)


def peers_cam(
    name: str, model: nn.Module, layers: list[nn.Module], x: Tensor, index: int, reshape: Any = None
) -> Tensor:
    kind, layers = getattr(pytorch_grad_cam, name), [] if name == "FullGrad" else layers
    if name == "FinerCAM":
        peer = kind(model, layers, reshape)
        return torch.from_numpy(np.asarray(peer(x, target_idx=index))).to(x.dtype)
    with kind(model=model, target_layers=layers, reshape_transform=reshape) as cam:
        return torch.from_numpy(np.asarray(cam(input_tensor=x, targets=[ClassifierOutputTarget(index)]))).to(x.dtype)


def scaled(maps: Tensor) -> Tensor:
    """From 0 to 1, as pytorch-grad-cam gives its maps."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12)


@pytest.mark.parametrize("name", CAMS)
def test_pytorch_grad_cam(name: str, case: Case) -> None:
    if name == "FullGrad":  # the peer adds 1e-7 to what it divides each channel by, which is not small beside them
        with torch.no_grad():
            for parameter in case.head.parameters():
                parameter *= 1e4
    expected = case.one_by_one(lambda x, index: peers_cam(name, case.model, [case.layer], x, index))
    shown = [float(saliency.max()) > 0.9 for saliency in expected]
    assert sum(shown) >= (1 if name == "FinerCAM" else len(TARGETS))  # nothing may tell a class from a likelier one
    assert_equal(scaled(CAMS[name]()(case.classifier, case.x, TARGETS)), expected)


def test_pytorch_refine_cam() -> None:
    case = Case("resnet18")
    names = ("layer2", "layer3", "layer4")

    def refined(x: Tensor, index: int) -> Tensor:  # the peer's hooks go with it
        peer = pytorch_grad_cam.RefineCAM(case.model, [getattr(case.model, name) for name in names])
        return torch.from_numpy(peer(x, [ClassifierOutputTarget(index)])).to(x.dtype)

    expected = case.one_by_one(refined)
    assert_equal(scaled(RefineCAM(layers=names)(case.classifier, case.x, TARGETS)), expected)
    assert_equal(
        RefineCAM()(case.classifier, case.x, TARGETS), RefineCAM(layers=names)(case.classifier, case.x, TARGETS)
    )


@pytest.mark.parametrize("name", ["ScoreCAM", "AblationCAM"])
def test_pytorch_grad_cam_by_trying_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's masks begin at the centre of the first place and end at that of the last; here places are whole.

    Of Ablation-CAM the peer's, as the paper's, turns around where the score is negative.
    """
    case = Case("small")  # on resnet18 the peer takes a minute
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", partial(nn.Upsample, mode="bilinear"))
    with torch.no_grad():
        case.head.bias += 5
    expected = case.one_by_one(lambda x, index: peers_cam(name, case.model, [case.layer], x.detach(), index))
    method = ScoreCAM(batch=100) if name == "ScoreCAM" else AblationCAM(batch=100)
    assert_equal(scaled(method(case.classifier, case.x, TARGETS)), expected)


@pytest.mark.parametrize(("window", "stride"), [(12, 6), (13, 5)])
def test_captum_occlusion(window: int, stride: int) -> None:
    case = Case("small")
    peer = captum.attr.Occlusion(case.model)
    options = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    expected = case.one_by_one(lambda x, index: peer.attribute(x.detach(), target=index, **options))[:, 0]
    found = Occlusion(window=window / 24, stride=stride / window)(case.classifier, case.x, TARGETS)
    assert_equal(found, expected.clamp(min=0).to(found.dtype))


def test_captum_kernel_shap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer only draws sets; given all of them, with their weights, it comes to the same values."""
    case = Case("small")
    method = KernelSHAP(segments=6, samples=1000)

    def attribute(x: Tensor, index: int) -> Tensor:
        regions = method.superpixels(case.classifier, x[0].detach())
        there, weights = method.sets(int(regions.max()) + 1)
        assert 6 <= len(there) == 2 ** there.shape[1] - 2
        every = torch.cat([torch.ones(1, there.shape[1]), torch.zeros(1, there.shape[1]), there]).long()
        weighted = iter([1e9, 1e9, *weights.tolist()])
        peer = captum.attr.KernelShap(case.model)

        def sets(*arguments: Any, **options: Any) -> Iterator[Tensor]:  # the peer asks whether it is a generator
            yield from every[:, None]

        peer.perturb_func = sets
        peer.similarity_func = lambda *_, **__: torch.tensor([next(weighted)], dtype=torch.float64)
        options = {"feature_mask": regions[None, None], "n_samples": len(every), "baselines": 0}
        return peer.attribute(x.detach(), target=index, **options)[:, 0]

    expected = case.one_by_one(attribute)
    found = method(case.classifier, case.x, TARGETS)
    assert_equal(found, expected.clamp(min=0).to(found.dtype))


@pytest.mark.parametrize("baseline", ["mean", "own"])
def test_captum_completeness(baseline: str) -> None:
    """A photograph as the baseline, and how far from complete five steps are."""
    case = Case("small")
    own = torch.randn(3, *case.x.shape[2:], generator=torch.Generator().manual_seed(9)).double()
    method = IntegratedGradients(steps=5, baseline=own if baseline == "own" else "mean")
    peer = captum.attr.IntegratedGradients(separate_activations(case.model))
    options = {"n_steps": 5, "baselines": own[None] if baseline == "own" else 0, "return_convergence_delta": True}
    gaps = []

    def attribute(x: Tensor, index: int) -> Tensor:
        values, gap = peer.attribute(x, target=index, **options)
        gaps.append(gap)
        return values

    assert_equal(case.one_by_one(attribute), method.attribution(View(case.classifier, case.x), TARGETS))
    found = method.gap(case.classifier, case.x, lambda logits: TARGETS)
    torch.testing.assert_close(found, torch.cat(gaps), rtol=1e-6, atol=1e-9)
    assert float(found.abs().max()) > 1e-6


ELSEWHERE = ("GradCAM", "GradCAMPlusPlus", "LayerCAM", "HiResCAM", "XGradCAM", "EigenGradCAM")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_pytorch_grad_cam_on_a_named_layer(name: str) -> None:
    case = Case("resnet18")
    expected = case.one_by_one(lambda x, index: peers_cam(name, case.model, [case.model.layer2], x, index))
    assert_equal(scaled(CAMS[name](layers="layer2")(case.classifier, case.x, TARGETS)), expected)


@pytest.mark.parametrize("name", ELSEWHERE)  # the peer's ShapleyCAM fails there itself
@pytest.mark.parametrize("network", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_pytorch_grad_cam_on_a_transformer(name: str, network: str) -> None:
    """With the layer and the reshape that its documentation says, which here are found."""
    torch.manual_seed(6)
    model = timm.create_model(network, img_size=64, depth=3, num_classes=7).eval()
    classifier = Classifier(model, 7, 64)
    x = torch.randn(1, 3, 64, 64)

    def reshape(tokens: Tensor) -> Tensor:
        return tokens[:, model.num_prefix_tokens :].transpose(1, 2).reshape(len(tokens), -1, 4, 4)

    expected = torch.cat([peers_cam(name, model, [model.blocks[-1].norm1], x, index, reshape) for index in (2, 5)])
    assert_equal(scaled(CAMS[name]()(classifier, x, [(0, 2), (0, 5)])), expected)
    named = CAMS[name](layers="blocks.2.norm1")(classifier, x, [(0, 2), (0, 5)])
    assert_equal(scaled(named), expected)

"""Finding the maps inside a network, in networks of every make, without hooks."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from networks import ReshapedPatches
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.forward import ForwardPass
from gradcut.network.layers import pass_from_maps
from gradcut.network.passes import Wanted, watched
from gradcut.network.view import View
from gradcut.saliency import CAM, GradCAM, LayerCAM
from gradcut.saliency.targets import backpropagate


def as_classifier(model: nn.Module, size: int, classes: int = 5) -> Classifier:
    """With a head that is not all zeros, as some are before training."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features == classes:
            nn.init.normal_(module.weight, std=0.2)
    return Classifier(model.eval(), classes, size)


def photographs(size: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def timms(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5, **options)


#: How a network is made, its photographs' size, and the channels, height and width of its last map.
NETWORKS: dict[str, tuple[Any, int, tuple[int, int, int]]] = {
    "resnet18": (lambda: timms("resnet18"), 64, (512, 2, 2)),
    "EfficientNet-Lite0 (convolutions that pad)": (lambda: timms("tf_efficientnet_lite0"), 64, (1280, 2, 2)),
    "MobileNetV3 (a convolution after pooling)": (lambda: timms("mobilenetv3_small_050"), 64, (288, 2, 2)),
    "ConvNeXt": (lambda: timms("convnext_atto"), 64, (320, 2, 2)),
    "NFNet (weights standardised on the way)": (lambda: timms("nfnet_l0"), 64, (2304, 2, 2)),
    "DenseNet": (lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5), 32, (32, 4, 4)),
    "VGG (pooled to 7 x 7 by its head)": (lambda: torchvision.models.vgg11(num_classes=5), 64, (512, 2, 2)),
    "ViT": (lambda: timms("vit_tiny_patch16_224", img_size=64, depth=2), 64, (192, 4, 4)),
    "ViT, mean of the tokens": (
        lambda: timms("vit_tiny_patch16_224", img_size=64, depth=2, class_token=False, global_pool="avg"),
        64,
        (192, 4, 4),
    ),
    "ViT, two tokens first": (lambda: timms("deit_tiny_distilled_patch16_224", img_size=64, depth=2), 64, (192, 4, 4)),
    "ViT, four registers": (
        lambda: timms("vit_small_patch14_reg4_dinov2", img_size=56, depth=2),
        56,
        (384, 4, 4),
    ),
    "ViT on convolutions": (lambda: timms("vit_tiny_r_s16_p8_224", img_size=64, depth=2), 64, (192, 2, 2)),
    "torchvision's ViT": (
        lambda: torchvision.models.VisionTransformer(64, 16, 2, 2, 16, 32, num_classes=5),
        64,
        (16, 4, 4),
    ),
    "no convolution at all": (ReshapedPatches, 32, (16, 4, 4)),
    "Swin (channels last)": (
        lambda: torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=5),
        32,
        (32, 4, 4),
    ),
    "timm's Swin": (
        lambda: timms("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1), num_heads=(3, 6), window_size=4),
        64,
        (192, 8, 8),
    ),
    "MLP-Mixer": (lambda: timms("mixer_s32_224", img_size=64), 64, (512, 2, 2)),
    "MobileViT": (lambda: timms("mobilevit_xxs"), 64, (320, 2, 2)),
    "LeViT (patches halved by attention)": (lambda: timms("levit_128s"), 224, (384, 4, 4)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[str, Classifier, tuple[int, int, int]]:
    make, size, shape = NETWORKS[request.param]
    return request.param, as_classifier(make(), size), shape


def test_the_last_map_is_found(network: tuple[str, Classifier, tuple[int, int, int]]) -> None:
    _, classifier, shape = network
    x = photographs(classifier.size[0])
    with torch.enable_grad():
        made, (place,) = pass_from_maps(View(classifier, x), 1)
        logits, (tensor,) = made.logits, made.cut
        (gradient,) = backpropagate(classifier, logits, [(0, (1,)), (1, (4,))], "logit", [tensor])
    assert place.layout.of(tensor).shape == (2, *shape)
    with torch.no_grad():
        torch.testing.assert_close(logits, classifier.model(x), rtol=1e-5, atol=1e-5)
    gradient = place.layout.of(gradient)
    assert bool(gradient.flatten(1).any(1).all())
    # Nothing of what came before takes part in the graph, parameters never.
    assert tensor.is_leaf
    maps = GradCAM()(classifier, x, [(0, 1), (1, 4)])
    assert maps.shape == (2, *classifier.size)
    assert all(parameter.grad is None for parameter in classifier.model.parameters())


def test_the_gradient_at_the_map_is_right(network: tuple[str, Classifier, tuple[int, int, int]]) -> None:
    """A small step of the map along the gradient changes the logit by the gradient's squared length."""
    _, classifier, _ = network
    x = photographs(classifier.size[0], 1)
    with torch.enable_grad():
        made, (place,) = pass_from_maps(View(classifier, x), 1)
        (gradient,) = backpropagate(classifier, made.logits, [(0, (2,))], "logit", made.cut)
    squared = float(gradient.square().sum())
    step = 1e-3 * float(made.cut[0].detach().norm()) / squared**0.5

    class Stepped(ForwardPass):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = self.calls
            result = super().__torch_function__(func, types, args, kwargs)
            return result + step * gradient if before + 1 == self.calls == place.call else result

    with torch.no_grad(), Stepped(x):
        changed = classifier.logits(x)
    assert float((changed - made.logits.detach())[0, 2]) == pytest.approx(step * squared, rel=0.05)


def test_a_second_call_finds_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = as_classifier(timms("resnet18"), 64)
    passes = []
    forward = type(classifier.model).forward
    monkeypatch.setattr(type(classifier.model), "forward", lambda self, x: passes.append(len(x)) or forward(self, x))
    GradCAM()(classifier, photographs(64), [(0, 1), (0, 2), (1, 3)])
    assert passes == [2, 2] * 2  # one to find the map; each is compared with a bare one
    GradCAM()(classifier, photographs(64, 5), [(0, 1), (0, 2), (1, 3)])
    assert passes == [2, 2] * 2 + [5]
    LayerCAM()(classifier, photographs(64, 1), [(0, 1)])
    assert passes == [2, 2] * 2 + [5, 1]


def test_the_same_model_after_a_change() -> None:
    classifier = as_classifier(timms("resnet18"), 64)
    x = photographs(64)
    GradCAM()(classifier, x, [(0, 1)])
    classifier.model.layer4 = nn.Sequential(classifier.model.layer4[0], nn.Conv2d(512, 512, 3, stride=2, padding=1))
    expected = GradCAM()(Classifier(classifier.model, 5, 64), x, [(0, 1)])
    assert GradCAM()(classifier, x, [(0, 1)]).equal(expected)


def test_a_network_that_never_goes_the_same_way_twice() -> None:
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head, self.turn = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 5), 0

        def forward(self, x: Tensor) -> Tensor:
            self.turn += 1
            x = self.conv(x)
            for _ in range(self.turn):
                x = x.relu()
            return self.head(x.mean((2, 3)))

    with pytest.raises(SaliencyError, match=r"differs from one call to the next .* Gradient\(\) works"):
        GradCAM()(as_classifier(Restless(), 16), photographs(16), [(0, 0)])


def test_photographs_too_small_for_a_map() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(SaliencyError, match="makes no map of more than one place from photographs of"):
        GradCAM()(as_classifier(model, 8), photographs(8), [(0, 0)])


@pytest.mark.parametrize(
    ("layers", "shape"), [("layer2", (128, 8, 8)), ("layer2.0.bn1", (128, 8, 8)), ("act1", (64, 32, 32))]
)
def test_a_named_layer_is_what_a_hook_would_see(layers: str, shape: tuple[int, ...]) -> None:
    classifier = as_classifier(timms("resnet18"), 64)
    x = photographs(64)
    seen = []
    module = classifier.model.get_submodule(layers)
    handle = module.register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        classifier.model(x)
    handle.remove()
    with torch.enable_grad():
        made, (place,) = pass_from_maps(View(classifier, x), (layers,))
        (tensor,) = made.cut
    assert place.layout.of(tensor).shape == (2, *shape)
    torch.testing.assert_close(place.layout.of(tensor.detach()), seen[0], rtol=1e-5, atol=1e-5)
    assert all(not module._forward_hooks for module in classifier.model.modules())


def test_named_layers_of_a_transformer_need_not_be_norms() -> None:
    classifier = as_classifier(timms("vit_tiny_patch16_224", img_size=64, depth=2), 64)
    for layer in ("blocks.0", "blocks.0.attn", "blocks.1.norm1", "patch_embed.proj"):
        assert float(LayerCAM(layers=layer)(classifier, photographs(64), [(0, 1)]).max()) > 0
    for layer in ("blocks.1.mlp", "blocks.1", "norm"):  # of these only the class token is read
        with pytest.raises(SaliencyError, match=f"layers: '{layer}' of custom: the logits do not depend on its map"):
            LayerCAM(layers=layer)(classifier, photographs(64), [(0, 1)])


def test_unusable_layers() -> None:
    classifier = as_classifier(timms("resnet18"), 64)
    x = photographs(64)
    for layers, message in [
        ("layer9", r"layers: expected names from model.named_modules\(\), such as .*'fc', got 'layer9'"),
        ("fc", "layers: 'fc' of custom: it makes no map"),
        (("layer3", "layer2"), "layers: expected each map once and in the network's order"),
        (9, "layers: expected at most 5, the resolutions of custom, got 9"),
    ]:
        with pytest.raises(SaliencyError, match=message):
            GradCAM(layers=layers)(classifier, x, [(0, 0)])
    for layers in (0, True, (), ("",), 1.5):
        with pytest.raises(SaliencyError, match="layers"):
            GradCAM(layers=layers)(classifier, x, [(0, 0)])


def test_levels_are_the_last_map_of_every_resolution() -> None:
    classifier = as_classifier(timms("resnet18"), 64)
    x = photographs(64)
    with torch.no_grad():
        seen = watched(classifier, x, Wanted(levels=9)).seen
        fewer = watched(classifier, x, Wanted(levels=2)).seen
        stages = timm.create_model("resnet18", features_only=True).eval()
        stages.load_state_dict({k: v for k, v in classifier.model.state_dict().items() if not k.startswith("fc.")})
        expected = stages(x)
    # After the stem's convolution there is a pooling, so that its last map is what features_only calls its first.
    assert [tuple(m.shape[1:]) for m in seen.maps] == [tuple(m.shape[1:]) for m in expected]
    for found, stage in zip(seen.maps, expected, strict=True):
        torch.testing.assert_close(found, stage, rtol=1e-5, atol=1e-5)
    assert seen.feature_map is not None
    assert seen.feature_map.equal(seen.maps[-1])
    assert [tuple(m.shape) for m in fewer.maps] == [tuple(m.shape) for m in seen.maps[-2:]]


def test_of_one_level_only_the_last_map_is_kept() -> None:
    classifier = as_classifier(timms("resnet18"), 64)
    x = photographs(64)
    with torch.no_grad():
        seen = watched(classifier, x, Wanted(levels=1)).seen
    assert [tuple(m.shape) for m in seen.maps] == [(2, 512, 2, 2)]


@pytest.mark.parametrize("gradients", [False, True])
def test_the_last_linear_layer_is_known_with_what_came_in(gradients: bool) -> None:
    classifier = as_classifier(timms("resnet18"), 64)
    x = photographs(64)
    layer = classifier.model.fc
    with torch.set_grad_enabled(gradients):
        _, logits, seen, *_ = watched(classifier, x, Wanted(gradients=gradients))
    assert seen.linear is not None
    assert seen.linear.parameter is layer.weight
    assert seen.linear.input.shape == (2, 512)
    weight, bias, features, _ = (value.detach() for value in seen.linear)
    torch.testing.assert_close(F.linear(features, weight, bias), logits.detach())
    assert not seen.linear.weight.requires_grad


def test_a_convolution_in_place_of_the_linear_layer() -> None:
    """Without a linear layer CAM says so; the last map of such a network is the classes' own."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    classifier = as_classifier(model, 16)
    x = photographs(16)
    with pytest.raises(SaliencyError, match=r"GradCAM\(\) works"):
        CAM()(classifier, x, [(0, 1)])
    with torch.no_grad():
        own = model[:3](x)[0, 1].clamp(min=0)
    maps = GradCAM()(classifier, x, [(0, 1)])
    expected = F.interpolate(own[None, None], (16, 16), mode="bilinear")[0, 0]
    torch.testing.assert_close(maps[0] / maps[0].max(), expected / expected.max(), rtol=1e-4, atol=1e-5)


class Counted(TorchFunctionMode):
    """Counts the functions that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_what_the_watch_asks_of_tensors_reaches_no_other_context() -> None:
    model, x = timms("resnet18").eval(), photographs(32)
    with torch.no_grad(), Counted() as bare:
        model(x)
    noted: list[tuple[Any, ...]] = []
    watch = ForwardPass(x, 3, None, lambda *call: noted.append(call))
    with torch.no_grad(), Counted() as around, watch:
        model(x)
    assert noted
    assert around.calls == bare.calls

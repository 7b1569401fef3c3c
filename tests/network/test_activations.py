"""Backward rules, against captum where it applies and against a backward pass written out by hand elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from captum.attr import Deconvolution
from captum.attr import GuidedBackprop as CaptumGuided
from torch import Tensor, nn

from gradcut.network.activations import Backward, Rule, deconvnet, guided

RULES = {"guided": guided, "deconvnet": deconvnet}


def _seeded(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(*layers)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


class Act(nn.Module):
    """An activation that is a call, not a module of a standard type."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _network(activation: Callable[[], nn.Module]) -> nn.Sequential:
    return _seeded(
        nn.Conv2d(3, 6, 3, padding=1), activation(), nn.Conv2d(6, 8, 3, stride=2), activation(),
        nn.Conv2d(8, 8, 1), activation(), nn.Flatten(), nn.Linear(72, 5),
    )  # fmt: skip


def _statement(x: Tensor) -> Tensor:
    x.relu_()  # the result is dropped: the tensor itself must carry the rule
    return x


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _swish_slope(x: Tensor, by: float = 1.0) -> Tensor:
    s = 1 / (1 + torch.exp(-by * x))
    return s + by * x * s * (1 - s)


def _gelu_slope(x: Tensor) -> Tensor:
    return _normal_cdf(x) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _mish_slope(x: Tensor) -> Tensor:
    t = torch.tanh(torch.log1p(torch.exp(x)))
    return t + x * (1 - t * t) / (1 + torch.exp(-x))


def _hardswish_slope(x: Tensor) -> Tensor:
    return torch.where(x < -3, 0.0, torch.where(x > 3, torch.ones_like(x), x / 3 + 0.5))


def _step(x: Tensor) -> Tensor:
    return (x > 0).float()


def _box(x: Tensor) -> Tensor:
    return ((x > 0) & (x < 6)).float()


#: A way to write an activation, and its derivative by the textbook.
WRITTEN: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {
    "nn.ReLU": (nn.ReLU, _step),
    "nn.ReLU in place": (lambda: nn.ReLU(inplace=True), _step),
    "F.relu": (lambda: Act(F.relu), _step),
    "F.relu(input=)": (lambda: Act(lambda x: F.relu(input=x)), _step),
    "torch.relu": (lambda: Act(torch.relu), _step),
    "relu_ as a statement": (lambda: Act(_statement), _step),
    "clamp(min=0)": (lambda: Act(lambda x: x.clamp(min=0)), _step),
    "clamp_(0)": (lambda: Act(lambda x: x.clamp_(0)), _step),
    "nn.Threshold": (lambda: nn.Threshold(0, 0), _step),
    "nn.ReLU6": (nn.ReLU6, _box),
    "nn.ReLU6 in place": (lambda: nn.ReLU6(inplace=True), _box),
    "F.relu6": (lambda: Act(F.relu6), _box),
    "nn.Hardtanh": (lambda: nn.Hardtanh(0, 6), _box),
    "torch.clamp(0, 6)": (lambda: Act(lambda x: torch.clamp(x, 0, 6)), _box),
    "nn.LeakyReLU": (lambda: nn.LeakyReLU(0.1), lambda x: torch.where(x > 0, 1.0, 0.1)),
    "nn.LeakyReLU in place": (lambda: nn.LeakyReLU(0.1, inplace=True), lambda x: torch.where(x > 0, 1.0, 0.1)),
    "nn.ELU": (nn.ELU, lambda x: torch.where(x > 0, torch.ones_like(x), x.exp())),
    "nn.SiLU": (nn.SiLU, _swish_slope),
    "nn.SiLU in place": (lambda: nn.SiLU(inplace=True), _swish_slope),
    "swish by hand": (lambda: Act(lambda x: x * torch.sigmoid(x)), _swish_slope),
    "swish by hand, in place": (lambda: Act(lambda x: x.mul_(x.sigmoid())), _swish_slope),
    "quick GELU": (lambda: Act(lambda x: x * torch.sigmoid(1.702 * x)), lambda x: _swish_slope(x, 1.702)),
    "nn.GELU": (nn.GELU, _gelu_slope),
    "F.gelu": (lambda: Act(F.gelu), _gelu_slope),
    "nn.Mish": (nn.Mish, _mish_slope),
    "nn.Hardswish": (nn.Hardswish, _hardswish_slope),
    "nn.Hardswish in place": (lambda: nn.Hardswish(inplace=True), _hardswish_slope),
}


def by_hand(model: nn.Sequential, x: Tensor, index: int, slope: Callable[[Tensor], Tensor], rule: str) -> Tensor:
    """The rule as the papers write it: layer by layer, every layer's input kept, nothing from the engine."""
    inputs, value = [], x
    with torch.no_grad():
        for layer in model:
            inputs.append(value.clone())
            value = layer(value.clone())
    gradient = torch.zeros_like(value)
    gradient[:, index] = 1
    for layer, at in zip(reversed(list(model)), reversed(inputs), strict=True):
        if isinstance(layer, nn.Linear):
            gradient = gradient @ layer.weight.detach()
        elif isinstance(layer, nn.Flatten):
            gradient = gradient.reshape(at.shape)
        elif isinstance(layer, nn.Conv2d):
            gradient = torch.nn.grad.conv2d_input(
                list(at.shape), layer.weight.detach(), gradient, layer.stride, layer.padding
            )
        else:
            positive = torch.where(gradient > 0, gradient, 0.0)
            gradient = positive * torch.where(slope(at) > 0, slope(at), 0.0) if rule == "guided" else positive
    return gradient


def by_engine(model: nn.Module, x: Tensor, index: int, rule: Rule) -> tuple[Tensor, Tensor, int]:
    x = x.clone().requires_grad_()
    with Backward(rule) as mode:
        logits = model(x)
    (gradient,) = torch.autograd.grad(logits[:, index].sum(), x)
    return gradient, logits.detach(), mode.followed


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("written", WRITTEN)
def test_rule_against_a_backward_pass_by_hand(written: str, rule: str, x: Tensor) -> None:
    activation, slope = WRITTEN[written]
    model = _network(activation)
    gradient, logits, followed = by_engine(model, x, 2, RULES[rule])
    expected = by_hand(model, x, 2, slope, rule)
    assert followed == 3
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(x), rtol=0, atol=0)
    leaf = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(model(leaf)[:, 2].sum(), leaf)
    assert (gradient - plain).abs().max() > 1e-3  # the rule made a difference


@pytest.mark.parametrize(("rule", "captum"), [("guided", CaptumGuided), ("deconvnet", Deconvolution)])
@pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks")
def test_rule_against_captum(rule: str, captum: type, x: Tensor) -> None:
    model = _network(nn.ReLU)
    for index in (0, 4):
        gradient, _, _ = by_engine(model, x, index, RULES[rule])
        expected = captum(model).attribute(x.clone().requires_grad_(), target=index)
        assert float(expected.abs().max()) > 1e-3
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_prelu_follows_with_its_weight(x: Tensor) -> None:
    model = _network(lambda: nn.PReLU(init=0.2))
    for layer in model:
        if isinstance(layer, nn.PReLU):
            nn.init.constant_(layer.weight, -0.2)  # falls left of zero, where guided lets nothing through
    gradient, _, followed = by_engine(model, x, 1, guided)
    expected = by_hand(model, x, 1, lambda at: torch.where(at > 0, 1.0, -0.2), "guided")
    assert followed == 3
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_a_rule_of_ones_own(x: Tensor) -> None:
    """With the plain product as the rule, nothing changes: that also checks every derivative."""
    for written, (activation, _) in WRITTEN.items():
        model = _network(activation)
        gradient, _, followed = by_engine(model, x, 0, lambda above, derivative: above * derivative)
        leaf = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)
        assert followed == 3, written
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5, msg=lambda m, w=written: f"{w}: {m}")


def test_gates_are_not_activations(x: Tensor) -> None:
    """A squeeze-and-excitation gate multiplies by a sigmoid too, but of something else."""

    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * x.mean((2, 3), keepdim=True).sigmoid()
            gate = y.sigmoid()
            y.add_(1)  # no longer what the sigmoid was taken of
            return (y * gate).flatten(1)

    gradient, _, followed = by_engine(Gated(), x, 0, guided)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(Gated()(leaf)[:, 0].sum(), leaf)
    assert followed == 0
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


def test_other_clamps_are_not_activations() -> None:
    x = torch.linspace(-2, 2, 5).requires_grad_()
    with Backward(deconvnet) as mode:
        (x.clamp(min=1e-6) + x.clamp(max=1)).sum()
    assert mode.followed == 0


def test_several_backward_passes_share_one_forward_pass(x: Tensor) -> None:
    model = _network(nn.Hardswish)
    leaf = x.clone().requires_grad_()
    with Backward(guided):
        logits = model(leaf)
    for index in range(5):
        (gradient,) = torch.autograd.grad(logits[:, index].sum(), leaf, retain_graph=True)
        expected = by_hand(model, x, index, _hardswish_slope, "guided")
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_prepared_without_gradients(x: Tensor) -> None:
    model = _network(nn.ReLU)
    with torch.no_grad(), Backward(guided) as mode:
        logits = model(x)
    assert mode.followed == 0
    torch.testing.assert_close(logits, model(x).detach(), rtol=0, atol=0)

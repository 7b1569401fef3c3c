"""Relevance by rules for functions: zennit's values, what is conserved, AttnLRP by hand, and what it cannot follow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import zennit.composites as composites
import zennit.rules as rules
from torch import Tensor, nn
from zennit.attribution import Gradient as Attributor
from zennit.canonizers import SequentialMergeBatchNorm

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.passes import Wanted
from gradcut.saliency import (
    LRP,
    AlphaBeta,
    AttnLRP,
    Box,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    GradientXInput,
    Method,
    View,
)

TINY = 1e-12  # what keeps zennit's quotients finite, and gradcut's
TARGETS = [(0, 2), (1, 5)]


def convolutional(norm: bool = True, bias: bool = True) -> nn.Module:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=bias), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, stride=2, bias=bias), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(48, 16, bias=bias), nn.ReLU(), nn.Linear(16, 7, bias=bias),
    )  # fmt: skip
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(-0.5, 1.5)
                module.bias.normal_(std=0.3)
    return model.eval().double()


def photographs(size: int = 20) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).double()


def black_and_white(classifier: Classifier) -> dict[str, Tensor]:
    bounds = {"low": 0.0, "high": 1.0}
    return {
        name: torch.tensor(classifier.prepared((value,) * 3)).double().view(1, 3, 1, 1)
        for name, value in bounds.items()
    }


PLUS, EPSILON = AlphaBeta(1.0, 0.0, TINY), Epsilon(TINY)
#: gradcut's composite, zennit's, and its options but the stabilizer.
ZENNIT: dict[str, tuple[Composite, Any, dict[str, Any]]] = {
    "plus, flat": (Composite(PLUS, EPSILON, Flat(TINY)), composites.EpsilonPlusFlat, {"epsilon": TINY}),
    "plus": (Composite(PLUS, Epsilon(0.25)), composites.EpsilonPlus, {"epsilon": 0.25}),
    "alpha 2 beta 1": (
        Composite(AlphaBeta(2.0, 1.0, TINY), EPSILON),
        composites.EpsilonAlpha2Beta1,
        {"epsilon": TINY},
    ),
    "gamma, box": (
        Composite(Gamma(0.3, TINY), EPSILON, Box(epsilon=TINY)),
        composites.EpsilonGammaBox,
        {"epsilon": TINY, "gamma": 0.3},
    ),
    "gamma everywhere": (
        Composite(Gamma(0.3, TINY), Gamma(0.1, TINY)),
        composites.LayerMapComposite,
        {
            "layer_map": [
                (composites.Convolution, rules.Gamma(0.3, TINY)),
                (nn.Linear, rules.Gamma(0.1, TINY)),
                *composites.layer_map_base(TINY),
            ]
        },
    ),
}


@pytest.mark.parametrize("name", ZENNIT)
def test_zennit(name: str) -> None:
    """In double precision, with batch norms made part of the convolutions before them, to 1e-5 of the largest value."""
    composite, peer, options = ZENNIT[name]
    model, x = convolutional(), photographs()
    classifier = Classifier(model, 7, 20)
    found = LRP(composite=composite).attribution(View(classifier, x), TARGETS)
    options = options if "layer_map" in options else {**options, "stabilizer": TINY}
    options |= black_and_white(classifier) if "box" in name else {}
    theirs = peer(**options, canonizers=[SequentialMergeBatchNorm()])
    asked = torch.eye(7).double()[[index for _, index in TARGETS]]
    separate = model  # zennit's hooks want no activation in place
    separate[2].inplace = False
    with Attributor(model=separate, composite=theirs) as attributor:
        _, expected = attributor(x.clone().requires_grad_(), lambda logits: logits.detach() * asked)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "composite",
    [
        Composite(EPSILON, EPSILON), Composite(Gamma(0.3, TINY), EPSILON, Box(epsilon=TINY)),
        Composite(PLUS, PLUS, Flat(TINY)), Composite(PLUS, EPSILON, Flat(TINY)),
        Composite(EPSILON, EPSILON, named=(("3", Gamma(0.5, TINY)),)),
    ],
    ids=repr,
)  # fmt: skip
def test_relevance_is_conserved(composite: Composite) -> None:
    """In a network without biases it sums to the logit, whatever its sign."""
    model, x = convolutional(norm=False, bias=False), photographs()
    found = LRP(composite=composite).attribution(View(Classifier(model, 7, 20), x), TARGETS).sum((1, 2, 3))
    expected = model(x)[[0, 1], [2, 5]].detach()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("first", [Flat(TINY), Box(epsilon=TINY)], ids=repr)
def test_no_relevance_is_lost_around_the_photograph(first: Any) -> None:
    model, x = convolutional(norm=False, bias=False), photographs()
    method = LRP(composite=Composite(PLUS, EPSILON, first))
    expected = method.attribution(View(Classifier(model, 7, 20), x), TARGETS)
    model[0].padding = (0, 0)
    padded = Classifier(nn.Sequential(nn.ZeroPad2d(1), model), 7, 20)
    torch.testing.assert_close(method.attribution(View(padded, x), TARGETS), expected, rtol=1e-9, atol=1e-12)


class Gated(nn.Module):
    """A squeezed gate, a branch, a group norm, activations that are no ReLU, and a division."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 6, 1, bias=False)
        self.squeeze, self.head = nn.Linear(6, 6), nn.Linear(6, 7, bias=False)
        self.norm = nn.GroupNorm(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.stem(x))
        x = x * self.squeeze(x.mean((2, 3))).sigmoid()[:, :, None, None]
        x = self.norm(x + F.silu(self.branch(x)))
        x = F.normalize(x.clamp(max=1.5)) / x.std((1, 2, 3), keepdim=True)
        return self.head((x * torch.sigmoid(x)).mean((2, 3)))


def test_relevance_is_conserved_where_things_are_multiplied() -> None:
    torch.manual_seed(5)
    model, x = Gated().double().eval(), photographs()
    composite = Composite(EPSILON, EPSILON, epsilon=TINY)
    found = LRP(composite=composite).attribution(View(Classifier(model, 7, 20), x), TARGETS).sum((1, 2, 3))
    torch.testing.assert_close(found, model(x)[[0, 1], [2, 5]].detach(), rtol=1e-4, atol=1e-8)


class Attending(nn.Module):
    """Patches, a layer norm, one layer of attention, a residual connection, the mean, linear; no biases."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Conv2d(3, 8, 4, 4, bias=False), nn.Linear(8, 24, bias=False)
        self.norm, self.head = nn.LayerNorm(8, bias=False), nn.Linear(8, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((tokens + mixed).mean(1))


def attending() -> nn.Module:
    torch.manual_seed(7)
    model = Attending().double().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    return model


def test_relevance_is_conserved_through_constant_attention() -> None:
    model, x = attending(), photographs()
    composite = Composite(EPSILON, EPSILON, attention="constant")
    found = LRP(composite=composite).attribution(View(Classifier(model, 7, 20), x), TARGETS).sum((1, 2, 3))
    torch.testing.assert_close(found, model(x)[[0, 1], [2, 5]].detach(), rtol=1e-6, atol=1e-9)


def test_attnlrp_by_hand() -> None:
    """The paper's formulas, relevance by relevance, through one block."""
    model, x = attending(), photographs()[:1]

    def linear(a: Tensor, W: Tensor, R: Tensor) -> Tensor:  # equation 8, epsilon 0
        return a * ((R / (a @ W.T)) @ W)

    with torch.no_grad():
        tokens = model.embed(x).flatten(2).transpose(1, 2)[0]
        normed = model.norm(tokens[None])[0]
        q, k, v = model.qkv(normed).reshape(-1, 3, 2, 4).permute(1, 2, 0, 3)
        products = q @ k.transpose(1, 2) / 2
        A = products.softmax(-1)
        O = A @ v
        total = tokens + O.transpose(0, 1).flatten(1)
        read = total.mean(0)
        R = linear(read[None], model.head.weight[3:4], model.head(read)[None, 3:4])[0]
        R = total / len(total) / read * R  # the mean shares out in proportion
        R_tokens, R_mixed = R * tokens / total, R * (total - tokens) / total
        R_O = R_mixed.reshape(-1, 2, 4).transpose(0, 1)
        R_A = A * ((R_O / (2 * O)) @ v.transpose(1, 2))  # equation 15: half to each
        R_v = v * (A.transpose(1, 2) @ (R_O / (2 * O)))
        R_p = products * (R_A - A * R_A.sum(-1, keepdim=True))  # equation 13
        R_q = q * ((R_p / (2 * products)) @ k) / 2
        R_k = k * ((R_p / (2 * products)).transpose(1, 2) @ q) / 2
        R_qkv = torch.stack([R_q, R_k, R_v]).permute(2, 0, 1, 3).flatten(1)
        R_normed = linear(normed, model.qkv.weight, R_qkv)
        # A layer norm's centring shares out in proportion; what it divides by is given.
        scale = model.norm.weight / (tokens.var(1, correction=0, keepdim=True) + model.norm.eps).sqrt()
        per_unit = R_normed / normed * scale
        R_tokens = R_tokens + tokens * (per_unit - per_unit.mean(1, keepdim=True))
        weight = model.embed.weight.flatten(1)
        patches = F.unfold(x, 4, stride=4)[0].T
        R_x = F.fold(linear(patches, weight, R_tokens).T[None], x.shape[2:], 4, stride=4)
    method = AttnLRP(composite=Composite(EPSILON, EPSILON))
    found = method.attribution(View(Classifier(model, 7, 20), x), [(0, 3)])
    torch.testing.assert_close(found, R_x, rtol=1e-6, atol=1e-8 * float(R_x.abs().max()))


def test_epsilon_zero_is_gradient_times_input_in_a_network_of_relus() -> None:
    """Where a convolution answers with 0 too, and where weights are standardised on the way."""
    model, x = convolutional(), photographs()
    x[:, :, :10] = 0
    with torch.no_grad():
        model[0].bias.copy_(model[1].running_mean)
        model[1].bias.zero_()

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = F.batch_norm(self.weight.flatten(1)[None], None, None, training=True, momentum=0.0)
            return F.conv2d(x, weight.view_as(self.weight), self.bias, self.stride)

    model[4].__class__ = Standardised
    view = View(Classifier(model, 7, 20), x)
    found = LRP(composite=Composite(Epsilon(0.0), Epsilon(0.0))).attribution(view, TARGETS)
    expected = GradientXInput(Gradient()).attribution(view, TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LRP(), LRP(of="probability")),
        (LRP(signed=True), LRP()),
        (LRP(composite=Composite(Gamma())), LRP(composite=Composite(Gamma(1.0)))),
        (LRP(composite=Composite(Gamma())), LRP(composite=Composite(Gamma(epsilon=0.3)))),
        (LRP(composite=Composite(AlphaBeta())), LRP(composite=Composite(AlphaBeta(1.0, 0.0)))),
        (LRP(composite=Composite(linear=Epsilon())), LRP(composite=Composite(linear=Epsilon(0.5)))),
        (LRP(composite=Composite(first=Flat())), LRP(composite=Composite(first=Box()))),
        (LRP(composite=Composite(first=Box())), LRP(composite=Composite(first=Box((-1.0,) * 3, (1.0,) * 3)))),
        (LRP(composite=Composite()), LRP(composite=Composite(named=(("0", AlphaBeta()),)))),
    ],
    ids=repr,
)
def test_every_option_changes_the_map(one: Method, other: Method) -> None:
    classifier, x = Classifier(convolutional(), 7, 20), photographs()
    first, second = (method(classifier, x, TARGETS) for method in (one, other))
    first, second = (m / m.sum((1, 2), keepdim=True) for m in (first, second))
    assert float((first - second).abs().sum((1, 2)).max()) > 0.01
    assert repr(one) != repr(other)


class OneSided(nn.Module):
    """A convolution that pads the far ends alone: the photograph, or both ends and the kernel at its near ones."""

    def __init__(self, in_kernel: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.in_kernel = in_kernel
        self.conv, self.head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        if self.in_kernel:
            y = F.conv2d(x, F.pad(weight, (1, 0, 1, 0)), bias, 2, 1)
        else:
            y = F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, 2)
        return self.head(y.relu().mean((2, 3)))


@pytest.mark.parametrize(
    "composite", [Composite(first=Flat()), Composite(first=Box()), Composite(AlphaBeta())], ids=repr
)
def test_padding_in_the_kernel_has_the_relevance_of_padding_round_the_photograph(composite: Composite) -> None:
    maps = [
        LRP(composite=composite)(Classifier(OneSided(in_kernel).double(), 7, 20), photographs(), TARGETS)
        for in_kernel in (False, True)
    ]
    assert float(maps[0].max()) > 0
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Epsilon(-1.0), "epsilon: expected a number of at least 0, got -1.0"),
        (lambda: Gamma(-1.0), "gamma: expected a number of at least 0, got -1.0"),
        (lambda: AlphaBeta(2.0, 0.5), "beta: expected alpha - 1, 1, got 0.5"),
        (lambda: Composite(epsilon=-1.0), "epsilon: expected a number of at least 0"),
    ],
)
def test_unusable_rules(make: Any, message: str) -> None:
    with pytest.raises(SaliencyError, match=message):
        make()


def test_what_cannot_be_followed() -> None:
    x, model = photographs(), convolutional()
    classifier = Classifier(model, 7, 20)
    with pytest.raises(SaliencyError, match=r"AttnLRP needs a network with attention; custom has none\. LRP\(\)"):
        AttnLRP()(classifier, x, TARGETS)
    with pytest.raises(SaliencyError, match=r"named: expected names from model\.named_modules\(\), got 'body'"):
        LRP(composite=Composite(named=(("body", Gamma()),)))(classifier, x, TARGETS)
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(1200, 7)).double(), 7, 20)
    with pytest.raises(
        SaliencyError, match=r"first: expected None for this network, whose first layer reads \(1200,\)"
    ):
        LRP()(flat, x, TARGETS)
    assert float(LRP(composite=Composite())(flat, x, TARGETS).max()) > 0
    mean = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3, 20)
    with pytest.raises(SaliencyError, match="LRP needs a linear layer or a convolution; custom has none"):
        LRP()(mean, x, [(0, 1)])
    with pytest.raises(SaliencyError, match="custom: it has a batch norm without fixed statistics"):
        LRP()(
            Classifier(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), *model).double(), 7, 20), x, TARGETS
        )


def test_the_forward_pass_stays_the_same() -> None:
    model, x = convolutional(), photographs()
    with torch.enable_grad():
        made = View(Classifier(model, 7, 20), x).watch(Wanted(gradients=True, relevance=Composite()))
    torch.testing.assert_close(made.logits.detach(), model(x).detach(), rtol=1e-12, atol=1e-12)
    assert made.relevance is not None
    assert made.relevance.layers == 4

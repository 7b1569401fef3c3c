"""The rules by which layers share relevance out among their inputs, and which layer gets which.

Their formulas are those of Bach et al. 2015, Montavon et al. 2017 and 2019, and zennit's for inputs of either sign. A
rule is asked for the relevance of an input per unit, by what `gradcut.network.relevance` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradcut.errors import SaliencyError, check_least


class Layer(NamedTuple):
    """A linear layer or a convolution with its weights, and how it is called with others."""

    function: Callable[..., Tensor]
    weight: Tensor
    bias: Tensor | None

    def of(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.function(x, weight, bias)


#: From a layer, what goes in and comes out, and the relevance of what comes out, to the relevance of what goes in, per
#: unit: times the input it is the relevance.
LayerRule = Callable[[Layer, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Epsilon:
    """In proportion to contributions: ``R_i = sum_j a_i w_ij R_j / (z_j + epsilon sign z_j)`` (Bach et al. 2015)."""

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_least(SaliencyError, self, epsilon=0.0)

    def __call__(self, layer: Layer, x: Tensor, y: Tensor, R: Tensor) -> Tensor:
        return _sent(layer, x, layer.weight, layer.bias, lambda z: R / stable(y, self.epsilon))


@dataclass(frozen=True)
class Gamma:
    """`Epsilon` with positive contributions made ``1 + gamma`` times as large (Montavon et al. 2019).

    Where z is negative, negative ones are instead (Andeol et al. 2021), and inputs may have either sign.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_least(SaliencyError, self, gamma=0.0, epsilon=0.0)

    def __call__(self, layer: Layer, x: Tensor, y: Tensor, R: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for sign, side in ((1, y > 0), (-1, y < 0)):
            relevance = R * side
            if bool(relevance.any()):  # behind a ReLU nothing comes from below 0
                total += _by_sign(layer, x, relevance, self.epsilon, sign, lambda w, by: w + self.gamma * by(w))
        return total


@dataclass(frozen=True)
class AlphaBeta:
    """Positive contributions alpha times, negative ones beta times, each among themselves (Bach et al. 2015).

    ``AlphaBeta(1, 0)`` is the z+ rule.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_least(SaliencyError, self, alpha=1.0, beta=0.0, epsilon=0.0)
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise SaliencyError(f"beta: expected alpha - 1, {self.alpha - 1:g}, got {self.beta!r}")

    def __call__(self, layer: Layer, x: Tensor, y: Tensor, R: Tensor) -> Tensor:
        total = self.alpha * _by_sign(layer, x, R, self.epsilon, 1, lambda w, by: by(w))
        if self.beta:
            total -= self.beta * _by_sign(layer, x, R, self.epsilon, -1, lambda w, by: by(w))
        return total


@dataclass(frozen=True)
class Flat:
    """The same to all inputs, whatever they are: for the layer that reads the photograph (Lapuschkin et al. 2019)."""

    epsilon: float = 1e-6

    def relevance(self, layer: Layer, x: Tensor, y: Tensor, R: Tensor) -> Tensor:
        # A row or column of a kernel that is 0 in all of its filters is padding, and no part of it.
        weight = torch.ones_like(layer.weight) * (layer.weight != 0).any(0).any(0)
        return _sent(layer, torch.ones_like(x), weight, None, lambda z: R / stable(z, self.epsilon))


@dataclass(frozen=True)
class Box:
    """The z^B rule, for the layer that reads the photograph, of values between two bounds (Montavon et al. 2017).

    ``R_i = sum_j (x_i w_ij - low_i w_ij^+ - high_i w_ij^-) R_j / sum_i (the same)``.

    Args:
        low, high: of each channel, as photographs are prepared; None stands for what is made of black and of white.
    """

    low: tuple[float, float, float] | None = None
    high: tuple[float, float, float] | None = None
    epsilon: float = 1e-6

    def relevance(self, layer: Layer, x: Tensor, y: Tensor, R: Tensor) -> Tensor:
        assert self.low is not None
        assert self.high is not None
        low, high = (x.new_tensor(v).view(1, 3, 1, 1).expand_as(x) for v in (self.low, self.high))
        weights = layer.weight, layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        with torch.enable_grad():
            leaves = [values.detach().clone().requires_grad_() for values in (x, low, high)]
            own, least, most = (layer.of(leaf, w, None) for leaf, w in zip(leaves, weights, strict=True))
            z = own - least - most
            found = torch.autograd.grad(z, leaves, R / stable(z.detach(), self.epsilon))
        parts = [leaf.detach() * gradient for leaf, gradient in zip(leaves, found, strict=True)]
        return parts[0] + parts[1] + parts[2]


InputRule = Flat | Box


@dataclass(frozen=True)
class Composite:
    """Which rule each layer gets.

    Args:
        convolution: of every convolution.
        linear: of every linear layer.
        first: of the first layer that reads the photograph, in the place of the above; None leaves it these.
        named: modules' names (as in ``model.named_modules()``) with rules for the layers inside, before all others.
        attention: ``"shared"`` gives half of the relevance to the attention, through the softmax, half to the values
            (AttnLRP, Achtibat et al. 2024); ``"constant"`` takes the attention as given, so that the values get all
            (CP-LRP, Ali et al. 2022) and relevance is conserved.
        epsilon: keeps the quotient of an activation's value and its input finite.
    """

    convolution: LayerRule = Gamma()
    linear: LayerRule = Epsilon()
    first: InputRule | None = None
    named: tuple[tuple[str, LayerRule], ...] = ()
    attention: Literal["shared", "constant"] = "shared"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_least(SaliencyError, self, epsilon=0.0)
        if self.attention not in ("shared", "constant"):
            raise SaliencyError(f"attention: expected 'shared' or 'constant', got {self.attention!r}")
        for name, rule in (("convolution", self.convolution), ("linear", self.linear), *self.named):
            if not callable(rule):
                raise SaliencyError(f"{name}: expected a rule such as Epsilon(), Gamma() or AlphaBeta(), got {rule!r}")
        if not isinstance(self.first, InputRule | None):
            raise SaliencyError(f"first: expected Flat(), Box() or None, got {self.first!r}")


def stable(z: Tensor, epsilon: float) -> Tensor:
    """Away from 0 by epsilon, to the side on which it is; 0 itself upwards, and to 1 if epsilon is 0."""
    if epsilon == 0:
        return z.masked_fill(z == 0, 1)  # where nothing comes together there is nothing to share out
    return z + torch.where(z < 0, -epsilon, epsilon).to(z.dtype)


def _sent(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None, per_unit: Callable[[Tensor], Tensor]) -> Tensor:
    """What the layer with those weights sends back of what ``per_unit`` makes of its result."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        z = layer.of(leaf, weight, bias)
        return torch.autograd.grad(z, leaf, per_unit(z.detach()))[0]


def _by_sign(
    layer: Layer,
    x: Tensor,
    R: Tensor,
    epsilon: float,
    sign: int,
    made: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor],
) -> Tensor:
    """Relevance per unit by weights that depend on the sign of what they add, which ``sign`` says is favoured."""

    def positive(w: Tensor) -> Tensor:
        return w.clamp(min=0)

    def negative(w: Tensor) -> Tensor:
        return w.clamp(max=0)

    alike, unlike = (positive, negative) if sign > 0 else (negative, positive)
    bias = None if layer.bias is None else made(layer.bias, alike)
    sides = [(x.clamp(min=0), made(layer.weight, alike), bias)]
    if bool((x < 0).any()):
        sides.append((x.clamp(max=0), made(layer.weight, unlike), None))
    with torch.enable_grad():
        leaves = [values.requires_grad_() for values, _, _ in sides]
        z = sum(layer.of(leaf, weight, b) for leaf, (_, weight, b) in zip(leaves, sides, strict=True))
        assert isinstance(z, Tensor)
        found = torch.autograd.grad(z, leaves, R / stable(z.detach(), epsilon))
    return found[0] if len(found) == 1 else torch.where(x < 0, found[1], found[0])


def wide(values: Tensor) -> Tensor:
    """In float32 at least, without its graph."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))

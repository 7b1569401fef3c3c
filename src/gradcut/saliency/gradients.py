"""Saliency from the gradient of a class score with respect to the photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError, check_least
from gradcut.network.activations import Rule, deconvnet, guided
from gradcut.network.passes import Wanted, scripted
from gradcut.network.view import View
from gradcut.saliency.baselines import Baseline, baseline_of, check_baseline
from gradcut.saliency.maps import above_least, wide
from gradcut.saliency.method import Method
from gradcut.saliency.targets import Remembered, Score, Target, Targets, backpropagate, check_score, resolve, scores


class PixelMethod(Method):
    """A method that gives every channel of every pixel a value, and says how channels become one map."""

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        return self.over_channels(self.attribution(view, targets))

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The values, in float32 at least."""
        raise NotImplementedError

    def over_channels(self, attribution: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        """One value a pixel, not negative."""
        raise NotImplementedError


class Around(PixelMethod):
    """A pixel method that is made of another, ``method``, and makes a map of the values as that does."""

    method: PixelMethod

    def __post_init__(self) -> None:
        check_pixels(self.method)

    def over_channels(self, attribution: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        return self.method.over_channels(attribution)


@dataclass(frozen=True)
class Gradient(PixelMethod):
    """The gradient of a class score with respect to the photograph (Simonyan et al. 2013).

    Needs a differentiable classifier. Costs one forward pass, and as many backward passes as the largest
    number of classes in one photograph.

    Args:
        of: which score, see `Score`. As in the paper, which takes the unnormalised score: the probability can also
            be raised by lowering the other classes' scores, so that its gradient shows these too. Under a sigmoid
            the map of the probability is the logit's times one factor.
        signed: False takes absolute values, as in the paper. True keeps the signs, and shifts the map so
            that its least value is 0.
        channels: the ``"max"`` over the channels, as in the paper, their ``"sum"``, or their ``"l2"`` norm.
    """

    of: Score = "logit"
    signed: bool = False
    channels: Literal["max", "sum", "l2"] = "max"
    rule: ClassVar[Rule | None] = None

    def __post_init__(self) -> None:
        check_score(self.of)
        if self.channels not in ("max", "sum", "l2"):
            raise SaliencyError(f"channels: expected 'max', 'sum' or 'l2', got {self.channels!r}")
        if self.signed and self.channels == "l2":
            raise SaliencyError("channels: expected 'max' or 'sum' for a signed map, got 'l2', which has no sign")

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The gradient itself."""
        return input_gradient(view, targets, self.of, type(self).rule)

    def over_channels(self, attribution: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        value = attribution if self.signed else attribution.abs()
        if self.channels == "l2":
            return value.square().sum(1).sqrt()
        value = value.amax(1) if self.channels == "max" else value.sum(1)
        return above_least(value) if self.signed else value


@dataclass(frozen=True)
class GuidedBackprop(Gradient):
    """The gradient with guided backpropagation through ReLU-like functions (Springenberg et al. 2014).

    At each of them a gradient passes only where it is positive and the function rises: for ReLU
    ``[g > 0] [z > 0] g``. Needs at least one ReLU-like function; `activations.Backward` says what counts. Costs
    as much as `Gradient`.
    """

    rule: ClassVar[Rule | None] = staticmethod(guided)


@dataclass(frozen=True)
class DeconvNet(Gradient):
    """The gradient with DeconvNet's rule for ReLU-like functions, ``[g > 0] g`` (Zeiler & Fergus 2013).

    Needs and costs as much as `GuidedBackprop`.
    """

    rule: ClassVar[Rule | None] = staticmethod(deconvnet)


@dataclass(frozen=True)
class GradientXInput(Around):
    """The gradient times the photograph: what a linear classifier's score is made of (Shrikumar et al. 2016).

    The photograph is as prepared, so that the classifier's mean colour counts as nothing.

    Args:
        method: gives the gradient, and reduces the product to one map.
    """

    method: PixelMethod = Gradient(channels="sum")

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The product, channel by channel."""
        asked = Remembered(targets, self.method)
        gradient = self.method.attribution(view, asked)
        return gradient * view.x.detach()[[photograph for photograph, _ in asked.pairs]]


@dataclass(frozen=True)
class SmoothGrad(Around):
    """The mean over noisy copies of the photograph (Smilkov et al. 2017).

    Costs ``samples`` times as much as its method, and a forward pass when the targets are a function.

    Args:
        method: any that gives pixels a value: ``SmoothGrad(GuidedBackprop())``.
        samples: how many copies.
        noise: standard deviation, as a fraction of the prepared photograph's range from least to largest
            value; the paper finds 0.1 to 0.2 best.
        seed: of the noise, which is the same for every photograph.
    """

    method: PixelMethod = Gradient()
    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(SaliencyError, self, samples=self._least())
        if not 0 < self.noise < float("inf"):
            raise SaliencyError(f"noise: expected a positive fraction of the photograph's range, got {self.noise}")

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The mean, channel by channel, before any absolute value is taken."""
        return self._moments(view, targets)[0]

    def _moments(self, view: View, targets: Targets) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]]:
        """Mean and mean squared deviation from it, in one go (Welford 1962)."""
        pairs, x = decided(view, targets), view.x.detach()
        generator = torch.Generator().manual_seed(self.seed)
        strength = self.noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
        mean = wide(x.new_zeros(len(pairs), *x.shape[1:]))
        deviation = torch.zeros_like(mean)
        for number in range(1, self.samples + 1):
            # One draw for all the photographs, on the CPU: what a photograph gets depends neither on
            # its neighbours in the batch nor on the device.
            draw = torch.randn(x.shape[1:], generator=generator).to(x.device, x.dtype)
            value = self.method.attribution(View(view.classifier, x + strength * draw), pairs)
            step = value - mean
            mean += step / number
            deviation += step * (value - mean)
        return mean, deviation / self.samples

    def _least(self) -> int:
        return 1


@dataclass(frozen=True)
class VarGrad(SmoothGrad):
    """The variance over noisy copies of the photograph (Adebayo et al. 2018), otherwise as `SmoothGrad`."""

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The variance, channel by channel."""
        return self._moments(view, targets)[1]

    def _least(self) -> int:
        return 2


@dataclass(frozen=True)
class IntegratedGradients(Around):
    """The gradient's mean on the way from a baseline to the photograph, times the way (Sundararajan et al. 2017).

    ``(x - x') * integral of the gradient at x' + a (x - x') over a from 0 to 1``. Complete: summed over pixels and
    channels it is the score's difference between photograph and baseline, up to the integration's error.
    Costs ``steps`` times as much as its method, and a forward pass when the targets are a function.

    Args:
        method: gives the gradients, and reduces the result to one map.
        steps: of the Gauss-Legendre quadrature.
        baseline: what stands for nothing: the classifier's ``"mean"`` colour, ``"black"`` or ``"white"``, or a tensor
            as `Classifier.prepare` makes photographs, ``3 1 1``, ``3 h w`` or ``b 3 h w``.
    """

    method: PixelMethod = Gradient(channels="sum")
    steps: int = 32
    baseline: Baseline = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(SaliencyError, self, steps=1)
        check_baseline(self.baseline)

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The integral, channel by channel."""
        pairs, x = decided(view, targets), view.x.detach()
        start = self.start(view.classifier, x)
        way = x - start
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        total = wide(x.new_zeros(len(pairs), *x.shape[1:]))
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
            there = View(view.classifier, start + (node + 1) / 2 * way)
            total += weight / 2 * self.method.attribution(there, pairs)
        return total * way[[photograph for photograph, _ in pairs]]

    def start(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "_ 3 _ _"]:
        """The baseline, prepared as photographs are; it broadcasts to these."""
        return baseline_of(classifier, x, self.baseline)

    def gap(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, " n"]:
        """How much the values' sum is above the score's difference between photograph and baseline.

        It is 0 but for the integration's error: more ``steps`` make it smaller. Costs two forward passes more than the
        method with a list of targets.

        Raises:
            SaliencyError: the method's values are no gradient of a score, so that nothing says what they should sum to.
        """
        if not isinstance(self.method, Gradient) or type(self.method).rule is not None:
            raise SaliencyError(
                f"gap: expected the plain gradient, IntegratedGradients(Gradient()), got {self.method!r}, whose sum "
                "means nothing"
            )
        view = View(classifier, x)
        with torch.no_grad():
            logits = view.watch().logits
            pairs = resolve(targets, logits)
            start = self.start(classifier, x.detach()).expand_as(x)
            ends = [logits, View(classifier, start).watch().logits]
            values = self.attribution(view, pairs).sum((1, 2, 3))
            for n, (b, members) in enumerate(pairs):
                groups = [other for photograph, other in pairs if photograph == b]
                both = scores(classifier, torch.stack([end[b] for end in ends]), groups, self.method.of)
                values[n] -= both[0, groups.index(members)] - both[1, groups.index(members)]
        return values


def input_gradient(
    view: View, targets: Targets, of: Score = "logit", rule: Rule | None = None
) -> Float[Tensor, "n 3 h w"]:
    """Gradients of the targets' scores with respect to the photographs.

    Raises:
        SaliencyError: no activation followed ``rule``, so that the result would be the plain gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        made = view.watch(Wanted(gradients=True, rule=rule))
        if rule is not None and not made.followed:
            raise SaliencyError(_nothing_followed(view.classifier, rule))
        pairs = resolve(targets, made.logits)
        return backpropagate(view.classifier, made.logits, pairs, of, [made.x])[0]


def check_pixels(method: object) -> None:
    """Raise SaliencyError unless a method gives pixels a value."""
    if not isinstance(method, PixelMethod):
        raise SaliencyError(
            "method: expected one that gives every channel of every pixel a value, such as Gradient(), got "
            f"{method!r}; MultiScale() takes any"
        )


def decided(view: View, targets: Targets) -> list[Target]:
    """Targets as a list, with a forward pass of the photographs as they are if that takes one."""
    if not callable(targets):
        return resolve(targets, view.x.new_empty(len(view.x), len(view.classifier.labels)))
    with torch.no_grad():
        return resolve(targets, view.watch().logits)


def _nothing_followed(classifier: Classifier, rule: Rule) -> str:
    name = getattr(rule, "__name__", repr(rule))
    if scripted(classifier.model):
        return (
            f"{name}: {classifier.name} is a TorchScript module, whose functions cannot be seen; use the module that "
            "it was made from, or Gradient()"
        )
    return (
        f"{name}: no ReLU-like function was seen in {classifier.name}, so the rule would change nothing; use Gradient()"
    )

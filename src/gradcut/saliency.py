"""Which pixels made the classifier say so: saliency maps.

A method is called as ``method(classifier, x, targets)`` with photographs ``x: Float "b 3 h w"`` as
`Classifier.prepare` makes them and ``n`` targets, and returns ``Float "n h w"``, never negative, on the
device of ``x``. A target is a pair (photograph in the batch, class). Targets may also be a function from
the logits to such pairs: then detection and saliency share one forward pass.

The model is left as it was: no hook, no flag, no ``.grad``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.activations import Backward, Rule, deconvnet, guided
from gradcut.classifier import Classifier
from gradcut.errors import GradcutError
from gradcut.features import ForwardPass

Target = tuple[int, int]
Targets = Sequence[Target] | Callable[[Tensor], Sequence[Target]]
Saliency = Callable[[Classifier, Tensor, Targets], Tensor]


class SaliencyError(GradcutError):
    """A method that cannot explain this classifier, or targets that it does not have."""


@dataclass(frozen=True)
class Gradient:
    """The gradient of a class score with respect to the photograph (Simonyan et al. 2013).

    Args:
        of: ``"logit"``, the unnormalised score, as in the paper, or ``"probability"``. Under a sigmoid the
            two differ by one factor for the whole map; under a softmax the probability also falls with
            the other classes.
        signed: False takes the absolute value, then the maximum over the channels, as in the paper. True
            takes the maximum over the channels with its sign, shifted so that the least value is 0.
    """

    of: Literal["logit", "probability"] = "probability"
    signed: bool = False

    def __post_init__(self) -> None:
        if self.of not in ("logit", "probability"):
            raise SaliencyError(f"of: expected 'logit' or 'probability', got {self.of!r}")

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        gradient = input_gradient(classifier, x, targets, of=self.of)
        return _over_channels(gradient, self.signed)


@dataclass(frozen=True)
class GuidedBackprop(Gradient):
    """The gradient with guided backpropagation through ReLU-like functions (Springenberg et al. 2014)."""

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        return _over_channels(input_gradient(classifier, x, targets, of=self.of, rule=guided), self.signed)


@dataclass(frozen=True)
class DeconvNet(Gradient):
    """The gradient with DeconvNet's rule for ReLU-like functions (Zeiler & Fergus 2013)."""

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        return _over_channels(input_gradient(classifier, x, targets, of=self.of, rule=deconvnet), self.signed)


@dataclass(frozen=True)
class CAM:
    """Class activation map (Zhou et al. 2016): a linear head's weights on the features before pooling.

    Exact where the logits are a linear function of the mean of the last feature map, which is checked
    against the logits themselves. One forward pass, no backward pass.

    Args:
        of: as for `Gradient`.
    """

    of: Literal["logit", "probability"] = "logit"

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        with torch.no_grad():
            with ForwardPass() as seen:
                logits = classifier.logits(x)
            features, weight = _linear_head(seen, logits)
            pairs = resolve(targets, logits)
            direction = score_gradient(classifier, logits, pairs, self.of)
            photographs = [photograph for photograph, _ in pairs]
            maps = torch.einsum("nc,nchw->nhw", direction @ weight, features[photographs]).clamp(min=0)
            return F.interpolate(maps[:, None], x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _linear_head(seen: ForwardPass, logits: Tensor) -> tuple[Tensor, Tensor]:
    if seen.feature_map is not None and seen.head is not None:
        features, (weight, bias) = seen.feature_map, seen.head
        if weight.shape == (logits.shape[1], features.shape[1]):
            expected = F.linear(features.mean((2, 3)), weight, bias)
            if torch.allclose(expected, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
                return features, weight
    raise SaliencyError(
        "CAM needs a classifier whose logits are a linear layer on the mean of its last feature map; "
        "this one's are not. Gradient() works with any classifier"
    )


def input_gradient(
    classifier: Classifier,
    x: Float[Tensor, "b 3 h w"],
    targets: Targets,
    of: Literal["logit", "probability"] = "logit",
    rule: Rule | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Gradients of the targets' scores with respect to the photographs.

    One forward pass, and as many backward passes as the largest number of targets in one photograph:
    photographs do not depend on each other, so one pass takes a target of every photograph.

    Raises:
        SaliencyError: no activation followed ``rule``, so that the result would be the plain gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        if rule is None:
            with ForwardPass():
                logits = classifier.logits(x)
        else:
            with ForwardPass(), Backward(rule) as backward:
                logits = classifier.logits(x)
            if not backward.followed:
                raise SaliencyError(
                    f"{rule.__name__}: no ReLU-like function was seen in {classifier.name}, so the rule would change "
                    "nothing; use Gradient()"
                )
    pairs = resolve(targets, logits)
    direction = score_gradient(classifier, logits, pairs, of)
    gradients = x.new_zeros(len(pairs), *x.shape[1:])
    rounds = _rounds(pairs)
    for number, chosen in enumerate(rounds):
        upstream = torch.zeros_like(logits)
        photographs = [pairs[i][0] for i in chosen]
        upstream[photographs] = direction[chosen]
        (gradient,) = torch.autograd.grad(logits, x, upstream, retain_graph=number + 1 < len(rounds))
        gradients[chosen] = gradient[photographs]
    return gradients


def resolve(targets: Targets, logits: Float[Tensor, "b n"]) -> list[Target]:
    """Targets as a list of pairs.

    Raises:
        SaliencyError: a pair outside the batch or the classes.
    """
    pairs = list(targets(logits.detach()) if callable(targets) else targets)
    batch, classes = logits.shape
    for photograph, index in pairs:
        if not (0 <= photograph < batch and 0 <= index < classes):
            raise SaliencyError(
                f"targets: expected photographs below {batch} and classes below {classes}, got {(photograph, index)}"
            )
    return pairs


def score_gradient(
    classifier: Classifier,
    logits: Float[Tensor, "b k"],
    pairs: Sequence[Target],
    of: Literal["logit", "probability"],
) -> Float[Tensor, "n k"]:
    """The gradient of each target's score with respect to its photograph's logits.

    In closed form and float64: a saturated probability has a tiny gradient, not none.
    """
    photographs = [photograph for photograph, _ in pairs]
    indices = torch.tensor([index for _, index in pairs], dtype=torch.long, device=logits.device)
    z = logits.detach()[photographs].double()
    one_hot = F.one_hot(indices, z.shape[1]).double()
    if of == "logit":
        gradient = one_hot
    elif classifier.multilabel:
        gradient = one_hot * z.sigmoid() * (-z).sigmoid()
    else:
        p = z.softmax(1)
        # 1 - p of the class as the sum of the others, which does not cancel when p is close to 1.
        others = (p * (1 - one_hot)).sum(1, keepdim=True)
        own = (p * one_hot).sum(1, keepdim=True)
        gradient = own * (one_hot * others - (1 - one_hot) * p)
    return gradient.to(logits.dtype)


def _rounds(pairs: Sequence[Target]) -> list[list[int]]:
    """Positions of the targets, grouped so that no group has two of one photograph."""
    rounds: list[list[int]] = []
    seen: dict[int, int] = {}
    for position, (photograph, _) in enumerate(pairs):
        turn = seen.get(photograph, 0)
        seen[photograph] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(position)
    return rounds


def _over_channels(gradient: Float[Tensor, "n 3 h w"], signed: bool) -> Float[Tensor, "n h w"]:
    if not signed:
        return gradient.abs().amax(1)
    largest = gradient.amax(1)
    return largest - largest.amin((1, 2), keepdim=True)

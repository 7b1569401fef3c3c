"""Saliency by sharing the class score out, layer by layer, down to the photograph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.passes import Pass, Wanted, scripted
from gradcut.network.rules import AlphaBeta, Box, Composite, Epsilon, Flat, Gamma
from gradcut.network.view import View
from gradcut.saliency.gradients import PixelMethod
from gradcut.saliency.maps import above_least
from gradcut.saliency.targets import Score, Targets, backpropagate, check_score, resolve

_PLUS = Composite(AlphaBeta(1.0, 0.0), Epsilon(), Flat())
_SMALL_GAMMA = Composite(Gamma(0.25), Gamma(0.05))


@dataclass(frozen=True)
class LRP(PixelMethod):
    """Layer-wise relevance propagation (Bach et al. 2015).

    The score is shared out among what each function of the network was given, back to the photograph, by the rules of a
    composite; `gradcut.network.relevance` has their formulas. What a layer's bias has added is shared out with the
    rest, or kept by it, as the rule says; in a network without biases relevance sums to the score, under the rule
    epsilon and every other. By default z+ in convolutions, epsilon in linear layers, and flat in the first layer:
    zennit's ``EpsilonPlusFlat``. The map is the sum over the channels, and 0 where that is negative.

    Needs a linear layer or a convolution. Costs one forward pass, and as many backward passes as the largest number of
    classes in one photograph, in each of which a layer takes about twice what it takes of a plain one.

    Args:
        of: which score, see `Score`: what is shared out is its gradient at the logits times these.
        composite: which rule each layer gets.
        signed: True keeps the sum's signs, and shifts the map so that its least value is 0.
    """

    of: Score = "logit"
    composite: Composite = _PLUS
    signed: bool = False

    def __post_init__(self) -> None:
        check_score(self.of)

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The relevance, channel by channel, with its sign."""
        classifier = view.classifier
        with torch.inference_mode(False), torch.enable_grad():
            made = view.watch(Wanted(gradients=True, relevance=_bounded(self.composite, classifier)))
            outside = self._seen(classifier, made)
            pairs = resolve(targets, made.logits)
            inputs = [made.x] if outside is None else [made.x, outside]
            found = backpropagate(classifier, made.logits, pairs, self.of, inputs)
        relevance = found[0] * made.x.detach()[[photograph for photograph, _ in pairs]]
        return relevance if outside is None else relevance + found[1]

    def over_channels(self, attribution: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        value = attribution.sum(1)
        return above_least(value) if self.signed else value.clamp(min=0)

    def _seen(self, classifier: Classifier, made: Pass) -> Tensor | None:
        """What the first layer's own rule gives relevance to.

        Raises:
            SaliencyError: the network shows nothing that a rule is for.
        """
        relevance = made.relevance
        assert relevance is not None
        if not relevance.layers:
            why = (
                "is a TorchScript module, whose functions cannot be seen" if scripted(classifier.model) else "has none"
            )
            raise SaliencyError(
                f"{type(self).__name__} needs a linear layer or a convolution; {classifier.name} {why}. "
                "GradientXInput() works with any"
            )
        return relevance.outside


@dataclass(frozen=True)
class AttnLRP(LRP):
    """Relevance through attention (AttnLRP, Achtibat et al. 2024): `LRP` with the rules for transformers.

    Half of the relevance of attention times values goes to either; through the softmax it goes as its Taylor expansion
    says, ``R_i = x_i (R'_i - s_i sum R')``; normalisations count as linear, with what they divide by as given; all of
    an activation's goes through it. Gamma, small in linear layers, keeps out noise. `LRP` has all these rules but the
    composite: it may be given this one's. Needs attention. Costs as much as `LRP`.

    Args:
        of, composite, signed: as for `LRP`; ``Composite(attention="constant")`` is CP-LRP's.
    """

    composite: Composite = _SMALL_GAMMA

    def _seen(self, classifier: Classifier, made: Pass) -> Tensor | None:
        outside = super()._seen(classifier, made)
        assert made.relevance is not None
        if not made.relevance.attends:
            raise SaliencyError(
                f"AttnLRP needs a network with attention; {classifier.name} has none. LRP() does without"
            )
        return outside


def _bounded(composite: Composite, classifier: Classifier) -> Composite:
    """The composite with the bounds of `Box` that the classifier's preparation has, where none are given."""
    if not isinstance(composite.first, Box):
        return composite
    box = composite.first
    low = classifier.prepared((0.0,) * 3) if box.low is None else box.low
    high = classifier.prepared((1.0,) * 3) if box.high is None else box.high
    return replace(composite, first=replace(box, low=low, high=high))

"""The classifier's own head at every place of a transformer, whose last attention is replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.errors import SaliencyError, check_least
from gradcut.network.blocks import at_places
from gradcut.network.replay import Replacement
from gradcut.network.view import View
from gradcut.saliency.gradients import decided
from gradcut.saliency.maps import Size, resized, wide
from gradcut.saliency.method import GridMethod
from gradcut.saliency.targets import Targets


@dataclass(frozen=True)
class DenseProbability(GridMethod):
    """How probable the class is by the classifier's own head, applied to the features of every place.

    The head is given a place as if all the others, and class and register tokens, were like it: whether it reads the
    class token, the mean or a pool by attention, it then answers to that place. In transformers, CLIP's above all, the
    last layer's attention gathers what the class token needs, and places are left with little of their own; so it is
    replaced, in one of four ways (`gradcut.network.replay.Replaced` has the formulas):

    - ``"maskclip"`` (Zhou et al. 2022): a place's own value.
    - ``"sclip"`` (Wang et al. 2023): places attend to those of like queries and of like keys.
    - ``"clearclip"`` (Lan et al. 2024): to those of like queries, and the last block has neither its residual
      connections nor its perceptron.
    - ``"naclip"`` (Hajimiri et al. 2024): to those of like keys and to neighbours, the last block as in ClearCLIP.

    Softmax or sigmoid as the classifier has it; of a group of labels, the probability of any of them. Needs a last map
    of more than one place that the head can read place by place and, unless ``attention`` is None, attention among all
    the places. Costs one forward pass, and one more where the targets are a function.

    Args:
        attention: how the last one is replaced; None leaves it as it is, which any network has.
        deviation: standard deviation of NACLIP's Gaussian, in places; the paper's is 5.
    """

    attention: Replacement | None = "naclip"
    deviation: float = 5.0

    def __post_init__(self) -> None:
        if self.attention is not None and self.attention not in get_args(Replacement):
            ways = ", ".join(map(repr, get_args(Replacement)))
            raise SaliencyError(f"attention: expected {ways} or None, got {self.attention!r}")
        check_least(SaliencyError, self, deviation=1e-3)

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        return resized(self.coarse(view, targets), size)

    def coarse(self, view: View, targets: Targets) -> Float[Tensor, "n gh gw"]:
        classifier = view.classifier
        with torch.no_grad():
            pairs = decided(view, targets)
            logits = wide(at_places(view, self.attention, self.deviation))
            probabilities = logits.sigmoid() if classifier.multilabel else logits.softmax(1)
            maps = probabilities.new_zeros(len(pairs), *logits.shape[2:])
            for row, (photograph, members) in enumerate(pairs):
                chosen = probabilities[photograph, list(members)]
                maps[row] = 1 - (1 - chosen).prod(0) if classifier.multilabel and len(members) > 1 else chosen.sum(0)
            return maps

"""Saliency from the gradients with respect to the photograph and to every bias on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge

from gradcut.errors import SaliencyError
from gradcut.network.passes import Wanted
from gradcut.network.view import View
from gradcut.saliency.maps import above_least, relative, upsampled, wide
from gradcut.saliency.method import Method
from gradcut.saliency.targets import Score, Targets, backward_passes, check_score, of_photographs, resolve


@dataclass(frozen=True)
class FullGrad(Method):
    """FullGrad (Srinivas & Fleuret 2019): the photograph's part of the score, and that of every bias.

    ``sum_c psi(x_c dS/dx_c) + sum_l sum_k psi(b_lk dS/dz_lk)`` over the layers l with biases b, convolutions and batch
    norms with fixed statistics, and their channels k; z is what the bias is added to, and psi takes absolute values,
    brings each channel to [0, 1] and resizes it to the photograph. Without psi the parts sum to the score of a network
    of ReLUs (with those of the linear layers, which have no places). Needs such a layer that makes a map. Costs one
    forward pass, and as many backward passes as the largest number of classes in one photograph.

    Args:
        of: which score, see `Score`.
    """

    of: Score = "logit"

    def __post_init__(self) -> None:
        check_score(self.of)

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        classifier, size = view.classifier, view.x.shape[2:]
        with torch.inference_mode(False), torch.enable_grad():
            made = view.watch(Wanted(gradients=True, biases=True))
            if not made.biases:
                raise SaliencyError(
                    f"FullGrad needs a convolution or a batch norm with biases; {classifier.name} shows none. "
                    "GradientXInput() works with any"
                )
            pairs = resolve(targets, made.logits)
            maps = wide(made.logits.new_zeros(len(pairs), *size))
            inputs: list[Tensor | GradientEdge] = [made.x, *(bias.edge for bias in made.biases)]
            for rows, photographs, found in backward_passes(classifier, made.logits, pairs, self.of, inputs):
                with torch.no_grad():
                    x = wide(of_photographs(made.x.detach(), photographs))
                    maps[rows] += _scaled(x * of_photographs(found[0], photographs))
                    for bias, gradient in zip(made.biases, found[1:], strict=True):
                        if gradient.ndim == 4:  # else the logits do not depend on it
                            part = wide(bias.values)[:, None, None] * of_photographs(gradient, photographs)
                            maps[rows] += upsampled(_scaled(part), size)
        return maps


def _scaled(parts: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """The sum of the channels' absolute values, each channel brought to [0, 1]."""
    channels = relative(above_least(parts.abs().flatten(0, 1)))
    return channels.view_as(parts).sum(1)

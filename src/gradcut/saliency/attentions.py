"""Saliency of vision transformers from their attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.attention import Attended
from gradcut.network.layouts import Layout
from gradcut.network.passes import Wanted, scripted
from gradcut.network.view import View
from gradcut.saliency.maps import upsampled, wide
from gradcut.saliency.method import Method
from gradcut.saliency.targets import Score, Targets, backpropagate, check_score, resolve


@dataclass(frozen=True)
class AttentionRollout(Method):
    """Attention rollout (Abnar & Zuidema 2020): the product over the layers of ``(mean over heads of A + I) / 2``.

    The class token's row of it, or the mean of the rows where the classifier averages the tokens. It says where
    the network looks, whatever the class: all the targets of one photograph get the same map. Needs attention
    over all the tokens in every layer. Costs one forward pass.
    """

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        with torch.no_grad():
            made = view.watch(Wanted(attention=True))
            layers, layout = _global(view.classifier, made.attention)
            photographs = [photograph for photograph, _ in resolve(targets, made.logits)]
            mixed = [(wide(layer.mean(1)) + _identity(layer)) / 2 for layer in layers]
            rolled = mixed[0]
            for layer in mixed[1:]:
                rolled = layer @ rolled
            return upsampled(_rows(view.classifier, layout, rolled)[photographs], view.x.shape[2:])


@dataclass(frozen=True)
class AttentionGradient(Method):
    """Attention weighed by its gradient and rolled out (Chefer et al. 2021, "Generic Attention-model Explainability").

    ``R <- R + mean over heads of ReLU(G * A) R``, from the identity, layer by layer, with the gradient G of the class
    score with respect to the attention A. Needs attention over all the tokens in every layer. Costs one
    forward pass, and as many backward passes as the largest number of classes in one photograph.

    Args:
        of: which score, see `Score`.
    """

    of: Score = "logit"

    def __post_init__(self) -> None:
        check_score(self.of)

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        classifier = view.classifier
        with torch.inference_mode(False), torch.enable_grad():
            made = view.watch(Wanted(from_attention=True))
            layers, layout = _global(classifier, made.attention)
            pairs = resolve(targets, made.logits)
            gradients = backpropagate(classifier, made.logits, pairs, self.of, layers)
        with torch.no_grad():
            photographs = [photograph for photograph, _ in pairs]
            rolled = _identity(layers[0]).expand(len(pairs), -1, -1)
            start = rolled
            for layer, gradient in zip(layers, gradients, strict=True):
                relevance = wide((gradient * layer.detach()[photographs]).clamp(min=0).mean(1))
                rolled = rolled + relevance @ rolled
            return upsampled(_rows(classifier, layout, rolled - start).clamp(min=0), view.x.shape[2:])


def _global(classifier: Classifier, attention: Sequence[Attended]) -> tuple[list[Tensor], Layout]:
    """The attention of the layers, each between all the tokens, and how the places lie in these."""
    layers = [layer.weights for layer in attention]
    if layers and len({layer.shape[:1] + layer.shape[2:] for layer in layers}) == 1:
        rows, columns = layers[0].shape[2:]
        layout = attention[0].layout
        if rows == columns and layout is not None:
            return layers, layout
    raise SaliencyError(
        f"attention needs a classifier in whose every layer all the tokens attend to all; {classifier.name} has "
        f"attention {_where(classifier, attention)}. GradCAM() works with any that has a feature map, Gradient() with "
        "any at all"
    )


def between_places(
    classifier: Classifier, attention: Sequence[Attended], photographs: int, method: str
) -> tuple[list[Float[Tensor, "b heads t t"]], Layout]:
    """The layers in which all the places of one grid attend to all, and how that grid lies in the tokens.

    Layers of windows, and of queries that are no places, as a pooling head's, are left out; of several grids, the
    last counts.

    Raises:
        SaliencyError: there is no such layer; it names the method that needs one.
    """
    whole = [
        (weights, layout)
        for weights, layout in attention
        if layout is not None and weights.shape[2] == weights.shape[3] and len(weights) == photographs
    ]
    if not whole:
        raise SaliencyError(
            f"{method} needs a classifier with a layer in which all the places attend to all; {classifier.name} has "
            f"attention {_where(classifier, attention)}. A walk over Features() works with any that has a feature map"
        )
    last = whole[-1][1]
    return [weights for weights, layout in whole if layout == last], last


def _where(classifier: Classifier, attention: Sequence[Attended]) -> str:
    if scripted(classifier.model):
        return "out of sight, being a TorchScript module"
    sizes = sorted({tuple(layer.weights.shape[2:]) for layer in attention})
    return f"among {', '.join(f'{rows} by {columns}' for rows, columns in sizes)} tokens" if sizes else "nowhere"


def _identity(layer: Float[Tensor, "b heads t t"]) -> Float[Tensor, "t t"]:
    return torch.eye(layer.shape[-1], dtype=wide(layer).dtype, device=layer.device)


def _rows(classifier: Classifier, layout: Layout, rolled: Float[Tensor, "n t t"]) -> Float[Tensor, "n gh gw"]:
    """What the token, or the tokens, that the head reads have taken from every place of the grid."""
    read = rolled[:, layout.prefix :].mean(1) if _averages(classifier.model, layout.prefix) else rolled[:, 0]
    return read[:, layout.prefix :].reshape(-1, layout.h, layout.w)


def _averages(model: nn.Module, prefix: int) -> bool:
    """Whether the head reads the grid's mean: timm's say so, others do if there is no token before the grid."""
    for module in model.modules():
        if isinstance(getattr(module, "num_prefix_tokens", None), int):
            pool = getattr(module, "global_pool", "token")
            return prefix == 0 or pool != "token"
    return prefix == 0

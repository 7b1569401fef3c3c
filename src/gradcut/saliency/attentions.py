"""Saliency of vision transformers from their attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.forward import ForwardPass, Layout, fresh, run, scripted
from gradcut.saliency.cams import upsampled
from gradcut.saliency.targets import Score, Targets, backpropagate, check_score, resolve


@dataclass(frozen=True)
class AttentionRollout:
    """Attention rollout (Abnar & Zuidema 2020): the product over the layers of ``(mean over heads of A + I) / 2``.

    The class token's row of it, or the mean of the rows where the classifier averages the tokens. It says where
    the network looks, whatever the class: all the targets of one photograph get the same map. Needs attention
    over all the tokens in every layer. Costs one forward pass.
    """

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        with torch.no_grad():
            seen = ForwardPass(x, attention=True)
            logits = run(classifier, fresh(classifier, x), seen)
            layers = _global(classifier, seen)
            photographs = [photograph for photograph, _ in resolve(targets, logits)]
            mixed = [(layer.mean(1).to(x.dtype) + _one(layer, x)) / 2 for layer in layers]
            rolled = mixed[0]
            for layer in mixed[1:]:
                rolled = layer @ rolled
            return upsampled(_rows(classifier, seen, rolled)[photographs], x)


@dataclass(frozen=True)
class AttentionGradient:
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

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        with torch.inference_mode(False), torch.enable_grad():
            seen = ForwardPass(x, attention=True)
            logits = run(classifier, fresh(classifier, x), seen)
            layers = _global(classifier, seen)
            pairs = resolve(targets, logits)
            gradients = backpropagate(classifier, logits, pairs, self.of, layers)
        with torch.no_grad():
            photographs = [photograph for photograph, _ in pairs]
            rolled = _one(layers[0], x).expand(len(pairs), -1, -1)
            start = rolled
            for layer, gradient in zip(layers, gradients, strict=True):
                relevance = (gradient * layer.detach()[photographs]).clamp(min=0).mean(1).to(x.dtype)
                rolled = rolled + relevance @ rolled
            return upsampled(_rows(classifier, seen, rolled - start).clamp(min=0), x)


def _global(classifier: Classifier, seen: ForwardPass) -> list[Tensor]:
    """The attention of the layers, each between all the tokens."""
    layers = seen.attention or []
    sizes = {tuple(layer.shape[2:]) for layer in layers}
    whole = len(sizes) == 1 and all(rows == columns and seen.token_grid(rows) is not None for rows, columns in sizes)
    if whole and all(layer.shape[0] == layers[0].shape[0] for layer in layers):
        return layers
    raise SaliencyError(
        f"attention needs a classifier in whose every layer all the tokens attend to all; {classifier.name} has "
        f"attention {_where(classifier, seen)}. GradCAM() works with any that has a feature map, Gradient() with any "
        "at all"
    )


def between_places(
    classifier: Classifier, seen: ForwardPass, photographs: int
) -> tuple[list[Float[Tensor, "b heads t t"]], Layout]:
    """The layers in which all the places of one grid attend to all, and how that grid lies in the tokens.

    Layers of windows, and of queries that are no places, as a pooling head's, are left out; of several grids, the
    last counts.

    Raises:
        SaliencyError: there is no such layer.
    """
    found: list[tuple[Tensor, Layout]] = []
    for layer in seen.attention or []:
        rows, columns = layer.shape[2:]
        layout = seen.token_grid(rows)
        if rows == columns and layout is not None and len(layer) == photographs:
            found.append((layer, layout))
    if not found:
        raise SaliencyError(
            "AttentionAffinity needs a classifier with a layer in which all the places attend to all; "
            f"{classifier.name} has attention {_where(classifier, seen)}. Affinity() works with any that has a "
            "feature map"
        )
    last = found[-1][1]
    return [layer for layer, layout in found if layout == last], last


def _where(classifier: Classifier, seen: ForwardPass) -> str:
    if scripted(classifier.model):
        return "out of sight, being a TorchScript module"
    sizes = sorted({tuple(layer.shape[2:]) for layer in seen.attention or []})
    return f"among {', '.join(f'{rows} by {columns}' for rows, columns in sizes)} tokens" if sizes else "nowhere"


def _one(layer: Float[Tensor, "b heads t t"], x: Tensor) -> Float[Tensor, "t t"]:
    return torch.eye(layer.shape[-1], dtype=x.dtype, device=x.device)


def _rows(classifier: Classifier, seen: ForwardPass, rolled: Float[Tensor, "n t t"]) -> Float[Tensor, "n gh gw"]:
    """What the token, or the tokens, that the head reads have taken from every place of the grid."""
    layout = seen.token_grid(rolled.shape[1])
    assert layout is not None
    read = rolled[:, layout.prefix :].mean(1) if _averages(classifier.model, layout.prefix) else rolled[:, 0]
    return read[:, layout.prefix :].reshape(-1, layout.h, layout.w)


def _averages(model: nn.Module, prefix: int) -> bool:
    """Whether the head reads the grid's mean: timm's say so, others do if there is no token before the grid."""
    for module in model.modules():
        if isinstance(getattr(module, "num_prefix_tokens", None), int):
            pool = getattr(module, "global_pool", "token")
            return prefix == 0 or pool != "token"
    return prefix == 0

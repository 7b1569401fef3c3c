"""Saliency of vision transformers from their attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError, check_least
from gradcut.network.attention import Attended, between_all
from gradcut.network.blocks import means_of_blocks, mixing_blocks
from gradcut.network.layouts import Layout
from gradcut.network.passes import Wanted, scripted
from gradcut.network.view import View
from gradcut.saliency.gradients import decided
from gradcut.saliency.maps import Size, above_least, resized, wide
from gradcut.saliency.method import GridMethod
from gradcut.saliency.targets import Score, Targets, backpropagate, backward_passes, check_score, resolve


@dataclass(frozen=True)
class AttentionRollout(GridMethod):
    """Attention rollout (Abnar & Zuidema 2020): the product over the layers of ``(mean over heads of A + I) / 2``.

    The class token's row of it, or the mean of the rows where the classifier averages the tokens. It says where
    the network looks, whatever the class: all the targets of one photograph get the same map. Needs attention
    over all the tokens in every layer. Costs one forward pass.
    """

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        with torch.no_grad():
            made = view.watch(Wanted(attention=True))
            layers, layout = _global(view.classifier, made.attention)
            photographs = [photograph for photograph, _ in resolve(targets, made.logits)]
            mixed = [(wide(layer.mean(1)) + _identity(layer)) / 2 for layer in layers]
            rolled = mixed[0]
            for layer in mixed[1:]:
                rolled = layer @ rolled
            return resized(_rows(view.classifier, layout, rolled)[photographs], size)


@dataclass(frozen=True)
class AttentionGradient(GridMethod):
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

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
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
            return resized(_rows(classifier, layout, rolled - start).clamp(min=0), size)


@dataclass(frozen=True)
class LeGrad(GridMethod):
    """The attention's gradient alone, layer by layer (Bousselham et al. 2024).

    For each of the last ``layers`` blocks the head reads the mean of the tokens that the block puts out; the gradient
    of the class score there with respect to that block's own attention, negative values 0, is averaged over heads and
    queries, and summed over the blocks, less its minimum. Needs attention among all the places, and a head that can
    read one token. Costs one forward pass, one more where the targets are a function, and as many backward passes, each
    through those blocks, as the largest number of classes in one photograph.

    The paper takes, of heads that pool by attention, the gradient of that attention; here such a head reads the mean as
    any other does.

    Args:
        of: which score, see `Score`.
        layers: how many, counted from the last; 2 as in the paper's public code. All, if they are fewer.
    """

    of: Score = "logit"
    layers: int = 2

    def __post_init__(self) -> None:
        check_score(self.of)
        check_least(SaliencyError, self, layers=1)

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        pairs = decided(view, targets)
        batch = len(view.x)
        with torch.inference_mode(False), torch.enable_grad():
            logits, attention, layout = means_of_blocks(view, self.layers)
            each = [(layer * batch + b, members) for layer in range(len(attention)) for b, members in pairs]
            maps = wide(logits.new_zeros(len(pairs), layout.h, layout.w))
            for chosen, rows, gradients in backward_passes(view.classifier, wide(logits), each, self.of, attention):
                for position, row in zip(chosen, rows, strict=True):
                    gradient = gradients[row // batch][row % batch].clamp(min=0).mean((0, 1))
                    maps[position % len(pairs)] += gradient[layout.prefix :].view(layout.h, layout.w)
        return resized(above_least(maps), size)


@dataclass(frozen=True)
class BeyondIntuition(GridMethod):
    """How tokens mix, and how the class answers to it (Chen et al. 2023, "Beyond Intuition", token-wise).

    ``R <- R + A diag(|v_j| / |z_j|) R``, from the identity, over the last ``layers`` blocks: A is the mean over heads
    of the attention, z a token as it goes into the block, v its value by the attention's projection. Then ``W |R|``,
    value by value, where W is the gradient of the class score with respect to the last block's attention, averaged over
    ``steps`` photographs from the mean colour to the photograph itself, negative values 0, and over heads; of that the
    class token's row, or the mean of the rows where the classifier averages the tokens. Needs attention among all the
    places. Costs ``steps + 1`` forward passes, and ``steps`` times as many backward passes as the largest number of
    classes in one photograph.

    Args:
        of: which score, see `Score`.
        layers: how many, counted from the last; None takes half of them, as the paper's public code does of 12.
        steps: of the gradient's average.
    """

    of: Score = "logit"
    layers: int | None = None
    steps: int = 20

    def __post_init__(self) -> None:
        check_score(self.of)
        check_least(SaliencyError, self, steps=1)
        if self.layers is not None:
            check_least(SaliencyError, self, layers=1)

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        classifier, x = view.classifier, view.x
        with torch.no_grad():
            logits, blocks, layout = mixing_blocks(view, self.layers)
            pairs = resolve(targets, logits)
            mixed = _identity(blocks[0].attention).expand(len(x), -1, -1)
            for A, v, z in blocks:
                weight = wide(v).norm(dim=2) / wide(z).norm(dim=2).clamp(min=torch.finfo(torch.float32).tiny)
                mixed = mixed + (wide(A.mean(1)) * weight[:, None]) @ mixed
        total = torch.zeros((), device=x.device)
        for part in torch.linspace(0, 1, self.steps).tolist():
            with torch.inference_mode(False), torch.enable_grad():
                made = View(classifier, x * part).watch(Wanted(from_attention=True))
                last = between_places(classifier, made.attention, len(x), "BeyondIntuition")[0][-1]
                (gradient,) = backpropagate(classifier, made.logits, pairs, self.of, [last])
            total = total + gradient / self.steps
        with torch.no_grad():
            answered = total.clamp(min=0).mean(1) * mixed.abs()[[photograph for photograph, _ in pairs]]
            return resized(_rows(classifier, layout, answered), size)


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
    """The attention of `between_all`, and how the grid of its places lies in the tokens.

    Raises:
        SaliencyError: there is no such layer; it names the method that needs one.
    """
    whole = between_all(attention, photographs)
    if not whole:
        raise SaliencyError(
            f"{method} needs a classifier with a layer in which all the places attend to all; {classifier.name} has "
            f"attention {_where(classifier, attention)}. A walk over Features() works with any that has a feature map"
        )
    layout = whole[-1].layout
    assert layout is not None
    return [layer.weights for layer in whole], layout


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

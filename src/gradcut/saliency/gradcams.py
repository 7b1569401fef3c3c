"""Class activation maps by the gradient: maps inside the network, weighed by how the class score answers to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.words import words_of
from gradcut.errors import SaliencyError, check_least
from gradcut.network.blocks import mean_of_places
from gradcut.network.layers import pass_from_maps
from gradcut.network.layouts import Layout
from gradcut.network.passes import gradients
from gradcut.network.view import View
from gradcut.saliency.gradients import GuidedBackprop, PixelMethod, check_pixels, decided
from gradcut.saliency.maps import Size, above_least, relative, resized, wide
from gradcut.saliency.method import GridMethod, explained
from gradcut.saliency.targets import (
    Remembered,
    Saliency,
    Score,
    Target,
    Targets,
    backward_passes,
    check_score,
    of_photographs,
    resolve,
    rounds,
    scores,
)


@dataclass(frozen=True)
class GradCAM(GridMethod):
    """Grad-CAM (Selvaraju et al. 2017): each channel weighed by its gradient's mean.

    ``ReLU(sum_k mean(G_k) A_k)`` of a map A and the gradient G of the class score with respect to it. Equals `CAM` up
    to one factor where that applies. Needs a map inside the network. Costs one forward pass, and as many
    backward passes, from the logits to the map only, as the largest number of classes in one photograph.

    Args:
        of: which score, see `Score`.
        layers: 1 takes the last map, found without naming it: in a vision transformer with a class token,
            the last tokens that the logits depend on. A larger number takes the last map of each of the
            last so many resolutions; a name or several (as in ``model.named_modules()``) the last map that
            is made in each of those modules; ``"before attention"`` the last before the last layer in which all the
            places attend to all, that is after the first norm of a transformer's last block.
        fuse: how the maps of several layers, each divided by its maximum, become one: ``"mean"``, ``"max"`` or
            ``"product"``, which takes each less its minimum (as `RefineCAM`).
    """

    of: Score = "logit"
    layers: int | str | tuple[str, ...] = 1
    fuse: Literal["mean", "max", "product"] = "mean"
    twice: ClassVar[bool] = False  # whether what follows the map is differentiated twice

    def __post_init__(self) -> None:
        check_score(self.of)
        names = (self.layers,) if isinstance(self.layers, str) else self.layers
        several = isinstance(names, tuple | list) and len(names) > 0 and all(isinstance(name, str) for name in names)
        if not several and (not isinstance(names, int) or isinstance(names, bool) or names < 1):
            raise SaliencyError(f"layers: expected a number from 1, a name or a tuple of names, got {self.layers!r}")
        if self.fuse not in ("mean", "max", "product"):
            raise SaliencyError(f"fuse: expected 'mean', 'max' or 'product', got {self.fuse!r}")

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        layers = (self.layers,) if isinstance(self.layers, str) else self.layers
        with torch.inference_mode(False), torch.enable_grad():
            made, places = pass_from_maps(view, layers, type(self).twice)
            pairs = resolve(targets, made.logits)
            maps = self.at_layers(view.classifier, made.logits, pairs, [place.layout for place in places], made.cut)
        with torch.no_grad():
            return fused([resized(coarse, size) for coarse in maps], self.fuse)

    def at_layers(
        self,
        classifier: Classifier,
        logits: Float[Tensor, "b classes"],
        pairs: Sequence[Target],
        layouts: Sequence[Layout],
        cut: Sequence[Tensor],
    ) -> list[Float[Tensor, "n _ _"]]:
        """For each of the tensors at which the graph was cut the targets' maps at its own grid."""
        return _weighed(classifier, logits, pairs, self.of, layouts, cut, self.weighted)

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        """The weighted sum of the channels; what is negative in it counts as 0."""
        return torch.einsum("nc,nchw->nhw", G.mean((2, 3)), A)


def fused(maps: Sequence[Float[Tensor, "n h w"]], how: str) -> Float[Tensor, "n h w"]:
    """The maps of several layers as one, as `GradCAM.fuse` says; a single layer's as they are."""
    if len(maps) == 1:
        return maps[0]
    if how == "product":
        return torch.stack([relative(above_least(each)) for each in maps]).prod(0)
    each_relative = torch.stack([relative(each) for each in maps])
    return each_relative.mean(0) if how == "mean" else each_relative.amax(0)


def _weighed(
    classifier: Classifier,
    logits: Tensor,
    pairs: Sequence[Target],
    of: Score,
    layouts: Sequence[Layout],
    cut: Sequence[Tensor],
    weighted: Callable[[Tensor, Tensor], Tensor],
) -> list[Float[Tensor, "n _ _"]]:
    """For each of the cut tensors the targets' maps, of which ``weighted`` gives the sum over the channels."""
    maps = [wide(logits.new_zeros(len(pairs), layout.h, layout.w)) for layout in layouts]
    features = [layout.of(tensor.detach()) for layout, tensor in zip(layouts, cut, strict=True)]
    for rows, photographs, found in backward_passes(classifier, logits, pairs, of, cut):
        with torch.no_grad():
            for i, (layout, gradient) in enumerate(zip(layouts, found, strict=True)):
                G = layout.of(gradient)
                if features[i].stride() != G.stride() or features[i].dtype != G.dtype:
                    features[i] = torch.empty_like(G).copy_(features[i])  # lies as G does: faster, K times
                A, G = (of_photographs(value, photographs) for value in (features[i], G))
                maps[i][rows] = weighted(A, G).clamp(min=0).to(maps[i].dtype)  # autocast has its own
    return maps


@dataclass(frozen=True)
class SoftmaxGradCAM(GridMethod):
    """CLIP-ES's Grad-CAM of a classifier of words (Lin et al. 2023).

    `GradCAM` of the tokens before the last attention, that is after the last block's first norm, with three
    differences: the score is the class's share of the softmax among the words that are asked for in the photograph and
    the background words; the image's embedding is not that of the class token but the mean over the places of theirs,
    as the paper's public code has it; and the map's minimum is subtracted. Costs two forward passes, one more where the
    targets are a function, and as many backward passes, from the logits to the tokens only, as the largest number of
    classes in one photograph.

    Args:
        of: which score, see `Score`.
    """

    of: Score = "share"

    def __post_init__(self) -> None:
        check_score(self.of)

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        return resized(self.coarse(view, targets), size)

    def coarse(self, view: View, targets: Targets) -> Float[Tensor, "n gh gw"]:
        self.resolved(view.classifier)
        pairs = decided(view, targets)
        with torch.inference_mode(False), torch.enable_grad():
            logits, tokens, layout = mean_of_places(view)
            (maps,) = _weighed(view.classifier, logits, pairs, self.of, [layout], [tokens], GradCAM().weighted)
        with torch.no_grad():
            return above_least(maps)

    def resolved(self, classifier: Classifier) -> Saliency:
        """Itself.

        Raises:
            SaliencyError: the classifier is not one of words.
        """
        if words_of(classifier.model) is None:
            raise SaliencyError(
                f"SoftmaxGradCAM needs a classifier of words, such as hf/openai/clip-vit-base-patch16, and "
                f"{classifier.name} has classes of its own; GradCAM() and the recipe default work with any"
            )
        return self


@dataclass(frozen=True)
class GradCAMPlusPlus(GradCAM):
    """Grad-CAM++ (Chattopadhay et al. 2018): the positive gradients alone, weighed so that every instance counts.

    ``alpha = G^2 / (2 G^2 + sum(A) G^3)``, channel weight ``sum(alpha ReLU(G))``, as in the paper for
    the exponential of the logit, whose common factor is left out. Needs and costs as much as `GradCAM`.
    """

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        positive = G.clamp(min=0)  # where G is negative ReLU(G) is 0, whatever alpha
        squared = positive * positive
        denominator = (positive * A.sum((2, 3), keepdim=True)).add_(2).mul_(squared).add_(1e-6)
        return torch.einsum("nc,nchw->nhw", squared.mul_(positive).div_(denominator).sum((2, 3)), A)


@dataclass(frozen=True)
class LayerCAM(GradCAM):
    """LayerCAM (Jiang et al. 2021): every place of every channel weighed by its own positive gradient.

    ``ReLU(sum_k ReLU(G_k) A_k)``, which also works on fine, early maps: ``LayerCAM(layers=3)``. Needs and costs as
    much as `GradCAM`, but with several layers the backward passes go on to the earliest.
    """

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        return (G.clamp(min=0) * A).sum(1)


@dataclass(frozen=True)
class HiResCAM(GradCAM):
    """HiResCAM (Draelos & Carin 2020): every place of every channel weighed by its own gradient.

    ``ReLU(sum_k G_k A_k)``, faithful to what the classifier computes where the rest of the network is linear. Needs
    and costs as much as `GradCAM`.
    """

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        return (G * A).sum(1)


@dataclass(frozen=True)
class RefineCAM(GradCAMPlusPlus):
    """The product of `GradCAMPlusPlus` maps of several layers (RefineCAM 2026, as pytorch-grad-cam has it).

    ``prod_l M_l``, each less its minimum and divided by its maximum: what a coarse map leaves out, no fine one brings
    back. Needs and costs as much as `GradCAM` of those layers.
    """

    layers: int | str | tuple[str, ...] = 3
    fuse: Literal["mean", "max", "product"] = "product"


@dataclass(frozen=True)
class XGradCAM(GradCAM):
    """XGrad-CAM (Fu et al. 2020): the gradient's mean over the places, weighed by how much of the channel is there.

    ``ReLU(sum_k w_k A_k)``, ``w_k = sum(G_k A_k) / sum(A_k)``; a channel of zeros has the weight 0. Needs and costs as
    much as `GradCAM`, which it equals where the head is linear on the map's mean.
    """

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        A, G = wide(A), wide(G)
        weights = (G * A).sum((2, 3)) / (A.sum((2, 3)) + 1e-7)  # as pytorch-grad-cam keeps the quotient finite
        return torch.einsum("nc,nchw->nhw", weights, A)


@dataclass(frozen=True)
class Difference:
    """A `Score`: the class against those that the classifier finds most like it (Finer-CAM, Zhang et al. 2025).

    ``sum_i p_i (z_c - strength z_i) / sum_i p_i`` over the classes i whose logits are nearest to the class's own,
    log-sum-exp of a group's; p is the softmax over all classes.

    Args:
        strength: how much the others count; the paper's alpha.
        similar: how many others there are, or all if they are fewer.
    """

    strength: float = 1.0
    similar: int = 3

    def __post_init__(self) -> None:
        check_least(SaliencyError, self, strength=0.0, similar=1)

    def __call__(self, logits: Float[Tensor, " classes"], classes: tuple[int, ...]) -> Float[Tensor, ""]:
        others = torch.ones_like(logits, dtype=torch.bool)
        others[list(classes)] = False
        if not others.any():
            raise SaliencyError(f"of: {self!r} needs another class to compare with; the target has all of them")
        own = logits[list(classes)].logsumexp(0)
        away = (logits - own).abs().detach().masked_fill(~others, torch.inf)
        nearest = away.argsort(stable=True)[: min(self.similar, int(others.sum()))]
        p = logits.softmax(0)[nearest]
        return (p * (own - self.strength * logits[nearest])).sum() / (p.sum() + torch.finfo(p.dtype).tiny)


@dataclass(frozen=True)
class FinerCAM(GradCAM):
    """Finer-CAM (Zhang et al. 2025): `GradCAM` of what tells the class from its likes.

    The score is a `Difference`, which every other method that has an ``of`` takes too. Needs another class, and
    costs as much as `GradCAM`.
    """

    of: Score = Difference()


@dataclass(frozen=True)
class ShapleyCAM(GradCAM):
    """ShapleyCAM (Cai 2025): each channel weighed by its Shapley value to second order.

    ``ReLU(sum_k w_k A_k)``, ``w = mean over places of (G - H A / 2)``, with the Hessian H of the class score with
    respect to the map. Where the score is linear in the map, as under a linear head, H is 0 and it equals `GradCAM`.
    Needs what `GradCAM` needs, and a head that can be differentiated twice. Costs as much as `GradCAM`, with a second
    backward pass from the first one's result to the map.
    """

    twice: ClassVar[bool] = True

    def at_layers(
        self,
        classifier: Classifier,
        logits: Float[Tensor, "b classes"],
        pairs: Sequence[Target],
        layouts: Sequence[Layout],
        cut: Sequence[Tensor],
    ) -> list[Float[Tensor, "n _ _"]]:
        with torch.no_grad():
            features = [layout.of(tensor.detach()) for layout, tensor in zip(layouts, cut, strict=True)]
        maps = [wide(logits.new_zeros(len(pairs), layout.h, layout.w)) for layout in layouts]
        groups = {b: [members for other, members in pairs if other == b] for b, _ in pairs}
        values = {b: scores(classifier, logits[b : b + 1], groups[b], self.of)[0] for b in groups}
        for chosen in rounds(pairs):
            photographs = [pairs[n][0] for n in chosen]
            asked = [values[b][groups[b].index(members)] for b, members in (pairs[n] for n in chosen)]
            total = torch.stack(asked).sum()
            for i, (G, curved) in enumerate(curvature(classifier, total, cut)):
                with torch.no_grad():
                    weights = wide(layouts[i].of(G - curved / 2))[photographs].mean((2, 3))
                    A = wide(features[i])[photographs]
                    maps[i][chosen] = torch.einsum("nc,nchw->nhw", weights, A).clamp(min=0).to(maps[i].dtype)
        return maps


def curvature(classifier: Classifier, score: Tensor, cut: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For each of the tensors the score's gradient, and its Hessian, of that tensor alone, times the tensor."""
    firsts = gradients(classifier, score, cut, torch.ones_like(score), again=True, twice=True)
    found = []
    for tensor, first in zip(cut, firsts, strict=True):
        G = torch.zeros_like(tensor) if first is None else first
        second = None
        if G.requires_grad:
            (second,) = torch.autograd.grad(G, tensor, tensor.detach(), retain_graph=True, allow_unused=True)
        found.append((G.detach(), torch.zeros_like(G) if second is None else second.detach()))
    return found


_GUIDED = GuidedBackprop()


@dataclass(frozen=True)
class GuidedGradCAM(PixelMethod):
    """Guided Grad-CAM (Selvaraju et al. 2017): a fine map of pixels times a coarse map of the class.

    Needs and costs as much as its two methods together.

    Args:
        pixels: the fine one.
        regions: the coarse one.
    """

    pixels: PixelMethod = _GUIDED
    regions: Saliency = GradCAM()

    def __post_init__(self) -> None:
        check_pixels(self.pixels)

    def attribution(self, view: View, targets: Targets) -> Float[Tensor, "n 3 h w"]:
        """The product, channel by channel."""
        asked = Remembered(targets, self.regions)
        regions = explained(self.regions, view, asked)
        return self.pixels.attribution(view, asked.pairs) * regions[:, None]

    def over_channels(self, attribution: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        return self.pixels.over_channels(attribution)

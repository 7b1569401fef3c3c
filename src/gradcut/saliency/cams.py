"""Class activation maps: saliency from the maps inside the network, weighted by what the class makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import PlaceWeights, places_of
from gradcut.classifiers.words import words_of
from gradcut.errors import SaliencyError
from gradcut.known import Known
from gradcut.network.blocks import mean_of_places
from gradcut.network.layers import pass_from_maps
from gradcut.network.layouts import Layout
from gradcut.network.passes import Wanted
from gradcut.network.view import View
from gradcut.saliency.gradients import GuidedBackprop, PixelMethod, check_pixels, decided
from gradcut.saliency.maps import above_least, relative, upsampled, wide
from gradcut.saliency.method import Method, explained, resolved
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
    score_gradient,
)


@dataclass(frozen=True)
class CAM(Method):
    """Class activation map: a linear head's weights on the features before pooling (Zhou et al. 2016).

    ``ReLU(sum_k w_ck A_k)`` of the last map A. Exact where the logits are a linear function of the mean of that
    map, which is checked against the logits themselves. Costs one forward pass, no backward pass.

    Args:
        of: which score, see `Score`; its gradient at the logits weighs the classes' maps.
    """

    of: Score = "logit"

    def __post_init__(self) -> None:
        check_score(self.of)

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        with torch.no_grad():
            logits, features, weight = linear_head(view, "CAM")
            pairs = resolve(targets, logits)
            weights = score_gradient(view.classifier, logits, pairs, self.of) @ wide(weight)
            maps = weights.new_zeros(len(pairs), *features.shape[2:], dtype=wide(view.x[:0]).dtype)
            for photograph in {photograph for photograph, _ in pairs}:  # features are not copied for every target
                rows = [row for row, (other, _) in enumerate(pairs) if other == photograph]
                weighted = torch.einsum("nc,chw->nhw", weights[rows], wide(features[photograph]))
                maps[rows] = weighted.clamp(min=0).to(maps.dtype)  # autocast has its own
            return upsampled(maps, view.x.shape[2:])


@dataclass(frozen=True)
class PlaceProbability(Method):
    """How probable each place's class is, by the weights for places that `gradcut.fit.places` fitted with the head.

    The softmax over the head's labels and the background, of the features of the last map at each place; a group of
    labels has the sum of its members. A head fitted to whole photographs, as `CAM` shows it, finds what tells a
    photograph with the class from one without, surroundings too; these weights were fitted to tell places apart,
    and are not what the logits are made of. Where the classifier has none, the maps are those of ``otherwise``;
    `resolved` says which method that is, and so do records of results. Costs one forward pass.

    Args:
        otherwise: any saliency method, for classifiers without such weights.
    """

    otherwise: Saliency = field(default_factory=CAM)

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        places = places_of(view.classifier.model)
        if places is None:
            return explained(self.otherwise, view, targets)
        with torch.no_grad():
            logits, features, _ = linear_head(view, "PlaceProbability")
            probabilities = place_probabilities(features, places)
            pairs = resolve(targets, logits)
            maps = probabilities.new_zeros(len(pairs), *features.shape[2:])
            for row, (photograph, members) in enumerate(pairs):
                maps[row] = probabilities[photograph, list(members)].sum(0)
            return upsampled(maps, view.x.shape[2:])

    def resolved(self, classifier: Classifier) -> Saliency:
        return self if places_of(classifier.model) is not None else resolved(self.otherwise, classifier)


def place_probabilities(
    features: Float[Tensor, "b d gh gw"], places: PlaceWeights | nn.Linear
) -> Float[Tensor, "b k gh gw"]:
    """The probability of each label and, last, of the background at every place of the last map."""
    return place_logits(features, places).softmax(1)


def place_logits(features: Float[Tensor, "b d gh gw"], places: PlaceWeights | nn.Linear) -> Float[Tensor, "b k gh gw"]:
    """What the softmax of `place_probabilities` is of, in float32 at least."""
    features = wide(features)
    weight, bias = (values.to(features) for values in (places.weight, places.bias))
    return wide(F.conv2d(features, weight[:, :, None, None], bias))


class LinearHead(NamedTuple):
    """The logits, the last map, and the weights that make the one of the other's mean."""

    logits: Float[Tensor, "b n"]
    features: Float[Tensor, "b d gh gw"]
    weight: Float[Tensor, "n d"]


#: Heads that were found to be linear: for the size and number type of the photographs, and the weights.
_LINEAR: Known[bool] = Known()


def linear_head(view: View, method: str) -> LinearHead:
    """A forward pass, and what is linear at its end.

    Args:
        method: who needs it, for the message.

    Raises:
        SaliencyError: the logits are made in another way.
    """
    classifier, made = view.classifier, view.watch(Wanted(levels=1))
    logits, features, linear = made.logits, made.seen.feature_map, made.seen.linear
    if linear is not None:
        if features is not None and linear.weight.shape == (logits.shape[1], features.shape[1]):
            kind = (tuple(view.x.shape[1:]), features.dtype, id(linear.parameter))
            if _LINEAR.get(classifier.model, kind) or _is_linear(logits, features, linear.weight, linear.bias):
                _LINEAR.put(classifier.model, kind, True)
                return LinearHead(logits, features, linear.weight)
        elif linear.weight.shape == (logits.shape[1], made.seen.one_place):
            h, w = view.x.shape[2:]
            raise SaliencyError(
                f"{method} needs photographs whose last feature map has more than one place; {classifier.name}'s has "
                f"one from {h} by {w} pixels. Use larger ones (under MultiScale, larger scales), or Gradient(), which "
                "needs no map"
            )
    raise SaliencyError(
        f"{method} needs a classifier whose logits are a linear layer on the mean of its last feature map; "
        f"{classifier.name}'s are not. GradCAM() works with any that has a feature map, Gradient() with any at all"
    )


def _is_linear(logits: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the logits are those of the mean features, to 1e-3 of the largest or a few digits of the number type."""
    expected = F.linear(wide(features).mean((2, 3)), wide(weight), None if bias is None else wide(bias))
    tolerance = max(1e-3, *(4 * torch.finfo(values.dtype).eps for values in (logits, features)))
    largest = float(logits.abs().max())
    return torch.allclose(wide(expected), wide(logits), rtol=tolerance, atol=tolerance * largest)


@dataclass(frozen=True)
class GradCAM(Method):
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
        fuse: how the maps of several layers, each divided by its maximum, become one: ``"mean"`` or ``"max"``.
    """

    of: Score = "logit"
    layers: int | str | tuple[str, ...] = 1
    fuse: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        check_score(self.of)
        names = (self.layers,) if isinstance(self.layers, str) else self.layers
        several = isinstance(names, tuple | list) and len(names) > 0 and all(isinstance(name, str) for name in names)
        if not several and (not isinstance(names, int) or isinstance(names, bool) or names < 1):
            raise SaliencyError(f"layers: expected a number from 1, a name or a tuple of names, got {self.layers!r}")
        if self.fuse not in ("mean", "max"):
            raise SaliencyError(f"fuse: expected 'mean' or 'max', got {self.fuse!r}")

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        layers = (self.layers,) if isinstance(self.layers, str) else self.layers
        size = view.x.shape[2:]
        with torch.inference_mode(False), torch.enable_grad():
            made, places = pass_from_maps(view, layers)
            pairs = resolve(targets, made.logits)
            layouts = [place.layout for place in places]
            maps = _weighed(view.classifier, made.logits, pairs, self.of, layouts, made.cut, self.weighted)
        with torch.no_grad():
            maps = [upsampled(coarse, size) for coarse in maps]
            if len(maps) == 1:
                return maps[0]
            fused = torch.stack([relative(each) for each in maps])
            return fused.mean(0) if self.fuse == "mean" else fused.amax(0)

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        """The weighted sum of the channels; what is negative in it counts as 0."""
        return torch.einsum("nc,nchw->nhw", G.mean((2, 3)), A)


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
    for rows, photographs, gradients in backward_passes(classifier, logits, pairs, of, cut):
        with torch.no_grad():
            for i, (layout, gradient) in enumerate(zip(layouts, gradients, strict=True)):
                G = layout.of(gradient)
                if features[i].stride() != G.stride() or features[i].dtype != G.dtype:
                    features[i] = torch.empty_like(G).copy_(features[i])  # lies as G does: faster, K times
                A, G = (of_photographs(value, photographs) for value in (features[i], G))
                maps[i][rows] = weighted(A, G).clamp(min=0).to(maps[i].dtype)  # autocast has its own
    return maps


@dataclass(frozen=True)
class SoftmaxGradCAM(Method):
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

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        return upsampled(self.coarse(view, targets), view.x.shape[2:])

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

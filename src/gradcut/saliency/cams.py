"""Class activation maps: saliency from the maps inside the network, weighted by what the class makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import Places, places_of
from gradcut.errors import SaliencyError
from gradcut.network.forward import ForwardPass, fresh, run
from gradcut.network.layers import run_with_maps
from gradcut.saliency.gradients import GuidedBackprop, PixelMethod, Remembered, check_pixels
from gradcut.saliency.targets import (
    Saliency,
    Score,
    Targets,
    backward_passes,
    check_score,
    group,
    of_photographs,
    resolve,
    score_gradient,
)


@dataclass(frozen=True)
class CAM:
    """Class activation map: a linear head's weights on the features before pooling (Zhou et al. 2016).

    ``ReLU(sum_k w_ck A_k)`` of the last map A. Exact where the logits are a linear function of the mean of that
    map, which is checked against the logits themselves. Costs one forward pass, no backward pass.

    Args:
        of: which score, see `Score`; its gradient at the logits weighs the classes' maps.
    """

    of: Score = "logit"

    def __post_init__(self) -> None:
        check_score(self.of)

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        with torch.no_grad():
            logits, features, weight = linear_head(classifier, x, ForwardPass(x))
            pairs = resolve(targets, logits)
            direction = score_gradient(classifier, logits, pairs, self.of)
            weights = direction @ weight
            maps = x.new_zeros(len(pairs), *features.shape[2:])
            for photograph in {photograph for photograph, _ in pairs}:  # features are not copied for every target
                here = [position for position, (other, _) in enumerate(pairs) if other == photograph]
                weighted = torch.einsum("nc,chw->nhw", weights[here], features[photograph])
                maps[here] = weighted.clamp(min=0).to(x.dtype)
            return upsampled(maps, x)


@dataclass(frozen=True)
class PlaceProbability:
    """How probable each place's class is, by the weights for places that `gradcut.fit.places` fitted with the head.

    The softmax over the head's labels and the background, of the features of the last map at each place; a group of
    labels has the sum of its members. A head fitted to whole photographs, as `CAM` shows it, finds what tells a
    photograph with the class from one without, surroundings too; these weights were fitted to tell places apart,
    and are not what the logits are made of. Where the classifier has none, the maps are those of ``otherwise``.
    Costs one forward pass.

    Args:
        otherwise: any saliency method, for classifiers without such weights.
    """

    otherwise: Saliency = field(default_factory=CAM)

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        places = places_of(classifier.model)
        if places is None:
            return self.otherwise(classifier, x, targets)
        with torch.no_grad():
            logits, features, _ = linear_head(classifier, x, ForwardPass(x))
            each = place_probabilities(features, places)
            maps = [each[b, list(group(index))].sum(0) for b, index in resolve(targets, logits)]
            return upsampled(torch.stack(maps).to(x.dtype) if maps else x.new_zeros(0, *features.shape[2:]), x)


def place_probabilities(features: Float[Tensor, "b d gh gw"], places: Places | nn.Linear) -> Float[Tensor, "b k gh gw"]:
    """The probability of each label and, last, of the background at every place of the last map."""
    weight, bias = (each.to(features) for each in (places.weight, places.bias))
    return F.conv2d(features, weight[:, :, None, None], bias).float().softmax(1)


def linear_head(
    classifier: Classifier, x: Float[Tensor, "b 3 h w"], seen: ForwardPass
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b d _ _"], Float[Tensor, "n d"]]:
    """The logits, the last map, and the weights that make the one of the other's mean; ``seen`` watches the pass.

    Raises:
        SaliencyError: the logits are made in another way.
    """
    logits = run(classifier, fresh(classifier, x), seen)
    features = seen.feature_map
    if seen.linear is not None:
        weight, bias = seen.linear.weight, seen.linear.bias
        if features is not None and weight.shape == (logits.shape[1], features.shape[1]):
            expected = F.linear(features.mean((2, 3)), weight, bias)
            if torch.allclose(expected, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
                return logits, features, weight
        elif weight.shape == (logits.shape[1], seen.one_place):
            h, w = x.shape[2:]
            raise SaliencyError(
                f"CAM needs photographs whose last feature map has more than one place; {classifier.name}'s has one "
                f"from {h} by {w} pixels. Use larger ones (under MultiScale, larger scales), or Gradient(), which "
                "needs no map"
            )
    raise SaliencyError(
        f"CAM needs a classifier whose logits are a linear layer on the mean of its last feature map; "
        f"{classifier.name}'s are not. GradCAM() works with any that has a feature map, Gradient() with any at all"
    )


@dataclass(frozen=True)
class GradCAM:
    """Grad-CAM (Selvaraju et al. 2017): each channel weighed by its gradient's mean.

    ``ReLU(sum_k mean(G_k) A_k)`` of a map A and the gradient G of the class score with respect to it. Equals `CAM` up
    to one factor where that applies. Needs a map inside the network. Costs one forward pass, and as many
    backward passes, from the logits to the map only, as the largest number of classes in one photograph.

    Args:
        of: which score, see `Score`.
        layers: 1 takes the last map, found without naming it: in a vision transformer with a class token,
            the last tokens that the logits depend on. A larger number takes the last map of each of the
            last so many resolutions; a name or several (as in ``model.named_modules()``) the last map that
            is made in each of those modules.
        fuse: how the maps of several layers, each divided by its maximum, become one: ``"mean"`` or ``"max"``.
    """

    of: Score = "logit"
    layers: int | str | tuple[str, ...] = 1
    fuse: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        check_score(self.of)
        names = (self.layers,) if isinstance(self.layers, str) else self.layers
        usable = names >= 1 if isinstance(names, int) else bool(names) and all(isinstance(n, str) for n in names)
        if isinstance(self.layers, bool) or not usable:
            raise SaliencyError(f"layers: expected a number from 1, a name or a tuple of names, got {self.layers!r}")
        if self.fuse not in ("mean", "max"):
            raise SaliencyError(f"fuse: expected 'mean' or 'max', got {self.fuse!r}")

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        layers = (self.layers,) if isinstance(self.layers, str) else self.layers
        with torch.inference_mode(False), torch.enable_grad():
            logits, places, tensors = run_with_maps(classifier, fresh(classifier, x), layers)
            pairs = resolve(targets, logits)
            maps = [x.new_zeros(len(pairs), place.layout.h, place.layout.w) for place in places]
            features = [place.layout.of(tensor.detach()) for place, tensor in zip(places, tensors, strict=True)]
            for chosen, photographs, gradients in backward_passes(classifier, logits, pairs, self.of, tensors):
                with torch.no_grad():
                    for i, (place, gradient) in enumerate(zip(places, gradients, strict=True)):
                        G = place.layout.of(gradient).to(x.dtype)
                        if features[i].stride() != G.stride() or features[i].dtype != G.dtype:
                            features[i] = torch.empty_like(G).copy_(features[i])  # lies as G does: faster, K times
                        A, G = (of_photographs(value, photographs) for value in (features[i], G))
                        maps[i][chosen] = self.weighted(A, G).clamp(min=0).to(x.dtype)  # autocast has its own
        with torch.no_grad():
            maps = [upsampled(coarse, x) for coarse in maps]
            if len(maps) == 1:
                return maps[0]
            fused = torch.stack([relative(each) for each in maps])
            return fused.mean(0) if self.fuse == "mean" else fused.amax(0)

    def weighted(self, A: Float[Tensor, "n c h w"], G: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        """The weighted sum of the channels; what is negative in it counts as 0."""
        return torch.einsum("nc,nchw->nhw", G.mean((2, 3)), A)


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


_GUIDED = GuidedBackprop(of="logit")


@dataclass(frozen=True)
class GuidedGradCAM:
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

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        return self.over_channels(self.attribution(classifier, x, targets))

    def attribution(
        self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets
    ) -> Float[Tensor, "n 3 h w"]:
        """The product, channel by channel."""
        chosen = Remembered(targets)
        regions = self.regions(classifier, x, chosen)
        return self.pixels.attribution(classifier, x, chosen.pairs) * regions[:, None]

    def over_channels(self, attribution: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        """As the method for pixels does."""
        return self.pixels.over_channels(attribution)


def relative(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Each map divided by its maximum; a map of zeros stays."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def upsampled(maps: Float[Tensor, "n gh gw"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "n h w"]:
    """Bilinear, to the photographs' size and their number type."""
    if not len(maps):
        return x.new_zeros(0, *x.shape[2:])
    if maps.shape[1:] == x.shape[2:]:
        return maps.to(x.dtype)
    maps = maps.to(x.dtype)[:, None]
    return F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]

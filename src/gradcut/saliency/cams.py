"""Class activation maps of a linear head: the last map, weighed by the head's own weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.heads import PlaceWeights, places_of
from gradcut.errors import SaliencyError
from gradcut.known import Known
from gradcut.network.passes import Wanted
from gradcut.network.view import View
from gradcut.saliency.maps import Size, resized, rows_by_photograph, wide
from gradcut.saliency.method import GridMethod, resolved, sized
from gradcut.saliency.targets import (
    Saliency,
    Score,
    Targets,
    check_score,
    resolve,
    score_gradient,
)


@dataclass(frozen=True)
class CAM(GridMethod):
    """Class activation map: a linear head's weights on the features before pooling (Zhou et al. 2016).

    ``ReLU(sum_k w_ck A_k)`` of the last map A. Exact where the logits are a linear function of the mean of that
    map, which is checked against the logits themselves. Costs one forward pass, no backward pass.

    Args:
        of: which score, see `Score`; its gradient at the logits weighs the classes' maps.
    """

    of: Score = "logit"

    def __post_init__(self) -> None:
        check_score(self.of)

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        with torch.no_grad():
            logits, features, weight = linear_head(view, "CAM")
            pairs = resolve(targets, logits)
            weights = score_gradient(view.classifier, logits, pairs, self.of) @ wide(weight)
            maps = weights.new_zeros(len(pairs), *features.shape[2:], dtype=wide(view.x[:0]).dtype)
            of = [photograph for photograph, _ in pairs]
            for photograph, rows in rows_by_photograph(of).items():  # features are not copied for every target
                weighted = torch.einsum("nc,chw->nhw", weights[rows], wide(features[photograph]))
                maps[rows] = weighted.clamp(min=0).to(maps.dtype)  # autocast has its own
            return resized(maps, size)


@dataclass(frozen=True)
class PlaceProbability(GridMethod):
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

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        places = places_of(view.classifier.model)
        if places is None:
            return sized(self.otherwise, view, targets, size)
        with torch.no_grad():
            logits, features, _ = linear_head(view, "PlaceProbability")
            probabilities = place_probabilities(features, places)
            pairs = resolve(targets, logits)
            maps = probabilities.new_zeros(len(pairs), *features.shape[2:])
            for row, (photograph, members) in enumerate(pairs):
                maps[row] = probabilities[photograph, list(members)].sum(0)
            return resized(maps, size)

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

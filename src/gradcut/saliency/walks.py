"""Refinements of saliency that need no training: rivalry between the classes present, and walks over affinities.

All wrap a saliency method and are one themselves: ``Walk(Rivals(MultiScale(CAM())))``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError, check_least
from gradcut.network.faster import linear
from gradcut.network.view import View
from gradcut.saliency.attentions import between_places
from gradcut.saliency.maps import (
    Size,
    above_least,
    against_each_other,
    relative,
    resized,
    rows_by_photograph,
    upsampled,
    wide,
)
from gradcut.saliency.method import GridMethod, Method, coarsely, explained, resolved, scales_of, sized
from gradcut.saliency.targets import Remembered, Saliency, Targets


@dataclass(frozen=True)
class Rivals(Method):
    """Contrast between the classes of one photograph: each map falls where another class's is higher.

    With ``n`` a map divided by its maximum, the result is ``n_k (n_k / max_j n_j)^strength``. A class alone in its
    photograph keeps its map. Costs nothing beside the method.

    Args:
        method: any saliency method.
        strength: 0 changes nothing but the scale; the larger, the more the strongest class takes.
    """

    method: Saliency
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise SaliencyError(f"strength: expected a number from 0, got {self.strength}")

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        asked = Remembered(targets, self.method)
        return self._contrasted(explained(self.method, view, asked), asked)

    def coarse(self, view: View, targets: Targets) -> Float[Tensor, "n _ _"]:
        asked = Remembered(targets, self.method)
        return self._contrasted(coarsely(self.method, view, asked), asked)

    def _contrasted(self, maps: Float[Tensor, "n _ _"], asked: Remembered) -> Float[Tensor, "n _ _"]:
        return against_each_other(wide(maps), [b for b, _ in asked.pairs], self.strength)

    @property
    def scales(self) -> tuple[float, ...]:
        return scales_of(self.method)


@dataclass(frozen=True, init=False)
class Mean(GridMethod):
    """The mean of what several methods say, each map divided by its maximum: what they agree on is left.

    Methods that look at the photographs at the same sizes share their forward passes. Of methods that are the same
    with this classifier, as `PlaceProbability` and `CAM` are where it has no weights for places, one is asked.

    Args:
        methods: any saliency methods, at least one: ``Mean((CAM(), GradCAM()))``.
    """

    methods: tuple[Saliency, ...]

    def __init__(self, methods: Sequence[Saliency]) -> None:
        methods = tuple(methods)
        if not methods or not all(map(callable, methods)):
            raise SaliencyError(f"methods: expected saliency methods, at least one, got {methods!r}")
        object.__setattr__(self, "methods", methods)  # a frozen dataclass sets its own fields so

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        methods = self._different(view.classifier)
        asked = Remembered(targets, methods[0])
        views = [view.at(scale) for scale in self.scales]  # whoever asks gets these as long as they are held on to
        for at in views:
            at.share()
        total = relative(wide(sized(methods[0], view, asked, size)))
        for method in methods[1:]:
            total = total + relative(wide(sized(method, view, asked.pairs, size)))
        return total / len(methods)

    def resolved(self, classifier: Classifier) -> Saliency:
        methods = self._different(classifier)
        if len(methods) == 1:
            return methods[0]
        return self if methods == self.methods else Mean(methods)

    def _different(self, classifier: Classifier) -> tuple[Saliency, ...]:
        return tuple(dict.fromkeys(resolved(method, classifier) for method in self.methods))

    @property
    def scales(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(scale for method in self.methods for scale in scales_of(method)))


@dataclass(frozen=True)
class Features:
    """Affinity of places by the network's own features: what looks alike to it belongs together.

    The idea of AffinityNet (Ahn & Kwak 2018) without its training: the affinity of two places is the mean cosine of
    their features in the last ``levels`` resolutions, negative ones 0, to the power ``power``. Costs ``16 grid^4``
    bytes a photograph.

    Args:
        grid: places along each side of the photograph. A network of one resolution, as a transformer's tokens have, is
            walked over at its own grid, if that is no finer: there is nothing to be known between its places.
        levels: how many resolutions, counted from the last; None takes three, or all if they are fewer.
        power: the larger, the more alike two places have to be.
    """

    grid: int = 40
    levels: int | None = None
    power: float = 12.0
    steps: ClassVar[tuple[int, ...]] = (8,)

    def __post_init__(self) -> None:
        check_least(SaliencyError, self, grid=2, power=0.0)
        if self.levels is not None:
            check_least(SaliencyError, self, levels=1)

    def declare(self, view: View) -> None:
        """Say what is needed of the view's next forward pass."""
        view.keep(levels=3 if self.levels is None else self.levels)

    def shares(self, view: View, photographs: Sequence[int]) -> tuple[tuple[int, int], dict[int, Tensor]]:
        """The grid, and of each of the photographs what `walk` says, from the maps that the view has kept.

        Raises:
            SaliencyError: the network has fewer resolutions than ``levels``, or no map.
        """
        maps, name = view.kept.maps, view.classifier.name
        if not maps:
            raise SaliencyError(f"Walk over Features needs a map inside the network; {name} has none. Leave it out")
        if self.levels is not None and len(maps) < self.levels:
            raise SaliencyError(f"levels: expected at most {len(maps)}, the resolutions of {name}, got {self.levels}")
        walks = {b: self.walk([level[b : b + 1] for level in maps]) for b in photographs}
        return self.grid_of(maps), walks

    def grid_of(self, levels: Sequence[Float[Tensor, "_ _ _ _"]]) -> tuple[int, int]:
        """The grid of a walk, from the maps that the view has kept."""
        if self.levels is None and len(levels) == 1:
            h, w = levels[0].shape[2:]
            return min(h, self.grid), min(w, self.grid)
        return self.grid, self.grid

    def walk(self, levels: Sequence[Float[Tensor, "1 _ _ _"]]) -> Float[Tensor, "p p"]:
        """The share of a place that goes to each of the ``p`` of the grid in a step, from one photograph's maps."""
        size = self.grid_of(levels)
        cosine = torch.zeros((), device=levels[0].device)
        for level in levels:
            cosine = cosine + _cosines(level[0], size) / len(levels)
        affinity: Tensor = cosine.clamp_(min=0).pow_(self.power)
        affinity.fill_diagonal_(1.0)  # of a place without features too, as a black one after ReLU has none
        return affinity.div_(affinity.sum(1, keepdim=True))


def _cosines(level: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "p p"]:
    """The cosines between the features of the grid's places: means of a finer map's, interpolated in a coarser one."""
    maps = wide(level).float()
    if max(maps.shape[1:]) > max(size):
        features = F.normalize(F.adaptive_avg_pool2d(maps, size).flatten(1), dim=0).T
        return linear(features, features)
    # Products are linear in either place: those of the few places that there are, interpolated, are the same.
    features = maps.flatten(1).T
    products = linear(features, features)
    for _ in range(2):
        products = upsampled(products.reshape(-1, *maps.shape[1:]), size).flatten(1).T
    lengths = products.diagonal().clamp(min=0).sqrt().clamp(min=1e-12)
    return products / lengths / lengths[:, None]


@dataclass(frozen=True)
class Attention:
    """Affinity of places by a vision transformer's own attention between them.

    As Ru et al. 2022 ("Learning Affinity from Attention") refine a map, without the perceptron that they train: the
    affinity of two places is the attention of one to the other plus that of the other to the one, to the power
    ``power``. In the perceptron's stead, the mean over the heads and the last ``layers`` layers, as Lin et al. 2023
    (CLIP-ES) take it; the number of layers and steps is theirs, ``power`` Ru et al.'s. The walk is of the transformer's
    grid of places, without class and register tokens.

    With ``Attention(power=1, sinkhorn=3, boxes=0.4)`` it is CLIP-ES's walk: columns and rows are normalised in turn,
    the result and its transpose averaged, and only what lies in boxes round the class's own places is walked.

    Needs a layer in which all the places attend to all. Costs ``4 heads tokens^2`` bytes a photograph for every layer.

    Args:
        layers: how many, counted from the last, of those where all the places attend to all; None takes eight, or all
            if they are fewer.
        power: the larger, the more of their attention two places have to give to each other.
        sinkhorn: how many times columns and then rows of the attention are divided by their sums (Sinkhorn 1964),
            before it and its transpose are averaged; 0 adds the transpose and divides rows at the end.
        boxes: the walk begins inside the boxes round the connected parts of what is above this share of the map's
            maximum, the rest being 0. CLIP-ES has 0.4 for Pascal VOC and 0.7 for COCO; None limits nothing.
    """

    layers: int | None = None
    power: float = 2.0
    sinkhorn: int = 0
    boxes: float | None = None
    steps: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        check_least(SaliencyError, self, power=0.0, sinkhorn=0)
        if self.layers is not None:
            check_least(SaliencyError, self, layers=1)
        if self.boxes is not None and not 0 < self.boxes < 1:
            raise SaliencyError(f"boxes: expected a number above 0 and below 1, or None, got {self.boxes}")

    def declare(self, view: View) -> None:
        """Say what is needed of the view's next forward pass."""
        view.keep(attention=True)

    def shares(self, view: View, photographs: Sequence[int]) -> tuple[tuple[int, int], dict[int, Tensor]]:
        """The grid, and of each of the photographs the share of a place that goes to each in a step.

        Raises:
            SaliencyError: the network has fewer such layers than ``layers``, or none.
        """
        classifier = view.classifier
        layers, (_, h, w, prefix) = between_places(classifier, view.kept.attention, len(view.x), "Walk over Attention")
        if self.layers is not None and len(layers) < self.layers:
            raise SaliencyError(
                f"layers: expected at most {len(layers)}, those of {classifier.name} in which all the places attend to "
                f"all, got {self.layers}"
            )
        layers = [layer[:, :, prefix:, prefix:] for layer in layers[-(self.layers or 8) :]]
        return (h, w), {b: self._walk([layer[b] for layer in layers]) for b in photographs}

    def _walk(self, layers: list[Float[Tensor, "heads p p"]]) -> Float[Tensor, "p p"]:
        attention = torch.stack([layer.float().mean(0) for layer in layers]).mean(0)
        if self.sinkhorn:
            affinity = (attention / attention.amax().clamp(min=torch.finfo(attention.dtype).tiny)) ** self.power
            for _ in range(self.sinkhorn):
                affinity = _divided(_divided(affinity, 0), 1)
            return (affinity + affinity.T) / 2
        affinity = attention + attention.T
        # A row's own factor is lost when it is normalised, and attention is so little that its powers might vanish.
        affinity = (affinity / affinity.amax(1, keepdim=True).clamp(min=torch.finfo(affinity.dtype).tiny)) ** self.power
        affinity.diagonal().masked_fill_(affinity.sum(1) == 0, 1.0)  # a place that only the class token looks at
        return affinity / affinity.sum(1, keepdim=True)


def _divided(affinity: Float[Tensor, "p p"], along: int) -> Float[Tensor, "p p"]:
    """Divided by the sums along an axis, where they are above 0."""
    return affinity / affinity.sum(along, keepdim=True).clamp(min=torch.finfo(affinity.dtype).tiny)


def in_boxes(maps: Float[Tensor, "n gh gw"], share: float) -> Float[Tensor, "n gh gw"]:
    """The maps inside the boxes round the connected parts, corners counted, of what is above a share of the maximum."""
    inside = torch.zeros_like(maps, dtype=torch.bool)
    above = (maps > share * maps.amax((1, 2), keepdim=True)).cpu().numpy()
    for n, places in enumerate(above):
        parts, _ = ndimage.label(places, np.ones((3, 3)))
        for box in ndimage.find_objects(parts):
            inside[(n, *box)] = True
    return maps * inside


@dataclass(frozen=True)
class Walk(GridMethod):
    """A random walk of a method's map over what the network itself takes to belong together.

    The rows of the affinities are normalised to 1, and the map, brought to their grid, takes ``steps`` steps; after
    each walk but the last, the classes of a photograph compete as `Rivals` has it, and at the end each map's minimum is
    subtracted. Costs one forward pass unless the method itself looks at the photographs at ``scale``.

    Args:
        method: any saliency method.
        over: `Features`, or `Attention` of a vision transformer.
        steps: of each walk; ``(0,)`` only brings the map to the grid. None takes ``(8,)`` over features and ``(2,)``
            over attention.
        scale: of the photographs that the affinities are taken from, as a factor of the classifier's own size; None
            takes the middle one of those that the method looks at, of two the larger.
    """

    method: Saliency
    over: Features | Attention = Features()
    steps: tuple[int, ...] | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and (not self.steps or min(self.steps) < 0):
            raise SaliencyError(f"steps: expected a tuple of one number at least, none below 0, got {self.steps!r}")
        if self.scale is not None and not 0 < self.scale < float("inf"):
            raise SaliencyError(f"scale: expected a number above 0, got {self.scale}")

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        looked = sorted(self.scales)
        at = view.at(looked[len(looked) // 2] if self.scale is None else self.scale)
        self.over.declare(at)
        asked = Remembered(targets, self.method)
        maps = coarsely(self.method, view, asked)
        photographs = [b for b, _ in asked.pairs]
        with _exactly(view.x):
            of = tuple(sorted(set(photographs)))
            grid, walks = at.made_of_kept((self.over, of), lambda: self.over.shares(at, of))
            if isinstance(self.over, Attention) and self.over.boxes is not None and len(maps):
                maps = in_boxes(F.adaptive_avg_pool2d(wide(maps), grid), self.over.boxes)
            steps = self.over.steps if self.steps is None else self.steps
            return resized(walked(maps, photographs, walks, grid, steps), size)

    @property
    def scales(self) -> tuple[float, ...]:
        return scales_of(self.method)


@contextmanager
def _exactly(x: Tensor) -> Iterator[None]:
    """No gradients, and no autocast: rows that sum to 1 only roughly are no walk."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        yield


def walked(
    maps: Float[Tensor, "n h w"],
    photographs: Sequence[int],
    walks: Mapping[int, Float[Tensor, "p p"]],
    grid: tuple[int, int],
    steps: Sequence[int],
) -> Float[Tensor, "n gh gw"]:
    """The maps, the n-th of photograph ``photographs[n]``, brought to the grid and walked over it."""
    if not len(maps):
        return maps
    at = F.adaptive_avg_pool2d(wide(maps), grid)
    walks = {b: walk.to(at.dtype) for b, walk in walks.items()}
    for number, many in enumerate(steps):
        if number:
            at = against_each_other(at, photographs)
        for b, rows in rows_by_photograph(photographs).items():
            places = at[rows].flatten(1)
            for _ in range(many):
                places = linear(places, walks[b])
            at[rows] = places.view(-1, *grid)
    # A walk long enough ends in a constant map: what it has brought everywhere tells no place from another. Rows sum to
    # 1 only to rounding, in each step.
    return above_least(at, rounding=16 * (1 + sum(steps)))

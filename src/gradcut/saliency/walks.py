"""Refinements of saliency that need no training: rivalry between the classes present, and walks over affinities.

All wrap a saliency method and are one themselves: ``Affinity(Rivals(MultiScale(CAM())))``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError, check_least
from gradcut.network.forward import ForwardPass, fresh, recording, run
from gradcut.saliency.attentions import between_places
from gradcut.saliency.cams import relative, upsampled
from gradcut.saliency.gradients import Remembered
from gradcut.saliency.scales import resized
from gradcut.saliency.targets import Saliency, Targets


@dataclass(frozen=True)
class Rivals:
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

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        chosen = Remembered(targets)
        maps = self.method(classifier, x, chosen)
        return against_each_other(maps, [b for b, _ in chosen.pairs], self.strength)


@dataclass(frozen=True)
class Affinity:
    """A random walk of the map over the network's own features, so that what looks alike to it is salient alike.

    The idea of AffinityNet (Ahn & Kwak 2018) without its training: the affinity of two places is the mean cosine of
    their features in the last ``levels`` resolutions, negative ones 0, to the power ``power``; its rows are
    normalised to 1, and the map takes ``steps`` steps; after each walk but the last, the classes of a photograph
    compete as `Rivals` has it, and at the end each map's minimum is subtracted. Costs ``16 grid^4`` bytes a
    photograph, and one forward pass unless the method itself looks at the photographs at ``scale``.

    Args:
        method: any saliency method.
        grid: places along each side of the photograph.
        power: the larger, the more alike two places have to be.
        steps: of each walk; ``(0,)`` only brings the map to the grid.
        levels: how many resolutions, counted from the last.
        scale: of the photographs that the features are taken from, as a factor of the classifier's own size.
    """

    method: Saliency
    grid: int = 40
    power: float = 12.0
    steps: tuple[int, ...] = (8,)
    levels: int = 3
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check(self, grid=2, power=0.0, levels=1)

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        maps, photographs, seen = _maps_and_pass(self, classifier, x, targets)
        levels = [level.detach() for level in seen.maps[-self.levels :]]
        if not levels:
            raise SaliencyError(f"Affinity needs a map inside the network; {classifier.name} has none. Leave it out")
        with _exactly(x):
            walks = {b: self.walk([level[b : b + 1] for level in levels]) for b in set(photographs)}
            return upsampled(walked(maps, photographs, walks, (self.grid, self.grid), self.steps), x)

    def walk(self, levels: Sequence[Float[Tensor, "1 _ _ _"]]) -> Float[Tensor, "p p"]:
        """The share of a place that goes to each of the ``p = grid^2`` in a step, from one photograph's maps."""
        size = (self.grid, self.grid)
        cosine = torch.zeros((), device=levels[0].device)
        for level in levels:
            fine = max(level.shape[2:]) > self.grid
            at = F.adaptive_avg_pool2d(level, size) if fine else F.interpolate(level, size, mode="bilinear")
            features = F.normalize(at[0].float().flatten(1), dim=0)
            cosine = cosine + features.T @ features / len(levels)
        affinity: Tensor = cosine.clamp(min=0) ** self.power
        affinity.fill_diagonal_(1.0)  # of a place without features too, as a black one after ReLU has none
        return affinity / affinity.sum(1, keepdim=True)


@dataclass(frozen=True)
class AttentionAffinity:
    """A random walk of the map over a vision transformer's own attention between places.

    As Ru et al. 2022 ("Learning Affinity from Attention") refine a map, without the perceptron that they train: the
    affinity of two places is the attention of one to the other plus that of the other to the one, to the power
    ``power``; its rows are normalised to 1, and the map takes ``steps`` steps. In the perceptron's stead, the mean
    over the heads and the last ``layers`` layers, as Lin et al. 2023 (CLIP-ES) take it; the defaults of ``layers``
    and ``steps`` are theirs, that of ``power`` is Ru et al.'s. The walk is of the transformer's grid of places, without
    class and register tokens; rivals and minima are as in `Affinity`.

    Needs a layer in which all the places attend to all. Costs one forward pass unless the method itself
    looks at the photographs at ``scale``, and ``4 heads tokens^2`` bytes a photograph for every layer of that pass.

    Args:
        method: any saliency method: ``AttentionAffinity(GradCAM())``.
        layers: how many, counted from the last, of those where all the places attend to all; or all, if they are
            fewer.
        power: the larger, the more of their attention two places have to give to each other.
        steps: of each walk; ``(0,)`` only brings the map to the grid.
        scale: of the photographs that the attention is taken from, as a factor of the classifier's own size.
    """

    method: Saliency
    layers: int = 8
    power: float = 2.0
    steps: tuple[int, ...] = (2,)
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check(self, layers=1, power=0.0)

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        maps, photographs, seen = _maps_and_pass(self, classifier, x, targets, attention=True)
        layers, (_, h, w, prefix) = between_places(classifier, seen, len(x))
        layers = [layer.detach()[:, :, prefix:, prefix:] for layer in layers[-self.layers :]]
        with _exactly(x):
            walks = {b: self._walk([layer[b] for layer in layers]) for b in set(photographs)}
            return upsampled(walked(maps, photographs, walks, (h, w), self.steps), x)

    def _walk(self, layers: list[Float[Tensor, "heads p p"]]) -> Float[Tensor, "p p"]:
        attention = torch.stack([layer.float().mean(0) for layer in layers]).mean(0)
        affinity = attention + attention.T
        # A row's own factor is lost when it is normalised, and attention is so little that its powers might vanish.
        affinity = (affinity / affinity.amax(1, keepdim=True).clamp(min=torch.finfo(affinity.dtype).tiny)) ** self.power
        affinity.diagonal().masked_fill_(affinity.sum(1) == 0, 1.0)  # a place that only the class token looks at
        return affinity / affinity.sum(1, keepdim=True)


def _check(walk: Affinity | AttentionAffinity, **least: float) -> None:
    check_least(SaliencyError, walk, **least)
    if not walk.steps or min(walk.steps) < 0:
        raise SaliencyError(f"steps: expected a tuple of one number at least, none below 0, got {walk.steps!r}")
    if not 0 < walk.scale < float("inf"):
        raise SaliencyError(f"scale: expected a number above 0, got {walk.scale}")


def _maps_and_pass(
    walk: Affinity | AttentionAffinity, classifier: Classifier, x: Tensor, targets: Targets, attention: bool = False
) -> tuple[Float[Tensor, "n h w"], list[int], ForwardPass]:
    """The method's maps, the photograph of each, and a pass of the photographs at ``scale``: the method's, if any."""
    chosen = Remembered(targets)
    at = resized(x, classifier, walk.scale)
    with recording(at, attention) as passes:
        maps = walk.method(classifier, x, chosen)
    if not passes:
        with torch.no_grad():
            passes.append(ForwardPass(at, levels=not attention, attention=attention))
            run(classifier, fresh(classifier, at), passes[0])
    return maps, [b for b, _ in chosen.pairs], passes[0]


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
    at = F.adaptive_avg_pool2d(maps.to(torch.promote_types(maps.dtype, torch.float32)), grid)
    walks = {b: walk.to(at.dtype) for b, walk in walks.items()}
    for number, many in enumerate(steps):
        if number:
            at = against_each_other(at, photographs)
        places = list(at.flatten(1))
        for _ in range(many):
            places = [walks[b] @ place for b, place in zip(photographs, places, strict=True)]
        at = torch.stack(places).view(at.shape)
    # A walk long enough ends in a constant map: what it has brought everywhere tells no place from another.
    return at - at.amin((1, 2), keepdim=True)


def against_each_other(
    maps: Float[Tensor, "n h w"], photographs: Sequence[int], strength: float = 1.0
) -> Float[Tensor, "n h w"]:
    """`Rivals`' formula, for maps of which the n-th is of photograph ``photographs[n]``."""
    maps = relative(maps)
    for b in set(photographs):
        here = [n for n, other in enumerate(photographs) if other == b]
        strongest = maps[here].amax(0).clamp(min=torch.finfo(maps.dtype).tiny)
        maps[here] = maps[here] * (maps[here] / strongest) ** strength
    return maps

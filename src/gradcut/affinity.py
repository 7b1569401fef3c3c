"""Refinements of saliency that need no training: rivalry between the classes present, and feature affinity.

Both wrap a saliency method and are one themselves: ``Affinity(Rivals(MultiScale(CAM())))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.cams import upsampled
from gradcut.classifier import Classifier
from gradcut.features import ForwardPass, fresh, recording, run
from gradcut.gradients import Remembered
from gradcut.scales import resized
from gradcut.targets import Saliency, SaliencyError, Targets


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
        for name, least in (("grid", 2), ("power", 0), ("levels", 1)):
            if not getattr(self, name) >= least:
                raise SaliencyError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.steps or min(self.steps) < 0:
            raise SaliencyError(f"steps: expected a tuple of one number at least, none below 0, got {self.steps!r}")
        if not 0 < self.scale < float("inf"):
            raise SaliencyError(f"scale: expected a number above 0, got {self.scale}")

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        chosen = Remembered(targets)
        at = resized(x, classifier, self.scale)
        with recording(at) as passes:
            maps = self.method(classifier, x, chosen)
        with torch.no_grad():
            if not passes:
                seen = ForwardPass(at, levels=True)
                run(classifier, fresh(classifier, at), seen)
                passes.append(seen)
            levels = [level.detach() for level in passes[0].maps[-self.levels :]]
            if not levels:
                raise SaliencyError(
                    f"Affinity needs a map inside the network; {classifier.name} has none. Leave it out"
                )
            if not len(maps):
                return maps
            photographs = [b for b, _ in chosen.pairs]
            walks = {b: self._walk([level[b : b + 1] for level in levels]) for b in set(photographs)}
            walked = F.adaptive_avg_pool2d(maps, (self.grid, self.grid))
            for number, steps in enumerate(self.steps):
                if number:
                    walked = against_each_other(walked, photographs)
                for n, b in zip(range(len(maps)), photographs, strict=True):
                    at = walked[n].flatten()
                    for _ in range(steps):
                        at = walks[b] @ at
                    walked[n] = at.view(walked[n].shape)
            # A walk long enough ends in a constant map: what it has brought everywhere tells no place from another.
            return upsampled(walked - walked.amin((1, 2), keepdim=True), x)

    def _walk(self, levels: list[Float[Tensor, "_ _ _ _"]]) -> Float[Tensor, "p p"]:
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


def relative(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Each map divided by its maximum; a map of zeros stays."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)

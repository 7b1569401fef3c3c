"""Refinements of saliency that need no training: rivalry between the classes present, and feature affinity.

Both wrap a saliency method and are one themselves: ``Affinity(Rivals(MultiScale(CAM())))``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.cams import upsampled
from gradcut.classifier import Classifier
from gradcut.features import ForwardPass, fresh, run
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
        maps = relative(self.method(classifier, x, chosen))
        photographs = [b for b, _ in chosen.pairs]
        for b in set(photographs):
            here = [n for n, other in enumerate(photographs) if other == b]
            strongest = maps[here].amax(0).clamp(min=torch.finfo(maps.dtype).tiny)
            maps[here] = maps[here] * (maps[here] / strongest) ** self.strength
        return maps


@dataclass(frozen=True)
class Affinity:
    """A random walk of the map over the network's own features, so that what looks alike to it is salient alike.

    The idea of AffinityNet (Ahn & Kwak 2018) without its training: the affinity of two places is the mean cosine of
    their features in the last ``levels`` resolutions, negative ones 0, to the power ``power``; its rows are
    normalised to 1, and the map takes ``steps`` steps. Costs one forward pass at ``scale`` beside the method, and
    ``16 grid^4`` bytes a photograph.

    Args:
        method: any saliency method.
        grid: places along each side of the photograph.
        power: the larger, the more alike two places have to be.
        steps: of the walk; 0 only brings the map to the grid.
        levels: how many resolutions, counted from the last.
        scale: of the photographs that the features are taken from, as a factor of the classifier's own size.
    """

    method: Saliency
    grid: int = 40
    power: float = 12.0
    steps: int = 8
    levels: int = 3
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (("grid", 2), ("power", 0), ("steps", 0), ("levels", 1)):
            if not getattr(self, name) >= least:
                raise SaliencyError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 < self.scale < float("inf"):
            raise SaliencyError(f"scale: expected a number above 0, got {self.scale}")

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        chosen = Remembered(targets)
        maps = self.method(classifier, x, chosen)
        with torch.no_grad():
            at = resized(x, classifier, self.scale)
            seen = ForwardPass(at, levels=True)
            run(classifier, fresh(classifier, at), seen)
            levels = seen.maps[-self.levels :]
            if not levels:
                raise SaliencyError(
                    f"Affinity needs a map inside the network; {classifier.name} has none. Leave it out"
                )
            size = (self.grid, self.grid)
            walks: dict[int, Tensor] = {}
            walked = []
            for (b, _), start in zip(chosen.pairs, maps, strict=True):
                if b not in walks:
                    walks[b] = self._walk([level[b : b + 1] for level in levels])
                here = F.adaptive_avg_pool2d(start[None, None], size).flatten()
                for _ in range(self.steps):
                    here = walks[b] @ here
                walked.append(here.view(size))
            return upsampled(torch.stack(walked), x) if walked else maps

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


def relative(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Each map divided by its maximum; a map of zeros stays."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)

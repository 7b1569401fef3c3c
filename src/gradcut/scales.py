"""Any saliency method, averaged over sizes of the photograph and its mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.cams import upsampled
from gradcut.classifier import Classifier
from gradcut.features import ForwardPass, fresh, run
from gradcut.gradients import Remembered
from gradcut.targets import Saliency, SaliencyError, Targets


@dataclass(frozen=True)
class MultiScale:
    """The mean of a method's maps over resized and mirrored photographs, as is usual for seeds (Ahn & Kwak 2018).

    The photographs are resized by bilinear interpolation, and the maps resized back. Give photographs that are larger
    than the classifier's own size, and the larger scales see detail that was in them: `Recipe.detail` does. Needs a
    classifier that accepts photographs of those sizes; most convolutional networks do. Costs as much as the method at
    every size, twice when mirrored. Targets that are a function see the logits of the photographs at the classifier's
    own size: these come first where 1 is among the scales, else they cost a forward pass of their own.

    Args:
        method: any saliency method: ``MultiScale(CAM())``.
        scales: factors of the classifier's own height and width.
        flip: also the mirror images, left to right.
    """

    method: Saliency
    scales: tuple[float, ...] = (0.5, 1.0, 1.5)
    flip: bool = True

    def __init__(self, method: Saliency, scales: Sequence[float] = (0.5, 1.0, 1.5), flip: bool = True) -> None:
        scales = tuple(map(float, scales))
        if not scales or len(set(scales)) != len(scales) or not all(0 < scale < float("inf") for scale in scales):
            raise SaliencyError(f"scales: expected positive numbers, none twice, got {scales}")
        for key, value in {"method": method, "scales": scales, "flip": bool(flip)}.items():
            object.__setattr__(self, key, value)  # a frozen dataclass sets its own fields so

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        chosen = Remembered(targets)
        total = None
        if 1.0 not in self.scales:
            with torch.no_grad():
                at = resized(x, classifier, 1.0)
                chosen(run(classifier, fresh(classifier, at), ForwardPass(at)))
        for scale in sorted(self.scales, key=lambda scale: scale != 1):  # 1 first, then as given
            at = resized(x, classifier, scale)
            for mirrored in (False, True)[: 1 + self.flip]:
                again = chosen if total is None and scale == 1 else chosen.pairs
                maps = self.method(classifier, at.flip(3) if mirrored else at, again)
                maps = upsampled(maps.flip(2) if mirrored else maps, x)
                total = maps if total is None else total + maps
        assert total is not None
        return total / (len(self.scales) * (1 + self.flip))


def resized(x: Float[Tensor, "b 3 h w"], classifier: Classifier, scale: float) -> Float[Tensor, "b 3 sh sw"]:
    """Prepared photographs at ``scale`` times the classifier's own size; bilinear, antialiased."""
    shape = classifier.scaled(scale)
    if shape == tuple(x.shape[2:]):
        return x
    return F.interpolate(x, shape, mode="bilinear", align_corners=False, antialias=True)

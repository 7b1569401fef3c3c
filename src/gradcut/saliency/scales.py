"""Any saliency method, averaged over sizes of the photograph and its mirror image, or looking again at crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import SaliencyError
from gradcut.network.forward import ForwardPass, fresh, run
from gradcut.saliency.cams import relative, upsampled
from gradcut.saliency.gradients import Remembered
from gradcut.saliency.targets import Saliency, Targets


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


@dataclass(frozen=True)
class Crops:
    """A second look at a crop round what the method found, for each class: what is small is large there.

    The crop is the box round the places above ``at`` of the map's maximum, with ``margin`` of its sides added on each
    side, resized to the photographs' size. The second map goes back to its place, and both, each divided by its
    maximum, are averaged; outside the crop the second is 0. A crop without any saliency leaves the first map as it is.
    Costs the method once more for every target: crops of one photograph differ. What comes out has a maximum of at
    most 1.

    Args:
        method: any saliency method that looks at sizes of its own, if any, by the classifier's: ``Crops(CAM())``.
        at: share of the maximum that was found, above 0 and below 1.
        margin: of a side of the box, at least 0.
    """

    method: Saliency
    at: float = 0.5
    margin: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.at < 1:
            raise SaliencyError(f"at: expected a number above 0 and below 1, got {self.at}")
        if not 0 <= self.margin < float("inf"):
            raise SaliencyError(f"margin: expected a number from 0, got {self.margin}")

    def __call__(self, classifier: Classifier, x: Float[Tensor, "b 3 h w"], targets: Targets) -> Float[Tensor, "n h w"]:
        chosen = Remembered(targets)
        maps = relative(self.method(classifier, x, chosen))
        boxes = [self._box(one) for one in maps]
        for n, ((b, index), (top, bottom, left, right)) in enumerate(zip(chosen.pairs, boxes, strict=True)):
            crop = F.interpolate(x[b : b + 1, :, top:bottom, left:right], x.shape[2:], mode="bilinear")
            again = relative(self.method(classifier, crop, [(0, index)]))
            if not again.any():
                continue
            back = F.interpolate(again[None], (bottom - top, right - left), mode="bilinear", antialias=True)[0, 0]
            maps[n] /= 2
            maps[n, top:bottom, left:right] += back / 2
        return maps

    def _box(self, one: Float[Tensor, "h w"]) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of the crop, in pixels; the whole photograph for a map of zeros."""
        found = one > self.at * one.amax()
        if not found.any():
            return 0, one.shape[0], 0, one.shape[1]
        sides = []
        for axis in (1, 0):
            where = found.any(axis).nonzero()
            low, high = int(where[0]), int(where[-1]) + 1
            more = round(self.margin * (high - low))
            sides += [max(0, low - more), min(one.shape[1 - axis], high + more)]
        top, bottom, left, right = sides
        return top, bottom, left, right


def resized(x: Float[Tensor, "b 3 h w"], classifier: Classifier, scale: float) -> Float[Tensor, "b 3 sh sw"]:
    """Prepared photographs at ``scale`` times the classifier's own size; bilinear, antialiased."""
    shape = classifier.scaled(scale)
    if shape == tuple(x.shape[2:]):
        return x
    return F.interpolate(x, shape, mode="bilinear", align_corners=False, antialias=True)

"""Any saliency method, averaged over sizes of the photograph and its mirror image, or looking again at crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut.errors import SaliencyError
from gradcut.network.view import View
from gradcut.saliency.maps import Size, relative, wide
from gradcut.saliency.method import GridMethod, Method, explained, scales_of, sized
from gradcut.saliency.targets import Remembered, Saliency, Targets

#: Places a side of what walks are given of several sizes: eight to a place of `Features`' grid.
COARSE = 320


@dataclass(frozen=True)
class MultiScale(GridMethod):
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

    def coarse(self, view: View, targets: Targets) -> Float[Tensor, "n _ _"]:
        """At no more than `COARSE` places a side, of which walks take means: time and memory grow with classes only."""
        h, w = view.x.shape[2:]
        factor = min(1, COARSE / max(h, w))
        return self.sized(view, targets, (max(1, round(h * factor)), max(1, round(w * factor))))

    def sized(self, view: View, targets: Targets, size: Size) -> Float[Tensor, "n _ _"]:
        asked = Remembered(targets, self.method)
        total = None
        if 1.0 not in self.scales:
            with torch.no_grad():
                asked(view.at(1.0).watch().logits)
        for scale in sorted(self.scales, key=lambda scale: scale != 1):  # 1 first, then as given
            at = view.at(scale)
            first = asked if total is None and scale == 1 else asked.pairs
            maps = sized(self.method, at, first, size)
            total = maps if total is None else total + maps
            if self.flip:
                total = total + sized(self.method, at.mirrored(), asked.pairs, size).flip(2)
        assert total is not None
        return total / (len(self.scales) * (1 + self.flip))


@dataclass(frozen=True)
class Crops(Method):
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

    def explain(self, view: View, targets: Targets) -> Float[Tensor, "n h w"]:
        asked = Remembered(targets, self.method)
        x = view.x
        maps = relative(wide(explained(self.method, view, asked)))
        boxes = [self._box(saliency) for saliency in maps]
        for n, ((b, members), (top, bottom, left, right)) in enumerate(zip(asked.pairs, boxes, strict=True)):
            crop = F.interpolate(wide(x[b : b + 1, :, top:bottom, left:right]), x.shape[2:], mode="bilinear")
            closer = View(view.classifier, crop.to(x.dtype))
            again = relative(wide(explained(self.method, closer, [(0, members)])))
            if not again.any():
                continue
            back = F.interpolate(again[None], (bottom - top, right - left), mode="bilinear", antialias=True)[0, 0]
            maps[n] /= 2
            maps[n, top:bottom, left:right] += back / 2
        return maps

    @property
    def scales(self) -> tuple[float, ...]:
        return scales_of(self.method)

    def _box(self, saliency: Float[Tensor, "h w"]) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of the crop, in pixels; the whole photograph for a map of zeros."""
        inside = saliency > self.at * saliency.amax()
        if not inside.any():
            return 0, saliency.shape[0], 0, saliency.shape[1]
        sides = []
        for axis in (1, 0):
            where = inside.any(axis).nonzero()
            low, high = int(where[0]), int(where[-1]) + 1
            more = round(self.margin * (high - low))
            sides += [max(0, low - more), min(saliency.shape[1 - axis], high + more)]
        top, bottom, left, right = sides
        return top, bottom, left, right

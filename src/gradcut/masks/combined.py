"""Masks made of other makers' masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from gradcut import images
from gradcut.errors import MaskError
from gradcut.images import Photograph
from gradcut.masks.makers import MaskMaker, check_callable, check_fraction, check_input, check_masks
from gradcut.seeds import Seeds


@dataclass(frozen=True)
class Vote:
    """Pixels in more than a share of several makers' masks.

    ``Vote([GraphCut(grid=112), GraphCut(grid=224), GraphCut(grid=448)])`` cuts the photograph at three scales, as
    the student project proposes for small objects.

    Args:
        makers: whose masks, one at least.
        share: from 0, every pixel of any mask, to less than 1; at one half the majority decides.

    Raises:
        MaskError: no makers, or a share outside its range.
    """

    makers: Sequence[MaskMaker]
    share: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.makers, Sequence):
            raise MaskError(f"makers: expected a list of mask makers, got {self.makers!r}")
        object.__setattr__(self, "makers", tuple(self.makers))  # a frozen dataclass sets its own field so
        for maker in self.makers:
            if not callable(maker):
                raise MaskError(f"makers: expected mask makers, got {maker!r}")
        if not self.makers:
            raise MaskError("makers: expected one mask maker at least, got none")
        check_fraction(self, "share")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        check_input(photograph, saliency, seeds)
        votes = np.zeros((len(saliency), *photograph.shape[:2]), dtype=np.uint16)
        for maker in self.makers:
            masks = maker(photograph, saliency, seeds)
            check_masks(masks, photograph, saliency, maker)
            votes += masks
        is_elected: Bool[np.ndarray, "n H W"] = votes > self.share * len(self.makers)
        return is_elected


@dataclass(frozen=True)
class Cleaned:
    """Another maker's masks without the parts and the small holes that the saliency does not hold.

    Parts and holes are connected over the edges of pixels. A part goes that is smaller than ``crumbs`` and whose
    saliency is below ``least`` throughout; where that would be every part, that of the most salient pixel stays. A
    hole is filled that is smaller than ``holes`` and whose mean saliency is ``low`` at least. What holds a seed stays:
    a part with one of the foreground, a hole with one of the background.

    The defaults are of COCO photographs: larger crumbs cost herds their animals.

    Args:
        maker: whose masks.
        crumbs: share of the mask, from 0, where all parts stay, to less than 1.
        least: what a part's highest saliency must reach, relative to the map's maximum, from 0 to less than 1.
        holes: share of the mask, from 0, where all holes stay, to less than 1.
        low: relative saliency from 0 to less than 1.

    Raises:
        MaskError: a fraction outside its range.
    """

    maker: MaskMaker
    crumbs: float = 0.1
    least: float = 0.6
    holes: float = 0.01
    low: float = 0.4

    def __post_init__(self) -> None:
        check_callable(self, "maker", "a mask maker")
        for name in ("crumbs", "least", "holes", "low"):
            check_fraction(self, name)

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        check_input(photograph, saliency, seeds)
        masks = self.maker(photograph, saliency, seeds)
        check_masks(masks, photograph, saliency, self.maker)
        cleaned = masks.copy()
        for mask, class_map, drawn in zip(cleaned, saliency, seeds, strict=True):
            box = images.box_of(mask)
            if box is not None:
                self._clean(mask, box, class_map, drawn)
        return cleaned

    def unmoved(self, saliency: Float[np.ndarray, "h w"], before: Seeds, after: Seeds) -> bool:
        """Whether added seeds leave the other maker's mask alone: in it they hold parts and holes that stay anyway."""
        moved: bool = not self.maker.unmoved(saliency, before, after)  # type: ignore[attr-defined]
        return not moved

    def _clean(
        self,
        mask: Bool[np.ndarray, "H W"],
        box: tuple[int, int, int, int],
        saliency: Float[np.ndarray, "h w"],
        seeds: Seeds,
    ) -> None:
        """In place. Nothing outside the mask's box is a part, nor a hole."""
        left, top, width, height = box
        rows, columns = (
            (first + np.arange(length)) * places // side
            for first, length, places, side in zip(
                (top, left), (height, width), saliency.shape, mask.shape, strict=True
            )
        )
        inside = mask[top : top + height, left : left + width]
        maximum = float(saliency.max())

        parts, sizes = _parts(inside)
        stays = sizes >= self.crumbs * inside.sum()
        held = seeds.foreground | (saliency >= self.least * maximum)
        stays[parts[held[rows][:, columns]]] = True
        if not stays[1:].any():
            stays[parts.flat[np.where(inside, saliency[rows][:, columns], -1).argmax()]] = True
        inside &= stays[parts]  # where there is no part there is no mask

        gaps, sizes = _parts(~inside)
        is_hole = sizes < self.holes * inside.sum()
        is_hole[0] = False
        for border in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
            is_hole[border] = False
        y, x = np.nonzero(is_hole[gaps])
        hole, place = gaps[y, x], (rows[y], columns[x])
        is_hole &= np.bincount(hole, saliency[place], len(sizes)) >= self.low * maximum * sizes
        is_hole[hole[seeds.background[place]]] = False
        inside |= is_hole[gaps]


def _parts(mask: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    """The number of each pixel's connected part, 0 outside the mask, and the parts' sizes by number."""
    parts, count = ndimage.label(mask)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)

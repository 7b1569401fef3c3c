"""Masks made of other makers' masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

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
    """Another maker's masks without crumbs and small holes (connected over the edges of pixels).

    Args:
        maker: whose masks.
        holes: fill holes smaller than this share of the photograph, from 0 to less than 1; a hole touches no
            border.
        crumbs: drop parts smaller than this share; the largest part always stays.

    Raises:
        MaskError: a share outside its range.
    """

    maker: MaskMaker
    holes: float = 0.001
    crumbs: float = 0.001

    def __post_init__(self) -> None:
        check_callable(self, "maker", "a mask maker")
        check_fraction(self, "holes")
        check_fraction(self, "crumbs")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        check_input(photograph, saliency, seeds)
        masks = self.maker(photograph, saliency, seeds)
        check_masks(masks, photograph, saliency, self.maker)
        return np.stack([self._clean(mask) for mask in masks]) if len(masks) else masks

    def _clean(self, mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        parts, sizes = _parts(mask)
        is_object = sizes >= min(self.crumbs * mask.size, sizes[1:].max(initial=0))
        is_object[0] = False
        mask = is_object[parts]
        gaps, sizes = _parts(~mask)
        is_hole = sizes < self.holes * mask.size
        for border in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
            is_hole[border] = False
        is_hole[0] = False
        cleaned: Bool[np.ndarray, "H W"] = mask | is_hole[gaps]
        return cleaned


def _parts(mask: Bool[np.ndarray, "H W"]) -> tuple[np.ndarray, np.ndarray]:
    """The number of each pixel's connected part, 0 outside the mask, and the parts' sizes by number."""
    parts, count = ndimage.label(mask)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)

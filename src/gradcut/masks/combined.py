"""Masks made of other makers' masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from gradcut.errors import MaskError
from gradcut.images import Photograph
from gradcut.masks.makers import MaskMaker, check_fraction
from gradcut.seeds import Seeds


@dataclass(frozen=True)
class Vote:
    """Pixels in more than a share of several makers' masks.

    ``Vote([GraphCut(grid=112), GraphCut(grid=224), GraphCut(grid=448)])`` cuts the photograph at three scales, as
    the student project proposes for small objects.

    Args:
        makers: whose masks, one at least.
        share: from 0, every pixel of any mask, to less than 1; at one half the majority decides.
    """

    makers: tuple[MaskMaker, ...]
    share: float

    def __init__(self, makers: Sequence[MaskMaker], share: float = 0.5) -> None:
        for key, value in {"makers": tuple(makers), "share": share}.items():
            object.__setattr__(self, key, value)  # a frozen dataclass sets its own fields so
        if not self.makers:
            raise MaskError("makers: expected one mask maker at least, got none")
        check_fraction(self, "share")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        votes = sum(maker(photograph, saliency, seeds).astype(np.uint16) for maker in self.makers)
        return np.asarray(votes > self.share * len(self.makers))


@dataclass(frozen=True)
class Cleaned:
    """Another maker's masks without crumbs and small holes (connected over the edges of pixels).

    Args:
        maker: whose masks.
        holes: fill holes smaller than this share of the photograph, from 0 to less than 1; a hole touches no
            border.
        crumbs: drop parts smaller than this share; the largest part always stays.
    """

    maker: MaskMaker
    holes: float = 0.001
    crumbs: float = 0.001

    def __post_init__(self) -> None:
        check_fraction(self, "holes")
        check_fraction(self, "crumbs")

    def __call__(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = self.maker(photograph, saliency, seeds)
        return np.stack([self._clean(mask) for mask in masks]) if len(masks) else masks

    def _clean(self, mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        parts, sizes = _parts(mask)
        kept = sizes >= min(self.crumbs * mask.size, sizes[1:].max(initial=0))
        kept[0] = False
        mask = kept[parts]
        gaps, sizes = _parts(~mask)
        filled = sizes < self.holes * mask.size
        for border in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
            filled[border] = False
        filled[0] = False
        cleaned: Bool[np.ndarray, "H W"] = mask | filled[gaps]
        return cleaned


def _parts(mask: Bool[np.ndarray, "H W"]) -> tuple[np.ndarray, np.ndarray]:
    """The number of each pixel's connected part, 0 outside the mask, and the parts' sizes by number."""
    parts, count = ndimage.label(mask)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)

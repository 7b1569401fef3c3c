"""The outline at the photograph's own resolution: a second cut, in a narrow band round the boundary of a mask."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8
from scipy import ndimage

from gradcut import images
from gradcut.compact import CompactMask
from gradcut.errors import MaskError, check_least
from gradcut.images import Photograph
from gradcut.masks.bands import contrast_within, likeness, widen
from gradcut.masks.contrasts import DIAGONAL
from gradcut.masks.kept import KEPT, digest
from gradcut.masks.makers import (
    CompactMaker,
    MaskMaker,
    check_between,
    check_callable,
    check_input,
    check_masks,
    is_one_by_one,
)
from gradcut.masks.maxflow import NEIGHBOURS, min_cut_within
from gradcut.seeds import Seeds


@dataclass(frozen=True)
class Outlined(CompactMaker):
    """Another maker's masks, with the outline cut again at the photograph's own resolution.

    A mask that was made on a coarse grid has steps as long as a place. Of the pixels within ``reach`` places of its
    boundary those that are inside are found anew by an exact minimum cut, one class at a time (a narrow band, Xu et
    al., "Object Segmentation Using Graph Cuts Based Active Contours", CVPR 2003). The energy is ``sum_p (2 g_p - 1)
    [L_p = 0] / d + smoothness sum_pq w_pq [L_p != L_q]`` over 8 neighbours, with ``g`` the mask blurred by a Gaussian,
    ``d`` a place's size in pixels, and weights ``w = exp(-|a_p - a_q|^2 / 2 mean)`` of the photograph's own colours
    (RGB), with the mean over the bands, rounded. So the outline follows an edge of the photograph where there is one,
    and is smooth where there is none. The last outlines are kept, so that the same is not cut twice.

    All other pixels, and seeds, stay what they are. Of what is thinner than the band the middle half stays and the mask
    is not blurred, so that nothing thin is lost. Two masks that touch may overlap afterwards by a few pixels. Time and
    memory grow with the length of the boundary, but for a few passes over the photograph's pixels.

    Args:
        maker: whose masks.
        grid: how many places a side the masks were made on, at least 1; that of the maker.
        reach: of the band, in places to either side of the boundary, above 0; counted in half places.
        blur: the Gaussian's standard deviation in places, above 0.
        smoothness: of the outline, at least 0.
        limit: a photograph of more pixels is shrunk to so many, masks and all, and the masks are enlarged; at least 1.

    Raises:
        MaskError: an option outside its range.
    """

    maker: MaskMaker
    grid: int = 160
    reach: float = 1.0
    blur: float = 1.5
    smoothness: float = 0.2
    limit: int = 1_000_000

    def __post_init__(self) -> None:
        check_callable(self, "maker", "a mask maker")
        check_least(MaskError, self, grid=1, limit=1, smoothness=0.0)
        check_between(self, "reach", 0)
        check_between(self, "blur", 0)

    def compact(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> list[CompactMask]:
        check_input(photograph, saliency, seeds)
        size = photograph.shape[:2]
        if not is_one_by_one(self.maker):
            small = self._small(photograph)
            return self._cut(small, self._outlines(small, size, saliency, seeds))
        look = digest(photograph)
        small = KEPT.get(("small", look, self.limit), lambda: self._small(photograph))
        keys = [("outline", self, look, digest(class_map)) for class_map in saliency]
        known = [self._known(*each) for each in zip(keys, saliency, seeds, strict=True)]
        missing = [number for number, outline in enumerate(known) if outline is None]
        made = self._outlines(small, size, saliency[missing], [seeds[number] for number in missing])
        for number, outline in zip(missing, made, strict=True):
            known[number] = KEPT.put((*keys[number], *map(digest, seeds[number])), outline)
        return self._cut(small, [outline for outline in known if outline is not None])

    def _small(self, photograph: Photograph) -> UInt8[np.ndarray, "h w 3"]:
        """The photograph, shrunk if it has more pixels than the limit."""
        h, w = photograph.shape[:2]
        if h * w <= self.limit:
            return photograph
        scale = np.sqrt(self.limit / (h * w))
        return images.resize(photograph, (max(1, int(h * scale)), max(1, int(w * scale))))

    def _known(self, key: tuple[Hashable, ...], saliency: Float[np.ndarray, "h w"], seeds: Seeds) -> _Outline | None:
        """The same map's outline from before, if it had the same seeds or the new ones say nothing new."""
        unmoved = self.maker.unmoved  # type: ignore[attr-defined]
        same: _Outline | None = KEPT.find((*key, *map(digest, seeds)))
        others = (one for one in KEPT.alike(key) if one.agrees(seeds) and unmoved(saliency, one.seeds, seeds))
        return next(others, None) if same is None else same

    def _outlines(
        self,
        photograph: Photograph,
        size: tuple[int, int],
        saliency: Float[np.ndarray, "n h w"],
        seeds: Sequence[Seeds],
    ) -> list[_Outline]:
        """The masks and their bands, before the second cut."""
        if not len(saliency):
            return []
        masks = self.maker(photograph, saliency, seeds)
        check_masks(masks, photograph, saliency, self.maker)
        small = masks.shape[1:]
        # Two cells a place; a cell is a pixel at least.
        cells = tuple(min(2 * self.grid, side) for side in small)
        outlines = []
        for mask, drawn in zip(masks, seeds, strict=True):
            cut = mask.copy()
            is_near, blurred = self._band(images.coverage(mask, cells))
            near = np.flatnonzero(_nearest(is_near, small))
            foreground, background = (_nearest(side, small).flat[near] for side in drawn)
            cut.flat[near] = (cut.flat[near] | foreground) & ~background
            band = near[~(foreground | background)].astype(np.int32)
            pull = self._pull(blurred, band, small)
            outlines.append(_Outline(mask, drawn, band, pull, (None, CompactMask(cut, size))))
        return outlines

    def _cut(self, photograph: Photograph, outlines: Sequence[_Outline]) -> list[CompactMask]:
        """The masks with their bands cut."""
        scale, masks = _scale(photograph, outlines), []
        for outline in outlines:
            cut_by, mask = outline.newest
            if len(outline.band) and cut_by != scale:
                weight = np.zeros((8, len(outline.band)), np.float32)
                likeness(photograph, outline.band, np.array(NEIGHBOURS), scale, DIAGONAL, weight)
                cut = mask.made.copy()
                cut.flat[outline.band] = min_cut_within(cut, outline.band, outline.pull, self.smoothness * weight)
                mask = CompactMask(cut, mask.size)
                outline.newest = scale, mask
            masks.append(mask)
        return masks

    def _band(self, cover: Float[np.ndarray, "r c"]) -> tuple[Bool[np.ndarray, "r c"], Float[np.ndarray, "r c"]]:
        """Which cells are the band's, and the blurred mask."""
        steps = [round(self.reach * cells / self.grid) for cells in cover.shape]
        blur = [self.blur * cells / self.grid for cells in cover.shape]
        near, blurred = np.zeros(cover.shape, dtype=bool), ndimage.gaussian_filter(cover, blur, mode="nearest")
        for side in (cover >= 0.5, cover < 0.5):
            if side.all():  # there is no boundary
                break
            # A mask does not end where the photograph does.
            distance = ndimage.distance_transform_cdt(np.pad(side, 1, mode="edge"), "chessboard")[1:-1, 1:-1]
            # Far from the middle of the side the highest distance in the window is steps more than the own one.
            highest = ndimage.maximum_filter(distance, [2 * step + 1 for step in steps])
            near |= side & (2 * distance <= highest)
            # What is thin would be blurred away.
            is_thin = side & (highest <= min(steps))
            blurred[is_thin] = cover[is_thin]
        return near, blurred

    def _pull(
        self, blurred: Float[np.ndarray, "r c"], band: Int32[np.ndarray, " m"], size: tuple[int, int]
    ) -> Float[np.ndarray, " m"]:
        """What draws the band's pixels to the foreground."""
        pixels = zip(np.divmod(band, size[1]), blurred.shape, size, strict=True)
        where = [(pixel + 0.5) * (cells / side) - 0.5 for pixel, cells, side in pixels]
        share: np.ndarray = ndimage.map_coordinates(blurred, where, order=1, mode="nearest")
        pull: np.ndarray = (2.0 * share - 1) * self.grid / np.sqrt(size[0] * size[1])
        return pull


@dataclass(eq=False)
class _Outline:
    """A class's mask with the band in which it is cut again.

    ``inner`` is the other maker's mask, ``newest`` the one after the cut, with the contrast's scale; before it None.
    """

    inner: Bool[np.ndarray, "h w"]
    seeds: Seeds
    band: Int32[np.ndarray, " m"]
    pull: Float[np.ndarray, " m"]
    newest: tuple[float | None, CompactMask]

    def agrees(self, seeds: Seeds) -> bool:
        """Whether seeds that were added are on their own side of both masks already."""
        final = self.newest[1].made
        for now, before, side in zip(seeds, self.seeds, (True, False), strict=True):
            if (added := now & ~before).any():
                pixels = _nearest(added, self.inner.shape)
                if (self.inner[pixels] != side).any() or (final[pixels] != side).any():
                    return False
        return True


#: Steps of an octave in which the contrast's scale is counted.
STEPS = 16


def _scale(photograph: Photograph, outlines: Sequence[_Outline]) -> float:
    """``-1 / 2 mean(|a_p - a_q|^2)`` over all bands together and the pixels beside them; 0 where they are all alike.

    The mean is rounded by 2 % at most, to steps of 4 %: a stroke in one class's mask, which hardly changes it, leaves
    the others' alone.
    """
    near = np.zeros(photograph.shape[:2], dtype=np.uint8)
    for outline in outlines:
        widen(near, outline.band)
    total, count = contrast_within(photograph, near)
    return float(-0.5 * 2 ** (-round(STEPS * np.log2(total / count)) / STEPS)) if total else 0.0


def _nearest(values: Bool[np.ndarray, "r c"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The value of the cell that each pixel of a grid of ``size`` = (height, width) lies in."""
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, values.shape, strict=True))
    nearest: np.ndarray = values[rows][:, columns]
    return nearest

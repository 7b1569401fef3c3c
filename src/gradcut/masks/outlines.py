"""The outline at the photograph's own resolution: a second cut, in a narrow band round the boundary of a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from gradcut import images
from gradcut.compact import CompactMask
from gradcut.errors import MaskError, check_least
from gradcut.images import Photograph
from gradcut.masks.contrasts import DIAGONAL
from gradcut.masks.makers import CompactMaker, MaskMaker, check_between, check_callable, check_input, check_masks
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
    (RGB), with the mean over the bands. So the outline follows an edge of the photograph where there is one, and is
    smooth where there is none.

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
        h, w = photograph.shape[:2]
        if h * w > self.limit:
            scale = np.sqrt(self.limit / (h * w))
            small = images.resize(photograph, (max(1, int(h * scale)), max(1, int(w * scale))))
            return [CompactMask(mask, (h, w)) for mask in self._outlined(small, saliency, seeds)]
        return [CompactMask(mask) for mask in self._outlined(photograph, saliency, seeds)]

    def _outlined(
        self, photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: Sequence[Seeds]
    ) -> Bool[np.ndarray, "n H W"]:
        masks = self.maker(photograph, saliency, seeds)
        check_masks(masks, photograph, saliency, self.maker)
        cut, size = masks.copy(), masks.shape[1:]
        # Two cells a place; a cell is a pixel at least.
        cells = tuple(min(2 * self.grid, side) for side in size)
        bands, pulls = [], []
        for mask, drawn in zip(cut, seeds, strict=True):
            cover = images.coverage(mask, cells)
            is_near, blurred = self._band(cover)
            near = np.flatnonzero(_nearest(is_near, size))
            foreground, background = (_nearest(side, size).flat[near] for side in drawn)
            mask.flat[near] = (mask.flat[near] | foreground) & ~background
            bands.append(near[~(foreground | background)])
            pulls.append(self._pull(blurred, bands[-1], size))
        weights = _likeness(photograph, bands)
        for mask, band, pull, weight in zip(cut, bands, pulls, weights, strict=True):
            if len(band):
                mask.flat[band] = min_cut_within(mask, band, pull, self.smoothness * weight)
        return cut

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
        self, blurred: Float[np.ndarray, "r c"], band: Integer[np.ndarray, " m"], size: tuple[int, int]
    ) -> Float[np.ndarray, " m"]:
        """What draws the band's pixels to the foreground."""
        pixels = zip(np.divmod(band, size[1]), blurred.shape, size, strict=True)
        where = [(pixel + 0.5) * (cells / side) - 0.5 for pixel, cells, side in pixels]
        share: np.ndarray = ndimage.map_coordinates(blurred, where, order=1, mode="nearest")
        pull: np.ndarray = (2.0 * share - 1) * self.grid / np.sqrt(size[0] * size[1])
        return pull


def _likeness(photograph: Photograph, bands: Sequence[Integer[np.ndarray, " _"]]) -> list[Float[np.ndarray, "8 _"]]:
    """`contrasts.Exponential` in RGB, only where it is needed: of each band's pixels to their `NEIGHBOURS`."""
    h, w = photograph.shape[:2]
    near = np.zeros((h, w), dtype=bool)
    for band in bands:
        near.flat[band] = True
    pixels = np.flatnonzero(ndimage.binary_dilation(near, np.ones((3, 3))))
    number = np.full(h * w, -1, np.int32)
    number[pixels] = np.arange(len(pixels))
    colours = photograph.reshape(-1, 3)[pixels].astype(np.float32)
    y, x = np.divmod(pixels, w)
    squared = np.zeros((4, len(pixels)), np.float32)  # to the right, down, down right and down left
    total, count = 0.0, 0
    for steps, (down, right) in zip(squared, NEIGHBOURS[::2], strict=True):
        inside = np.flatnonzero((y + down < h) & (x + right >= 0) & (x + right < w))
        other = number[pixels[inside] + (down * w + right)]
        inside, other = inside[other >= 0], other[other >= 0]
        difference = colours[inside] - colours[other]
        steps[inside] = np.einsum("mc,mc->m", difference, difference)
        total, count = total + float(steps.sum(dtype=np.float64)), count + len(inside)
    weight = np.exp(squared * (-0.5 * count / total)) if total else np.ones_like(squared)
    weight[2:] *= DIAGONAL
    likeness = []
    for band in bands:
        both = []
        for alike, (down, right) in zip(weight, NEIGHBOURS[::2], strict=True):
            # What lies beyond the photograph's border gets some weight or other, which the cut ignores.
            back = np.maximum(band - (down * w + right), 0)
            both += [alike[number[band]], alike[number[back]]]
        likeness.append(np.stack(both))
    return likeness


def _nearest(values: Bool[np.ndarray, "r c"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The value of the cell that each pixel of a grid of ``size`` = (height, width) lies in."""
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, values.shape, strict=True))
    nearest: np.ndarray = values[rows][:, columns]
    return nearest

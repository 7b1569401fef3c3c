"""Masks held at the size that they were cut at, and made at the photograph's own when somebody looks.

A mask of a large photograph is cut on far fewer pixels than the photograph has, and enlarged. What is held is the cut,
and the pixels that a person painted, which count at the photograph's own size.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from gradcut import images

#: Pixels of a strip: larger masks are enlarged and measured in strips of so many at most.
STRIP = 4_000_000


def nowhere(size: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    """No pixel of a photograph, in one byte; read-only."""
    return np.broadcast_to(np.False_, size)


def is_nowhere(pixels: Bool[np.ndarray, "H W"]) -> bool:
    """Whether there is no pixel; at once for what `nowhere` made."""
    return not (pixels.flat[0] if pixels.strides == (0, 0) else pixels.any())


class Patch:
    """Some pixels of a photograph: the box round them, and which of its pixels they are."""

    def __init__(self, pixels: Bool[np.ndarray, "H W"]) -> None:
        self.size: tuple[int, ...] = pixels.shape
        self._cover: Float[np.ndarray, "_ _"] | None = None
        box = None if is_nowhere(pixels) else images.box_of(pixels)
        self.left, self.top, width, height = box or (0, 0, 0, 0)
        self.pixels = pixels[self.top : self.top + height, self.left : self.left + width].copy()

    def __bool__(self) -> bool:
        """Whether there is a pixel."""
        return bool(self.pixels.size)

    def lay(self, rows: Bool[np.ndarray, "r W"], top: int, value: bool) -> None:
        """Write a value to these pixels of a mask's rows, of which the first is the photograph's row ``top``."""
        height, width = self.pixels.shape
        first, last = max(self.top, top), min(self.top + height, top + len(rows))
        if first < last:
            part = rows[first - top : last - top, self.left : self.left + width]
            part[self.pixels[first - self.top : last - self.top]] = value

    def coverage(self, grid: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """How much of each pixel of a coarser grid these cover, 0 to 1, as `gradcut.images.coverage` has it."""
        if self._cover is None or self._cover.shape != grid:
            if self.size[0] * self.size[1] <= STRIP:
                whole = np.zeros(self.size, dtype=bool)
                self.lay(whole, 0, True)
                self._cover = images.coverage(whole, grid)
            else:
                self._cover = self._coverage(grid)
        return self._cover

    def _coverage(self, grid: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """The same from no more of the photograph than lies round these pixels, up to the rounding of their places."""
        cover = np.zeros(grid, dtype=np.float32)
        if not self:
            return cover
        (height, width), (h, w) = self.size, grid
        down, across = height / h, width / w
        first, last = int(self.top / down), min(h, int(np.ceil((self.top + len(self.pixels)) / down)))
        left, right = int(self.left / across), min(w, int(np.ceil((self.left + self.pixels.shape[1]) / across)))
        # Of the photograph only what lies under these pixels of the grid.
        y, x = int(first * down), int(left * across)
        under = np.zeros((int(np.ceil(last * down)) - y, int(np.ceil(right * across)) - x), dtype=bool)
        patch = under[self.top - y :, self.left - x :]
        patch[: len(self.pixels), : self.pixels.shape[1]] = self.pixels
        box = (left * across - x, first * down - y, right * across - x, last * down - y)
        cover[first:last, left:right] = images.coverage(under, (last - first, right - left), box)
        return cover


def together(patches: Sequence[Patch], without: Patch | None = None) -> Patch:
    """The pixels of any of several patches of one photograph, without those of another."""
    painted = [patch for patch in patches if patch]
    if len(painted) < 2 and not without:
        return (painted or patches)[0]
    whole = np.zeros(patches[0].size, dtype=bool)
    for patch in painted:
        patch.lay(whole, 0, True)
    if without:
        without.lay(whole, 0, False)
    return Patch(whole)


class CompactMask:
    """A mask of a photograph, held as small as it was made.

    Args:
        made: at any size; enlarged with the boundary where bilinear interpolation crosses one half.
        size: of the photograph, height and width; by default that of ``made``.
        painted: pixels of the photograph that are inside (true) or outside, the later ones over the earlier.
    """

    def __init__(
        self,
        made: Bool[np.ndarray, "h w"],
        size: tuple[int, int] | None = None,
        painted: Sequence[tuple[Patch, bool]] = (),
    ) -> None:
        self.made = made
        self.size: tuple[int, int] = made.shape if size is None else size
        self.painted = tuple((patch, value) for patch, value in painted if patch)
        self._whole: weakref.ref[np.ndarray] | None = None
        self._small: Bool[np.ndarray, "_ _"] | None = None

    def array(self) -> Bool[np.ndarray, "H W"]:
        """The mask at the photograph's size; read-only where it had to be made, and then held while it is in use."""
        if self.made.shape == self.size and not self.painted:
            return self.made
        whole = None if self._whole is None else self._whole()
        if whole is None:
            whole = np.empty(self.size, dtype=bool)
            for top, rows in self.strips():
                whole[top : top + len(rows)] = rows
            whole.setflags(write=False)
            self._whole = weakref.ref(whole)
        return whole

    def strips(self) -> Iterator[tuple[int, Bool[np.ndarray, "r W"]]]:
        """The mask from top to bottom in strips of at most `STRIP` pixels, each with its first row's number."""
        height, width = self.size
        count = max(1, STRIP // width)
        for top in range(0, height, count):
            yield top, self.rows(top, min(top + count, height))

    def rows(self, top: int, bottom: int) -> Bool[np.ndarray, "r W"]:
        """Some of the mask's rows, at the photograph's size."""
        height, width = self.size
        if bottom - top == height and height * width <= STRIP:
            rows = images.resize_mask(self.made, self.size)
            rows = rows.copy() if self.painted else rows
        else:
            rows = np.zeros((bottom - top, width), dtype=bool)
            first, last, left, right = self._reach
            first, last = max(first, top), min(last, bottom)
            if first < last and left < right:
                part = first, last, left, right
                rows[first - top : last - top, left:right] = images.resize_mask(self.made, self.size, part)
        for patch, value in self.painted:
            patch.lay(rows, top, value)
        return rows

    @cached_property
    def _reach(self) -> tuple[int, int, int, int]:
        """First and last row, first and last column that may be inside but for what is painted."""
        (height, width), (h, w) = self.size, self.made.shape
        box = images.box_of(self.made)
        if box is None:
            return 0, 0, 0, 0
        left, top, across, down = box
        # A pixel takes part in its neighbours', or where the mask is shrunk in those of all that one pixel stands for.
        far_down, far_across = 1 + h // height, 1 + w // width
        return (
            max(0, (top - far_down) * height // h), min(height, -(-(top + down + far_down) * height // h)),
            max(0, (left - far_across) * width // w), min(width, -(-(left + across + far_across) * width // w)),
        )  # fmt: skip

    def resized(self, size: tuple[int, int]) -> Bool[np.ndarray, "r c"]:
        """The mask at another size, without making it at the photograph's if that is larger; the last one is held."""
        if self._small is None or self._small.shape != size:
            if self.made.shape == self.size or max(self.size) <= max(self.made.shape):
                small = images.resize_mask(self.array(), size)
            else:
                small = images.resize_mask(self.made, size).copy()
                for patch, value in self.painted:
                    small[patch.coverage(size) >= 0.5] = value
            self._small = small
        return self._small

    def with_painted(self, painted: Sequence[tuple[Patch, bool]]) -> CompactMask:
        """The mask with more pixels painted over it; itself if there are none."""
        painted = [(patch, value) for patch, value in painted if patch]
        return CompactMask(self.made, self.size, (*self.painted, *painted)) if painted else self

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self._measured[0]

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, width and height in pixels, as COCO has it; None where nothing is inside."""
        return self._measured[1]

    @cached_property
    def _measured(self) -> tuple[int, tuple[int, int, int, int] | None]:
        area, lines, columns = 0, np.zeros(self.size[0], dtype=bool), np.zeros(self.size[1], dtype=bool)
        for top, rows in self.strips():
            area += int(np.count_nonzero(rows))
            lines[top : top + len(rows)] = rows.any(axis=1)
            columns |= rows.any(axis=0)
        return area, images.box_between(lines, columns)

    def any(self) -> bool:
        """Whether a pixel is inside."""
        return self.area > 0


def as_compact(mask: Bool[np.ndarray, "H W"] | CompactMask) -> CompactMask:
    """A mask of either kind, held so; an array is not copied."""
    return mask if isinstance(mask, CompactMask) else CompactMask(mask)


def stacked(masks: Sequence[CompactMask], size: tuple[int, int]) -> Bool[np.ndarray, "n H W"]:
    """Masks at their photograph's size, as one array."""
    whole = np.empty((len(masks), *size), dtype=bool)
    for place, mask in zip(whole, masks, strict=True):
        place[...] = mask.array()
    return whole

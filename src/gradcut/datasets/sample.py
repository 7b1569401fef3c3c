"""`Sample` and `Dataset`: photographs with the truth about them, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from jaxtyping import Bool
from PIL import Image

from gradcut import images
from gradcut.datasets.reading import times
from gradcut.errors import DatasetError
from gradcut.images import Photograph

#: The label of a dataset that says where the object is, not what it is.
OBJECT = "object"


@dataclass(frozen=True, eq=False)
class Sample:
    """A photograph and the truth about it.

    Attributes:
        name: what it is called in its dataset.
        image: the photograph.
        masks: one mask a class that is present; masks of different classes may overlap.
        ignore: pixels about which the truth says nothing: void borders, COCO's crowd regions.
        areas: of each class's single objects, in shares of the photograph, in (0, 1]. Where the dataset does not
            tell objects apart, a class's mask counts as one.
        doubtful: classes that are present in ignored regions only: neither right nor wrong to find.
        boxed: classes of whose objects some have a box for a mask.
    """

    name: str
    image: Photograph = field(repr=False)
    # "_ _" is H, W: a file may hold another size, and then the error has to name the sample.
    masks: Mapping[str, Bool[np.ndarray, "_ _"]] = field(repr=False)
    ignore: Bool[np.ndarray, "_ _"] = field(repr=False)
    areas: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False)
    doubtful: frozenset[str] = frozenset()
    boxed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        for what, mask in [*self.masks.items(), ("ignore", self.ignore)]:
            if mask.shape != size or mask.dtype != np.bool_:
                raise DatasetError(
                    f"{self.name}: {what}: expected a boolean mask of {times(size)}, the photograph's size, "
                    f"got {mask.dtype} of {times(mask.shape)}"
                )
        if not self.areas:
            shares = {label: (float(mask.mean()),) for label, mask in self.masks.items()}
            object.__setattr__(self, "areas", shares)  # a frozen dataclass sets its own field so
        if set(self.areas) != set(self.masks):
            raise DatasetError(f"{self.name}: areas: expected those of {sorted(self.masks)}, got {sorted(self.areas)}")

    @property
    def truth(self) -> Bool[np.ndarray, "H W"]:
        """The union of all the masks."""
        union = np.zeros(self.image.shape[:2], dtype=bool)
        for mask in self.masks.values():
            union |= mask
        return union

    def resized(self, size: tuple[int, int]) -> Sample:
        """Photograph and masks squashed to ``size`` = (height, width); masks take the nearest pixel."""
        if self.image.shape[:2] == size:
            return self
        masks = {label: _nearest(mask, size) for label, mask in self.masks.items()}
        return replace(self, image=images.resize(self.image, size), masks=masks, ignore=_nearest(self.ignore, size))


def _nearest(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    height, width = size
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples that are read when they are asked for: iterate, index or slice.

    Args:
        title: for a person: which dataset, which part of it.
        labels: every class that the truth knows; None where it does not name classes.
        names: of the samples, in order, no name twice.
        load: from a name to its sample; raises GradcutError where that fails.
    """

    title: str
    labels: tuple[str, ...] | None = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    load: Callable[[str], Sample] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, which: int) -> Sample: ...

    @overload
    def __getitem__(self, which: slice) -> Dataset: ...

    def __getitem__(self, which: int | slice) -> Sample | Dataset:
        if isinstance(which, slice):
            return replace(self, names=self.names[which])
        return self.load(self.names[which])

    def __iter__(self) -> Iterator[Sample]:
        return map(self.load, self.names)

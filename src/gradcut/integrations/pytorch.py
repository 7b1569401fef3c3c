"""A finished run as a dataset to train a segmentation network with."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gradcut import images
from gradcut.confidence import check_confidence
from gradcut.errors import GradcutError, RunError
from gradcut.formats.piles import AnnotatedPhotograph, run_pile

Item = tuple[Float[Tensor, "3 h w"], Int64[Tensor, "h w"]]


class PseudoLabels(Dataset[Any]):
    """The photographs of a run of `gradcut segment` with their class maps.

    An item is the photograph, ``Float "3 H W"`` in [0, 1], and its class map, ``Int64 "H W"``: 0 is background, i + 1
    class i, and ``ignored`` what the run is unsure of (`gradcut segment --void`). What a person has corrected counts
    in the place of what the run found. Photographs in which nothing was found, unless somebody says that this is right,
    that failed, or that somebody rejected are left out.

    Attributes:
        names: of the photographs, in order.
        classes: by number, beginning with ``"background"``.
        ignored: the number to ignore, as ``ignore_index`` of a loss: 255, or 65535 for more than 254 classes.

    Args:
        run: the run's folder.
        size: height and width of every item: photographs are resized bilinearly, class maps to the nearest pixel. None
            keeps each photograph's own, which a batch of several does not take.
        min_confidence: pixels of objects of less confidence are ignored, too; in [0, 1].
        transform: called with an item; what it returns is the item. The place for augmentation.

    Raises:
        RunError: the folder holds no run, or no photograph with an object; or corrections that cannot be used.
        GradcutError: an option out of range, or objects without the confidence that is asked for.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        size: tuple[int, int] | None = None,
        min_confidence: float = 0.0,
        transform: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        check_confidence("min_confidence", min_confidence)
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise GradcutError(f"size: expected height and width, got {size}")
        pile = run_pile(run)
        if pile.problems:
            raise RunError(f"run: {pile.problems[0]}")
        self.size, self.transform = size, transform
        self.classes = ("background", *pile.classes)
        self.ignored = 255 if len(pile.classes) <= 254 else 65535
        self._photographs = [p for p in pile.photographs if p.objects or p.decided]
        self._unsure = [() if p.decided else _unsure(p, min_confidence) for p in self._photographs]
        if not self._photographs:
            raise RunError(f"run: expected photographs with an object in {os.fspath(run)}, got none")
        self.names = tuple(photograph.name for photograph in self._photographs)

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, index: int) -> Any:
        """The photograph and its class map, or what ``transform`` makes of them.

        Raises:
            ImageError: one of the files is gone.
            RunError: the photograph has another size than when the run saw it.
        """
        one = self._photographs[index]
        photograph, classmap = images.read(one.path), one.classmap()
        if photograph.shape[:2] != classmap.shape:
            raise RunError(f"{one.path}: expected a photograph of {classmap.shape}, as the run saw it")
        unsure = (classmap == np.iinfo(classmap.dtype).max) | np.isin(classmap, self._unsure[index])
        classmap = np.where(unsure, self.ignored, classmap.astype(np.int32))
        if self.size is not None:
            photograph, classmap = images.resize(photograph, self.size), _nearest(classmap, self.size)
        item = (
            torch.from_numpy(np.array(photograph)).permute(2, 0, 1).float() / 255,
            torch.from_numpy(classmap.astype(np.int64)),
        )
        return item if self.transform is None else self.transform(*item)


def _unsure(photograph: AnnotatedPhotograph, minimum: float) -> tuple[int, ...]:
    """The numbers in the class map of the objects below a confidence."""
    if not minimum:
        return ()
    for item in photograph.objects:
        if item.confidence is None:
            raise GradcutError(
                f"min_confidence: expected a confidence for every object, {item.label!r} in {photograph.name} has none"
            )
    return tuple(item.index + 1 for item in photograph.objects if (item.confidence or 0.0) < minimum)


def _nearest(classmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.asarray(Image.fromarray(classmap.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST))

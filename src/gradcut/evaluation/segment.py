"""What an evaluation asks of a segmenter and of its result, and one segmenter a fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Integer

from gradcut.errors import EvaluationError
from gradcut.images import Photograph
from gradcut.records import described, fingerprint
from gradcut.segmenter import Segmenter


@runtime_checkable
class ObjectLike(Protocol):
    """A class that was found: as `gradcut.results.Object`. ``saliency`` and ``score`` may be None."""

    @property
    def label(self) -> str: ...

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]: ...

    @property
    def saliency(self) -> Float[np.ndarray, "h w"] | None: ...

    @property
    def score(self) -> float | None: ...


@runtime_checkable
class ResultLike(Protocol):
    """What was found in a photograph, best first, and the joint labelling: as `gradcut.Segmentation`."""

    @property
    def objects(self) -> Sequence[ObjectLike]: ...

    def labelmap(self) -> Integer[np.ndarray, "H W"]:
        """0 is background, i + 1 the i-th object."""


@runtime_checkable
class Segment(Protocol):
    """A photograph to what is found in it: a `gradcut.Segmenter`, or any callable of this signature."""

    def __call__(self, image: Photograph, labels: Sequence[str] | None, /) -> ResultLike:
        """``labels`` are the classes to ask for; None for those that are detected."""


@dataclass(frozen=True, eq=False)
class Region:
    """The plainest `ObjectLike`."""

    label: str
    mask: Bool[np.ndarray, "H W"]
    saliency: Float[np.ndarray, "h w"] | None = None
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Regions:
    """The plainest `ResultLike`; where masks overlap, the pixel goes to the first."""

    objects: tuple[Region, ...]
    size: tuple[int, int]

    def labelmap(self) -> Integer[np.ndarray, "H W"]:
        joint = np.zeros(self.size, dtype=np.int32)
        for number, region in reversed(list(enumerate(self.objects, start=1))):
            joint[region.mask] = number
        return joint


@dataclass(frozen=True)
class OutOfFold:
    """A recipe with one segmenter a fold: each photograph goes through the one that was fitted without it.

    Args:
        segmenters: one a fold.
        folds: from a photograph's path or file name to the fold that left it out; below 0 where none did. A dataset
            whose photographs go by names without an ending finds them too, unless several differ in the ending alone.
    """

    segmenters: tuple[Segment, ...]
    folds: Mapping[str, int] = field(repr=False)

    def of(self, name: str) -> Segment:
        """The segmenter for the photograph of that name.

        Raises:
            EvaluationError: no fold has left it out.
        """
        file = PurePath(name).name
        fold = next((known[key] for known in (self.folds, self._stems) for key in (name, file) if key in known), None)
        if fold is None or not 0 <= fold < len(self.segmenters):
            raise EvaluationError(f"folds: expected a fold below {len(self.segmenters)} for {name}, got {fold}")
        return self.segmenters[fold]

    @cached_property
    def _stems(self) -> dict[str, int]:
        times = Counter(PurePath(file).stem for file in self.folds)
        return {stem: fold for file, fold in self.folds.items() if times[stem := PurePath(file).stem] == 1}

    def record(self) -> dict[str, Any]:
        """What the rows depend on, as JSON values: as a segmenter's record, with all the heads for a classifier.

        Raises:
            GradcutError: a step of one's own whose source cannot be read.
        """
        parts = [record_of(segmenter) for segmenter in self.segmenters]
        heads = {"name": f"a head for each of {len(parts)} folds", "sha256": fingerprint({"segmenters": parts})}
        return {**parts[0], "classifier": heads, "folds": fingerprint({"folds": sorted(self.folds.items())})}


def segmenter_for(segmenter: Segment | OutOfFold, name: str) -> Segment:
    """The segmenter that the photograph of that name goes through."""
    return segmenter.of(name) if isinstance(segmenter, OutOfFold) else segmenter


def record_of(segmenter: Segment | OutOfFold) -> dict[str, Any]:
    """What a recipe's rows depend on, as JSON values.

    Raises:
        GradcutError: a step of one's own whose source cannot be read.
    """
    if isinstance(segmenter, Segmenter | OutOfFold):
        return segmenter.record()
    return {"segment": described(segmenter)}

"""Baselines that look at nothing: a mask of the whole photograph, and a centred box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcut.errors import EvaluationError
from gradcut.evaluation.segment import Region, Regions
from gradcut.images import Photograph


@dataclass(frozen=True)
class Rectangle:
    """A baseline that looks at nothing: every class is a centred box.

    Args:
        side: of the box, as a share of the photograph's height and width, in (0, 1].
    """

    side: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.side <= 1:
            raise EvaluationError(f"side: expected a share above 0, at most 1, got {self.side}")

    def __call__(self, image: Photograph, labels: Sequence[str] | None) -> Regions:
        if labels is None:
            raise EvaluationError("labels: a baseline detects nothing; expected labels, got None")
        size = (image.shape[0], image.shape[1])
        mask = np.zeros(size, dtype=bool)
        top, left = (round(length * (1 - self.side) / 2) for length in size)
        mask[top : size[0] - top, left : size[1] - left] = True
        return Regions(tuple(Region(label, mask) for label in labels), size)


#: They stand beside every recipe. The box has three quarters of the photograph's height and width.
BASELINES: Mapping[str, Rectangle] = {"whole": Rectangle(1.0), "box": Rectangle(0.75)}

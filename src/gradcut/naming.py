"""Which class does a given mask hold? What the classifier sees inside it, against what it sees outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from gradcut import images
from gradcut.errors import MaskError
from gradcut.images import Photograph
from gradcut.segmenter import Segmenter


@dataclass(frozen=True)
class Named:
    """A class that a mask may hold.

    Args:
        label: the class.
        score: ``probability`` times ``evidence``, in [0, 1]; 0 where the evidence is against it.
        probability: of the class, in the whole photograph.
        evidence: the mean saliency inside the mask less that outside, both relative to the map's maximum, in [-1, 1].
    """

    label: str
    score: float
    probability: float
    evidence: float


def name_masks(
    segmenter: Segmenter,
    photograph: Photograph,
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    labels: Sequence[str] | None = None,
    most: int = 10,
) -> list[tuple[Named, ...]]:
    """For each mask the classes that it may hold, the best first; classes with evidence against them are left out.

    Args:
        labels: the classes in question; by default the ``most`` that are most probable in the photograph.

    Raises:
        MaskError: a mask of another size than the photograph.
        ClassifierError, SaliencyError: as `Segmenter.explain` has them.
    """
    size = photograph.shape[:2]
    for mask in masks:
        if mask.shape != size:
            raise MaskError(f"masks: expected masks of {size}, as the photograph, got {mask.shape}")
    if not masks:
        return []
    asking = Segmenter(segmenter.classifier, segmenter.recipe, 0.0, most)
    (evidence,) = asking.explain([photograph], labels)
    named: list[tuple[Named, ...]] = []
    for mask in masks:
        found = []
        for detection, values in zip(evidence.found, evidence.saliency, strict=True):
            share = images.coverage(mask, (values.shape[0], values.shape[1]))
            relative = values / (float(values.max()) or 1.0)
            inside, outside = (float((relative * part).sum() / (part.sum() or 1)) for part in (share, 1 - share))
            difference = inside - outside
            if difference > 0:
                found.append(Named(detection.label, detection.score * difference, detection.score, difference))
        named.append(tuple(sorted(found, key=lambda each: -each.score)))
    return named

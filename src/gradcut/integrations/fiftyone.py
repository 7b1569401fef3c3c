"""A model for FiftyOne's ``dataset.apply_model``: masks as detections, and saliency as heat maps."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gradcut import images
from gradcut.errors import GradcutError
from gradcut.integrations import asking
from gradcut.results import Segmentation
from gradcut.segmenter import Segmenter


def model(segmenter: Segmenter, labels: Sequence[str] | None = None, saliency: bool = False) -> Any:
    """A ``fiftyone.Model`` of images.

    Without ``saliency`` it gives ``Detections``, each with label, box, mask, ``confidence`` (the IoU to expect; None
    where the recipe has none) and, as an attribute, the class's ``score``. With it, a dictionary: these as ``masks``,
    and as ``saliency`` a ``Heatmap`` in [0, 1], at each pixel the strongest class relative to its own maximum;
    FiftyOne then adds these names to that of the field.

    Args:
        segmenter: what finds the masks.
        labels: classes or groups; all that the classifier detects where there are none.

    Raises:
        GradcutError: FiftyOne is missing, or an unknown label.
    """
    if importlib.util.find_spec("fiftyone") is None:
        raise GradcutError("fiftyone: the package is not installed; pip install 'gradcut[fiftyone]'")
    from fiftyone.core import models

    kind = type("GradcutModel", (_Model, models.Model), {})
    return kind(segmenter, labels, saliency)


class _Model:
    """What ``fiftyone.Model`` leaves to those that inherit from it."""

    media_type = "image"
    ragged_batches = True
    transforms = None
    preprocess = False
    has_logits = False

    def __init__(self, segmenter: Segmenter, labels: Sequence[str] | None, saliency: bool) -> None:
        self.segmenter, self.saliency = segmenter, saliency
        #: By the name that results have, what was asked for.
        self.labels = {called: name for name in labels or () for called in segmenter.asked([name])}
        self.config = None  # FiftyOne looks there for thresholds that a model knows itself

    def predict(self, arg: np.ndarray) -> Any:
        """What is in a photograph, ``UInt8 "H W 3"``."""
        from fiftyone.core import labels

        photograph = images.as_photograph(arg)
        asked = tuple(self.labels.values())
        result = asking.found(self.segmenter, asked, photograph) if asked else self.segmenter(photograph)
        height, width = result.image.shape[:2]
        detections = []
        for item in result.objects:
            if (box := item.box) is None:
                continue
            left, top, across, down = box
            detections.append(
                labels.Detection(
                    label=self.labels.get(item.label, item.label),
                    bounding_box=[left / width, top / height, across / width, down / height],
                    mask=item.mask[top : top + down, left : left + across].copy(),
                    confidence=item.confidence,
                    score=item.score,
                )
            )
        masks = labels.Detections(detections=detections)
        if not self.saliency:
            return masks
        return {"masks": masks, "saliency": labels.Heatmap(map=_strongest(result), range=[0.0, 1.0])}


def _strongest(result: Segmentation) -> Float[np.ndarray, "H W"]:
    """Each pixel's strongest class relative to its own maximum, in [0, 1]; 0 where nothing was found."""
    size = result.image.shape[:2]
    strongest = np.zeros(size, dtype=np.float32)
    for item in result.objects:
        if (most := float(item.saliency.max())) > 0:
            np.maximum(strongest, images.resize_map(item.saliency / most, size), out=strongest)
    return strongest

"""Objects for the package supervision."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from gradcut.errors import GradcutError
from gradcut.results import Segmentation


def detections(result: Segmentation) -> Any:
    """The objects as ``supervision.Detections``, those without a pixel left out.

    ``class_id`` is the number in `Segmentation.classes`, groups after the classifier's own labels; ``confidence`` the
    IoU to expect, or None where the recipe has none; ``data`` has ``class_name`` and the classifier's ``score``.

    Raises:
        GradcutError: the package ``supervision`` is not installed.
    """
    if importlib.util.find_spec("supervision") is None:
        raise GradcutError("supervision: the package is not installed; pip install 'gradcut[supervision]'")
    import supervision

    items = [item for item in result.objects if item.mask.any()]
    boxes = np.array([item.box for item in items], dtype=np.float32).reshape(-1, 4)
    known = [item.confidence for item in items if item.confidence is not None]
    return supervision.Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        mask=np.stack([item.mask for item in items]) if items else np.zeros((0, *result.image.shape[:2]), dtype=bool),
        confidence=np.array(known, dtype=np.float32) if len(known) == len(items) else None,
        class_id=np.array([result.number(item) for item in items], dtype=int),
        data={
            "class_name": np.array([item.label for item in items], dtype=str),
            "score": np.array([item.score for item in items], dtype=np.float32),
        },
    )

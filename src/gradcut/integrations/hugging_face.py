"""What transformers' image-segmentation pipeline gives, from any classifier. transformers itself is not needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.sources import load_classifier
from gradcut.errors import GradcutError
from gradcut.recipes import Recipe
from gradcut.segmenter import Segmenter

#: A photograph: a path, an address, a PIL image or ``UInt8 "H W 3"``.
Input = Any


def pipeline(
    task: str = "image-segmentation",
    model: Classifier | str | os.PathLike[str] = "coco80",
    *,
    recipe: Recipe | str = "default",
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    top_k: int | None = None,
    device: str | None = None,
) -> Pipeline:
    """A callable that gives what ``transformers.pipeline("image-segmentation")`` gives: label, score and mask.

    Args:
        task: ``"image-segmentation"``.
        model: a classifier, or a name that `load_classifier` takes.
        recipe: how masks are made.
        labels: words for classes, of a model that takes such.
        threshold, top_k: of the detections, instead of the classifier's own.
        device: where the network runs.

    Raises:
        GradcutError: another task, or an option that cannot be used.
    """
    if task != "image-segmentation":
        raise GradcutError(f"task: expected 'image-segmentation', got {task!r}")
    if labels is not None and isinstance(model, Classifier):
        raise GradcutError("labels: expected a model's name with them; this one is a Classifier and has its labels")
    if not isinstance(model, Classifier):
        model = load_classifier(model) if labels is None else load_classifier(model, labels=labels)
    return Pipeline(Segmenter(model if device is None else model.to(device), recipe, threshold, top_k))


@dataclass(frozen=True)
class Pipeline:
    """Called with a photograph, or a list of them, gives for each a list of objects as dictionaries, best score first.

    ``label`` is the class, ``score`` its probability in [0, 1], and ``mask`` a PIL image of mode ``L`` and the
    photograph's size, 0 and 255. Where nothing is found the list is empty.
    """

    segmenter: Segmenter

    def __call__(self, inputs: Input, labels: Sequence[str] | None = None) -> list[Any]:
        """Segment a photograph, or each of a list.

        Args:
            labels: classes to ask for whatever their score, instead of the detected ones.

        Raises:
            GradcutError: as `Segmenter.__call__`.
        """
        if isinstance(inputs, list | tuple):
            return [self(each, labels) for each in inputs]
        return [
            {"score": item.score, "label": item.label, "mask": Image.fromarray(item.mask.astype(np.uint8) * 255)}
            for item in self.segmenter(inputs, labels).objects
        ]

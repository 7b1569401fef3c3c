"""CVAT's auto-annotation: ``cvat-cli task auto-annotate ID --function-module gradcut.integrations.cvat``.

Needs gradcut[cvat]. The command's options are those of `create`, as in ``-p classifier=str:coco80 -p top_k=int:3``.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property
from typing import Any

from PIL import Image

from gradcut import images
from gradcut.classifiers.sources import load_classifier, takes_words
from gradcut.errors import GradcutError
from gradcut.formats.outlines import outlines
from gradcut.integrations import asking
from gradcut.segmenter import Segmenter


def create(
    classifier: str = "coco80", recipe: str = "default", labels: str = "", threshold: float | None = None,
    top_k: int | None = None, disjoint: bool = False, tolerance: float = 1.0, device: str = "cpu",
) -> Function:  # fmt: skip
    """The function that `cvat-cli` calls.

    Args:
        classifier, recipe: by name, as `gradcut segment` takes them.
        labels: names with commas between them: of classes or groups, or words for a classifier that takes such. All of
            the classifier's own where it is empty.
        threshold, top_k, disjoint: as for `Segmenter`.
        tolerance: of polygons, in pixels, as in `gradcut.formats.outlines.outlines`.

    Raises:
        GradcutError: an option that cannot be used, or cvat-sdk is missing.
    """
    names = [name.strip() for name in labels.split(",") if name.strip()]
    words = names if takes_words(classifier) else None
    loaded = load_classifier(classifier, **({} if words is None else {"labels": words})).to(device)
    return Function(Segmenter(loaded, recipe, threshold, top_k, disjoint=disjoint), names, tolerance)


class Function:
    """A detection function of cvat-sdk: masks, or polygons where CVAT asks for them.

    CVAT's confidence threshold is the least confidence of an object, the IoU to expect of its mask.

    Args:
        segmenter: what finds the masks.
        labels: names of classes or groups; all of the classifier's where there are none.
        tolerance: of polygons, in pixels.

    Raises:
        GradcutError: an unknown label, or cvat-sdk is missing.
    """

    def __init__(self, segmenter: Segmenter, labels: list[str] | None = None, tolerance: float = 1.0) -> None:
        if importlib.util.find_spec("cvat_sdk") is None:
            raise GradcutError("cvat: cvat-sdk is missing; pip install 'gradcut[cvat]'")
        self.segmenter, self.tolerance = segmenter, tolerance
        #: By the name that results have, its number and what to ask for.
        self._labels = {called: name for name in labels or [] for called in segmenter.asked([name])}
        self.labels = tuple(self._labels.values()) or segmenter.classifier.labels

    @cached_property
    def spec(self) -> Any:
        """The labels, with their numbers, for CVAT to match by name with the task's."""
        from cvat_sdk import auto_annotation

        labels = [auto_annotation.label_spec(name, number, type="mask") for number, name in enumerate(self.labels)]
        return auto_annotation.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """The masks in a picture, as `cvat_sdk.auto_annotation.DetectionFunction` says.

        Raises:
            GradcutError: a threshold where the recipe gives no confidences.
        """
        from cvat_sdk import auto_annotation, masks

        photograph = images.as_photograph(image)
        result = asking.found(self.segmenter, self.labels, photograph) if self._labels else self.segmenter(photograph)
        if context.conf_threshold is not None:
            result = result.confident(context.conf_threshold)
        shapes = []
        for item in result.objects:
            number = self.labels.index(self._labels.get(item.label, item.label))
            score = {} if item.confidence is None else {"score": item.confidence}
            if context.conv_mask_to_poly:
                polygons = outlines(item.mask, self.tolerance)
                shapes += [auto_annotation.polygon(number, p.ravel().tolist(), **score) for p in polygons]
            elif item.mask.any():
                shapes.append(auto_annotation.mask(number, masks.encode_mask(item.mask), **score))
        return shapes

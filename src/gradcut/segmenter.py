"""Joins the steps: a photograph and a classifier to a `Segmentation`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gradcut import confidence, images
from gradcut.classifiers.classifier import Classifier, Detection, check_limits
from gradcut.images import Photograph, Photographs
from gradcut.recipes import Recipe, as_recipe
from gradcut.results import Object, Segmentation


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the network says about one photograph, before any mask: all that `Segmenter.cut` needs.

    ``saliency`` has one map for each detection in ``found``, at the classifier's input size.
    """

    photograph: Photograph = field(repr=False)
    found: tuple[Detection, ...]
    best: tuple[Detection, ...] = field(repr=False)
    saliency: Float[np.ndarray, "n h w"] = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)
    source: str = ""


@dataclass(frozen=True)
class Segmenter:
    """A classifier with a recipe: call it with a photograph, get a `Segmentation`.

    Args:
        classifier: as `gradcut.load_classifier` or `Classifier` makes it.
        recipe: the name of one in `RECIPES`, or a `Recipe` of your own.
        threshold, top_k: of the detections, instead of the classifier's own.
    """

    classifier: Classifier
    recipe: Recipe
    threshold: float | None
    top_k: int | None

    def __init__(
        self,
        classifier: Classifier,
        recipe: Recipe | str = "default",
        threshold: float | None = None,
        top_k: int | None = None,
    ) -> None:
        check_limits(threshold, top_k)
        recipe = as_recipe(recipe)
        classifier = classifier if recipe.size is None else classifier.at(recipe.size)
        fields = {"classifier": classifier, "recipe": recipe, "threshold": threshold, "top_k": top_k}
        for key, value in fields.items():
            object.__setattr__(self, key, value)  # a frozen dataclass sets its own fields so

    def __call__(
        self, image: Photograph | str | os.PathLike[str] | object, labels: Sequence[str] | None = None
    ) -> Segmentation:
        """Segment one photograph: a path, a PIL image or ``UInt8 "H W 3"``.

        Args:
            labels: classes to ask for whatever their score, instead of the detected ones; groups as
                `Classifier.find` finds them.

        Raises:
            ImageError: the photograph cannot be read.
            ClassifierError: an unknown label, or a model that does not do its part.
        """
        started = time.perf_counter()
        photograph = images.as_photograph(image)
        reading = time.perf_counter() - started
        source = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
        (evidence,) = self.explain([photograph], labels)
        return self.cut(replace(evidence, seconds={"read": reading, **evidence.seconds}, source=source))

    def explain(self, photographs: Photographs, labels: Sequence[str] | None = None) -> list[Evidence]:
        """The network's part, for several photographs at once: what is there, and its saliency.

        Detection happens inside the saliency's own forward pass.
        """
        classifier = self.classifier
        asked = None if labels is None else {label: classifier.find(label) for label in labels}
        found: list[tuple[Detection, ...]] = []
        best: list[tuple[Detection, ...]] = []

        def targets(logits: Tensor) -> list[tuple[int, int | tuple[int, ...]]]:
            best.extend(classifier.decide(logits, threshold=0, top_k=5))
            if asked is None:
                found.extend(classifier.decide(logits, self.threshold, self.top_k))
            else:
                found.extend(
                    tuple(
                        Detection(_name(classifier, label, i), i, classifier.score(p, i)) for label, i in asked.items()
                    )
                    for p in classifier.probabilities(logits)
                )
            return [(photograph, detection.index) for photograph, each in enumerate(found) for detection in each]

        clock = [time.perf_counter()]
        x = classifier.at(classifier.scaled(self.recipe.largest)).prepare(photographs)
        clock.append(time.perf_counter())
        detailed = self.recipe.saliency(classifier, x, targets).float()
        if tuple(detailed.shape[1:]) != classifier.size:
            detailed = F.interpolate(detailed[:, None], classifier.size, mode="area")[:, 0]
        maps = detailed.cpu().numpy()
        clock.append(time.perf_counter())
        share = np.diff(clock) / len(photographs)
        seconds = dict(zip(("prepare", "saliency"), share.tolist(), strict=True))
        ends = np.cumsum([len(each) for each in found])
        return [
            Evidence(photograph, each, others, maps[end - len(each) : end], seconds)
            for photograph, each, others, end in zip(photographs, found, best, ends, strict=True)
        ]

    def cut(self, evidence: Evidence) -> Segmentation:
        """The pixels' part, for one photograph: seeds and masks. It needs no network and may run on any thread."""
        recipe = self.recipe
        clock = [time.perf_counter()]
        seeds = [recipe.seeds(saliency) for saliency in evidence.saliency]
        clock.append(time.perf_counter())
        masks = recipe.masks(evidence.photograph, evidence.saliency, seeds)
        clock.append(time.perf_counter())
        seconds = {**evidence.seconds, **dict(zip(("seeds", "masks"), np.diff(clock).tolist(), strict=True))}
        sure = confidence.expected_iou(
            confidence.features(evidence.saliency, masks, [detection.score for detection in evidence.found]),
            recipe.name,
        )
        objects = tuple(
            Object(detection.label, detection.index, detection.score, saliency, seed, mask, iou)
            for detection, saliency, seed, mask, iou in zip(
                evidence.found, evidence.saliency, seeds, masks, sure, strict=True
            )
        )
        return Segmentation(
            evidence.photograph, objects, evidence.best, self.classifier, recipe, seconds, evidence.source
        )


def _name(classifier: Classifier, label: str, index: int | tuple[int, ...]) -> str:
    """The classifier's own spelling; a group or a namesake is called what it was asked for as."""
    own = classifier.labels[index] if isinstance(index, int) else label
    return own if own.casefold() == label.casefold() else label

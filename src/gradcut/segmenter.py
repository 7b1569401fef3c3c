"""Joins the steps: a photograph and a classifier to a `Segmentation`. Recipes are named settings of the steps."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from PIL import Image, ImageShow
from torch import Tensor

from gradcut import confidence, images, pictures
from gradcut.classifier import Classifier, Detection, check_limits
from gradcut.errors import GradcutError
from gradcut.images import Photograph, Photographs
from gradcut.masks import ColourCut, Expansion, GraphCut, MaskMaker
from gradcut.pictures import Picture
from gradcut.saliency import (
    Affinity,
    DeconvNet,
    Gradient,
    GuidedBackprop,
    MultiScale,
    PlaceProbability,
    Rivals,
    Saliency,
    Target,
)
from gradcut.seeds import Fractions, Percentiles, SeedRule, Seeds


@dataclass(frozen=True)
class Recipe:
    """A named choice of every step.

    Args:
        summary: one line for a person.
        size: of the classifier's input, height and width; None leaves the classifier's own.
        detail: how many times that size the photographs given to the saliency method have. Above 1 it is for methods
            that look at several sizes, as `MultiScale`; the maps come back at the classifier's size.
    """

    name: str
    summary: str
    saliency: Saliency
    seeds: SeedRule
    masks: MaskMaker
    size: int | tuple[int, int] | None = None
    detail: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.detail < float("inf"):
            raise GradcutError(f"detail: expected a number above 0, got {self.detail}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the steps are, in hexadecimal digits."""
        steps = (self.saliency, self.seeds, self.masks, self.size, self.detail)
        return hashlib.sha256(repr(steps).encode()).hexdigest()


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "default",
            "classes of places (or activation maps) at three sizes, rivalry, affinity of features, cut with colours",
            Affinity(
                Rivals(MultiScale(PlaceProbability(), (1.0, 5 / 3, 8 / 3), flip=False)), steps=(8, 4), scale=5 / 3
            ),
            Fractions(0.95, 0.02),
            ColourCut(),
            detail=8 / 3,
        ),
        Recipe(
            "fast",
            "as default, from one forward pass at one size",
            Affinity(Rivals(PlaceProbability()), steps=(8, 4)),
            Fractions(0.95, 0.02),
            ColourCut(middle=0.6),
        ),
        Recipe(
            "simonyan",
            "gradient of the probability, 95th and 30th percentile, graph cut, at 448 x 448",
            Gradient(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "guided",
            "as simonyan, with guided backpropagation",
            GuidedBackprop(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "deconvnet",
            "as simonyan, with DeconvNet's backward ReLU",
            DeconvNet(of="probability"),
            Percentiles(95, 30),
            GraphCut(),
            size=448,
        ),
        Recipe(
            "expansion",
            "gradient of the probability, grown from its 50 highest pixels over those above its 90th percentile",
            Gradient(of="probability"),
            Percentiles(90, 30),
            Expansion(50, 90),
            size=448,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Object:
    """A class that was found, and where.

    ``score`` is the class's probability in [0, 1]; ``saliency`` and ``seeds`` have the classifier's input
    size, ``mask`` the photograph's own. ``confidence`` is the IoU to expect of the mask, in [0, 1], as
    `gradcut.confidence.expected_iou` says.
    ``strokes`` is what `gradcut.refine` was given, at the photograph's size.
    """

    label: str
    index: int | tuple[int, ...]
    score: float
    saliency: Float[np.ndarray, "h w"] = field(repr=False)
    seeds: Seeds = field(repr=False)
    mask: Bool[np.ndarray, "H W"] = field(repr=False)
    confidence: float
    strokes: Seeds | None = field(default=None, repr=False)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The mask's left, top, width and height in pixels, as COCO has it; None for an empty mask."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        if not len(rows):
            return None
        top, left = int(rows[0]), int(columns[0])
        return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one photograph.

    Attributes:
        image: the photograph.
        objects: best score first; empty when no class reached the threshold.
        best: the classes with the highest scores, whether or not they reached the threshold.
        classifier, recipe: what was asked, and how.
        source: the photograph's path; empty for one that was given as pixels.
        seconds: time of each step for this photograph; a step shared by a batch counts its share.
    """

    image: Photograph = field(repr=False)
    objects: tuple[Object, ...]
    best: tuple[Detection, ...] = field(repr=False)
    classifier: Classifier
    recipe: Recipe
    seconds: Mapping[str, float] = field(repr=False)
    source: str = ""

    @cached_property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """The union of all the objects' masks."""
        union = np.zeros(self.image.shape[:2], dtype=bool)
        for found in self.objects:
            union |= found.mask
        return union

    def labelmap(self) -> Integer[np.ndarray, "H W"]:
        """The joint labelling: 0 is background, i + 1 the i-th object.

        Where masks overlap, the pixel goes to the class with the higher saliency, relative to its own maximum.
        """
        size = self.image.shape[:2]
        labels = np.zeros(size, dtype=np.uint8 if len(self.objects) < 256 else np.int32)
        strongest = np.full(size, -1.0, dtype=np.float32)
        for number, found in enumerate(self.objects, start=1):
            saliency = images.resize_map(found.saliency, size)
            relative = saliency / (float(saliency.max()) or 1.0)
            won = found.mask & (relative > strongest)
            labels[won], strongest[won] = number, relative[won]
        return labels

    @property
    def confidence(self) -> float | None:
        """The mean of the objects' confidences; None where nothing was found."""
        return float(np.mean([found.confidence for found in self.objects])) if self.objects else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classifier's labels, and after them the groups of classes that were asked for, in order."""
        groups = (found.label for found in self.objects if not isinstance(found.index, int))
        return (*self.classifier.labels, *groups)

    def number(self, found: Object) -> int:
        """Where an object's class stands in `classes`."""
        return found.index if isinstance(found.index, int) else self.classes.index(found.label)

    def classmap(self, void: tuple[float, float] | None = None) -> Integer[np.ndarray, "H W"]:
        """The joint labelling in numbers that mean the same in every photograph: 0 is background, i + 1 class i.

        Classes are numbered as in `classes`. uint8 and 255 for void where there are at most 254 of them, otherwise
        uint16 and 65535.

        Args:
            void: ``(low, high)``; a pixel that more than ``low`` and less than ``high`` of the masks from changed
                seeds hold, as `gradcut.confidence.support` makes them, is void.

        Raises:
            GradcutError: not ``0 <= low < high <= 1``, or more than 65,534 classes.
        """
        classes = len(self.classes)
        if classes > 65534:
            raise GradcutError(f"classmap: expected at most 65534 classes, got {classes}")
        kind = np.uint8 if classes <= 254 else np.uint16
        numbers = np.array([0, *(self.number(found) + 1 for found in self.objects)], dtype=kind)
        values: np.ndarray = numbers[self.labelmap()]
        if void is not None:
            low, high = checked_void(void)
            share = self.support().max(axis=0, initial=0)
            values[(share > low) & (share < high)] = np.iinfo(kind).max
        return values

    def support(self) -> Float[np.ndarray, "n H W"]:
        """In how many masks from changed seeds each object's pixels are, from 0 to 1."""
        found = self.objects
        if not found:
            return np.zeros((0, *self.image.shape[:2]), dtype=np.float32)
        saliency, masks = np.stack([o.saliency for o in found]), np.stack([o.mask for o in found])
        return confidence.support(self.image, saliency, [o.seeds for o in found], masks, self.recipe.masks)

    def overlay(self) -> Picture:
        """The photograph with the joint labelling in colours."""
        return pictures.overlay(self.image, self.labelmap())

    def picture(self) -> Picture:
        """One row an object: photograph, saliency, seeds, mask, masked photograph."""
        rows = [(f"{o.label}  {o.score:.2f}", o.saliency, o.seeds, o.mask) for o in self.objects]
        return pictures.strip(self.image, rows) if rows else self.image

    def show(self) -> None:
        """Show the result: in a notebook's cell, elsewhere as a picture in the system's viewer.

        Raises:
            GradcutError: there is no viewer.
        """
        shell = sys.modules.get("IPython")
        if shell is not None and hasattr(shell.get_ipython(), "kernel"):
            shell.display.display(self)
        elif not ImageShow.show(Image.fromarray(self.picture()), "gradcut"):
            raise GradcutError("show: no program that shows pictures was found; use result.save(folder)")

    def _repr_png_(self) -> bytes:
        return images.encode_png(self.picture())

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, and a line for each object."""
        picture = base64.b64encode(self._repr_png_()).decode()
        lines = [f"{o.label}: score {o.score:.2f}, {o.mask.mean():.0%} of the photograph" for o in self.objects]
        if not lines:
            best = ", ".join(f"{detection.label} {detection.score:.2f}" for detection in self.best)
            lines = [f"Nothing reaches the threshold; the best are {best}"]
        text = "<br>".join(map(html.escape, lines))
        return f'<img alt="" style="max-width: 100%" src="data:image/png;base64,{picture}"><p>{text}</p>'

    def save(self, folder: str | os.PathLike[str]) -> Mapping[str, Any]:
        """Write all of it below ``folder``, as `gradcut.export.save` says, and return the record.

        Raises:
            GradcutError: the folder cannot be written.
        """
        # The one import that points down the list of modules: `export` depends on this class, and a result
        # that could not save itself would cost every user a line.
        from gradcut import export

        name = Path(self.source).stem if self.source else "photograph"
        return export.save(self, Path(folder), name)


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

        def targets(logits: Tensor) -> list[Target]:
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
        x = classifier.at(classifier.scaled(self.recipe.detail)).prepare(photographs)
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


def checked_void(void: tuple[float, float]) -> tuple[float, float]:
    """The bounds of unsure pixels, or GradcutError unless ``0 <= low < high <= 1``."""
    low, high = void
    if not 0 <= low < high <= 1:
        raise GradcutError(f"void: expected two shares, 0 <= LOW < HIGH <= 1, got {low} and {high}")
    return low, high


def _name(classifier: Classifier, label: str, index: int | tuple[int, ...]) -> str:
    """The classifier's own spelling; a group or a namesake is called what it was asked for as."""
    own = classifier.labels[index] if isinstance(index, int) else label
    return own if own.casefold() == label.casefold() else label


def as_recipe(recipe: Recipe | str) -> Recipe:
    """The recipe of that name, or the recipe itself.

    Raises:
        GradcutError: no recipe has that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise GradcutError(f"recipe: expected one of {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe]

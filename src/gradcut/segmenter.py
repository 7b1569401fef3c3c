"""Joins the steps: a photograph and a classifier to a `Segmentation`."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from gradcut import confidence, images, overlaps
from gradcut.classifiers import Classifier, Detection, load_classifier
from gradcut.classifiers.arguments import check_limits
from gradcut.classifiers.classifier import NoMemoryError, memory_errors
from gradcut.compact import CompactMask
from gradcut.errors import ClassifierError, GradcutError, SaliencyError
from gradcut.images import Photograph, Photographs
from gradcut.network.view import View
from gradcut.recipes import RECIPES, Recipe, as_recipe, fitted_name, for_classifier, with_saliency
from gradcut.results import Object, Segmentation
from gradcut.saliency import GridMethod, Method, Target, explained, scales_of
from gradcut.saliency.presence import looks_at, with_places


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the network says about one photograph, before any mask: all that `Segmenter.cut` needs.

    ``saliency`` has one map for each detection in ``found``, at the classifier's input size. ``asked`` is whether they
    were asked for by name, so that none may be left out for having another's pixels.
    """

    photograph: Photograph = field(repr=False)
    found: tuple[Detection, ...]
    best: tuple[Detection, ...] = field(repr=False)
    saliency: Float[np.ndarray, "n h w"] = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)
    source: str = ""
    asked: bool = False


@dataclass(frozen=True)
class Segmenter:
    """A classifier with a recipe: call it with a photograph, get a `Segmentation`.

    Detected classes that have another's pixels are left out, as `Segmentation.without_borrowed` says; classes that were
    asked for by name are only marked.

    Args:
        classifier: as `gradcut.load_classifier` or `Classifier` makes it, or a name that the former takes.
        recipe: the name of one in `RECIPES`, or a `Recipe` of your own.
        threshold, top_k: of the detections, instead of the classifier's own.
        min_confidence: leave objects of less confidence out, in [0, 1]; see `Segmentation.confident`.
        disjoint: masks share no pixel, as `Segmentation.without_overlaps` makes them of what is not left out.

    Raises:
        GradcutError: something else than a classifier or a recipe, limits out of range, or ``min_confidence`` where
            the recipe gives no confidences on this classifier.
    """

    classifier: Classifier
    recipe: Recipe
    threshold: float | None
    top_k: int | None
    min_confidence: float | None
    disjoint: bool
    _own_size: tuple[int, int] = field(repr=False, compare=False)  # the classifier's, before the recipe's

    # Written out, because it takes more types than the fields have.
    def __init__(
        self,
        classifier: Classifier | str | os.PathLike[str],
        recipe: Recipe | str = "default",
        threshold: float | None = None,
        top_k: int | None = None,
        min_confidence: float | None = None,
        disjoint: bool = False,
    ) -> None:
        check_limits(threshold, top_k)
        if min_confidence is not None:
            confidence.check_confidence("min_confidence", min_confidence)
        recipe = as_recipe(recipe)
        if isinstance(classifier, str | os.PathLike):
            classifier = load_classifier(classifier)
        if not isinstance(classifier, Classifier):
            raise GradcutError(
                f"classifier: expected a Classifier or a name for load_classifier, got {type(classifier).__name__}; "
                "Classifier(model, labels) makes one of a torch.nn.Module"
            )
        own_size = classifier.size
        classifier = classifier if recipe.size is None else classifier.at(recipe.size)
        recipe = for_classifier(recipe, classifier)
        if min_confidence is not None and fitted_name(recipe) not in confidence.coefficients():
            raise GradcutError(
                f"min_confidence: {confidence.CONFIDENT} give confidences; {recipe.name!r} on {classifier.name} "
                "gives none"
            )
        values = {
            "classifier": classifier, "recipe": recipe, "threshold": threshold, "top_k": top_k,
            "min_confidence": min_confidence, "disjoint": disjoint, "_own_size": own_size,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)  # a frozen dataclass sets its own fields so

    def __call__(
        self, image: Photograph | Image.Image | str | os.PathLike[str], labels: Sequence[str] | None = None
    ) -> Segmentation:
        """Segment one photograph: a path, a PIL image or ``UInt8 "H W 3"``.

        Args:
            labels: classes to ask for whatever their score, instead of the detected ones; groups as
                `Classifier.find` finds them.

        Raises:
            ImageError: the photograph cannot be read.
            ClassifierError: an unknown label, or a model that does not do its part.
            SaliencyError, SeedError, MaskError: a step that does not do its part.
        """
        started = time.perf_counter()
        photograph = images.as_photograph(image)
        reading = time.perf_counter() - started
        source = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
        (evidence,) = self.explain([photograph], labels)
        return self.cut(replace(evidence, seconds={"read": reading, **evidence.seconds}, source=source))

    def resized(self, photograph: Photograph) -> UInt8[np.ndarray, "h w 3"]:
        """What the network is shown of a photograph; any thread may make it before `explain` asks for it."""
        return self.classifier.at(self.classifier.scaled(self.recipe.largest)).resized(photograph)

    def explain(
        self,
        photographs: Photographs,
        labels: Sequence[str] | None = None,
        resized: Sequence[UInt8[np.ndarray, "h w 3"]] | None = None,
    ) -> list[Evidence]:
        """The network's part, for several photographs at once: what is there, and its saliency.

        Detection happens inside the saliency's own forward pass.

        Args:
            labels: as for one photograph.
            resized: what `resized` has made of the photographs; None makes it now.

        Raises:
            ClassifierError: an unknown label, or a model that does not do its part.
            SaliencyError: a saliency method that cannot explain this classifier, or does not do its part. Where
                another size, recipe or method can, the message says which.
            NoMemoryError: memory does not hold so many photographs at once.
        """
        asked = None if labels is None else self.asked(labels)
        try:
            return self._explain(photographs, asked, resized)
        except NoMemoryError:
            raise
        except (ClassifierError, SaliencyError) as error:
            if not self._way_out:
                raise
            raise type(error)(f"{error}; {self._way_out}") from error

    @cached_property
    def _way_out(self) -> str:
        """The recipe's choices, and a change of them that this classifier takes; empty where they are not at fault.

        Found by trying on a grey photograph, once: what is recommended has worked here.
        """
        recipe, height, width = self.recipe, *self._own_size
        if not isinstance(recipe.saliency, Method) or self._takes(recipe):
            return ""
        changes: dict[str, Recipe] = {}
        if recipe.size is not None and height == width:  # the option takes one number
            changes[f"--size {height} (in Python, Recipe.size)"] = replace(recipe, size=height)
        changes['--recipe fast (in Python, recipe="fast")'] = RECIPES["fast"]
        python = 'recipes.with_saliency("fast", "Gradient")'
        changes[f"--recipe fast --saliency Gradient (in Python, {python})"] = with_saliency("fast", "Gradient")
        option = next((option for option, change in changes.items() if self._takes(change)), None)
        if option is None:
            return ""
        scaled = [self.classifier.scaled(scale) for scale in sorted(scales_of(recipe.saliency))]
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in scaled)
        why = "does not fit this classifier"
        if scaled != [self._own_size]:
            why = f"asks it about photographs of {sizes}, and its own size is {height} x {width}"
        return f"the recipe {recipe.name} {why}; {option} does"

    def _takes(self, recipe: Recipe) -> bool:
        """Whether a recipe explains this classifier, by its first class in a grey photograph."""
        grey = np.full((*self._own_size, 3), 128, dtype=np.uint8)
        try:
            Segmenter(self.classifier.at(self._own_size), recipe)._explain([grey], {self.classifier.labels[0]: (0,)})
        except GradcutError:
            return False
        return True

    def _explain(
        self,
        photographs: Photographs,
        asked: Mapping[str, tuple[int, ...]] | None,
        resized: Sequence[UInt8[np.ndarray, "h w 3"]] | None = None,
    ) -> list[Evidence]:
        classifier, method = self.classifier, self.recipe.saliency
        detections: list[tuple[Detection, ...]] = []
        best: list[tuple[Detection, ...]] = []
        calls = 0

        def targets(logits: Tensor) -> list[Target]:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise SaliencyError(f"saliency: expected {method!r} to ask for its targets once, it asked again")
            if larger:
                logits = with_places(view, logits)
            best.extend(classifier.decide(logits, threshold=0, top_k=5))
            if asked is None:
                detections.extend(classifier.decide(logits, self.threshold, self.top_k))
            else:
                detections.extend(
                    tuple(
                        Detection(label, members, classifier.score(probabilities, members))
                        for label, members in asked.items()
                    )
                    for probabilities in classifier.probabilities(logits)
                )
            return [(number, found.members) for number, several in enumerate(detections) for found in several]

        clock = [time.perf_counter()]
        size = classifier.scaled(self.recipe.largest)
        with memory_errors(len(photographs), size):
            large = classifier.at(size)
            view = View(classifier, large.prepare(photographs) if resized is None else large.normalised(resized))
            # Only where the method looks at these sizes anyway: there the passes are made once.
            scales = looks_at(classifier)
            larger = [view.at(scale) for scale in scales[1:]] if max(scales) <= self.recipe.largest else []
            for at in larger:
                at.share()
            clock.append(time.perf_counter())
            if isinstance(method, GridMethod):
                maps = method.sized(view, targets, classifier.size)
            else:
                maps = explained(method, view, targets)
            if not calls:
                raise SaliencyError(f"saliency: expected {method!r} to ask for its targets, it did not")
            detailed = _checked_maps(method, maps, sum(map(len, detections)))
            if tuple(detailed.shape[1:]) != classifier.size:
                detailed = F.interpolate(detailed[:, None], classifier.size, mode="area")[:, 0]
            saliency = detailed.cpu().numpy()
        clock.append(time.perf_counter())
        share = np.diff(clock) / len(photographs)
        seconds = dict(zip(("prepare", "saliency"), share.tolist(), strict=True))
        ends = np.cumsum([len(several) for several in detections])
        return [
            Evidence(
                photograph, several, strongest, saliency[end - len(several) : end], seconds, asked=asked is not None
            )
            for photograph, several, strongest, end in zip(photographs, detections, best, ends, strict=True)
        ]

    def cut(self, evidence: Evidence) -> Segmentation:
        """The pixels' part, for one photograph: seeds and masks. It needs no network and may run on any thread.

        Raises:
            SeedError, MaskError: a seed rule or a mask maker that does not do its part.
        """
        recipe, saliency, detections = self.recipe, evidence.saliency, evidence.found
        clock = [time.perf_counter()]
        seeds = [recipe.make_seeds(values) for values in saliency]
        clock.append(time.perf_counter())
        masks = recipe.make_masks(evidence.photograph, saliency, seeds)
        clock.append(time.perf_counter())
        seconds = {**evidence.seconds, **dict(zip(("seeds", "masks"), np.diff(clock).tolist(), strict=True))}
        scores = [detection.score for detection in detections]
        expected = confidence.expected(saliency, masks, scores, fitted_name(recipe))
        owners = self._owners(masks, detections)
        objects = tuple(
            Object(detection.label, detection.members, detection.score, *rest)
            for detection, *rest in zip(detections, saliency, seeds, masks, expected, owners, strict=True)
        )
        result = Segmentation(
            evidence.photograph, objects, evidence.best, self.classifier, recipe, seconds, evidence.source
        )
        result = result if evidence.asked else result.without_borrowed()
        result = result if self.min_confidence is None else result.confident(self.min_confidence)
        return result.without_overlaps() if self.disjoint else result

    def _owners(self, masks: Sequence[CompactMask], detections: Sequence[Detection]) -> Sequence[str | None]:
        """Whose pixels each class has, if not its own. Where classes share one probability out, nothing is known."""
        if not self.classifier.multilabel:
            return [None] * len(detections)
        scores, members = [found.score for found in detections], [found.members for found in detections]
        numbers = overlaps.owners(masks, scores, members, self.classifier.size)
        return [None if number is None else detections[number].label for number in numbers]

    def asked(self, labels: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The classes that labels ask for, as results call them, and the outputs that each consists of.

        A class of the classifier has the classifier's own spelling; a group, and a class that was asked for by another
        name, is called what it was asked for as.

        Raises:
            ClassifierError: an unknown label.
            GradcutError: something else than a list of labels.
        """
        if isinstance(labels, str) or not isinstance(labels, Sequence):
            raise GradcutError(f"labels: expected a list of labels, got {labels!r}")
        asked = {}
        for label in labels:
            members = self.classifier.find(label)
            own = self.classifier.labels[members[0]]
            asked[own if len(members) == 1 and own.casefold() == label.casefold() else label] = members
        return asked

    @property
    def limits(self) -> tuple[float, int]:
        """The least probability and the greatest number of detections: its own, else the classifier's."""
        threshold = self.classifier.threshold if self.threshold is None else self.threshold
        return threshold, self.classifier.top_k if self.top_k is None else self.top_k

    @property
    def evidence_key(self) -> Hashable:
        """What the evidence depends on beside the photograph: equal for segmenters that may share it.

        Of the recipe that is every setting but those that `cut` reads.
        """
        later = {"name", "summary", "seeds", "masks"}
        steps = tuple(repr(getattr(self.recipe, part.name)) for part in fields(Recipe) if part.name not in later)
        return steps, answers_key(self.classifier), self.limits

    def record(self) -> dict[str, Any]:
        """What a result depends on beside the photograph and the labels asked for, as JSON values.

        Raises:
            GradcutError: a step of one's own whose source cannot be read.
        """
        threshold, top_k = self.limits
        return {
            "recipe": self.recipe.record(), "classifier": self.classifier.record(),
            "threshold": threshold, "top_k": top_k,
            **({} if self.min_confidence is None else {"min_confidence": self.min_confidence}),
            **({"disjoint": True} if self.disjoint else {}),
            **({"borrowed": [overlaps.MOST, overlaps.SURER]} if self.classifier.multilabel else {}),
        }  # fmt: skip


def answers_key(classifier: Classifier) -> Hashable:
    """What a classifier's answers depend on beside the photograph, in this process: its model, and every setting."""
    return tuple(
        id(classifier.model) if part.name == "model" else getattr(classifier, part.name)
        for part in fields(Classifier)
        if part.name != "name"
    )


def _checked_maps(method: object, maps: object, number: int) -> Float[Tensor, "n h w"]:
    """The maps in float32, if they are what a saliency method promises; else an error that names the method."""
    if not isinstance(maps, Tensor) or not maps.is_floating_point() or maps.ndim != 3 or len(maps) != number:
        came = f"{maps.dtype} of shape {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
        raise SaliencyError(f"saliency: expected {method!r} to return floats of shape ({number}, h, w), got {came}")
    maps = maps.detach().float()
    if maps.numel():
        least, most = torch.stack(maps.aminmax()).tolist()
        if not 0 <= least <= most < float("inf"):
            raise SaliencyError(
                f"saliency: expected {method!r} to return finite maps that are nowhere negative, got values from "
                f"{least:g} to {most:g}"
            )
    return maps

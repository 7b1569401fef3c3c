"""Saliency methods side by side: the maps of all of them for the same classes of one photograph, and a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from gradcut.classifiers import Classifier, Detection
from gradcut.classifiers.classifier import NoMemoryError
from gradcut.errors import GradcutError, SaliencyError
from gradcut.images import Photograph
from gradcut.network.view import View
from gradcut.pictures import Heading, Panel, Picture, comparison
from gradcut.recipes import METHODS
from gradcut.saliency import Method, Saliency, explained, resolved
from gradcut.saliency.presence import detect, detection_logits
from gradcut.segmenter import Segmenter

#: Methods of several families that take a few passes at most.
CHEAP = (
    "PlaceProbability", "DenseProbability", "GradCAM", "LayerCAM", "FinerCAM", "LeGrad", "Gradient", "GuidedBackprop",
    "LRP", "AttnLRP",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Maps:
    """What one method says of the classes of a photograph, and in how many seconds; a recipe has masks, too."""

    saliency: Float[np.ndarray, "n h w"] = field(repr=False)
    seconds: float
    masks: Bool[np.ndarray, "n H W"] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of several methods for the same classes of one photograph.

    Attributes:
        classes: the detected ones, or those that were asked for; where nothing was detected, the most probable.
        sure: whether they were detected, or asked for.
        maps: by the method's name, in order.
        impossible: why a method has none, by its name, in one line.
    """

    photograph: Photograph = field(repr=False)
    classifier: Classifier
    classes: tuple[Detection, ...]
    sure: bool
    maps: Mapping[str, Maps] = field(repr=False)
    impossible: Mapping[str, str]

    def picture(self, name: str = "photograph") -> Picture:
        """For a person, as `gradcut.pictures.comparison` draws it; ``name`` is the photograph's.

        Raises:
            SaliencyError: none of the methods has a map.
        """
        if not self.maps:
            reasons = "; ".join(f"{method}: {reason}" for method, reason in self.impossible.items())
            raise SaliencyError(f"methods: expected one that can explain {self.classifier.name}, got {reasons}")
        methods = [Heading(method, _seconds(made.seconds)) for method, made in self.maps.items()]
        classes = [Heading(found.label, f"{found.score:.2f}") for found in self.classes]
        panels = [
            [Panel(values, None if made.masks is None else made.masks[n]) for n, values in enumerate(made.saliency)]
            for made in self.maps.values()
        ]
        notes = [self.classifier.name if self.sure else f"{self.classifier.name}: below its threshold, the best guess"]
        if self.impossible:
            notes.append(f"not possible here: {', '.join(self.impossible)}")
        return comparison(self.photograph, name, methods, classes, panels, notes)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def compare(
    classifier: Classifier,
    photograph: Photograph,
    methods: Mapping[str, Saliency | Segmenter],
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    top_k: int | None = None,
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> Comparison:
    """Ask several methods about the same classes of a photograph.

    Args:
        methods: any saliency methods by name; a `Segmenter` of the same classifier stands for its recipe.
        labels: classes to ask for instead of the detected ones; groups as `Classifier.find` finds them.
        threshold, top_k: of the detections, instead of the classifier's own.
        track: goes round the methods' names, to see how far it is.

    Raises:
        ClassifierError: an unknown label, or a model that does not do its part.
        NoMemoryError: memory does not hold a pass. Whatever else a method fails with is its reason in `Comparison`.
    """
    sure = True
    if labels is not None:
        members = {label: classifier.find(label) for label in labels}
        probabilities = classifier.probabilities(detection_logits(classifier, [photograph]))[0]
        classes = tuple(Detection(name, of, classifier.score(probabilities, of)) for name, of in members.items())
    else:
        (classes,) = detect(classifier, [photograph], threshold, top_k)
        if not classes:
            sure, (classes,) = False, detect(classifier, [photograph], 0, 1)
    maps: dict[str, Maps] = {}
    impossible: dict[str, str] = {}
    for name in track(methods):
        began = time.perf_counter()
        try:
            saliency, masks = _asked(classifier, photograph, methods[name], classes)
        except NoMemoryError:
            raise
        except GradcutError as error:
            impossible[name] = str(error)
        else:
            maps[name] = Maps(saliency, time.perf_counter() - began, masks)
    return Comparison(photograph, classifier, classes, sure, maps, impossible)


def _asked(
    classifier: Classifier, photograph: Photograph, method: Saliency | Segmenter, classes: Sequence[Detection]
) -> tuple[Float[np.ndarray, "n h w"], Bool[np.ndarray, "n H W"] | None]:
    if isinstance(method, Segmenter):
        result = method(photograph, [found.label for found in classes])
        return np.stack([item.saliency for item in result.objects]), result.masks
    view = View(classifier, classifier.prepare([photograph]))
    return explained(method, view, [(0, found.members) for found in classes]).detach().cpu().numpy(), None


def cheap_methods(classifier: Classifier) -> dict[str, Method]:
    """Those of `CHEAP` that can explain a classifier, by name: each is tried on a grey photograph."""
    grey = np.full((*classifier.size, 3), 128, dtype=np.uint8)
    found = {}
    for name in CHEAP:
        method = METHODS[name]()
        try:
            # One that leaves its place to another has nothing of its own to say.
            if resolved(method, classifier) == method:
                _asked(classifier, grey, method, [Detection(classifier.labels[0], (0,), 0.0)])
                found[name] = method
        except NoMemoryError:
            raise
        except GradcutError:
            pass  # which is the answer
    return found

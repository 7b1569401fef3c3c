"""Asking for labels that a tool lists, of which some may be groups of the classifier's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gradcut.images import Photograph
from gradcut.results import Segmentation
from gradcut.saliency.presence import detection_logits, looks_at
from gradcut.segmenter import Segmenter


def _logits(segmenter: Segmenter, photograph: Photograph) -> Float[Tensor, "1 n"]:
    """What the segmenter detects by: with what single places say, where its recipe looks at such sizes anyway."""
    classifier = segmenter.classifier
    if max(looks_at(classifier)) <= segmenter.recipe.largest:
        return detection_logits(classifier, [photograph])
    with torch.inference_mode():
        return classifier.logits(classifier.prepare([photograph]))


def scores(segmenter: Segmenter, names: Sequence[str], photograph: Photograph) -> dict[str, float]:
    """The probability of each class, or of any of a group's classes, in [0, 1].

    Raises:
        ClassifierError: an unknown name.
    """
    classifier = segmenter.classifier
    (probabilities,) = classifier.probabilities(_logits(segmenter, photograph))
    return {name: classifier.score(probabilities, classifier.find(name)) for name in names}


def found(segmenter: Segmenter, names: Sequence[str], photograph: Photograph, always: bool = False) -> Segmentation:
    """Those of the names that are detected: at least as probable as the segmenter's threshold, at most its ``top_k``.

    Other classes that the classifier detects are rivals, as where nobody asks for names: they get no object, but what
    is theirs is not the others'. A class that has another's pixels is left out. Objects are called as `Segmenter.asked`
    says.

    Args:
        always: take all of the names, whatever their probability and whose pixels they have.

    Raises:
        ClassifierError: an unknown name.
    """
    classifier, (threshold, most) = segmenter.classifier, segmenter.limits
    logits = _logits(segmenter, photograph)
    (probabilities,), (detected,) = classifier.probabilities(logits), classifier.decide(logits, threshold, most)
    members = {name: classifier.find(name) for name in names}
    probable = {name: classifier.score(probabilities, own) for name, own in members.items()}
    asked = sorted(probable, key=lambda name: -probable[name])
    if not always:
        asked = [name for name in asked if probable[name] >= threshold][:most]
    listed = {number for own in members.values() for number in own}
    rivals = {each.label: each.score for each in detected if listed.isdisjoint(each.members)} if asked else {}
    everything = rivals | {name: probable[name] for name in asked}
    result = segmenter(photograph, sorted(everything, key=lambda name: -everything[name]))
    result = result if always else result.without_borrowed()
    return replace(result, objects=tuple(item for item in result.objects if item.label not in rivals))

"""Asking for labels that a tool lists, of which some may be groups of the classifier's classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradcut.images import Photograph
from gradcut.results import Segmentation
from gradcut.saliency.presence import detection_logits
from gradcut.segmenter import Segmenter


def scores(segmenter: Segmenter, names: Iterable[str], photograph: Photograph) -> dict[str, float]:
    """The probability of each class, or of any of a group's classes, in [0, 1].

    Raises:
        ClassifierError: an unknown name.
    """
    classifier = segmenter.classifier
    (probabilities,) = classifier.probabilities(detection_logits(classifier, [photograph]))
    return {name: classifier.score(probabilities, classifier.find(name)) for name in names}


def found(segmenter: Segmenter, names: Sequence[str], photograph: Photograph) -> Segmentation:
    """Those of the names that are detected: at least as probable as the segmenter's threshold, at most its ``top_k``.

    A class that has another's pixels is left out, as where nobody asks for names. Objects are called as
    `Segmenter.asked` says.

    Raises:
        ClassifierError: an unknown name.
    """
    threshold, most = segmenter.limits
    probable = scores(segmenter, names, photograph)
    asked = sorted((name for name in names if probable[name] >= threshold), key=lambda name: -probable[name])[:most]
    return segmenter(photograph, asked).without_borrowed()

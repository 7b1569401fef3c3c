"""One photograph: where the evidence for each of its classes lies, and what the classifier says of its parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from gradcut import images
from gradcut.classifiers import Classifier
from gradcut.datasets import Dataset, Sample
from gradcut.errors import DatasetError, GradcutError, SaliencyError
from gradcut.evaluation import energy_inside, pointing
from gradcut.images import Photograph
from gradcut.network.view import View
from gradcut.saliency import Saliency, explained

#: What becomes of a class that is in a photograph, the worst first. Elsewhere is what is not on the object.
VERDICTS: Mapping[str, str] = {
    "without the object": "the evidence lies elsewhere, and the class is seen with the object painted over, too",
    "around the object": "the evidence lies elsewhere, but the class is not seen with the object painted over",
    "no evidence": "the class is seen, and the map is blank",
    "on the object": "at least half of the evidence lies on the object, and more than chance puts there",
    "not seen": "the classifier does not see the class",
}

#: So many versions of a photograph go through the network at once.
_BATCH = 16


@dataclass(frozen=True)
class Case:
    """A class that is in a photograph, and what the classifier makes of it.

    Attributes:
        score: its probability, by the network's own logits, which the map explains.
        seen: whether it is among what the classifier sees.
        inside: the share of the map's sum in the true mask; None where the map is blank.
        area: the mask's share of the photograph: what `inside` is of a map that is the same everywhere.
        beyond: (inside - area) / (1 - area): 1 where all the evidence is on the object, 0 for chance, below 0 where
            less of it is there than chance puts there.
        pointing: whether the map's maximum is in the mask.
        without, alone: the class's probability with the object painted over, and with everything else; in the
            photograph's mean colour.
        stays: whether the class is seen with the object painted over.
        boxed: whether a box stood for a mask.
        verdict: a key of `VERDICTS`.
    """

    photograph: str
    label: str
    score: float
    seen: bool
    inside: float | None
    area: float
    beyond: float | None
    pointing: bool | None
    without: float
    alone: float
    stays: bool
    boxed: bool
    verdict: str

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def known_labels(classifier: Classifier, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """The outputs that mean each of the data set's classes, without the classes that the classifier does not have.

    Raises:
        DatasetError: it has none of them, or the data set does not name classes.
    """
    if dataset.labels is None:
        raise DatasetError(f"labels: {dataset.title} says where objects are, not what they are; give their names")
    members = {}
    for label in dataset.labels:
        try:
            members[label] = classifier.find(label)
        except GradcutError:
            continue
    if not members:
        few = ", ".join(dataset.labels[:5]) + (", ..." if len(dataset.labels) > 5 else "")
        raise DatasetError(f"labels: {classifier.name} has none of the classes of {dataset.title}: {few}")
    return members


def audit(
    dataset: Dataset, classifier: Classifier, method: Saliency, threshold: float | None = None
) -> Iterator[list[Case] | str]:
    """For each photograph a case for each of its classes, or in one line why there is none.

    Classes that the classifier does not have are left out, and classes of which no pixel counts.

    Args:
        method: whose maps show the evidence.
        threshold: from which probability a class is seen, instead of the classifier's own.

    Raises:
        DatasetError: as `known_labels`.
        SaliencyError: a method that cannot explain this classifier.
    """
    members = known_labels(classifier, dataset)

    def each() -> Iterator[list[Case] | str]:
        for name in dataset.names:
            try:
                sample = dataset.load(name)
                yield cases_of(sample, classifier, method, members, threshold)
            except SaliencyError:
                raise  # it is the method's, and the same for every photograph
            except GradcutError as error:
                yield str(error) if name in str(error) else f"{name}: {error}"

    return each()


def maps_of(
    sample: Sample, classifier: Classifier, method: Saliency, members: Mapping[str, tuple[int, ...]]
) -> dict[str, Float[np.ndarray, "H W"]]:
    """The maps of a photograph's classes, at its size.

    Raises:
        SaliencyError: a method that cannot explain this classifier.
    """
    labels = [
        label for label, mask in sorted(sample.masks.items()) if label in members and (mask & ~sample.ignore).any()
    ]
    if not labels:
        return {}
    view = View(classifier, classifier.prepare([sample.image]))
    maps = explained(method, view, [(0, members[label]) for label in labels]).detach().cpu().numpy()
    size = sample.image.shape[0], sample.image.shape[1]
    return {label: images.resize_map(values, size) for label, values in zip(labels, maps, strict=True)}


def cases_of(
    sample: Sample,
    classifier: Classifier,
    method: Saliency,
    members: Mapping[str, tuple[int, ...]],
    threshold: float | None = None,
) -> list[Case]:
    """The cases of one photograph, in the order of their names."""
    maps = maps_of(sample, classifier, method, members)
    scores, seen = _looked(classifier, _versions(sample, maps), threshold)
    cases = []
    for number, (label, saliency) in enumerate(maps.items()):
        mask, of = sample.masks[label], members[label]
        whole, without, alone = 0, 1 + 2 * number, 2 + 2 * number
        inside = energy_inside(saliency, mask, sample.ignore)
        area = float(mask[~sample.ignore].mean())
        beyond = None if inside is None or area == 1 else (inside - area) / (1 - area)
        is_seen, stays = (not seen[version].isdisjoint(of) for version in (whole, without))
        if not is_seen:
            verdict = "not seen"
        elif inside is None:
            verdict = "no evidence"
        elif inside >= 0.5 and (beyond is None or beyond > 0):
            verdict = "on the object"
        else:
            verdict = "without the object" if stays else "around the object"
        cases.append(
            Case(
                sample.name, label, classifier.score(scores[whole], of), is_seen, inside, area, beyond,
                pointing(saliency, mask, sample.ignore), classifier.score(scores[without], of),
                classifier.score(scores[alone], of), stays, label in sample.boxed, verdict,
            )
        )  # fmt: skip
    return cases


def _versions(sample: Sample, labels: Collection[str]) -> Iterator[Photograph]:
    """The photograph, then for each class without the object and without everything else; nothing for no class."""
    if labels:
        yield sample.image
    for label in labels:
        yield painted(sample.image, sample.masks[label])
        yield painted(sample.image, ~sample.masks[label])


def painted(photograph: Photograph, where: Bool[np.ndarray, "H W"]) -> Photograph:
    """A copy with the photograph's mean colour in a mask."""
    return np.where(where[..., None], photograph.mean((0, 1)).round().astype(np.uint8), photograph)


def _looked(
    classifier: Classifier, versions: Iterable[Photograph], threshold: float | None
) -> tuple[list[torch.Tensor], list[frozenset[int]]]:
    """The probabilities of each photograph's classes, and which of them are seen.

    One large photograph after the other is brought to the classifier's size: all of them together may not find room.
    """
    scores: list[torch.Tensor] = []
    seen: list[frozenset[int]] = []
    small = map(classifier.resized, versions)
    while part := list(islice(small, _BATCH)):
        with torch.no_grad():
            logits = classifier.logits(classifier.normalised(part))
        scores += list(classifier.probabilities(logits))
        decided = classifier.decide(logits, threshold)
        seen += [frozenset(member for detection in found for member in detection.members) for found in decided]
    return scores, seen


def ranked(cases: Sequence[Case]) -> list[Case]:
    """The worst first: by the verdict, and among the same by how little of the evidence is on the object."""
    order = list(VERDICTS)

    def key(case: Case) -> tuple[int, float, float, str, str]:
        beyond = case.beyond if case.beyond is not None else 1.0
        return order.index(case.verdict), beyond, -case.score, case.photograph, case.label

    return sorted(cases, key=key)

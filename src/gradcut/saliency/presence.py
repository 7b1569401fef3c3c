"""Detection with the help of single places: a small object fills few of them and hardly shows in their mean."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gradcut.classifiers.classifier import Classifier, Detection
from gradcut.classifiers.heads import PlaceWeights, places_of, presence_of
from gradcut.images import Photographs
from gradcut.network.view import View
from gradcut.saliency.cams import linear_head, place_logits

#: So many of a photograph's surest places speak for a class.
SUREST = 5


def evidence(features: Float[Tensor, "b d gh gw"], places: PlaceWeights | nn.Linear) -> Float[Tensor, "b n"]:
    """The mean log probability of each label at its `SUREST` most probable places, at most 0.

    The probabilities are those of `gradcut.saliency.PlaceProbability`; the background is left out.
    """
    logs = place_logits(features, places).log_softmax(1)[:, :-1].flatten(2)
    return logs.topk(min(SUREST, logs.shape[2]), dim=2).values.mean(2)


def with_places(view: View, logits: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """The logits by which a class is detected: with what the surest places say, where the head says how they count.

    Args:
        view: of the photographs; it should be as large as `looks_at` says.
        logits: the network's, at the classifier's own size.
    """
    presence, places = presence_of(view.classifier.model), places_of(view.classifier.model)
    if presence is None or places is None:
        return logits
    with torch.no_grad():
        features = linear_head(view.at(presence.scale), "presence").features
        said = evidence(features, places).to(logits.dtype)
    counted: Tensor = presence(logits.detach(), said)
    return counted


def looks_at(classifier: Classifier) -> tuple[float, ...]:
    """The sizes that a detection looks at, as factors of the classifier's own."""
    presence = presence_of(classifier.model)
    return (1.0,) if presence is None else (1.0, presence.scale)


def detection_logits(classifier: Classifier, photographs: Photographs) -> Float[Tensor, "b n"]:
    """What `Classifier.decide` decides by: the network's logits, and what the surest places say. No gradients.

    Raises:
        ClassifierError, SaliencyError: a model that does not do its part.
    """
    with torch.no_grad():
        x = classifier.at(classifier.scaled(max(looks_at(classifier)))).prepare(photographs)
        view = View(classifier, x)
        return with_places(view, classifier.logits(view.at(1.0).x))


def detect(
    classifier: Classifier, photographs: Photographs, threshold: float | None = None, top_k: int | None = None
) -> list[tuple[Detection, ...]]:
    """The classes in each photograph, best first, as a recipe that looks at several sizes finds them.

    Args:
        threshold, top_k: as for `Classifier.decide`.

    Raises:
        ClassifierError, SaliencyError: as `detection_logits`.
    """
    return classifier.decide(detection_logits(classifier, photographs), threshold, top_k)

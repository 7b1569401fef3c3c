"""Which network a head is fitted on: a classifier whose own head it replaces, or a network without one."""

from __future__ import annotations

import logging

import torch

from gradcut.classifiers import load_classifier
from gradcut.classifiers.classifier import Classifier, NoMemoryError
from gradcut.classifiers.sources import load_backbone
from gradcut.errors import ClassifierError, SaliencyError
from gradcut.network.view import View
from gradcut.saliency.cams import linear_head

log = logging.getLogger(__name__)


def fit_backbone(name: str, places: bool = True, device: str | None = None) -> Classifier:
    """The network of that name to fit a head on.

    A classifier's own last linear layer is replaced, and its rows are the prior, where weights for places can be
    fitted: where that layer reads the mean of the last map; without such weights, whatever it reads. Of anything else
    that timm or transformers loads the head is left out, as `gradcut.classifiers.load_backbone` has it. That is logged.

    Args:
        name: as for `load_classifier`, or `load_backbone`.
        places: whether weights for places are to be fitted.

    Raises:
        ClassifierError: as for `load_backbone`, or `load_classifier` for a name that the former does not take.
    """
    if not isinstance(name, str) or name.partition("/")[0] not in ("timm", "hf"):
        return _on(load_classifier(name), device)
    try:
        classifier = _on(load_classifier(name), device)
        if places:
            _look(classifier)
        return classifier
    except NoMemoryError:
        raise
    except SaliencyError:
        reason = "its own head reads something else than the mean of its last map"
    except ClassifierError as error:
        reason = str(error).removeprefix("classifier: ").partition(";")[0]  # the rest says how it would be a classifier
    backbone = _on(load_backbone(name), device)
    log.warning("backbone: %s is taken without a head, its features are the mean over all places: %s", name, reason)
    return backbone


def _on(classifier: Classifier, device: str | None) -> Classifier:
    return classifier if device is None else classifier.to(device)


def _look(classifier: Classifier) -> None:
    """Raise SaliencyError unless the logits are linear in the mean of the last map."""
    noise = torch.rand(1, 3, *classifier.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        linear_head(View(classifier, noise.to(classifier.device, classifier.dtype)), "PlaceFit")

"""Classifiers of timm, and what is common to all that comes from the hub or its cache."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from torch import Tensor, nn

from gradcut.classifiers.backbones import headless
from gradcut.classifiers.checkpoints import load_strictly, read_checkpoint, state_of
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import ClassifierError, one_line
from gradcut.labels import timm_labels


def load_timm(rest: str, name: str) -> Classifier:
    """``NAME`` or ``NAME@FILE``: a timm model with its pretrained configuration's size, mean, std and labels.

    Raises:
        ClassifierError: no such model, weights that cannot be had or do not fit, or labels that timm does not know.
    """
    architecture, _, file = rest.partition("@")
    if file:
        model = create_timm(architecture, name)
        load_strictly(model, state_of(read_checkpoint(Path(file)), Path(file)), Path(file), f"timm's {architecture}")
    else:
        model = create_timm(architecture, name, pretrained=True)
    labels = timm_labels(model)
    if labels is None:
        raise ClassifierError(
            f"classifier: the labels of {name} are not known; write a card with its {model.num_classes} labels"
        )
    return Classifier.from_timm(model.eval(), labels, name=name)


def load_timm_backbone(rest: str, name: str) -> Classifier:
    """``NAME`` or ``NAME@FILE``: a timm model without its head, as `headless` has it.

    Raises:
        ClassifierError: no such model, weights that cannot be had or do not fit, or features without places.
    """
    architecture, _, file = rest.partition("@")
    model = create_timm(architecture, name, pretrained=not file, num_classes=0)
    if file:
        state = state_of(read_checkpoint(Path(file)), Path(file))
        load_strictly(model, state, Path(file), f"timm's {architecture} without its head", heads=True)
    known = Classifier.from_timm(model, 1, multilabel=True)
    return headless(TimmFeatures(model.eval()), known.size, known.mean, known.std, name)


class TimmFeatures(nn.Module):
    """The last map ``(b, d, h, w)`` or the tokens ``(b, n, d)`` of a timm model, normalised as its head has them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        features: Any = self.model.forward_features(x)
        if isinstance(features, Tensor) and features.ndim == 4 and features.shape[1] != self.model.num_features:
            features = features.permute(0, 3, 1, 2)
        # Vision transformers whose head reads a mean normalise that: here it is the places that are normalised.
        norm = getattr(self.model, "fc_norm", None)
        normalised: Tensor = features if norm is None else norm(features)
        return normalised


def create_timm(architecture: str, name: str, pretrained: bool = False, **options: Any) -> Any:
    """A timm model that takes photographs of any size where its architecture can; ``name`` is what errors call it.

    Raises:
        ClassifierError: no such model, or weights that cannot be had.
    """
    known = architecture.partition(".")[0]
    if not timm.is_model(known):
        near = difflib.get_close_matches(known, timm.list_models(), n=4)
        raise ClassifierError(
            f"classifier: timm has no model {architecture!r}; near it are {', '.join(near) or 'none'}"
        )
    attempts: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {})
    for extra in attempts:
        try:
            with reachable_or_cached() if pretrained else nullcontext():
                return timm.create_model(architecture, pretrained=pretrained, **options, **extra)
        except TypeError as error:
            # Convolutional networks take any size and do not know the option.
            if not extra:
                raise ClassifierError(f"classifier: {name}: {one_line(error)}") from error
        except Exception as error:  # the hub's own errors have no common class
            raise ClassifierError(_without_hub(architecture, name, error)) from error
    raise AssertionError


def _without_hub(architecture: str, name: str, error: Exception) -> str:
    config = timm.get_pretrained_cfg(architecture)
    if config is None or not config.has_weights:
        return (
            f"classifier: timm has no weights for {architecture!r}; give some: timm/{architecture}@FILE, "
            f"or choose among 'gradcut classifiers {architecture.partition('.')[0]}'"
        )
    where = config.hf_hub_id if config.hf_hub_id and config.hf_hub_id != "timm/" else config.url
    if config.hf_hub_id == "timm/":
        where = f"timm/{config.architecture}.{config.tag}"
    return (
        f"classifier: the weights of {name} are not on this machine and could not be downloaded ({one_line(error)}); "
        f"download model.safetensors of {where} from the hub and name it: timm/{architecture}@model.safetensors"
    )


# timm passes no argument on that would say so, and the hub's switch is one for the whole process: whoever has turned it
# turns it back before another looks at it.
_switch = threading.RLock()
_asked = False


@contextmanager
def reachable_or_cached() -> Iterator[None]:
    """Where the hub does not answer, its cache alone is asked, at once and without five tries a file.

    Inside such a block it is not asked again whether it answers.
    """
    global _asked
    with _switch:
        before, inside = constants.HF_HUB_OFFLINE, _asked
        try:
            if not before and not inside:
                try:
                    get_session().head(constants.ENDPOINT, timeout=5)
                except Exception:  # the hub's own errors have no common class
                    constants.HF_HUB_OFFLINE = True
            _asked = True
            yield
        finally:
            constants.HF_HUB_OFFLINE, _asked = before, inside

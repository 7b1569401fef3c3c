"""Classifiers of timm and of transformers, from the hub or its cache."""

from __future__ import annotations

import difflib
import inspect
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from torch import Tensor, nn

from gradcut.classifiers.checkpoints import load_strictly, read_checkpoint, state_of
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import ClassifierError, one_line
from gradcut.labels import distinct, timm_labels


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
            with reachable_or_cached():
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


class HuggingFace(nn.Module):
    """A transformers image classifier as a function from pixels to logits."""

    def __init__(self, model: nn.Module, interpolate: bool) -> None:
        super().__init__()
        self.model = model
        self.options = {"interpolate_pos_encoding": True} if interpolate else {}

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=x, **self.options).logits
        return logits


def load_hugging_face(rest: str, name: str) -> Classifier:
    """A transformers image classifier: labels and multi-label from config.json, the rest from its preprocessor.

    Raises:
        ClassifierError: transformers is not installed, or files that cannot be had or do not say what is needed.
    """
    try:
        import transformers
        from transformers.utils.hub import cached_file
    except ModuleNotFoundError:
        raise ClassifierError(f"classifier: {name} needs the package transformers; install gradcut[hf]") from None
    wanted = "config.json, preprocessor_config.json and model.safetensors"
    try:
        with reachable_or_cached():
            model = transformers.AutoModelForImageClassification.from_pretrained(rest, trust_remote_code=False)
            preparation = Path(str(cached_file(rest, "preprocessor_config.json"))).read_text(encoding="utf-8")
        document = json.loads(preparation)
    except Exception as error:  # the hub's own errors have no common class
        if Path(rest).is_dir():
            raise ClassifierError(f"classifier: {name}: expected {wanted} in the folder: {one_line(error)}") from error
        raise ClassifierError(
            f"classifier: {name} is not on this machine and could not be downloaded ({one_line(error)}); "
            f"download {wanted} of {rest} from the hub into a folder and name it: hf/FOLDER"
        ) from error
    config = model.config
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    size, mean, std = _preparation(document, name)
    return Classifier(
        HuggingFace(model, "interpolate_pos_encoding" in inspect.signature(model.forward).parameters).eval(),
        distinct(names, [str(i) for i in range(len(names))]),
        size,
        mean,
        std,
        multilabel=config.problem_type == "multi_label_classification",
        name=name,
    )


def _preparation(
    document: Mapping[str, Any], name: str
) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
    """Size, mean and std of RGB in [0, 1] from a transformers preprocessor_config.json."""
    size = document.get("crop_size") if document.get("do_center_crop") else None
    size = size or document.get("size", 224)
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge")
        size = (edge, edge) if edge else (size.get("height"), size.get("width"))
    height, width = (size, size) if isinstance(size, int) else (size[0], size[1])
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ClassifierError(f"classifier: {name}: expected a size in preprocessor_config.json, got {size}")
    # Pixels times the factor, less mean, over std: the same as pixels / 255 with both divided by 255 * factor.
    factor = 255 * document.get("rescale_factor", 1 / 255) if document.get("do_rescale", True) else 255.0
    normalise = document.get("do_normalize", True)
    mean = document.get("image_mean", [0.5] * 3) if normalise else [0.0] * 3
    std = document.get("image_std", [0.5] * 3) if normalise else [1.0] * 3
    return (height, width), tuple(m / factor for m in mean), tuple(s / factor for s in std)


# timm passes no argument on that would say so, and the hub's switch is one for the whole process: whoever has turned it
# turns it back before another looks at it.
_switch = threading.RLock()


@contextmanager
def reachable_or_cached() -> Iterator[None]:
    """Where the hub does not answer, its cache alone is asked, at once and without five tries a file."""
    with _switch:
        before = constants.HF_HUB_OFFLINE
        try:
            if not before:
                try:
                    get_session().head(constants.ENDPOINT, timeout=5)
                except Exception:  # the hub's own errors have no common class
                    constants.HF_HUB_OFFLINE = True
            yield
        finally:
            constants.HF_HUB_OFFLINE = before

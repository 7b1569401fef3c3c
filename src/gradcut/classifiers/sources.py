"""Where classifiers come from: names to loaders."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path

from gradcut.catalogue import CLASSIFIERS, FILES, check_classifier
from gradcut.classifiers import heads
from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.words import refuse_words, words_of
from gradcut.errors import ClassifierError, one_line


def load_classifier(
    name: str | os.PathLike[str] = "coco80",
    labels: Sequence[str] | None = None,
    *,
    templates: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
) -> Classifier:
    """The classifier of that name.

    >>> load_classifier().labels[:3]
    ('person', 'bicycle', 'car')

    Args:
        name: one of `gradcut.catalogue.CLASSIFIERS`; a file's may be a path. ``"coco80"``, ``"embedded"`` and the
            ``lite`` ones need no network.
        labels: words for classes, for a classifier that takes such: CLIP, SigLIP. The others have their own.
        templates: sentences with ``{}`` in the word's place, instead of `gradcut.classifiers.words.TEMPLATES`.
        background: words that contend with every class, instead of `gradcut.classifiers.words.BACKGROUND`, which is for
            classifiers that were trained with a softmax (CLIP); those with a sigmoid (SigLIP) have none.

    Raises:
        ClassifierError: no such classifier, weights that are missing, damaged or do not fit, or a package that is
            not installed; or words that are missing, wrong, or for a classifier that takes none. The message says what
            to do.
    """
    name = _checked(name)
    kind, _, rest = name.partition("/")
    asked = {"labels": labels, "templates": templates, "background": background}
    if kind == "hf" and rest:
        return _loader("hugging_face.load_hugging_face")(rest, name, asked)
    refuse_words(name, asked)
    if name in ("embedded", "lite0", "lite1", "lite2"):
        return _loader("embedded.load_lite")(0 if name == "embedded" else int(name[-1]), name)
    if name == "coco80":
        with as_file(files("gradcut").joinpath("data/coco80.safetensors")) as path:
            return _head(path, name)
    if kind == "timm" and rest:
        return _loader("hub.load_timm")(rest, name)
    if name.startswith("ml-decoder@"):
        return _loader("mldecoder.load_mldecoder")(Path(name.partition("@")[2]), name)
    if name.endswith(".safetensors") and not Path(name).with_suffix(".json").is_file():
        return _head(Path(name), name)
    assert name.endswith(FILES), name
    return _loader("card.load_card")(Path(name).with_suffix(".json"), name)


def load_backbone(name: str) -> Classifier:
    """The network of that name without a head, for `gradcut.fit`: a classifier whose outputs are its features.

    They are the mean of the last map, or of the tokens of a transformer's places; of CLIP and SigLIP, of the image
    tower's.

    Args:
        name: ``timm/NAME``, ``timm/NAME@FILE``, ``hf/ORG/NAME`` or ``hf/FOLDER``, of anything that timm or transformers
            loads, whether or not it is a classifier.

    Raises:
        ClassifierError: another name, weights that are missing, damaged or do not fit, features without places, or a
            package that is not installed.
    """
    name = _checked(name)
    kind, _, rest = name.partition("/")
    if kind == "hf" and rest:
        return _loader("hugging_face.load_hugging_face_backbone")(rest, name)
    if kind == "timm" and rest:
        return _loader("hub.load_timm_backbone")(rest, name)
    raise ClassifierError(
        f"backbone: expected timm/NAME, timm/NAME@FILE, hf/ORG/NAME or hf/FOLDER to take a head off, got {name!r}"
    )


def takes_words(name: str) -> bool:
    """Whether the classifier of that name takes words for classes; of one of the hub only its config.json is read.

    Raises:
        ClassifierError: transformers is not installed, or there is no such configuration.
    """
    kind, _, rest = name.partition("/")
    if kind != "hf" or not rest:
        return False
    with _extra("hf"):
        hugging_face = import_module("gradcut.classifiers.hugging_face")
    return bool(hugging_face.takes_words(rest, name))


def reworded(classifier: Classifier, labels: Sequence[str]) -> Classifier:
    """The same classifier of words with other labels; it shares the image tower, and keeps templates and background.

    Its text tower is loaded again, by the classifier's name.

    Raises:
        ClassifierError: as for `load_classifier`; or a classifier that does not take words.
    """
    before = words_of(classifier.model)
    if before is None:
        raise ClassifierError(f"labels: {classifier.name} has classes of its own; only one of words takes others")
    other = load_classifier(classifier.name, labels, templates=before.templates, background=before.background)
    other.model.model = classifier.model.model
    return other.to(classifier.device)


def _checked(name: object) -> str:
    """A name of a classifier as a string, or ClassifierError."""
    if not isinstance(name, str | os.PathLike) or not isinstance(os.fspath(name), str):
        raise ClassifierError(
            f"classifier: expected a name or a path, got {type(name).__name__}; Classifier(model, labels) makes one of "
            "a torch.nn.Module"
        )
    name = os.fspath(name)
    check_classifier(name)
    return name


def _loader(name: str) -> Callable[..., Classifier]:
    """A function of a module beside this one, imported when asked for: most need timm, whose import takes seconds.

    Raises:
        ClassifierError: an extra's package is not installed.
    """
    module, _, function = name.partition(".")
    with _extra("hf" if module == "hugging_face" else "timm"):
        loader: Callable[..., Classifier] = getattr(import_module(f"gradcut.classifiers.{module}"), function)
    return loader


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Name the extra where its package is missing, and torchvision, which timm needs, where it does not fit torch."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("timm", "huggingface_hub"):
            raise
        raise ClassifierError(f"classifier: {error.name} is not installed; pip install 'gradcut[{name}]'") from None
    except RuntimeError as error:
        if "torchvision" not in str(error):
            raise
        raise ClassifierError(
            f"classifier: torch and torchvision are different builds ({one_line(error)}); install both from one place"
        ) from error


def list_classifiers(pattern: str | None = None) -> dict[str, str]:
    """What `load_classifier` takes, and what it is: all of `gradcut.catalogue.CLASSIFIERS`, or the names that match.

    With a pattern, timm's models are among them.

    Args:
        pattern: part of a name, or a pattern with ``*`` and ``?``; case does not matter.

    Raises:
        ClassifierError: something else than a string, or a pattern without timm.
    """
    if pattern is None:
        return dict(CLASSIFIERS)
    if not isinstance(pattern, str):
        raise ClassifierError(f"pattern: expected a string, got {pattern!r}")
    with _extra("timm"):
        import timm

    wanted = pattern.casefold()
    wanted = wanted if set(wanted) & set("*?[") else f"*{wanted}*"
    configurations = {name: timm.get_pretrained_cfg(name) for name in timm.list_pretrained()}
    known = dict(CLASSIFIERS) | {
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
    return heads.attach((load_backbone if head.headless else load_classifier)(head.backbone), head, name)

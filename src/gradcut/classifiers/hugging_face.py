"""Classifiers of transformers, classifiers of words, and backbones."""

from __future__ import annotations

import inspect
import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gradcut.classifiers.backbones import headless
from gradcut.classifiers.checkpoints import as_named, read_checkpoint, state_of
from gradcut.classifiers.classifier import Classifier, evaluating
from gradcut.classifiers.hub import TimmFeatures, reachable_or_cached
from gradcut.classifiers.processors import preparation
from gradcut.classifiers.sizes import Patches
from gradcut.classifiers.words import FAMILIES, THRESHOLDS, Worded, as_words, head_of, refuse_words
from gradcut.errors import ClassifierError, one_line
from gradcut.labels import distinct


class HuggingFace(nn.Module):
    """A transformers image classifier as a function from pixels to logits.

    Args:
        options: of its forward pass, such as that positions are to be interpolated.
        patches: for a model that takes patches instead of photographs.
    """

    def __init__(self, model: nn.Module, options: Mapping[str, Any], patches: Patches | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = dict(options)
        self.patches = patches

    def forward(self, x: Tensor) -> Tensor:
        inputs = {"pixel_values": x} if self.patches is None else self.patches(x)
        output = self.model(**inputs, **self.options)
        # PP-LCNet's has no logits, and calls them so.
        logits: Tensor = output.logits if hasattr(output, "logits") else output.last_hidden_state
        return logits


def load_hugging_face(rest: str, name: str, asked: Mapping[str, Any]) -> Classifier:
    """A transformers image classifier, or a model of photographs and text as a classifier of words.

    Of the former, labels and multi-label come from config.json; the rest of either comes from its image processor. It
    computes in float32, whatever its weights are kept in.

    Args:
        rest: of the name: ``ORG/NAME`` or a folder, and ``@FILE`` for other weights.
        asked: what `as_words` takes; all None for an image classifier.

    Raises:
        ClassifierError: transformers is not installed, files that cannot be had or do not say what is needed, words
            that are wrong or missing, or a processor that does more than to resize photographs and to normalise
            their colours.
    """
    rest, file = _parted(rest)
    with _hub(rest):
        return _classifier(rest, file, name, asked)


def _classifier(rest: str, file: Path | None, name: str, asked: Mapping[str, Any]) -> Classifier:
    config = _configuration(rest, name)
    words = None
    if _is_worded(config, name):
        words = as_words(name, FAMILIES[config.model_type], **asked)
    else:
        refuse_words(name, asked)
        config.id2label = dict(enumerate(_names(config)))  # without gaps: how many there are makes the model
    import transformers

    kind = transformers.AutoModel if words else transformers.AutoModelForImageClassification
    model, missing = _with_weights(kind, rest, file, config, name)
    _refuse_missing(missing, model, name, file, "a classifier, head and all")
    with _found(rest, name):
        processor = transformers.AutoImageProcessor.from_pretrained(rest, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(rest, trust_remote_code=False) if words else None
    model = model.float().eval()
    tower = getattr(config, "vision_config", config)
    prepared = preparation(processor, name, getattr(tower, "image_size", None))
    inputs = (
        _options(model, prepared.size),
        Patches(tower.patch_size, model) if config.model_type == "siglip2" else None,
    )
    if words:
        network = Worded(model, *inputs, head_of(model, tokenizer, words, name), words)
        threshold = THRESHOLDS[network.sigmoid]
        return Classifier(network, words.labels, multilabel=True, threshold=threshold, name=name, **prepared._asdict())
    multilabel = model.config.problem_type == "multi_label_classification"
    names = _names(model.config)
    labels = distinct(names, list(map(str, range(len(names)))))
    if len(labels) == 1 and not multilabel:
        raise ClassifierError(
            f"classifier: {name} has one output; if that is the logit of a class, its config.json has to say so: "
            '"problem_type": "multi_label_classification"'
        )
    return Classifier(HuggingFace(model, *inputs), labels, multilabel=multilabel, name=name, **prepared._asdict())


def load_hugging_face_backbone(rest: str, name: str) -> Classifier:
    """A model of transformers without its head, as `headless` has it; of one of photographs and text, its image tower.

    Raises:
        ClassifierError: as for `load_hugging_face`, words aside; or features without places.
    """
    rest, file = _parted(rest)
    with _hub(rest):
        return _backbone(rest, file, name)


def _backbone(rest: str, file: Path | None, name: str) -> Classifier:
    config = _configuration(rest, name)
    import transformers

    model, missing = _with_weights(transformers.AutoModel, rest, file, config, name, without_head=True)
    # Of a model of photographs and text, the image tower.
    within = "vision_model." if hasattr(model, "vision_model") else ""
    _refuse_missing([key for key in missing if key.startswith(within)], model, name, file, "the whole network")
    tower = (model.vision_model if within else getattr(model, "timm_model", model)).float().eval()
    settings = getattr(tower, "config", config)
    with _found(rest, name):
        processor = transformers.AutoImageProcessor.from_pretrained(rest, trust_remote_code=False)
    prepared = preparation(processor, name, getattr(settings, "image_size", None))
    if hasattr(model, "timm_model"):
        return headless(TimmFeatures(tower), *prepared[:3], name, prepared.channels)
    cut = "spatial_shapes" in inspect.signature(tower.forward).parameters
    patches = Patches(settings.patch_size, tower) if cut else None
    features = HuggingFaceFeatures(tower, _options(tower, prepared.size), patches)
    return headless(features, *prepared[:3], name, prepared.channels)


class HuggingFaceFeatures(nn.Module):
    """The last map ``(b, d, h, w)`` or the tokens ``(b, n, d)`` of a model of transformers, normalised.

    Args:
        options, patches: as for `HuggingFace`.
    """

    def __init__(self, model: Any, options: Mapping[str, Any], patches: Patches | None = None) -> None:
        super().__init__()
        self.model: Any = model
        self.options = dict(options)
        self.patches = patches
        # Of a masked autoencoder: the photograph is to be seen as a whole, and its places in their order.
        self.masks = "noise" in inspect.signature(model.forward).parameters
        if self.masks:
            model.config.mask_ratio = 0.0

    def forward(self, x: Tensor) -> Tensor:
        inputs = {"pixel_values": x} if self.patches is None else self.patches(x)
        if self.masks:
            side: int = self.model.config.patch_size
            places = torch.arange(x.shape[2] // side * (x.shape[3] // side), device=x.device)
            inputs["noise"] = places.expand(len(x), -1)
        output = self.model(**inputs, **self.options)
        features: Tensor = output.last_hidden_state
        if self.model.config.model_type in _NORM_LATER:
            features = self.model.post_layernorm(features)
        return features


#: Image towers that normalise their class token alone.
_NORM_LATER = (
    "clip_vision_model", "metaclip_2_vision_model", "chinese_clip_vision_model", "altclip_vision_model",
    "clipseg_vision_model",
)  # fmt: skip


def takes_words(rest: str, name: str) -> bool:
    """Whether it is a model of photographs and text.

    Raises:
        ClassifierError: as for `load_hugging_face`.
    """
    return _is_worded(_configuration(_parted(rest)[0], name), name)


def _parted(rest: str) -> tuple[str, Path | None]:
    """What is before the ``@``, and the file after it; a folder may have one in its name."""
    before, at, file = rest.partition("@")
    return (before, Path(file)) if at and not Path(rest).is_dir() else (rest, None)


def _with_weights(
    auto: Any, rest: str, file: Path | None, config: Any, name: str, without_head: bool = False
) -> tuple[Any, list[str]]:
    """A model with its weights, and the names of those that were missing: transformers makes them up.

    Args:
        auto: a class of transformers that knows which class a configuration is of.
        file: with the weights as a trainer wrote them, in the place of the model's own.
        without_head: without what pools the last tokens, and weights that are left over are no fault.

    Raises:
        ClassifierError: weights that are damaged, of other shapes than the configuration says, or of another network.
    """
    options: dict[str, Any] = {"config": config, "output_loading_info": True, "ignore_mismatched_sizes": True}
    source: str | None = rest
    kind = auto
    if file is None and not without_head:
        options["trust_remote_code"] = False
    else:
        with _found(rest, name), torch.device("meta"):
            bare = auto.from_config(config, trust_remote_code=False)
        kind = type(bare)
        # What pools is no part of a backbone, and few checkpoints have its weights.
        if without_head and "add_pooling_layer" in inspect.signature(kind).parameters:
            options["add_pooling_layer"] = False
        if file is not None:
            source, options["state_dict"] = None, as_named(bare, state_of(read_checkpoint(file), file), file)
    with _found(rest, name), _quiet():
        model, loaded = kind.from_pretrained(source, **options)
    if unknown := sorted(loaded["unexpected_keys"]) if file is not None and not without_head else []:
        raise ClassifierError(
            f"{file}: not the weights of {rest}: {len(unknown)} are unknown, the first is {unknown[0]!r}"
        )
    if loaded["mismatched_keys"]:
        outputs = _outputs(loaded["mismatched_keys"], config, name)
        if {"id2label", "num_labels", "label2id"} & set(_document(rest)):
            raise ClassifierError(
                f"classifier: {name}: its config.json has {config.num_labels} classes, its weights have {outputs} "
                "outputs; say in id2label what each is called"
            )
        config.num_labels = outputs
        return _with_weights(auto, rest, file, config, name, without_head)
    # The counts of a batch norm's training decide nothing.
    return model, sorted(key for key in loaded["missing_keys"] if not key.endswith("num_batches_tracked"))


_quieting = threading.RLock()


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers says nothing of weights in the block: no bar, no table of those that are missing or left over.

    Of the latter gradcut says itself what matters. Bars of downloads are the hub's, and stay.
    """
    from transformers.utils import logging

    with _quieting:  # both are switches of the whole process
        verbosity = logging.get_verbosity()
        hook = getattr(logging, "set_tqdm_hook", lambda hook: None)  # before it there was no bar for one file
        before = hook(lambda factory, args, kwargs: logging.EmptyTqdm(*args, **kwargs))
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            hook(before)


def _outputs(mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]], config: Any, name: str) -> int:
    """The number of outputs that weights of another number than the configuration's are for.

    Raises:
        ClassifierError: they differ in something else.
    """
    for key, found, expected in sorted(mismatched):
        if expected[0] != config.num_labels or tuple(found[1:]) != tuple(expected[1:]):
            raise ClassifierError(
                f"classifier: {name}: {key!r} of its weights is of shape {tuple(found)}, by its config.json it is "
                f"{tuple(expected)}; these do not belong together"
            )
        outputs = int(found[0])
    return outputs


def _document(rest: str) -> Mapping[str, Any]:
    """What stands in config.json, without what transformers makes of it: two classes, where it says nothing of any."""
    import transformers

    document: Mapping[str, Any] = transformers.PretrainedConfig.get_config_dict(rest)[0]
    return document


def _refuse_missing(missing: Sequence[str], model: nn.Module, name: str, file: Path | None, expected: str) -> None:
    if missing:
        shown = ", ".join(missing[:3])
        raise ClassifierError(
            f"classifier: {name}: its weights lack {len(missing)} that a {type(model).__name__} has, such as {shown}; "
            f"expected those of {expected}"
            + ("" if file else f". If a trainer wrote them, with words before the names: {name}@FILE")
        )


def _configuration(rest: str, name: str) -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise ClassifierError("classifier: transformers is not installed; pip install 'gradcut[hf]'") from None
    with _found(rest, name):
        document = _document(rest)
        if not isinstance(document.get("id2label") or {}, dict):
            raise ClassifierError(
                f"classifier: {name}: id2label of its config.json: expected {{number: name}}, got a list"
            )
        config = transformers.AutoConfig.from_pretrained(rest, trust_remote_code=False)
        if not document.get("id2label") and (numbers := document.get("label2id")):
            config.id2label = {int(number): label for label, number in numbers.items()}
        return config


def _is_worded(config: Any, name: str) -> bool:
    both = all(hasattr(config, f"{tower}_config") for tower in ("vision", "text"))
    if not both or any("ImageClassification" in kind for kind in config.architectures or ()):
        return False
    if config.model_type not in FAMILIES:
        raise ClassifierError(
            f"classifier: {name} is a {config.model_type} model of photographs and text; of these "
            f"{', '.join(FAMILIES)} are classifiers of words"
        )
    return True


def _hub(rest: str) -> AbstractContextManager[None]:
    """Of a folder the hub knows nothing."""
    return nullcontext() if Path(rest).is_dir() else reachable_or_cached()


@contextmanager
def _found(rest: str, name: str) -> Iterator[None]:
    """Whatever says in the block that files cannot be had becomes one line that says which are needed.

    Raises:
        ClassifierError: in the place of such an error.
    """
    wanted = "config.json, preprocessor_config.json, model.safetensors and, for words, the tokenizer's files"
    try:
        with _hub(rest):
            yield
    except ClassifierError:
        raise
    except SafetensorError as error:
        raise ClassifierError(f"classifier: {name}: its weights are damaged: {one_line(error)}") from error
    except pickle.UnpicklingError as error:
        raise ClassifierError(
            f"classifier: {name}: its weights are damaged, or have more than weights in them, which is not run; save "
            "its state_dict alone"
        ) from error
    except Exception as error:  # the hub's own errors have no common class
        if Path(rest).is_dir():
            reason = one_line(error)
            hint = f"; weights as a trainer wrote them: {name}@FILE" if "no file named" in reason else ""
            raise ClassifierError(f"classifier: {name}: expected {wanted} in the folder: {reason}{hint}") from error
        if Path(rest).is_absolute() or rest.startswith(".") or rest.count("/") > 1:
            raise ClassifierError(f"classifier: {name}: no such folder: {rest}") from error
        raise ClassifierError(
            f"classifier: {name} is not on this machine and could not be downloaded ({one_line(error)}); "
            f"download {wanted} of {rest} from the hub into a folder and name it: hf/FOLDER"
        ) from error


def _names(config: Any) -> list[str]:
    """The names in a configuration; an output without one is called by its number."""
    names = {int(index): str(name or "").strip() for index, name in dict(config.id2label or {}).items()}
    count = max(config.num_labels, max(names, default=-1) + 1)
    return [names.get(index) or str(index) for index in range(count)]


def _options(model: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """What makes a model take sizes that it was not trained at, if it has such an option."""
    option = {"interpolate_pos_encoding": True}
    if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters:
        return option
    if not any(
        "interpolate_pos_encoding" in inspect.signature(module.forward).parameters for module in model.modules()
    ):
        return {}
    # A part of the model has it. Whether the model hands it on shows at a size that needs it.
    x = torch.zeros(1, 3, 2 * size[0], 2 * size[1])
    try:
        with torch.inference_mode(), evaluating(model):
            model(pixel_values=x, **option)
    except (RuntimeError, ValueError, AssertionError, TypeError):
        return {}
    return option

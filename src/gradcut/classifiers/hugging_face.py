"""Classifiers of transformers. What their image processor does to colours is asked of the processor itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from gradcut.classifiers.backbones import headless
from gradcut.classifiers.classifier import Classifier, evaluating
from gradcut.classifiers.hub import TimmFeatures, reachable_or_cached
from gradcut.classifiers.sizes import Patches, joined
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


class Preparation(NamedTuple):
    """What an image processor does: it resizes, and normalises colours as `Classifier` does."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str


def load_hugging_face(rest: str, name: str, asked: Mapping[str, Any]) -> Classifier:
    """A transformers image classifier, or a model of photographs and text as a classifier of words.

    Of the former, labels and multi-label come from config.json; the rest of either comes from its image processor. It
    computes in float32, whatever its weights are kept in.

    Args:
        asked: what `as_words` takes; all None for an image classifier.

    Raises:
        ClassifierError: transformers is not installed, files that cannot be had or do not say what is needed, words
            that are wrong or missing, or a processor that does more than to resize photographs and to normalise
            their colours.
    """
    config = _configuration(rest, name)
    words = None
    if _is_worded(config, name):
        words = as_words(name, FAMILIES[config.model_type], **asked)
    else:
        refuse_words(name, asked)
        config.id2label = dict(enumerate(_names(config)))  # without gaps: how many there are makes the model
    import transformers

    options: dict[str, Any] = {"trust_remote_code": False}
    with _found(rest, name):
        kind = transformers.AutoModel if words else transformers.AutoModelForImageClassification
        model, loaded = kind.from_pretrained(rest, config=config, output_loading_info=True, **options)
        processor = transformers.AutoImageProcessor.from_pretrained(rest, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(rest, **options) if words else None
    _refuse_missing(loaded["missing_keys"], model, name, "a classifier, head and all")
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
    config = _configuration(rest, name)
    import transformers

    options: dict[str, Any] = {"trust_remote_code": False}
    with _found(rest, name):
        with torch.device("meta"):
            kind = type(transformers.AutoModel.from_config(config, **options))
        # A pooler is no part of a backbone, and few checkpoints have its weights.
        pooler = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
        model, loaded = kind.from_pretrained(rest, config=config, output_loading_info=True, **pooler)
        processor = transformers.AutoImageProcessor.from_pretrained(rest, **options)
    # Of a model of photographs and text, the image tower.
    within = "vision_model." if hasattr(model, "vision_model") else ""
    _refuse_missing([key for key in loaded["missing_keys"] if key.startswith(within)], model, name, "the whole network")
    tower = (model.vision_model if within else getattr(model, "timm_model", model)).float().eval()
    settings = getattr(config, "vision_config", config)
    prepared = preparation(processor, name, getattr(settings, "image_size", None))
    if tower is not model and not within:
        return headless(TimmFeatures(tower), *prepared[:3], name, prepared.channels)
    patches = (
        Patches(settings.patch_size, tower) if "spatial_shapes" in inspect.signature(tower.forward).parameters else None
    )
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
    return _is_worded(_configuration(rest, name), name)


def _refuse_missing(keys: Iterable[str], model: nn.Module, name: str, expected: str) -> None:
    """Raise ClassifierError if any weights were missing: transformers makes them up."""
    # The counts of a batch norm's training decide nothing.
    if missing := sorted(key for key in keys if not key.endswith("num_batches_tracked")):
        shown = ", ".join(missing[:3])
        raise ClassifierError(
            f"classifier: {name}: its weights lack {len(missing)} that a {type(model).__name__} has, such as {shown}; "
            f"expected those of {expected}"
        )


def _configuration(rest: str, name: str) -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise ClassifierError(f"classifier: {name} needs the package transformers; install gradcut[hf]") from None
    with _found(rest, name):
        return transformers.AutoConfig.from_pretrained(rest, trust_remote_code=False)


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


@contextmanager
def _found(rest: str, name: str) -> Iterator[None]:
    """Whatever says in the block that files cannot be had becomes one line that says which are needed.

    Raises:
        ClassifierError: in the place of such an error.
    """
    wanted = "config.json, preprocessor_config.json, model.safetensors and, for words, the tokenizer's files"
    try:
        with reachable_or_cached():
            yield
    except Exception as error:  # the hub's own errors have no common class
        if Path(rest).is_dir():
            raise ClassifierError(f"classifier: {name}: expected {wanted} in the folder: {one_line(error)}") from error
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


#: Side of the photographs that a processor is tried with.
_SIDE = 256

#: Of the quarters of such a photograph.
_COLOURS = ((13, 200, 90), (250, 40, 128), (66, 77, 240), (180, 120, 10))


def preparation(processor: Any, name: str, image_size: Any = None) -> Preparation:
    """What an image processor does, found by giving it photographs of few colours and looking at what it makes of them.

    Args:
        name: what errors call the classifier.
        image_size: of the model, for a processor that does not resize.

    Raises:
        ClassifierError: it does something else to colours than to scale and shift each, in the order RGB or BGR; or has
            a size for no photograph.
    """
    kind = type(processor).__name__
    _refuse_unknown(processor, name)

    def processed(photograph: UInt8[np.ndarray, "s s 3"]) -> Float[Tensor, "3 h w"]:
        try:
            made = processor(images=Image.fromarray(photograph), return_tensors="pt")
            pixels: Tensor = made["pixel_values"]
            if "spatial_shapes" in made:  # the patches of a NaFlex model
                pixels = joined(pixels, made["spatial_shapes"][0], processor.patch_size)
        except Exception as error:  # each processor has errors of its own
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise ClassifierError(
                f"classifier: {name}: its {kind} makes no pixels of a photograph: {reason}"
            ) from error
        if pixels.ndim != 4 or pixels.shape[:2] != (1, 3):
            shape = tuple(pixels.shape)
            raise ClassifierError(f"classifier: {name}: expected pixels (1, 3, h, w) from its {kind}, got {shape}")
        return pixels[0].double()

    def plain(*colour: int) -> Float[Tensor, " 3"]:
        pixels = processed(np.full((_SIDE, _SIDE, 3), colour, np.uint8))
        return pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2]

    black = plain(0, 0, 0)
    lights = torch.stack([plain(255, 0, 0), plain(0, 255, 0), plain(0, 0, 255)], 1) - black[:, None]
    several = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    for (y, x), colour in zip(_QUARTERS, _COLOURS, strict=True):
        several[y * _SIDE // 2 : (y + 1) * _SIDE // 2, x * _SIDE // 2 : (x + 1) * _SIDE // 2] = colour
    pixels = processed(several)
    size = (pixels.shape[1], pixels.shape[2])
    # What a colour becomes must depend neither on its place nor on the colours elsewhere.
    came = torch.stack([pixels[:, (1 + 2 * y) * size[0] // 4, (1 + 2 * x) * size[1] // 4] for y, x in _QUARTERS])
    expected = black + torch.tensor(_COLOURS, dtype=torch.float64) / 255 @ lights.T
    spread = float(lights.abs().max())
    bgr = bool(lights[0, 2] > lights[0, 0])
    scale = (lights.flip(1) if bgr else lights).diag()
    crossed = lights - torch.diag(scale).flip(1) if bgr else lights - torch.diag(scale)
    if not (scale > 0).all() or max(float((came - expected).abs().max()), float(crossed.abs().max())) > 1e-3 * spread:
        raise ClassifierError(
            f"classifier: {name}: expected a processor that scales and shifts each colour, its {kind} does something "
            f"else; it has {', '.join(_switches(processor))}"
        )
    if size == (_SIDE, _SIDE) and processed(several[: _SIDE // 2, : _SIDE // 2]).shape[1] != _SIDE:
        sides = [image_size] * 2 if isinstance(image_size, int) else list(image_size or ())
        if len(sides) != 2:
            raise ClassifierError(
                f"classifier: {name}: expected a size, but its {kind} does not resize; say do_resize and size in "
                "preprocessor_config.json"
            )
        size = (int(sides[0]), int(sides[1]))
    if bgr:
        scale, black = scale.flip(0), black.flip(0)
    # Six digits, which its float32 has for sure, so that it is the same on every machine.
    black[black.abs() < 1e-6 * spread] = 0
    mean, std = (tuple(float(f"{v + 0.0:.6g}") for v in values.tolist()) for values in (-black / scale, 1 / scale))
    return Preparation(size, mean, std, "BGR" if bgr else "RGB")


#: Row and column.
_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))

#: What a processor's file may switch on although its class does not know it: nothing that changes a colour.
_HARMLESS = {
    "do_resize",
    "do_center_crop",
    "do_convert_rgb",
    "do_pad",
    "do_reduce_labels",
    "do_rescale",
    "do_normalize",
}

_OF_COLOURS = re.compile(r"do_\w+|\w*(gr[ae]y|gamma|equali|channel|colou?r|invert|bright|contrast|hue|saturat|lut)\w*")


def _refuse_unknown(processor: Any, name: str) -> None:
    """Raise ClassifierError if the processor's file asks for something that its class does not know."""
    kind = type(processor)
    known = {*_HARMLESS, *dir(kind), *getattr(processor, "_valid_kwargs_names", ())}
    known |= {*inspect.signature(kind.__init__).parameters, *inspect.signature(kind.preprocess).parameters}
    known |= {*getattr(getattr(kind, "valid_kwargs", None), "__annotations__", ())}
    asked = [key for key, value in processor.to_dict().items() if value and key not in known]
    if unknown := sorted(key for key in asked if _OF_COLOURS.fullmatch(key)):
        raise ClassifierError(
            f"classifier: {name}: its processor's file has {', '.join(unknown)}, which {kind.__name__} does not know; "
            "take it out if the model was not trained with it"
        )


def _switches(processor: Any) -> list[str]:
    return [key for key, value in processor.to_dict().items() if key.startswith("do_") and value] or ["no options"]

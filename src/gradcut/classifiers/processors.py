"""What an image processor of transformers does to colours, asked of the processor itself."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from gradcut.classifiers.sizes import joined
from gradcut.errors import ClassifierError, one_line


class Preparation(NamedTuple):
    """What an image processor does: it resizes, and normalises colours as `Classifier` does."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: str


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

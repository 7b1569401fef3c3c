"""Photographs in, pictures out: the only place where pixels are read, resized or encoded.

A photograph is ``UInt8[ndarray, "H W 3"]``: RGB, upright, at its own size.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from gradcut.errors import ImageError, one_line
from gradcut.files import fetch, is_url, replacing

Photograph = UInt8[np.ndarray, "H W 3"]
Photographs = Sequence[UInt8[np.ndarray, "_ _ 3"]]  # each has its own size

#: Larger photographs are refused before they are decoded: a small file may claim any size.
MAX_PIXELS = 150_000_000

# ``warnings.catch_warnings`` swaps global state, so the short header read that needs it is serialised.
_open_lock = threading.Lock()


def read(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Photograph:
    """The photograph in a file: upright by its EXIF orientation, any mode turned to RGB.

    Transparent pixels are laid on white, 16-bit values are scaled to 8 bits, and of an animation the
    first frame counts.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, or has more than ``max_pixels`` pixels.
    """
    return _read(path, os.fspath(path), max_pixels)


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Photograph:
    """The photograph in a file's contents, as `read` reads it; ``name`` is what errors call it."""
    return _read(io.BytesIO(data), name, max_pixels)


def _read(file: str | os.PathLike[str] | io.BytesIO, name: str, max_pixels: int) -> Photograph:
    try:
        if isinstance(file, str) and is_url(file):
            file = fetch(file)
        with _open(file, name) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{name}: {width} x {height} pixels are more than the limit of {max_pixels:,}; "
                    "shrink the photograph first"
                )
            return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        size = len(file.getbuffer()) if isinstance(file, io.BytesIO) else Path(file).stat().st_size
        raise ImageError(f"{name}: {'not an image that can be read' if size else 'the file is empty'}") from None
    # Pillow's decoders raise almost anything on damaged data.
    except (
        OSError,
        ValueError,
        SyntaxError,
        IndexError,
        TypeError,
        EOFError,
        MemoryError,
        OverflowError,
    ) as error:
        raise ImageError(f"{name}: cannot be read: {one_line(error)}") from error


def read_values(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "H W *c"]:
    """A label image's numbers as they are stored: palette indices, grey values, or RGB channels.

    Raises:
        ImageError: the file is missing or cannot be read.
    """
    try:
        with _open(path, os.fspath(path)) as image:
            return np.array(image)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError(f"{path}: not an image that can be read") from error


def _open(file: str | os.PathLike[str] | io.BytesIO, name: str) -> Image.Image:
    """Open lazily; our own limit replaces Pillow's warning about large images."""
    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(file)
        except Image.DecompressionBombError:
            raise ImageError(f"{name}: more pixels than can be decoded safely; shrink the photograph first") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        values = np.asarray(image).astype(np.float64)
        # Float images hold 0-1 by convention; integers of more than 8 bits hold 0-65535.
        if image.mode == "F":
            full = 1.0 if values.size and np.nanmax(values) <= 1 else 255.0
        else:
            full = 65535.0 if image.mode != "I" or values.max(initial=0) > 255 else 255.0
        image = Image.fromarray(np.clip(np.nan_to_num(values) * (255 / full), 0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def as_photograph(image: object) -> Photograph:
    """An array or a PIL image as a photograph; a path is read.

    Raises:
        ImageError: something else, or an array that is not uint8 of shape (H, W, 3) or (H, W).
    """
    if isinstance(image, str | os.PathLike):
        return read(image)
    if isinstance(image, Image.Image):
        return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 2 and image.size:
            return np.repeat(image[:, :, None], 3, axis=2)
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        raise ImageError(f"image: expected a uint8 array of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    raise ImageError(f"image: expected a path, a PIL image or a uint8 array, got {type(image).__name__}")


def resize(photograph: Photograph, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Bilinear, antialiased, to ``size`` = (height, width); the aspect ratio is not kept."""
    if photograph.shape[:2] == size:
        return photograph
    height, width = size
    return np.array(Image.fromarray(photograph).resize((width, height), Image.Resampling.BILINEAR))


def resize_map(values: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """A map of real numbers, bilinear, to ``size`` = (height, width), as float32."""
    if values.shape == size:
        return values.astype(np.float32)
    height, width = size
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """To ``size`` = (height, width), with the boundary where bilinear interpolation crosses one half."""
    if mask.shape == size:
        return mask
    height, width = size
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR)) >= 128


def coverage(mask: Bool[np.ndarray, "H W"], size: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """How much of each pixel of a grid of ``size`` = (height, width) the mask covers, 0 to 1."""
    height, width = size
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX))


def write_png(
    path: str | os.PathLike[str],
    pixels: Shaped[np.ndarray, "H W *c"],
    palette: UInt8[np.ndarray, "n 3"] | None = None,
) -> None:
    """Write a boolean mask (0 and 255), grey, RGB or, with a palette, an indexed PNG; all or nothing."""
    data = encode_png(pixels, palette)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def encode_png(pixels: Shaped[np.ndarray, "H W *c"], palette: UInt8[np.ndarray, "n k"] | None = None) -> bytes:
    """A PNG file's contents; pixels and palette as for `write_png`. A palette of four columns is RGBA."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    image = Image.fromarray(pixels)
    if palette is not None:
        image = Image.fromarray(pixels).convert("L")
        image.putpalette(palette.tobytes(), "RGBA" if palette.shape[1] == 4 else "RGB")
    file = io.BytesIO()
    # The usual 6 takes twice the time of 3 and makes a photograph 6 % smaller, but a mask by 40 %.
    image.save(file, format="PNG", compress_level=3 if image.mode == "RGB" else 6)
    return file.getvalue()

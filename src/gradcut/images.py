"""Photographs in, pictures out: the only place where pixels are read, resized or encoded.

A photograph is ``UInt8[ndarray, "H W 3"]``: RGB, upright, at its own size.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError, features

from gradcut import shards
from gradcut.errors import ImageError, one_line
from gradcut.files import CONVERTED, HEIF, RAW, READS_HEIF, fetch, is_url, replacing, suffix
from gradcut.ranges import Again, Range, check_range, eight_bits

Photograph = UInt8[np.ndarray, "H W 3"]
Photographs = Sequence[UInt8[np.ndarray, "_ _ 3"]]  # each has its own size
File = str | os.PathLike[str] | io.BytesIO

#: Larger photographs are refused before they are decoded: a small file may claim any size.
MAX_PIXELS = 150_000_000

# ``warnings.catch_warnings`` swaps global state, so the short header read that needs it is serialised.
_open_lock = threading.Lock()


def read(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, value_range: tuple[float, float] | None = None
) -> Photograph:
    """The photograph in a file: upright by its EXIF orientation, any mode turned to RGB.

    Transparent pixels are laid on white, and of an animation the first frame counts. Numbers of more than 8 bits are
    stretched to 8, linearly: over ``value_range``; else over the range that the file tells (TIFF's tags, PNG's sBIT,
    the maximum of PNM, the bits of JPEG 2000); else over the whole of 16 bits, of 0 to 1 or of 0 to 255, where they
    fill it, as `gradcut.ranges` says.

    Args:
        path: a file's, or its address.
        value_range: the numbers that become black and white in files of more than 8 bits.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, has more than ``max_pixels`` pixels, or does not
            say which numbers are black and white.
    """
    if not isinstance(path, str | os.PathLike):
        raise ImageError(f"path: expected a path or an address, got {type(path).__name__}")
    return _read(path, os.fspath(path), max_pixels, value_range)


def decode(
    data: bytes, name: str, max_pixels: int = MAX_PIXELS, value_range: tuple[float, float] | None = None
) -> Photograph:
    """The photograph in a file's contents, as `read` reads it; ``name`` is what errors call it."""
    return _read(io.BytesIO(data), name, max_pixels, value_range)


def _read(file: File, name: str, max_pixels: int, value_range: tuple[float, float] | None) -> Photograph:
    value_range = check_range(value_range)
    if suffix(name) in RAW:  # Pillow would read the small preview in some
        raise ImageError(f"{name}: a camera's raw file; convert it first, to TIFF for instance")
    with _one_line(name, file):
        if not isinstance(file, io.BytesIO) and shards.is_shard(name) and not shards.split(name):
            shards.check(name)
            raise ImageError(f"{name}: expected a photograph, got a shard of them; name one, as tar://cat.jpg::{name}")
        if isinstance(file, str) and is_url(file):
            file = fetch(file)
        with _open(file, name, max_pixels) as image:
            return _photograph(image, value_range, lambda: _open(file, name, max_pixels))


def size_of(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of the photograph in a file, or at an address, upright; its pixels are not read.

    Raises:
        ImageError: as `read` has them, but for what only the pixels show.
    """
    name = os.fspath(path)
    with _one_line(name, path), _open(fetch(path) if is_url(path) else path, name, max_pixels) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in _LYING else (height, width)


def read_values(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Shaped[np.ndarray, "H W *c"]:
    """A label image's numbers as they are stored: palette indices, grey values, or RGB channels.

    Raises:
        ImageError: the file is missing or cannot be read, or has more than ``max_pixels`` pixels.
    """
    with _one_line(os.fspath(path), path), _open(path, os.fspath(path), max_pixels) as image:
        return np.array(image)


@contextmanager
def _one_line(name: str, file: File | None = None) -> Iterator[None]:
    """Turn whatever Pillow raises inside the block into one line; on damaged data that is almost anything."""
    try:
        yield
    except ImageError as error:
        raise error if str(error).startswith(f"{name}: ") else ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        ending = suffix(name)
        if file is not None and not is_url(file) and not _bytes(file):
            raise ImageError(f"{name}: the file is empty") from None
        if ending in HEIF and not READS_HEIF:
            raise ImageError(f"{name}: {ending} is not read; pip install 'gradcut[heic]'") from None
        if ending == ".avif" and not features.check("avif"):
            raise ImageError(f"{name}: .avif is not read; pip install 'pillow>=11.3'") from None
        if ending in CONVERTED:
            raise ImageError(f"{name}: {ending} is not read; convert it first, to JPEG for instance") from None
        if ending == ".tgz" or Path(name).suffixes[-2:-1] == [".tar"]:
            raise ImageError(f"{name}: a compressed tar file; decompress it first") from None
        raise ImageError(f"{name}: not an image that can be read") from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or one_line(error)  # the system's words without number and name
        raise ImageError(f"{name}: cannot be read: {reason}") from error


def _bytes(file: File) -> int:
    return len(file.getbuffer()) if isinstance(file, io.BytesIO) else Path(file).stat().st_size


@cache
def _register_heif() -> None:
    """Let Pillow read HEIF: of no other photographs is the package imported."""
    import pillow_heif

    pillow_heif.register_heif_opener()


@contextmanager
def _open(file: File, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Open lazily; our own limit replaces Pillow's warning about large images."""
    # By its name Pillow would map a file into memory, and scramble a TIFF that is to be turned.
    with nullcontext(file) if isinstance(file, io.BytesIO) else Path(file).open("rb") as stream:
        if READS_HEIF and stream.read(12)[4:8] == b"ftyp":
            _register_heif()
        stream.seek(0)
        with _open_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                image = Image.open(stream)
            except Image.DecompressionBombError:
                raise ImageError("more pixels than can be decoded safely; shrink the photograph first") from None
        with image:
            _check_pixels(image, max_pixels)
            yield image


def _check_pixels(image: Image.Image, most: int) -> None:
    width, height = image.size
    if width * height > most:
        raise ImageError(f"{width} x {height} pixels are more than the limit of {most:,}; shrink the photograph first")


def _photograph(
    image: Image.Image,
    value_range: Range | None = None,
    again: Again | None = None,
) -> Photograph:
    plain = eight_bits(image, value_range, again)
    image.load()  # PNG may have its orientation behind the pixels
    turn = _TURNS.get(_orientation(image))
    plain = _to_rgb(plain)
    return np.array(plain if turn is None else plain.transpose(turn))


def _orientation(image: Image.Image) -> object:
    """What EXIF says, 1 where it cannot be read. Pillow's ``exif_transpose`` writes all of EXIF anew, which fails on
    much that it can read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as varied as damaged data
        return 1


_TURNS: Mapping[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


#: Orientations that exchange height and width.
_LYING = frozenset({5, 6, 7, 8})


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def as_photograph(image: object) -> Photograph:
    """An array or a PIL image as a photograph; a path is read.

    Raises:
        ImageError: something else, an array that is not uint8 of shape (H, W, 3) or (H, W), or what `read` refuses.
    """
    if isinstance(image, str | os.PathLike):
        return read(image)
    if isinstance(image, Image.Image):
        with _one_line("image"):
            _check_pixels(image, MAX_PIXELS)
            return _photograph(image)
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


def resize_map(
    values: Float[np.ndarray, "h w"], size: tuple[int, int], part: tuple[int, int, int, int] | None = None
) -> Float[np.ndarray, "H W"]:
    """A map of real numbers, bilinear, to ``size`` = (height, width), as float32; ``part`` as for `resize_mask`."""
    if part is None and values.shape == size:
        return values.astype(np.float32)
    return _bilinear(Image.fromarray(values.astype(np.float32)), size, part)


def resize_mask(
    mask: Bool[np.ndarray, "h w"], size: tuple[int, int], part: tuple[int, int, int, int] | None = None
) -> Bool[np.ndarray, "H W"]:
    """To ``size`` = (height, width), with the boundary where bilinear interpolation crosses one half.

    Args:
        part: first and last row, first and last column, to make only so much of it.
    """
    if part is None and mask.shape == size:
        return mask
    return _bilinear(Image.fromarray(mask.astype(np.uint8) * 255), size, part) >= 128


def _bilinear(
    image: Image.Image, size: tuple[int, int], part: tuple[int, int, int, int] | None
) -> Shaped[np.ndarray, "H W"]:
    """An image at another size, or a part of that."""
    height, width = size
    top, bottom, left, right = part or (0, height, 0, width)
    down, across = image.height / height, image.width / width
    box = (left * across, top * down, right * across, bottom * down)
    return np.asarray(image.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box))


def coverage(
    mask: Bool[np.ndarray, "H W"], size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Float[np.ndarray, "h w"]:
    """How much of each pixel of a grid of ``size`` = (height, width) the mask covers, 0 to 1.

    Args:
        box: left, top, right and bottom of the mask's part that the grid lies over, by default all of it.
    """
    height, width = size
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX, box))


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
    # The usual 6 takes 2.7 times the time of 1 and makes a photograph 10 % smaller, but a mask by more than 40 %.
    image.save(file, format="PNG", compress_level=1 if image.mode == "RGB" else 6)
    return file.getvalue()


def box_of(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int] | None:
    """A mask's left, top, width and height in pixels, as COCO has it; None for an empty mask."""
    rows: np.ndarray = np.any(mask, axis=1)
    columns: np.ndarray = np.any(mask, axis=0)
    return box_between(rows, columns)


def box_between(rows: Bool[np.ndarray, " H"], columns: Bool[np.ndarray, " W"]) -> tuple[int, int, int, int] | None:
    """`box_of` a mask, of which is told which of its rows and columns have a pixel inside."""
    down, across = np.flatnonzero(rows), np.flatnonzero(columns)
    if not len(down):
        return None
    top, left = int(down[0]), int(across[0])
    return left, top, int(across[-1]) - left + 1, int(down[-1]) - top + 1

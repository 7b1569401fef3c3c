"""Numbers of more than 8 bits: which of them is black, and which is white.

A file says it in its tags (TIFF's SMinSampleValue, BitsPerSample and the like, PNG's sBIT, PNM's maximum), or a
person says it. Without either, the usual range of such numbers is assumed, but only where they fill it: 12 bits in a
file of 16, kelvin or metres would become all black or all white.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageFile, TiffImagePlugin

from gradcut.errors import ImageError

#: The numbers that become black and white.
Range = tuple[float, float]
#: Opens the same file another time.
Again = Callable[[], AbstractContextManager[Image.Image]]

_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
#: Pillow keeps the high byte of 16-bit colours; read as if the byte order were the other one, it keeps the low byte.
_LOW_BYTES = {
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBA", "RGBX", "CMYK")
    for order, other in (("L", "B"), ("B", "L"), ("N", "B" if sys.byteorder == "little" else "L"))
}
#: Numbers looked at for the spread of a large photograph.
_SAMPLE = 1_000_000
_ROWS = 256


def check_range(value_range: object) -> Range | None:
    """The range as two floats, or None.

    Raises:
        ImageError: something else than two finite numbers, the lower first.
    """
    if value_range is None:
        return None
    try:
        low, high = map(float, value_range)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        low = high = np.nan
    if isinstance(value_range, str) or not -np.inf < low < high < np.inf:
        raise ImageError(f"range: expected two finite numbers, the lower first, got {value_range!r}")
    return low, high


def eight_bits(
    image: Image.Image,
    value_range: Range | None = None,
    again: Again | None = None,
) -> Image.Image:
    """The image with 8 bits a channel; one that has no more is returned as it is.

    Args:
        image: not yet decoded, if it comes from a file: 16-bit colours cannot be told from 8-bit ones later.
        value_range: the numbers that become black and white, instead of what the file says.
        again: opens the same file another time, for the low bytes of 16-bit colours.

    Raises:
        ImageError: nobody says which numbers are black and white.
    """
    header = _header(image)
    colours = image.mode in ("RGB", "RGBA", "CMYK")
    if image.mode in _GREY or (image.mode == "L" and header.signed):
        numbers = _grey(image, header)
        grey = _stretched(numbers, *(value_range or _told(numbers, header) or _assumed(numbers)))
        if header.tags.get(262) == 0:  # WhiteIsZero
            grey = 255 - grey
        if isinstance(transparent := image.info.get("transparency"), int):
            grey[numbers == transparent] = 255
        return Image.fromarray(grey)
    if colours and header.format == "PPM" and header.whole > 255:
        return Image.fromarray(_pnm_colours(image, header, value_range))
    if colours and header.rawmode.endswith((";16L", ";16B", ";16N")):
        return _colours(image, header, value_range, again)
    if colours and header.format == "TIFF" and header.bits == 16 and len(header.rawmode) == 1:
        raise ImageError("16-bit colours in separate planes; save them interleaved")
    return image


@dataclass(frozen=True)
class _Header:
    """What a file says of its numbers before they are decoded.

    ``bits`` are the significant ones, 0 where nothing tells; ``whole`` is the greatest number of PNM.
    """

    format: str = ""
    rawmode: str = ""
    offset: int = 0
    bits: int = 0
    signed: bool = False
    whole: int = 0
    tags: Mapping[int, Any] = field(default_factory=dict)


def _header(image: Image.Image) -> _Header:
    tiles = getattr(image, "tile", None)
    if not isinstance(image, ImageFile.ImageFile) or not tiles:
        return _Header()
    args: Any = tiles[0][3]
    rawmode = str(args[0] if isinstance(args, tuple) and args else args)
    header = _Header(image.format or "", rawmode, int(tiles[0][2]))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits, signed = int(_first(image.tag_v2.get(258, 1))), _first(image.tag_v2.get(339, 1)) == 2
        return replace(header, bits=bits, signed=signed, tags=dict(image.tag_v2))
    if image.format == "PPM" and image.mode != "F":
        return replace(header, whole=args[1] if isinstance(args, tuple) else 65535 if ";16" in rawmode else 255)
    bits = {"PNG": _png_bits, "JPEG2000": _jpeg2000_bits}.get(header.format, lambda _: 0)(image)
    return replace(header, bits=bits)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


@contextmanager
def _file_of(image: ImageFile.ImageFile) -> Iterator[IO[bytes]]:
    """The file that an image is read from, to look into; Pillow goes on where it was."""
    assert image.fp is not None
    before = image.fp.tell()
    try:
        yield image.fp
    finally:
        image.fp.seek(before)


def _png_bits(image: ImageFile.ImageFile) -> int:
    """The most bits that PNG's sBIT gives a colour, 0 without one; Pillow does not read it."""
    with _file_of(image) as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT":
                return max(file.read(min(length, 3))[: 1 if length < 3 else 3], default=0)
            if kind == b"IDAT":
                break
            file.seek(length + 4, 1)
        return 0


def _jpeg2000_bits(image: ImageFile.ImageFile) -> int:
    """The bits of the first component, from the codestream's SIZ marker."""
    with _file_of(image) as file:
        file.seek(0)
        start = file.read(100_000)
    at = start.find(b"\xff\x4f\xff\x51")
    return (start[at + 42] & 0x7F) + 1 if 0 <= at < len(start) - 42 else 16


def _grey(image: Image.Image, header: _Header) -> Shaped[np.ndarray, "H W"]:
    """The numbers as the file has them."""
    numbers = np.asarray(image)
    if header.format == "TIFF" and header.signed and header.bits < 32:
        return numbers.view(np.int8) if header.bits == 8 else numbers.astype(np.int16)
    if header.format == "TIFF" and not header.signed and header.bits == 32 and image.mode == "I":
        return numbers.view(np.uint32)
    if header.format == "PPM" and header.whole > 255:  # which Pillow stretches to 16 bits
        return np.rint(numbers * (header.whole / 65535)).astype(np.uint16)
    if header.format == "JPEG2000" and 8 < header.bits < 16:  # as well
        return numbers >> (16 - header.bits)
    return numbers


def _told(numbers: Shaped[np.ndarray, "H W *c"], header: _Header) -> Range | None:
    """The range that the file tells; None where it says no more than that numbers have 16 bits or are real."""
    whole = (1 << header.bits) - 1
    if header.format == "PPM" and header.whole < 65535:
        return (0, header.whole) if header.whole else None
    for lowest, highest in ((340, 341), (280, 281)):  # SMinSampleValue, SMaxSampleValue; MinSampleValue, MaxSampleValue
        low, high = (float(_first(header.tags.get(tag, np.nan))) for tag in (lowest, highest))
        low = 0 if lowest not in header.tags else low
        if not -np.inf < low < high < np.inf or ((low, high) == (0, whole) and not _fills(numbers, whole)):
            continue  # many programs write the whole range, whatever the numbers are
        least, most = _ends(numbers)
        slack = 1e-5 * (high - low)
        if least < low - slack or most > high + slack:
            raise ImageError(f"its tags promise numbers from {low:g} to {high:g}, it has {least:g} to {most:g}; {_SAY}")
        return low, high
    if not 8 < header.bits < 16:
        return None
    if header.format == "PNG":
        # Numbers of fewer bits are to be stretched to 16: below the significant bits come zeros or the highest bits
        # again. Where they are not, the file has the numbers as they were.
        rest = (1 << (16 - header.bits)) - 1
        plain = _ends(numbers)[1] <= whole and bool((numbers & rest).any())
        return (0, whole) if plain else (0, 65535)
    return 0, whole


_SAY = (
    "say which are black and white with --range LOW HIGH, in Python gradcut.images.read(path, value_range=(LOW, HIGH))"
)


def _ends(numbers: Shaped[np.ndarray, "H W *c"]) -> Range:
    """The least and the greatest finite number; NaN where there is none."""
    finite = numbers[np.isfinite(numbers)] if numbers.dtype.kind == "f" else numbers
    return (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)


def _assumed(numbers: Shaped[np.ndarray, "H W *c"]) -> Range:
    """The usual range of such numbers that they fill: 0 to 65535, for real numbers 0 to 1, and 0 to 255.

    Their greatest is in its upper half, and all but the highest and the lowest 0.5 % lie more than a quarter of it
    apart: numbers of two bits fewer cannot, and a picture keeps as much of its contrast at least.

    Raises:
        ImageError: they fill none.
    """
    usual = (1, 255) if numbers.dtype.kind == "f" else (65535,) if numbers.dtype == np.uint16 else (255, 65535)
    for whole in usual:
        if _fills(numbers, whole):
            return 0, whole
    least, most, low, high = *_ends(numbers), *_middle(numbers)
    if math.isnan(least):
        raise ImageError("none of its numbers is finite")
    kind = f"{numbers.dtype.itemsize * 8}-bit {_KINDS[numbers.dtype.kind]}"
    raise ImageError(
        f"{kind} numbers from {least:g} to {most:g}, 99 % of them from {low:g} to {high:g}, fill no usual range; {_SAY}"
    )


def _fills(numbers: Shaped[np.ndarray, "H W *c"], whole: float) -> bool:
    least, most = _ends(numbers)
    if not (least >= 0 and whole / 2 < most <= whole):
        return False
    low, high = _middle(numbers)
    return high - low > whole / 4


def _middle(numbers: Shaped[np.ndarray, "H W *c"]) -> Range:
    """What the lowest and the highest 0.5 % lie outside of."""
    step = max(1, math.ceil(math.sqrt(numbers.size / _SAMPLE)))
    sample = numbers[::step, ::step]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, (0.5, 99.5)) if sample.size else (np.nan, np.nan)
    return float(low), float(high)


_KINDS = {"f": "real", "i": "signed", "u": "unsigned"}


def _stretched(numbers: Shaped[np.ndarray, "H W *c"], low: float, high: float) -> UInt8[np.ndarray, "H W *c"]:
    """Linearly, low to 0 and high to 255; what is no number becomes 0."""
    out = np.empty(numbers.shape, np.uint8)
    for top in range(0, len(numbers), _ROWS):  # a whole photograph in double precision takes eight times its memory
        values = (numbers[top : top + _ROWS].astype(np.float64) - low) * (255 / (high - low))
        out[top : top + _ROWS] = np.clip(np.nan_to_num(values, posinf=255, neginf=0), 0, 255).round()
    return out


def _colours(
    image: Image.Image,
    header: _Header,
    value_range: Range | None,
    again: Again | None,
) -> Image.Image:
    """16-bit colours: Pillow's high bytes where the numbers fill 16 bits."""
    high = np.asarray(image)
    bands = 4 if image.mode == "CMYK" else 3
    told = value_range is not None or 8 < header.bits < 16 or not {281, 341}.isdisjoint(header.tags)
    if not told and _fills(high[..., :bands], 255):
        return image
    rawmode = _LOW_BYTES.get(header.rawmode)
    if again is None or (rawmode is None and header.rawmode != "LA;16B"):
        raise ImageError("16-bit colours of which only the high bytes can be had; save them as RGB")
    with again() as other:
        if rawmode is None:  # as if the two bytes of grey and the two of alpha were four channels
            other._mode, rawmode = "RGBA", "RGBA"
        other.tile = [_with_rawmode(tile, rawmode) for tile in other.tile]  # type: ignore[attr-defined]
        low = np.asarray(other)
    if header.rawmode == "LA;16B":
        low = low[..., [1, 1, 1, 3]]
    numbers = (high[..., :bands].astype(np.uint16) << 8) | low[..., :bands]
    out = high.copy()
    out[..., :bands] = _stretched(numbers, *(value_range or _told(numbers, header) or _assumed(numbers)))
    return Image.fromarray(out, image.mode)


def _with_rawmode(tile: Any, rawmode: str) -> Any:
    args = (rawmode, *tile[3][1:]) if isinstance(tile[3], tuple) else rawmode
    return ImageFile._Tile(tile[0], tile[1], tile[2], args)


def _pnm_colours(image: Image.Image, header: _Header, value_range: Range | None) -> UInt8[np.ndarray, "H W 3"]:
    """PNM's colours with a greatest number above 255, which Pillow stretches to 8 bits."""
    assert isinstance(image, ImageFile.ImageFile)
    width, height = image.size
    with _file_of(image) as file:
        file.seek(0)
        plain = file.read(2) == b"P3"
        file.seek(header.offset)
        if plain:
            numbers = np.array(file.read().split()[: width * height * 3], dtype=np.uint16)
        else:
            body = file.read(width * height * 6)
            numbers = np.frombuffer(body, ">u2", count=len(body) // 2).astype(np.uint16)
    if numbers.size != width * height * 3:
        raise ImageError("the file is truncated")
    numbers = numbers.reshape(height, width, 3)
    return _stretched(numbers, *(value_range or _told(numbers, header) or _assumed(numbers)))

"""Files with bytes changed, cut, doubled and swapped: what comes out is a photograph or one line."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from gradcut import images
from gradcut.errors import ImageError

#: ``make fuzz`` sets more, and another seed.
MUTATIONS = int(os.environ.get("GRADCUT_FUZZ", "6000"))
SEED = int(os.environ.get("GRADCUT_FUZZ_SEED", "0"))
SIZE = (23, 31)
#: A mutated header may claim any size: what is above is refused before it is decoded.
MOST = 100_000


def _encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)  # type: ignore[arg-type]
    return file.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, "A camera", "2026:01:02 03:04:05"
    exif.get_ifd(0x8769).update({0x829A: (1, 250), 0x9286: b"ASCII\0\0\0hello", 0xA002: 31})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 3.5)})
    return exif


def _files() -> Mapping[str, bytes]:
    rng = np.random.default_rng(SEED)
    rgb = np.kron(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))[: SIZE[0], : SIZE[1]]
    colour, deep = Image.fromarray(rgb), Image.fromarray(np.ascontiguousarray(rgb[..., 0]).astype(np.uint16) * 257)
    real = Image.fromarray(np.ascontiguousarray(rgb[..., 0]).astype(np.float32) / 255)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[340], tags[341] = 0.0, 1.0
    pnm = f"{SIZE[1]} {SIZE[0]} 4095\n".encode() + (rgb.astype(">u2") * 16).tobytes()
    return {
        "jpeg": _encoded(colour, format="JPEG", exif=_exif()),
        "progressive": _encoded(colour, format="JPEG", progressive=True, icc_profile=b"none" * 40),
        "cmyk": _encoded(colour.convert("CMYK"), format="JPEG"),
        "grey.jpeg": _encoded(colour.convert("L"), format="JPEG"),
        "png": _encoded(colour, format="PNG", exif=_exif()),
        "palette.png": _encoded(colour.quantize(16), format="PNG", transparency=3),
        "alpha.png": _encoded(colour.convert("RGBA"), format="PNG"),
        "deep.png": _encoded(deep, format="PNG"),
        "gif": _encoded(colour, format="GIF", save_all=True, append_images=[colour.rotate(90)]),
        "webp": _encoded(colour, format="WEBP", exif=_exif()),
        "lossless.webp": _encoded(colour.convert("RGBA"), format="WEBP", lossless=True),
        "tiff": _encoded(colour, format="TIFF", exif=_exif()),
        "lzw.tiff": _encoded(colour, format="TIFF", compression="tiff_lzw"),
        "deep.tiff": _encoded(deep, format="TIFF", compression="tiff_adobe_deflate"),
        "real.tiff": _encoded(real, format="TIFF", tiffinfo=tags),
        "bmp": _encoded(colour, format="BMP"),
        "palette.bmp": _encoded(colour.quantize(16), format="BMP"),
        "ppm": _encoded(colour, format="PPM"),
        "deep.ppm": b"P6 " + pnm,
        "ico": _encoded(colour, format="ICO", sizes=[(16, 16)]),
        "tga": _encoded(colour, format="TGA", compression="tga_rle"),
        "jp2": _encoded(colour, format="JPEG2000"),
    }  # fmt: skip


def _mutated(data: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """One to four changes; half of them in the first bytes, where headers and tags are."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        end = len(content) if rng.random() < 0.5 else min(len(content), 128)
        at = int(rng.integers(0, max(end, 1)))
        length = int(rng.integers(1, 17))
        kind = rng.integers(0, 8)
        if kind == 0:
            content[at : at + 1] = bytes([int(rng.integers(0, 256))])
        elif kind == 1 and content:
            content[min(at, len(content) - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length]
        elif kind == 4:
            content[at : at + length] = rng.bytes(length)
        elif kind == 5:
            del content[at:]
        elif kind == 6:
            extreme = int(rng.choice([0, 1, 0x7FFF, 0x7FFFFFFF, 0xFFFF, 0xFFFFFFFF, 0x80000000]))
            content[at : at + 4] = struct.pack("<I" if rng.random() < 0.5 else ">I", extreme)
        else:
            other = others[rng.integers(0, len(others))]
            start = int(rng.integers(0, len(other)))
            content[at : at + length] = other[start : start + length]
    return bytes(content)


def _outcome(step: Callable[[], np.ndarray], what: str) -> str:
    try:
        made = step()
    except ImageError as error:
        message = str(error)
        assert "\n" not in message, what
        return message
    except BaseException as error:  # a person should learn which bytes did it
        pytest.fail(f"{what}: {type(error).__name__}: {error}")
    assert isinstance(made, np.ndarray), what
    return ""


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_photographs_or_one_line(tmp_path):
    originals = _files()
    rng = np.random.default_rng(SEED)
    names, contents = list(originals), list(originals.values())
    path = tmp_path / "a.img"
    refused: dict[str, int] = dict.fromkeys(names, 0)
    slowest = 0.0
    for number in range(MUTATIONS):
        name = names[number % len(names)]
        data = _mutated(originals[name], rng, contents)
        what = f"mutation {number} of {name} with seed {SEED}"
        began = time.process_time()
        message = _outcome(lambda data=data: images.decode(data, "a.img", MOST), what)
        refused[name] += bool(message)
        assert not message or message.startswith("a.img: "), what
        if number % 4 == 0:
            path.write_bytes(data)
            _outcome(lambda: images.read(path, MOST, value_range=(10, 200)), what)
            _outcome(lambda: images.read_values(path, MOST), what)
            try:
                opened = Image.open(io.BytesIO(data))
            except Exception:  # Pillow's own, of a file that is not gradcut's yet
                continue
            if opened.width * opened.height <= MOST:
                _outcome(lambda opened=opened: images.as_photograph(opened), what)
        slowest = max(slowest, time.process_time() - began)
    assert slowest < 10, "a file that keeps the reader busy"
    assert min(refused.values()) > 0, refused
    assert max(refused.values()) < MUTATIONS / len(names), refused  # the mutations leave much to decode


@pytest.mark.parametrize("name", _files())
def test_the_files_are_read_as_they_are(name):
    assert images.decode(_files()[name], name).shape in {(*SIZE, 3), (*SIZE[::-1], 3), (12, 16, 3)}


@pytest.mark.filterwarnings("ignore")
def test_memory_is_bounded_by_the_limit():
    """A header that claims 40,000 x 40,000 pixels costs nothing."""
    claims = {
        "png": (_files()["png"], 16, ">II"), "bmp": (_files()["bmp"], 18, "<ii"), "gif": (_files()["gif"], 6, "<HH"),
    }  # fmt: skip
    for name, (data, at, layout) in claims.items():
        size = struct.pack(layout, 40_000, 40_000)
        tracemalloc.start()
        with warnings.catch_warnings(), pytest.raises(ImageError):
            images.decode(data[:at] + size + data[at + len(size) :], name)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000, name
        tracemalloc.stop()

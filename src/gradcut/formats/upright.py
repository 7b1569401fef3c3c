"""Photographs that a tag says how to turn: many readers ignore it, and a mask then lies across its photograph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageOps

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


def is_turned(file: Path | io.BytesIO) -> bool:
    """Whether a file's EXIF orientation says that its pixels are to be turned or mirrored."""
    with _opened(file) as image:
        return _is_turned(image)


def upright(file: Path | io.BytesIO) -> bytes | None:
    """The file's contents with its pixels turned upright and without the tag; None where they are so already.

    Written in the file's own format: without loss where the format has that, JPEG at quality 95.
    """
    with _opened(file) as image:
        if not _is_turned(image):
            return None
        profile = image.info.get("icc_profile")
        kind = {"MPO": "JPEG"}.get(str(image.format), str(image.format))
        image.load()
        image.getexif()
        # What was read stays with the image. The other tags' bytes go: Pillow cannot write back all that it reads.
        image.info = {key: value for key, value in image.info.items() if key == "transparency"}
        turned = ImageOps.exif_transpose(image)
    options: Mapping[str, Any] = _OPTIONS.get(kind, {})
    content = io.BytesIO()
    turned.save(content, kind, exif=b"", icc_profile=profile, **options)
    return content.getvalue()


@contextmanager
def _opened(file: Path | io.BytesIO) -> Iterator[Image.Image]:
    """As a stream: by its name Pillow maps a TIFF into memory and turns it wrongly."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large photographs are welcome, and reading them told of damaged tags
        with Image.open(stream) as image:
            yield image


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
    except Exception:  # damaged tags raise almost anything, and say nothing about turning
        return False

from __future__ import annotations

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from gradcut import images
from gradcut.errors import ImageError

RED = np.array([200, 30, 40], dtype=np.uint8)


@pytest.fixture
def photograph():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def test_png_is_read_exactly(tmp_path, photograph):
    assert np.array_equal(images.read(saved(tmp_path / "a.png", Image.fromarray(photograph))), photograph)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, photograph, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(photograph), exif=exif)
    upright = {
        1: photograph, 2: photograph[:, ::-1], 3: photograph[::-1, ::-1], 4: photograph[::-1],
        5: photograph.transpose(1, 0, 2), 6: np.rot90(photograph, -1),
        7: photograph[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(photograph),
    }  # fmt: skip
    assert np.array_equal(images.read(path), upright[orientation])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    grey = Image.new("L", (9, 7), 128)
    if mode == "I;16":
        image = Image.fromarray(np.full((7, 9), 128 * 257, dtype=np.uint16))
    else:
        image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "F": "tif", "I": "tif"}.get(mode, "png")
    read = images.read(saved(tmp_path / f"a.{suffix}", image))
    assert read.shape == (7, 9, 3)
    assert read.dtype == np.uint8
    if mode != "1":
        assert abs(read.astype(int) - 128).max() <= 3


def test_sixteen_bits_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 300).reshape(3, 100).astype(np.uint16)
    read = images.read(saved(tmp_path / "a.png", Image.fromarray(ramp)))
    assert abs(read[..., 0].astype(float) - ramp / 257).max() <= 1


def test_transparency_lies_on_white(tmp_path):
    rgba = np.zeros((4, 6, 4), dtype=np.uint8)
    rgba[:, :3] = (*RED, 255)
    rgba[:, 3:] = (0, 0, 0, 0)
    for name, image in (
        ("rgba.png", Image.fromarray(rgba)),
        ("palette.png", Image.fromarray(rgba).quantize(4)),
        ("palette.gif", Image.fromarray(rgba)),
    ):
        read = images.read(saved(tmp_path / name, image))
        assert abs(read[:, :3].astype(int) - RED).max() <= 2, name
        assert (read[:, 3:] == 255).all(), name


def test_first_frame_of_an_animation(tmp_path):
    first, second = (Image.new("RGB", (5, 4), colour) for colour in (tuple(RED), (0, 0, 255)))
    path = tmp_path / "a.gif"
    first.save(path, save_all=True, append_images=[second])
    assert (images.read(path) == RED).all()


def test_missing(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        images.read(tmp_path / "gone.jpg")


def test_folder_is_no_photograph(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        images.read(tmp_path)


def test_empty(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ImageError, match=r"a\.jpg: the file is empty"):
        images.read(tmp_path / "a.jpg")


def test_text(tmp_path):
    (tmp_path / "a.jpg").write_text("not a photograph")
    with pytest.raises(ImageError, match="not an image that can be read"):
        images.read(tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_every_truncation_is_one_line(tmp_path, photograph, suffix):
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format={"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    whole = buffer.getvalue()
    path = tmp_path / f"a.{suffix}"
    messages = []
    for share in (0.02, 0.1, 0.3, 0.5, 0.8):
        path.write_bytes(whole[: int(len(whole) * share)])
        try:
            images.read(path)  # some decoders need less than the whole file
        except ImageError as error:
            messages.append(str(error))
    assert len(messages) >= 4
    assert all("\n" not in message and str(path) in message for message in messages)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [13_000, 60_000])
def test_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + _chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(ImageError, match="pixels"):
        images.read(tmp_path / "bomb.png")


@pytest.mark.filterwarnings("error")
def test_fifty_megapixels_are_read_without_a_warning(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("L", (10_000, 10_000), 7))
    assert images.read(path).shape == (10_000, 10_000, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "expected a uint8 array of shape .* got float32"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"got uint8 of shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"got uint8 of shape \(0, 4, 3\)"),
        (17, "expected a path, a PIL image or a uint8 array, got int"),
    ],
)
def test_what_is_no_photograph(image, message):
    with pytest.raises(ImageError, match=message):
        images.as_photograph(image)


def test_as_photograph_takes_pil_and_grey(photograph):
    assert np.array_equal(images.as_photograph(Image.fromarray(photograph)), photograph)
    grey = images.as_photograph(photograph[..., 0])
    assert np.array_equal(grey, np.repeat(photograph[..., :1], 3, axis=2))


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(1, 4))
def test_a_mask_scaled_up_by_whole_numbers_and_back_is_the_same(mask, factor):
    size = mask.shape[0] * factor, mask.shape[1] * factor
    large = images.resize_mask(mask, size)
    assert large.shape == size
    centres = large[factor // 2 :: factor, factor // 2 :: factor]
    if factor % 2:
        assert np.array_equal(centres, mask)
    if mask.all() or not mask.any():
        assert (large == mask.flat[0]).all()


def test_indexed_png_keeps_values_and_palette(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    images.write_png(tmp_path / "a.png", labels, palette)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), labels)
        assert np.array_equal(np.array(image.convert("RGB")), palette[labels])


def test_reading_from_threads(tmp_path, photograph):
    path = saved(tmp_path / "a.png", Image.fromarray(photograph))
    results = []
    threads = [threading.Thread(target=lambda: results.append(images.read(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(result, photograph) for result in results)

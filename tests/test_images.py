from __future__ import annotations

import inspect
import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, features

from gradcut import files, images
from gradcut.errors import ImageError

RED = np.array([200, 30, 40], dtype=np.uint8)


@pytest.fixture
def photograph():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def test_the_size_of_a_file_is_that_of_its_upright_photograph(tmp_path):
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.new("RGB", (30, 20)).save(tmp_path / f"{turn}.jpg", exif=exif)
        assert images.size_of(tmp_path / f"{turn}.jpg") == images.read(tmp_path / f"{turn}.jpg").shape[:2]
    with pytest.raises(ImageError, match="no such file"):
        images.size_of(tmp_path / "nowhere.jpg")


def test_png_is_read_exactly(tmp_path, photograph):
    assert np.array_equal(images.read(saved(tmp_path / "a.png", Image.fromarray(photograph))), photograph)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, photograph, orientation, grey, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if grey:
        photograph = np.repeat(photograph[..., :1], 3, axis=2)
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(
        tmp_path / f"a.{suffix}", Image.fromarray(photograph[..., 0] if grey else photograph), exif=exif, **options
    )
    upright = {
        1: photograph, 2: photograph[:, ::-1], 3: photograph[::-1, ::-1], 4: photograph[::-1],
        5: photograph.transpose(1, 0, 2), 6: np.rot90(photograph, -1),
        7: photograph[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(photograph),
    }  # fmt: skip
    assert np.array_equal(images.read(path), upright[orientation])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    ramp = np.tile(np.array([0, 32, 64, 96, 128, 160, 192, 224, 255], np.uint8), (7, 1))
    grey = Image.fromarray(ramp)
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "F": "tif", "I": "tif"}.get(mode, "png")
    read = images.read(saved(tmp_path / f"a.{suffix}", image))
    assert read.shape == (7, 9, 3)
    assert read.dtype == np.uint8
    if mode != "1":
        assert abs(read.astype(int) - ramp[..., None]).max() <= 9


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


def turned(image, tags):
    """A JPEG with EXIF entries of any kind: tag, type, count and the four bytes of the value, or bytes beside it."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries, rest = b"", b""
    for tag, kind, count, value in tags:
        if isinstance(value, bytes):
            entries += struct.pack("<HHII", tag, kind, count, start + len(rest))
            rest += value
        else:
            entries += struct.pack("<HHII", tag, kind, count, value)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + rest
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    data = file.getvalue()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize("odd", [
    (256, 2, 7, b"abcdef\0"), (282, 5, 1, bytes(8)), (271, 2, 0, 0), (0x9286, 99, 4, 0), (0x8769, 4, 1, 10_000),
    (0x8769, 2, 5, b"text\0"), (0x8825, 4, 1, 8), (0x0111, 3, 70_000, 0), (0x9003, 12, 1, b"\0\0\0\0\0\0\xf8\x7f"),
    (36864, 7, 4, 0x30333230), (0x010F, 10, 1, bytes(8)), (270, 2, 3, b"\xff\xfe\0"), (0xFFFF, 1, 3, b"abc"),
])  # fmt: skip
def test_exif_that_cannot_be_written_back(photograph, odd):
    image = Image.fromarray(np.kron(photograph[:4, :5], np.ones((8, 8, 1), np.uint8)))
    data = turned(image, [odd, (274, 3, 1, 6)] if odd[0] < 274 else [(274, 3, 1, 6), odd])
    plain = images.as_photograph(image)
    read = images.decode(data, "a.jpg")
    assert read.shape == (40, 32, 3)
    assert abs(read.astype(int) - np.rot90(plain, -1)).mean() < 30
    assert np.array_equal(images.as_photograph(Image.open(io.BytesIO(data))), read)


def test_exif_that_cannot_be_read_leaves_the_photograph_as_it_is(photograph):
    image = Image.fromarray(photograph)
    data = turned(image, [(274, 3, 1, 6)]).replace(b"II*\0", b"XX*\0", 1)
    assert images.decode(data, "a.jpg").shape == photograph.shape


@pytest.mark.parametrize("path", [17, None, b"a.jpg", ["a.jpg"]])
def test_what_is_no_path(path):
    with pytest.raises(ImageError, match=f"^path: expected a path or an address, got {type(path).__name__}"):
        inspect.unwrap(images.read)(path)  # past the check of types


@pytest.mark.parametrize("name", ["a.nef", "b.DNG"])
def test_the_preview_in_a_raw_file_is_no_photograph(tmp_path, photograph, name):
    saved(tmp_path / "a.tif", Image.fromarray(photograph)).rename(tmp_path / name)
    with pytest.raises(ImageError, match=rf"{name}: a camera's raw file; convert it first"):
        images.read(tmp_path / name)


def test_a_format_that_is_not_read_says_what_would_read_it(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "READS_HEIF", False)
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ImageError, match=r"a\.HEIC: \.heic is not read; pip install 'gradcut\[heic\]'"):
        images.read(tmp_path / "a.HEIC")
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bytes(40))
    with pytest.raises(ImageError, match=r"a\.jxl: \.jxl is not read; convert it first, to JPEG for instance"):
        images.read(tmp_path / "a.jxl")
    monkeypatch.setattr(features, "check", lambda name: False)
    (tmp_path / "a.avif").write_bytes(bytes(40))
    with pytest.raises(ImageError, match=r"a\.avif: \.avif is not read; pip install 'pillow>=11\.3'"):
        images.read(tmp_path / "a.avif")


@pytest.mark.parametrize(("name", "kind"), [("a.avif", "AVIF"), ("a.jp2", "JPEG2000"), ("a.j2k", "JPEG2000")])
def test_avif_and_jpeg_2000(tmp_path, photograph, name, kind):
    """They are found in folders, and read; AVIF's orientation is heeded."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    options = {"quality": 95, "subsampling": "4:4:4"} if kind == "AVIF" else {}
    large = np.kron(photograph, np.ones((16, 16, 1), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = {"exif": exif} if kind == "AVIF" else {}
    Image.fromarray(large).save(tmp_path / name, kind, **options, **turned)
    assert files.find([tmp_path])[0] == [(tmp_path / name, "a")]
    expected = np.rot90(large, -1) if turned else large
    assert images.size_of(tmp_path / name) == expected.shape[:2]
    assert np.abs(images.read(tmp_path / name).astype(int) - expected).mean() < 4


def test_heic(tmp_path, photograph):
    """Upright, as phones mean it; whatever the case of its ending."""
    heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif")
    large = np.kron(photograph, np.ones((16, 16, 1), dtype=np.uint8))
    for turn, name in ((1, "a.heic"), (6, "b.HEIC")):
        exif = Image.Exif()
        exif[0x0112] = turn
        heif.from_pillow(Image.fromarray(large)).save(tmp_path / name, quality=95, chroma=444, exif=exif.tobytes())
        expected = np.rot90(large, -1) if turn == 6 else large
        assert images.size_of(tmp_path / name) == expected.shape[:2]
        assert np.abs(images.read(tmp_path / name).astype(int) - expected).mean() < 6
    assert [name for _, name in files.find([tmp_path])[0]] == ["a", "b"]


def test_label_images_are_limited_too(tmp_path, photograph):
    path = saved(tmp_path / "a.png", Image.fromarray(photograph))
    assert np.array_equal(images.read_values(path), photograph)
    with pytest.raises(ImageError, match=r"a\.png: 20 x 12 pixels are more than the limit of 100; shrink"):
        images.read_values(path, max_pixels=100)


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

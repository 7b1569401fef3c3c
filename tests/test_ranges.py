"""Numbers of more than 8 bits: stretched as the file or a person says, or refused, never black in silence."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from gradcut import images
from gradcut.errors import ImageError
from gradcut.ranges import check_range

RAMP = np.linspace(0, 1, 60 * 80).reshape(60, 80)
RGB = np.stack([RAMP, RAMP[::-1], RAMP**2], axis=-1)
CHANNELS = {
    "grey": RAMP, "grey and alpha": np.stack([RAMP, np.ones_like(RAMP)], -1), "rgb": RGB,
    "rgba": np.concatenate([RGB, np.ones((60, 80, 1))], -1),
}  # fmt: skip


def expected(channels):
    return CHANNELS[channels] if channels.startswith("rgb") else RAMP[..., None]


def png(values, significant=None):
    """A 16-bit PNG, with sBIT if asked for."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, bands = *values.shape[:2], values[0, 0].size
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    told = b"" if significant is None else chunk(b"sBIT", bytes([significant] * bands))
    parts = [chunk(b"IHDR", header), told, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def scaled(channels, most):
    """The colours 0 to ``most``; alpha is full in 16 bits."""
    values = np.rint(CHANNELS[channels] * most).astype(np.uint16)
    if channels in ("grey and alpha", "rgba"):
        values[..., -1] = 65535
    return values


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def assert_shown(data, shown, **options):
    read = images.decode(data, "a", **options)
    assert abs(read - 255 * shown[..., :3]).max() <= 1.5


def refused(data, **options):
    with pytest.raises(ImageError) as caught:
        images.decode(data, "a", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("channels", CHANNELS)
def test_png_of_16_bits(channels):
    full, twelve = scaled(channels, 65535), scaled(channels, 4095)
    assert_shown(png(full), expected(channels))
    assert_shown(png(full), expected(channels), value_range=(0, 65535))
    message = refused(png(twelve))
    assert message.startswith("a: 16-bit unsigned numbers from 0 to 4095, 99 % of them from ")
    assert "--range LOW HIGH, in Python gradcut.images.read(path, value_range=(LOW, HIGH))" in message
    assert_shown(png(twelve), expected(channels), value_range=(0, 4095))
    assert_shown(png(twelve, 12), expected(channels))
    assert_shown(png(full, 12), expected(channels))  # stretched to 16 bits, as the specification asks
    assert_shown(png(twelve), np.clip(2 * expected(channels) - 0.5, 0, 1), value_range=(4095 / 4, 4095 * 3 / 4))


def test_a_dark_png_that_was_stretched_from_12_bits_stays_dark():
    assert images.decode(png((scaled("grey", 200) << 4), 12), "a").max() == round(3200 / 257)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colour_tiff_of_16_bits(order, compression):
    options = {"photometric": "rgb", "byteorder": order, "compression": compression}
    full, twelve = scaled("rgb", 65535), scaled("rgb", 4095)
    assert_shown(tiff(full, **options), RGB)
    assert "from 0 to 4095" in refused(tiff(twelve, **options))
    assert_shown(tiff(twelve, **options), RGB, value_range=(0, 4095))
    assert_shown(tiff(twelve, extratags=[(281, 3, 3, (4095,) * 3, True)], **options), RGB)
    assert_shown(tiff(full, extratags=[(281, 3, 3, (65535,) * 3, True)], **options), RGB)


def test_colour_tiff_in_planes():
    planes = np.ascontiguousarray(scaled("rgb", 65535).transpose(2, 0, 1))
    assert_shown(tiff(planes, photometric="rgb", planarconfig="separate", compression="zlib"), RGB)
    assert "separate planes" in refused(tiff(planes, photometric="rgb", planarconfig="separate"))


SCALES = {
    "kelvin": (np.float32, 280, 300, False), "metres": (np.float32, 0, 4000, False),
    "index": (np.float32, -1, 1, False),
    "degrees": (np.float32, 5, 35, False), "percent": (np.float32, 0, 100, False), "share": (np.float32, 0, 1, True),
    "eight bits": (np.float32, 0, 255, True), "int8": (np.int8, -100, 100, False),
    "int16": (np.int16, -30000, 30000, False), "int16 from 0": (np.int16, 0, 32767, False),
    "uint16": (np.uint16, 0, 65535, True), "14 bits": (np.uint16, 0, 16383, False),
    "centikelvin": (np.uint16, 29315, 33315, False), "int32": (np.int32, 0, 4095, False),
    "int32 of 16 bits": (np.int32, 0, 65535, True), "uint32": (np.uint32, 0, 2**32 - 1, False),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCALES)
def test_grey_tiff(kind):
    dtype, low, high, usual = SCALES[kind]
    values = (low + RAMP * (high - low)).round(0 if np.issubdtype(dtype, np.integer) else 6).astype(dtype)
    shown = ((values.astype(float) - low) / (high - low))[..., None]
    data = tiff(values)
    assert_shown(data, shown, value_range=(low, high))
    if usual:
        assert_shown(data, shown)
    else:
        assert "--range LOW HIGH" in refused(data)
    told = tiff(values, extratags=[(340, 12, 1, float(low), True), (341, 12, 1, float(high), True)])
    assert_shown(told, shown)
    if low < high - 1:
        wrong = tiff(values, extratags=[(340, 12, 1, float(low), True), (341, 12, 1, high - (high - low) / 2, True)])
        assert "its tags promise numbers from" in refused(wrong)


def test_12_bits_packed_in_a_tiff():
    values = scaled("grey", 4095).reshape(-1, 2).astype(np.uint32)
    packed = (values[:, 0] << 12 | values[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    entries = [(256, 3, 1, 80), (257, 3, 1, 60), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 134)]
    entries += [(277, 3, 1, 1), (278, 3, 1, 60), (279, 4, 1, len(packed)), (339, 3, 1, 1)]
    header = b"II*\0" + struct.pack("<IH", 8, len(entries))
    data = header + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4) + packed
    assert_shown(data, RAMP[..., None])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_whose_white_is_zero(compression):
    values = scaled("grey", 65535)
    assert_shown(tiff(values, photometric="miniswhite", compression=compression), 1 - RAMP[..., None])


@pytest.mark.parametrize("most", [1023, 4095, 65535])
@pytest.mark.parametrize(("magic", "channels"), [("P2", "grey"), ("P3", "rgb"), ("P5", "grey"), ("P6", "rgb")])
def test_pnm_tells_its_maximum(magic, channels, most):
    values = scaled(channels, most)
    text = magic in ("P2", "P3")
    body = " ".join(map(str, values.ravel())).encode() if text else values.astype(">u2").tobytes()
    data = f"{magic} 80 60 {most}\n".encode() + body
    assert_shown(data, expected(channels))
    assert_shown(data, expected(channels), value_range=(0, most))
    darker = data.replace(f" {most}\n".encode(), b" 65535\n", 1)
    if most < 65535:
        assert f"from 0 to {most}" in refused(darker)
        assert_shown(darker, expected(channels), value_range=(0, most))
    refused(data[: len(data) // 2])


def test_jpeg_2000_of_16_bits():
    def encoded(values):
        file = io.BytesIO()
        Image.fromarray(values).save(file, "JPEG2000")
        return file.getvalue()

    assert_shown(encoded(scaled("grey", 65535)), RAMP[..., None])
    assert "from 0 to 4095" in refused(encoded(scaled("grey", 4095)))
    assert_shown(encoded(scaled("grey", 4095)), RAMP[..., None], value_range=(0, 4095))


def test_a_few_odd_numbers_do_not_stand_for_all():
    hot = scaled("grey", 4095)
    hot[0, :3] = 65535
    assert "99 % of them from" in refused(png(hot))
    holes = (280 + 20 * RAMP).astype(np.float32)
    holes[0] = np.nan, *[np.inf] * 78, -np.inf
    assert "from 280." in refused(tiff(holes))
    shown = np.clip(np.nan_to_num((holes - 280) / 20, posinf=1, neginf=0), 0, 1)
    assert_shown(tiff(holes), shown[..., None], value_range=(280, 300))
    assert "none of its numbers is finite" in refused(tiff(np.full((9, 9), np.nan, np.float32)))


def test_a_transparent_grey_is_white():
    values = scaled("grey", 65535)
    data = png(values)
    at = data.index(b"IDAT") - 4
    key = struct.pack(">IH", 0, 0)[-2:]
    chunk = struct.pack(">I", 2) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    read = images.decode(data[:at] + chunk + data[at:], "a")
    assert (read[0, 0] == 255).all()
    assert (read[0, 1] < 5).all()


def test_eight_bits_are_not_stretched():
    file = io.BytesIO()
    Image.fromarray((RGB * 50).astype(np.uint8)).save(file, "PNG")
    assert np.array_equal(images.decode(file.getvalue(), "a", value_range=(0, 10)), (RGB * 50).astype(np.uint8))


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_an_image_in_memory(mode):
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    full = 1 if mode == "F" else 65535
    read = images.as_photograph(Image.fromarray((RAMP * full).astype(dtype)))
    assert abs(read - 255 * RAMP[..., None]).max() <= 1.5
    with pytest.raises(ImageError, match=r"^image: .*--range LOW HIGH"):
        images.as_photograph(Image.fromarray((RAMP * 4000).astype(dtype)))


def test_an_opened_file_of_16_bit_colours():
    assert abs(images.as_photograph(Image.open(io.BytesIO(png(scaled("rgb", 65535))))) - 255 * RGB).max() <= 1.5
    with pytest.raises(ImageError, match="only the high bytes"):
        images.as_photograph(Image.open(io.BytesIO(png(scaled("rgb", 4095)))))


@pytest.mark.parametrize("value_range", [(3, 3), (5, 1), (0, np.inf), (0, np.nan), (1,), (1, 2, 3), "12", 7, ("a", 2)])
def test_a_range_that_is_none(value_range):
    with pytest.raises(ImageError, match=r"^range: expected two finite numbers, the lower first, got "):
        check_range(value_range)


def test_orientation_and_range_together(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    twelve = Image.fromarray(scaled("grey", 4095))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112] = 6
    twelve.save(tmp_path / "a.png", exif=exif)
    twelve.save(tmp_path / "a.tif", tiffinfo=tags)
    for name in ("a.png", "a.tif"):
        read = images.read(tmp_path / name, value_range=(0, 4095))
        assert abs(read - 255 * np.rot90(RAMP, -1)[..., None]).max() <= 1.5, name

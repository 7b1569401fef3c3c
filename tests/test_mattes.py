"""Soft cut-outs of a drawn object whose true edge is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gradcut import formats, pictures
from gradcut.results import Segmentation
from gradcut.segmenter import Segmenter


def drawn_object(size: int = 200):
    """An orange disc with a soft edge on a striped blue ground; its alpha, and a mask that is off by some pixels."""
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(y - 0.5 * size, x - 0.52 * size)
    alpha = np.clip((0.3 * size - distance) / (0.02 * size) + 0.5, 0, 1)
    ground = np.dstack([20 + 10 * (x // 9 % 2), 40 + 0 * x, 150 + 40 * (y // 7 % 2)])
    fore = np.dstack([240 + 0 * x, 150 + 20 * (y // 5 % 2), 10 + 0 * x])
    photograph = np.rint(alpha[..., None] * fore + (1 - alpha[..., None]) * ground).astype(np.uint8)
    angle = np.arctan2(y - 0.5 * size, x - 0.52 * size)
    return photograph, fore, alpha, distance < 0.3 * size + 0.012 * size * np.sin(7 * angle)


@pytest.mark.parametrize("size", [200, 1000])
def test_edges_are_where_the_photographs_are_and_without_the_ground(size):
    """Of large photographs, too, where the filter looks at a smaller one."""
    photograph, fore, alpha, mask = drawn_object(size)
    cut = pictures.soft_cut_out(photograph, mask)
    found = cut[..., 3] / 255
    wrong, before = (np.abs(matte - alpha).mean() for matte in (found, mask.astype(float)))
    assert wrong < 0.35 * before
    edge = (alpha > 0.5) & (alpha < 0.95)
    for channel in (0, 2):
        off, hard = (
            np.abs(pixels[..., channel][edge].astype(float) - fore[..., channel][edge]).mean()
            for pixels in (cut, photograph)
        )
        assert off < 0.5 * hard


def test_outside_the_band_it_is_the_hard_cut_out():
    photograph, _, _, mask = drawn_object()
    cut = pictures.soft_cut_out(photograph, mask, 3)
    band = ndimage.binary_dilation(mask, np.ones((7, 7))) & ~ndimage.binary_erosion(
        mask, np.ones((7, 7)), border_value=1
    )
    assert band.mean() < 0.1
    assert np.array_equal(cut[~band], pictures.cut_out(photograph, mask)[~band])
    wider = pictures.soft_cut_out(photograph, mask, 12)
    assert ((wider[..., 3] > 0) & (wider[..., 3] < 255)).sum() > ((cut[..., 3] > 0) & (cut[..., 3] < 255)).sum()


def test_masks_at_the_border_whole_and_empty_ones():
    photograph, *_ = drawn_object(60)
    nothing = np.zeros(photograph.shape[:2], dtype=bool)
    assert not pictures.soft_cut_out(photograph, nothing).any()
    assert (
        pictures.soft_cut_out(photograph, ~nothing) == np.dstack([photograph, np.full_like(nothing, 255, np.uint8)])
    ).all()
    nothing[-1, -1] = True
    assert pictures.soft_cut_out(photograph, nothing).shape == (60, 60, 4)


def test_exported_cutouts(brightness, drawn, tmp_path):
    Image.fromarray(drawn[0]).save(tmp_path / "both.png")
    result = Segmenter(brightness)(tmp_path / "both.png")
    assert isinstance(result, Segmentation)
    folder = formats.write(formats.pile([result]), tmp_path / "out", "cutouts")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")} == {"both/red.png", "both/blue.png"}
    with Image.open(folder / "both/red.png") as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.array(image), pictures.soft_cut_out(result.image, result["red"].mask))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2lab

from gradcut.masks import contrasts
from gradcut.masks.contrasts import DIAGONAL, Contrast, EdgeMap, Exponential, Inverse

EVERY = [Inverse(), Exponential(), EdgeMap()]


@given(st.integers(0, 255), st.integers(0, 255))
def test_inverse_does_not_wrap_round(a: int, b: int) -> None:
    """Bytes would: 0 - 255 is 1 among them."""
    photograph = np.array([[[a, a, a], [b, b, b]]], dtype=np.uint8)
    right, down, *diagonals = Inverse()(photograph)
    assert right[0, 0] == pytest.approx(1 / (1 + 3 * (a - b) ** 2))
    assert [each.shape for each in (down, *diagonals)] == [(0, 2), (0, 1), (0, 1)]


def test_the_weights_are_between_the_right_pixels() -> None:
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    colour, lab = photograph.astype(float), rgb2lab(photograph)
    steps = ((0, 1, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (1, 0, 0, 1))  # to (y, x) from (y, x), in min_cut's order
    squared: list[list[float]] = []
    for (dy, dx, fy, fx), inverse, exponential in zip(
        steps, Inverse()(photograph), Exponential()(photograph), strict=True
    ):
        far = DIAGONAL if (dy, dx, fx) in ((1, 1, 0), (1, 0, 1)) else 1
        h, w = inverse.shape
        assert (h, w) == exponential.shape == (3 - dy, 4 - max(dx, fx))
        places = [(y, x) for y in range(h) for x in range(w)]
        ends = [((y + fy, x + fx), (y + dy, x + dx)) for y, x in places]
        assert inverse.ravel() == pytest.approx([far / (1 + ((colour[a] - colour[b]) ** 2).sum()) for a, b in ends])
        squared.append([((lab[a] - lab[b]) ** 2).sum() for a, b in ends])
    scale = 2 * np.mean([np.mean(each) for each in squared])
    for number, (each, weights) in enumerate(zip(squared, Exponential()(photograph), strict=True)):
        assert weights.ravel() == pytest.approx(np.exp(-np.array(each) / scale) * (DIAGONAL if number > 1 else 1))


@pytest.mark.parametrize("contrast", EVERY, ids=repr)
def test_a_boundary_is_cheap_and_a_flat_photograph_holds_together(contrast: Contrast) -> None:
    photograph = np.full((8, 12, 3), 90, dtype=np.uint8)
    flat = contrast(photograph)
    assert all((weights == (DIAGONAL if number > 1 else 1)).all() for number, weights in enumerate(flat))
    photograph[:, 6:] = 140
    right = contrast(photograph)[0]
    assert (right[:, 5] < 0.3).all()
    assert (right[:, [0, 1, 2, 8, 9, 10]] == 1).all()


@pytest.mark.parametrize("contrast", EVERY, ids=repr)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (2, 2)])
def test_tiny_photographs(contrast: Contrast, shape: tuple[int, int]) -> None:
    photograph = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    h, w = shape
    weights = contrast(photograph)
    assert [each.shape for each in weights] == [(h, w - 1), (h - 1, w), (h - 1, w - 1), (h - 1, w - 1)]
    assert all(((each > 0) & (each <= 1)).all() for each in weights)


def test_an_edge_map_overlooks_noise_in_single_pixels() -> None:
    """Beside a real boundary, one odd pixel weakens its edges less than by its colour."""
    photograph = np.full((20, 20, 3), 60, dtype=np.uint8)
    photograph[:, 12:] = 200
    photograph[5, 5] = 160
    across = [float(contrast(photograph)[0][5, 4]) for contrast in (Exponential(), EdgeMap())]
    assert across[1] > across[0] + 0.2


@pytest.mark.parametrize("contrast", EVERY, ids=repr)
def test_rounding_is_no_boundary(contrast: Contrast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal colours may come out of a conversion unequal in their last digits, on one processor and not on another."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1e-13, (8, 12, 3))
    monkeypatch.setattr(contrasts, "rgb2lab", lambda photograph: rgb2lab(photograph) + noise)
    weights = contrast(np.full((8, 12, 3), 90, dtype=np.uint8))
    assert all((each == (DIAGONAL if number > 1 else 1)).all() for number, each in enumerate(weights))
    faint = np.full((8, 12, 3), 90, dtype=np.uint8)
    faint[:, 6:, 2] += 1  # the least step there is
    assert contrast(faint)[0][:, 5].max() < 0.9

"""What every mask maker does, and the two that are made of others; the rest is in the files of their own modules."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typecheck import unchecked

from gradcut import images, masks
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import MaskError
from gradcut.masks import (
    Cleaned,
    ColourCut,
    EdgeMap,
    Expansion,
    Exponential,
    GraphCut,
    Inverse,
    JointCut,
    MaskMaker,
    Otsu,
    Outlined,
    RandomWalker,
    Superpixels,
    Threshold,
    Vote,
)
from gradcut.masks.makers import CompactMaker
from gradcut.seeds import Fractions, Percentiles, SeedRule, Seeds

EVERY: list[MaskMaker] = [
    GraphCut(),
    GraphCut(EdgeMap(), neighbours=8, grid=9),
    ColourCut(grid=9),
    ColourCut(grid=14, rounds=2, contrast=EdgeMap(), neighbours=4),
    JointCut(ColourCut(grid=9)),
    RandomWalker(grid=9),
    Threshold(),
    Otsu(),
    Superpixels(count=20, grid=9),
    Expansion(start=3),
    Cleaned(Threshold(), 0.2, 0.8, 0.1, 0.3),
    Outlined(ColourCut(grid=9), grid=9),
    Outlined(Threshold(), grid=4, limit=300),
    Vote([GraphCut(grid=5), GraphCut(grid=9), Otsu()]),
]


def classes(*parameters: str) -> set[str]:
    """The names of the public classes that are called with so named arguments."""
    public = {name: getattr(masks, name) for name in masks.__all__}
    return {
        name
        for name, kind in public.items()
        if isinstance(kind, type) and list(inspect.signature(kind.__call__).parameters) == ["self", *parameters]
    }


MAKERS = classes("photograph", "saliency", "seeds")


def test_every_maker_is_among_them() -> None:
    assert {type(maker).__name__ for maker in EVERY} == MAKERS


def test_exported_names() -> None:
    assert classes("photograph") == {"EdgeMap", "Exponential", "Inverse"}
    assert set(masks.__all__) == MAKERS | classes("photograph") | {"Contrast", "Edges", "MaskError", "MaskMaker"}
    assert masks.__all__ == sorted(masks.__all__)


def maps(rng: np.random.Generator, n: int, kind: str) -> np.ndarray:
    size = (n, int(rng.integers(2, 12)), int(rng.integers(2, 12)))
    if kind == "peak":
        peaks = np.zeros(size, dtype=np.float32)
        peaks[:, 0, 1] = 3
        return peaks
    values = {"zero": np.zeros(size), "constant": np.full(size, 0.7), "random": rng.random(size)}
    return values[kind].astype(np.float32)


@pytest.mark.parametrize("maker", EVERY, ids=repr)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    n=st.integers(0, 3),
    kind=st.sampled_from(["random", "constant", "zero", "peak"]),
    flat=st.booleans(),
    rule=st.sampled_from([Percentiles(), Percentiles(50, 50), Fractions()]),
)
def test_masks_have_the_photographs_shape_whatever_comes(
    maker: MaskMaker, seed: int, shape: tuple[int, int], n: int, kind: str, flat: bool, rule: Percentiles | Fractions
) -> None:
    rng = np.random.default_rng(seed)
    photograph = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if flat:
        photograph[:] = photograph[0, 0]
    saliency = maps(rng, n, kind)
    seeds = [rule(one) for one in saliency]
    before = photograph.copy(), saliency.copy(), [Seeds(*map(np.copy, one)) for one in seeds]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = maker(photograph, saliency, seeds)
    assert found.dtype == np.bool_
    assert found.shape == (n, *shape)
    assert np.array_equal(found, maker(photograph, saliency, seeds))
    assert np.array_equal(before[0], photograph)
    assert np.array_equal(before[1], saliency)
    assert all(np.array_equal(a, b) for a, b in zip(before[2], seeds, strict=True))


# --- What every maker is promised ---


def wrong_inputs() -> list[tuple[int, object, str]]:
    """The argument's position, what comes there instead, and what is said."""
    half = np.arange(12).reshape(3, 4) < 6
    right = Seeds(half, ~half)
    maps = np.ones((2, 3, 4))
    return [
        (0, np.zeros((5, 6)), r"photograph: expected uint8 of \(height, width, 3\), got float64 of \(5, 6\)"),
        (0, np.zeros((5, 6, 4), np.uint8), r"photograph: expected uint8 .*, got uint8 of \(5, 6, 4\)"),
        (0, np.zeros((0, 6, 3), np.uint8), r"photograph: expected uint8 .*, got uint8 of \(0, 6, 3\)"),
        (0, "cat.jpg", "photograph: expected uint8 .*, got str"),
        (1, maps[0], r"saliency: expected floats of \(classes, height, width\), got float64 of \(3, 4\)"),
        (1, maps.astype(int), r"saliency: expected floats .*, got int64 of \(2, 3, 4\)"),
        (1, maps[:, :0], r"saliency: expected floats .*, got float64 of \(2, 0, 4\)"),
        (1, None, "saliency: expected floats .*, got NoneType"),
        (1, maps * np.nan, "saliency: expected finite values of at least 0, got nan"),
        (1, maps * np.inf, "saliency: expected finite values of at least 0, got inf"),
        (1, maps - 2, "saliency: expected finite values of at least 0, got -1.0"),
        (2, [right], "seeds: expected 2, one for each map of the saliency, got 1"),
        (2, [right, None], r"seeds\[1\]: expected Seeds\(foreground, background\), got NoneType"),
        (2, [right, half], r"seeds\[1\]: expected Seeds\(foreground, background\), got bool of \(3, 4\)"),
        (2, [right, Seeds(half.T, ~half)], r"seeds\[1\].foreground: expected bool of \(3, 4\), got bool of \(4, 3\)"),
        (
            2,
            [right, Seeds(half, maps[0])],
            r"seeds\[1\].background: expected bool of \(3, 4\), got float64 of \(3, 4\)",
        ),
        (2, [Seeds(half, half), right], r"seeds\[0\]: expected disjoint masks, got 6 pixels in both"),
    ]


@pytest.mark.parametrize("maker", EVERY, ids=repr)
@pytest.mark.parametrize(("position", "value", "message"), wrong_inputs(), ids=lambda value: repr(value)[:30])
def test_what_does_not_go_together_is_named(
    monkeypatch: pytest.MonkeyPatch, maker: MaskMaker, position: int, value: object, message: str
) -> None:
    half = np.arange(12).reshape(3, 4) < 6
    arguments: list[object] = [np.zeros((5, 6, 3), np.uint8), np.ones((2, 3, 4)), [Seeds(half, ~half)] * 2]
    arguments[position] = value
    # As a user calls it, without the tests' type checker, which would refuse the arguments itself.
    monkeypatch.setattr(ColourCut, "energy", inspect.unwrap(ColourCut.energy))
    call = maker.compact if isinstance(maker, CompactMaker) else maker.__call__  # type: ignore[operator]
    with pytest.raises(MaskError, match=f"^{message}$"):
        inspect.unwrap(call.__func__)(maker, *arguments)


# --- Options ---

#: Each option by itself changes the mask of a cat; what a step depends on is its options, which its repr shows.
OPTIONS: list[tuple[Callable[..., MaskMaker], dict[str, object]]] = [
    (ColourCut, {"middle": 0.8}),
    (ColourCut, {"slope": 40.0}),
    (ColourCut, {"smoothness": 200.0}),
    (ColourCut, {"components": 0}),
    (ColourCut, {"components": 2}),
    (ColourCut, {"grid": 24}),
    (ColourCut, {"rounds": 3}),
    (ColourCut, {"contrast": EdgeMap()}),
    (ColourCut, {"neighbours": 4}),
    (ColourCut, {"steepness": 2.0}),
    (ColourCut, {"clip": 1.0}),
    (ColourCut, {"seed_weight": 1.0}),
    (ColourCut, {"sample": 20}),
    (ColourCut, {"least_variance": 200.0}),
    (ColourCut, {"iterations": 1}),
    (JointCut, {"cut": ColourCut(grid=24)}),
    (GraphCut, {"contrast": Exponential()}),
    (GraphCut, {"neighbours": 8}),
    (GraphCut, {"grid": 24}),
    (RandomWalker, {"grid": 24}),
    (RandomWalker, {"contrast": Inverse()}),
    (RandomWalker, {"neighbours": 8}),
    (Threshold, {"at": 0.5}),
    (Otsu, {"bins": 4}),
    (Superpixels, {"count": 30}),
    (Superpixels, {"at": 0.5}),
    (Superpixels, {"grid": 60}),
    (Superpixels, {"compactness": 1.0}),
    (Superpixels, {"iterations": 1}),
    (functools.partial(Expansion, start=600), {"start": 1}),
    (Expansion, {"percentile": 50}),
    (functools.partial(Cleaned, Threshold(0.7), least=0.99, crumbs=0.95), {"crumbs": 0.3}),
    (functools.partial(Cleaned, Threshold(0.7), crumbs=0.95, least=0.99), {"least": 0.7}),
    (functools.partial(Cleaned, Threshold(0.7), holes=0.1), {"holes": 0.01}),
    (functools.partial(Cleaned, Threshold(0.7), holes=0.1), {"low": 0.6}),
    (functools.partial(Cleaned, maker=GraphCut()), {"maker": Otsu()}),
    (functools.partial(Outlined, Otsu(), grid=24), {"grid": 12}),
    (functools.partial(Outlined, Otsu(), grid=24), {"reach": 0.5}),
    (functools.partial(Outlined, Otsu(), grid=24), {"blur": 2.0}),
    (functools.partial(Outlined, Otsu(), grid=24), {"smoothness": 1.0}),
    (functools.partial(Outlined, Otsu(), grid=24), {"limit": 2000}),
    (functools.partial(Outlined, grid=24, maker=GraphCut()), {"maker": Otsu()}),
    (functools.partial(Vote, [GraphCut(), Otsu()]), {"share": 0.0}),
    (functools.partial(Vote, makers=[GraphCut(), Otsu()]), {"makers": [Otsu()]}),
]


def test_every_option_of_every_maker_is_among_them() -> None:
    listed = {(getattr(kind, "func", kind), name) for kind, option in OPTIONS for name in option}
    kinds = {type(maker) for maker in EVERY}
    assert listed == {(kind, option.name) for kind in kinds for option in dataclasses.fields(kind)}
    # A constant outside the options would change masks behind the record's back; contrasts have none to vary.
    assert not any(dataclasses.fields(kind) for kind in (Inverse, Exponential, EdgeMap))


@pytest.mark.parametrize(("maker", "option"), OPTIONS)
def test_every_option_matters(cat: np.ndarray, maker: Callable[..., MaskMaker], option: dict[str, object]) -> None:
    photograph = images.resize(cat, (96, 96))
    y, x = np.mgrid[:96, :96]
    blob, spot, hole = (
        np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius**2))
        for row, column, radius in ((46, 40, 16), (80, 80, 5), (46, 40, 3))
    )
    texture = images.resize_map(images.resize(photograph, (24, 24)).mean(2), (96, 96)) / 255
    saliency = (blob + 0.9 * spot - 0.8 * hole + 0.2 * texture).astype(np.float32)
    # Above and in the middle, seeds as of strokes contradict the saliency.
    inside, outside = (saliency > 0.97 * saliency.max()) | (y < 4), (saliency < 0.15) | ((y == 52) & (x < 30))
    seeds = [Seeds(inside, outside & ~inside)]
    masks = [made_by(photograph, saliency[None], seeds) for made_by in (maker(), maker(**option))]
    assert not np.array_equal(*masks)


# --- Rounding ---


@pytest.mark.parametrize("maker", EVERY, ids=repr)
@pytest.mark.parametrize("rule", [Percentiles(), Fractions()], ids=repr)
@pytest.mark.parametrize("level", [0.0, 1e-9, 0.7, 1e6])
@pytest.mark.parametrize("flat", [True, False])
def test_rounding_decides_nothing(maker: MaskMaker, rule: SeedRule, level: float, flat: bool, cat: np.ndarray) -> None:
    """A map that is the same everywhere, but for what rounding leaves: its noise is no evidence."""
    photograph = np.full((20, 31, 3), 90, dtype=np.uint8) if flat else images.resize(cat, (20, 31))
    masks = []
    for seed in range(4):
        noise = 1e-7 * np.random.default_rng(seed).uniform(-1, 1, (2, 9, 12)) * (seed > 0)
        saliency = (level * (1 + noise)).astype(np.float32)
        masks.append(maker(photograph, saliency, [rule(class_map) for class_map in saliency]))
    assert all(np.array_equal(mask, masks[0]) for mask in masks)


@pytest.mark.parametrize("maker", EVERY, ids=repr)
def test_on_a_flat_photograph_the_last_digits_of_a_map_decide_nothing(maker: MaskMaker) -> None:
    """Its colours have no spread, and the steps between neighbours none: nothing is divided by what is left of them."""
    y, x = np.mgrid[:21, :24]
    blob = np.exp(-((y - 9.3) ** 2 + 1.7 * (x - 11.6) ** 2) / 60 + 0.01 * x)
    masks = []
    for seed in range(4):
        noise = 1e-7 * np.random.default_rng(seed).uniform(-1, 1, (1, *blob.shape)) * (seed > 0)
        saliency = (blob * (1 + noise)).astype(np.float32)
        masks.append(maker(np.full((40, 37, 3), 90, np.uint8), saliency, [Fractions()(saliency[0])]))
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    assert 0 < masks[0].mean() < 0.6


@pytest.mark.parametrize("maker", EVERY, ids=repr)
def test_a_map_of_zeros_gives_an_empty_mask(maker: MaskMaker, cat: np.ndarray) -> None:
    saliency = np.zeros((2, 9, 12), dtype=np.float32)
    assert not maker(images.resize(cat, (20, 31)), saliency, [Percentiles()(class_map) for class_map in saliency]).any()


# --- Vote and Cleaned ---

PHOTOGRAPH = np.zeros((20, 30, 3), dtype=np.uint8)


def given_mask(mask: np.ndarray) -> MaskMaker:
    return lambda photograph, saliency, seeds: np.stack([mask] * len(saliency))


def made(maker: MaskMaker) -> np.ndarray:
    saliency = np.ones((1, 20, 30))
    (mask,) = maker(PHOTOGRAPH, saliency, [Percentiles()(saliency[0])])
    return mask


def box(*corners: Sequence[int]) -> np.ndarray:
    mask = np.zeros((20, 30), dtype=bool)
    for top, left, bottom, right in corners:
        mask[top:bottom, left:right] = True
    return mask


def test_the_majority_decides() -> None:
    makers = [given_mask(box((0, 0, 20, right))) for right in (10, 20, 30)]
    assert np.array_equal(made(Vote(makers)), box((0, 0, 20, 20)))
    assert np.array_equal(made(Vote(makers, share=0)), box((0, 0, 20, 30)))
    assert np.array_equal(made(Vote(makers, share=0.7)), box((0, 0, 20, 10)))
    assert np.array_equal(made(Vote(makers[:2])), box((0, 0, 20, 10)))  # half is no majority


def test_three_scales_of_a_photograph(cat: np.ndarray) -> None:
    y, x = np.mgrid[:96, :96]
    saliency = np.exp(-((y - 48) ** 2 + (x - 48) ** 2) / 600)[None]
    seeds = [Percentiles()(saliency[0])]
    scales = [GraphCut(grid=grid) for grid in (32, 64, 96)]
    each = np.stack([scale(cat, saliency, seeds) for scale in scales])
    assert len({mask.tobytes() for mask in each}) == 3
    assert np.array_equal(Vote(scales)(cat, saliency, seeds), each.sum(axis=0) >= 2)


def test_the_masks_of_a_vote_over_joint_cuts_never_overlap() -> None:
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (31, 17, 3), dtype=np.uint8)
    saliency = rng.random((3, 6, 6))
    vote = Vote([JointCut(ColourCut(grid=grid)) for grid in (4, 7, 11)])
    found = vote(photograph, saliency, [Percentiles()(one) for one in saliency])
    assert (found.sum(axis=0) <= 1).all()
    assert found.any(axis=(1, 2)).all()


def cleaned(
    mask: np.ndarray, saliency: np.ndarray | float = 0, foreground: Any = (), background: Any = (), **options: float
) -> np.ndarray:
    """What `Cleaned` makes of a mask of 20 x 30, with saliency of the same size and one pixel of it at the maximum."""
    relative = np.zeros((20, 30)) + saliency
    relative[3, 3] = 1
    sides = np.zeros((2, 20, 30), dtype=bool)
    for side, corners in zip(sides, (foreground, background), strict=True):
        side |= box(*corners)
    (found,) = Cleaned(given_mask(mask), **options)(PHOTOGRAPH, 7 * relative[None], [Seeds(*sides)])
    return found


def test_crumbs_of_exactly_the_given_size() -> None:
    mask = box((2, 2, 14, 12), (2, 24, 4, 29), (8, 20, 9, 30))  # 140 pixels: 120, and parts of 10 that do not touch
    mask[8, 29] = False  # 9
    mask[16, 4] = True  # 1: 140 in all
    kept = box((2, 2, 14, 12), (2, 24, 4, 29))
    assert np.array_equal(cleaned(mask, crumbs=10 / 140), kept)
    assert np.array_equal(cleaned(mask, crumbs=10.01 / 140), box((2, 2, 14, 12)))
    assert np.array_equal(cleaned(mask, crumbs=0), mask)


def test_a_part_with_evidence_stays() -> None:
    mask = box((2, 2, 14, 12), (2, 24, 4, 29), (8, 20, 9, 29))
    saliency = np.zeros((20, 30))
    saliency[8, 25] = 0.6
    assert np.array_equal(cleaned(mask, saliency, least=0.6), box((2, 2, 14, 12), (8, 20, 9, 29)))
    assert np.array_equal(cleaned(mask, saliency, least=0.61), box((2, 2, 14, 12)))


def test_where_no_part_has_evidence_that_of_the_most_salient_pixel_stays() -> None:
    parts = box((6, 2, 8, 12), (6, 14, 8, 24), (12, 2, 14, 12), (12, 14, 14, 24))
    saliency = np.zeros((20, 30))
    saliency[12, 5] = 0.2
    assert np.array_equal(cleaned(parts, saliency, crumbs=0.3), box((12, 2, 14, 12)))


def test_holes_of_exactly_the_given_size() -> None:
    mask = box((2, 2, 16, 18))  # 224 pixels
    for hole in (np.s_[4:6, 4:7], np.s_[10, 4:9], np.s_[2, 12]):  # of 6, of 5, and open to the outside
        mask[hole] = False
    filled = mask.copy()
    filled[10, 4:9] = True
    assert np.array_equal(cleaned(mask, 1, holes=6 / mask.sum()), filled)
    filled[4:6, 4:7] = True
    assert np.array_equal(cleaned(mask, 1, holes=6.01 / mask.sum()), filled)
    assert np.array_equal(cleaned(mask, 1, holes=0), mask)


def test_a_hole_where_the_mean_saliency_is_low_stays() -> None:
    mask = box((2, 2, 16, 18))
    mask[4:6, 4:6] = mask[10:12, 4:6] = False
    saliency = np.full((20, 30), 0.5)
    saliency[4, 4] = 0.1  # 0.4 in the mean
    filled = mask.copy()
    filled[10:12, 4:6] = True
    assert np.array_equal(cleaned(mask, saliency, holes=0.1, low=0.41), filled)
    assert np.array_equal(cleaned(mask, saliency, holes=0.1, low=0.4 - 1e-9), box((2, 2, 16, 18)))


def test_seeds_hold_a_crumb_and_a_hole() -> None:
    mask = box((2, 2, 16, 18), (2, 24, 3, 25))
    mask[10, 10] = False
    assert np.array_equal(cleaned(mask, 0.5), box((2, 2, 16, 18)))
    assert np.array_equal(cleaned(mask, 0.5, foreground=[(2, 24, 3, 25)], background=[(10, 10, 11, 11)]), mask)


def test_parts_and_holes_at_the_photographs_border_and_seeds_of_another_size() -> None:
    """Maps of 10 x 10 over a photograph of 20 x 30: a pixel's place has two rows and three columns."""
    mask = box((0, 0, 14, 18), (18, 27, 20, 30), (16, 3, 17, 4))
    mask[0:2, 6:8] = False  # open to the border
    mask[6:8, 6:9] = False
    saliency = np.zeros((1, 10, 10))
    saliency[0, 0, 0], saliency[0, 9, 9], saliency[0, 3, 2] = 1, 0.8, 0.5
    nowhere = np.zeros((10, 10), dtype=bool)
    (found,) = Cleaned(given_mask(mask), holes=0.1)(PHOTOGRAPH, saliency, [Seeds(nowhere, nowhere)])
    expected = box((0, 0, 14, 18), (18, 27, 20, 30))
    expected[0:2, 6:8] = False
    assert np.array_equal(found, expected)


def test_corners_do_not_connect() -> None:
    mask = box((2, 2, 10, 10), (10, 10, 12, 12))
    assert np.array_equal(cleaned(mask), box((2, 2, 10, 10)))


def test_a_crumb_in_a_small_hole_goes_with_the_hole() -> None:
    mask = box((2, 2, 16, 18))
    mask[6:11, 6:11] = False
    mask[8, 8] = True
    assert np.array_equal(cleaned(mask, 0.5, holes=0.2), box((2, 2, 16, 18)))


def test_nothing_and_everything_stay() -> None:
    for mask in (box(), box((0, 0, 20, 30))):
        assert np.array_equal(cleaned(mask, 0.5, crumbs=0.9, holes=0.9), mask)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"holes": -0.1}, "holes: expected a fraction from 0 to less than 1, got -0.1"),
        ({"crumbs": 1.0}, "crumbs: expected a fraction from 0 to less than 1, got 1.0"),
        ({"least": float("nan")}, "least: expected a fraction from 0 to less than 1, got nan"),
        ({"low": 2}, "low: expected a fraction from 0 to less than 1, got 2"),
    ],
)
def test_unusable_sizes(option: dict[str, float], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        Cleaned(Threshold(), **option)


def test_unusable_votes() -> None:
    with pytest.raises(MaskError, match="makers: expected one mask maker at least, got none"):
        Vote([])
    with pytest.raises(MaskError, match="share: expected a fraction from 0 to less than 1, got 1"):
        Vote([Otsu()], share=1)
    with pytest.raises(MaskError, match=r"makers: expected a list of mask makers, got Otsu\(bins=256\)"):
        unchecked(Vote, makers=Otsu())
    with pytest.raises(MaskError, match="makers: expected mask makers, got 'otsu'"):
        unchecked(Vote, makers=["otsu"])
    with pytest.raises(MaskError, match="maker: expected a mask maker, got 'otsu'"):
        unchecked(Cleaned, maker="otsu")


@pytest.mark.parametrize("shape", [(2, 20, 30), (1, 30, 20), (20, 30)])
@pytest.mark.parametrize("combined", [Vote, Cleaned, Outlined])
def test_a_makers_promise_is_checked(combined: Any, shape: tuple[int, ...]) -> None:
    def broken(*_: object) -> Any:
        return np.zeros(shape, dtype=bool)

    maker = combined([broken]) if combined is Vote else combined(broken)
    got = re.escape(f"bool of (1, 20, 30), got bool of {shape}")
    with pytest.raises(MaskError, match=f"^maker: expected masks from <function .*broken at .*>, {got}$"):
        made(maker)


def test_makers_are_compared_and_printed_by_their_options() -> None:
    assert repr(Vote([Otsu(), Threshold(0.3)])) == "Vote(makers=(Otsu(bins=256), Threshold(at=0.3)), share=0.5)"
    assert Vote([Otsu()]) == Vote((Otsu(),)) != Vote([Otsu()], share=0.2)
    assert hash(Cleaned(Otsu())) == hash(Cleaned(Otsu(), 0.1))
    assert GraphCut() != GraphCut(neighbours=8)


# --- docs/masks.md ---

PAGE = Path(__file__).parents[2] / "docs/masks.md"


def test_the_page_describes_every_maker_with_its_options_and_defaults() -> None:
    described = dict(re.findall(r"^\| \*\*`(\w+)\((.*?)\)`\*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(described) == MAKERS
    for name, options in described.items():
        kind = getattr(masks, name)
        written = ast.parse(f"f({options})", mode="eval").body
        assert isinstance(written, ast.Call)
        names = [each.id for each in written.args if isinstance(each, ast.Name)]
        names += [str(each.arg) for each in written.keywords]
        assert names == [field.name for field in dataclasses.fields(kind)]
        given = [[Otsu()]] if name == "Vote" else [Otsu()] * len(written.args)
        values = {str(each.arg): eval(ast.unparse(each.value), vars(masks)) for each in written.keywords}
        assert kind(*given, **values) == kind(*given)


def test_the_pages_pictures_are_there_and_small() -> None:
    names = set(re.findall(r"!\[[^]]*\]\((masks/[\w-]+\.jpg)\)", PAGE.read_text(encoding="utf-8")))
    files = {f"masks/{path.name}": path.stat().st_size for path in (PAGE.parent / "masks").iterdir()}
    assert names <= set(files)
    assert sum(files.values()) < 600_000


def test_the_pages_examples_run(embedded: Classifier, cat: np.ndarray) -> None:
    names: dict[str, Any] = {}
    recipe, own = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(recipe, names)
    (shown,) = names["segment"](cat, ["Egyptian cat"]).objects
    assert 0.2 < shown.mask.mean() < 1
    exec(own, names)
    (shown,) = names["segment"](cat, ["Egyptian cat"]).objects
    assert 0.05 < shown.mask.mean() < 1
    assert shown.seeds.foreground.any()
    assert repr(names["recipe"].masks) == "GeodesicNearest(grid=64)"
    flat = np.ones((1, 9, 9), dtype=np.float32)
    assert not names["GeodesicNearest"]()(cat, flat, [names["AboveMean"]()(flat[0])]).any()

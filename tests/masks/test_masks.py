"""What every mask maker does, and the two that are made of others; the rest is in the files of their own modules."""

from __future__ import annotations

import ast
import dataclasses
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcut import masks
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import MaskError
from gradcut.masks import (
    Cleaned,
    ColourCut,
    Expansion,
    GraphCut,
    JointCut,
    MaskMaker,
    Otsu,
    RandomWalker,
    Superpixels,
    Threshold,
    Vote,
    contrasts,
)
from gradcut.masks.contrasts import EdgeMap
from gradcut.seeds import Fractions, Percentiles, Seeds

EVERY: list[MaskMaker] = [
    GraphCut(),
    GraphCut(EdgeMap(), neighbours=8, grid=9),
    ColourCut(grid=9),
    ColourCut(grid=14, rounds=2, contrast=EdgeMap(), neighbours=4),
    JointCut(ColourCut(grid=9)),
    RandomWalker(grid=9),
    Threshold(),
    Otsu(),
    Superpixels(count=6, grid=9),
    Expansion(start=3),
    Cleaned(Threshold(), 0.1, 0.1),
    Vote([GraphCut(grid=5), GraphCut(grid=9), Otsu()]),
]


def test_every_maker_is_among_them() -> None:
    kinds = {type(maker).__name__ for maker in EVERY}
    assert kinds == set(masks.__all__) - {"MaskError", "MaskMaker"}


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


def test_holes_and_crumbs_of_exactly_the_given_size() -> None:
    """600 pixels: a hole or a part of 6 has a share of 0.01."""
    mask = box((2, 2, 16, 18), (2, 24, 4, 27), (8, 24, 9, 29))  # 224 pixels, and parts of 6 and 5
    mask[4:6, 4:7] = False  # a hole of 6
    mask[10, 4:9] = False  # a hole of 5
    mask[2, 12] = False  # open to the outside
    solid = given_mask(mask)

    filled = mask.copy()
    filled[10, 4:9] = True
    assert np.array_equal(made(Cleaned(solid, holes=0.01, crumbs=0)), filled)
    filled[4:6, 4:7] = True
    assert np.array_equal(made(Cleaned(solid, holes=0.0101, crumbs=0)), filled)

    kept = mask.copy()
    kept[8, 24:29] = False
    assert np.array_equal(made(Cleaned(solid, holes=0, crumbs=0.01)), kept)
    kept[2:4, 24:27] = False
    assert np.array_equal(made(Cleaned(solid, holes=0, crumbs=0.0101)), kept)
    assert np.array_equal(made(Cleaned(solid, holes=0, crumbs=0.9)), kept)  # the largest stays
    assert np.array_equal(made(Cleaned(solid, 0, 0)), mask)


def test_corners_do_not_connect() -> None:
    mask = box((2, 2, 10, 10), (10, 10, 12, 12))
    assert made(Cleaned(given_mask(mask), 0, 0.01))[10:, 10:].sum() == 0


def test_a_crumb_in_a_small_hole_goes_with_the_hole() -> None:
    mask = box((2, 2, 16, 18))
    mask[6:11, 6:11] = False
    mask[8, 8] = True
    assert np.array_equal(made(Cleaned(given_mask(mask), 0.05, 0.01)), box((2, 2, 16, 18)))


def test_nothing_and_everything_stay() -> None:
    for mask in (box(), box((0, 0, 20, 30))):
        assert np.array_equal(made(Cleaned(given_mask(mask), 0.5, 0.5)), mask)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"holes": -0.1}, "holes: expected a fraction from 0 to less than 1, got -0.1"),
        ({"crumbs": 1.0}, "crumbs: expected a fraction from 0 to less than 1, got 1.0"),
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


def test_makers_are_compared_and_printed_by_their_options() -> None:
    assert repr(Vote([Otsu(), Threshold(0.3)])) == "Vote(makers=(Otsu(), Threshold(at=0.3)), share=0.5)"
    assert Vote([Otsu()]) == Vote((Otsu(),)) != Vote([Otsu()], share=0.2)
    assert hash(Cleaned(Otsu())) == hash(Cleaned(Otsu(), 0.001))
    assert GraphCut() != GraphCut(neighbours=8)


# --- docs/masks.md ---

PAGE = Path(__file__).parents[2] / "docs/masks.md"


def test_the_page_describes_every_maker_with_its_options_and_defaults() -> None:
    described = dict(re.findall(r"^\| \*\*`(\w+)\((.*?)\)`\*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(described) == set(masks.__all__) - {"MaskError", "MaskMaker"}
    for name, options in described.items():
        kind = getattr(masks, name)
        written = ast.parse(f"f({options})", mode="eval").body
        assert isinstance(written, ast.Call)
        names = [each.id for each in written.args if isinstance(each, ast.Name)]
        names += [str(each.arg) for each in written.keywords]
        assert names == [field.name for field in dataclasses.fields(kind)]
        given = [[Otsu()]] if name == "Vote" else [Otsu()] * len(written.args)
        known = {**vars(masks), **vars(contrasts)}
        values = {str(each.arg): eval(ast.unparse(each.value), known) for each in written.keywords}
        assert kind(*given, **values) == kind(*given)


def test_the_pages_pictures_are_there_and_small() -> None:
    names = set(re.findall(r"!\[[^]]*\]\((masks/[\w-]+\.jpg)\)", PAGE.read_text(encoding="utf-8")))
    files = {f"masks/{path.name}": path.stat().st_size for path in (PAGE.parent / "masks").iterdir()}
    assert names <= set(files)
    assert sum(files.values()) < 600_000


def test_the_pages_example_runs(embedded: Classifier, cat: np.ndarray) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    (found,) = names["segment"](cat, ["Egyptian cat"]).objects
    assert 0.2 < found.mask.mean() < 1

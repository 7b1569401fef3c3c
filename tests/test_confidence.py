"""The confidence of a mask: every feature moves as its line says, and so does what is expected of the mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import placed

from gradcut import RECIPES, GradcutError, Segmenter
from gradcut.confidence import FEATURES, coefficients, expected_iou, features, support
from gradcut.masks import GraphCut
from gradcut.recipes import fitted_name
from gradcut.seeds import Fractions, Percentiles


def blob(sharp: float = 3.0, centre: tuple[int, int] = (16, 16)) -> np.ndarray:
    """A map that falls from 1 at its centre."""
    y, x = np.mgrid[:32, :32]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.exp(-((distance / 6) ** sharp)).astype(np.float32)


def square(left: int, right: int) -> np.ndarray:
    mask = np.zeros((64, 64), dtype=bool)
    mask[left:right, left:right] = True
    return mask


def one(saliency=None, mask=None, score=0.9, others=()) -> dict[str, float]:
    """The features of the first of some classes."""
    saliency = blob() if saliency is None else saliency
    mask = square(22, 44) if mask is None else mask
    maps, masks = [saliency, *(m for m, _ in others)], [mask, *(m for _, m in others)]
    return dict(zip(FEATURES, features(np.stack(maps), np.stack(masks), [score] + [0.5] * len(others))[0], strict=True))


def test_features_of_a_known_mask():
    found = one()
    assert found["score"] == pytest.approx(np.log(9))
    assert found["area"] == pytest.approx(np.log(11 * 11 / 32**2 + 1e-4))
    assert found["lead"] == found["company"] == found["overlap"] == found["border"] == 0
    assert 0.5 < found["contrast"] < 1
    inside = np.zeros((32, 32), dtype=bool)
    inside[11:22, 11:22] = True
    above = blob() > 0.35
    assert found["agreement"] == pytest.approx((above & inside).sum() / (above | inside).sum())


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("score", {"score": 0.2}, {"score": 0.8}),
        ("area", {"mask": square(28, 36)}, {"mask": square(20, 44)}),
        ("contrast", {"mask": square(0, 20)}, {}),
        ("agreement", {"mask": square(0, 20)}, {}),
        ("sharpness", {"saliency": blob(1.0)}, {"saliency": blob(8.0)}),
        ("overlap", {"others": [(blob(), square(0, 10))]}, {"others": [(blob(), square(30, 50))]}),
        ("border", {}, {"mask": square(0, 44)}),
        ("lead", {"others": [(3 * blob(), square(0, 10))]}, {"others": [(blob(), square(0, 10))]}),
        ("company", {}, {"others": [(blob(), square(0, 10))]}),
    ],
)
def test_every_feature_moves(name, low, high):
    assert one(**low)[name] < one(**high)[name]


def test_nothing_and_empty_maps_have_features():
    assert features(np.zeros((0, 8, 8), np.float32), np.zeros((0, 8, 8), bool), []).shape == (0, len(FEATURES))
    for mask in (square(0, 0), square(0, 64)):
        values = features(np.zeros((1, 32, 32), np.float32), mask[None], [1.0])
        assert np.isfinite(values).all()
        assert 0 <= expected_iou(values, "default")[0] <= 1


def test_where_the_map_says_nothing_no_variant_makes_something_up():
    photograph = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    saliency = np.zeros((1, 9, 7), dtype=np.float32)
    seeds = [Percentiles()(saliency[0])]
    masks = GraphCut()(photograph, saliency, seeds)
    assert not support(photograph, saliency, seeds, masks, GraphCut()).any()


def test_every_coefficient_and_the_recipe_matter():
    for recipe in ("default", "fast"):
        fitted = coefficients()[recipe]
        assert len(fitted["weights"]) == len(FEATURES)
        assert 0 not in fitted["weights"]
    values = features(blob()[None], square(22, 44)[None], [0.9])
    assert expected_iou(values, "default") != expected_iou(values, "fast")
    better = features(blob()[None], square(22, 44)[None], [0.99])
    assert expected_iou(better, "default") > expected_iou(values, "default")


def test_nothing_is_expected_where_nothing_was_fitted(brightness, drawn):
    values = features(blob()[None], square(22, 44)[None], [0.9])
    assert expected_iou(values, "another") == expected_iou(values, None) == [None]
    default = RECIPES["default"]
    known = [
        Segmenter(placed(brightness), recipe)(drawn[0]) for recipe in (default, replace(default, name="mine"), "fast")
    ]
    assert all(found.confidence is not None for result in known for found in result)
    assert [found.confidence for found in known[0]] == [found.confidence for found in known[1]], (
        "the name decides nothing"
    )
    assert known[0].confidence == pytest.approx(np.mean([found.confidence for found in known[0]]))
    others = (
        replace(default, seeds=Fractions(0.9, 0.02)), replace(RECIPES["simonyan"], name="default"), "simonyan",
    )  # fmt: skip
    for recipe in others:
        result = Segmenter(placed(brightness), recipe)(drawn[0])
        assert len(result) == 2
        assert {found.confidence for found in result} == {None}
        assert result.confidence is None
    # Without weights for places the recipe is another, to which nothing was fitted.
    assert Segmenter(brightness)(drawn[0]).confidence is None


def test_every_recipe_that_was_fitted_is_one_of_gradcuts():
    assert set(coefficients()) <= set(RECIPES)
    assert {fitted_name(RECIPES[name]) for name in coefficients()} == set(coefficients())


def test_objects_below_a_confidence_are_left_out_and_listed(brightness, drawn, tmp_path):
    classifier = placed(brightness)
    whole = Segmenter(classifier)(drawn[0])
    least, most = sorted(whole, key=lambda item: item.confidence)
    assert least.confidence < most.confidence
    middle = (least.confidence + most.confidence) / 2
    sure = Segmenter(classifier, min_confidence=middle)(drawn[0])
    assert [item.label for item in sure] == [most.label]
    assert [item.label for item in sure.dropped] == [least.label]
    assert sure.confidence == most.confidence
    assert np.array_equal(sure.labelmap() == 1, most.mask)
    assert set(np.unique(sure.classmap())) == {0, whole.number(most) + 1}
    assert [item.label for item in whole.confident(middle)] == [most.label]
    assert whole.confident(0).dropped == ()
    assert whole.confident(least.confidence).dropped == ()  # as sure as that is sure enough
    record = sure.save(tmp_path, "a")
    assert record["dropped"] == [
        {"label": least.label, "score": round(least.score, 6), "confidence": round(least.confidence, 6)}
    ]
    assert [path.stem for path in (tmp_path / "masks/a").iterdir()] == [most.label]
    assert "dropped" not in whole.save(tmp_path, "b")
    none = whole.confident(1)
    assert (len(none), none.state, len(none.dropped)) == (0, "empty", 2)
    assert f"{most.label}: score {most.score:.2f}, confidence {most.confidence:.2f}, left out" in none._repr_html_()


def test_a_least_confidence_needs_confidences(brightness, drawn, unchecked):
    classifier = placed(brightness)
    for least in (-0.1, 1.1, True, "0.5"):
        with pytest.raises(GradcutError, match="min_confidence: expected a confidence from 0 to 1"):
            Segmenter(classifier, min_confidence=least)
    for asked, recipe in ((classifier, "guided"), (brightness, "default")):
        with pytest.raises(GradcutError, match=f"default, best and fast.*; '{recipe}' on brightness gives none$"):
            Segmenter(asked, recipe, min_confidence=0.3)
        result = Segmenter(asked, recipe)(drawn[0])
        with pytest.raises(GradcutError, match=r"least: expected a confidence for every object, '(red|blue)' has none"):
            result.confident(0.3)
    assert "min_confidence" not in Segmenter(classifier).record()
    assert Segmenter(classifier, min_confidence=0.3).record()["min_confidence"] == 0.3

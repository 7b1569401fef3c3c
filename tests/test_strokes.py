"""Strokes are hard: what was painted is inside, or outside, to the pixel, whatever the recipe."""

from __future__ import annotations

import base64
import io
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import placed
from PIL import Image, ImageShow
from torch import nn

from gradcut import RECIPES, Classifier, Detection, GradcutError, Recipe, Seeds, Segmenter, refine
from gradcut.catalogue import OF_WORDS
from gradcut.masks import GraphCut
from gradcut.saliency import CAM
from gradcut.seeds import Percentiles
from gradcut.segmenter import Evidence

DRAWN = Recipe("drawn", "", CAM(), Percentiles(99, 30), GraphCut())


def box(size, top, left, bottom, right):
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def same(a, b):
    return all(np.array_equal(x.mask, y.mask) for x, y in zip(a.objects, b.objects, strict=True))


def test_a_stroke_takes_in_what_looks_alike(brightness, drawn):
    """A second red square that the seeds leave out comes in as a whole with one dab of paint."""
    photograph, truth = drawn
    photograph = photograph.copy()
    second = box((64, 64), 6, 44, 20, 60)
    photograph[second] = (255, 0, 0)
    one = Segmenter(
        brightness, replace(DRAWN, seeds=lambda saliency: Seeds(truth["red"], box((64, 64), 40, 0, 64, 30)))
    )
    result = one(photograph, labels=["red"])
    assert not (result.mask & second).any()
    better = refine(result, foreground=box((64, 64), 10, 50, 12, 52))
    assert np.array_equal(better.mask, truth["red"] | second)
    worse = refine(better, background=box((64, 64), 12, 12, 14, 14))
    assert worse.mask[second].all()
    assert not worse.mask[12:14, 12:14].any()
    assert np.array_equal(result.mask, truth["red"]), "the segmentation that was refined is left as it was"


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in OF_WORDS])
def test_strokes_are_hard_in_every_recipe(embedded, cat, name):
    result = Segmenter(embedded, name)(cat)
    size = cat.shape[:2]
    inside, outside = box(size, 3, 5, 4, 211), box(size, 100, 180, 160, 260)
    refined = refine(result, foreground=inside, background=outside)
    assert refined.mask[inside].all()
    assert not refined.mask[outside].any()
    only_painted = np.array_equal(refined.mask, (result.mask | inside) & ~outside)
    assert only_painted == (name == "expansion"), "a cut follows the strokes; the expansion does not look at seeds"
    assert set(refined.seconds) == set(result.seconds)


def careless(photograph, saliency, seeds):
    """A mask maker that looks at nothing."""
    return np.zeros((len(seeds), *photograph.shape[:2]), dtype=bool)


@given(st.integers(0, 2**32 - 1))
def test_any_strokes_on_any_size(seed):
    """Strokes thinner than a pixel of the map, photographs smaller and larger than it, and all painted over."""
    random = np.random.default_rng(seed)
    height, width = random.integers(2, 40, 2)
    photograph = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
    result = _result(photograph, random.random((2, 9, 7)).astype(np.float32), random.choice([GraphCut(), careless]))
    share = random.choice([0.0, 0.01, 0.5, 1.0], 4)
    a, b, c, d = (random.random((height, width)) < each for each in share)
    foreground, background = {"a": a, "b": b}, {"a": c & ~a, "b": d & ~b}
    refined = refine(result, foreground, background)
    for found in refined.objects:
        assert found.mask[foreground[found.label]].all()
        assert not found.mask[background[found.label]].any()
        assert found.seeds.foreground.any()
        assert found.seeds.background.any()
        assert not (found.seeds.foreground & found.seeds.background).any()
    one, other = refined.objects
    assert not other.mask[a & ~b].any(), "painted as a, so not b"
    assert not one.mask[b & ~a].any()


def _result(photograph, saliency, maker, seeds=None):
    classifier = Classifier(nn.Identity(), ("a", "b"), size=saliency.shape[1:])
    recipe = Recipe("test", "", CAM(), seeds or Percentiles(80, 40), maker)
    found = (Detection("a", (0,), 0.9), Detection("b", (1,), 0.8))[: len(saliency)]
    return Segmenter(classifier, recipe).cut(Evidence(photograph, found, found, saliency, {}))


def test_a_map_that_says_nothing_leaves_it_to_the_strokes():
    photograph = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    result = _result(photograph, np.zeros((1, 9, 7), dtype=np.float32), GraphCut())
    stroke = box((20, 30), 5, 5, 9, 9)
    assert not result.mask.any()
    assert not refine(result, background=stroke).mask.any()
    both = refine(result, foreground=stroke, background=box((20, 30), 0, 20, 20, 30))
    assert both.mask[stroke].all()
    assert not both.mask[:, 20:].any()


def test_two_steps_are_one(brightness, drawn):
    result = Segmenter(brightness, "simonyan")(drawn[0])
    size = drawn[0].shape[:2]
    first, second, third = box(size, 0, 0, 4, 9), box(size, 30, 30, 40, 34), box(size, 2, 2, 6, 6)
    steps = refine(refine(result, {"red": first}), {"blue": second}, {"red": third})
    once = refine(result, {"red": first & ~third, "blue": second}, {"red": third})
    assert same(steps, once)
    assert not same(steps, refine(result, {"blue": second}, {"red": third})), "the first stroke stays in force"
    assert same(refine(steps), steps)


def test_nothing_is_expected_of_a_mask_that_a_person_painted_into(brightness, drawn):
    result = Segmenter(placed(brightness))(drawn[0])
    assert None not in {found.confidence for found in result}
    dab = box((64, 64), 0, 0, 4, 4)
    refined = refine(result, foreground={"red": dab})
    assert refined["red"].confidence is None
    # What is painted red is background of blue, but nobody painted blue.
    assert refined["blue"].confidence is not None
    assert refine(result)["red"].confidence == pytest.approx(result["red"].confidence)


def test_strokes_reach_the_mask_maker_as_seeds():
    seen = []

    def maker(photograph, saliency, seeds):
        seen.append(seeds)
        return careless(photograph, saliency, seeds)

    photograph = np.zeros((20, 30, 3), dtype=np.uint8)
    saliency = np.linspace(0, 1, 150, dtype=np.float32).reshape(1, 10, 15)
    result = _result(photograph, saliency, maker)
    refine(result, foreground=box((20, 30), 3, 4, 4, 5), background=box((20, 30), 18, 20, 20, 30))
    before, after = (seeds[0] for seeds in seen)
    assert before.background[1, 2]
    assert after.foreground[1, 2]
    assert not after.background[1, 2]
    assert after.background[9, 10:].all()
    assert before.foreground[9, 10:].all()


def test_seeds_that_a_stroke_contradicts_are_withdrawn():
    """The region it touches, not the others; and a stroke of another object takes its own pixels only."""
    size = (12, 20)
    left, right, edge = box(size, 2, 2, 6, 6), box(size, 2, 12, 6, 16), box(size, 10, 0, 12, 20)
    saliency = np.ones((2, *size), dtype=np.float32)
    saliency[:, 0, 0] = 0
    rule = lambda saliency: Seeds(left | right, edge)  # noqa: E731
    result = _result(np.zeros((*size, 3), dtype=np.uint8), saliency, careless, rule)
    dab = box(size, 3, 3, 4, 4)
    one, other = refine(result, background={"a": dab}).objects
    assert np.array_equal(one.seeds.foreground, right)
    assert np.array_equal(one.seeds.background, edge | dab)
    assert np.array_equal(other.seeds.foreground, left | right)
    one, other = refine(result, foreground={"a": dab}).objects
    assert np.array_equal(one.seeds.foreground, left | right)
    assert np.array_equal(other.seeds.foreground, (left | right) & ~dab)
    assert np.array_equal(other.seeds.background, edge | dab)
    one, other = refine(result, foreground={"a": box(size, 10, 5, 11, 6)}).objects
    assert not (one.seeds.background & edge).any()
    assert np.array_equal(other.seeds.background, edge)


def test_a_side_that_lost_its_seeds_gets_the_best_that_are_left():
    saliency = np.arange(150, dtype=np.float32).reshape(1, 10, 15)
    result = _result(np.zeros((10, 15, 3), dtype=np.uint8), saliency, GraphCut(), Percentiles(80, 80))
    refined = refine(result, background=box((10, 15), 5, 0, 10, 15)).objects[0]
    assert np.argwhere(refined.seeds.foreground).tolist() == [[4, 14]]
    refined = refine(result, foreground=box((10, 15), 0, 0, 8, 15)).objects[0]
    assert np.argwhere(refined.seeds.background).tolist() == [[8, 0]]


def test_what_cannot_be_painted_is_named(brightness, drawn):
    result = Segmenter(brightness)(drawn[0])
    mask = box((64, 64), 0, 0, 4, 4)
    for arguments, message in (
        ({"foreground": mask}, "foreground: expected a mask for each label painted, since there are 2 objects"),
        ({"background": {"green": mask}}, "background: expected labels among .*, got 'green'"),
        (
            {"foreground": {"red": mask[1:]}},
            r"foreground: expected a boolean mask of \(64, 64\), got bool of \(63, 64\)",
        ),
        ({"foreground": {"red": mask}, "background": {"red": mask}}, "got 16 pixels of 'red' in both"),
    ):
        with pytest.raises(GradcutError, match=message):
            refine(result, **arguments)
    nothing = Segmenter(brightness)(np.zeros((8, 8, 3), dtype=np.uint8))
    assert refine(nothing).objects == ()
    with pytest.raises(GradcutError, match="among none"):
        refine(nothing, foreground={"red": mask[:8, :8]})


# In notebooks and on screens -----------------------------------------------------------------------------------------


def test_notebooks_show_the_picture(brightness, drawn):
    result = Segmenter(brightness)(drawn[0])
    png = np.asarray(Image.open(io.BytesIO(result._repr_png_())))
    assert np.array_equal(png, result.picture())
    text = result._repr_html_()
    assert base64.b64decode(re.search(r"base64,([^\"]+)", text)[1]) == result._repr_png_()
    assert "red: score" in text
    assert "blue: score" in text
    strange = replace(result, objects=(replace(result.objects[0], label="<b>"),))
    assert "&lt;b&gt;" in strange._repr_html_()
    nothing = Segmenter(brightness)(np.zeros((8, 8, 3), dtype=np.uint8))
    assert "Nothing reaches the threshold; the best are" in nothing._repr_html_()
    assert np.array_equal(nothing.picture(), nothing.image)


def test_show(brightness, drawn, monkeypatch):
    result = Segmenter(brightness)(drawn[0])
    shown = []
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setattr(ImageShow, "show", lambda image, title: shown.append(np.asarray(image)) or True)
    result.show()
    assert np.array_equal(shown.pop(), result.picture())
    monkeypatch.setattr(ImageShow, "show", lambda image, title: False)
    with pytest.raises(GradcutError, match="no program that shows pictures"):
        result.show()
    notebook = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=1), display=SimpleNamespace(display=shown.append)
    )
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    result.show()
    assert shown == [result]

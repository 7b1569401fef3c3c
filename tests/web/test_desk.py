"""Going through a finished run in a browser: looking, mending, deciding; and what is kept of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from desks import DRAWN, legend, segmented, segmenter, shown, state, stroke

from gradcut import RECIPES, Recipe, Segmenter, images, load_classifier
from gradcut.errors import RunError
from gradcut.masks import GraphCut
from gradcut.runs import corrections
from gradcut.saliency import CAM
from gradcut.seeds import Percentiles

pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("uvicorn", reason="needs gradcut[web]")
from gradcut.web.desk import segmenter_of


@pytest.mark.parametrize("width", [1280, 390])
def test_accepted_rejected_and_gone_on(desk, run, width):
    page = desk(width=width, height=844)
    order = [line["name"] for line in json.loads(page.evaluate("fetch('/api/run').then(a => a.text())"))["photographs"]]
    assert set(order) == {"a", "b", "c"}
    shown(page, order[0])
    page.keyboard.press("a")
    shown(page, order[1])
    page.click("#reject")
    shown(page, order[2])
    page.keyboard.press("ArrowLeft")
    shown(page, order[1])
    state(page, "rejected")
    assert corrections.states(run) == {order[0]: "accepted", order[1]: "rejected"}
    assert page.locator("#count").inner_text().startswith("2 of 3 decided")
    again = desk(width=width, height=844)
    shown(again, order[2])
    again.select_option("#show", "accepted")
    shown(again, order[0])
    assert again.locator("#strip button").count() == 1


def test_a_class_is_removed_brought_back_and_added(desk, run):
    page = desk()
    page.select_option("#order", "name")
    page.locator("#strip button[title=a]").click()
    shown(page, "a")
    assert sorted(legend(page)) == [["blue", ""], ["red", ""]]
    page.click("[aria-label='Remove blue']")
    page.locator("#legend li.removed").wait_for()
    state(page, "corrected")
    kept = corrections.read(run, "a")
    assert (kept.state, kept.removed, kept.accepted) == ("corrected", ("blue",), ("red",))
    record = json.loads((run / kept.record).read_text())
    assert [item["label"] for item in record["objects"]] == ["red"]
    before = images.read_values(str(run / "masks/a/red.png"))
    assert np.array_equal(images.read_values(str(run / "corrected" / record["objects"][0]["mask"])), before)

    page.click("[aria-label='Bring back blue']")
    state(page, "untouched")
    assert corrections.read(run, "a").state == "untouched"

    page.locator("#strip button[title=c]").click()
    shown(page, "c")
    assert legend(page) == [["red", ""]]
    page.fill("#another", "Blue")
    page.press("#another", "Enter")
    page.locator("#legend .class[data-label=blue]").wait_for()
    state(page, "corrected")
    assert corrections.read(run, "c").added == ("blue",)


def test_all_classes_may_go(desk, run):
    page = desk()
    page.locator("#strip button[title=c]").click()
    shown(page, "c")
    page.keyboard.press("x")
    state(page, "corrected")
    kept = corrections.read(run, "c")
    assert (kept.removed, kept.accepted) == (("red",), ())
    assert json.loads((run / kept.record).read_text())["objects"] == []
    page.keyboard.press("a")
    page.wait_for_selector("#strip button[title=c].accepted")
    assert corrections.read(run, "c").state == "accepted"


def test_strokes_are_cut_kept_and_taken_back(desk, run):
    page = desk()
    page.locator("#strip button[title=a]").click()
    shown(page, "a")
    page.click(".class[data-label=red]")
    page.keyboard.press("o")
    stroke(page, (0.75, 0.1), (0.9, 0.1))
    state(page, "corrected")
    kept = corrections.read(run, "a")
    assert [drawn.kind for drawn in kept.strokes["red"]] == ["foreground"]
    record = json.loads((run / kept.record).read_text())
    mask = images.read_values(
        str(run / "corrected" / next(o["mask"] for o in record["objects"] if o["label"] == "red"))
    )
    assert mask[6, 50:56].all()
    assert not images.read_values(str(run / "masks/a/red.png"))[6, 50:56].any()

    page.keyboard.press("z")
    state(page, "untouched")
    page.keyboard.press("y")
    state(page, "corrected")
    page.keyboard.press("a")
    page.wait_for_selector("#strip button[title=a].accepted")
    assert corrections.read(run, "a").state == "accepted"
    page.locator("#strip button[title=a]").click()
    shown(page, "a")
    assert page.is_enabled("#untouch")
    page.click("#untouch")
    state(page, "untouched")


def test_two_windows_do_not_overwrite_each_other_in_silence(desk, run):
    one, other = desk(), desk()
    for page in (one, other):
        page.locator("#strip button[title=a]").click()
        shown(page, "a")
    one.click("[aria-label='Remove blue']")
    state(one, "corrected")
    other.click("[aria-label='Remove red']")
    other.locator("#error", has_text="another window").wait_for()
    assert corrections.read(run, "a").removed == ("blue",)
    other.locator("#strip button[title=a]").click()
    state(other, "corrected")
    assert ["blue", "removed"] in legend(other)


def test_zoom_and_the_other_side(desk, run):
    page = desk()
    page.locator("#strip button[title=a]").click()
    shown(page, "a")
    page.click(".class[data-label=red]")
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.wheel(0, -600)
    assert page.locator("#strokes").bounding_box()["width"] > 2 * box["width"]
    page.keyboard.press("o")
    page.keyboard.down("Alt")
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.25 * box["height"], steps=2)
    page.mouse.up()
    page.keyboard.up("Alt")
    state(page, "corrected")
    (drawn,) = corrections.read(run, "a").strokes["red"]
    assert drawn.kind == "background"
    # The place under the pointer stays where it is, however near one is.
    assert drawn.points[0] == pytest.approx((16, 16), abs=1.5)
    near = page.locator("#strokes").bounding_box()
    page.keyboard.down(" ")
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"], steps=2)
    page.mouse.up()
    page.keyboard.up(" ")
    moved = page.locator("#strokes").bounding_box()
    assert moved["x"] == pytest.approx(near["x"] - 0.1 * box["width"], abs=3)
    page.keyboard.press("f")
    assert page.locator("#strokes").bounding_box()["width"] == pytest.approx(box["width"], abs=1)
    assert len(corrections.read(run, "a").strokes["red"]) == 1


def test_two_fingers_zoom_and_paint_nothing(desk, run, fingers):
    page = desk(width=390, height=844, has_touch=True)
    page.locator("#strip button[title=a]").click()
    shown(page, "a")
    page.click(".class[data-label=red]")
    page.locator("label[for=foreground]").click()
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    touch = fingers(page, box)
    touch("touchStart", (0.45, 0.5))
    touch("touchStart", (0.45, 0.5), (0.55, 0.5))
    touch("touchMove", (0.3, 0.5), (0.7, 0.5))
    near = page.locator("#strokes").bounding_box()
    touch("touchMove", (0.2, 0.5), (0.6, 0.5))
    touch("touchEnd")
    moved = page.locator("#strokes").bounding_box()
    assert moved["width"] == pytest.approx(near["width"], rel=0.02)
    assert moved["width"] > 2 * box["width"]
    assert moved["x"] == pytest.approx(near["x"] - 0.1 * box["width"], abs=4)
    assert page.is_disabled("#undo")
    assert corrections.states(run) == {}


def test_a_click_chooses_the_class_under_it(desk):
    page = desk()
    page.locator("#strip button[title=a]").click()
    shown(page, "a")
    for x, label in ((18 / 64, "red"), (44 / 64, "blue")):
        stroke(page, (x, x + 2 / 64 if label == "red" else x))
        page.locator(f".class[data-label={label}][aria-pressed=true]").wait_for()


def test_a_run_is_opened_with_what_it_was_made_with(run, monkeypatch):
    monkeypatch.setitem(RECIPES, "drawn", DRAWN)
    monkeypatch.setattr("gradcut.web.desk.load_classifier", lambda name: segmenter().classifier)
    assert segmenter_of(str(run)).record() == segmenter().record()
    other = Recipe("drawn", "other seeds", CAM(), Percentiles(90, 30), GraphCut())
    monkeypatch.setitem(RECIPES, "drawn", other)
    with pytest.raises(RunError, match=r"was made with recipe's seeds .*; its masks cannot be made again"):
        segmenter_of(str(run))


def test_a_run_of_the_embedded_head_is_opened_with_it(tmp_path):
    """Its weights for places are kept in fewer bits, and stay so."""
    made_with = Segmenter("coco80", "fast")
    run = segmented(tmp_path, made_with, {})
    assert segmenter_of(str(run)).record() == made_with.record()
    made_with = Segmenter(load_classifier("coco80").to("cpu", torch.bfloat16), "fast")
    run = segmented(tmp_path / "half", made_with, {})
    assert segmenter_of(str(run)).record() == made_with.record()


def test_serve_refuses_what_a_run_decides_itself(command, run, tmp_path):
    status, _, err = command("serve", run, "-c", "coco80")
    assert (status, err) == (
        2,
        "gradcut: --classifier: a run is gone through with what it was made with; leave it out\n",
    )
    status, _, err = command("serve", tmp_path / "none")
    assert status == 2
    assert err.startswith("gradcut: run: expected a folder of 'gradcut segment'")

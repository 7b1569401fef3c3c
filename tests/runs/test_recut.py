"""What a correction makes of a photograph's masks, and that files and exports have it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from networks import brightness

from gradcut import GradcutError, Recipe, Segmenter, formats
from gradcut.edits import Edit
from gradcut.files import Folder
from gradcut.images import read_values, write_png
from gradcut.masks import GraphCut
from gradcut.painting import Stroke
from gradcut.runs.correct import save_correction
from gradcut.runs.corrections import Correction, classes, read
from gradcut.runs.job import Job, Task
from gradcut.runs.recut import recut
from gradcut.runs.segment import segment_all
from gradcut.saliency import CAM
from gradcut.seeds import Percentiles

DRAWN = Recipe("drawn", "class activation map, percentiles, graph cut", CAM(), Percentiles(95, 30), GraphCut())

DOT = Stroke("foreground", 4, [(52, 10)])  # on the ground, far from both

POLYGON = Stroke("foreground", 1, [(48, 4), (60, 4), (60, 14), (48, 14)], "polygon")


@pytest.fixture(scope="module")
def segment():
    return Segmenter(brightness(), DRAWN)


@pytest.fixture
def base(segment, drawn):
    return segment(drawn[0], ["red", "blue"])


def masks(result):
    return {item.label: item.mask for item in result}


def test_nothing_changed_changes_nothing(base):
    same, idle = recut(base, Correction("a"))
    assert idle == []
    assert masks(same).keys() == {"red", "blue"}
    assert all(np.array_equal(mask, base[label].mask) for label, mask in masks(same).items())
    assert recut(base, Correction("a", removed=["red"]), ["blue"])[0].objects == ()


@pytest.mark.parametrize("strokes", [[DOT], [POLYGON]])
def test_a_class_that_the_classifier_does_not_know_is_what_was_painted_of_it(base, strokes):
    result, _ = recut(base, Correction("a", painted=["tennis racket: old"], strokes={"tennis racket: old": strokes}))
    new = result["tennis racket: old"]
    assert new.mask[10, 52]
    assert (new.score, new.confidence, new.members) == (1.0, None, ())
    assert not (new.mask & (base["red"].mask | base["blue"].mask)).any(), "black is not cut into colours"
    for label in ("red", "blue"):
        assert np.array_equal(result[label].mask, base[label].mask)


def test_the_cut_goes_on_where_the_painted_colours_do(base, drawn):
    truth = drawn[1]["blue"]
    y, x = (float(values.mean()) for values in np.nonzero(truth))
    dot = Stroke("foreground", 3, [(x, y)])
    result, _ = recut(base, Correction("a", painted=["pool"], strokes={"pool": [dot]}))
    assert (result["pool"].mask & truth).sum() > 0.8 * truth.sum()
    assert (result["pool"].mask & ~truth).sum() < 0.3 * truth.sum()


def test_splitting_takes_the_pixels_of_what_was_there_but_not_what_was_painted_of_it(base):
    y, x = (int(values.mean()) for values in np.nonzero(base["red"].mask))
    inside = Stroke("foreground", 2, [(x, y)])
    result, _ = recut(base, Correction("a", painted=["rest"], strokes={"rest": [inside]}))
    assert result["rest"].mask[y, x]
    assert not result["red"].mask[y, x]
    assert not (result["rest"].mask & result["red"].mask).any()
    kept = Stroke("foreground", 2, [(x + 5, y)])
    result, _ = recut(base, Correction("a", painted=["rest"], strokes={"rest": [inside], "red": [kept]}))
    assert result["red"].mask[y, x + 5]
    assert result["rest"].mask[y, x]
    # Of two classes that painted the same, the later has it.
    both = {"red": [inside], "rest": [inside]}
    assert recut(base, Correction("a", painted=["rest"], strokes=both))[0]["rest"].mask[y, x]
    assert recut(base, Correction("a", painted=["rest"], strokes=dict(reversed(both.items()))))[0]["red"].mask[y, x]


def test_what_the_strokes_do_not_touch_stays_with_its_class(base, drawn):
    square = drawn[1]["red"]
    left = square & (np.arange(64) < 18)
    dot = Stroke("foreground", 2, [(23, 20)])
    halved = replace(base, objects=tuple(replace(item, mask=left) for item in base if item.label == "red"))
    result, _ = recut(halved, Correction("a", painted=["rest"], strokes={"rest": [dot]}))
    assert np.array_equal(result["red"].mask, left)
    assert (result["rest"].mask & square & ~left).sum() > 0.8 * (square & ~left).sum()
    touching = Stroke("foreground", 2, [(23, 20), (16, 20)])
    result, _ = recut(halved, Correction("a", painted=["rest"], strokes={"rest": [touching]}))
    assert (result["rest"].mask & left).sum() > 0.8 * left.sum()


def test_erasing_frees_what_was_painted(base):
    stroke = Stroke("foreground", 3, [(52, 10)])
    painted, _ = recut(base, Correction("a", strokes={"red": [stroke]}))
    assert painted["red"].mask[10, 52]
    erased, _ = recut(base, Correction("a", strokes={"red": [stroke, Stroke("erase", 5, [(52, 10)])]}))
    assert np.array_equal(erased["red"].mask, base["red"].mask)


def test_a_box_keeps_a_class_inside(base):
    ys, xs = np.nonzero(base["red"].mask)
    middle = float(xs.mean())
    result, _ = recut(base, Correction("a", strokes={"red": [Stroke("background", 1, [(0, 0), (middle, 63)], "box")]}))
    assert not result["red"].mask[:, int(middle) + 2 :].any()
    assert result["red"].mask[ys[0] : ys[-1], : int(middle) - 2].any()


def test_a_region_is_given_to_a_class_that_is_added_for_it(base):
    y, x = (int(values.mean()) for values in np.nonzero(base["red"].mask))
    give = Edit("give", "red", "truck", (x, y))
    result, idle = recut(base, Correction("a", painted=["truck"], edits=[give]))
    assert idle == []
    assert np.array_equal(result["truck"].mask, base["red"].mask)
    assert [item.label for item in result] == ["blue", "truck"], "nothing is left of red"
    # Also one that the run found elsewhere, and that was removed there.
    result, _ = recut(base, Correction("a", removed=["blue"], painted=["blue"], edits=[replace(give, to="blue")]))
    assert np.array_equal(result["blue"].mask, base["red"].mask)
    assert result["blue"].members == (1,)
    assert result["blue"].confidence is None
    with pytest.raises(GradcutError, match=r"^painted: expected classes that are not there yet, got 'blue'$"):
        recut(base, Correction("a", painted=["blue"]))


def test_an_edit_that_finds_nothing_is_told_of(base):
    asked = [Edit("give", "red", "blue", (52.0, 10.0)), Edit("give", "red", "blue"), Edit("fill", "red")]
    result, idle = recut(base, Correction("a", edits=asked))
    assert idle == [0, 2]
    assert np.array_equal(result["blue"].mask, base.labelmap() > 0)


def test_edits_work_on_what_is_seen_of_masks_that_overlap(base):
    whole = np.ones_like(base["red"].mask)
    base = replace(base, objects=tuple(replace(item, mask=whole) for item in base))
    result, _ = recut(base, Correction("a", edits=[Edit("fill", "blue")]))
    assert np.array_equal(result.labelmap(), base.labelmap())
    assert (result.masks.sum(axis=0) == 1).all()


@pytest.fixture
def run(segment, drawn, tmp_path):
    write_png(tmp_path / "a.png", drawn[0])
    tasks = [Task(str(tmp_path / "a.png"), "a")]
    list(segment_all(Job(segment, Folder(str(tmp_path / "run")), pictures=False), tasks))
    return tmp_path / "run"


NAMES = ["../../truck", "a truck, or two", "Ä" * 200, "CON", "red/blue"]


def saved(run, base, correction):
    return save_correction(run, correction, recut(base, correction)[0])


@pytest.mark.parametrize("name", NAMES)
def test_painted_classes_and_edits_are_saved_and_exported(run, base, tmp_path, name):
    edits = [Edit("give", "red", name, None), Edit("fill", name, after={name: 1})]
    asked = Correction("a", "corrected", painted=[name], strokes={name: [POLYGON]}, edits=edits)
    before = saved(run, base, asked)
    assert before == read(run, "a")
    assert (before.painted, before.edits) == ((name,), tuple(edits))
    assert json.loads((run / "corrections/a.json").read_text())["format"] == 2
    assert json.loads((run / "corrected/classes.json").read_text()) == [name]
    assert classes(run) == ("red", "blue", name)
    record = json.loads((run / before.record).read_text())
    (entry,) = [item for item in record["objects"] if item["label"] == name]
    mask = recut(base, asked)[0][name].mask
    assert mask[10, 52]
    assert np.array_equal(read_values(run / "corrected" / entry["mask"]) > 0, mask)
    assert (run / "corrected" / entry["mask"]).resolve().is_relative_to(run.resolve())
    assert np.array_equal(read_values(run / "corrected" / record["files"]["classmap"]) == 3, mask)
    formats.write(run, tmp_path / "coco", "coco")
    document = json.loads((tmp_path / "coco/instances.json").read_text())
    category = {item["name"]: item["id"] for item in document["categories"]}[name]
    assert sum(item["category_id"] == category for item in document["annotations"]) >= 1


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_takes_a_class_that_the_classifier_does_not_know(run, base, tmp_path, name):
    saved(run, base, Correction("a", "corrected", painted=["my truck"], edits=[Edit("give", "red", "my truck")]))
    formats.write(run, tmp_path / "now", name)
    (photograph,) = formats.run_pile(run).photographs
    assert {item.label: item.index for item in photograph.objects} == {"blue": 1, "my truck": 2}
    assert any(path.is_file() for path in (tmp_path / "now").rglob("*"))


def test_files_from_before_there_were_edits_are_read(run, base):
    saved(run, base, Correction("a", "corrected", strokes={"red": [DOT]}))
    path = run / "corrections/a.json"
    document = json.loads(path.read_text()) | {"format": 1}
    for key in ("painted", "edits"):
        del document[key]
    del document["strokes"]["red"][0]["shape"]
    before = read(run, "a")
    path.write_text(json.dumps(document))
    assert read(run, "a") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"painted": 5}, "cannot be used: painted: expected a list of classes"),
        ({"painted": [""]}, "cannot be used: painted: expected a class's name"),
        ({"painted": ["x"] * 2}, "cannot be used: painted: expected at most 50 classes, each once"),
        ({"painted": ["x"], "added": ["x"]}, "cannot be used: painted: expected at most 50 classes, each once"),
        ({"painted": [str(number) for number in range(51)]}, "cannot be used: painted: expected at most 50 classes"),
        ({"edits": {"kind": "fill"}}, "cannot be used: edits: expected a list of at most 200 edits"),
        ({"edits": [{"kind": "fill"}]}, "cannot be used: edits: expected objects with kind"),
    ],
)
def test_damaged_files_are_a_line(run, base, change, message):
    saved(run, base, Correction("a", "corrected", strokes={"red": [DOT]}))
    path = run / "corrections/a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(GradcutError, match=f"^corrections/a.json in .* {message}") as error:
        read(run, "a")
    assert "\n" not in str(error.value)


def test_what_others_own_stays_marked_where_nobody_painted(base):
    marked = replace(base, objects=tuple(replace(item, borrowed_from="x") for item in base))
    result, _ = recut(marked, Correction("a", strokes={"red": [DOT]}))
    assert (result["red"].borrowed_from, result["blue"].borrowed_from) == (None, "x")

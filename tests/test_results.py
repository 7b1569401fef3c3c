from __future__ import annotations

import json
import unicodedata
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from drawn_runs import OVERLAPPING
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from gradcut import RECIPES, GradcutError, Segmenter, confidence, files, images, pictures, refine, results
from gradcut.files import Folder
from gradcut.names import filenames
from gradcut.runs.run import manifest_line
from gradcut.saliency import CAM


@pytest.fixture
def result(brightness, drawn):
    return Segmenter(brightness)(drawn[0])


def opened(path):
    with Image.open(path) as image:
        return image.mode, np.array(image)


def test_files_agree_with_the_result(tmp_path, result):
    document = results.save(result, tmp_path, "deep/drawn")
    assert document == json.loads((tmp_path / "results/deep/drawn.json").read_text())
    mode, labels = opened(tmp_path / document["files"]["labelmap"])
    assert mode == "P"
    assert np.array_equal(labels, result.labelmap())
    assert len(document["objects"]) == 2
    for found, entry in zip(result.objects, document["objects"], strict=True):
        _, mask = opened(tmp_path / entry["mask"])
        assert np.array_equal(mask == 255, found.mask)
        assert entry["label"] == found.label
        assert entry["area"] == found.mask.sum()
        left, top, width, height = entry["box"]
        inside = np.zeros_like(found.mask)
        inside[top : top + height, left : left + width] = True
        assert not (found.mask & ~inside).any()
        assert found.mask[top : top + height, left].any()
        assert found.mask[top, left : left + width].any()
        assert (labels == entry["labelmap_value"]).sum() > 0
    assert document["recipe"]["sha256"] == result.recipe.fingerprint
    assert document["classifier"]["sha256"] == result.classifier.fingerprint
    assert opened(tmp_path / document["files"]["picture"])[1].ndim == 3


def test_masks_without_overlaps_are_those_of_the_label_map(tmp_path, brightness, drawn):
    whole = Segmenter(brightness, OVERLAPPING)(drawn[0])
    disjoint = Segmenter(brightness, OVERLAPPING, disjoint=True)(drawn[0])
    assert whole.masks.all()
    assert disjoint.masks.sum(axis=0).max() == 1
    assert np.array_equal(disjoint.mask, whole.mask)
    for number, (item, before) in enumerate(zip(disjoint, whole, strict=True), start=1):
        assert np.array_equal(item.mask, whole.labelmap() == number)
        assert 0 < item.area < before.area
        assert (item.label, item.score, item.confidence) == (before.label, before.score, before.confidence)
        assert drawn[1][item.label][item.mask].any()
    for same in ("labelmap", "classmap", "overlay"):
        assert np.array_equal(getattr(disjoint, same)(), getattr(whole, same)()), same
    assert not np.array_equal(disjoint.picture(), whole.picture())
    assert np.array_equal(whole.without_overlaps().masks, disjoint.masks)
    record = disjoint.save(tmp_path, "disjoint", cutouts=True)
    assert record["disjoint"]
    for item, entry in zip(disjoint, record["objects"], strict=True):
        assert np.array_equal(opened(tmp_path / entry["mask"])[1] == 255, item.mask)
        assert np.array_equal(opened(tmp_path / entry["cutout"])[1][..., 3] == 255, item.mask)
        assert (entry["area"], tuple(entry["box"])) == (item.area, images.box_of(item.mask))
    assert "disjoint" not in whole.save(tmp_path, "whole")


def test_masks_without_overlaps_stay_so_when_they_are_corrected(brightness, drawn):
    disjoint = Segmenter(brightness, OVERLAPPING, disjoint=True)(drawn[0])
    first, second = disjoint.objects
    stroke = np.zeros_like(first.mask)
    stroke[np.nonzero(second.mask)[0][0], np.nonzero(second.mask)[1][0]] = True
    refined = refine(disjoint, {first.label: stroke})
    assert refined[first.label].mask[stroke].all()
    assert refined.masks.sum(axis=0).max() == 1


def test_nothing_found_leaves_the_record_alone_and_old_files_go(tmp_path, brightness, drawn, result):
    results.save(result, tmp_path, "drawn")
    empty = Segmenter(brightness)(np.zeros_like(drawn[0]))
    assert empty.objects == ()
    document = results.save(empty, tmp_path, "drawn")
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["results/drawn.json"]
    assert document["objects"] == []
    assert set(document["best_scores"]) == {"red", "blue"}


@given(st.lists(st.text(max_size=12), max_size=6))
def test_file_names_are_safe_and_unique(labels):
    names = filenames(labels)
    assert len({name.casefold() for name in names}) == len(labels)
    for name in names:
        assert name
        assert not set(name) & set('/\\:*?"<>|\0\n')
        assert name not in (".", "..")


def test_plain_labels_keep_their_names():
    assert filenames(["Egyptian cat", "jack-o'-lantern", "traffic light"]) == [
        "Egyptian cat", "jack-o_-lantern", "traffic light",
    ]  # fmt: skip


def test_a_save_never_takes_another_photographs_files_away(tmp_path, brightness, drawn):
    segment = Segmenter(brightness)
    first = segment(drawn[0])
    first.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    other = segment(drawn[0][::-1].copy())
    says = r"name: results/photograph.json in .* is another photograph's; choose another folder, or give a name"
    with pytest.raises(GradcutError, match=says):
        other.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    other.save(tmp_path, "other")
    assert (tmp_path / "results/other.json").is_file()
    segment(drawn[0].copy()).save(tmp_path)  # the same pixels
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(drawn[0]).save(tmp_path / folder / "cat.png")
    segment(tmp_path / "a/cat.png").save(tmp_path / "out")
    segment(tmp_path / "a/cat.png").save(tmp_path / "out")
    with pytest.raises(GradcutError, match=r"name: results/cat.json"):
        segment(tmp_path / "b/cat.png").save(tmp_path / "out")
    (tmp_path / "out/results/cat.json").write_text("{")
    with pytest.raises(GradcutError, match=r"name: results/cat.json"):
        segment(tmp_path / "a/cat.png").save(tmp_path / "out")


def test_what_is_not_written_removes_nothing(tmp_path, brightness, drawn):
    results.save(Segmenter(brightness)(drawn[0]), tmp_path, "drawn")
    before = sorted(tmp_path.rglob("*"))
    scope = {"CAM": CAM}
    exec("step = lambda *arguments: CAM()(*arguments)", scope)
    recipe = replace(RECIPES["fast"], saliency=scope["step"])
    with pytest.raises(GradcutError, match="recipe: the source of"):
        results.save(Segmenter(brightness, recipe)(drawn[0]), tmp_path, "drawn")
    assert sorted(tmp_path.rglob("*")) == before


def test_removing_leaves_other_photographs_alone(tmp_path, result):
    for name in ("a", "a/b", "c"):
        results.save(result, tmp_path, name)
    files.remove_result(Folder(str(tmp_path)), "a")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    written = ("results/{}.json", "labelmaps/{}.png", "pictures/{}.png", "masks/{}/red.png", "masks/{}/blue.png")
    assert left == {path.format(name) for name in ("a/b", "c") for path in written}
    files.remove_result(Folder(str(tmp_path)), "c")
    assert not (tmp_path / "masks/c").exists()
    files.remove_result(Folder(str(tmp_path)), "c")


def test_cut_outs_have_the_mask_for_their_transparency(tmp_path, brightness, drawn):
    result = Segmenter(brightness)(drawn[0])
    assert "cutout" not in result.save(tmp_path / "without")["objects"][0]
    document = result.save(tmp_path / "out", "a/b", cutouts=True)
    assert manifest_line("a/b", document)["objects"] == document["objects"]
    for item, entry in zip(result, document["objects"], strict=True):
        assert entry["cutout"] == f"cutouts/a/b/{item.label}.png"
        mode, pixels = opened(tmp_path / "out" / entry["cutout"])
        assert mode == "RGBA"
        assert np.array_equal(pixels[..., 3], item.mask * np.uint8(255))
        assert np.array_equal(pixels[item.mask][:, :3], drawn[0][item.mask])
        assert not pixels[~item.mask].any()
    result.save(tmp_path / "out", "a/b")
    assert not (tmp_path / "out/cutouts/a/b").exists(), "an earlier result's go"


def test_maps_are_the_saliency(tmp_path, brightness, drawn):
    """16 bits from 0 to the maximum, which the record has, at the size that the classifier was shown."""
    result = Segmenter(brightness)(drawn[0])
    assert "map" not in result.save(tmp_path / "without")["objects"][0]
    document = result.save(tmp_path / "out", "a/b", maps=True)
    for item, entry in zip(result, document["objects"], strict=True):
        assert entry["map"] == f"maps/a/b/{item.label}.png"
        mode, pixels = opened(tmp_path / "out" / entry["map"])
        assert mode.startswith("I")
        assert pixels.shape == item.saliency.shape
        assert pixels.max() == 65535
        assert entry["map_maximum"] == item.saliency.max()
        assert np.abs(pixels / 65535 * entry["map_maximum"] - item.saliency).max() < 1e-5 * item.saliency.max()
    result.save(tmp_path / "out", "a/b")
    assert not (tmp_path / "out/maps/a/b").exists(), "an earlier result's go"


def test_a_result_marks_what_is_unsure(result, monkeypatch):
    rows = []
    monkeypatch.setattr(pictures, "sheet", lambda photograph, labelmap, given, notes: rows.extend(given) or photograph)
    values = (0.29, confidence.UNSURE, None)
    objects = tuple(replace(result.objects[0], confidence=value) for value in values)
    assert [item.unsure for item in objects] == [True, False, False]
    replace(result, objects=objects).picture()
    assert [(row.confidence, row.mark) for row in rows] == list(zip(values, ("unsure", "", ""), strict=True))


def test_an_overlay_hatches_what_is_unsure(result):
    unsure, sure = (replace(item, confidence=c) for item, c in zip(result.objects, (0.1, 0.9), strict=True))
    hatched, plain = (
        replace(result, objects=(unsure, sure)).overlay(),
        pictures.overlay(result.image, result.labelmap()),
    )
    changed = (hatched != plain).any(axis=2)
    assert changed[result.labelmap() == 1].mean() > 0.2
    inside = ndimage.binary_erosion(result.labelmap() == 2, iterations=6)
    assert inside.any()
    assert not changed[inside].any()


def test_the_joint_labelling_is_computed_once(tmp_path, result, monkeypatch):
    joined = []
    overlaps = results.overlaps
    monkeypatch.setattr(overlaps, "joint_labels", lambda *a, real=overlaps.joint_labels: joined.append(a) or real(*a))
    results.save(result, tmp_path, "drawn", classmaps=True, pictures=False)
    assert len(joined) == 1
    assert not result.labelmap().flags.writeable


def test_files_go_to_any_address(tmp_path, result):
    memory = fsspec.filesystem("memory")
    here = result.save(tmp_path, "drawn")
    there = result.save("memory://elsewhere", "drawn")
    assert {**here, "seconds": 0} == {**there, "seconds": 0}
    for path in tmp_path.rglob("*.png"):
        assert memory.cat_file(f"/elsewhere/{path.relative_to(tmp_path).as_posix()}") == path.read_bytes()
    files.remove_result(Folder("memory://elsewhere"), "drawn")
    assert memory.find("/elsewhere") == []


def test_a_result_saves_itself(tmp_path, brightness, drawn):
    Image.fromarray(drawn[0]).save(tmp_path / "shapes.png")
    document = Segmenter(brightness)(tmp_path / "shapes.png").save(tmp_path / "out")
    assert document["photograph"] == str(tmp_path / "shapes.png")
    assert (tmp_path / "out/results/shapes.json").is_file()
    Segmenter(brightness)(drawn[0]).save(tmp_path / "out")
    assert (tmp_path / "out/results/photograph.json").is_file()
    with pytest.raises(GradcutError, match=r"output: .* cannot be written"):
        Segmenter(brightness)(drawn[0]).save(tmp_path / "shapes.png" / "below")


def test_a_blank_object_has_no_mask_file(tmp_path, brightness, drawn):
    segment = Segmenter(brightness)
    (evidence,) = segment.explain([drawn[0]])
    half = segment.cut(replace(evidence, saliency=evidence.saliency * np.array([0, 1], np.float32)[:, None, None]))
    document = results.save(half, tmp_path, "half", classmaps=True, cutouts=True)
    assert document["state"] == "done"
    assert [entry["state"] for entry in document["objects"]] == ["blank", "done"]
    assert document["objects"][0]["mask"] is None
    assert document["objects"][0]["cutout"] is None
    assert document["objects"][0]["box"] is None
    assert "--saliency" in document["advice"]
    assert len(list((tmp_path / "masks/half").iterdir())) == 1
    blank = segment.cut(replace(evidence, saliency=evidence.saliency * 0))
    document = results.save(blank, tmp_path, "blank", classmaps=True)
    assert document["state"] == "blank"
    assert set(document["files"]) == {"picture"}, "a class map would call it background"
    line = manifest_line("blank", document)
    assert line["state"] == "blank"
    assert line["advice"] == document["advice"]
    assert results.record(segment.cut(evidence))["state"] == "done"
    assert "advice" not in results.record(segment.cut(evidence))


def test_labels_that_differ_in_case_are_told_apart(brightness, drawn):
    segment = Segmenter(replace(brightness, labels=("Red", "red")))
    result = segment(drawn[0])
    assert [result[label].members for label in ("Red", "red")] == [(0,), (1,)]


@given(
    st.lists(
        st.sampled_from(["con", "AUX.b", "e\u0301" * 90, "\u00e9" * 90, "...", ". .", " ", "a" * 300, "A" * 300, "/"])
    )
)
def test_file_names_fit_every_file_system(labels):
    made = filenames(labels)
    normal = [unicodedata.normalize("NFC", name).casefold() for name in made]
    assert len(set(normal)) == len(labels)
    for name in made:
        assert len(name.encode()) <= 130
        assert name.strip(" .") == name
        assert name.split(".")[0].casefold() not in ("con", "aux")

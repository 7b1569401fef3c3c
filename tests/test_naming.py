"""Masks without classes get those that the classifier sees in them."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from networks import placed
from PIL import Image
from pycocotools import mask as coder
from pycocotools.coco import COCO

from gradcut import GradcutError, Segmenter
from gradcut.errors import MaskError
from gradcut.formats.proposals import read_proposals
from gradcut.naming import name_masks


def test_a_mask_gets_the_class_inside_it(brightness, drawn):
    photograph, masks = drawn
    nowhere = np.zeros((64, 64), dtype=bool)
    corner = nowhere.copy()
    corner[:6, -6:] = True
    part = masks["red"] & (np.arange(64) < 15)
    named = name_masks(Segmenter(placed(brightness)), photograph, [masks["red"], masks["blue"], part, corner, nowhere])
    assert [found[0].label if found else None for found in named] == ["red", "blue", "red", None, None]
    best = named[0][0]
    assert best.score == pytest.approx(best.probability * best.evidence)
    assert 0 < best.evidence <= 1
    assert all(a.score >= b.score for found in named for a, b in itertools.pairwise(found))
    (only,) = name_masks(Segmenter(placed(brightness)), photograph, [masks["red"]], labels=["blue"])
    assert "red" not in [each.label for each in only]
    assert name_masks(Segmenter(brightness), photograph, []) == []
    with pytest.raises(MaskError, match="expected masks of"):
        name_masks(Segmenter(brightness), photograph, [nowhere[:30]])


@pytest.fixture
def given(drawn, tmp_path):
    """Three photographs in folders, and a writer of two's masks in some layout, which returns what to read."""
    photograph, masks = drawn
    for name in ("a", "c", "deep/b"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph).save(path)
    shapes = {key: coder.encode(np.asfortranarray(mask, dtype=np.uint8)) for key, mask in masks.items()}
    loose = {"size": [64, 64], "counts": []}
    flat, run, last = masks["blue"].ravel(order="F"), 0, False
    for value in flat.tolist():
        if value != last:
            loose["counts"].append(run)
            run, last = 0, value
        run += 1
    loose["counts"].append(run)

    def write(layout):
        folder = tmp_path / "masks"
        for name in ("a", "deep/b"):
            below = folder / name
            below.parent.mkdir(parents=True, exist_ok=True)
            if layout == "NAME.png":
                Image.fromarray((masks["red"] * 4 + masks["blue"] * 9).astype(np.uint8)).save(f"{below}.png")
            elif layout == "NAME/KEY.png":
                below.mkdir()
                for number, mask in enumerate(masks.values()):
                    Image.fromarray(mask).save(below / f"{number}.png")
            elif layout == "NAME.json":
                red = {"size": [64, 64], "counts": shapes["red"]["counts"].decode()}
                content = [{"segmentation": red, "area": 1}, {"segmentation": loose}]
                (below.parent / f"{below.name}.json").write_text(json.dumps(content))
        if layout != "COCO":
            return folder
        listed = [
            {"id": n, "file_name": f"{name}.png", "height": 64, "width": 64} for n, name in enumerate(("a", "deep/b"))
        ]
        square = [[8.0, 10.0, 28.0, 10.0, 28.0, 30.0, 8.0, 30.0]]
        entries = [
            {"id": 2 * n + k, "image_id": n, "segmentation": s} for n in (0, 1) for k, s in enumerate((square, loose))
        ]
        (tmp_path / "coco.json").write_text(json.dumps({"images": listed, "annotations": entries}))
        return tmp_path / "coco.json"

    return write


@pytest.mark.parametrize("layout", ["NAME.png", "NAME/KEY.png", "NAME.json", "COCO"])
def test_layouts(given, drawn, tmp_path, layout):
    every, without = read_proposals(given(layout), tmp_path / "photos")
    assert without == ["c"]
    assert [proposals.name for proposals in every] == ["a", "deep/b"]
    for proposals in every:
        red, blue = proposals.masks().values()
        assert (red & drawn[1]["red"]).sum() / (red | drawn[1]["red"]).sum() > 0.85
        assert np.array_equal(blue, drawn[1]["blue"])


def test_the_command_writes_cocos_annotations(given, drawn, tmp_path, command, monkeypatch, brightness):
    monkeypatch.setattr("gradcut.cli.masks.load", lambda *_: placed(brightness))
    empty = np.zeros((64, 64), dtype=np.uint8)
    empty[:5, -5:] = 1
    given("NAME/KEY.png")
    Image.fromarray(empty).save(tmp_path / "masks/a/9.png")
    target = tmp_path / "out/labelled.json"
    status, out, err = command("label-masks", tmp_path / "masks", tmp_path / "photos", "-o", target)
    assert status == 0
    assert "0 red 0." in out
    assert "9 ?" in out
    assert f"4 masks with a class in {target}, 1 without" in err
    assert f"1 photograph has no mask in {tmp_path / 'masks'}, c for one, and is left out" in err
    coco = COCO(str(target))
    assert {coco.cats[entry["category_id"]]["name"] for entry in coco.anns.values()} == {"red", "blue"}
    for entry in coco.anns.values():
        label = coco.cats[entry["category_id"]]["name"]
        assert np.array_equal(coco.annToMask(entry).astype(bool), drawn[1][label])
        assert entry["ranking"][0]["label"] == label
        assert entry["score"] == entry["ranking"][0]["score"]
    (left,) = json.loads(target.read_text())["unlabelled"]
    assert left["key"] == "9"
    (tmp_path / "photos/a.png").write_text("nothing")
    status, _, err = command("label-masks", tmp_path / "masks", tmp_path / "photos", "-o", target)
    assert (status, "a.png: not an image" in err, "2 masks with a class" in err) == (1, True, True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"annotations": 3}', "expected a list of masks with segmentation"),
        ("a.json", '[{"segmentation": [[1, 2, 3, 4]]}]', "a segmentation: a polygon needs three points"),
        ("a.json", '[{"area": 2}]', "a segmentation: expected polygons or a run-length encoding, got None"),
        ("a.json", "[1]", "a segmentation: expected polygons or a run-length encoding, got 1"),
        ("a.json", '[{"segmentation": {"size": [64, 64], "counts": ""}}]', "its runs do not add up to 4096 pixels"),
        ("a.json", '[{"segmentation": {"size": [64, 64], "counts": [5]}}]', "its runs do not add up to 4096 pixels"),
        ("a.json", '[{"segmentation": {"size": [65, 64], "counts": [4160]}}]', "expected a mask of 64 x 64"),
    ],
)
def test_lists_that_cannot_be_read(given, tmp_path, name, content, message):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / name).write_text(content)
    (proposals,), _ = read_proposals(tmp_path / "masks", tmp_path / "photos")
    with pytest.raises(GradcutError, match=message):
        proposals.masks()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected images and annotations"),
        ('{"images": [{"id": 1, "file_name": "x.png"}], "annotations": [{"image_id": 1}]}', "x is no photograph"),
    ],
)
def test_documents_that_do_not_fit(given, tmp_path, content, message):
    (tmp_path / "coco.json").write_text(content)
    with pytest.raises(GradcutError, match=message):
        read_proposals(tmp_path / "coco.json", tmp_path / "photos")
    with pytest.raises(GradcutError, match="no such file or folder"):
        read_proposals(tmp_path / "nowhere", tmp_path / "photos")


def test_a_document_of_another_size(given, tmp_path):
    document = json.loads(given("COCO").read_text())
    document["images"][0]["height"] = 65
    (tmp_path / "coco.json").write_text(json.dumps(document))
    (proposals, other), _ = read_proposals(tmp_path / "coco.json", tmp_path / "photos")
    with pytest.raises(GradcutError, match="expected masks of the photograph's 64 x 64 pixels, got 64 x 65"):
        proposals.masks()
    assert len(other.masks()) == 2


@pytest.mark.parametrize(
    "command_line",
    [("label-masks", "{masks}", "{gone}", "-o", "x.json"), ("export", "{masks}", "--images", "{gone}", "-f", "coco")],
)
def test_photographs_that_are_not_there(given, tmp_path, command, command_line):
    places = {"masks": given("NAME/KEY.png"), "gone": tmp_path / "gone"}
    status, _, err = command(*(part.format(**places) for part in command_line))
    assert (status, f"photographs: {tmp_path / 'gone'}: no such file or folder" in err) == (2, True)


def test_an_output_that_cannot_be_written_is_said_before_the_work(given, tmp_path, command, monkeypatch):
    monkeypatch.setattr("gradcut.cli.masks.load", lambda *_: pytest.fail("too late"))
    (tmp_path / "file").write_text("x")
    for output in (tmp_path / "file/x.json", "/proc/x.json"):
        status, _, err = command("label-masks", given("NAME.png"), tmp_path / "photos", "-o", output)
        assert (status, err.count("\n"), err.startswith("gradcut: output: ")) == (2, 1, True)

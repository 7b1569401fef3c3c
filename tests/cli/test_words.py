"""Classifiers of words on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worded import written


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    written("clip", folder)
    return folder


@pytest.fixture
def photograph(tmp_path) -> Path:
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((100, 80)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def said(err: str) -> list[str]:
    """The lines of standard error but for what is under way."""
    return [line for line in err.splitlines() if not line.startswith("gradcut: loading")]


def test_labels_are_words_and_asked_for_in_every_photograph(command, clip, photograph, tmp_path):
    asked = ("-c", f"hf/{clip}", "-r", "simonyan", "-o", tmp_path / "out", "--label", "forklift", "--label", "pallet")
    status, out, err = command("segment", photograph, *asked)
    assert status == 0, err
    assert f"{photograph}: forklift 0." in out
    record = json.loads((tmp_path / "out/results/a.json").read_text())
    assert [each["label"] for each in record["objects"]] == ["forklift", "pallet"]
    assert record["classifier"]["words"]["labels"] == ["forklift", "pallet"]
    assert json.loads((tmp_path / "out/run.json").read_text())["classes"] == ["forklift", "pallet"]
    status, out, _ = command("segment", photograph, *asked)
    assert status == 0
    assert "(done before)" in out
    status, _, err = command("segment", photograph, *asked, "--background", "sky")
    assert status == 2
    (line,) = said(err)
    assert line.startswith(f"gradcut: output: {tmp_path}/out was made with ")
    assert "classifier's words's background" in line
    assert line.endswith("; choose another folder or --overwrite")


def test_labels_of_a_file_are_detected_among(command, clip, photograph, tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\nforklift\n")
    asked = ("-c", f"hf/{clip}", "--labels", tmp_path / "labels.txt", "--background", "sea", "--json")
    status, out, err = command("classify", photograph, *asked, "--threshold", "0")
    assert status == 0, err
    scores = {found["label"]: found["score"] for found in json.loads(out)["results"][str(photograph)]}
    assert set(scores) == {"cat", "dog", "forklift"}
    between = str(sum(sorted(scores.values())[:2]) / 2)
    options = ("-r", "simonyan", "-o", tmp_path / "out", "--threshold", between)
    status, out, err = command("segment", photograph, *asked, *options)
    assert status == 0, err
    objects = json.loads(out)["results"][0]["objects"]
    assert {each["label"] for each in objects} <= {label for label in scores if scores[label] > 0.9 * float(between)}
    assert 1 <= len(objects) < 3
    # With both, the file has the classes and --label says which one is asked for.
    status, out, err = command("segment", photograph, *asked, *options, "--overwrite", "--label", "dog")
    assert status == 0, err
    record = json.loads(out)["results"][0]
    assert [each["label"] for each in record["objects"]] == ["dog"]
    assert record["classifier"]["words"]["labels"] == ["cat", "dog", "forklift"]


def test_classify_shows_the_labels_that_are_asked_for(command, clip, photograph):
    asked = ("-c", f"hf/{clip}", "--label", "forklift", "--label", "pallet", "--json")

    def scores(*options):
        status, out, err = command("classify", photograph, *asked, *options)
        assert status == 0, err
        return {found["label"]: found["score"] for found in json.loads(out)["results"][str(photograph)]}

    plain = scores()
    assert set(plain) == {"forklift", "pallet"}
    assert scores("--background", "sea") != plain
    assert scores("--template", "the picture of a {}") != plain
    assert list(scores("--top-k", "1")) == [max(plain, key=plain.get)]
    assert scores("--threshold", "0.9999") == {}


def test_classify_shows_a_class_of_any_classifier(command, photograph):
    status, out, err = command("classify", photograph, "--label", "zebra", "--json")
    assert status == 0, err
    (found,) = json.loads(out)["results"][str(photograph)]
    assert found["label"] == "zebra"
    assert 0 < found["score"] < 0.27
    status, _, err = command("classify", photograph, "--label", "zebrra")
    assert (status, err) == (2, "gradcut: label: coco80 has no label 'zebrra'; did you mean 'zebra'?\n")


@pytest.mark.parametrize("name", ["segment", "classify"])
def test_wrong_words_are_one_line(command, clip, photograph, tmp_path, name):
    (tmp_path / "empty.txt").write_text("\n\n")
    for options, message in (
        ((), f"labels: hf/{clip} takes words for classes and was given none; "),
        (("--label", "cat", "--label", "Cat"), "labels: expected at least one and no label twice, got ['cat']"),
        (("--label", ""), "labels: expected names that are not empty, got ''"),
        (("--labels", tmp_path / "none.txt"), f"--labels: no such file: {tmp_path}/none.txt"),
        (("--labels", tmp_path / "empty.txt"), f"--labels: {tmp_path}/empty.txt: expected a name a line, got none"),
        (("--label", "cat", "--template", "photo"), "templates: expected sentences with {} once in the word's place"),
        (("-c", "coco80", "--labels", "voc"), "labels: coco80 has classes of its own; only a classifier of words"),
        (("-c", "coco80", "--background", "sky"), "background: coco80 has classes of its own"),
        (("-c", f"hf/{tmp_path}/none", "--label", "cat"), f"classifier: hf/{tmp_path}/none: no such folder"),
    ):
        status, out, err = command(name, photograph, "-c", f"hf/{clip}", *options)
        (line,) = said(err)
        assert (status, out) == (2, "")
        assert line.startswith(f"gradcut: {message}")


def test_evaluate_asks_for_the_classes_of_the_dataset(command, clip, tmp_path):
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(2):
        Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"images/{number}.jpg")
        Image.fromarray(np.eye(40, 50, dtype=np.uint8) * (number + 1)).save(tmp_path / f"masks/{number}.png")
    (tmp_path / "classes.txt").write_text("cat\nforklift\n")
    data = ("folder", "--images", tmp_path / "images", "--masks", tmp_path / "masks")
    asked = ("evaluate", *data, "-c", f"hf/{clip}", "-r", "simonyan", "--resamples", "10")
    named = ("--classes", tmp_path / "classes.txt", "-o", tmp_path / "scores.jsonl")
    status, out, err = command(*asked, *named, "--template", "a picture of the {}.", "--json")
    assert status == 0, err
    scored = json.loads(out)
    assert scored["settings"]["source"]["words"] == {
        "templates": ["a picture of the {}."], "labels": ["cat", "forklift"]
    }  # fmt: skip
    assert scored["recipes"]["simonyan"]["class_iou"]["n"] == 2
    status, _, err = command("report", tmp_path / "scores.jsonl", "-o", tmp_path / "report.html", "--resamples", "10")
    assert status == 0, err
    status, _, err = command(*asked)
    assert status == 2
    assert said(err)[-1] == f"gradcut: classifier: hf/{clip} takes words for classes, and this dataset names no classes"
    status, _, err = command("evaluate", *data, "--label", "cat", "-c", "coco80", "--template", "a {}.")
    assert status == 2
    assert said(err)[-1].startswith("gradcut: templates: coco80 has classes of its own; only a classifier of words")

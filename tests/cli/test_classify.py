"""The command line as a person uses it: real photographs, every bad input, exit status and messages."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradcut import Segmenter, catalogue


@pytest.fixture
def gradcut_command(command, monkeypatch, embedded):
    """The command line, with the embedded classifier for every name."""
    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", lambda name="embedded": embedded)
    monkeypatch.setattr(catalogue, "VOCABULARIES", {})
    return command


@pytest.fixture
def cat_file(tmp_path, cat):
    Image.fromarray(cat).save(tmp_path / "cat.jpg", quality=92)
    return tmp_path / "cat.jpg"


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_segment_writes_what_it_says(gradcut_command, cat_file, tmp_path):
    out_folder = tmp_path / "out"
    status, out, err = gradcut_command("segment", cat_file, "-o", out_folder, "--label", "tabby")
    assert status == 0
    assert f"{cat_file}: tabby 0." in out
    assert "1 photograph in" in err
    assert files_below(out_folder) == {
        "labelmaps/cat.png", "classmaps/cat.png", "masks/cat/tabby.png", "pictures/cat.png", "results/cat.json",
        "run.json", "manifest.jsonl",
    }  # fmt: skip
    with Image.open(out_folder / "labelmaps/cat.png") as labels, Image.open(cat_file) as photograph:
        assert labels.size == photograph.size
        assert set(np.unique(np.array(labels))) == {0, 1}


def test_rerun_skips_and_other_settings_are_refused(gradcut_command, cat_file, tmp_path):
    assert gradcut_command("segment", cat_file, "-c", "embedded", "-o", tmp_path / "out")[0] == 0
    before = (tmp_path / "out/results/cat.json").stat().st_mtime_ns
    status, out, _ = gradcut_command("segment", cat_file, "-c", "embedded", "-o", tmp_path / "out")
    assert status == 0
    assert "done before" in out
    assert (tmp_path / "out/results/cat.json").stat().st_mtime_ns == before
    status, _, err = gradcut_command(
        "segment", cat_file, "-c", "embedded", "-o", tmp_path / "out", "--recipe", "simonyan"
    )
    assert status == 2
    made = f"gradcut: output: {tmp_path}/out was made with recipe default, now"
    assert err == f"{made} simonyan; choose another folder or --overwrite\n"
    again = ("segment", cat_file, "-c", "embedded", "-o", tmp_path / "out")
    status, _, err = gradcut_command(*again, "--size", "128")
    assert status == 2
    assert err.startswith(f"gradcut: output: {tmp_path}/out was made with ")
    assert "size" in err
    assert err.endswith("; choose another folder or --overwrite\n")
    assert gradcut_command(*again, "-r", "simonyan", "--overwrite")[0] == 0
    assert json.loads((tmp_path / "out/results/cat.json").read_text())["recipe"]["name"] == "simonyan"


def test_every_option_of_segment_matters(gradcut_command, cat_file, tmp_path):
    def record(*options):
        status, out, _ = gradcut_command("segment", cat_file, "-o", tmp_path / "out", "--overwrite", "--json", *options)
        assert status == 0
        return json.loads(out)["results"][0]

    plain = record()
    assert len(plain["objects"]) == 1
    assert len(record("--top-k", 3)["objects"]) == 3
    assert len(record("--top-k", 3, "--threshold", 0.15)["objects"]) == 1
    assert record("--label", "lynx", "--label", "tabby")["objects"][0]["label"] == "lynx"
    assert record("--size", 224)["classifier"]["size"] == [224, 224]
    assert record("--recipe", "guided")["objects"][0]["area"] != plain["objects"][0]["area"]
    assert record("--device", "cpu")["objects"] == plain["objects"]


def test_nothing_reaches_the_threshold(gradcut_command, cat_file, tmp_path):
    status, out, err = gradcut_command("segment", cat_file, "-o", tmp_path / "out", "--threshold", 0.99)
    assert status == 0
    assert out == ""
    assert "nothing reaches the threshold; the best are Egyptian cat 0." in err
    assert files_below(tmp_path / "out") == {"results/cat.json", "run.json", "manifest.jsonl"}


def test_limit(gradcut_command, tmp_path, cat):
    for name in "abc":
        Image.fromarray(cat[::4, ::4]).save(tmp_path / f"{name}.png")
    _, out, _ = gradcut_command("segment", tmp_path, "-o", tmp_path / "out", "--limit", 2, "--json")
    assert [Path(r["photograph"]).name for r in json.loads(out)["results"]] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "nothing"], "recipe: expected one of default, best, fast, simonyan"),
        (["--label", "egyptian kat"], "has no label 'egyptian kat'; did you mean 'Egyptian cat'?"),
        (["--threshold", "7"], "--threshold: expected at most 1, got 7"),
        (["--top-k", "0"], "--top-k: expected at least 1, got 0"),
        (["--device", "abacus"], "device: expected one of cpu, cuda, mps, xpu; got 'abacus'"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_unusable_arguments_are_one_line_and_status_2(gradcut_command, cat_file, tmp_path, arguments, message):
    status, out, err = gradcut_command("segment", cat_file, "-o", tmp_path / "out", *arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_output_that_cannot_be_written(gradcut_command, cat_file, tmp_path):
    (tmp_path / "file").touch()
    for command in (["segment", cat_file], ["demo"]):
        status, _, err = gradcut_command(*command, "-o", tmp_path / "file" / "out")
        assert status == 2
        assert "cannot be" in err
        assert len(err.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").is_dir(), reason="needs a folder that refuses writing")
def test_output_that_refuses_writing(gradcut_command, cat_file):
    status, _, err = gradcut_command("segment", cat_file, "-o", "/proc/self/out")
    assert status == 2
    assert "cannot be written" in err


def test_bad_photographs_cost_nothing_but_themselves(gradcut_command, tmp_path, cat):
    folder = tmp_path / "photographs"
    folder.mkdir()
    picture = Image.fromarray(cat)
    picture.save(folder / "good.jpg")
    whole = (folder / "good.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("hello")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(cat[..., 0].astype(np.uint16) * 257).save(folder / "sixteen.png")
    picture.convert("RGBA").quantize(16).save(folder / "palette.png", transparency=3)
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.convert("L").save(folder / "grey.png")
    picture.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", picture.size)])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.rotate(90, expand=True).save(folder / "rotated.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    picture.resize((4000, 10)).save(folder / "wide.png")
    picture.resize((10, 4000)).save(folder / "tall.png")
    empty = tmp_path / "nothing here"
    empty.mkdir()

    status, out, err = gradcut_command(
        "segment", folder, tmp_path / "gone.jpg", empty, "-o", tmp_path / "out", "--json"
    )
    assert status == 1
    document = json.loads(out)
    bad = {"truncated.jpg", "empty.jpg", "text.jpg", "gone.jpg", "nothing here"}
    assert len(document["errors"]) == len(bad)
    for name in bad:
        (line,) = [line for line in err.splitlines() if name in line]
        assert line.startswith("gradcut: ")
    good = {path.name for path in folder.iterdir()} - bad
    sizes = {Path(r["photograph"]).name: (r["width"], r["height"]) for r in document["results"]}
    assert set(sizes) == good
    assert sizes["rotated.jpg"] == (cat.shape[1], cat.shape[0])
    assert sizes["dot.png"] == (1, 1)
    for record in document["results"]:
        with Image.open(tmp_path / "out" / record["files"]["labelmap"]) as labels:
            assert labels.size == (record["width"], record["height"])
    by_name = {Path(r["photograph"]).name: r["objects"][0]["label"] for r in document["results"]}
    assert (
        by_name["cmyk.jpg"] == by_name["rgba.png"] == by_name["animated.gif"] == by_name["good.jpg"] == "Egyptian cat"
    )


def test_fifty_megapixels(gradcut_command, tmp_path, cat):
    Image.fromarray(cat).resize((8660, 5774)).save(tmp_path / "large.jpg")
    status, out, _ = gradcut_command("segment", tmp_path / "large.jpg", "-o", tmp_path / "out", "--json")
    assert status == 0
    (record,) = json.loads(out)["results"]
    assert (record["width"], record["height"]) == (8660, 5774)
    assert record["objects"][0]["area"] > 1_000_000


def test_classify(gradcut_command, cat_file):
    status, out, _ = gradcut_command("classify", cat_file, "--top-k", 2)
    assert status == 0
    assert "Egyptian cat" in out
    assert "tiger cat" in out
    status, out, err = gradcut_command("classify", cat_file, cat_file.parent / "gone.jpg", "--json", "--top-k", 1)
    assert status == 1
    assert "gone.jpg: no such file" in err
    document = json.loads(out)
    assert document["results"][str(cat_file)][0]["label"] == "Egyptian cat"
    status, out, _ = gradcut_command("classify", cat_file, "--threshold", 0.99)
    assert "nothing reaches the threshold" in out
    with tarfile.open(cat_file.parent / "a.tar", "w") as archive:
        archive.add(cat_file, "cat.jpg")
    address = f"tar://cat.jpg::{cat_file.parent}/a.tar"
    status, out, _ = gradcut_command("classify", address, "--json", "--top-k", 1)
    assert (status, json.loads(out)["results"][address][0]["label"]) == (0, "Egyptian cat")


def test_odd_files_cost_no_other_photograph_its_result(gradcut_command, cat_file, cat, tmp_path):
    """An EXIF entry that Pillow reads and cannot write, and numbers of an unknown range."""
    text = b"abcdef\0"
    entries = struct.pack("<HHII", 256, 2, len(text), 38) + struct.pack("<HHIHH", 274, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + text
    data = cat_file.read_bytes()
    (tmp_path / "odd.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    Image.fromarray(280 + 20 * (cat[..., 0] / 255).astype(np.float32)).save(tmp_path / "kelvin.tif")
    paths = [tmp_path / "odd.jpg", tmp_path / "kelvin.tif", cat_file]
    status, out, err = gradcut_command("classify", *paths, "--json")
    assert status == 1
    assert set(json.loads(out)["results"]) == {str(tmp_path / "odd.jpg"), str(cat_file)}
    assert err.startswith(f"gradcut: {tmp_path / 'kelvin.tif'}: 32-bit real numbers from 2")
    status, out, err = gradcut_command("classify", *paths, "--range", 280, 300, "--json", "--top-k", 1)
    assert (status, err) == (0, "")
    assert len(json.loads(out)["results"]) == 3
    status, _, err = gradcut_command("segment", *paths[:2], "-o", tmp_path / "out", "--range", 280, 300, "-r", "fast")
    assert status == 0
    record = json.loads((tmp_path / "out/results/odd.json").read_text())
    assert (record["width"], record["height"]) == cat.shape[:2]


def test_recipes(gradcut_command):
    status, out, _ = gradcut_command("recipes", "--json")
    assert status == 0
    assert {"default", "simonyan", "guided", "deconvnet"} <= set(json.loads(out))
    assert "simonyan" in gradcut_command("recipes")[1]


def test_what_a_recipe_is_on_a_classifier(gradcut_command, embedded):
    status, out, _ = gradcut_command("recipes", "fast", "-c", "embedded")
    assert status == 0
    first, *others = out.splitlines()
    assert first == "embedded: the head is linear on the mean of the last map"
    assert any("CAM(of='logit')" in line for line in others)
    assert not any("PlaceProbability" in line for line in others)
    (entry,) = json.loads(gradcut_command("recipes", "fast", "-c", "embedded", "--json")[1]).values()
    assert entry["network"] == "the head is linear on the mean of the last map"
    assert entry["steps"] == repr(Segmenter(embedded, "fast").recipe)


def test_as_a_program(tmp_path):
    """The installed command, in its own process: no traceback, the stated status."""
    command = [Path(sys.executable).with_name("gradcut"), "segment", tmp_path / "gone.jpg", "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"gradcut: {tmp_path / 'gone.jpg'}: no such file"
    assert "Traceback" not in done.stderr

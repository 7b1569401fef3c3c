"""Runs from the command line: where photographs come from, every option, exports, exit status and messages."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from drawn_runs import OVERLAPPING, QUICK, draw
from networks import placed
from PIL import Image

from gradcut import Segmenter, catalogue, overlaps
from gradcut.cli.options import unslashed
from gradcut.pictures import letters
from gradcut.recipes import RECIPES
from gradcut.runs import job as batch
from gradcut.runs.run import read_run


@pytest.fixture
def command(command, monkeypatch, brightness):
    """The command line, with the classifier of the drawings for every name and a recipe of milliseconds."""
    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", lambda name: placed(brightness))
    monkeypatch.setattr(catalogue, "VOCABULARIES", {})
    monkeypatch.setitem(RECIPES, "quick", QUICK)
    monkeypatch.setitem(catalogue.RECIPES, "quick", QUICK.summary)
    return command


HINT = "did you mean 'blue'?"
NONE = "photographs: expected files, folders or patterns, got none. See 'gradcut segment --help'."


def names(folder):
    return [line["name"] for line in read_run(folder)[1]]


def test_photographs_from_folders_patterns_lists_and_standard_input(command, tmp_path):
    draw(tmp_path / "in", 4)
    paths = [str(tmp_path / f"in/{n:03}.png") for n in range(4)]
    (tmp_path / "list.txt").write_text("\n".join(paths[1:3]) + "\n\n")
    for number, (arguments, stdin, expected) in enumerate([
        ([tmp_path / "in"], "", ["000", "001", "002", "003"]),
        ([tmp_path / "in" / "*2.png", paths[0]], "", ["002", "000"]),
        ([tmp_path / "in" / "**" / "003.png"], "", ["003"]),
        (["--list", tmp_path / "list.txt"], "", ["001", "002"]),
        (["-"], f"{paths[3]}\r\n{paths[1]}\n", ["003", "001"]),
        ([f"file://{tmp_path}/in"], "", ["000", "001", "002", "003"]),
    ]):  # fmt: skip
        folder = tmp_path / f"out-{number}"
        status, _, err = command("segment", "-o", folder, "-r", "quick", *arguments, stdin=stdin)
        assert (status, names(folder)) == (0, expected), err
    status, _, err = command("segment", "-o", tmp_path / "out", tmp_path / "*.gif")
    assert status == 1
    assert "no photographs in this pattern" in err
    for arguments in ([], ["-"]):
        status, _, err = command("segment", "-o", tmp_path / "out", *arguments)
        assert (status, err) == (2, f"gradcut: {NONE}\n")
    status, _, err = command("segment", "-o", tmp_path / "out", "--list", tmp_path / "gone.txt")
    assert status == 2
    assert "gone.txt cannot be read" in err


def test_a_folder_with_one_percent_broken_files(command, tmp_path):
    draw(tmp_path / "in", 100)
    (tmp_path / "in/042.png").write_bytes((tmp_path / "in/042.png").read_bytes()[:50])
    status, out, err = command("segment", tmp_path / "in", "-o", tmp_path / "out", "--no-pictures", "-r", "quick")
    assert status == 1
    assert len(out.splitlines()) == 99
    assert next(line for line in err.splitlines() if "042.png" in line).startswith(f"gradcut: {tmp_path}/in/042.png: ")
    assert "99 photographs in" in err
    assert "1 failed" in err
    assert " a second" in err
    assert len(list((tmp_path / "out/results").iterdir())) == 99


def test_a_folder_that_may_not_be_looked_into_costs_itself_only(command, tmp_path, shut):
    draw(tmp_path / "in", 2)
    closed = shut(tmp_path / "in/000")
    status, _, err = command("segment", tmp_path / "in", "-o", tmp_path / "out", "-r", "quick", "--no-pictures")
    assert (status, names(tmp_path / "out")) == (1, ["000", "001", "in/000"])
    assert err.count(f"gradcut: {closed}: cannot be read: ") == 1
    assert "2 photographs in" in err
    assert ", 1 failed" in err


def test_where_nothing_was_done_there_is_no_rate(command, tmp_path):
    draw(tmp_path / "in", 2)
    arguments = ("segment", tmp_path / "in", "-o", tmp_path / "out", "-r", "quick", "--no-pictures")
    assert " a second" in command(*arguments)[2]
    status, _, err = command(*arguments)
    assert (status, " a second" in err) == (0, False), "all were done before"
    (tmp_path / "in/002.png").write_bytes(b"broken")
    status, _, err = command(*arguments)
    assert status == 1
    assert f"gradcut: 2 photographs in {tmp_path}/out, 2 of them done before, 1 failed" in err.splitlines()
    status, _, err = command("segment", tmp_path / "in/002.png", "-o", tmp_path / "none", "-r", "quick")
    assert (status, err.splitlines()[-1]) == (1, f"gradcut: 0 photographs in {tmp_path}/none, 1 failed")


def test_labels_without_a_font_are_told_once(command, tmp_path, monkeypatch, brightness):
    draw(tmp_path / "in", 3)
    seen = placed(replace(brightness, labels=("猫", "blue")))
    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", lambda name: seen)
    monkeypatch.setattr(letters, "_file", lambda _: None)
    status, _, err = command("segment", tmp_path / "in", "-o", tmp_path / "out", "-r", "quick")
    assert status == 0
    (line,) = [line for line in err.splitlines() if "no font" in line]
    assert line.startswith("gradcut: in pictures 猫 is written \\u732b: no font of this machine has the letters; ")
    status, _, err = command("segment", tmp_path / "in", "-o", tmp_path / "bare", "-r", "quick", "--no-pictures")
    assert (status, "no font" in err) == (0, False)


def test_options_reach_the_job(command, tmp_path):
    tasks = draw(tmp_path / "in", 2)

    def settings(*options):
        folder = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert command("segment", tasks[0].photograph, "-o", folder, *options)[0] == 0
        return read_run(folder)[0]["settings"], folder

    plain, folder = settings()
    assert (plain["void"], plain["pictures"], plain["batch"]) == (None, True, 1)
    assert (folder / "pictures/000.png").exists()
    assert settings("--void", "0.2", "0.8")[0]["void"] == [0.2, 0.8]
    without, folder = settings("--no-pictures")
    assert not without["pictures"]
    assert not (folder / "pictures").exists()
    assert not plain["cutouts"]
    assert "maps" not in plain
    with_maps, folder = settings("--maps")
    assert with_maps["maps"]
    assert {path.name for path in folder.glob("maps/000/*")} == {path.name for path in folder.glob("masks/000/*")}
    with_cutouts, folder = settings("--cutouts")
    assert with_cutouts["cutouts"]
    assert {path.name for path in folder.glob("cutouts/000/*")} == {path.name for path in folder.glob("masks/000/*")}
    assert settings("--batch", "3")[0]["batch"] == 3
    _, folder = settings("--format", "coco", "-f", "yolo")
    assert (folder / "exports/coco/instances.json").is_file()
    assert (folder / "exports/yolo/data.yaml").is_file()


def test_objects_that_are_not_sure_enough_are_told_of_and_not_written(command, tmp_path):
    draw(tmp_path / "in", 1)
    photograph, whole = tmp_path / "in/000.png", tmp_path / "whole"
    assert command("segment", photograph, "-o", whole)[0] == 0
    (line,) = read_run(whole)[1]
    least, most = sorted(line["objects"], key=lambda item: item["confidence"])
    middle = str((least["confidence"] + most["confidence"]) / 2)
    status, out, _ = command("segment", photograph, "-o", tmp_path / "sure", "--min-confidence", middle)
    below = f"{least['label']} {least['score']:.2f} (expected IoU {least['confidence']:.2f})"
    assert status == 0
    assert f"1 below --min-confidence: {below}\n" in out
    about, (line,) = read_run(tmp_path / "sure")
    assert about["settings"]["min_confidence"] == float(middle)
    assert [item["label"] for item in line["objects"]] == [most["label"]]
    assert [item["label"] for item in line["dropped"]] == [least["label"]]
    assert [path.stem for path in (tmp_path / "sure/masks/000").iterdir()] == [most["label"]]
    status, out, err = command("segment", photograph, "-o", tmp_path / "none", "--min-confidence", 1)
    assert (status, out) == (0, "")
    assert f"{photograph}: nothing is sure enough; 2 below --min-confidence: " in err
    assert not (tmp_path / "none/masks").exists()
    status, _, err = command("segment", photograph, "-o", whole, "--min-confidence", 0.5)
    assert (status, err.count("\n")) == (2, 1)
    assert "was made with min_confidence none, now 0.5;" in err
    status, _, err = command("segment", photograph, "-o", tmp_path / "none")
    assert (status, err.count("\n")) == (2, 1)
    assert "was made with min_confidence 1.0, now none;" in err
    status, _, err = command("segment", photograph, "-o", tmp_path / "quick", "-r", "quick", "--min-confidence", 0.5)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("gradcut: --min-confidence: only the recipes default, best and fast")


def test_disjoint_masks_of_a_run_and_of_an_export(command, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "quick", OVERLAPPING)
    draw(tmp_path / "in", 1)
    segment = ["segment", tmp_path / "in/000.png", "-r", "quick", "-o"]
    assert command(*segment, tmp_path / "whole")[0] == 0
    assert command(*segment, tmp_path / "disjoint", "--disjoint")[0] == 0
    assert read_run(tmp_path / "disjoint")[0]["settings"]["disjoint"]
    record = json.loads((tmp_path / "disjoint/results/000.json").read_text())
    assert record["disjoint"]
    with Image.open(tmp_path / "disjoint" / record["files"]["labelmap"]) as image:
        labels = np.array(image)
    for item in record["objects"]:
        with Image.open(tmp_path / "disjoint" / item["mask"]) as image:
            assert np.array_equal(np.array(image) == 255, labels == item["labelmap_value"])
    documents = []
    for run, *options in (("whole", "--disjoint"), ("disjoint",), ("whole",)):
        folder = tmp_path / f"coco-{len(documents)}"
        assert command("export", tmp_path / run, "-f", "coco", "-o", folder, *options)[0] == 0
        documents.append((folder / "instances.json").read_text())
    assert documents[0] == documents[1] != documents[2]
    for folder, options, change in (("whole", ["--disjoint"], "none, now true"), ("disjoint", [], "true, now none")):
        status, _, err = command(*segment, tmp_path / folder, *options)
        assert (status, err.count("\n")) == (2, 1)
        assert f"was made with disjoint {change};" in err


def test_classes_with_anothers_pixels_are_told_of(command, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "quick", OVERLAPPING)
    monkeypatch.setattr(overlaps, "SURER", 1.0)
    draw(tmp_path / "in", 1)
    segment = ["segment", tmp_path / "in/000.png", "-r", "quick", "-o"]
    status, out, _ = command(*segment, tmp_path / "out")
    (line,) = read_run(tmp_path / "out")[1]
    (own,), (borrowed,) = line["objects"], line["dropped"]
    words = f"{borrowed['label']} {borrowed['score']:.2f} (most of its pixels are those of {own['label']})"
    assert status == 0
    assert out.startswith(f"{tmp_path}/in/000.png: {own['label']} {own['score']:.2f}; left out: {words}")
    status, out, _ = command(*segment, tmp_path / "asked", "--label", "red", "--label", "blue")
    assert status == 0
    assert words in out
    assert "left out" not in out
    assert words.split(" ", 2)[2] in command("review", tmp_path / "asked")[1]


def test_an_export_is_named_and_says_what_it_holds_beside_what_was_asked(command, tmp_path):
    draw(tmp_path / "in", 3)
    run = ["-o", f"{tmp_path}/out/", "-r", "quick", "-f", "coco"]
    status, out, err = command("segment", tmp_path / "in", *run)
    assert (status, out.splitlines()[-1]) == (0, f"{tmp_path}/out/exports/coco/instances.json")
    assert f"pictures for a person are in {tmp_path}/out/pictures;" in err
    assert "an export holds" not in err
    _, out, err = command("segment", tmp_path / "in/000.png", *run, "-f", "yolo")
    assert [line for line in out.splitlines() if "/exports/" in line] == [
        f"{tmp_path}/out/exports/coco/instances.json", f"{tmp_path}/out/exports/yolo/data.yaml",
    ]  # fmt: skip
    assert f"gradcut: an export holds all 3 photographs of {tmp_path}/out, not only the 1 named now\n" in err
    assert json.loads(command("segment", tmp_path / "in", *run, "--json")[1])["errors"] == []


@pytest.mark.parametrize(
    ("folder", "plain"),
    [("out//", "out"), ("out", "out"), ("/", "/"), ("s3://b/", "s3://b"), ("memory://", "memory://")],
)
def test_slashes_behind_a_folder_are_dropped(folder, plain):
    assert unslashed(folder) == plain


def test_workers_are_threads(command, tmp_path, monkeypatch):
    seen = []
    run = batch.Job.__call__
    monkeypatch.setattr(
        batch.Job, "__call__", lambda job, tasks, workers: seen.append(workers) or run(job, tasks, workers)
    )
    draw(tmp_path / "in", 1)
    assert command("segment", tmp_path / "in", "-o", tmp_path / "out", "--workers", 3)[0] == 0
    assert seen == [3]


def test_the_ray_engine_gets_its_options(command, tmp_path, monkeypatch):
    seen = []

    def engine(address, gpus):
        def call(job, tasks, workers):
            seen.append((address, gpus, workers))
            yield from job(tasks)

        return call

    monkeypatch.setattr("gradcut.runs.cluster.OnRay", engine)
    draw(tmp_path / "in", 1)
    options = ["--engine", "ray", "--address", "ray://head:10001", "--gpus", 0.5, "--workers", 4]
    assert command("segment", tmp_path / "in", "-o", tmp_path / "out", *options)[0] == 0
    assert seen == [("ray://head:10001", 0.5, 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "steam"], "engine: expected one of local, ray; got 'steam'"),
        (["--address", "auto"], "--address, --gpus: they are for --engine ray"),
        (["--void", "0.9", "0.1"], "void: expected two shares"),
        (["--format", "doc"], "format: expected one of coco"),
    ],
)
def test_unusable_options_are_one_line_and_status_2(command, tmp_path, options, message):
    draw(tmp_path / "in", 1)
    status, out, err = command("segment", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert (status, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_stopped_by_a_person(command, tmp_path, monkeypatch):
    draw(tmp_path / "in", 12)

    def cut(self, evidence, real=Segmenter.cut):
        if evidence.source.endswith("006.png"):
            raise KeyboardInterrupt
        return real(self, evidence)

    monkeypatch.setattr(Segmenter, "cut", cut)
    status, _, err = command("segment", tmp_path / "in", "-o", tmp_path / "out", "--workers", 1)
    assert status == 130
    assert "gradcut: stopped; 6 photographs in" in err
    assert "the same command does the rest" in err
    assert names(tmp_path / "out") == [f"{n:03}" for n in range(6)]
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["segment", "demo"])
def test_stopped_before_the_first_photograph(command, tmp_path, monkeypatch, name):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", stop)
    draw(tmp_path / "in", 1)
    arguments = [tmp_path / "in"] if name == "segment" else []
    assert command(name, *arguments, "-o", tmp_path / "out") == (130, "", "gradcut: stopped\n")


def test_export_and_review(command, tmp_path):
    draw(tmp_path / "in", 3)
    Image.new("RGB", (20, 20)).save(tmp_path / "in/dark.png")
    command("segment", tmp_path / "in", "-o", tmp_path / "out")
    status, out, _ = command("export", tmp_path / "out", "-f", "coco", "-o", tmp_path / "coco", "--polygons")
    assert (status, out) == (0, f"{tmp_path}/coco/instances.json\n")
    exact = json.loads((tmp_path / "coco/instances.json").read_text())
    assert isinstance(exact["annotations"][0]["segmentation"], list)
    status, out, _ = command("export", tmp_path / "out", "-f", "yolo", "-f", "cvat")
    assert out.split() == [f"{tmp_path}/out/exports/yolo/data.yaml", f"{tmp_path}/out/exports/cvat/cvat.zip"]
    command("export", tmp_path / "out", "-f", "coco", "-o", tmp_path / "few", "--min-confidence", 1)
    assert json.loads((tmp_path / "few/instances.json").read_text())["annotations"] == []
    assert command("export", tmp_path / "in", "-f", "coco")[0] == 2

    status, out, _ = command("review", tmp_path / "out")
    assert status == 0
    assert "dark.png: nothing found" in out.splitlines()[0]
    assert len(out.splitlines()) == 4
    certainties = [float(line[:4]) for line in out.splitlines()[1:]]
    assert certainties == sorted(certainties), "in the order of what is printed"
    assert all((tmp_path / line.split()[-1]).is_file() for line in out.splitlines()[1:]), "the pictures"
    status, out, err = command("review", tmp_path / "out", "--label", "blue", "--limit", 1)
    assert "blue" in out
    assert "gradcut: 1 of 1 photographs, 0 without an object" in err
    assert command("review", tmp_path / "out", "--label", "BLUE", "--limit", 1)[1] == out
    status, _, err = command("review", f"{tmp_path}/out/", "--label", "bleu")
    assert (status, err) == (2, f"gradcut: label: the run {tmp_path}/out has no label 'bleu'; {HINT}\n")
    ranked = json.loads(command("review", tmp_path / "out", "--json", "--limit", 3)[1])
    assert ranked[0]["name"] == "dark"
    assert ranked[1]["confidence"] <= ranked[2]["confidence"] + np.ptp([o["confidence"] for o in ranked[2]["objects"]])


def deep(folder):
    """The first drawings with 12 bits in 16, in files that do not say so."""
    (folder / "deep").mkdir()
    for task in draw(folder / "drawn", 2):
        with Image.open(task.photograph) as photograph:
            values = np.array(photograph).astype(">u2") * 16
        header = f"P6 {values.shape[1]} {values.shape[0]} 65535\n".encode()
        (folder / f"deep/{task.name}.ppm").write_bytes(header + values.astype(">u2").tobytes())
    return folder / "deep"


def test_a_range_is_chosen_and_kept(command, tmp_path):
    folder = deep(tmp_path)
    Image.new("RGB", (40, 40), "red").save(folder / "plain.png")
    run = ["segment", folder, "-r", "quick", "--label", "red", "--no-pictures", "-o"]
    status, out, err = command(*run, tmp_path / "out")
    assert status == 1
    assert "plain.png: red" in out  # the others' results are not lost
    lines = [line for line in err.splitlines() if ".ppm: " in line]
    assert len(lines) == 2
    assert all("16-bit unsigned numbers from 0 to 4080" in line and "--range LOW HIGH" in line for line in lines)
    status, out, err = command(*run, tmp_path / "chosen", "--range", 0, 4080)
    assert (status, len(out.splitlines())) == (0, 3), err
    assert read_run(tmp_path / "chosen")[0]["settings"]["range"] == [0, 4080]
    status, _, err = command(*run, tmp_path / "chosen", "--range", -20, 4080)
    assert status == 2
    assert "was made with range [0.0, 4080.0], now [-20.0, 4080.0]" in err
    assert command(*run, tmp_path / "wide", "--range", 0, 100_000)[0] == 0
    scores = [next(read_run(tmp_path / name)[1])["objects"][0]["score"] for name in ("chosen", "wide")]
    assert scores[0] != scores[1]
    assert command(*run, tmp_path / "none", "--range", 3, 3)[0] == 2


def test_what_a_folder_held_and_was_not_read_is_said(command, tmp_path):
    draw(tmp_path / "in", 1)
    for name in ("b.jxl", "c.JXL", "notes.txt", ".hidden.jpg"):
        (tmp_path / "in" / name).touch()
    sentence = (
        f"gradcut: 4 files in {tmp_path / 'in'} were left out: 2 .jxl, 1 .txt, 1 hidden; convert .jxl first, "
        "to JPEG for instance"
    )
    for arguments in (["segment", "-o", tmp_path / "out", "-r", "quick"], ["classify"]):
        status, _, err = command(*arguments, tmp_path / "in")
        assert status == 0
        assert err.splitlines().count(sentence) == 1


def test_a_saliency_method_instead_of_the_recipes(command, tmp_path):
    draw(tmp_path / "in", 1)
    arguments = ["segment", tmp_path / "in", "-o", tmp_path / "out", "-r", "quick", "--no-pictures"]
    assert command(*arguments, "--saliency", "gradcam", "--size", 32)[0] == 0
    recipe = read_run(tmp_path / "out")[0]["settings"]["recipe"]
    assert (recipe["name"], recipe["saliency"].split("(")[0]) == ("quick with GradCAM", "GradCAM")
    assert (recipe["size"], recipe["seeds"]) == (32, repr(QUICK.seeds))
    status, _, err = command(*arguments, "--saliency", "GradCamm")
    assert status == 2
    assert "saliency: expected one of" in err
    assert "did you mean 'GradCAM'?" in err


def test_a_blank_saliency_is_said(command, tmp_path, monkeypatch):
    """In the line, the manifest, the sum, the review and the exports; with what else to try."""
    real = Segmenter._explain

    def explain(self, photographs, asked, resized):
        blank = [photograph[0, 0, 1] == 9 for photograph in photographs]
        evidence = real(self, photographs, asked, resized)
        return [replace(e, saliency=e.saliency * (not b)) for e, b in zip(evidence, blank, strict=True)]

    monkeypatch.setattr(Segmenter, "_explain", explain)
    draw(tmp_path / "in", 2)
    with Image.open(tmp_path / "in/000.png") as image:
        pixels = np.array(image)
    pixels[0, 0, 1] = 9
    Image.fromarray(pixels).save(tmp_path / "in/000.png")
    status, out, err = command("segment", tmp_path / "in", "-o", tmp_path / "out")
    assert status == 0
    first = next(line for line in out.splitlines() if "000.png" in line)
    assert first.count("(blank)") == first.count(",") + 1
    assert "(blank)" not in next(line for line in out.splitlines() if "001.png" in line)
    assert "000.png: " in err
    assert "the saliency is blank" in err
    assert "--saliency GuidedBackprop" in err
    assert "1 without a mask, their saliency being blank" in err
    lines = list(read_run(tmp_path / "out")[1])
    assert [line["state"] for line in lines] == ["blank", "done"]
    assert "--saliency" in lines[0]["advice"]
    assert "(blank)" in command("review", tmp_path / "out")[1].splitlines()[0], "the least certain comes first"
    number = len(lines[0]["objects"])
    status, out, err = command("export", tmp_path / "out", "-f", "coco", "-o", tmp_path / "coco")
    assert (status, out) == (0, f"{tmp_path}/coco/instances.json\n")
    assert f"{number} object" in err
    assert "left out" in err
    again = command("segment", tmp_path / "in", "-o", tmp_path / "out")
    assert "(blank)" in again[1]
    assert "done before" in again[1]


def test_without_an_output_a_run_has_a_folder_of_its_own(command, tmp_path, monkeypatch):
    """Named after classifier and recipe, so that the same command finishes it; and the end says what to look at."""
    draw(tmp_path / "in", 2)
    monkeypatch.chdir(tmp_path)
    status, _, err = command("segment", "in", "-r", "quick", "-c", "timm/some_net.a1")
    assert status == 0
    assert names(tmp_path / "runs/timm-some_net.a1-quick") == ["000", "001"]
    said = err.splitlines()[-1]
    assert "pictures for a person are in runs/timm-some_net.a1-quick/pictures" in said
    assert "'gradcut review runs/timm-some_net.a1-quick'" in said
    assert command("review", "runs/timm-some_net.a1-quick")[0] == 0
    for task in (tmp_path / "in").iterdir():
        task.unlink()
    status, out, _ = command("segment", "in/000.png", "in/001.png", "-r", "quick", "-c", "timm/some_net.a1")
    assert (status, out.count("(done before)")) == (0, 2), "what is finished is told of, though its photograph is gone"


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("run.json", '{"settings": {', "/run.json is damaged; expected what 'gradcut segment' writes"),
        ("run.json", '{"settings": 3, "classes": []}', "/run.json is damaged; "),
        ("run.json", '{"settings": {}}', "/run.json is damaged; "),
        ("run.json", "[]", "/run.json is damaged; "),
        ("run.json", None, "expected a folder of 'gradcut segment' with run.json and manifest.jsonl, got "),
        ("manifest.jsonl", None, "expected a folder of 'gradcut segment' with run.json and manifest.jsonl, got "),
        ("manifest.jsonl", "\n", "line 1 of "),
        ("manifest.jsonl", '{"name": "a", "photograph": "a", "state": "found"}\n', "/manifest.jsonl is damaged; the "),
    ],
)
def test_a_damaged_run_is_one_line(command, tmp_path, file, content, says):
    draw(tmp_path / "in", 2)
    run = tmp_path / "out"
    made = ("segment", tmp_path / "in", "-o", run, "-r", "quick", "--no-pictures")
    assert command(*made)[0] == 0
    lines = names(run)
    (run / file).write_text(content) if content is not None else (run / file).unlink()
    for arguments in (
        ("review", run),
        ("export", run, "-f", "coco"),
        *([("serve", run)] if file == "run.json" else []),
    ):
        status, out, err = command(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("gradcut: run: ")
        assert says in err
    if file == "manifest.jsonl":
        assert command(*made)[0] == 0
        assert names(run) == lines, "the records have what it said"


def test_a_torn_last_line_is_no_damage(command, tmp_path):
    draw(tmp_path / "in", 2)
    command("segment", tmp_path / "in", "-o", tmp_path / "out", "-r", "quick", "--no-pictures")
    manifest = tmp_path / "out/manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    assert names(tmp_path / "out") == ["000"]

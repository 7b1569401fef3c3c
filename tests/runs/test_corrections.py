"""Corrections of a finished run: whole or not at all, nobody's lost, and in every export."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_runs import QUICK, contents, draw
from networks import Brightness

from gradcut import Classifier, GradcutError, Segmenter, catalogue, formats, refine, segment_folder
from gradcut.errors import RunError
from gradcut.files import Folder
from gradcut.images import read_values
from gradcut.painting import Stroke, rasterise
from gradcut.recipes import RECIPES
from gradcut.records import versions
from gradcut.runs.correct import remove_all, save_correction
from gradcut.runs.corrections import Correction, classes, corrected_line, read, read_all, standing, states
from gradcut.runs.run import read_run

STROKES = {"red": [Stroke("foreground", 3, [(40, 5), (44, 5)]), Stroke("background", 2.5, [(2, 30)])]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run over seven photographs in ``in``, one of them in a folder that is called as one of a run's."""
    folder = tmp_path_factory.mktemp("finished")
    draw(folder / "in", 6)
    (folder / "in/results").mkdir()
    shutil.copy(folder / "in/000.png", folder / "in/results/001.png")
    model = Brightness().eval()
    classifier = Classifier(
        model, ("red", "blue"), size=64, mean=(0, 0, 0), std=(1, 1, 1), multilabel=True, name="brightness"
    )
    segment = Segmenter(classifier, QUICK)
    segment_folder(segment, folder / "in", folder / "run", void=(0.1, 0.9), pictures=False)
    return folder, segment


@pytest.fixture
def segment(finished):
    return finished[1]


@pytest.fixture
def again(finished, run):
    """What the run was made from and where, and how."""
    return {"photographs": finished[0] / "in", "output": run, "void": (0.1, 0.9), "pictures": False}


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished[0] / "run", tmp_path / "run"))


def painted(segment, run, name, strokes=STROKES):
    """The photograph's result with these strokes, and the classes of the run."""
    (path,) = [line["photograph"] for line in read_run(run)[1] if line["name"] == name]
    result = segment(path)
    for label, drawn in strokes.items():
        inside, outside = rasterise(drawn, result.image.shape[:2])
        result = refine(result, {label: inside}, {label: outside})
    return result


def correct(segment, run, name, strokes=STROKES):
    before = read(run, name)
    return save_correction(
        run, replace(before, state="corrected", strokes=strokes), painted(segment, run, name, strokes)
    )


def originals(run):
    return {
        name: value
        for name, value in contents(run).items()
        if not name.startswith((".corr", "corrected", "corrections"))
    }


def masks(pile):
    return {
        photograph.name: {item.label: item.mask() for item in photograph.objects} for photograph in pile.photographs
    }


def test_a_correction_comes_back_as_it_was_saved_and_the_run_stays_as_it_was(segment, run):
    about = json.loads((run / "run.json").read_text())
    about["settings"]["cutouts"] = True
    (run / "run.json").write_text(json.dumps(about))
    before = originals(run)
    assert read(run, "001") == Correction("001")
    assert states(run) == {}
    result = painted(segment, run, "001")
    asked = Correction("001", "corrected", ["red"], ["blue"], [], STROKES, "program")
    saved = save_correction(run, asked, result)
    assert saved == read(run, "001")
    assert (saved.state, saved.accepted, saved.removed, saved.added) == ("corrected", ("red",), ("blue",), ())
    assert saved.strokes == {
        "red": [Stroke("foreground", 3.0, [(40.0, 5.0), (44.0, 5.0)]), Stroke("background", 2.5, [(2.0, 30.0)])]
    }
    assert (saved.revision, saved.decided_by, saved.versions) == (1, "program", versions())
    assert saved.time.endswith("+00:00")
    document = json.loads((run / "corrections/001.json").read_text())
    assert document["state"] == "corrected"
    record = json.loads((run / saved.record).read_text())
    assert record["photograph"] == saved.photograph == result.source
    files = run / "corrected"
    assert np.array_equal(read_values(files / record["objects"][0]["mask"]) > 0, result.objects[0].mask)
    assert np.array_equal(read_values(files / record["files"]["labelmap"]), result.labelmap())
    assert np.array_equal(read_values(files / record["files"]["classmap"]), result.classmap())
    assert (files / record["objects"][0]["cutout"]).is_file()
    assert originals(run) == before
    assert states(run) == {"001": "corrected"}


def test_names_that_are_those_of_a_runs_folders(segment, run):
    for name in ("results/001", "001"):
        correct(segment, run, name)
        save_correction(run, replace(read(run, name), state="accepted", strokes={}))
    assert states(run) == {"results/001": "accepted", "001": "accepted"}
    assert standing(run)[1] == {}


def test_accepting_keeps_what_the_run_found(segment, run):
    saved = save_correction(run, Correction("000", "accepted"))
    (line,) = [line for line in read_run(run)[1] if line["name"] == "000"]
    now = corrected_line(run, line, saved)
    assert (run / now["files"]["labelmap"]).read_bytes() == (run / line["files"]["labelmap"]).read_bytes()
    assert now["files"]["labelmap"] != line["files"]["labelmap"]
    assert [item["score"] for item in now["objects"]] == [item["score"] for item in line["objects"]]
    assert [(run / item["mask"]).read_bytes() for item in now["objects"]] == [
        (run / item["mask"]).read_bytes() for item in line["objects"]
    ]
    assert (read_values(run / line["files"]["classmap"]) == 255).any()
    assert set(np.unique(read_values(run / now["files"]["classmap"]))) == {0, 1, 2}, "somebody has looked"


def test_two_windows_do_not_overwrite_each_other(segment, run):
    one, other = read(run, "001"), read(run, "001")
    save_correction(run, replace(one, state="rejected"))
    before = contents(run)
    with pytest.raises(
        RunError, match=r"^correction: expected revision 1 of 001, which another window .*, got 0; read"
    ):
        save_correction(run, replace(other, state="corrected"), painted(segment, run, "001"))
    assert contents(run) == before
    undone = save_correction(run, replace(read(run, "001"), state="untouched"))
    assert states(run) == {}
    assert undone.revision == 2, "so that a window that has read the first does not take the next one for it"


def test_of_many_who_save_at_once_one_wins_and_nothing_is_mixed(segment, run):
    result, said = painted(segment, run, "001"), []

    def save(number):
        try:
            save_correction(run, Correction("001", "corrected", added=[str(number)]), result)
            said.append(number)
        except GradcutError:
            said.append(None)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number in said if number is not None]
    assert read(run, "001").added == (str(winner),)
    assert len(said) == 6


def test_files_of_old_revisions_go(segment, run):
    for _ in range(4):
        correct(segment, run, "000")
    assert sorted(path.name for path in (run / "corrected/labelmaps").iterdir()) == ["000.3.png", "000.4.png"]
    assert sorted(path.name for path in (run / "corrected/masks").iterdir()) == ["000.3", "000.4"]


def test_killed_at_any_moment_the_old_or_the_new_one_stands(segment, run, again):
    """A process saves all-red and all-blue by turns until it is killed; what it had saved is said through a pipe."""
    result = painted(segment, run, "000", {})
    everywhere = np.ones(result.image.shape[:2], dtype=bool)
    items = {item.label: replace(item, mask=everywhere) for item in result.objects}
    assert items.keys() == {"red", "blue"}
    seen = Counter()
    for trial in range(20):
        listen, tell = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                while True:
                    before = read(run, "000")
                    label = ("red", "blue")[before.revision % 2]
                    new = replace(before, state="corrected", added=[label])
                    saved = save_correction(run, new, replace(result, objects=(items[label],)))
                    os.write(tell, saved.revision.to_bytes(4, "big"))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(tell)
        confirmed = os.read(listen, 4)  # so that it has begun
        time.sleep(random.Random(trial).uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        while more := os.read(listen, 4):
            confirmed = more
        os.close(listen)
        stands = read(run, "000")
        number = int.from_bytes(confirmed, "big")
        assert stands.revision in (number, number + 1), "what was confirmed is not lost"
        label = ("red", "blue")[(stands.revision - 1) % 2]
        assert stands.added == (label,)
        pile = formats.run_pile(run)
        assert pile.problems == ()
        (photograph,) = [photograph for photograph in pile.photographs if photograph.name == "000"]
        (item,) = photograph.objects
        assert item.label == label
        assert item.mask().all()
        assert (photograph.classmap() == item.index + 1).all()
        seen[label] += 1
    assert len(seen) == 2
    # What the last one has left half written goes with a run that goes on.
    (run / "corrected/masks/.x.png.1-1.part").write_text("half")
    segment_folder(segment, **again)
    assert not list(run.rglob("*.part"))
    assert read(run, "000") == stands


def test_exports_take_corrected_results(segment, run):
    found = masks(formats.run_pile(run))
    result = painted(segment, run, "001")
    correct(segment, run, "001")
    save_correction(run, Correction("002", "accepted"))
    save_correction(run, Correction("003", "rejected"))
    pile = formats.run_pile(run)
    assert pile.states == {"corrected": 1, "accepted": 1, "rejected": 1}
    now = masks(pile)
    assert now.keys() == found.keys() - {"003"}
    assert np.array_equal(now["001"]["red"], result["red"].mask)
    assert not np.array_equal(now["001"]["red"], found["001"]["red"])
    for name in now.keys() - {"001"}:
        assert all(np.array_equal(now[name][label], found[name][label]) for label in found[name])
    before = formats.run_pile(run, uncorrected=True)
    assert masks(before).keys() == found.keys()
    assert np.array_equal(masks(before)["001"]["red"], found["001"]["red"])
    assert before.states == {}
    with pytest.raises(GradcutError, match="uncorrected: it is for a run's folder"):
        formats.write(before, run / "x", "coco", uncorrected=True)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_has_them(segment, run, tmp_path, name):
    """A run with corrections is written as one that had found the same."""
    red = painted(segment, run, "000", {})["red"]
    whole = np.ones(red.mask.shape, dtype=bool)
    item = replace(red, mask=whole, confidence=None)
    save_correction(
        run, Correction("000", "corrected", removed=["blue"]), replace(segment(read_path(run, "000")), objects=(item,))
    )
    save_correction(run, Correction("003", "rejected"))
    formats.write(run, tmp_path / "now", name)
    record = run / "results/000.json"
    document = json.loads((run / read(run, "000").record).read_text())
    files = {kind: f"corrected/{path}" for kind, path in document["files"].items()}
    objects = [entry | {"mask": f"corrected/{entry['mask']}"} for entry in document["objects"]]
    lines = [line for line in read_run(run)[1] if line["name"] != "003"]
    lines = [line | {"files": files, "objects": objects} if line["name"] == "000" else line for line in lines]
    (run / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert record.is_file()
    formats.write(run, tmp_path / "then", name, uncorrected=True)
    ours, theirs = (
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (tmp_path / "now", tmp_path / "then")
    )
    assert ours.keys() == theirs.keys()
    for path, content in ours.items():
        if path.suffix not in (".zip", ".yaml"):
            assert content == theirs[path], path


def read_path(run, name):
    (path,) = [line["photograph"] for line in read_run(run)[1] if line["name"] == name]
    return path


def test_added_classes_have_numbers_of_their_own(segment, run):
    result = painted(segment, run, "000", {})
    red = result["red"]
    for name, label in (("000", "zebra"), ("003", "ape"), ("001", "zebra")):
        photograph = segment(read_path(run, name))
        thing = replace(red, label=label, mask=photograph.objects[0].mask)
        saved = save_correction(
            run, Correction(name, "corrected", added=[label]), replace(photograph, objects=(thing,))
        )
        record = json.loads((run / saved.record).read_text())
        assert record["objects"][0]["index"] == {"zebra": 2, "ape": 3}[label]
        classmap = read_values(run / "corrected" / record["files"]["classmap"])
        assert set(np.unique(classmap)) == {0, record["objects"][0]["index"] + 1}
    assert classes(run) == ("red", "blue", "zebra", "ape")
    pile = formats.run_pile(run)
    assert pile.classes == ("red", "blue", "zebra", "ape")
    by_name = {photograph.name: photograph for photograph in pile.photographs}
    assert [by_name[name].objects[0].index for name in ("000", "003", "001")] == [2, 3, 2]
    assert by_name["003"].classmap().max() == 4
    save_correction(run, replace(read(run, "003"), state="untouched", added=()))
    assert formats.run_pile(run).classes == ("red", "blue", "zebra"), "nothing is called an ape any more"


def test_doubtful_objects_that_somebody_has_decided_on_stay(segment, run):
    (line,) = [line for line in read_run(run)[1] if line["name"] == "001"]
    assert {item["confidence"] for item in line["objects"]} == {None}
    save_correction(run, Correction("001", "accepted"))
    sure = formats.run_pile(run).surer_than(0.5)
    with pytest.raises(GradcutError, match=r"minimum: expected a confidence .* in 000 has none"):
        masks(sure)
    for name in ("000", "002", "003", "004", "005", "results/001"):
        save_correction(run, Correction(name, "accepted"))
    assert masks(formats.run_pile(run).surer_than(0.5)).keys() == masks(formats.run_pile(run)).keys()


def test_a_run_that_goes_on_or_is_done_again(segment, run, again):
    before = masks(formats.run_pile(run))
    saved = correct(segment, run, "001")
    accepted = save_correction(run, Correction("002", "accepted"))
    save_correction(run, replace(read(run, "004"), state="rejected"))
    corrected = masks(formats.run_pile(run))["001"]["red"]
    (run / "results/000.json").unlink()
    assert len(segment_folder(segment, **again)) == 7
    assert (read(run, "001"), read(run, "002")) == (saved, accepted)
    with pytest.raises(RunError, match=r"^output: .*run has corrections of 3 photographs; --corrections keep leaves"):
        segment_folder(segment, **again, overwrite=True)
    assert masks(formats.run_pile(run, uncorrected=True)).keys() == before.keys(), "nothing has been removed"
    for options, message in (
        ({"corrections": "keep"}, "corrections: it is for overwrite"),
        ({"corrections": "burn", "overwrite": True}, "corrections: expected keep, remove or skip, got 'burn'"),
    ):
        with pytest.raises(GradcutError, match=message):
            segment_folder(segment, **again, **options)

    other = Segmenter(replace(segment.classifier, labels=("blue", "green")), QUICK)  # what was red is called blue
    segment_folder(other, **again, overwrite=True, corrections="keep")
    assert states(run) == {"001": "corrected", "002": "accepted", "004": "rejected"}
    pile = formats.run_pile(run)
    assert (pile.problems, pile.classes) == ((), ("blue", "green", "red"))
    by_name = {photograph.name: photograph for photograph in pile.photographs}
    assert np.array_equal(by_name["001"].objects[0].mask(), corrected)
    assert by_name["001"].objects[0].index == 2
    assert np.array_equal(by_name["002"].objects[0].mask(), before["002"]["red"]), "as it was accepted"
    assert "004" not in by_name

    segment_folder(segment, **again, overwrite=True, corrections="remove")
    assert states(run) == {}
    assert not (run / "corrected").exists()
    segment_folder(segment, **again, overwrite=True)


def test_only_what_nobody_has_decided_on_is_done_again(segment, run, again):
    def records():
        return {name: (run / f"results/{name}.json").read_bytes() for name in ("000", "001", "002", "003", "004")}

    correct(segment, run, "001")
    save_correction(run, Correction("002", "accepted"))
    save_correction(run, replace(read(run, "003"), state="rejected"))
    save_correction(run, replace(read(run, "004"), state="rejected"))
    save_correction(run, replace(read(run, "004"), state="untouched"))
    before, corrections = records(), standing(run)
    model = Brightness().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
    other = Segmenter(replace(segment.classifier, model=model), QUICK)
    lines = segment_folder(other, **again, overwrite=True, corrections="skip")
    assert sorted(line["name"] for line in lines) == ["000", "001", "002", "003", "004", "005", "results/001"]
    after = records()
    assert {name for name in before if before[name] == after[name]} == {"001", "002", "003"}
    for name in ("000", "004"):
        assert (
            json.loads(after[name])["classifier"]
            == json.loads((run / "run.json").read_text())["settings"]["classifier"]
        )
    assert standing(run) == corrections
    assert formats.run_pile(run).problems == ()
    assert len(segment_folder(other, **again)) == 7, "it goes on with the new classifier"
    swapped = Segmenter(replace(segment.classifier, labels=("blue", "red")), QUICK)
    with pytest.raises(
        RunError, match=r"^corrections: skip needs the classes that .*, 2 from red to blue, got 2 from blue"
    ):
        segment_folder(swapped, **again, overwrite=True, corrections="skip")
    assert records() == after


@pytest.mark.parametrize("dies", ["manifest.jsonl", "run.json"])
def test_a_run_that_dies_while_it_begins_anew_goes_on(segment, run, again, dies, monkeypatch):
    """Between what it removes and what it writes."""
    correct(segment, run, "001")
    other = Segmenter(replace(segment.classifier, threshold=0.4), QUICK)
    write = Folder.write

    def die(self, name, content):
        if name == dies:
            raise KeyboardInterrupt
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", die)
    with pytest.raises(KeyboardInterrupt):
        segment_folder(other, **again, overwrite=True, corrections="skip")
    monkeypatch.undo()
    record = (run / "results/001.json").read_bytes()
    assert len(segment_folder(other, **again, overwrite=True, corrections="skip")) == 7
    assert (run / "results/001.json").read_bytes() == record
    assert standing(run)[0].keys() == {"001"}


def test_what_cannot_be_saved_is_named_and_leaves_nothing(segment, run, tmp_path):
    result, before = painted(segment, run, "001"), contents(run)
    for asked, given, message in (
        (("002", "corrected"), None, "result: expected the corrected one of 002, got none"),
        (("001", "accepted", (), ["red"]), None, "result: expected the corrected one of 001, got none"),
        (("001", "rejected"), result, "result: expected none of 001, which is rejected, got one"),
        (("002", "corrected"), result, "result: expected 002 with height and width"),
        (("results/001", "corrected"), painted(segment, run, "000", {}), "result: expected that of .*, got that of"),
        (("nobody", "accepted"), None, "name: .* holds no finished photograph 'nobody'"),
        (("001", "rejected", (), (), (), {"red": [Stroke("foreground", np.nan, [(1, 2)])]}), None, "strokes: expected"),
    ):
        with pytest.raises(GradcutError, match=message) as error:
            save_correction(run, Correction(*asked), given)
        assert "\n" not in str(error.value)
    for name in ("../001", "a/../../001", "/etc/passwd", "", ".", "a//b", "a\0b"):
        with pytest.raises(GradcutError, match="name: expected a photograph's name in the run"):
            read(run, name)
    for options, message in (
        ({"state": "gone"}, "state: expected one of untouched, .* got 'gone'"),
        ({"decided_by": "cat"}, "decided_by: expected person or program, got 'cat'"),
        ({"added": "red"}, "added: expected a list of classes, got 'red'"),
    ):
        with pytest.raises(GradcutError, match=message):
            Correction("001", **options)
    with pytest.raises(RunError, match="run: expected a folder of 'gradcut segment'"):
        save_correction(tmp_path, Correction("001", "accepted"))
    with pytest.raises(RunError, match="run: expected a folder on this machine"):
        save_correction("memory://run", Correction("001", "accepted"))
    after = contents(run)
    after.pop(".corrections.lock", None)
    assert after == before


def test_a_photograph_that_is_done_again_is_not_accepted_half(run):
    (run / "masks/000/red.png").unlink()
    with pytest.raises(RunError, match=r"masks/000/red.png of 000 is missing"):
        save_correction(run, Correction("000", "accepted"))
    assert states(run) == {}


@pytest.fixture
def damaged(segment, run):
    """One good correction among bad ones, and what is said of each."""
    for name in ("000", "001", "002", "003", "results/001"):
        correct(segment, run, name)
    outside = run / read(run, "results/001").record
    outside.write_text(outside.read_text().replace('"masks/results/001.1/red.png"', '"../../../red.png"'))
    files = {name: run / f"corrections/{name}.json" for name in ("000", "001", "002")}
    document = json.loads(files["001"].read_text())
    files["000"].write_bytes(files["000"].read_bytes()[:200])
    files["001"].write_text(json.dumps(document | {"format": 3}))
    (run / read(run, "002").record).write_text("[" * 100_000)
    (run / "corrections/absent.json").write_text(json.dumps(document | {
        "name": "absent", "record": "corrected/results/absent.1.json",
    }))  # fmt: skip
    (run / "corrections/004.json").write_text(json.dumps(document))
    (run / "corrections/005.json").write_text(json.dumps(document | {"name": "005", "record": "../../../etc/passwd"}))
    return {
        "000": "corrections/000.json in .* is damaged: ",
        "001": "corrections/001.json in .* cannot be used: expected format 1 or 2, got 3, of another version",
        "002": "corrected/results/002.1.json in .* is missing or damaged: ",
        "results/001": "corrected/results/results/001.1.json in .* or damaged: '../../../red.png' leads out of the run",
        "absent": "corrections/absent.json in .*: the run has no such photograph",
        "004": "corrections/004.json in .* cannot be used: name: expected 004, got '001', another photograph's",
        "005": "corrections/005.json in .* cannot be used: record: expected that of 005.1, got '../../../etc/passwd'",
    }


def test_bad_files_are_a_line_each_and_cost_no_other_photograph(run, damaged, tmp_path):
    good, problems = standing(run)
    assert list(good) == ["003"]
    assert problems.keys() == damaged.keys()
    for name, message in damaged.items():
        assert re.match(message, problems[name])
        assert "\n" not in problems[name]
    for name in ("000", "001", "004", "005"):
        with pytest.raises(GradcutError, match=damaged[name]):
            read(run, name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        formats.write(run, tmp_path / "coco", "coco")
    assert len([warning for warning in said if "left out" in str(warning.message)]) == len(damaged)
    names = [image["file_name"] for image in json.loads((tmp_path / "coco/instances.json").read_text())["images"]]
    assert names == ["003.png"]


def test_a_correction_is_not_laid_over_another_photograph(segment, run):
    correct(segment, run, "001")
    manifest = run / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines = [line | {"photograph": "elsewhere.png"} if line["name"] == "001" else line for line in lines]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert standing(run)[0] == {}
    assert "expected one of elsewhere.png, got that of " in standing(run)[1]["001"]


def test_thousands_of_states_are_quick(run):
    save_correction(run, Correction("001", "rejected", strokes=STROKES))
    document = json.loads((run / "corrections/001.json").read_text())
    for number in range(3000):
        (run / f"corrections/{number:05}.json").write_text(json.dumps(document | {"name": f"{number:05}"}))
    began = time.process_time()
    assert len(states(run)) == 3001
    assert time.process_time() - began < 5  # seconds of the processor; it takes 0.5


def test_states_and_exports_need_no_torch():
    code = "import sys, gradcut.formats, gradcut.runs.corrections; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_on_an_object_store_corrections_are_read(segment, run, again):
    import fsspec

    correct(segment, run, "001")
    save_correction(run, Correction("results/001", "rejected"))
    store = fsspec.filesystem("memory")
    store.put(str(run), "/corrected-run", recursive=True)
    try:
        assert states("memory://corrected-run") == states(run) == {"001": "corrected", "results/001": "rejected"}
        assert standing("memory://corrected-run") == standing(run)
        with pytest.raises(RunError, match="memory://corrected-run has corrections of 2 photographs"):
            segment_folder(segment, again["photographs"], "memory://corrected-run", overwrite=True)
    finally:
        store.rm("/corrected-run", recursive=True)


def test_removing_all(segment, run):
    before = contents(run)
    correct(segment, run, "001")
    remove_all(run)
    after = contents(run)
    after.pop(".corrections.lock")
    assert after == before
    assert read_all(run) == ({}, {})


# The command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(command, monkeypatch, segment):
    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", lambda name: segment.classifier)
    monkeypatch.setattr(catalogue, "VOCABULARIES", {})
    monkeypatch.setitem(RECIPES, "quick", QUICK)
    monkeypatch.setitem(catalogue.RECIPES, "quick", QUICK.summary)
    return command


def test_export_says_what_was_corrected(segment, run, again, command, tmp_path):
    assert "corrected" not in command("export", run, "-f", "coco")[2]
    correct(segment, run, "001")
    save_correction(run, Correction("002", "accepted"))
    save_correction(run, Correction("003", "rejected"))
    said = f"gradcut: of the photographs in {run} 1 corrected, 1 accepted, 1 rejected; rejected ones are left out\n"
    status, _, err = command("export", run, "-f", "coco", "-f", "yolo", "-o", tmp_path / "now")
    assert (status, err) == (0, said)
    assert len(json.loads((tmp_path / "now/coco/instances.json").read_text())["images"]) == 6
    status, _, err = command("export", run, "-f", "coco", "-o", tmp_path / "then", "--uncorrected")
    assert (status, err) == (0, "")
    assert len(json.loads((tmp_path / "then/instances.json").read_text())["images"]) == 7
    arguments = ("segment", again["photographs"], "-o", run, "-r", "quick", "--void", 0.1, 0.9, "--no-pictures")
    status, _, err = command(*arguments, "-f", "coco")
    assert status == 0
    assert said in err


def test_export_names_bad_files(run, damaged, command, tmp_path):
    status, out, err = command("export", run, "-f", "coco", "-o", tmp_path / "coco")
    assert (status, out) == (1, f"{tmp_path}/coco/instances.json\n")
    assert err.count("gradcut: coco: left out: ") == len(damaged)


def test_review_shows_states(segment, run, command):
    out = command("review", run)[1]
    assert "untouched" not in out
    correct(segment, run, "001")
    save_correction(run, Correction("003", "rejected"))
    status, out, _ = command("review", run)
    assert status == 0
    states = {line.split()[2].rsplit("/in/", 1)[1].removesuffix(".png:"): line.split()[1] for line in out.splitlines()}
    assert {state for name, state in states.items() if name not in ("001", "003")} == {"untouched"}
    assert (states["001"], states["003"]) == ("corrected", "rejected")
    lines = json.loads(command("review", run, "--json")[1])
    assert {line["name"]: line["correction"] for line in lines} == states
    left = json.loads(command("review", run, "--json", "--untouched")[1])
    assert {line["name"] for line in left} == states.keys() - {"001", "003"}
    assert "gradcut: 1 of 5 photographs" in command("review", run, "--untouched", "--limit", 1)[2]


def test_review_names_bad_files(run, damaged, command):
    status, out, err = command("review", run)
    assert status == 1
    assert out.count("  damaged  ") == len(damaged) - 1, "all but the one that the run does not hold"
    assert len(err.splitlines()) == len(damaged) + 1


def test_overwriting_asks_first(segment, run, again, command):
    saved = correct(segment, run, "001")
    arguments = ("segment", again["photographs"], "-o", run, "-r", "quick", "--no-pictures")
    status, _, err = command(*arguments, "--overwrite")
    assert status == 2
    assert err.startswith(f"gradcut: output: {run} has corrections of 1 photograph; --corrections keep leaves them")
    assert command(*arguments, "--corrections", "keep")[0] == 2
    assert command(*arguments, "--overwrite", "--corrections", "keep")[0] == 0
    assert read(run, "001") == saved
    assert command(*arguments, "--overwrite", "--corrections", "remove")[0] == 0
    assert read(run, "001") == Correction("001")
    assert command(*arguments, "--overwrite")[0] == 0

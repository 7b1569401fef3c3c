"""Runs over many photographs: what they write, and what survives crashes. Processes are forked from this one, which is
warm, so that one costs milliseconds."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_runs import QUICK, contents, draw
from networks import placed
from PIL import Image

from gradcut import GradcutError, Segmenter, files, images, recipes
from gradcut.files import Folder
from gradcut.runs import job as batch
from gradcut.runs import run as runs
from gradcut.runs.decoder import Decoder
from gradcut.runs.job import Job, Task
from gradcut.runs.run import Run
from gradcut.runs.segment import segment_all
from gradcut.saliency import CAM


@pytest.fixture
def job(brightness, tmp_path) -> Job:
    return Job(Segmenter(brightness, QUICK), Folder(str(tmp_path / "out")), pictures=False)


def run(job, tasks, workers=2, **options):
    return list(segment_all(job, tasks, workers, **options))


def forked(call, *arguments) -> int:
    """Start a call in a forked process that ends with status 0 if it returns, and give its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    faulthandler.disable()  # deaths are meant here
    try:
        call(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# what a run writes ---------------------------------------------------------------------------------------------------


def test_a_run_writes_its_settings_and_a_line_a_photograph(job, tmp_path):
    tasks = draw(tmp_path / "in", 6)
    (tmp_path / "in" / "broken.png").write_text("nothing")
    Image.new("RGB", (20, 20)).save(tmp_path / "in" / "dark.png")
    tasks = [Task(str(path), name) for path, name in files.find([tmp_path / "in"])[0]]
    lines = [line for line, skipped in run(job, tasks) if not skipped]
    assert [line["name"] for line in lines] == [task.name for task in tasks]
    about, written = runs.read_run(tmp_path / "out")
    assert list(written) == lines
    assert about["classes"] == ["red", "blue"]
    assert about["settings"] == json.loads(json.dumps(job.settings))
    assert about["settings"]["recipe"]["sha256"] == job.segmenter.recipe.fingerprint
    assert "torch" in about["versions"]
    by_name = {line["name"]: line for line in lines}
    assert by_name["broken"]["state"] == "failed"
    assert "broken.png: not an image" in by_name["broken"]["error"]
    assert by_name["dark"]["state"] == "empty"
    assert set(by_name["dark"]["best_scores"]) == {"red", "blue"}
    line = by_name["000"]
    assert line["state"] == "done"
    assert [found["label"] for found in line["objects"]] == [
        found.label for found in job.segmenter(tmp_path / "in/000.png").objects
    ]
    assert line["confidence"] is None, "nothing was fitted to this recipe"
    assert {found["confidence"] for found in line["objects"]} == {None}
    assert line["seconds"] > 0
    for path in [*line["files"].values(), *(found["mask"] for found in line["objects"])]:
        assert (tmp_path / "out" / path).stat().st_size > 0
    assert not (tmp_path / "out/.trying").exists()
    assert not list((tmp_path / "out").rglob("*.part"))


def test_class_maps_have_the_same_numbers_in_every_photograph(job, tmp_path):
    tasks = draw(tmp_path / "in", 4)
    run(job, tasks)
    for task in tasks:
        result = job.segmenter(task.photograph)
        with Image.open(tmp_path / f"out/classmaps/{task.name}.png") as image:
            assert image.mode == "P"
            values = np.array(image)
        joint = result.labelmap()
        for number, found in enumerate(result.objects, start=1):
            assert result.number(found) == ("red", "blue").index(found.label)
            assert np.array_equal(values == result.number(found) + 1, joint == number)


@pytest.mark.parametrize("batched", [1, 3])
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_batches_do_not_change_a_byte(brightness, tmp_path, workers, batched):
    tasks = draw(tmp_path / "in", 8)
    segment = Segmenter(brightness)
    plain = {task.name: segment(task.photograph) for task in tasks}
    job = Job(segment, Folder(str(tmp_path / "out")), pictures=False, batch=batched)
    assert len(run(job, tasks, workers)) == 8
    for name, result in plain.items():
        with Image.open(tmp_path / f"out/labelmaps/{name}.png") as image:
            assert np.array_equal(np.array(image), result.labelmap())


def test_every_batch_has_the_same_size(brightness, tmp_path):
    sizes = []

    class Seen(Segmenter):
        def explain(self, photographs, labels=None, resized=None):
            sizes.append(len(photographs))
            return super().explain(photographs, labels, resized)

    tasks = draw(tmp_path / "in", 7)
    assert len(run(Job(Seen(brightness), Folder(str(tmp_path / "out")), batch=4), tasks)) == 7
    assert set(sizes) == {4}


def test_every_setting_changes_the_result(brightness, tmp_path):
    tasks = draw(tmp_path / "in", 1)

    def files(**options):
        segmenter = Segmenter(brightness, options.pop("recipe", "default"))
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        run(Job(segmenter, Folder(str(folder)), **options), tasks)
        return {name: value for name, value in contents(folder).items() if name.endswith(".png")}

    plain = files()
    assert "pictures/000.png" in plain
    assert "pictures/000.png" not in files(pictures=False)
    assert set(files(cutouts=True)) - set(plain) == {
        name.replace("masks/", "cutouts/") for name in plain if "masks/" in name
    }
    assert set(files(maps=True)) - set(plain) == {name.replace("masks/", "maps/") for name in plain if "masks/" in name}
    assert set(files(labels=("blue",))) < set(plain)
    void = files(void=(0.0, 1.0))
    assert void["labelmaps/000.png"] == plain["labelmaps/000.png"]
    assert void["classmaps/000.png"] != plain["classmaps/000.png"]


def test_void_is_where_masks_from_other_seeds_disagree(embedded, cat):
    result = Segmenter(embedded)(cat)
    share = result.support()
    assert share.shape == (1, *cat.shape[:2])
    assert set(np.unique((share * 5).round(4))) <= {0, 1, 2, 3, 4, 5}
    plain, wide, narrow = result.classmap(), result.classmap((0.0, 1.0)), result.classmap((0.3, 0.7))
    assert plain.dtype == np.uint16  # the classifier has 1000 classes
    assert set(np.unique(plain)) == {0, result.objects[0].members[0] + 1}
    assert np.array_equal(wide == 65535, (share[0] > 0) & (share[0] < 1))
    assert 0 < (narrow == 65535).sum() < (wide == 65535).sum()
    assert np.array_equal(narrow[narrow != 65535], plain[narrow != 65535])
    for bad in ((0.5, 0.5), (-0.1, 0.5), (0.2, 1.1)):
        with pytest.raises(GradcutError, match="void: expected two shares"):
            result.classmap(bad)


def test_a_batch_of_nothing_is_refused(job):
    with pytest.raises(GradcutError, match="batch: expected a whole number of at least 1, got 0"):
        Job(job.segmenter, job.folder, batch=0)
    with pytest.raises(GradcutError, match="void: expected two shares"):
        Job(job.segmenter, job.folder, void=(1.0, 0.0))


# a second run --------------------------------------------------------------------------------------------------------


def test_a_rerun_does_nothing_twice_and_tries_failures_again(job, tmp_path):
    tasks = draw(tmp_path / "in", 5)
    good = (tmp_path / "in/003.png").read_bytes()
    (tmp_path / "in/003.png").write_bytes(good[:60])
    first = run(job, tasks)
    assert [line["state"] for line, _ in first] == ["done", "done", "done", "failed", "done"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/results").iterdir()}
    (tmp_path / "in/003.png").write_bytes(good)
    second = run(job, tasks)
    assert sorted(line["name"] for line, skipped in second if skipped) == ["000", "001", "002", "004"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    names = [line["name"] for line in runs.read_run(tmp_path / "out")[1]]
    assert names == [task.name for task in tasks]


def test_more_photographs_join_a_run(job, tmp_path):
    tasks = draw(tmp_path / "in", 4)
    run(job, tasks[2:])
    assert [skipped for _, skipped in run(job, tasks)] == [True, True, False, False]
    assert [line["name"] for line in runs.read_run(tmp_path / "out")[1]] == [task.name for task in tasks]
    run(job, tasks[:1])
    assert {line["name"] for line in runs.read_run(tmp_path / "out")[1]} == {task.name for task in tasks}


def test_other_settings_are_refused_and_both_are_shown(job, brightness, tmp_path):
    tasks = draw(tmp_path / "in", 2)
    run(job, tasks)
    before = contents(tmp_path / "out")
    other = Job(Segmenter(brightness, "simonyan", threshold=0.5), job.folder, pictures=False)
    with pytest.raises(GradcutError) as refused:
        run(other, tasks)
    for part in ("recipe quick, now simonyan", "threshold 0.75, now 0.5", "--overwrite"):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path / "out") == before
    run(other, tasks[:1], overwrite=True)
    assert [line["name"] for line in runs.read_run(tmp_path / "out")[1]] == ["000"]
    assert not list((tmp_path / "out").rglob("001*"))


def test_a_run_of_another_version_of_the_algorithms_is_refused(job, tmp_path, monkeypatch):
    tasks = draw(tmp_path / "in", 2)
    run(job, tasks)
    before = contents(tmp_path / "out")
    monkeypatch.setattr(recipes, "ALGORITHMS", "0.1+other")
    newer = Job(job.segmenter, job.folder, pictures=False)
    says = r"made with recipe's algorithms [\d.]+\+\d+, now 0.1\+other; choose another folder"
    with pytest.raises(GradcutError, match=says):
        run(newer, tasks)
    (tmp_path / "out/run.json").unlink()
    (tmp_path / "out/manifest.jsonl").unlink()
    with pytest.raises(GradcutError, match=f"output: results/000.json in .* was {says}"):
        run(newer, tasks)
    results = {
        name: value for name, value in contents(tmp_path / "out").items() if name.startswith(("results/", "masks/"))
    }
    assert results.items() <= before.items()


def test_unsure_pixels_are_made_in_one_way_in_a_run(job, monkeypatch):
    unsure = replace(job, void=(0.2, 0.8))
    before, plain = unsure.settings, job.settings
    monkeypatch.setattr(batch, "VARIANTS", batch.VARIANTS[:2])
    assert replace(unsure).settings != before
    assert replace(job).settings == plain, "without them nothing depends on it"


def test_names_and_words_and_paths_do_not_stop_a_run(job, brightness, tmp_path):
    tasks = draw(tmp_path / "in", 2)
    run(job, tasks)
    recipe = replace(QUICK, name="renamed", summary="in other words")
    again = Job(Segmenter(replace(brightness, name="moved/elsewhere"), recipe), job.folder, pictures=False)
    assert [skipped for _, skipped in run(again, tasks)] == [True, True]


def test_a_step_that_no_other_process_could_compare_is_refused(job, brightness, tmp_path, drawn):
    scope = {"CAM": CAM}
    exec("step = lambda *arguments: CAM()(*arguments)", scope)
    segment = Segmenter(brightness, replace(QUICK, saliency=scope["step"]))
    with pytest.raises(GradcutError, match=r"recipe: the source of .*<lambda> cannot be read"):
        Job(segment, job.folder)
    assert len(segment(drawn[0])) == 2
    own = Segmenter(brightness, replace(QUICK, saliency=lambda *arguments: CAM()(*arguments)))
    assert len(run(Job(own, job.folder), draw(tmp_path / "in", 1))) == 1


def test_another_photograph_under_the_same_name_is_refused(job, tmp_path):
    run(job, draw(tmp_path / "in", 1))
    (other,) = draw(tmp_path / "elsewhere", 1)
    with pytest.raises(GradcutError, match=r"000 in .* was made from .*in/000.png, not from .*elsewhere"):
        run(job, [other])


def test_two_processes_do_not_share_a_folder(job, tmp_path):
    tasks = draw(tmp_path / "in", 1)
    with Run(job.folder, job.settings), pytest.raises(GradcutError, match="another process is writing"):
        run(job, tasks)
    assert len(run(job, tasks)) == 1


def test_a_torn_line_is_repaired(job, tmp_path):
    tasks = draw(tmp_path / "in", 3)
    run(job, tasks)
    whole = contents(tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-30])
    assert [skipped for _, skipped in run(job, tasks)] == [True, True, False]
    assert contents(tmp_path / "out") == whole


# crashes -------------------------------------------------------------------------------------------------------------


def test_killed_at_twenty_random_moments(job, tmp_path):
    """The folder ends as that of an undisturbed run."""
    tasks = draw(tmp_path / "in", 40)
    undisturbed = Job(job.segmenter, Folder(str(tmp_path / "whole")), pictures=False)
    started = time.perf_counter()
    run(undisturbed, tasks)
    whole = time.perf_counter() - started
    moments = random.Random(1)
    kills = finished = 0
    while kills < 20:
        pid = forked(run, job, tasks)
        time.sleep(moments.uniform(0, whole / 5))
        os.kill(pid, signal.SIGKILL)
        if wait(pid) == 0:  # it was quicker: begin another one
            finished += 1
            assert finished < 200
            for path in (tmp_path / "out").rglob("*.json*"):
                path.unlink()
        else:
            kills += 1
    assert wait(forked(run, job, tasks)) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def _crashing(path, **options):
    """A decoder that dies on one file, as a bug in native code does."""
    if Path(path).name == "004.png":
        os.kill(os.getpid(), signal.SIGSEGV)
    return READ(path, **options)


READ = images.read


def test_a_photograph_that_crashes_the_decoder_is_named_by_the_next_run(job, tmp_path, monkeypatch):
    tasks = draw(tmp_path / "in", 8)
    monkeypatch.setattr(images, "read", _crashing)
    assert wait(forked(run, job, tasks)) == -signal.SIGSEGV
    # The process that decodes suspects apart has the same bug.
    code = (
        "import os, signal, sys\nfor line in sys.stdin:\n"
        "    if line.endswith('004.png\\n'): os.kill(os.getpid(), signal.SIGSEGV)\n    print(flush=True)\n"
    )
    monkeypatch.setattr(Decoder, "_CODE", code)
    assert wait(forked(run, job, tasks)) == 0
    lines = {line["name"]: line for line in runs.read_run(tmp_path / "out")[1]}
    assert len(lines) == 8
    assert [name for name, line in lines.items() if line["state"] != "done"] == ["004"]
    assert "004.png: the decoder crashed (SIGSEGV)" in lines["004"]["error"]
    assert not (tmp_path / "out/.trying").exists()


def test_the_decoder_apart_reads_good_and_bad_files(tmp_path):
    (task,) = draw(tmp_path, 1)
    with Decoder() as decoder:
        assert decoder.crash(task.photograph) is None
        assert decoder.crash(str(tmp_path / "gone.png")) is None
        decoder._process.kill()
        decoder._process.wait()
        assert decoder.crash(task.photograph) == "SIGKILL"
        assert decoder.crash(task.photograph) is None


class Deadly(Segmenter):
    """Dies at one photograph after it was read, as when memory runs out."""

    def cut(self, evidence):
        if evidence.source.endswith("005.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().cut(evidence)


def test_a_photograph_that_kills_the_process_is_given_up_after_two_tries_alone(brightness, tmp_path):
    tasks = draw(tmp_path / "in", 8)
    job = Job(Deadly(brightness, QUICK), Folder(str(tmp_path / "out")), pictures=False)
    assert [wait(forked(run, job, tasks)) for _ in range(4)] == [-9, -9, -9, 0]
    lines = {line["name"]: line for line in runs.read_run(tmp_path / "out")[1]}
    assert [name for name, line in lines.items() if line["state"] != "done"] == ["005"]
    assert "died 2 times at this photograph alone" in lines["005"]["error"]
    assert list(lines) == [task.name for task in tasks]


class Hungry(Segmenter):
    def cut(self, evidence):
        if evidence.source.endswith("001.png"):
            raise MemoryError
        if evidence.source.endswith("002.png"):
            raise ZeroDivisionError("of a step")
        return super().cut(evidence)

    def explain(self, photographs, labels=None, resized=None):
        if any(photograph.shape[0] == 43 for photograph in photographs):
            raise RuntimeError("of a model\nwith more lines")
        return super().explain(photographs, labels, resized)


def test_one_photographs_error_costs_no_other(brightness, tmp_path):
    tasks = draw(tmp_path / "in", 6)
    job = Job(Hungry(brightness), Folder(str(tmp_path / "out")), batch=2)
    errors = {line["name"]: line.get("error") for line, _ in run(job, tasks)}
    assert {name for name, error in errors.items() if error is None} == {"000", "004", "005"}
    assert errors["001"].endswith("001.png: not enough memory")
    assert errors["002"].endswith("002.png: ZeroDivisionError: of a step")
    assert errors["003"].endswith("003.png: RuntimeError: of a model")


class Small(torch.nn.Module):
    """A model whose memory holds so many photographs at once; it counts those that it is shown."""

    def __init__(self, model: torch.nn.Module, holds: int, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.model, self.holds, self.error, self.seen = model, holds, error, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        if len(x) > self.holds:
            raise self.error()
        return self.model(x)


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        lambda: RuntimeError("MPS backend out of memory (MPS allocated: 6.64 GB)"),
        lambda: RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        lambda: MemoryError("Unable to allocate 3 GiB"),
    ],
)
def test_a_batch_that_memory_does_not_hold_is_halved_once_for_all(brightness, tmp_path, error, monkeypatch):
    monkeypatch.setattr("gc.collect", lambda: 0)  # half a second among all that tests have imported
    tasks = draw(tmp_path / "in", 11)
    plain = {task.name: Segmenter(brightness, QUICK)(task.photograph) for task in tasks}
    model = Small(brightness.model, 3, error)
    segment = Segmenter(replace(brightness, model=model), QUICK)
    lines = [line for line, _ in run(Job(segment, Folder(str(tmp_path / "out")), batch=8), tasks, 1)]
    assert [line["state"] for line in lines] == ["done"] * 11
    # The first pass that memory holds is compared with the bare model, which is a pass more.
    assert model.seen == [8, 4, 2, *[2] * 4, 2, 1]
    for name, result in plain.items():
        with Image.open(tmp_path / f"out/labelmaps/{name}.png") as image:
            assert np.array_equal(np.array(image), result.labelmap())


def test_a_photograph_that_memory_does_not_hold_alone_is_named(brightness, tmp_path):
    tasks = draw(tmp_path / "in", 5)

    class Large(Segmenter):
        def explain(self, photographs, labels=None, resized=None):
            if any(photograph.shape[0] == 43 for photograph in photographs):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().explain(photographs, labels, resized)

    lines = {
        line["name"]: line
        for line, _ in run(Job(Large(brightness, QUICK), Folder(str(tmp_path / "out")), batch=4), tasks)
    }
    assert {name for name, line in lines.items() if line["state"] != "done"} == {"003"}
    assert lines["003"]["error"] == f"{tasks[3].photograph}: not enough memory"


def test_a_step_that_fails_while_results_are_made_costs_its_photograph_alone(brightness, tmp_path):
    """It is no folder that cannot be written."""

    def maker(photograph, saliency, seeds, calls=[]):  # noqa: B006
        calls.append(photograph.shape[0])
        masks = QUICK.masks(photograph, saliency, seeds)
        return masks[:, 1:] if photograph.shape[0] == 43 and calls.count(43) > 1 else masks

    tasks = draw(tmp_path / "in", 5)
    job = Job(Segmenter(brightness, replace(QUICK, masks=maker)), Folder(str(tmp_path / "out")), void=(0.0, 1.0))
    lines = {line["name"]: line for line, _ in run(job, tasks)}
    assert {name for name, line in lines.items() if line["state"] != "done"} == {"003"}
    assert "003.png: masks: expected <function" in lines["003"]["error"]


def _with_little_disk(job, tasks, limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        run(job, tasks)
    except GradcutError as error:
        os._exit(3 if "cannot be written: File too large" in str(error) else 4)


@pytest.mark.parametrize("limit", [100, 1300, 4000])
def test_writes_that_the_system_refuses_lose_nothing(job, tmp_path, limit):
    """A limit on the size of files stands for a full disk: the system refuses writes, some of them half way."""
    tasks = draw(tmp_path / "in", 12)
    assert wait(forked(_with_little_disk, job, tasks, limit)) == 3
    assert not list((tmp_path / "out").rglob("*.part"))
    run(job, tasks)
    undisturbed = Job(job.segmenter, Folder(str(tmp_path / "whole")), pictures=False)
    run(undisturbed, tasks)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_stopping_keeps_what_is_done(job, tmp_path):
    tasks = draw(tmp_path / "in", 30)
    lines = segment_all(job, tasks, 2)
    for _ in range(4):
        next(lines)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        lines.throw(KeyboardInterrupt)
    assert threading.active_count() < before
    kept = [line["name"] for line in runs.read_run(tmp_path / "out")[1]]
    assert kept == [task.name for task in tasks[: len(kept)]]
    assert len(kept) >= 3
    again = run(job, tasks)
    assert sum(skipped for _, skipped in again) == len(kept)
    assert len(again) == 30


# elsewhere -----------------------------------------------------------------------------------------------------------


def test_a_remote_folder_holds_the_same_files(job, tmp_path):
    import fsspec

    tasks = draw(tmp_path / "in", 5)
    (tmp_path / "in/002.png").write_bytes(b"")
    run(job, tasks)
    memory = fsspec.filesystem("memory")
    for path in (tmp_path / "in").iterdir():
        memory.pipe_file(f"/pile/{path.name}", path.read_bytes())
    found, _ = files.find(["memory://pile"])
    remote = [Task(str(path), name) for path, name in found]
    assert [task.name for task in remote] == [task.name for task in tasks]
    there = Job(job.segmenter, Folder("memory://results/run"), pictures=False)
    half = segment_all(there, remote, 1)
    for _ in range(3):
        next(half)
    half.close()
    assert sum(skipped for _, skipped in run(there, remote)) == 2  # the failed one is tried again
    memory.get("/results/run", str(tmp_path / "copy"), recursive=True)
    ours, theirs = contents(tmp_path / "out"), contents(tmp_path / "copy")
    for written in (ours, theirs):
        for lines in (value for name, value in written.items() if name.endswith((".json", ".jsonl"))):
            for line in lines:
                line["photograph"] = str(line.get("photograph", "")).rsplit("/", 1)[-1]
                line["error"] = line.get("error", "").rsplit("/", 1)[-1]
    assert ours == theirs
    with pytest.raises(GradcutError, match=r"made with pictures false, now true"):
        run(Job(job.segmenter, there.folder), remote)
    with pytest.raises(GradcutError, match="cannot be opened"):
        files.find(["nowhere://pile"])


@pytest.mark.parametrize(("recipe", "measure"), [("fast", "confidence"), (QUICK, "score")])
def test_review_ranks_the_least_certain_first(brightness, tmp_path, recipe, measure):
    """By confidence, and by score where a recipe has none."""
    tasks = draw(tmp_path / "in", 6)
    Image.new("RGB", (20, 20)).save(tmp_path / "in/dark.png")
    job = Job(Segmenter(placed(brightness), recipe), Folder(str(tmp_path / "out")), pictures=False)
    run(job, [*tasks, Task(str(tmp_path / "in/dark.png"), "dark")])
    ranked = runs.review(tmp_path / "out")
    assert ranked[0]["name"] == "dark"
    least = [min(found[measure] for found in line["objects"]) for line in ranked[1:]]
    assert least == sorted(least)
    assert len(set(least)) > 1
    for line in ranked[1:]:
        confidences = [found["confidence"] for found in line["objects"]]
        assert (line["confidence"] is None) == (None in confidences) == (measure == "score")
    with pytest.raises(GradcutError, match="run: expected a folder of 'gradcut segment'"):
        runs.review(tmp_path / "in")


def test_photographs_side_by_side_have_a_thread_each(brightness, tmp_path):
    seen = []

    class Watched(Segmenter):
        def explain(self, *args):
            seen.append((threading.get_ident(), torch.get_num_threads()))
            time.sleep(0.02)
            return super().explain(*args)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        lines = segment_all(Job(Watched(brightness), Folder(str(tmp_path / "out"))), draw(tmp_path / "in", 8), 2)
        between = [torch.get_num_threads() for _ in lines]
        assert between == [3] * 8, "what the caller does with a line is done on as many threads as before"
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert {number for _, number in seen} == {1}
    assert len({thread for thread, _ in seen}) == 2

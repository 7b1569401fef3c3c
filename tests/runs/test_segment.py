"""A folder of photographs in one call from Python: the same files as the command line's."""

from __future__ import annotations

import sys

import pytest
from drawn_runs import QUICK, contents, draw

import gradcut
import gradcut.cli
from gradcut import GradcutError, Segmenter, catalogue, segment_folder
from gradcut.recipes import RECIPES
from gradcut.runs import segment as runs
from gradcut.runs.run import read_run


def test_it_writes_what_the_command_writes(brightness, tmp_path, monkeypatch):
    draw(tmp_path / "in", 4)
    (tmp_path / "in/broken.png").write_text("nothing")
    lines = segment_folder(
        Segmenter(brightness, QUICK),
        tmp_path / "in",
        tmp_path / "out",
        ["red"],
        void=(0.1, 0.9),
        pictures=False,
        batch=2,
    )
    assert [line["state"] for line in lines] == ["done"] * 4 + ["failed"]
    assert lines == list(read_run(tmp_path / "out")[1])
    monkeypatch.setattr("gradcut.classifiers.sources.load_classifier", lambda name: brightness)
    monkeypatch.setitem(RECIPES, "quick", QUICK)
    monkeypatch.setitem(catalogue.RECIPES, "quick", QUICK.summary)
    monkeypatch.setattr(catalogue, "VOCABULARIES", {})  # it is another classifier than the name says
    command = ["segment", tmp_path / "in", "-o", tmp_path / "command", "-r", "quick", "--label", "red"]
    command += ["--void", 0.1, 0.9, "--no-pictures", "--batch", 2]
    monkeypatch.setattr(sys, "argv", ["gradcut", *map(str, command)])
    with pytest.raises(SystemExit):
        gradcut.cli.main()
    assert contents(tmp_path / "out") == contents(tmp_path / "command")


def test_it_goes_on_where_it_stopped_and_every_option_arrives(brightness, tmp_path, monkeypatch):
    tasks = draw(tmp_path / "in", 5)
    segment = Segmenter(brightness, QUICK)
    seen = []

    def engine(job, tasks, workers):
        seen.append(([task.name for task in tasks], workers, job.batch))
        return job(tasks, workers)

    paths = [task.photograph for task in tasks]
    first = segment_folder(segment, paths, tmp_path / "out", limit=2, engine=engine, workers=3)
    assert [line["name"] for line in first] == ["000", "001"]
    assert len(segment_folder(segment, paths, tmp_path / "out", engine=engine)) == 5
    segment_folder(segment, paths, tmp_path / "out", engine=engine, overwrite=True, limit=1)
    assert seen == [(["000", "001"], 3, 1), (["002", "003", "004"], None, 1), (["000"], None, 1)]
    with pytest.raises(GradcutError, match="made with labels none, now"):
        segment_folder(segment, paths, tmp_path / "out", ["red"])


def test_what_cannot_be_used_is_named(brightness, tmp_path, unchecked):
    (tmp_path / "empty").mkdir()
    draw(tmp_path / "in", 1)
    segment = Segmenter(brightness, QUICK)
    for arguments, message in (
        ((brightness, tmp_path / "in"), "segmenter: expected a Segmenter, got Classifier"),
        ((segment, tmp_path / "empty"), "photographs: .*empty: no photographs in this folder"),
        ((segment, []), "photographs: expected at least one, got none"),
    ):
        with pytest.raises(GradcutError, match=message):
            segment_folder(*arguments, tmp_path / "out")
    for labels, message in (
        ("red", "labels: expected a list of labels, got 'red'"), (["green"], "has no label 'green'"),
    ):  # fmt: skip
        with pytest.raises(GradcutError, match=message):
            segment_folder(segment, tmp_path / "in", tmp_path / "out", labels)
    assert not (tmp_path / "out").exists()


def test_batches_are_for_devices_of_their_own(brightness):
    assert runs.default_batch(Segmenter(brightness)) == 1
    brightness.model.to("meta")
    assert runs.default_batch(Segmenter(brightness)) == 16


def test_it_is_exported():
    assert gradcut.segment_folder is runs.segment_folder

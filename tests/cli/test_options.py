"""What the commands share: the progress bar, and which classifier is asked where none is named."""

from __future__ import annotations

import ast
import errno
import inspect
import os
import time
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

import gradcut
from gradcut import load_classifier
from gradcut.cli import app, options, progress
from gradcut.errors import GradcutError


@pytest.fixture
def terminal(monkeypatch) -> StringIO:
    written = StringIO()
    monkeypatch.setattr(progress, "err", Console(file=written, force_terminal=True, width=100, color_system=None))
    return written


def test_a_bar_counts_from_what_was_done_before_and_shows_its_note(terminal):
    done = []
    with progress.bar("counting", 5, completed=2, note=lambda: f"{len(done)} new") as track:
        done.extend(track(iter("abc")))
    assert done == ["a", "b", "c"]
    shown = terminal.getvalue()
    assert "counting" in shown
    assert "2/5" in shown  # drawn as it began
    assert "5/5 3 new" in shown  # and as it ended


def test_one_bar_may_take_several_parts_of_its_total(terminal):
    with progress.bar("counting", 4) as track:
        assert [*track([1, 2]), *track(["c", "d"])] == [1, 2, "c", "d"]
    assert "4/4" in terminal.getvalue()


@pytest.fixture
def pipe(monkeypatch) -> StringIO:
    """Standard error as a file sees it, with what comes after seconds and every half minute at once."""
    written = StringIO()
    monkeypatch.setattr(progress, "err", Console(file=written, force_terminal=False, soft_wrap=True))
    monkeypatch.setattr(progress, "FIRST", 0.01)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    return written


def wait_for(written: StringIO, text: str) -> None:
    until = time.monotonic() + 10
    while text not in written.getvalue():
        assert time.monotonic() < until, f"{text!r} is not in {written.getvalue()!r}"
        time.sleep(0.005)


def test_a_bar_on_a_pipe_is_a_plain_line_now_and_then(pipe):
    with progress.bar("counting", 4, completed=1, note=lambda: "3.0/s") as track:
        for item in track(iter("ab")):
            wait_for(pipe, "gradcut: counting: 1 of 4\n" if item == "a" else "gradcut: counting: 2 of 4, 3.0/s, about ")
    assert "\x1b" not in pipe.getvalue()


def test_what_has_no_count_says_that_it_goes_on(pipe):
    with progress.working("loading x"):
        wait_for(pipe, "gradcut: loading x ...\ngradcut: loading x since 0 s\n")


def test_what_takes_seconds_is_announced_on_a_pipe(pipe, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 600)
    with progress.working("loading x"):
        wait_for(pipe, "gradcut: loading x ...\n")
    assert pipe.getvalue() == "gradcut: loading x ...\n"


def test_what_is_quick_says_nothing_on_a_pipe(pipe, monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 600)
    monkeypatch.setattr(progress, "EVERY", 600)
    with progress.working("loading x"), progress.bar("counting", 2) as track:
        assert list(track([1, 2])) == [1, 2]
    assert pipe.getvalue() == ""


def test_a_terminal_shows_what_is_loading(terminal):
    with progress.working("loading x"):
        pass
    assert "loading x ..." in terminal.getvalue()


def test_listings_that_import_slow_libraries_show_it(terminal, command, monkeypatch):
    monkeypatch.setattr("gradcut.classifiers.sources.list_classifiers", lambda pattern: {pattern: "a network"})
    assert command("recipes", "default")[0] == command("classifiers", "net")[0] == 0
    assert "loading the recipes ..." in terminal.getvalue()
    assert "looking through timm's models ..." in terminal.getvalue()


def test_a_long_name_has_a_line_of_its_own(capsys):
    options.listing([("short", "1000 classes"), ("n" * 60, "a few words"), ("middle", "2 classes")])
    assert capsys.readouterr().out.splitlines() == [
        "short   1000 classes", "n" * 60, "        a few words", "middle  2 classes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (5399, "1 h 30 min"), (5400, "1 h 30 min")]
)
def test_durations(seconds, words):
    assert progress._duration(seconds) == words


def test_one_classifier_is_the_default_everywhere():
    assert inspect.signature(load_classifier).parameters["name"].default == options.CLASSIFIER
    commands = typer.main.get_command(app).commands
    defaults = {
        name: option.default
        for name, command in commands.items()
        for option in command.params
        if option.name == "classifier" and option.default is not None
    }
    names = ("segment", "label-masks", "classify", "compare", "audit", "label-studio")
    assert defaults == dict.fromkeys(names, options.CLASSIFIER)
    said = [
        option.show_default
        for name in ("evaluate", "serve")
        for option in commands[name].params
        if option.name == "classifier"
    ]
    assert all(text.startswith(options.CLASSIFIER) for text in said)


def test_no_other_module_builds_a_bar():
    package = Path(gradcut.__file__).parent
    builders = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "rich.progress"
    }
    assert builders == {"cli/progress.py"}


def test_an_output_that_may_not_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    options.check_output(tmp_path / "new/folder")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(GradcutError, match=f"^output: .*new/folder cannot be written: no permission .* to {tmp_path}$"):
        options.check_output(tmp_path / "new/folder")
    (tmp_path / "own").mkdir()
    options.check_output(tmp_path / "own/folder")


@pytest.mark.parametrize("check", [options.check_folder, options.check_file])
def test_what_may_not_be_looked_at_is_one_line(tmp_path, monkeypatch, check):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(GradcutError, match=r"^--images: .*x cannot be read: Permission denied$"):
        check("--images", tmp_path / "x")
    with pytest.raises(GradcutError, match=r"^output: .*x cannot be written: Permission denied$"):
        options.check_output(tmp_path / "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["classifiers"], ["recipes", "--json"]])
def test_a_full_disk_behind_standard_output_is_one_line(command, monkeypatch, arguments):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr("sys.stdout", full)
        status, _, err = command(*arguments)
    assert (status, err) == (2, "gradcut: output: No space left on device\n")


def test_who_reads_no_further_is_told_nothing(command, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        status, _, err = command("recipes")
    assert (status, err) == (1, "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "in/half"), "in/half: Permission denied"),
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            "ConnectionResetError: Connection reset by peer",
        ),
        (OSError("no words of the system"), "OSError: no words of the system"),
    ],
)
def test_what_the_system_refuses_is_one_line(command, monkeypatch, error, told):
    def refuse(paths):
        raise error

    monkeypatch.setattr("gradcut.files.find", refuse)
    assert command("segment", "in") == (2, "", f"gradcut: {told}\n")


def test_control_c_before_a_command_has_begun_is_one_line(command, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("gradcut.cli.app", interrupted)
    assert command("recipes") == (130, "", "gradcut: stopped\n")

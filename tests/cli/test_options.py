"""What the commands share: the progress bar, and which classifier is asked where none is named."""

from __future__ import annotations

import ast
import inspect
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

import gradcut
from gradcut import load_classifier
from gradcut.cli import app, options


@pytest.fixture
def terminal(monkeypatch) -> StringIO:
    written = StringIO()
    monkeypatch.setattr(options, "err", Console(file=written, force_terminal=True, width=100, color_system=None))
    return written


def test_a_bar_counts_from_what_was_done_before_and_shows_its_note(terminal):
    done = []
    with options.bar("counting", 5, completed=2, note=lambda: f"{len(done)} new") as track:
        done.extend(track(iter("abc")))
    assert done == ["a", "b", "c"]
    shown = terminal.getvalue()
    assert "counting" in shown
    assert "2/5" in shown  # drawn as it began
    assert "5/5 3 new" in shown  # and as it ended


def test_one_bar_may_take_several_parts_of_its_total(terminal):
    with options.bar("counting", 4) as track:
        assert [*track([1, 2]), *track(["c", "d"])] == [1, 2, "c", "d"]
    assert "4/4" in terminal.getvalue()


def test_no_bar_where_standard_error_is_no_terminal(monkeypatch):
    written = StringIO()
    monkeypatch.setattr(options, "err", Console(file=written, force_terminal=False))
    with options.bar("counting", 2) as track:
        assert list(track([1, 2])) == [1, 2]
    assert written.getvalue() == ""


def test_one_classifier_is_the_default_everywhere():
    assert inspect.signature(load_classifier).parameters["name"].default == options.CLASSIFIER
    commands = typer.main.get_command(app).commands
    defaults = {
        name: option.default
        for name, command in commands.items()
        for option in command.params
        if option.name == "classifier" and option.default is not None
    }
    assert defaults == {"segment": options.CLASSIFIER, "classify": options.CLASSIFIER}
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
    assert builders == {"cli/options.py"}

"""What a shell completes after TAB, asked as a shell asks: through the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gradcut import catalogue

#: What is typed, and what the last word may become.
TYPED = {
    "gradcut seg": ["segment"],
    "gradcut segment a.jpg -r ": [*catalogue.RECIPES],
    "gradcut segment a.jpg --recipe f": ["fast"],
    "gradcut segment a.jpg -c ": ["coco80", "embedded", "lite0", "lite1", "lite2", "timm/", "hf/"],
    "gradcut segment a.jpg --classifier em": ["embedded"],
    "gradcut segment a.jpg --saliency Smooth": ["SmoothGrad"],
    "gradcut segment a.jpg -f coco": ["coco", "coco-results"],
    "gradcut export out -f y": ["yolo"],
    "gradcut recipes sim": ["simonyan"],
    "gradcut evaluate im": ["imagenet-s", "imagenet-seg"],
    "gradcut evaluate coco --labels t": ["truth"],
    "gradcut segment a.jpg --engine r": ["ray"],
    "gradcut segment a.jpg --device c": ["cpu", "cuda"],
    "gradcut fit --backbone lite": ["lite0", "lite1", "lite2"],
    "gradcut serve -c coco80 -c e": ["embedded"],
    "gradcut segment a.jpg -r fats --sali": ["--saliency"],
}

#: All in one process; what is imported is told at the end.
ALL = """
import contextlib, io, json, os, sys
from gradcut.cli import app
answers = []
for typed in json.loads(sys.argv[1]):
    words = typed.split(" ")
    os.environ.update({"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), "_GRADCUT_COMPLETE": "complete_bash"})
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        app(args=[], prog_name="gradcut")
    answers.append(printed.getvalue().split())
heavy = [name for name in ("torch", "torchvision", "timm", "numba", "transformers") if name in sys.modules]
print(json.dumps([answers, heavy]))
"""


@pytest.fixture(scope="module")
def completed() -> tuple[dict[str, list[str]], list[str]]:
    done = subprocess.run([sys.executable, "-c", ALL, json.dumps([*TYPED])], check=True, capture_output=True, text=True)
    answers, heavy = json.loads(done.stdout)
    return dict(zip(TYPED, answers, strict=True)), heavy


@pytest.mark.parametrize("typed", TYPED)
def test_names_are_completed(completed, typed):
    assert completed[0][typed] == TYPED[typed]


def test_completion_does_without_torch(completed):
    assert completed[1] == []


def test_names_are_explained_where_the_shell_shows_it(monkeypatch, capsys):
    from gradcut.cli import app

    for name, value in {
        "_GRADCUT_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": "gradcut segment a.jpg -r fa",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        app(args=[], prog_name="gradcut")
    assert capsys.readouterr().out == f"fast\t{catalogue.RECIPES['fast']}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_shown(monkeypatch, capsys, shell):
    from gradcut.cli import app

    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("_GRADCUT_COMPLETE", f"source_{shell}")
    with pytest.raises(SystemExit):
        app(args=[], prog_name="gradcut")
    assert f"_GRADCUT_COMPLETE=complete_{shell}" in capsys.readouterr().out


def test_completion_is_installed_for_the_shell_that_runs(tmp_path):
    """In a bash of its own, with a home of its own."""
    code = "from gradcut.cli import app; app(prog_name='gradcut')"
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "{code}" --install-completion; true'],
        env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "completion installed in" in done.stdout
    (script,) = tmp_path.rglob("gradcut.sh")
    assert "_GRADCUT_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()

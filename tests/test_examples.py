"""Every example runs, offline, and says what it says it does."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import chelsea

FOLDER = Path(__file__).parents[1] / "examples"
SHARED = "photographs"  # what the others import

#: Each example's arguments, and what it prints at the beginning of its lines.
EXAMPLES = {
    "five_lines": ([], ["cat: score 0."]),
    "pseudo_labels": (["run", "photographs"], ["cat ", "background ", "unsure "]),
    "train": (["run", "photographs", "--seconds", "3"], ["1 photographs, ", "background ", "cat "]),
    "own_recipe": (["photographs/cat.png"], ["cat: score 0."]),
    "compare": (["photographs/cat.png"], ["comparison.png: cat"]),
}


def run(name: str, arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python examples/NAME.py ARGUMENTS` does, without another process."""
    (folder / "photographs").mkdir()
    Image.fromarray(chelsea()).resize((225, 150)).save(folder / "photographs" / "cat.png")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def test_every_example_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*EXAMPLES, SHARED}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, tmp_path, monkeypatch, capsys):
    arguments, beginnings = EXAMPLES[name]
    run(name, arguments, tmp_path, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(beginnings)
    for beginning in beginnings:
        assert any(line.startswith(beginning) for line in lines), lines
    if name in ("five_lines", "own_recipe"):
        assert list(tmp_path.glob("out/masks/*/cat.png"))
    elif name == "pseudo_labels":
        values = np.unique(np.asarray(Image.open(tmp_path / "run/classmaps/cat.png")))
        assert {0, 16, 255} == set(values.tolist())  # cat is the sixteenth label

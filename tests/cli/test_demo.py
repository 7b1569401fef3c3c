"""'gradcut demo': what a person sees first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from gradcut.cli.demo import program
from gradcut.confidence import UNSURE

LINE = re.compile(r"(\w+) +score (0\.\d\d)  expected IoU (0\.\d\d)  +(\d+)% of the photograph(  \(unsure\))?")
README = Path(__file__).parents[2] / "README.md"


def test_demo_says_what_was_found_where_the_picture_is_and_what_to_do_next(command, tmp_path):
    status, out, err = command("demo", "-o", tmp_path / "out")
    assert status == 0
    *lines, path = out.splitlines()
    classes = [LINE.fullmatch(line) for line in lines]
    assert all(classes), out
    assert classes[0][1] == "cup"
    assert [bool(found[5]) for found in classes] == [float(found[3]) < UNSURE for found in classes]
    with Image.open(path) as picture:
        assert picture.width >= 900
    assert len(err.splitlines()) == 2
    assert "segment PHOTOGRAPH" in err
    assert "serve" in err

    told = [LINE.fullmatch(line) for line in README.read_text(encoding="utf-8").splitlines() if LINE.fullmatch(line)]
    assert [found[1] for found in told] == [found[1] for found in classes]
    for found, real in zip(told, classes, strict=True):
        assert found[5] == real[5]
        # Other versions of the libraries round otherwise.
        assert [float(found[k]) for k in (2, 3)] == pytest.approx([float(real[k]) for k in (2, 3)], abs=0.02)
        assert int(found[4]) == pytest.approx(int(real[4]), abs=2)


def test_demo_promises_no_iou_where_none_is_known(command, tmp_path):
    _, out, _ = command("demo", "-o", tmp_path / "out", "--recipe", "simonyan")
    assert re.search(r"^cup +score 0\.\d\d  +\d+% of the photograph$", out, re.MULTILINE)
    assert "IoU" not in out


def test_the_program_is_named_by_its_path_where_a_shell_would_not_find_it(monkeypatch):
    monkeypatch.setattr("sys.argv", [".venv/bin/gradcut", "demo"])
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert program() == "gradcut"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert program() == ".venv/bin/gradcut"

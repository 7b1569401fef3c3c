"""The documentation's pictures are there and are of today's recipes; none is made here."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gradcut import RECIPES
from gradcut.masks import ColourCut

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program():
    """docs/pictures.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_pictures", ROOT / "docs" / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def entries() -> dict[str, dict]:
    return json.loads((ROOT / "docs" / "pictures.json").read_text())


def test_all_pictures_are_there_and_of_today(program, entries):
    assert program.faults(entries) == [], "make docs-pictures, and look at them"


def test_a_recipe_that_changes_is_noticed(program, entries):
    changed = replace(RECIPES["default"], masks=ColourCut(middle=0.5))
    recorded = [
        replace(picture, steps=dict(picture.steps) | {"default": changed}) if "default" in picture.steps else picture
        for picture in program.PICTURES
    ]
    shown = ["demo.jpg", "page-desktop.png", "page-phone.png", "page-run.png", "simonyan-default.jpg"]
    assert program.faults(entries, recorded) == [f"{name}: made of another recipe default" for name in shown]


def test_a_step_that_changes_is_noticed(program, entries):
    entries["saliency/cam.jpg"]["made_of"]["step cam"] = "0" * 16
    assert program.faults(entries) == ["saliency/cam.jpg: made of another step cam"]


@pytest.mark.parametrize("part", ["weights of coco80", "web page", "drawing"])
def test_weights_page_and_drawing_that_change_are_noticed(program, entries, part):
    del entries["page-phone.png"]["made_of"][part]
    assert program.faults(entries) == [f"page-phone.png: made of another {part}"]


def test_a_picture_of_another_size_is_noticed(program, entries):
    entries["demo.jpg"]["width"] += 1
    (line,) = program.faults(entries)
    assert re.fullmatch(r"demo\.jpg: \d+ x \d+, another size than recorded", line)


def test_a_picture_that_is_not_recorded_or_not_made_is_noticed(program, entries):
    del entries["demo.jpg"]
    entries["gone.jpg"] = {"width": 1, "height": 1, "made_of": {}}
    assert program.faults(entries) == [
        "demo.jpg: not in pictures.json",
        "gone.jpg: not in this program nor docs/ nor README.md and docs/*.md",
    ]


def test_a_picture_that_no_page_shows_is_noticed(program, entries, monkeypatch):
    monkeypatch.setattr(program, "PAGES", [page for page in program.PAGES if page.name != "findings.md"])
    assert program.faults(entries) == ["findings.jpg: not in README.md and docs/*.md"]


def test_large_pictures_are_noticed(program, entries, monkeypatch):
    largest = max((ROOT / "docs" / name).stat().st_size for name in entries)
    monkeypatch.setattr(program, "LARGEST", largest - 1)
    monkeypatch.setattr(program, "ALL", largest)
    one, all_of_them = program.faults(entries)
    assert one.endswith(f": more than {largest - 1} bytes")
    assert all_of_them == f"all together: more than {largest} bytes"


def test_only_code_counts_as_drawing(program):
    plain = 'def draw(a):\n    return {"#": a}\n'
    said = '"""Draws."""\n\n# why\ndef draw(a):\n    """It\n    draws."""\n\n    return {"#": a}\n'
    assert program.code(said) == program.code(plain) == plain.rstrip()
    assert program.code(plain.replace("return", "return not")) != program.code(plain)


def test_a_name_that_is_no_picture_ends_the_program(program):
    with pytest.raises(SystemExit, match="no such picture: dem"):
        program.main(["dem"])


def test_the_readme_has_the_measured_numbers():
    readme, measured = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/masks.md"))
    simonyan, default = re.search(r"class IoU of (0\.\d+) and (0\.\d+)\s+\(\[measured\]", readme).groups()
    assert f"| `simonyan` | {simonyan} (" in measured
    assert f"| `default` | {default} (" in measured
    (photographs,) = re.findall(r"On (\d+) COCO photographs", readme)
    assert f"({photographs} COCO photographs" in measured

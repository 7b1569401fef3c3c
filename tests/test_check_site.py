"""The check of the documentation's site sees what it is there for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_site.py"

GOOD = '<h1 id="top">A</h1><a href="b.html#part">b</a><a href="#top">up</a><a href="https://example.org">out</a>'


@pytest.fixture
def check(tmp_path):
    """The exit status and the lines of a check of a site whose first page is this."""
    (tmp_path / "style.css").write_text("a { background: url('data:image/png;base64,AA') }")
    (tmp_path / "b.html").write_text('<link rel="stylesheet" href="style.css"><p id="part">b</p>')

    def run(first: str) -> tuple[int, list[str]]:
        (tmp_path / "a.html").write_text(first)
        done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, timeout=60)
        return done.returncode, (done.stdout + done.stderr).splitlines()

    return run


def test_a_site_whose_links_lead_somewhere_passes(check):
    status, lines = check(GOOD)
    assert (status, len(lines)) == (0, 1)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ('<a href="c.html">c</a>', "no file for c.html"),
        ('<a href="b.html#other">b</a>', "no place for b.html#other"),
        ('<a href="#bottom">down</a>', "no place for #bottom"),
        ('<img src="missing.png">', "no file for missing.png"),
        ('<script src="https://example.org/a.js"></script>', "loads https://example.org/a.js"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "loads //example.org/a.css"),
    ],
)
def test_each_fault_is_a_line(check, broken, said):
    status, lines = check(GOOD + broken)
    assert status == 1
    (line,) = lines
    assert line.endswith(f"a.html: {said}")


def test_styles_load_nothing_from_elsewhere(check, tmp_path):
    (tmp_path / "style.css").write_text(
        "@import 'https://example.org/b.css'; a { src: url(https://example.org/f.woff2) }"
    )
    status, lines = check(GOOD)
    assert (status, len(lines)) == (1, 2)


def test_an_empty_folder_is_no_site(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, f"{tmp_path}: no pages\n")

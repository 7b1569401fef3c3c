"""What tests of the page of runs share: a classifier and a recipe of milliseconds, a run, and hands on the page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from networks import brightness
from PIL import Image

from gradcut import Recipe, Segmenter
from gradcut.files import Folder
from gradcut.images import write_png
from gradcut.masks import GraphCut
from gradcut.runs import corrections
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all
from gradcut.saliency import CAM
from gradcut.seeds import Percentiles

DRAWN = Recipe("drawn", "class activation map, percentiles, graph cut", CAM(), Percentiles(95, 30), GraphCut())


def segmenter() -> Segmenter:
    return Segmenter(brightness(), DRAWN)


def write_run(tmp_path: Path, drawn: tuple[np.ndarray, dict[str, np.ndarray]]) -> Path:
    """A run over three photographs: the second has its colours exchanged, the third is without blue."""
    (tmp_path / "in").mkdir()
    photograph = drawn[0]
    without = np.where(drawn[1]["blue"][..., None], 0, photograph).astype(np.uint8)
    tasks = []
    for name, pixels in {"a": photograph, "b": photograph[..., ::-1], "c": without}.items():
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"in/{name}.png")
        tasks.append(Task(str(tmp_path / f"in/{name}.png"), name))
    list(segment_all(Job(segmenter(), Folder(str(tmp_path / "run")), pictures=False), tasks))
    return tmp_path / "run"


def shown(page, name):
    page.wait_for_selector(f"body[data-shown='{name}']")
    page.locator("#status", has_text="Cutting").wait_for(state="hidden")


def legend(page):
    return page.locator("#legend li").evaluate_all(
        "all => all.map(li => [li.querySelector('.class').dataset.label, li.className])"
    )


def state(page, text):
    page.locator("#name", has_text=text).wait_for()


def stroke(page, *points):
    box = page.locator("#strokes").bounding_box()
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=2)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def saved(page, run, name, holds):
    """The correction, once something holds for it."""
    until = time.monotonic() + 20
    while not holds(correction := corrections.read(run, name)):
        assert time.monotonic() < until, correction
        page.wait_for_timeout(50)
    return correction


def segmented(tmp_path: Path, made_with: Segmenter, photographs: Mapping[str, np.ndarray]) -> Path:
    """A run over photographs by name."""
    tmp_path.mkdir(exist_ok=True)
    tasks = []
    for name, pixels in photographs.items():
        write_png(tmp_path / f"{name}.png", pixels)
        tasks.append(Task(str(tmp_path / f"{name}.png"), name))
    list(segment_all(Job(made_with, Folder(str(tmp_path / "run")), pictures=False), tasks))
    return tmp_path / "run"

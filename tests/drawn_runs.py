"""What the tests of runs share: a recipe of milliseconds, drawn photographs, and what a run has written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from gradcut import files
from gradcut.images import Photograph
from gradcut.masks import GraphCut
from gradcut.recipes import Recipe
from gradcut.runs.job import Task
from gradcut.saliency import CAM
from gradcut.seeds import Fractions

#: A recipe of milliseconds, for tests of what surrounds it.
QUICK = Recipe("quick", "one class activation map and a coarse cut", CAM(), Fractions(), GraphCut(grid=32))


def square_and_disc() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A black photograph, 64 x 64, with a red square and a blue disc, and their masks."""
    photograph = np.zeros((64, 64, 3), dtype=np.uint8)
    y, x = np.mgrid[:64, :64]
    square = (abs(y - 20) < 10) & (abs(x - 18) < 10)
    disc = (y - 44) ** 2 + (x - 44) ** 2 < 12**2
    photograph[square] = (255, 0, 0)
    photograph[disc] = (0, 0, 255)
    return photograph, {"red": square, "blue": disc}


def draw(folder: Path, number: int) -> list[Task]:
    """Black photographs with a red and, in every third, a blue square; no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for n in range(number):
        photograph = np.zeros((40 + n % 7, 48, 3), dtype=np.uint8)
        y, x = generator.integers(2, 16, 2)
        photograph[y : y + 16, x : x + 20, 0] = 255
        if n % 3 == 0:
            photograph[30:, 30:] = (0, 0, 255)
        Image.fromarray(photograph).save(folder / f"{n:03}.png")
    return [Task(str(path), name) for path, name in files.find([folder])[0]]


def contents(folder: Path) -> dict[str, object]:
    """Every file of a run; times, which no two runs share, are taken out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".json", ".jsonl"):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[name] = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def everywhere(
    photograph: Photograph, saliency: Float[np.ndarray, "n h w"], seeds: object
) -> Bool[np.ndarray, "n H W"]:
    """Masks that overlap: each is the whole photograph."""
    return np.ones((len(saliency), *photograph.shape[:2]), dtype=bool)


#: `QUICK` with masks that overlap.
OVERLAPPING = replace(QUICK, name="overlapping", masks=everywhere)

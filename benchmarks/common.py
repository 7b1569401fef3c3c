"""What the scripts here share: options, heads fitted without the photograph, rows that a stopped script keeps."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from gradcut import Classifier, datasets, evaluation, load_classifier
from gradcut.evaluation.bootstrap import Values


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of a script that judges, on one COCO data set, heads that were fitted without the photograph."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("images", "annotations", "folds"):
        options.add_argument(f"--{option}", required=True, type=Path)
    options.add_argument("--output", "-o", required=True, type=Path, help="a folder")
    return options


class Heads:
    """Those that `gradcut fit --folds` wrote; called with a photograph's name, the one that was fitted without it."""

    def __init__(self, folder: Path) -> None:
        self.folds = evaluation.read_folds(folder / "folds.csv")
        numbers = range(max(self.folds.values()) + 1)
        self.all = [load_classifier(str(folder / f"fold-{number}.safetensors")) for number in numbers]

    def fold(self, photograph: str) -> int:
        fold = self.folds[Path(photograph).name]
        if fold < 0:
            raise ValueError(f"{photograph}: every fold's head was fitted to it")
        return fold

    def __call__(self, photograph: str) -> Classifier:
        return self.all[self.fold(photograph)]


def progress(number: int, total: int) -> None:
    print(f"\r{number + 1} of {total}", end="\n" * (number + 1 == total), file=sys.stderr, flush=True)


def rows_of(dataset: datasets.Dataset, path: Path, measure: Callable[[str, datasets.Sample], dict]) -> list[dict]:
    """A row for each photograph: its name as ``photograph``, and what ``measure(name, sample)`` gives.

    Rows that are in the file already are not measured again; each new one is added to it at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: Iterable[str] = path.read_text("utf-8").splitlines() if path.exists() else []
    known = {row["photograph"]: row for row in map(json.loads, lines)}
    rows = []
    for number, name in enumerate(dataset.names):
        if name not in known:
            known[name] = {"photograph": name, **measure(name, dataset[number])}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[name]) + "\n")
            progress(number, len(dataset))
        rows.append(known[name])
    return rows


def scores(masks: np.ndarray, sample: datasets.Sample) -> dict[str, object]:
    """IoU of each class that covers a pixel outside crowds, and of all of them together."""
    union = masks.any(axis=0) if len(masks) else np.zeros_like(sample.ignore)
    classes = [
        evaluation.iou(mask, sample.masks[label], sample.ignore)
        for label, mask in zip(sorted(sample.masks), masks, strict=True)
        if (sample.masks[label] & ~sample.ignore).any()
    ]
    return {"classes": classes, "union": evaluation.iou(union, sample.truth, sample.ignore)}


def values_of(rows: list[dict], key: str) -> Values:
    """Of each row of `scores` the IoUs under ``key``, "classes" or "union", that are defined."""
    several = (row["classes"] if key == "classes" else [row[key]] for row in rows)
    return [[value for value in values if value is not None] for values in several]


def between(interval: list[float]) -> str:
    low, high = interval
    return f"{low:+.3f} to {high:+.3f}"

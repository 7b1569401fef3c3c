"""What each part of the recipe `default` adds and costs: docs/masks.md holds what this printed.

    python benchmarks/ablation.py --images IMAGES --annotations instances.json --folds FOLDS --every 3 -o ablation

FOLDS is what `gradcut fit --folds` wrote: each photograph goes through the head that was fitted without it, and is
asked for the classes that are there. Every row changes one part of `default`; rows with the same saliency share it.
Times are processor time of a photograph with all its classes, on one thread. The output folder gets `rows.jsonl`, from
which a stopped script goes on, and `ablation.json`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import Heads, between, parser, rows_of, scores, values_of
from rich.console import Console
from rich.table import Table

from gradcut import RECIPES, Recipe, Segmenter, datasets
from gradcut.evaluation.bootstrap import Bootstrap
from gradcut.masks import Cleaned, ColourCut, JointCut, Outlined, Threshold
from gradcut.saliency import (
    CAM,
    Gradient,
    GuidedBackprop,
    Mean,
    Method,
    MultiScale,
    PlaceProbability,
    Rivals,
    SmoothGrad,
    Walk,
)

DEFAULT = RECIPES["default"]
SIZES = (1.0, 5 / 3, 8 / 3)


def changed(saliency: object = DEFAULT.saliency, masks: object = DEFAULT.masks, detail: float = 8 / 3) -> Recipe:
    return replace(DEFAULT, saliency=saliency, masks=masks, detail=detail)


def sizes(method: Method, scales: tuple[float, ...] = SIZES, flip: bool = False) -> Method:
    return MultiScale(method, scales, flip=flip)


def walk(method: Method, steps: tuple[int, ...] = (8, 4), scale: float = 5 / 3) -> Method:
    return Walk(method, steps=steps, scale=scale)


def both(maps: Callable[[Method], Method]) -> Mean:
    """The mean of the two kinds of maps, each made so."""
    return Mean([maps(PlaceProbability()), maps(CAM())])


VARIANTS: dict[str, Recipe] = {
    "default": DEFAULT,
    "weights for places alone": changed(walk(Rivals(sizes(PlaceProbability())))),
    "the head's weights alone": changed(walk(Rivals(sizes(CAM())))),
    "their mean before one walk": changed(walk(Rivals(both(sizes)))),
    "without the largest size": changed(both(lambda method: walk(Rivals(sizes(method, SIZES[:2])))), detail=5 / 3),
    "one size, features of another": changed(both(lambda method: walk(Rivals(method))), detail=5 / 3),
    "sizes of the prepared photograph": changed(DEFAULT.saliency, detail=1.0),
    "and mirror images": changed(both(lambda method: walk(Rivals(sizes(method, flip=True))))),
    "without rivals": changed(both(lambda method: walk(sizes(method), steps=(12,)))),
    "one walk": changed(both(lambda method: walk(Rivals(sizes(method)), steps=(8,)))),
    "without affinity": changed(both(lambda method: Rivals(sizes(method)))),
    "features at the classifier's size": changed(both(lambda method: walk(Rivals(sizes(method)), scale=1.0))),
    "without colours": changed(masks=Outlined(Cleaned(ColourCut(components=0)))),
    "outlines of the grid": changed(masks=Cleaned(ColourCut())),
    "crumbs and holes left": changed(masks=Outlined(ColourCut())),
    "threshold 0.5, no cut": changed(masks=Threshold(0.5)),
    "joint cut": changed(masks=JointCut()),
    "best": RECIPES["best"],
    "fast": RECIPES["fast"],
    "fast without affinity": replace(RECIPES["fast"], saliency=both(lambda method: method)),
    "gradient": changed(Gradient(of="probability"), detail=1.0),
    "guided backpropagation": changed(GuidedBackprop(of="probability"), detail=1.0),
    "noise averaged, 8 samples": changed(SmoothGrad(Gradient(of="probability"), samples=8), detail=1.0),
}  # fmt: skip


def measured(head: object, sample: datasets.Sample) -> dict[str, dict]:
    """Scores and seconds of every variant; a saliency that several share is computed once, and counts for each."""
    labels = sorted(sample.masks)
    shared: dict[Hashable, tuple] = {}
    row = {}
    for name, recipe in VARIANTS.items():
        segmenter = Segmenter(head, recipe)
        key = segmenter.evidence_key
        if key not in shared:
            started = time.process_time()
            (evidence,) = segmenter.explain([sample.image], labels)
            shared[key] = evidence, time.process_time() - started
        evidence, looking = shared[key]
        started = time.process_time()
        result = segmenter.cut(evidence)
        cutting = time.process_time() - started
        masks = np.stack([result[label].mask for label in labels])
        row[name] = {"saliency": looking, "masks": cutting, **scores(masks, sample)}
    return row


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--every", type=int, default=1, help="every so many photographs")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    heads = Heads(options.folds)
    warm = False

    def measure(name: str, sample: datasets.Sample) -> dict:
        nonlocal warm
        if sample.masks and not warm:
            measured(heads(name), sample)  # compiles, and is not counted
            warm = True
        return {"variants": measured(heads(name), sample)} if sample.masks else {}

    dataset = datasets.coco(options.images, options.annotations)[:: options.every]
    rows = [row for row in rows_of(dataset, options.output / "rows.jsonl", measure) if "variants" in row]
    summarise(rows, options.output / "ablation.json")


def summarise(rows: list[dict], output: Path) -> None:
    """Print and write the means, and how much `default` is above each variant, with 95 % intervals."""
    bootstrap = Bootstrap(2000)
    columns = ("variant", "class IoU", "default less it", "union IoU", "default less it", "saliency, s", "masks, s")
    table = Table(*columns, title=f"{len(rows)} photographs")
    record = {}
    reference = [row["variants"]["default"] for row in rows]
    for name in VARIANTS:
        mine = [row["variants"][name] for row in rows]
        cells, record[name] = [name], {"recipe": repr(VARIANTS[name])}
        for key in ("classes", "union"):
            values = values_of(mine, key)
            value = bootstrap.mean(values)["value"]
            less = bootstrap.paired(values_of(reference, key), values)["interval"]
            record[name][key] = {"mean": value, "default less it": less}
            cells += [f"{value:.3f}", "" if name == "default" else between(less)]
        for key in ("saliency", "masks"):
            record[name][key] = float(np.median([row[key] for row in mine]))
            cells.append(f"{record[name][key]:.2f}")
        table.add_row(*cells)
    output.write_text(json.dumps(record, indent=1), encoding="utf-8")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()

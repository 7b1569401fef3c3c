"""Recipes against pytorch-grad-cam's GradCAM and LayerCAM, thresholded: docs/masks.md holds what this printed.

    gradcut evaluate coco --images IMAGES --annotations instances.json --labels truth --folds FOLDS \\
        --recipe simonyan --recipe guided --recipe default --recipe fast -o scores.jsonl
    python benchmarks/peers.py --images IMAGES --annotations instances.json --folds FOLDS --scores scores.jsonl -o peers

The peers get the same classifiers at their own size, the same photographs and classes, the last feature map, and an
advantage: of 19 fixed thresholds the one that is best on these very photographs, for class IoU and for union IoU
separately. `ceiling` is the best threshold for every single mask, chosen against the truth. FOLDS is what
`gradcut fit --folds` wrote. The output folder gets `rows.jsonl`, from which a stopped script goes on, and `peers.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytorch_grad_cam
import torch
from common import Heads, between, parser, rows_of
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table

from gradcut import Classifier, datasets, evaluation, images
from gradcut.evaluation.bootstrap import Bootstrap, Values

PEERS = ("GradCAM", "LayerCAM")
THRESHOLDS = tuple(np.linspace(0.05, 0.95, 19).round(2).tolist())


def maps(peer: str, classifier: Classifier, sample: datasets.Sample, labels: list[str]) -> np.ndarray:
    """The peer's maps of all the classes, from 0 to 1, at the classifier's size: one call a photograph."""
    x = classifier.prepare([sample.image])
    layer = classifier.model.bn2  # EfficientNet's last map, after its activation
    targets = [ClassifierOutputTarget(classifier.index(label)) for label in labels]
    with getattr(pytorch_grad_cam, peer)(model=classifier.model, target_layers=[layer]) as cam:
        made: np.ndarray = cam(input_tensor=x.repeat(len(labels), 1, 1, 1), targets=targets)
    return made


def scored(maps: np.ndarray, sample: datasets.Sample, labels: list[str]) -> dict[str, list]:
    """At each threshold: the IoU of each class that covers a pixel outside crowds, and of all of them together."""
    large = np.stack([images.resize_map(saliency, sample.image.shape[:2]) for saliency in maps])
    judged = [number for number, label in enumerate(labels) if (sample.masks[label] & ~sample.ignore).any()]
    classes, union = [], []
    for threshold in THRESHOLDS:
        masks = large > threshold
        classes.append([evaluation.iou(masks[n], sample.masks[labels[n]], sample.ignore) for n in judged])
        union.append(evaluation.iou(masks.any(0), sample.truth, sample.ignore))
    return {"labels": [labels[n] for n in judged], "classes": classes, "union": union}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scores", required=True, type=Path)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    heads = Heads(options.folds)
    for head in heads.all:  # the graph that the peers go back through begins after the last map but one: sooner
        for name, parameter in head.model.named_parameters():
            parameter.requires_grad_(name.startswith(("conv_head", "bn2", "classifier")))

    def measure(name: str, sample: datasets.Sample) -> dict:
        labels = sorted(sample.masks)
        return {peer: scored(maps(peer, heads(name), sample, labels), sample, labels) for peer in PEERS if labels}

    rows = rows_of(datasets.coco(options.images, options.annotations), options.output / "rows.jsonl", measure)
    compare([row for row in rows if len(row) > 1], options.scores, options.output / "peers.json")


def _defined(counts: Iterable[list[int]]) -> list[float]:
    """The IoU of each that has a pixel."""
    ious = (evaluation.Counts(*pixels).iou for pixels in counts)
    return [iou for iou in ious if iou is not None]


def compare(rows: list[dict], scores: Path, output: Path) -> None:
    """Print and write every recipe's means, the peers', and the differences of `default` with their intervals."""
    recipes: dict[str, dict[str, dict]] = {}
    for row in evaluation.read_rows(scores):
        if "error" not in row:
            recipes.setdefault(row["recipe"], {})[row["photograph"]] = row
    rows = [row for row in rows if all(row["photograph"] in by_photograph for by_photograph in recipes.values())]
    bootstrap = Bootstrap(2000)
    values: dict[str, dict[str, Values]] = {}
    notes: dict[str, str] = {}
    for name, by_photograph in recipes.items():
        mine = [by_photograph[row["photograph"]] for row in rows]
        values[name] = {
            "class": [_defined(c["counts"] for c in row["classes"].values() if c["true"]) for row in mine],
            "union": [_defined([row["union"]]) for row in mine],
        }
    for peer in PEERS:
        tables = {
            "class": [np.array(row[peer]["classes"], dtype=float) for row in rows],
            "union": [np.array(row[peer]["union"], dtype=float)[:, None] for row in rows],
        }
        best = {
            key: int(np.argmax(sum(t.sum(1) for t in ious) / sum(t.shape[1] for t in ious)))
            for key, ious in tables.items()
        }
        values[peer] = {key: [t[best[key]].tolist() for t in ious] for key, ious in tables.items()}
        values[f"{peer}, ceiling"] = {key: [t.max(0).tolist() for t in ious] for key, ious in tables.items()}
        notes[peer] = f"thresholds {THRESHOLDS[best['class']]} and {THRESHOLDS[best['union']]}"

    table = Table(
        "masks", "class IoU", "default less it", "union IoU", "default less it", title=f"{len(rows)} photographs"
    )
    record: dict[str, dict] = {}
    for name, value in values.items():
        cells, record[name] = [f"{name} {notes.get(name, '')}"], {"note": notes.get(name, "")}
        for key in ("class", "union"):
            mean = bootstrap.mean(value[key])["value"]
            less = bootstrap.paired(values["default"][key], value[key])["interval"]
            record[name][key] = {"mean": mean, "default less it": less}
            cells += [f"{mean:.3f}", "" if name == "default" else between(less)]
        table.add_row(*cells)
    output.write_text(json.dumps(record, indent=1), encoding="utf-8")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()

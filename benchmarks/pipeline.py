"""Time of a photograph with three classes, end to end, against the same method glued from captum and PyMaxflow.

    python benchmarks/pipeline.py --images IMAGES --annotations instances.json -o pipeline.json

Photographs evenly spaced among those with three classes or more, asked for the first three by name, with `coco80` on
one thread. Both sides start from the photograph in memory and end with masks of its own size, each in a process of
its own; they take turns, the least processor time of the rounds counts, and the ratio is the median over the
photographs. The glue is what a careful person writes: for `simonyan` one captum call a class, for `default` one a
size, PyMaxflow for the cut, and for what neither library has (rivals, the walk over features, colour models) the same
formulas in torch and numpy, the colour models being gradcut's own; `default` goes as far as the cut, without crumbs
dropped and outlines refined. The glue runs the network as timm makes it; gradcut folds its batch norms into the
convolutions when it loads it, and a second ratio is that to the glue with the folded network. The agreement of both
sides' masks, as IoU, shows that the work is the same, and that of either with the glue in float64 what rounding does.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import captum.attr
import maxflow as pymaxflow
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from gradcut import RECIPES, Classifier, Segmenter, datasets, evaluation, images, load_classifier
from gradcut.classifiers.embedded import lite_network
from gradcut.classifiers.heads import places_of
from gradcut.masks import ColourCut

Glue = Callable[[Classifier, np.ndarray, list[str]], np.ndarray]


def pymaxflow_cut(foreground_cost: np.ndarray, background_cost: np.ndarray, *edges: np.ndarray) -> np.ndarray:
    """As PyMaxflow's documentation has it for grids; an infinite cost is larger than all the others together."""
    h, w = foreground_cost.shape
    graph = pymaxflow.Graph[float](h * w, 2 * h * w)
    nodes = graph.add_grid_nodes((h, w))
    pads = [((0, 0), (0, 1)), ((0, 1), (0, 0)), ((0, 1), (0, 1)), ((0, 1), (1, 0))]
    for weight, place, pad in zip(edges, [(1, 2), (2, 1), (2, 2), (2, 0)], pads, strict=False):
        structure = np.zeros((3, 3))
        structure[place] = 1
        graph.add_grid_edges(nodes, np.pad(weight, pad), structure=structure, symmetric=True)
    finite = sum(cost[np.isfinite(cost)].sum() for cost in (foreground_cost, background_cost))
    large = 1 + finite + 2 * sum(weight.sum() for weight in edges)
    graph.add_grid_tedges(nodes, *(np.minimum(cost, large) for cost in (background_cost, foreground_cost)))
    graph.maxflow()
    segments: np.ndarray = graph.get_grid_segments(nodes)
    return ~segments


def simonyan(classifier: Classifier, photograph: np.ndarray, labels: list[str]) -> np.ndarray:
    classifier = classifier.at(448)
    x = classifier.prepare([photograph])
    gradient = captum.attr.Saliency(lambda x: classifier.model(x).sigmoid())
    colour = images.resize(photograph, (448, 448)).astype(np.float64)
    right = 1 / (1 + ((colour[:, 1:] - colour[:, :-1]) ** 2).sum(2))
    down = 1 / (1 + ((colour[1:] - colour[:-1]) ** 2).sum(2))
    masks = []
    for label in labels:
        attributed = gradient.attribute(x.clone().requires_grad_(), target=classifier.index(label), abs=True)
        saliency = attributed.amax(1)[0].numpy()
        high, low = np.percentile(saliency, (95, 30))
        costs = np.where(saliency < low, np.inf, 0.0), np.where(saliency > high, np.inf, 0.0)
        masks.append(images.resize_mask(pymaxflow_cut(*costs, right, down), photograph.shape[:2]))
    return np.stack(masks)


def default(classifier: Classifier, photograph: np.ndarray, labels: list[str]) -> np.ndarray:
    model, own, grid = classifier.model, classifier.size, 40
    x = classifier.at(classifier.scaled(8 / 3)).prepare([photograph])
    activation, places = captum.attr.LayerActivation(model, model.bn2), places_of(model)
    indices = [classifier.index(label) for label in labels]
    totals = torch.zeros(2, len(labels), *x.shape[2:])
    for scale in (1, 5 / 3, 8 / 3):
        at = F.interpolate(x, classifier.scaled(scale), mode="bilinear", antialias=True)
        with torch.no_grad():
            features = activation.attribute(at)
            logits = F.conv2d(features, places.weight[:, :, None, None], places.bias)
            weighed = F.conv2d(features, model.classifier.weight[:, :, None, None]).clamp(min=0)
            for total, maps in zip(totals, (logits.softmax(1), weighed), strict=True):
                total += captum.attr.LayerAttribution.interpolate(maps[:, indices], x.shape[2:], "bilinear")[0]
    at = F.interpolate(x, classifier.scaled(5 / 3), mode="bilinear", antialias=True)
    levels: list[torch.Tensor] = []
    modules = model.blocks[3][0].bn1, model.blocks[5][0].bn1, model.bn2
    hooks = [module.register_forward_hook(lambda _, __, result: levels.append(result)) for module in modules]
    with torch.no_grad():
        model(at)
    for hook in hooks:
        hook.remove()
    cosine = torch.zeros(grid * grid, grid * grid)
    for level in levels:
        fine = level.shape[2] > grid
        small = F.adaptive_avg_pool2d(level, grid) if fine else F.interpolate(level, (grid, grid), mode="bilinear")
        features = F.normalize(small[0].flatten(1), dim=0)
        cosine += features.T @ features / len(levels)
    walk = cosine.clamp(min=0) ** 12
    walk = walk / walk.sum(1, keepdim=True)
    means = []
    for total in totals:
        maps = F.adaptive_avg_pool2d(rivals(total), grid)
        for number, steps in enumerate((8, 4)):
            maps = rivals(maps) if number else maps
            flat = maps.flatten(1)
            for _ in range(steps):
                flat = flat @ walk.T
            maps = flat.view(maps.shape)
        maps = F.interpolate((maps - maps.amin((1, 2), keepdim=True))[:, None], x.shape[2:], mode="bilinear")
        means.append(maps / maps.amax((2, 3), keepdim=True))
    large = sum(means) / len(means)
    saliency = F.interpolate(large, own, mode="area")[:, 0].numpy()
    rule = RECIPES["default"].seeds
    # Mixtures fitted to weighted pixels are in neither library: the unaries are gradcut's own.
    odds, inside, outside, edges = ColourCut().energy(photograph, saliency, [rule(one) for one in saliency])
    masks = []
    for odd, hard, soft in zip(odds, inside, outside, strict=True):
        costs = np.where(soft, np.inf, np.maximum(-odd, 0)), np.where(hard, np.inf, np.maximum(odd, 0))
        masks.append(images.resize_mask(pymaxflow_cut(*costs, *edges), photograph.shape[:2]))
    return np.stack(masks)


def rivals(maps: torch.Tensor) -> torch.Tensor:
    relative = maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-30)
    return relative * relative / relative.amax(0).clamp(min=1e-30)


def iou(masks: np.ndarray, others: np.ndarray) -> list[float]:
    return [evaluation.iou(mask, other) or 0.0 for mask, other in zip(masks, others, strict=True)]


def plain(classifier: Classifier) -> Classifier:
    """`coco80` on its network as timm makes it, batch norms and all."""
    model = lite_network(2, "lite2")
    model.classifier = classifier.model.classifier
    return replace(classifier, model=model)


STAGES = ("prepare", "saliency", "seeds", "masks")
GLUED: dict[str, Glue] = {"simonyan": simonyan, "default": default}
#: Up to the cut: what `default` does to masks afterwards is in neither library.
RECIPE = {"simonyan": RECIPES["simonyan"], "default": replace(RECIPES["default"], masks=ColourCut())}
#: Those that take turns, and those that are asked once, in float64.
TIMED, EXACT = ("gradcut", "glue", "glue, folded"), ("glue, exact",)


class Answer(NamedTuple):
    seconds: float
    masks: np.ndarray
    stages: dict[str, float]


def answer(side: str, connection: Connection) -> None:
    """In a process of its own: segment what is asked for, as long as somebody asks."""
    torch.set_num_threads(1)
    classifier = load_classifier("coco80")
    if side in ("glue", "glue, exact"):
        classifier = plain(classifier)
    if side == "glue, exact":
        classifier = replace(classifier, model=copy.deepcopy(classifier.model).double())
    segmenters = {name: Segmenter(classifier, recipe) for name, recipe in RECIPE.items()}
    while True:
        try:
            name, photograph, labels = connection.recv()
        except EOFError:  # whoever asked has ended
            return
        started, stages = time.process_time(), {}
        if side == "gradcut":
            result = segmenters[name](photograph, labels)
            masks, stages = np.stack([result[label].mask for label in labels]), result.seconds
        else:
            masks = GLUED[name](classifier, photograph, labels)
        connection.send(Answer(time.process_time() - started, masks, stages))


class Side:
    """A contender, in a process of its own, as its users run it: PyTorch's settings are a process's."""

    def __init__(self, name: str) -> None:
        # What gradcut asks PyTorch for when it is imported, the glue has to do without.
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1" if name == "gradcut" else "0"
        self._connection, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        context.Process(target=answer, args=(name, other), daemon=True).start()

    def __call__(self, recipe: str, photograph: np.ndarray, labels: list[str]) -> Answer:
        self._connection.send((recipe, photograph, labels))
        received: Answer = self._connection.recv()
        return received


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("images", "annotations"):
        parser.add_argument(f"--{option}", required=True, type=Path)
    parser.add_argument("--photographs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", choices=GLUED, default=list(GLUED))
    parser.add_argument("--output", "-o", required=True, type=Path)
    options = parser.parse_args()
    sides = {name: Side(name) for name in (*TIMED, *EXACT)}
    busy = [sample for sample in datasets.coco(options.images, options.annotations) if len(sample.masks) >= 3]
    samples = busy[:: max(1, len(busy) // options.photographs)][: options.photographs]
    record: dict[str, dict] = {}
    table = Table(
        "recipe", *(f"{side}, s" for side in TIMED), "glue / gradcut", "folded",
        "agreement", "gradcut, exact", "glue, exact", *STAGES,
        title=f"{len(samples)} photographs, three classes each, one thread, {options.rounds} rounds",
    )  # fmt: skip
    for name in options.recipes:
        rows = []
        for sample in samples:
            labels = sorted(sample.masks)[:3]
            first = {side: ask(name, sample.image, labels).masks for side, ask in sides.items()}  # warms up
            turns = [{side: sides[side](name, sample.image, labels) for side in TIMED} for _ in range(options.rounds)]
            exact = first["glue, exact"]
            rows.append({
                "photograph": sample.name, "labels": labels, "agreement": iou(first["gradcut"], first["glue"]),
                "exact": {side: iou(first[side], exact) for side in ("gradcut", "glue")},
                **{side: min(turn[side].seconds for turn in turns) for side in TIMED},
                "stages": {stage: min(turn["gradcut"].stages[stage] for turn in turns) for stage in STAGES},
            })  # fmt: skip
        ratios = {side: float(np.median([row[side] / row["gradcut"] for row in rows])) for side in TIMED[1:]}
        shares = {
            stage: float(np.mean([row["stages"][stage] / sum(row["stages"].values()) for row in rows]))
            for stage in STAGES
        }
        record[name] = {"ratios": ratios, "shares": shares, "rows": rows}
        seconds = [float(np.median([row[side] for row in rows])) for side in TIMED]
        agreed = [
            float(np.mean(ious))
            for ious in (
                [row["agreement"] for row in rows],
                *([row["exact"][side] for row in rows] for side in ("gradcut", "glue")),
            )
        ]
        table.add_row(
            name, *(f"{value:.2f}" for value in (*seconds, *ratios.values())), *(f"{value:.4f}" for value in agreed),
            *(f"{share:.0%}" for share in shares.values()),
        )  # fmt: skip
        options.output.write_text(json.dumps(record, indent=1), encoding="utf-8")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

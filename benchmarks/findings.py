"""The student project's four findings, measured: docs/findings.md holds what this printed.

    python benchmarks/findings.py --images IMAGES --annotations instances.json --folds FOLDS -o findings

FOLDS is what `gradcut fit --folds` wrote: each photograph goes through the head that was fitted without it, and is
asked for the classes that are there. The output folder gets `rows.jsonl`, one row a photograph and recipe as
`gradcut evaluate` writes them, with the holes of every mask; a script that was stopped goes on from there.
`findings.json` and the tables come from these rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Heads, parser, progress
from scipy import ndimage

from gradcut import RECIPES, Segmenter, datasets, evaluation
from gradcut.evaluation import summary
from gradcut.evaluation.bootstrap import Bootstrap, Figure
from gradcut.evaluation.scoring import Row
from gradcut.saliency import Gradient, View, input_gradient

#: The gradient's absolute value and its sign, guided backpropagation, and the expansion instead of the cut.
NAMES = ("simonyan", "guided", "signed", "expansion", *evaluation.BASELINES)


class BothSigns:
    """One gradient, two maps: the absolute value as the recipe `simonyan` has it, and the same with its sign."""

    signed: np.ndarray

    def __call__(self, classifier: Any, x: torch.Tensor, targets: Any) -> torch.Tensor:
        gradient = input_gradient(View(classifier, x), targets, of="probability")
        largest = gradient.amax(1)
        self.signed = (largest - largest.amin((1, 2), keepdim=True)).numpy()
        return gradient.abs().amax(1)


def holes(mask: np.ndarray) -> dict[str, float]:
    """How many background parts a mask encloses, and their share of the mask with its holes filled."""
    filled = ndimage.binary_fill_holes(mask)
    inside = filled & ~mask
    return {"number": int(ndimage.label(inside)[1]), "share": float(inside.sum() / max(1, filled.sum()))}


def rows_of(name: str, sample: datasets.Sample, head: Any, labels: tuple[str, ...], check: bool) -> list[Row]:
    """All recipes on one photograph; three of them share one gradient."""
    gradient, asked = BothSigns(), sorted(sample.masks)
    simonyan = Segmenter(head, replace(RECIPES["simonyan"], saliency=gradient))
    (absolute,) = simonyan.explain([sample.image], asked)
    if check:  # the shortcut gives what the steps themselves give
        for signed, maps in ((False, absolute.saliency), (True, gradient.signed)):
            step = replace(RECIPES["simonyan"], saliency=Gradient(of="probability", signed=signed))
            (reference,) = Segmenter(head, step).explain([sample.image], asked)
            assert np.allclose(reference.saliency, maps, atol=1e-6 * maps.max())
    results = {
        "simonyan": simonyan.cut(absolute),
        "guided": Segmenter(head, "guided")(sample.image, asked),
        "signed": simonyan.cut(replace(absolute, saliency=gradient.signed)),
        "expansion": Segmenter(head, "expansion").cut(absolute),
    } | {name: baseline(sample.image, asked) for name, baseline in evaluation.BASELINES.items()}
    rows = []
    for recipe, result in results.items():
        row = {"photograph": name, "recipe": recipe, **evaluation.score(result, sample, labels)}
        for item in result.objects:
            if recipe not in evaluation.BASELINES and item.label in row["classes"]:
                row["classes"][item.label]["holes"] = holes(item.mask)
        rows.append(row)
    return rows


def measure(dataset: datasets.Dataset, folder: Path, path: Path) -> list[Row]:
    """The rows in ``path``, and those that it lacks."""
    heads = Heads(folder)
    recipes = {name: RECIPES[name].record() for name in NAMES if name in RECIPES}
    rows = evaluation.resume(path, {"heads": [head.fingerprint for head in heads.all], "recipes": recipes})
    complete = {row["photograph"] for row in rows if row["recipe"] == NAMES[-1]}
    rows = [row for row in rows if row["photograph"] in complete]
    path.write_text("".join(map(evaluation.line, rows)), encoding="utf-8")
    for number, name in enumerate(dataset.names):
        if name in complete:
            continue
        more = rows_of(name, dataset[number], heads(name), dataset.labels or (), check=not rows)
        rows += more
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(map(evaluation.line, more)))
        progress(number, len(dataset))
    return rows


def mean(rows: list[Row], values: Callable[[Row], list[float]]) -> Figure:
    """Mean of all values with its bootstrap interval over photographs."""
    return Bootstrap().mean([values(row) for row in rows])


def values_of_holes(key: str, row: Row) -> list[float]:
    return [entry["holes"][key] for entry in row["classes"].values() if "holes" in entry]


def union(row: Row) -> list[float]:
    value = evaluation.Counts(*row["union"]).iou
    return [] if value is None else [value]


def group(row: Row) -> str:
    """What the photograph holds: by its true objects, all classes together."""
    true = [entry for entry in row["classes"].values() if entry["true"]]
    number, largest = sum(entry["instances"] for entry in true), max((entry["largest"] for entry in true), default=0.0)
    if number == 1 and largest >= 0.2:
        return "one object, above 20 %"
    if number >= 5 and largest < 0.03:
        return "five or more, each below 3 %"
    if number == 1:
        return "one object, smaller"
    return "several, the largest above 20 %" if largest >= 0.2 else "several, the largest up to 20 %"


def shown(figure: Figure, sign: str = "") -> str:
    if figure["value"] is None:
        return ""
    low, high = figure["interval"]
    return f"{figure['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def main() -> None:
    options = parser(__doc__).parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    rows = measure(datasets.coco(options.images, options.annotations), options.folds, options.output / "rows.jsonl")
    figures = summary.summarise(rows)
    recipes = figures["recipes"]
    differences = {tuple(entry["recipes"]): entry for entry in figures["differences"]}
    record: dict[str, Any] = {"recipes": recipes, "differences": figures["differences"]}

    print("| recipe | class IoU | union IoU | pointing | energy inside |\n| --- | --- | --- | --- | --- |")
    for name in NAMES:
        keys = ("class_iou", "union_iou", "pointing", "energy")
        cells = (shown(recipes[name][key]) for key in keys)
        print(f"| `{name}` | {' | '.join(cells)} |")

    print("\n| difference | class IoU | union IoU |\n| --- | --- | --- |")
    for one, other in (("simonyan", "guided"), ("simonyan", "signed"), ("simonyan", "expansion"), ("simonyan", "box")):
        pair = (one, other) if (one, other) in differences else (other, one)
        cells = (shown(differences[pair][key], "+") for key in ("class_iou", "union_iou"))
        print(f"| `{pair[0]}` - `{pair[1]}` | {' | '.join(cells)} |")

    print("\n| holes | share of the filled mask | number a mask |\n| --- | --- | --- |")
    for recipe in ("simonyan", "signed"):
        mine = [row for row in rows if row["recipe"] == recipe]
        by = {key: mean(mine, partial(values_of_holes, key)) for key in ("share", "number")}
        record[f"holes, {recipe}"] = by
        low, high = by["number"]["interval"]
        print(f"| `{recipe}` | {shown(by['share'])} | {by['number']['value']:.0f} ({low:.0f} to {high:.0f}) |")
    pairs = [[row for row in rows if row["recipe"] == recipe] for recipe in ("signed", "simonyan")]
    more = [
        {"more": np.subtract(*(values_of_holes("share", row) for row in pair)).tolist()}
        for pair in zip(*pairs, strict=True)
    ]
    record["holes, signed - simonyan"] = mean(more, lambda row: row["more"])
    print(f"| `signed` - `simonyan` | {shown(record['holes, signed - simonyan'], '+')} | |")
    empty = {
        name: mean(
            [row for row in rows if row["recipe"] == name],
            lambda row: [float(sum(c["counts"][:2]) == 0) for c in row["classes"].values()],
        )
        for name in ("simonyan", "expansion")
    }
    record["empty"] = empty
    print("\nempty masks: " + ", ".join(f"`{name}` {shown(share)}" for name, share in empty.items()))

    groups = sorted({group(row) for row in rows})
    names = ("simonyan", "guided", "expansion", *evaluation.BASELINES)
    print(f"\n| union IoU | n | {' | '.join(f'`{n}`' for n in names)} |\n| --- |{' --- |' * (len(names) + 1)}")
    for label in groups:
        by = {n: mean([r for r in rows if r["recipe"] == n and group(r) == label], union) for n in names}
        record[f"union IoU, {label}"] = by
        print(f"| {label} | {by['simonyan']['n']} | {' | '.join(shown(by[n]) for n in names)} |")
    for key, title in (("by_size", "largest object"), ("by_number", "objects")):
        print(f"\n| class IoU by {title} | n | {' | '.join(f'`{n}`' for n in names)} |")
        print(f"| --- |{' --- |' * (len(names) + 1)}")
        for label in recipes["simonyan"][key]:
            cells = (shown(recipes[n][key][label]["class_iou"]) for n in names)
            print(f"| {label} | {recipes['simonyan'][key][label]['class_iou']['n']} | {' | '.join(cells)} |")
    (options.output / "findings.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

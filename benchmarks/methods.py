"""All saliency methods by what the network says of their maps, and by the truth, in one run: see docs/findings.md.

    python benchmarks/methods.py -o methods.jsonl coco --images val2017/ --annotations instances.json
    python benchmarks/methods.py -o methods.jsonl photographs --images photographs/ --classes classes.csv
    python benchmarks/methods.py -o methods.jsonl

The first judges ``coco80`` by one class a photograph, the largest true one that the classifier knows; the second
``embedded`` by the class that a table has for each photograph (columns file and imagenet_index), without a truth about
pixels. Each photograph goes through all methods before the next does, and a line a photograph and method is written at
once: a script that was stopped goes on there. The third only prints what the lines say, on the photographs that all
methods have; a method that cannot explain the classifier is named below the table and asked once only.

Budgets: deletion and insertion in 10 steps, ROAD at 4 shares each way, RISE of 500 masks, SmoothGrad and the like as
they are by default; KernelSHAP, RISE and ScoreCAM, of hundreds of passes, on the first ``--costly``
photographs alone. The maps and all measures of the network are made at ``--size``, masks by the recipe ``default`` but
for its saliency. Two maps that look at nothing stand beside the methods: ``(centre)``, the nearness to the photograph's
middle, and ``(noise)``.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import Tensor

from gradcut import Classifier, Segmenter, datasets, evaluation, images, load_classifier
from gradcut.datasets import Sample
from gradcut.errors import GradcutError
from gradcut.evaluation.bootstrap import Bootstrap
from gradcut.evaluation.faithfulness import Faithfulness
from gradcut.recipes import METHODS, as_recipe, with_saliency
from gradcut.saliency import RISE, Targets, resolve

COSTLY = ("ScoreCAM", "RISE", "KernelSHAP")
MEASURES = ("deletion", "insertion", "drop", "increase", "road", "sparseness")
#: What the table shows, and whether more is better.
COLUMNS = {
    "deletion": -1, "insertion": 1, "drop": -1, "increase": 1, "road": 1, "sparseness": 0, "pointing": 1, "energy": 1,
    "iou": 1,
}  # fmt: skip


def centre(classifier: Classifier, x: Tensor, targets: Targets) -> Tensor:
    """The nearness to the middle, whatever the photograph."""
    n = len(resolve(targets, classifier.logits(x)))
    rows, columns = (torch.linspace(-1, 1, side) for side in x.shape[2:])
    return (2 - rows[:, None] ** 2 - columns**2).expand(n, -1, -1).contiguous()


def noise(classifier: Classifier, x: Tensor, targets: Targets) -> Tensor:
    """Smooth noise, the same for every photograph."""
    n = len(resolve(targets, classifier.logits(x)))
    drawn = gaussian_filter(np.random.default_rng(0).normal(size=x.shape[2:]), x.shape[2] / 16)
    return torch.from_numpy(drawn - drawn.min()).float().expand(n, -1, -1).contiguous()


def segmenters(classifier: Classifier) -> dict[str, Segmenter]:
    """By the method's name; one that does not suit the classifier says so when it is asked."""
    recipe = as_recipe("default")
    steps = {name: with_saliency(recipe, name) for name in METHODS}
    steps["RISE"] = replace(steps["RISE"], saliency=RISE(masks=500))
    steps |= {"(centre)": replace(recipe, saliency=centre), "(noise)": replace(recipe, saliency=noise)}
    steps["(recipe default)"] = recipe
    made = {}
    for name, step in steps.items():
        try:
            made[name] = Segmenter(classifier, step)
        except GradcutError as error:
            print(f"{name}: {error}", file=sys.stderr)
    return made


def measured(segmenter: Segmenter, sample: Sample, label: str, faithfulness: Faithfulness) -> dict:
    started = time.process_time()
    (evidence,) = segmenter.explain([sample.image], [label])
    explained = time.process_time()
    classifier, map = segmenter.classifier, evidence.saliency[0]
    x = classifier.prepare([sample.image])
    (row,) = faithfulness(classifier, segmenter.recipe.saliency, x, [evidence.found[0].members], [map])
    row |= {"score": evidence.found[0].score, "seconds": round(explained - started, 3)}
    if label in sample.masks:
        large, truth = images.resize_map(map, sample.image.shape[:2]), sample.masks[label]
        mask = segmenter.cut(evidence).objects[0].mask
        row["pointing"] = evaluation.pointing(large, truth, sample.ignore)
        row["energy"] = evaluation.energy_inside(large, truth, sample.ignore)
        row["iou"] = evaluation.iou(mask, truth, sample.ignore)
    return row


def of_coco(options: argparse.Namespace, classifier: Classifier) -> Iterator[tuple[Sample, str]]:
    """Each photograph with the largest true class that covers a pixel outside crowds and that the classifier knows."""
    for sample in datasets.coco(options.images, options.annotations):
        sizes = {
            label: np.count_nonzero(mask & ~sample.ignore)
            for label, mask in sample.masks.items()
            if label in classifier.labels and label not in sample.doubtful
        }
        if sizes and max(sizes.values()):
            yield sample, max(sizes, key=sizes.__getitem__)


def of_table(options: argparse.Namespace, classifier: Classifier) -> Iterator[tuple[Sample, str]]:
    """Each photograph that a table names, with its class; without a truth."""
    with options.classes.open(encoding="utf-8", newline="") as file:
        lines = [(line["file"], int(line["imagenet_index"])) for line in csv.DictReader(file)]
    for name, index in lines:
        image = images.read(options.images / name)
        yield Sample(name, image, {}, np.zeros(image.shape[:2], dtype=bool)), classifier.labels[index]


def run(options: argparse.Namespace) -> None:
    classifier = load_classifier("coco80" if options.kind == "coco" else "embedded")
    classifier = classifier.at(options.size or classifier.size)
    samples = of_coco(options, classifier) if options.kind == "coco" else of_table(options, classifier)
    ours, faithfulness = segmenters(classifier), Faithfulness(MEASURES)
    rows = read(options.output)
    known = {(row["photograph"], row["method"]) for row in rows}
    unsuited = {row["method"] for row in rows if "error" in row}
    for number, (sample, label) in enumerate(samples):
        if number == options.limit:
            break
        for name, segmenter in ours.items():
            costly = name in COSTLY and number >= options.costly
            if costly or name in unsuited or (sample.name, name) in known:
                continue
            row = {"photograph": sample.name, "class": label, "method": name, "size": list(classifier.size)}
            try:
                row |= measured(segmenter, sample, label, faithfulness)
            except GradcutError as error:
                row["error"] = str(error)
                unsuited.add(name)
            with options.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{number + 1} of {options.limit} at most", file=sys.stderr, flush=True)


def read(path: Path) -> list[dict]:
    """The lines of a file; a last one that was cut off is left out, in the file too."""
    text = path.read_text("utf-8") if path.exists() else ""
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def tables(rows: list[dict]) -> str:
    """Of all methods but the costly ones, of all on the fewer photographs that these have, and how measures agree."""
    failed = {row["method"]: row["error"].split(";")[0] for row in rows if "error" in row}
    of: dict[str, dict[str, dict]] = {}
    for row in rows:
        if row["method"] not in failed:
            of.setdefault(row["method"], {})[row["photograph"]] = row
    most = {name: by for name, by in of.items() if name not in COSTLY}
    parts = [table(most)] + [table(of)] * (len(of) > len(most)) + [agreement(most)]
    return "\n\n".join(parts + [f"{name}: {reason}" for name, reason in failed.items()])


def figures(of: dict[str, dict[str, dict]]) -> tuple[dict[str, dict], list[str], int]:
    """By method and measure, on the photographs that all methods have; the measures; how many photographs."""
    common = sorted(set.intersection(*map(set, of.values())))
    columns = [key for key in COLUMNS if any(key in row for by in of.values() for row in by.values())]
    draw, made = Bootstrap(), {}
    for name, by in of.items():
        chosen = [by[photograph] for photograph in common]
        values = {key: [[float(row[key])] if row.get(key) is not None else [] for row in chosen] for key in columns}
        made[name] = {key: draw.mean(several) for key, several in values.items()}
        made[name]["seconds"] = float(np.mean([row["seconds"] for row in chosen]))
    return made, columns, len(common)


def table(of: dict[str, dict[str, dict]]) -> str:
    """Methods in the order of their insertion: means with intervals over photographs; the best of a column is bold."""
    made, columns, n = figures(of)
    best = {
        key: max(made, key=lambda name, key=key: COLUMNS[key] * made[name][key]["value"])
        for key in columns
        if COLUMNS[key]
    }
    lines = [f"{n} photographs\n", f"| method | {' | '.join(columns)} | seconds |"]
    lines.append(f"| --- |{' --- |' * (len(columns) + 1)}")
    for name in sorted(made, key=lambda name: -made[name]["insertion"]["value"]):
        cells = [shown(made[name][key], best.get(key) == name) for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} | {made[name]['seconds']:.2f} |")
    return "\n".join(lines)


def agreement(of: dict[str, dict[str, dict]]) -> str:
    """Rank correlation over the methods of every two measures' means, with the better first in both."""
    made, columns, _ = figures(of)
    judged = [key for key in columns if COLUMNS[key]]
    means = {key: [COLUMNS[key] * made[name][key]["value"] for name in made] for key in judged}
    lines = [f"| order of methods | {' | '.join(judged)} |", f"| --- |{' --- |' * len(judged)}"]
    for key in judged:
        cells = [f"{spearmanr(means[key], means[other]).statistic:+.2f}" for other in judged]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(figure: dict, bold: bool) -> str:
    if figure["value"] is None:
        return ""
    value, interval = f"{figure['value']:.3f}", figure["interval"]
    between = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return (f"**{value}**" if bold else value) + between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", "-o", required=True, type=Path, help="JSON lines")
    parser.add_argument("--limit", type=int, default=200, help="photographs")
    parser.add_argument("--costly", type=int, default=20, help=f"photographs of {', '.join(COSTLY)}")
    parser.add_argument("--size", type=int, help="of the classifier's input; its own by default")
    kinds = parser.add_subparsers(dest="kind")
    coco = kinds.add_parser("coco")
    coco.add_argument("--images", required=True, type=Path)
    coco.add_argument("--annotations", required=True, type=Path)
    photographs = kinds.add_parser("photographs")
    photographs.add_argument("--images", required=True, type=Path)
    photographs.add_argument("--classes", required=True, type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.kind is not None:
        run(options)
    print(tables(read(options.output)))


if __name__ == "__main__":
    main()

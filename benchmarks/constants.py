"""The constants of `default` by cross-validation: docs/masks.md holds what this printed.

    python benchmarks/constants.py --images IMAGES --annotations instances.json --folds FOLDS --every 2 -o constants

FOLDS is what `gradcut fit --folds` wrote: each photograph goes through the head that was fitted without it, and is
asked for the classes that are there. Every candidate changes the walk's power or steps, or the cut's middle,
smoothness or slope. The candidate with the best sum of class IoU and union IoU on four folds is judged on the fifth,
and so for each fold: what that reaches is what choosing by the truth brings on photographs that took no part, and
beside it stands what the constants reach that `default` has. The output folder gets `rows.jsonl`, from which a stopped
script goes on, and `constants.json`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import Heads, parser, rows_of, scores, values_of
from rich.console import Console
from rich.table import Table

from gradcut import RECIPES, Classifier, Segmenter, datasets
from gradcut.evaluation.bootstrap import Bootstrap
from gradcut.masks import ColourCut
from gradcut.saliency import Features, Mean, Saliency, Target, scales_of
from gradcut.saliency.targets import Remembered

DEFAULT = RECIPES["default"]
WALKS = {
    f"power {power:g}, steps {steps}": {"over": Features(power=power), "steps": steps}
    for power, steps in ((12.0, (8, 4)), (10.0, (8, 4)), (16.0, (8, 4)), (12.0, (4, 4)), (12.0, (12, 6)), (12.0, (8,)))
}
CUTS = {
    **{f"middle {middle:g}": ColourCut(middle=middle) for middle in (0.35, 0.4, 0.45, 0.5, 0.55)},
    **{f"smoothness {smoothness:g}": ColourCut(smoothness=smoothness) for smoothness in (2.0, 4.0)},
    **{f"slope {slope:g}": ColourCut(slope=slope) for slope in (4.0, 8.0)},
}
FIXED = "power 12, steps (8, 4); middle 0.45"


class Once:
    """A saliency method whose maps are made once for a photograph, and given again for each walk over them."""

    def __init__(self, method: Saliency) -> None:
        self.method, self.maps, self.logits = method, None, None
        self.scales = scales_of(method)

    def __call__(self, classifier: Classifier, x: torch.Tensor, targets: Remembered) -> torch.Tensor:
        def asked(logits: torch.Tensor) -> list[Target]:
            self.logits = logits
            return targets(logits)

        if self.maps is None:
            self.maps = self.method(classifier, x, asked)
        else:
            targets(self.logits)
        return self.maps


def measured(head: Classifier, sample: datasets.Sample) -> dict[str, dict]:
    """Scores of every candidate."""
    labels = sorted(sample.masks)
    once = [(walk, Once(walk.method)) for walk in DEFAULT.saliency.methods]
    row = {}
    for walk, options in WALKS.items():
        saliency = Mean([replace(own, method=maps, **options) for own, maps in once])
        segmenter = Segmenter(head, replace(DEFAULT, saliency=saliency))
        (evidence,) = segmenter.explain([sample.image], labels)
        seeds = [segmenter.recipe.seeds(maps) for maps in evidence.saliency]
        for name, cut in CUTS.items():
            if walk == next(iter(WALKS)) or name.startswith("middle"):
                row[f"{walk}; {name}"] = scores(cut(sample.image, evidence.saliency, seeds), sample)
    return row


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--every", type=int, default=1, help="every so many photographs")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    heads = Heads(options.folds)

    def measure(name: str, sample: datasets.Sample) -> dict:
        return {"fold": heads.fold(name), "candidates": measured(heads(name), sample)} if sample.masks else {}

    dataset = datasets.coco(options.images, options.annotations)[:: options.every]
    rows = [row for row in rows_of(dataset, options.output / "rows.jsonl", measure) if "candidates" in row]
    summarise(rows, options.output / "constants.json")


def summarise(rows: list[dict], path: Path) -> None:
    def figures(part: list[dict]) -> tuple[float, float]:
        return tuple(Bootstrap(0).mean(values_of(part, key))["value"] for key in ("classes", "union"))

    of = {name: [row["candidates"][name] for row in rows] for name in rows[0]["candidates"]}
    fold = np.array([row["fold"] for row in rows])
    chosen, judged = {}, [None] * len(rows)
    for left_out in sorted(set(fold.tolist())):
        best = max(of, key=lambda name: sum(figures([of[name][n] for n in np.flatnonzero(fold != left_out)])))
        chosen[left_out] = best
        for n in np.flatnonzero(fold == left_out):
            judged[n] = of[best][n]
    table = Table("constants", "class IoU", "union IoU", title=f"{len(rows)} photographs")
    record = {"photographs": len(rows), "chosen": chosen, "candidates": {}}
    for name, part in {"chosen by the other folds": judged, **of}.items():
        record["candidates"][name] = classes, union = figures(part)
        table.add_row(f"{name}{' (default)' * (name == FIXED)}", f"{classes:.3f}", f"{union:.3f}")
    Console(width=100).print(table)
    for left_out, best in chosen.items():
        print(f"fold {left_out}: {best}")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

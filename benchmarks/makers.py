"""Every mask maker on the same saliency maps: docs/masks.md holds what this printed.

    python benchmarks/makers.py --images IMAGES --annotations instances.json --folds FOLDS --every 3 -o makers

FOLDS is what `gradcut fit --folds` wrote: each photograph goes through the head that was fitted without it, and is
asked for the classes that are there. The output folder gets `makers.json`, and the maps of the recipe's saliency,
which a second run reads again. A maker gets the seeds that suit it, as the table says. Times are the processor's, which
other processes disturb less than the clock's, of the maker alone for all the classes of a photograph, on one thread;
the makers take turns on each photograph.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from common import Heads, between, parser, progress, scores, values_of
from rich.console import Console
from rich.table import Table

from gradcut import RECIPES, Segmenter, datasets
from gradcut.evaluation.bootstrap import Bootstrap
from gradcut.masks import (
    Cleaned,
    ColourCut,
    Expansion,
    GraphCut,
    JointCut,
    MaskMaker,
    Otsu,
    Outlined,
    RandomWalker,
    Superpixels,
    Threshold,
    Vote,
)
from gradcut.masks.contrasts import EdgeMap, Exponential
from gradcut.records import fingerprint
from gradcut.seeds import Fractions, Percentiles, SeedRule

#: The student project's; those of the cuts that have nothing but seeds; and those of the cuts with unaries.
PROJECT, WIDE, FEW = Percentiles(95, 30), Fractions(0.6, 0.15), Fractions(0.95, 0.02)

#: The first one is what the others are compared with.
MAKERS: dict[str, tuple[MaskMaker, SeedRule]] = {
    "ColourCut()": (ColourCut(), FEW),
    "ColourCut(components=0)": (ColourCut(components=0), FEW),
    "ColourCut(rounds=2)": (ColourCut(rounds=2), FEW),
    "ColourCut(contrast=EdgeMap())": (ColourCut(contrast=EdgeMap()), FEW),
    "ColourCut(neighbours=4)": (ColourCut(neighbours=4), FEW),
    "Vote of ColourCut(), grid 80, 160, 320": (Vote([ColourCut(grid=grid) for grid in (80, 160, 320)]), FEW),
    "Cleaned(ColourCut())": (Cleaned(ColourCut()), FEW),
    "Outlined(Cleaned(ColourCut()))": (Outlined(Cleaned(ColourCut())), FEW),
    "JointCut()": (JointCut(), FEW),
    "GraphCut()": (GraphCut(), PROJECT),
    "GraphCut(), wide seeds": (GraphCut(), WIDE),
    "GraphCut(Exponential())": (GraphCut(Exponential()), WIDE),
    "GraphCut(EdgeMap())": (GraphCut(EdgeMap()), WIDE),
    "GraphCut(Exponential(), neighbours=8)": (GraphCut(Exponential(), neighbours=8), WIDE),
    "Vote of GraphCut(Exponential()), grid 96, 192, 384": (
        Vote([GraphCut(Exponential(), grid=grid) for grid in (96, 192, 384)]),
        WIDE,
    ),
    "RandomWalker()": (RandomWalker(), WIDE),
    "RandomWalker(contrast=EdgeMap())": (RandomWalker(contrast=EdgeMap()), WIDE),
    "Superpixels()": (Superpixels(), FEW),
    "Superpixels(at=0.6)": (Superpixels(at=0.6), FEW),
    "Threshold()": (Threshold(), FEW),
    "Threshold(0.6)": (Threshold(0.6), FEW),
    "Otsu()": (Otsu(), FEW),
    "Expansion()": (Expansion(), FEW),
}


#: The best of these fractions for every single mask, chosen against the truth, is the ceiling of any threshold.
CEILING = "the best threshold for every mask, by the truth"
THRESHOLDS = tuple(np.linspace(0.05, 0.95, 19).round(2).tolist())


def ceiling(maps: np.ndarray, sample: datasets.Sample) -> dict[str, object]:
    """The best threshold's IoU for each class; for the union the best one threshold of the photograph."""
    scored = [scores(Threshold(at)(sample.image, maps, [None] * len(maps)), sample) for at in THRESHOLDS]
    classes = np.array([ious["classes"] for ious in scored], dtype=float)
    union = [ious["union"] for ious in scored if ious["union"] is not None]
    return {"classes": classes.max(axis=0, initial=0).tolist(), "union": max(union, default=None)}


def maps_of(path: Path, segmenter: Segmenter, sample: datasets.Sample) -> np.ndarray:
    """The saliency of the classes that are there, from the file or, the first time, from the network."""
    if not path.exists():
        (evidence,) = segmenter.explain([sample.image], sorted(sample.masks))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, evidence.saliency.astype(np.float16))
    maps: np.ndarray = np.load(path).astype(np.float32)
    return maps


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--recipe", default="default", help="whose saliency")
    arguments.add_argument("--every", type=int, default=1, help="every so many photographs")
    options = arguments.parse_args()
    torch.set_num_threads(1)

    recipe = RECIPES[options.recipe]
    heads = Heads(options.folds)
    # All of the recipe but what comes after the maps: a setting that is added later cannot be forgotten here.
    looking = {key: value for key, value in recipe.record().items() if key not in ("seeds", "masks", "sha256")}
    prints = fingerprint({"recipe": looking, "heads": [head.fingerprint for head in heads.all]})
    cache = options.output / f"maps-{prints[:12]}"

    dataset = datasets.coco(options.images, options.annotations)
    dataset = dataset[:: options.every]
    rows: dict[str, list[dict]] = {name: [] for name in (*MAKERS, CEILING)}
    for number, sample in enumerate(dataset):
        key = Path(sample.name).name
        maps = maps_of(cache / f"{Path(key).stem}.npy", Segmenter(heads(key), recipe), sample)
        rows[CEILING].append({"photograph": key, "seconds": 0.0, **ceiling(maps, sample)})
        for name, (maker, rule) in MAKERS.items():
            seeds = [rule(saliency) for saliency in maps]
            if not number:
                maker(sample.image, maps, seeds)  # compiles, and is not counted
            started = time.process_time()
            masks = maker(sample.image, maps, seeds)
            taken = time.process_time() - started
            rows[name].append({"photograph": key, "seconds": taken, **scores(masks, sample)})
        progress(number, len(dataset))

    n = len(dataset)
    bootstrap, first = Bootstrap(2000), next(iter(MAKERS))
    columns = ("maker", "seeds", "class IoU", f"less {first}", "union IoU", f"less {first}", "ms")
    table = Table(*columns, title=f"{n} photographs, saliency of {recipe.name}")
    lines = []
    for name, (maker, rule) in (*MAKERS.items(), (CEILING, ("", ""))):
        seconds = float(np.mean([row["seconds"] for row in rows[name]]))
        line = {"maker": repr(maker), "seeds": repr(rule), "ms": 1000 * seconds}
        cells = [name, repr(rule)]
        for key in ("classes", "union"):
            values, reference = values_of(rows[name], key), values_of(rows[first], key)
            value, less = bootstrap.mean(values)["value"], bootstrap.paired(values, reference)["interval"]
            line |= {key: value, f"{key} less {first}": less}
            cells += [f"{value:.3f}", "" if name == first else between(less)]
        lines.append(line)
        table.add_row(*cells, f"{line['ms']:.0f}")
    record = {"recipe": repr(recipe), "photographs": n, "makers": lines, "rows": rows}
    (options.output / "makers.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()

"""How many strokes a mask takes: simulated corrections of objects with known masks.

    python benchmarks/strokes.py --images ../shared/data/coco-dev/images \
        --annotations ../shared/data/coco-dev/annotations/instances_dev.json --folds FOLDER -o out/strokes.json

An object is a class in a photograph. Photographs are taken in an order drawn with seed 0, and of each one class, drawn
as well, among those that the classifier knows and that cover at least 1 % of the photograph. The classifier is asked
for all classes that are truly there, by the head that was fitted without the photograph; only the drawn one is
corrected. A stroke is made where the error is largest:

1. Missed pixels and pixels too many, without the truth's ignored ones, fall into connected regions (8 neighbours). The
   largest region is corrected, with a foreground stroke where pixels are missed, else with a background stroke.
2. The stroke goes through the region's innermost point: the one farthest from the region's edge (the first in reading
   order among equals). Its brush is as wide as fits there, at most 2 % of the photograph's longer side in radius,
   which is the page's own setting.
3. It is straight, in that one of 16 directions in which it can be longest while the whole brush stays inside the
   region, and ends at a tenth of the longer side from the innermost point at most.

Then `gradcut.refine` cuts again, as the page does. Beside it stands what the same strokes would bring if only the
painted pixels changed, without a new cut; there each stroke is made for the mask that is painted so far.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import Heads
from jaxtyping import Bool
from scipy import ndimage

from gradcut import RECIPES, Segmentation, Segmenter, load_classifier, refine
from gradcut.datasets import Sample, coco
from gradcut.evaluation.bootstrap import Bootstrap
from gradcut.painting import Stroke, rasterise

Mask = Bool[np.ndarray, "H W"]
SHARE, BRUSH, REACH, DIRECTIONS = 0.01, 0.02, 0.1, 16


def stroke(mask: Mask, truth: Mask, ignore: Mask) -> Stroke | None:
    """The next stroke of a patient person; None when nothing is wrong."""
    regions = []
    for kind, wrong in (("foreground", truth & ~mask & ~ignore), ("background", mask & ~truth & ~ignore)):
        numbered, _ = ndimage.label(wrong, np.ones((3, 3)))
        sizes = np.bincount(numbered.ravel())[1:]
        if len(sizes):
            regions.append((int(sizes.max()), kind, numbered == 1 + int(sizes.argmax())))
    if not regions:
        return None
    _, kind, region = max(regions, key=lambda region: region[0])
    # The photograph's border is no edge: a brush may go over it.
    depth = ndimage.distance_transform_edt(region)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    side = max(region.shape)
    # A radius of n covers pixels up to n away, so it stays inside where the nearest pixel outside is farther.
    radius = max(0.5, min(BRUSH * side, float(depth[y, x]) - 1))
    best: tuple[int, int, float] = (0, 0, 0.0)
    for angle in np.pi * np.arange(DIRECTIONS) / DIRECTIONS:
        ahead, back = (_reach(depth, x, y, angle + turn, radius, REACH * side) for turn in (0, np.pi))
        best = max(best, (ahead + back, ahead, angle))
    length, ahead, angle = best
    ends = [(x + d * np.cos(angle), y + d * np.sin(angle)) for d in (ahead - length, ahead)]
    return Stroke(kind, radius, ends)


def _reach(depth: np.ndarray, x: int, y: int, angle: float, radius: float, limit: float) -> int:
    """How many pixels the brush can go in a direction before it leaves the region."""
    steps = np.arange(1, int(limit) + 1)
    rows, columns = np.rint(y + steps * np.sin(angle)).astype(int), np.rint(x + steps * np.cos(angle)).astype(int)
    inside = (rows >= 0) & (columns >= 0) & (rows < depth.shape[0]) & (columns < depth.shape[1])
    inside[inside] = depth[rows[inside], columns[inside]] > radius
    return int(np.argmin(np.append(inside, False)))


def iou(mask: Mask, sample: Sample, label: str) -> float:
    truth, counted = sample.masks[label], ~sample.ignore
    union = ((mask | truth) & counted).sum()
    return float((mask & truth & counted).sum() / union)


def refined(result: Segmentation, label: str, one: Stroke) -> Segmentation:
    foreground, background = rasterise([one], result.image.shape[:2])
    return refine(result, {label: foreground}, {label: background})


def course(result: Segmentation, sample: Sample, label: str, strokes: int) -> dict[str, list[float]]:
    """IoU after 0, 1, ... strokes, with and without a new cut."""
    truth = sample.masks[label]

    def mask_of(result: Segmentation) -> Mask:
        return next(o.mask for o in result.objects if o.label == label)

    cut, painted = [result], [mask_of(result)]
    for _ in range(strokes):
        one = stroke(mask_of(cut[-1]), truth, sample.ignore)
        cut.append(cut[-1] if one is None else refined(cut[-1], label, one))
        one = stroke(painted[-1], truth, sample.ignore)
        if one is None:
            painted.append(painted[-1])
        else:
            foreground, background = rasterise([one], truth.shape)
            painted.append((painted[-1] | foreground) & ~background)
    return {
        "refine": [iou(mask_of(result), sample, label) for result in cut],
        "paint": [iou(mask, sample, label) for mask in painted],
    }


def drawn(samples: list[Callable[[], Sample]], known: set[str], number: int) -> Iterator[tuple[Sample, str]]:
    random = np.random.default_rng(0)
    for index in random.permutation(len(samples)):
        sample = samples[index]()
        large = sorted(label for label, mask in sample.masks.items() if label in known and mask.mean() >= SHARE)
        if large:
            yield sample, large[random.integers(len(large))]
            number -= 1
            if not number:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--folds", type=Path, help="of 'gradcut fit --folds'; without it coco80 as it comes")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="may be repeated")
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--strokes", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    heads = Heads(arguments.folds) if arguments.folds else None
    whole = None if heads else load_classifier("coco80")
    dataset = coco(arguments.images, arguments.annotations)
    known = set((whole or heads.all[0]).labels)
    chosen = list(drawn([lambda i=i: dataset[i] for i in range(len(dataset))], known, arguments.objects))
    rows = []
    for recipe in arguments.recipe or ["default"]:
        for sample, label in chosen:
            classifier = whole or heads(sample.name)
            labels = [known for known in sample.masks if known in classifier.labels]
            result = Segmenter(classifier, recipe)(sample.image, labels)
            rows.append(
                {"recipe": recipe, "photograph": sample.name, "label": label}
                | course(result, sample, label, arguments.strokes)
            )
        of = [row for row in rows if row["recipe"] == recipe]
        print(f"{recipe}: mean IoU of {len(of)} objects, 95 % interval over objects")
        print("strokes   refine                  paint only")
        for number in range(arguments.strokes + 1):
            print(f"{number:7}", *(f"  {_mean([row[way][number] for row in of])}" for way in ("refine", "paint")))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _mean(values: list[float]) -> str:
    figure = Bootstrap(2000).mean([[value] for value in values])
    low, high = figure["interval"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()

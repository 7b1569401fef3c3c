"""Two saliency methods compared on photographs with masks, with an interval for their difference.

    python examples/compare.py [IMAGES ANNOTATIONS]

Everything but the method is the same in both recipes. The difference is paired: both methods are resampled on the same
photographs, so an interval without 0 says that one is better on photographs like these. Four photographs, as without
arguments, are too few to say much; COCO's validation set is not.
"""

from __future__ import annotations

import sys

from photographs import samples

from gradcut import Recipe, Segmenter, load_classifier
from gradcut.evaluation import evaluate
from gradcut.evaluation.summary import summarise
from gradcut.masks import ColourCut
from gradcut.saliency import CAM, LayerCAM, Saliency
from gradcut.seeds import Fractions

METHODS: dict[str, Saliency] = {"CAM": CAM(), "LayerCAM": LayerCAM(layers=3)}


def main(arguments: list[str]) -> None:
    classifier = load_classifier("coco80")
    segmenters = {
        name: Segmenter(classifier, Recipe(name, "a method, seeds, a cut", method, Fractions(0.95, 0.02), ColourCut()))
        for name, method in METHODS.items()
    }
    figures = summarise(evaluate(samples(arguments), segmenters, only_known=True))
    for name in segmenters:
        recipe = figures["recipes"][name]
        print(f"{name}: class IoU {recipe['class_iou']['value']:.3f}, energy inside {recipe['energy']['value']:.3f}")
    (difference,) = (pair for pair in figures["differences"] if pair["recipes"] == list(METHODS))
    low, high = difference["class_iou"]["interval"]
    print(f"difference in class IoU: {difference['class_iou']['value']:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Pseudo-labels for training a segmentation network: a folder of photographs in, indexed PNGs of classes out.

    python examples/pseudo_labels.py OUTPUT [PHOTOGRAPH OR FOLDER ...]

In `OUTPUT/classmaps/` a number means the same class in every photograph: 0 is background, 255 is left out because the
mask is unsure there, and any other is the classifier's label of that number, less one. Killed at any moment, the same
command does the rest.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from photographs import FOLDER, OUTLINES
from PIL import Image

from gradcut import Segmenter, load_classifier, segment_folder


def main(output: str, *paths: str) -> None:
    classifier = load_classifier("coco80")
    photographs = paths or [FOLDER / name for name in OUTLINES]
    lines = segment_folder(Segmenter(classifier, "fast"), photographs, output, void=(0.25, 0.75), pictures=False)
    pixels: Counter[str] = Counter()
    names = ("background", *classifier.labels)
    for line in lines:
        if line["state"] == "failed":
            print(line["error"], file=sys.stderr)
        elif classmap := line["files"].get("classmap"):
            values, counts = np.unique(np.asarray(Image.open(f"{output}/{classmap}")), return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                pixels["unsure" if value == 255 else names[value]] += count
    for name, count in pixels.most_common():
        print(f"{name:14}{count / pixels.total():>7.1%}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])

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

from gradcut import Segmenter, images, load_classifier
from gradcut.runs.job import Job, Task, segment_all
from gradcut.runs.run import Place


def main(output: str, *paths: str) -> None:
    classifier = load_classifier("coco80")
    photographs, unusable = images.find(paths or [FOLDER / name for name in OUTLINES])
    job = Job(Segmenter(classifier, "fast"), Place(output), void=(0.25, 0.75), pictures=False)
    pixels: Counter[str] = Counter()
    names = ("background", *classifier.labels)
    for line, _ in segment_all(job, [Task(str(path), name) for path, name in photographs], workers=2):
        if line["state"] == "failed":
            unusable.append(line["error"])
        elif classmap := line["files"].get("classmap"):
            values, counts = np.unique(np.asarray(Image.open(f"{output}/{classmap}")), return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                pixels["unsure" if value == 255 else names[value]] += count
    for name, count in pixels.most_common():
        print(f"{name:14}{count / pixels.total():>7.1%}")
    for reason in unusable:
        print(reason, file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])

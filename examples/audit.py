"""An audit: does a classifier look at the object, or at what surrounds it?

    python examples/audit.py [IMAGES ANNOTATIONS]

For every class that is there: the share of its saliency that lies on the object, beside the share of the photograph
that the object takes (a map that knows nothing has the same in both); and the class's probability for the photograph,
for the object alone, and for the surroundings alone, the rest painted in the photograph's mean colour.
"""

from __future__ import annotations

import sys

import numpy as np
from photographs import samples

from gradcut import images, load_classifier
from gradcut.evaluation import energy_inside
from gradcut.saliency import GradCAM


def painted(photograph: np.ndarray, where: np.ndarray) -> np.ndarray:
    """A copy with the mean colour in a mask."""
    return np.where(where[..., None], photograph.mean((0, 1)).astype(np.uint8), photograph)


def main(arguments: list[str]) -> None:
    classifier = load_classifier("coco80")
    print(f"{'photograph':24}{'class':14}{'saliency':>9}{'area':>7}{'whole':>8}{'object':>8}{'around':>8}")
    for sample in samples(arguments):
        for label, mask in sample.masks.items():
            index = classifier.index(label)
            versions = [sample.image, painted(sample.image, ~mask), painted(sample.image, mask)]
            x = classifier.prepare(versions)
            (saliency,) = GradCAM()(classifier, x[:1], [(0, index)]).numpy()
            inside = energy_inside(images.resize_map(saliency, mask.shape), mask, sample.ignore)
            whole, alone, around = classifier.probabilities(classifier.logits(x))[:, index].tolist()
            shares = f"{'none' if inside is None else f'{inside:.0%}':>9}{mask.mean():>7.0%}"
            print(f"{sample.name:24}{label:14}{shares}{whole:>8.2f}{alone:>8.2f}{around:>8.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])

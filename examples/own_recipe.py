"""A recipe of your own: every step is a callable with the right signature, here a plain function.

python examples/own_recipe.py [PHOTOGRAPH]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from photographs import FOLDER
from scipy import ndimage
from torch import Tensor

from gradcut import Classifier, Recipe, Seeds, Segmenter, images, load_classifier
from gradcut.saliency import CAM, Targets


def softened(classifier: Classifier, x: Tensor, targets: Targets) -> Tensor:
    """Square roots of class activation maps: (b, 3, h, w) photographs and n targets in, n (h, w) maps of 0 or more out.

    ``targets`` may be a function of the logits, so hand it on once, to one method or to `gradcut.saliency.resolve`.
    """
    return CAM()(classifier, x, targets).sqrt()


def highest_and_lowest(saliency: np.ndarray) -> Seeds:
    """The highest twentieth of the pixels is surely the object, the lowest quarter surely is not."""
    order = saliency.argsort(axis=None).argsort().reshape(saliency.shape)  # ranks, so that ties do no harm
    return Seeds(order >= 0.95 * saliency.size, order < 0.25 * saliency.size)


def largest_part(photograph: np.ndarray, saliency: np.ndarray, seeds: Sequence[Seeds]) -> np.ndarray:
    """Above a third of the maximum, no seed of the background, and of that the largest connected part."""
    masks = np.zeros((len(saliency), *photograph.shape[:2]), dtype=bool)
    for mask, values, (_, background) in zip(masks, saliency, seeds, strict=True):
        parts, number = ndimage.label((values > values.max() / 3) & ~background)
        if number:
            largest = 1 + np.bincount(parts.ravel())[1:].argmax()
            mask[:] = images.resize_mask(parts == largest, photograph.shape[:2])
    return masks


def main(photograph: str) -> None:
    recipe = Recipe("largest-part", "the largest part of a softened map", softened, highest_and_lowest, largest_part)
    result = Segmenter(load_classifier("coco80"), recipe)(photograph)
    for found in result.objects:
        print(f"{found.label}: score {found.score:.2f}, {found.area} pixels, box {found.box}")
    result.save("out/")


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else str(FOLDER / "chelsea.png"))

"""The pictures in masks.md: every mask maker on the photograph of a cat that ships with scikit-image.

python docs/make_mask_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import chelsea

from gradcut import RECIPES, Segmenter, images, load_classifier, pictures
from gradcut.masks import (
    Cleaned,
    ColourCut,
    Expansion,
    GraphCut,
    JointCut,
    MaskMaker,
    Otsu,
    RandomWalker,
    Superpixels,
    Threshold,
    Vote,
)
from gradcut.masks.contrasts import EdgeMap, Exponential
from gradcut.seeds import Fractions, SeedRule

RECIPE = "fast"  # one class activation map
WIDE, FEW = Fractions(0.6, 0.15), RECIPES[RECIPE].seeds

MAKERS: dict[str, tuple[MaskMaker, SeedRule]] = {
    "graph-cut": (GraphCut(), WIDE),
    "graph-cut-exponential": (GraphCut(Exponential()), WIDE),
    "graph-cut-edge-map": (GraphCut(EdgeMap()), WIDE),
    "colour-cut": (ColourCut(), FEW),
    "colour-cut-without-colours": (ColourCut(components=0), FEW),
    "joint-cut": (JointCut(), FEW),
    "random-walker": (RandomWalker(), WIDE),
    "threshold": (Threshold(), FEW),
    "otsu": (Otsu(), FEW),
    "superpixels": (Superpixels(), FEW),
    "expansion": (Expansion(), FEW),
    "vote": (Vote([GraphCut(Exponential(), grid=grid) for grid in (32, 96, 288)]), WIDE),
    "cleaned": (Cleaned(Expansion(), crumbs=0.05), FEW),
}

SIZE = 160, 240  # of a picture, in pixels


def main() -> None:
    folder = Path(__file__).parent / "masks"
    folder.mkdir(exist_ok=True)
    photograph = chelsea()

    def save(name: str, picture: np.ndarray) -> None:
        Image.fromarray(images.resize(picture, SIZE)).save(folder / f"{name}.jpg", quality=80)

    segment = Segmenter(load_classifier("embedded"), RECIPE)
    (evidence,) = segment.explain([photograph], ["Egyptian cat", "bath towel"])
    small = images.resize(photograph, evidence.saliency.shape[1:])
    save("photograph", photograph)
    for number, name in enumerate(("saliency", "saliency-of-towel")):
        save(name, pictures.heat(evidence.saliency[number]))
    for name, rule in {"seeds-wide": WIDE, "seeds-few": FEW}.items():
        save(name, pictures.draw_seeds(small, rule(evidence.saliency[0])))
    for name, (maker, rule) in MAKERS.items():
        # The joint cut is between a cat and what it lies on; the others are of the cat alone.
        maps = evidence.saliency if name == "joint-cut" else evidence.saliency[:1]
        masks = maker(photograph, maps, [rule(one) for one in maps])
        numbers = np.arange(1, 1 + len(masks))[:, None, None]
        save(name, pictures.overlay(photograph, (masks * numbers).max(axis=0)))
        print(f"{name}: {maker}, {rule}: {masks.mean(axis=(1, 2)).round(3)} of the photograph")


if __name__ == "__main__":
    main()

"""findings.png, the picture in findings.md: the four findings on one photograph, scikit-image's cat; no truth needed.

python docs/make_findings_picture.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skimage.data import chelsea

from gradcut import RECIPES, Segmenter, images, load_classifier, pictures
from gradcut.saliency import Gradient


def main() -> None:
    classifier, photograph = load_classifier("embedded"), chelsea()
    simonyan = RECIPES["simonyan"]
    recipes = {
        "simonyan: absolute gradient, graph cut": simonyan,
        "guided backpropagation, graph cut": RECIPES["guided"],
        "gradient with its sign, graph cut": replace(simonyan, saliency=Gradient(of="probability", signed=True)),
        "expansion: absolute gradient, grown from its 50 highest pixels": RECIPES["expansion"],
    }
    rows = []
    for title, recipe in recipes.items():
        (cat,) = Segmenter(classifier, recipe)(photograph, ["Egyptian cat"]).objects
        rows.append(pictures.Row(title, cat.saliency, cat.seeds, cat.mask))
    images.write_png(Path(__file__).parent / "findings.png", pictures.strip(photograph, rows, height=150))


if __name__ == "__main__":
    main()

"""docs/findings.png: what the four findings look like on one photograph, scikit-image's cat, with no truth needed.

python examples/findings_picture.py docs/findings.png
"""

from __future__ import annotations

import sys
from dataclasses import replace

from skimage.data import chelsea

from gradcut import RECIPES, Segmenter, images, load_classifier, pictures
from gradcut.saliency import Gradient

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
    rows.append((title, cat.saliency, cat.seeds, cat.mask))
images.write_png(sys.argv[1], pictures.strip(photograph, rows, height=150))

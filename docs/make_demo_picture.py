"""demo.png, the picture in the README: the photograph of a cat that ships with scikit-image, by the default recipe.

python docs/make_demo_picture.py
"""

from __future__ import annotations

from pathlib import Path

from skimage.data import chelsea

from gradcut import Segmenter, load_classifier
from gradcut.images import write_png

if __name__ == "__main__":
    result = Segmenter(load_classifier("coco80"))(chelsea())
    write_png(Path(__file__).parent / "demo.png", result.picture())

"""Methods with options of their own side by side, which 'gradcut compare' takes as they are without options.

python examples/compare.py PHOTOGRAPH
"""

from __future__ import annotations

import sys

from gradcut import images, load_classifier
from gradcut.comparison import compare
from gradcut.saliency import GradCAM, LayerCAM, SmoothGrad

METHODS = {
    "LayerCAM": LayerCAM(),
    "LayerCAM of three layers": LayerCAM(layers=3),
    "Grad-CAM of the contrast": GradCAM(of="contrast"),
    "SmoothGrad": SmoothGrad(samples=8),
}


def main(photograph: str) -> None:
    result = compare(load_classifier("coco80"), images.read(photograph), METHODS)
    images.write_png("comparison.png", result.picture(photograph))
    print(f"comparison.png: {', '.join(found.label for found in result.classes)}")


if __name__ == "__main__":
    main(sys.argv[1])

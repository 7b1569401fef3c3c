"""The pictures in saliency.md: every method on the photograph of a cat that ships with scikit-image.

python docs/make_saliency_pictures.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage.data import chelsea

from gradcut import images, pictures, saliency
from gradcut.classifiers.sources import load_classifier
from gradcut.saliency import (
    CAM,
    Crops,
    DeconvNet,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GradientXInput,
    GuidedBackprop,
    GuidedGradCAM,
    HiResCAM,
    IntegratedGradients,
    LayerCAM,
    MultiScale,
    PlaceProbability,
    SmoothGrad,
    VarGrad,
    Walk,
)

METHODS: dict[str, saliency.Saliency] = {
    "gradient": Gradient(),
    "gradient-contrast-l2": Gradient(of="contrast", channels="l2"),
    "guided-backprop": GuidedBackprop(),
    "deconvnet": DeconvNet(),
    "gradient-x-input": GradientXInput(),
    "smoothgrad": SmoothGrad(),
    "smoothgrad-guided": SmoothGrad(GuidedBackprop()),
    "vargrad": VarGrad(),
    "integrated-gradients": IntegratedGradients(),
    "cam": CAM(),
    "grad-cam": GradCAM(),
    "grad-cam-plus-plus": GradCAMPlusPlus(),
    "layer-cam-3": LayerCAM(layers=3),
    "hires-cam": HiResCAM(),
    "guided-grad-cam": GuidedGradCAM(),
    "multi-scale-cam": MultiScale(CAM()),
    "crops": Crops(CAM()),
    "affinity": Walk(MultiScale(CAM())),
    "place-probability": PlaceProbability(),
}
PLACED = "place-probability"  # the embedded ImageNet classifier has no weights for places

SIZE = 128, 192  # of a picture, in pixels


def main() -> None:
    folder = Path(__file__).parent / "saliency"
    folder.mkdir(exist_ok=True)
    photograph = chelsea()
    cats = [(load_classifier("embedded").at(384), "Egyptian cat"), (load_classifier("coco80"), "cat")]
    Image.fromarray(images.resize(photograph, SIZE)).save(folder / "photograph.jpg", quality=80)
    for name, method in METHODS.items():
        classifier, cat = cats[name == PLACED]
        (found,) = method(classifier, classifier.prepare([photograph]), [(0, classifier.index(cat))]).numpy()
        picture = images.resize(pictures.heat(found), SIZE)
        Image.fromarray(picture).save(folder / f"{name}.jpg", quality=75)
        print(f"{name}: {method}")


if __name__ == "__main__":
    main()

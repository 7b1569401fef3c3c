"""ML-Decoder (Ridnik et al. 2021) on TResNet (Ridnik et al. 2020), from checkpoints in its authors' layout.

The body is timm's TResNet. The authors train with InplaceABN, whose scale is the absolute value of its
weight; the body here has batch norm and leaky ReLU in its place, so names and scales are translated once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.ml_decoder import TransformerDecoderLayerOptimal
from timm.models.tresnet import TResNet
from torch import Tensor, nn

from gradcut.classifiers.checkpoints import load_strictly, read_checkpoint
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import ClassifierError
from gradcut.labels import coco_ids

#: Blocks a stage, and whether the first two stages have bottleneck blocks.
LAYOUTS = {
    "tresnet_m": ([3, 4, 11, 3], False),
    "tresnet_l": ([3, 4, 23, 3], True),
    "tresnet_xl": ([3, 8, 34, 5], True),
}

#: InplaceABN's eps: the least scale that it applies.
EPS = 1e-5


def load_mldecoder(path: Path, name: str) -> Classifier:
    """The seed's classifier from a checkpoint with ``model`` and ``idx_to_class``.

    Photographs are squashed to 448 x 448, RGB in [0, 1], not normalised; sigmoid; at most 20 classes with a
    probability of at least 0.75.

    Raises:
        ClassifierError: damaged, not in this layout, or with weights that do not fit TResNet M, L or XL.
    """
    document = read_checkpoint(path)
    state, classes = document.get("model"), document.get("idx_to_class")
    if not isinstance(state, Mapping) or not isinstance(classes, Mapping):
        raise ClassifierError(
            f"{path}: expected ML-Decoder's 'model' and 'idx_to_class', got {', '.join(map(repr, document))[:120]}"
        )
    labels = _labels(classes, path)
    variant = _variant(state)
    state = {_renamed(key): value for key, value in state.items()}
    state = {key: value.abs() + EPS if key.endswith("bn.weight") else value for key, value in state.items()}
    pooling = state.get("head.decoder.duplicate_pooling")
    queries = len(pooling) if isinstance(pooling, Tensor) and pooling.ndim == 3 else len(labels)
    width = pooling.shape[1] if isinstance(pooling, Tensor) and pooling.ndim == 3 else 768
    blocks, bottlenecks = LAYOUTS[variant]
    model = TResNet(blocks, num_classes=len(labels), v2=bottlenecks)
    model.head = MLDecoder(len(labels), queries, width, model.num_features)
    load_strictly(model, state, path, f"ML-Decoder's {variant} with {len(labels)} classes")
    return Classifier(
        model.eval(), labels, size=448, mean=(0, 0, 0), std=(1, 1, 1), multilabel=True, threshold=0.75, top_k=20,
        name=name,
    )  # fmt: skip


class MLDecoder(nn.Module):
    """The head: all that the authors' checkpoints keep under ``head.decoder``."""

    def __init__(self, classes: int, queries: int, width: int, channels: int) -> None:
        super().__init__()
        self.decoder = Decoder(classes, queries, width, channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        logits: Tensor = self.decoder(x)
        return logits


class Decoder(nn.Module):
    """One query a group of classes looks at the feature map; a linear map of what it found gives their logits.

    The names of the parts are the authors', so that their checkpoints fit as they are.

    Args:
        classes: outputs.
        queries: groups; class ``i`` is in group ``i // ceil(classes / queries)``.
        width: of a query.
        channels: of the feature map.
    """

    def __init__(self, classes: int, queries: int, width: int, channels: int) -> None:
        super().__init__()
        self.embed_standart = nn.Linear(channels, width)
        self.query_embed = nn.Embedding(queries, width)
        # The layer itself, not inside nn.TransformerDecoder, which expects a layer with other attributes.
        self.layers = nn.ModuleList([TransformerDecoderLayerOptimal(width, dim_feedforward=2048)])
        self.duplicate_pooling = nn.Parameter(torch.empty(queries, width, -(-classes // queries)))
        self.duplicate_pooling_bias = nn.Parameter(torch.zeros(classes))
        nn.init.xavier_normal_(self.duplicate_pooling)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        memory = F.relu(self.embed_standart(x.flatten(2).transpose(1, 2))).transpose(0, 1)
        found = self.query_embed.weight[:, None].expand(-1, len(x), -1)
        for layer in self.layers:
            found = layer(found, memory)
        groups = torch.einsum("qbw,qwg->bqg", found, self.duplicate_pooling)
        return groups.flatten(1)[:, : len(self.duplicate_pooling_bias)] + self.duplicate_pooling_bias


def _labels(classes: Mapping[object, object], path: Path) -> tuple[str, ...]:
    """Names by index; 80 of them have to be COCO's own, whatever their order."""
    try:
        numbers = {int(str(index)): str(name) for index, name in classes.items()}
    except ValueError:
        raise ClassifierError(
            f"{path}: expected numbers as the keys of idx_to_class, got {list(classes)[:3]}"
        ) from None
    if sorted(numbers) != list(range(len(numbers))):
        raise ClassifierError(
            f"{path}: expected idx_to_class from 0 to {len(numbers) - 1}, got {sorted(numbers)[:5]}..."
        )
    labels = tuple(numbers[index] for index in range(len(numbers)))
    foreign = sorted(set(labels) - set(coco_ids()))
    if len(labels) == len(coco_ids()) and foreign:
        raise ClassifierError(f"{path}: expected COCO's 80 classes, got {', '.join(map(repr, foreign[:4]))} among them")
    return labels


def _variant(state: Mapping[str, object]) -> str:
    if not any(key.startswith("body.layer1.0.conv3") for key in state):
        return "tresnet_m"
    third = {key.split(".")[2] for key in state if key.startswith("body.layer3.")}
    return "tresnet_xl" if len(third) > 28 else "tresnet_l"


def _renamed(key: str) -> str:
    """The authors' names to timm's: the first of a pair is a convolution, the second a norm.

    A convolution that is followed by blurring has one level more: ``conv2.0.0`` and ``conv2.0.1``.
    """
    if not key.startswith("body."):
        return key
    kinds = {"0": "conv", "1": "bn"}
    key = re.sub(r"\.(conv\d+)\.(?:0\.)?([01])\.", lambda m: f".{m[1]}.{kinds[m[2]]}.", key)
    return re.sub(r"\.(downsample\.\d+)\.([01])\.", lambda m: f".{m[1]}.{kinds[m[2]]}.", key)

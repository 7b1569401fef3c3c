"""A small CLIP whose weights are a formula, photographs and texts likewise: for numbers that other code has given.

Nothing is drawn at random, so that they are the same with every version of PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradcut import Classifier
from gradcut.classifiers.words import Worded, Words

transformers = pytest.importorskip("transformers")

#: Of photographs; patches of 16 x 16 in a grid of 8 x 8.
SIDE = 128
LABELS = ("cat", "dog")
BACKGROUND = ("sky", "sea", "grass")
SCALE = 20.0


def waves(number: float, *shape: int) -> Tensor:
    """Numbers between -1 and 1 in no obvious order, another series for each number."""
    n = np.arange(np.prod(shape), dtype=np.float64)
    return torch.from_numpy(np.sin(0.618034 * n * n + 1.7 * n + number).reshape(shape)).float()


def clip() -> Any:
    """transformers' CLIP; the image tower's heads have 64 channels, as in OpenAI's."""
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 2,
              "image_size": SIDE, "patch_size": 16}  # fmt: skip
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            if name.startswith("text"):
                continue
            drawn = waves(number, *parameter.shape)
            if "position_embedding" in name:
                drawn = (drawn * 16).round() / 256  # exact in half precision, which CLIP-ES rounds it to
            elif parameter.ndim > 1:
                drawn = drawn * 2.0 / parameter[0].numel() ** 0.5
            elif "norm" in name and name.endswith("weight"):
                drawn = 1 + drawn / 4
            else:
                drawn = drawn / 8
            parameter.copy_(drawn)
        model.logit_scale.fill_(float(np.log(SCALE)))
    return model


def photographs() -> Tensor:
    """Two, as a classifier prepares them: a patch of fast waves on slow ones."""
    across = torch.arange(SIDE, dtype=torch.float64) / SIDE
    y, x = across[:, None], across[None]
    slow = torch.stack([torch.sin(2 * x + y + c) / 32 for c in range(3)])
    both = torch.stack([slow, slow.flip(2).roll(1, 0)])
    fast = waves(0.5, 3, SIDE, SIDE).double()
    both[0, :, 32:80, 40:88] += fast[:, 32:80, 40:88]
    both[1, :, 50:90, 20:60] -= fast[:, 50:90, 20:60]
    return both.float()


def texts(number: float = 3.0) -> Tensor:
    """Embeddings of length 1: the labels', then the background words'."""
    return F.normalize(waves(number, len(LABELS) + len(BACKGROUND), 32), dim=1)


def classifier(background: bool = True) -> Classifier:
    rows = texts() if background else texts()[: len(LABELS)]
    head = nn.Linear(*reversed(rows.shape), bias=False)
    with torch.no_grad():
        head.weight.copy_(rows * SCALE)
    words = Words(LABELS, background=BACKGROUND if background else ())
    model = Worded(clip(), {"interpolate_pos_encoding": True}, None, head, words).eval()
    return Classifier(model, LABELS, SIDE, multilabel=True, threshold=0.5, name="reference")

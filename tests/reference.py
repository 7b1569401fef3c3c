"""A small CLIP whose weights are a formula, photographs and texts likewise: for numbers that public code has given.

Nothing is drawn at random, so that they are the same with every version of PyTorch.

`public_code.npz` has the numbers, in float32. Each authors' code was run once, outside this project, on a CPU, with the
weights of `clip` brought into the layout of OpenAI's CLIP (queries', keys' and values' projections stacked, the last
projection transposed), on `photographs` and `texts`:

- ``maskclip``, ``clearclip``: the image tower of ClearCLIP's repository (mc-lan/ClearCLIP at ad68a404), which has both,
  MaskCLIP with the residual connections and the perceptron; ``sclip``: that of wangf3014/SCLIP at b56bd301; ``naclip``:
  that of sinahmr/NACLIP at 0cac3a65, reduced, deviation 5. The cosines of places and texts, ``b places texts``.
- ``clip-es, Grad-CAM`` and ``clip-es, refined``: linyq2117/CLIP-ES at 3893f817, the steps of its script for Pascal VOC,
  both labels asked for in each photograph, before maps are resized to it; ``b labels 8 8``, from 0 to 1.
- ``legrad``: WalBouss/LeGrad at a9edb031 with open_clip 2.23.0, its two last layers, one photograph at a time, before
  maps are resized (its patch size set to 1); ``b labels 8 8``, from 0 to 1.
- ``image``: the cosines of the photographs' own embeddings and the texts, by NACLIP's tower as it was; ``b texts``.
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
    return torch.from_numpy(np.sin(0.618034 * n * n + (1.7 + number) * n).reshape(shape)).float()


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


def texts() -> Tensor:
    """Embeddings of length 1: the labels', then the background words'.

    The number is one with which no map has its box at the photograph's lower or right edge, where CLIP-ES's public code
    leaves a row and a column out.
    """
    return F.normalize(waves(7.2062, len(LABELS) + len(BACKGROUND), 32), dim=1)


def classifier(background: bool = True) -> Classifier:
    rows = texts() if background else texts()[: len(LABELS)]
    head = nn.Linear(*reversed(rows.shape), bias=False)
    with torch.no_grad():
        head.weight.copy_(rows * SCALE)
    words = Words(LABELS, background=BACKGROUND if background else ())
    model = Worded(clip(), {"interpolate_pos_encoding": True}, None, head, words).eval()
    return Classifier(model, LABELS, SIDE, multilabel=True, threshold=0.5, name="reference")

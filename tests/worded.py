"""Small models of photographs and text with random weights, in folders as transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gradcut.classifiers.words import BACKGROUND

transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402

#: The words that the tokenizer knows.
VOCABULARY = [
    "<pad>", "<unk>", "<bos>", "<eos>", "a", "photo", "of", "the", "picture", ".", "cat", "dog", "forklift", "pallet",
    "sky", "sea", "grass", *(word for word in " ".join(BACKGROUND).split() if word not in ("sky", "sea", "grass")),
]  # fmt: skip

KINDS = ("clip", "metaclip_2", "siglip", "siglip2")

#: Of photographs; patches of 16 x 16 in a grid of 4 x 4.
SIDE = 64

_CONFIGURATIONS = {
    "clip": transformers.CLIPConfig, "metaclip_2": transformers.MetaClip2Config, "siglip": transformers.SiglipConfig,
    "siglip2": transformers.Siglip2Config,
}  # fmt: skip

_CROPPED = {"size": {"shortest_edge": SIDE}, "crop_size": SIDE}

_PROCESSORS = {
    "clip": transformers.CLIPImageProcessor(**_CROPPED),
    "metaclip_2": transformers.CLIPImageProcessor(**_CROPPED),
    "siglip": transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}),
    "siglip2": transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
}


def tokenizer(kind: str) -> Any:
    """One token a word, whatever its case but for SigLIP; for SigLIP 2, whose own kind has pieces, a letter."""
    if kind == "siglip2":
        letters = sorted({letter for word in VOCABULARY for letter in word})
        pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *letters]
        return transformers.Siglip2Tokenizer({piece: number for number, piece in enumerate(pieces)}, [])
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    if kind != "siglip":
        words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(mark, VOCABULARY.index(mark)) for mark in ("<bos>", "<eos>")]
    words.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **marks)


def written(kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Write a model with its tokenizer and its processor into a folder; it is returned."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {f"{name}_token_id": VOCABULARY.index(f"<{name}>") for name in ("pad", "bos", "eos")}
    text = {**small, **marks, "vocab_size": len(VOCABULARY), "max_position_embeddings": 64, "projection_size": 32}
    vision = {**small, "image_size": SIDE, "patch_size": 16, "num_patches": 16}
    more = {} if "siglip" in kind else {"projection_dim": 24}
    configuration = _CONFIGURATIONS[kind](text_config=text, vision_config=vision, **more)
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(configuration).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # as far apart as trained ones', so that scores differ
            if parameter.ndim > 1:
                parameter.mul_(4)
        model.logit_scale.fill_(2.0)
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-3.0)
    model = model.to(dtype)
    model.save_pretrained(folder)
    tokenizer(kind).save_pretrained(folder)
    _PROCESSORS[kind].save_pretrained(folder)
    return model

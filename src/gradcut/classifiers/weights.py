"""Weights from files into models: safe, and strict. Nothing in a file is ever executed. And what they are known by."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gradcut.errors import ClassifierError, one_line


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a file holds: safetensors, or a PyTorch checkpoint of tensors and plain values.

    Raises:
        ClassifierError: the file is missing, damaged, or has more than data in it.
    """
    if not path.is_file():
        raise ClassifierError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        document = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ClassifierError(f"{path}: damaged, or not a safetensors file: {one_line(error)}") from error
    except pickle.UnpicklingError as error:
        # Torch says which global it refused, on one of many lines.
        named = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line]
        if named:
            raise ClassifierError(
                f"{path}: has more than weights in it, which is not run: {named[0][:160]}; save its state_dict alone"
            ) from error
        raise ClassifierError(f"{path}: damaged, or not a PyTorch checkpoint: {one_line(error)}") from error
    # A truncated archive can fail anywhere in torch's reader.
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClassifierError(f"{path}: damaged, or not a PyTorch checkpoint: {one_line(error)}") from error
    if not isinstance(document, Mapping):
        raise ClassifierError(f"{path}: expected a checkpoint with named weights, got {type(document).__name__}")
    return dict(document)


def state_of(document: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The named weights in a checkpoint: its own entries, or those under ``state_dict`` or ``model``.

    Raises:
        ClassifierError: there are none.
    """
    for key in ("state_dict", "model"):
        if isinstance(document.get(key), Mapping):
            document = document[key]
            break
    state = {str(key).removeprefix("module."): value for key, value in document.items()}
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        raise ClassifierError(
            f"{path}: expected weights by name, or under 'state_dict' or 'model'; "
            f"got {', '.join(map(repr, others[:4])) or 'nothing'}"
        )
    return state


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """Put weights into a model; every name and every shape has to fit.

    Raises:
        ClassifierError: they do not; the message names the first of each kind.
    """
    wanted = model.state_dict()
    # Batch norms before PyTorch 0.4.1, and InplaceABN, do not count their batches; in evaluation nothing reads it.
    counters = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")}
    state = {**{key: value for key, value in counters.items() if key not in state}, **state}
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted]
    shapes = [
        f"{key!r} expected {tuple(wanted[key].shape)}, got {tuple(state[key].shape)}"
        for key in wanted
        if key in state and wanted[key].shape != state[key].shape
    ]
    faults = [f"{len(missing)} are missing, the first is {missing[0]!r}"] if missing else []
    faults += [f"{len(extra)} are unknown, the first is {extra[0]!r}"] if extra else []
    faults += [f"{len(shapes)} have another shape: {shapes[0]}"] if shapes else []
    if faults:
        raise ClassifierError(f"{path}: not the weights of {architecture}: {'; '.join(faults)}")
    model.load_state_dict(dict(state), strict=True)


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over a model's weights and their names, in hexadecimal digits; before `fold_batch_norms`, if it did that.

    So a head knows its backbone, folded or not. Folded weights that were changed since have a digest of their own.
    """
    digest = state_sha256(model)
    before_folding: Mapping[str, str] = getattr(model, _FOLDED_FROM, {})
    return before_folding.get(digest, digest)


#: By model: what its tensors were when its digest was made, and the digest.
_DIGESTS: WeakKeyDictionary[nn.Module, tuple[list[tuple[str, int, int]], str]] = WeakKeyDictionary()


def state_sha256(model: nn.Module) -> str:
    """SHA-256 over a model's weights as they are and their names, in hexadecimal digits.

    It is remembered as long as no tensor has been written to or put in the place of another.
    """
    state = {key: value for key, value in sorted(model.state_dict().items()) if isinstance(value, Tensor)}
    # PyTorch counts the writes to a tensor, but for one that was made in inference mode.
    countable = not any(value.is_inference() for value in state.values())
    versions = [(key, value.data_ptr(), value._version) for key, value in state.items()] if countable else []
    if countable and model in _DIGESTS and _DIGESTS[model][0] == versions:
        return _DIGESTS[model][1]
    digest = hashlib.sha256()
    for key, value in state.items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if countable:
        _DIGESTS[model] = versions, digest.hexdigest()
    return digest.hexdigest()


_FOLDED_FROM = "gradcut_folded_from"


def fold_batch_norms(model: nn.Module) -> None:
    """Put every batch norm of a timm network with fixed weights into the convolution before it, in place.

    With fixed statistics it is a multiplication and a sum a channel, which the convolution's weights and bias can do:
    the same function, but for rounding, without a seventh of the forward and a fifth of the backward pass. What is left
    in the norm's place, under its name, is its activation.

    For networks that call convolutions and norms in the order in which they list them, as EfficientNet does, and in
    evaluation mode: there is nothing left to train the statistics of.
    """
    before = weights_sha256(model)
    model.double()  # so that the product is rounded once
    for parent in list(model.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, norm_name, norm.act)
    model.float()
    setattr(model, _FOLDED_FROM, {state_sha256(model): before})

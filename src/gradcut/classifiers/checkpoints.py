"""Weights from files into models: safe, and strict. Nothing in a file is ever executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

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

"""Weights from files into models: safe, and strict. Nothing in a file is ever executed."""

from __future__ import annotations

import json
import logging
import pathlib
import pickle
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gradcut.errors import ClassifierError, one_line

log = logging.getLogger(__name__)


class Beside:
    """Stands for an object that a trainer saved beside the weights: nothing is made of it, nothing of it is kept."""

    def __new__(cls, *_: object) -> Beside:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


def _empty(*_: object) -> OrderedDict[Any, Any]:
    return OrderedDict()


#: What trainers save beside the weights, and what is made in its place: options, scores of NumPy, paths, settings.
_DATA: Sequence[tuple[Callable[..., Any], str]] = (
    *((Beside, f"numpy.dtypes.{name}") for name in np.dtypes.__all__),
    *(
        (Beside, f"{module}.{name}")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar", "_reconstruct")
    ),
    *((Beside, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in pathlib.__all__),
    *((Beside, f"builtins.{name}") for name in ("bool", "dict", "float", "int", "list", "str", "tuple")),
    (Beside, "argparse.Namespace"), (Beside, "types.SimpleNamespace"), (Beside, "datetime.datetime"),
    (Beside, "datetime.timedelta"), (Beside, "numpy.dtype"), (Beside, "numpy.ndarray"), (Beside, "typing.Any"),
    *((Beside, f"omegaconf.{name}") for name in (
        "base.ContainerMetadata", "base.Metadata", "dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode",
    )),
    (_empty, "collections.defaultdict"),
    # An OrderedDict is one of the mappings that PyTorch fills.
    *((OrderedDict, f"{name}.AttributeDict") for name in (
        "lightning.fabric.utilities.data", "lightning_fabric.utilities.data", "pytorch_lightning.utilities.parsing",
        "lightning.pytorch.utilities.parsing",
    )),
)  # fmt: skip

#: PyTorch has one list of such names for the whole process.
_lock = threading.Lock()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a file holds: safetensors, or a PyTorch checkpoint of tensors, plain values, and what `Beside` stands for.

    Raises:
        ClassifierError: the file is missing, damaged, or has more than data in it.
    """
    if not path.is_file():
        raise ClassifierError(f"{path}: no such file")
    if path.name.endswith(".index.json"):
        return _shards(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with _lock, torch.serialization.safe_globals(list(_DATA)):
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
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise ClassifierError(
                f"{path}: a TorchScript archive, whose code is not run; save its model's state_dict()"
            ) from error
        raise ClassifierError(f"{path}: damaged, or not a PyTorch checkpoint: {one_line(error)}") from error
    if not isinstance(document, Mapping):
        raise ClassifierError(f"{path}: expected a checkpoint with named weights, got {type(document).__name__}")
    return dict(document)


def _shards(index: Path) -> dict[str, Any]:
    """What is in all the files that an index names: those of one checkpoint that was too large for a file."""
    try:
        names = sorted({Path(name).name for name in json.loads(index.read_bytes())["weight_map"].values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        says = one_line(error)
        raise ClassifierError(f"{index}: expected JSON with a weight_map from names to files: {says}") from error
    return {key: value for name in names for key, value in read_checkpoint(index.parent / name).items()}


#: Under what names trainers put weights into their files. An average over the training's steps comes first, as in timm.
_UNDER = (
    "state_dict_ema", "model_ema", "ema_state_dict", "model_state_dict_ema", "ema_model", "params_ema", "ema",
    "model_state_dict", "state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
)  # fmt: skip


def state_of(document: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The named weights in a checkpoint: its own entries, or those under a name that trainers use, at any depth.

    What is no tensor is left out. Where a file has averaged weights too (EMA), these are taken.

    Raises:
        ClassifierError: there are none.
    """
    state = _state(document)
    if state is None:
        raise ClassifierError(
            f"{path}: expected weights by name, or under 'state_dict' or 'model'; "
            f"got {', '.join(repr(key) for key in list(document)[:4]) or 'nothing'}"
        )
    return state


def _state(document: Mapping[Any, Any]) -> dict[str, Tensor] | None:
    for key in _UNDER:
        inner = document.get(key)
        state = _state(inner) if isinstance(inner, Mapping) else None
        if state is not None:
            return state
    # A training state is kept by number (an optimiser's), weights by name.
    state = {key: value for key, value in document.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return state or None


#: Parts of names that DDP, torch.compile, FSDP, averaging and checkpointing of activations put round a model's own.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})

#: What is in a training's state and no part of a network: losses, metrics, counters.
_TRAINING = re.compile(
    r"(\w*_)?(criterions?|criteria|loss|losses|metrics?|acc|accuracy|auroc|f1|precision|recall|confmat|confusion_matrix"
    r"|n_averaged)(_\w*)?",
    re.IGNORECASE,
)
_COUNTED = ("total_ops", "total_params")

#: What stands on a backbone: heads of classifiers, and what is there for the time of a training without labels.
_HEADS = re.compile(r"(\w*_)?(head|classifier|decoder|projector|predictor)s?(_\w*)?|fc|mask_token", re.IGNORECASE)


def load_strictly(
    model: nn.Module, state: Mapping[str, Tensor], path: Path, architecture: str, heads: bool = False
) -> None:
    """Put weights into a model; every name and every shape has to fit.

    A name may have words before it that are the same for all (``model.``, ``net.``), and among its parts those of
    wrappers (``module.``, ``_orig_mod.``). What is named as a loss or a metric is left out, which is logged. Numbers of
    another precision become the model's own.

    Args:
        heads: what is named as a head or a decoder is left out, too, and not logged: the model is a backbone.

    Raises:
        ClassifierError: they do not fit; the message names the first of each kind.
    """
    wanted = model.state_dict()
    state, others = _matched(wanted, state, path)
    # Batch norms before PyTorch 0.4.1, and InplaceABN, do not count their batches; in evaluation nothing reads it.
    counters = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")}
    state = {**{key: value for key, value in counters.items() if key not in state}, **state}
    missing = [key for key in wanted if key not in state]
    parts = {key.partition(".")[0] for key in wanted}
    if heads:
        others = {key: name for key, name in others.items() if not _on_top(name, parts)}
    extra = [key for key, name in others.items() if not _of_training(name, parts)]
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
    if others:
        log.warning("%s: left out, as no part of the network: %s", path, ", ".join(others))
    model.load_state_dict(dict(state), strict=True)


def as_named(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights without what trainers put before their names, and without losses and metrics.

    For a model that knows some of them by other names than its own.
    """
    wanted = model.state_dict()
    own, others = _matched(wanted, state, path)
    parts = {key.partition(".")[0] for key in wanted}
    return {**own, **{name: state[key] for key, name in others.items() if not _of_training(name, parts)}}


def _of_training(name: str, parts: Collection[str]) -> bool:
    first, last = name.partition(".")[0], name.rpartition(".")[2]
    return last in _COUNTED or (first not in parts and _TRAINING.fullmatch(first) is not None)


def _on_top(name: str, parts: Collection[str]) -> bool:
    first, dot, _ = name.partition(".")
    # timm's heads keep their norm without the layer after it.
    return _HEADS.fullmatch(first) is not None and (first not in parts or bool(dot))


def _matched(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights by the model's own names, and the names of the rest, as they are and without what is before them.

    The words before the model's names are those under which most of them are.
    """
    unwrapped = len({_unwrapped(key) for key in wanted}) == len(wanted)
    bare = _unwrapped if unwrapped else str  # else the wrappers' words are the model's own
    own = {bare(key): key for key in wanted}
    sets: dict[str, dict[str, str]] = {"": {}}
    for key in state:
        for prefix, name in _splits(bare(key)):
            if name in own:
                sets.setdefault(prefix, {}).setdefault(own[name], key)
    most = max(map(len, sets.values()))
    prefix, *rest = (prefix for prefix, names in sets.items() if len(names) == most)
    copies: set[str] = set()
    if rest and most >= sum(not key.endswith("num_batches_tracked") for key in wanted):
        averaged = [name for name in (prefix, *rest) if "ema" in re.split(r"[._]", name)]
        if len(averaged) != 1:
            names = ", ".join(map(repr, (prefix, *rest)))
            raise ClassifierError(f"{path}: expected one set of weights that fits, got those under {names}; save one")
        copies = {key for name in (prefix, *rest) for key in sets[name].values()}
        prefix = averaged[0]
        log.warning("%s: the averaged weights, under %r, are taken", path, prefix)
    copies.update(sets[prefix].values())
    others = {key: bare(key).removeprefix(prefix) for key in state if key not in copies}
    return {name: state[key] for name, key in sets[prefix].items()}, others


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _splits(key: str) -> Iterator[tuple[str, str]]:
    """All the ways to take a name apart before one of its parts."""
    parts = key.split(".")
    for start in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:start]), ".".join(parts[start:])

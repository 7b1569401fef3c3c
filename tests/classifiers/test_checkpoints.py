"""Checkpoints as common trainers write them: the weights are found, whatever is round and beside them; nothing runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import logging
import os
import pathlib
import types

import numpy as np
import pytest
import timm
import torch
from networks import refused
from safetensors.torch import save_file
from torch import nn

from gradcut import load_classifier
from gradcut.classifiers.checkpoints import read_checkpoint

TINY = "test_resnet"


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(TINY, num_classes=3).eval()


@pytest.fixture
def load(tmp_path):
    """Loads what a checkpoint holds through a card."""

    def load(content):
        torch.save(content, tmp_path / "own.pth")
        (tmp_path / "own.json").write_text(json.dumps({"architecture": TINY, "labels": ["a", "b", "c"]}))
        return load_classifier(tmp_path / "own.json")

    return load


def fits(classifier, tiny) -> bool:
    state = classifier.model.state_dict()
    return all(torch.equal(state[key], value.float()) for key, value in tiny.state_dict().items())


def under(prefix: str, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def other(state):
    return {key: torch.zeros_like(value) for key, value in state.items()}


#: A trainer, and what it makes of a state.
WRITERS = {
    "PyTorch": lambda w: w,
    "timm's train.py": lambda w: {
        "epoch": 3, "arch": TINY, "state_dict": w, "args": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("a")),
        "metric": 0.9, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []},
    },
    "timm's train.py with an average": lambda w: {"state_dict": other(w), "state_dict_ema": w},
    "Lightning": lambda w: {
        "epoch": 1, "state_dict": under("model.", w), "callbacks": {}, "hparams": collections.defaultdict(int, a=1),
    },
    "Lightning with DDP and torch.compile": lambda w: {"state_dict": under("net._orig_mod.module.", w)},
    "Lightning with losses and metrics": lambda w: {
        "state_dict": {
            **under("model.", w), "criterion.weight": torch.ones(3), "val_metrics.acc.tp": torch.ones(3),
            "model.conv1.total_ops": torch.zeros(1),
        }
    },
    "Lightning with an average": lambda w: {
        "state_dict": {**under("model.", other(w)), **under("model_ema.module.", w), "n_averaged": torch.ones(1)}
    },
    "torch.compile": lambda w: under("_orig_mod.", w),
    "torch.compile of a part": lambda w: {k.replace("layer1.", "layer1._orig_mod."): v for k, v in w.items()},
    "DDP": lambda w: {"model": under("module.", w)},
    "DDP of what is compiled": lambda w: under("module._orig_mod.", w),
    "FSDP": lambda w: under("_fsdp_wrapped_module.", w),
    "a network in a network": lambda w: {"model_state_dict": under("backbone.model.", w)},
    "PyTorch's tutorial": lambda w: {"epoch": 1, "model_state_dict": w, "optimizer_state_dict": {}, "loss": 0.1},
    "a state in a state": lambda w: {"model": {"state_dict": w}, "ema": None},
    "AveragedModel": lambda w: {**under("module.", w), "n_averaged": torch.tensor(3)},
    "scores of NumPy": lambda w: {
        "state_dict": w, "best": np.float64(0.9), "n": np.int64(3), "all": np.ones(3), "yes": np.bool_(True),
        "half": np.float16(1), "name": np.str_("a"),
    },
    "odds and ends": lambda w: {
        "net": w, "options": types.SimpleNamespace(a=1), "day": datetime.datetime(2024, 1, 1), "more": {1, 2},
        "folder": pathlib.Path("here"), "counts": collections.Counter("abc"), "score": torch.tensor(0.5),
    },
    "scalars among the weights": lambda w: {**w, "epoch": 3, "best": np.float32(0.5)},
    "half precision": lambda w: {k: v.half() if v.is_floating_point() else v for k, v in w.items()},
    "a loss with weights": lambda w: {"state_dict": {**w, "loss_fn.ce.weight": torch.ones(3)}},
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_what_trainers_write(load, tiny, writer):
    state = tiny.state_dict()
    if writer == "half precision":
        state = {key: value.half().float() if value.is_floating_point() else value for key, value in state.items()}
    classifier = load(WRITERS[writer](state))
    loaded = classifier.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert classifier.dtype == torch.float32


@pytest.mark.parametrize("prefix", ["", "model.", "module.net.", "_orig_mod."])
def test_safetensors_too(tmp_path, tiny, prefix):
    save_file(under(prefix, tiny.state_dict()), tmp_path / "own.safetensors")
    (tmp_path / "own.json").write_text(json.dumps({"architecture": TINY, "labels": {"0": "a", "1": "b", "2": "c"}}))
    classifier = load_classifier(tmp_path / "own.safetensors")
    assert classifier.labels == ("a", "b", "c")
    assert fits(classifier, tiny)


def test_what_is_left_out_is_said(load, tiny, caplog):
    with caplog.at_level(logging.WARNING, "gradcut"):
        load(tiny.state_dict())
        assert not caplog.messages
        load({**tiny.state_dict(), "criterion.weight": torch.ones(3)})
    (message,) = caplog.messages
    assert "own.pth: left out, as no part of the network: criterion.weight" in message


def test_weights_that_might_be_of_another_network_are_refused(load, tiny):
    state = tiny.state_dict()
    refused(load, {**state, "attention.weight": torch.ones(3)}, "1 are unknown", "'attention.weight'")
    refused(load, {**under("model.", state), "head.weight": torch.ones(3)}, "1 are unknown", "'head.weight'")
    inside = {**state, "layer1.9.loss.weight": torch.ones(3)}  # a part of the network that is called so
    refused(load, inside, "1 are unknown", "'layer1.9.loss.weight'")
    key = next(key for key in state if key.endswith("conv1.weight"))
    refused(load, {"state_dict": under("model.", {k: v for k, v in state.items() if k != key})}, "1 are missing", key)


def test_two_networks_in_a_file_are_refused(load, tiny):
    both = {**under("student.", tiny.state_dict()), **under("teacher.", other(tiny.state_dict()))}
    refused(load, both, "expected one set of weights that fits", "'student.', 'teacher.'")


class Runs:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("echo this must not run",)),
        (print, ("this must not run",)),
        (eval, ("print('this must not run')",)),
        (getattr, ("text", "encode")),
        (np.load, ("this must not run",)),
        (pathlib.Path.touch, (pathlib.Path("this must not run"),)),
        (__import__, ("antigravity",)),
    ],
)
def test_code_in_a_checkpoint_does_not_run(load, tiny, tmp_path, monkeypatch, capfd, function, arguments):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": tiny.state_dict(), "args": argparse.Namespace(lr=0.1), "more": Runs(function, *arguments)}
    refused(load, content, "own.pth: has more than weights in it, which is not run", "save its state_dict alone")
    assert "must not run" not in "".join(capfd.readouterr())
    assert not (tmp_path / "this must not run").exists()


def test_nothing_is_made_of_what_is_beside_the_weights(tmp_path):
    """Not even an object that is harmless: a stand-in without its content takes its place."""
    torch.save({"args": argparse.Namespace(lr=0.1), "best": np.float64(0.9)}, tmp_path / "w.pth")
    before = set(torch.serialization.get_safe_globals())
    document = read_checkpoint(tmp_path / "w.pth")
    assert {type(value).__name__ for value in document.values()} == {"Beside"}
    assert not any(getattr(value, "__dict__", None) for value in document.values())
    assert set(torch.serialization.get_safe_globals()) == before  # PyTorch's list is as it was


def test_a_checkpoint_in_shards(tmp_path, tiny):
    state = tiny.state_dict()
    places = {key: f"own-{number % 2}.safetensors" for number, key in enumerate(state)}
    for file in set(places.values()):
        save_file({key: state[key] for key, place in places.items() if place == file}, tmp_path / file)
    (tmp_path / "own.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    card = {"architecture": TINY, "labels": ["a", "b", "c"], "weights": "own.safetensors.index.json"}
    (tmp_path / "own.json").write_text(json.dumps(card))
    assert fits(load_classifier(tmp_path / "own.json"), tiny)


def test_a_torchscript_archive_says_what_to_save(tmp_path, tiny):
    torch.jit.save(torch.jit.script(nn.Linear(2, 3)), tmp_path / "own.pth")
    (tmp_path / "own.json").write_text(json.dumps({"architecture": TINY, "labels": ["a", "b", "c"]}))
    refused(load_classifier, tmp_path / "own.json", "a TorchScript archive, whose code is not run; save its model's")

"""Weights and configurations of transformers as people have them: right, or one line that says what to do."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from networks import refused
from safetensors.torch import load_file, save_file
from torch import Tensor

from gradcut import Segmenter, load_classifier
from gradcut.classifiers import load_backbone

transformers = pytest.importorskip("transformers")

SIDE = 32
State = dict[str, Tensor]

says = partial(refused, load_classifier)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=SIDE, patch_size=8,
        id2label={0: "a", 1: "b", 2: "c"},
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """The model as transformers writes it."""
    model.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    return tmp_path


def check(name: str, model: Any, tolerance: float = 1e-6) -> None:
    """It is loaded with its labels, computes in float32 and gives the model's logits."""
    classifier = load_classifier(name)
    assert classifier.labels == ("a", "b", "c")
    assert classifier.dtype == torch.float32
    x = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(x), model(x).logits, rtol=0, atol=tolerance)


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def other(state: State) -> State:
    return {key: value + 1 for key, value in state.items()}


def in_shards(folder: Path, ending: str) -> None:
    """Weights in two files and an index, in the place of one file."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if ending == ".safetensors" else "pytorch_model"
    files = [f"{stem}-0000{number}-of-00002{ending}" for number in (1, 2)]
    places = {key: files[number % 2] for number, key in enumerate(state)}
    for file in files:
        part = {key: state[key] for key, place in places.items() if place == file}
        save_file(part, folder / file, {"format": "pt"}) if stem == "model" else torch.save(part, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{stem}{ending}.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("form", ["safetensors", "pytorch_model.bin", "shards", "shards of bin"])
def test_files_of_a_folder(folder, model, form):
    if form == "pytorch_model.bin":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    elif form != "safetensors":
        in_shards(folder, ".safetensors" if form == "shards" else ".bin")
        (index,) = folder.glob("*.index.json")
        check(f"hf/{folder}@{index}", model)
    check(f"hf/{folder}", model)


#: What trainers make of a state, in a file of their own.
WRITERS = {
    "PyTorch": lambda w: w,
    "state_dict in a dict": lambda w: {"epoch": 1, "state_dict": w},
    "Lightning": lambda w: {"state_dict": under("model.", w), "callbacks": {}},
    "Lightning with a metric": lambda w: {"state_dict": {**under("net.", w), "val_acc.tp": torch.ones(3)}},
    "DDP": lambda w: {"model": under("module.", w)},
    "torch.compile": lambda w: under("_orig_mod.", w),
    "EMA": lambda w: {"state_dict": under("model.", other(w)), "state_dict_ema": under("module.", w)},
    "EMA of timm": lambda w: {"model": other(w), "model_ema": w},
    "half precision": lambda w: {key: value.half() for key, value in w.items()},
}


@pytest.mark.parametrize("names", ["in memory", "in files"])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_trainers_write(folder, model, writer, names):
    """Names in memory differ from those in transformers' files, and from one of its versions to the next."""
    state = model.state_dict() if names == "in memory" else load_file(folder / "model.safetensors")
    torch.save(WRITERS[writer](state), folder / "own.ckpt")
    (folder / "model.safetensors").unlink()
    check(f"hf/{folder}@{folder}/own.ckpt", model, 2e-3 if writer == "half precision" else 1e-6)


def test_a_file_of_a_backbone(folder, model):
    torch.save({"state_dict": under("model.", model.state_dict())}, folder / "own.ckpt")
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = model.vit(x).last_hidden_state[:, 1:].mean(1)
        torch.testing.assert_close(load_backbone(f"hf/{folder}@{folder}/own.ckpt").logits(x), expected)


class Code:
    def __reduce__(self):
        return os.system, ("echo this must not run",)


def test_wrong_weights(folder, model, capfd):
    name, state = f"hf/{folder}", safetensors.torch.load((folder / "model.safetensors").read_bytes())
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    says(name, "its weights are damaged")
    (folder / "model.safetensors").unlink()
    says(name, "expected config.json", f"weights as a trainer wrote them: {name}@FILE")
    torch.save({**state, "more": Code()}, folder / "pytorch_model.bin")
    says(name, "have more than weights in them, which is not run; save its state_dict alone")
    says(f"{name}@{folder}/pytorch_model.bin", "more than weights in it, which is not run")
    torch.save({"state_dict": under("model.", state)}, folder / "pytorch_model.bin")
    says(name, "weights lack 24", f"If a trainer wrote them, with words before the names: {name}@FILE")
    torch.save({key: value for key, value in state.items() if key != "classifier.bias"}, folder / "own.pth")
    says(f"{name}@{folder}/own.pth", "weights lack 1", "classifier.bias")
    torch.save({**state, "neck.weight": torch.ones(3)}, folder / "own.pth")
    says(f"{name}@{folder}/own.pth", "not the weights of", "1 are unknown", "'neck.weight'")
    torch.save({**state, "vit.layernorm.weight": torch.ones(3)}, folder / "own.pth")
    says(f"{name}@{folder}/own.pth", "'vit.layernorm.weight'", "(3,)", "do not belong together")
    says(f"{name}@{folder}/none.pth", "none.pth: no such file")
    assert "must not run" not in "".join(capfd.readouterr())


def test_a_shard_that_is_missing(folder):
    in_shards(folder, ".safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()
    says(f"hf/{folder}", "No such file", "model-00002-of-00002.safetensors")
    says(f"hf/{folder}@{folder}/model.safetensors.index.json", "model-00002-of-00002.safetensors: no such file")
    (folder / "model.safetensors.index.json").write_text("[]")
    says(f"hf/{folder}@{folder}/model.safetensors.index.json", "expected JSON with a weight_map")


@pytest.fixture
def configured(folder):
    """Writes config.json with other values; None leaves one out."""

    def write(**values) -> str:
        document = json.loads((folder / "config.json").read_text()) | values
        document = {key: value for key, value in document.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(document))
        return f"hf/{folder}"

    return write


def test_a_configuration_without_names_of_outputs(configured, model):
    """How many there are is seen in the weights."""
    name = configured(id2label=None, label2id=None)
    classifier = load_classifier(name)
    assert classifier.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    x = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(x), model(x).logits)
    torch.save({"model": under("module.", model.state_dict())}, Path(name.removeprefix("hf/")) / "own.pth")
    assert load_classifier(f"{name}@{name.removeprefix('hf/')}/own.pth").fingerprint == classifier.fingerprint
    assert load_classifier(configured(label2id={"c": 2, "a": 0, "b": 1})).labels == ("a", "b", "c")
    says(configured(id2label={"0": "a", "1": "b"}), "has 2 classes, its weights have 3 outputs", "id2label")
    says(configured(id2label=["a", "b", "c"]), "id2label of its config.json: expected {number: name}, got a list")


def test_code_of_a_repository_is_not_run(configured, tmp_path):
    (tmp_path / "x.py").write_text("raise SystemExit('this must not run')")
    says(configured(model_type="own", auto_map={"AutoConfig": "x.Y"}), "contains custom code")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_on_a_cpu(folder, dtype):
    photograph = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    classifier = load_classifier(f"hf/{folder}")
    full = classifier.detect([photograph])[0][0].score
    classifier.model.to(dtype)
    assert classifier.detect([photograph])[0][0].score == pytest.approx(full, abs=0.01)
    assert Segmenter(classifier, "fast")(photograph, labels=["a"]).masks.shape == (1, 40, 50)

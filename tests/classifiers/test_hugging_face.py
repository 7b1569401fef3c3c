"""Classifiers of transformers get the pixels of their own image processor, whatever is in its file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from gradcut import load_classifier
from gradcut.classifiers import load_backbone
from gradcut.classifiers.processors import preparation
from gradcut.errors import ClassifierError

transformers = pytest.importorskip("transformers")

from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING  # noqa: E402
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as FAMILIES  # noqa: E402

#: What makes a network small, under the names that configurations have for it.
SMALL = {
    "num_hidden_layers": 2, "hidden_size": 32, "hidden_dim": 640, "intermediate_size": 64, "num_attention_heads": 2,
    "image_size": 64, "width_coefficient": 0.5, "depth_coefficient": 0.5, "num_labels": 3, "num_latents": 8,
    "d_latents": 32, "n_embd": 32, "n_layer": 1, "n_head": 2,
    "num_self_attends_per_block": 1, "num_self_attention_heads": 2, "num_cross_attention_heads": 1,
}  # fmt: skip

#: Families whose models take something else than the pixels of one photograph, and what is said of it.
OTHER_INPUTS = {"imagegpt": "makes no pixels"}


def shrunk(config) -> dict:
    """The arguments of a configuration that make it small."""
    arguments = {}
    for key, value in vars(config).items():
        if isinstance(value, transformers.PretrainedConfig):
            arguments[key] = value.to_dict() | shrunk(value)
        elif key in ("depths", "num_blocks", "layers_per_stage") and isinstance(value, list | tuple):
            arguments[key] = [1] * len(value)
        elif key == "image_size" and hasattr(config, "window_size"):
            pass  # windows of 7 x 7 need their places
        elif key == "image_size" and isinstance(value, list | tuple):
            arguments[key] = [64] * len(value)
        elif key in SMALL and isinstance(value, int | float) and not isinstance(value, bool):
            arguments[key] = SMALL[key]
    return arguments


def small(family: str):
    """A small model of a family; a family that needs what is not installed, or is large at its least, is skipped."""
    if family == "shieldgemma2":
        pytest.skip("shieldgemma2: a language model, which answers in words")
    kind = CONFIG_MAPPING[family]
    config = kind(**shrunk(kind()))
    config.num_labels = 3
    names = FAMILIES[family]
    kind = getattr(transformers, names if isinstance(names, str) else names[0])
    torch.manual_seed(0)
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in kind(config).parameters())
    except ImportError as error:
        pytest.skip(f"{family}: {str(error).strip().splitlines()[0]}")
    assert parameters < 25e6, f"{family}: {parameters} parameters"
    return kind(config)


def photograph(height: int, width: int) -> np.ndarray:
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC))


def own_inputs(folder: Path, own: np.ndarray) -> dict[str, torch.Tensor]:
    """Those that the processor makes, with resizing and cropping left out."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    flags = {"do_resize": False, "do_center_crop": False, "do_pad": False}
    return processor(images=Image.fromarray(own), return_tensors="pt", **flags)


def check(folder: Path) -> None:
    classifier = load_classifier(f"hf/{folder}")
    own = photograph(*classifier.size)
    inputs = own_inputs(folder, own)
    x = classifier.prepare([own])
    came = x if classifier.model.patches is None else classifier.model.patches(x)["pixel_values"]
    torch.testing.assert_close(came, inputs["pixel_values"].float(), rtol=1e-5, atol=2e-5)
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).float().eval()
    with torch.inference_mode():
        logits = classifier.logits(x)
        own_logits = next(iter(model(**inputs).values()))
        torch.testing.assert_close(logits, own_logits, rtol=1e-2, atol=1e-3)


def write_processor(folder: Path, config, **changes) -> None:
    """The processor of a model's family with the values of its class, but for the size, and for what is changed."""
    kinds = IMAGE_PROCESSOR_MAPPING.get(type(config), (transformers.ViTImageProcessor,))
    kinds = kinds.values() if isinstance(kinds, dict) else kinds
    processor = next(kind for kind in kinds if kind is not None)()
    document = json.loads(processor.to_json_string())
    sides = document.get("size") or {"height": 0, "width": 0}
    side = 224 if hasattr(config, "window_size") else 64
    document["size"] = dict.fromkeys(sides, side) if isinstance(sides, dict) else side
    if document.get("crop_size"):
        document["crop_size"] = {"height": side, "width": side}
    (folder / "preprocessor_config.json").write_text(json.dumps({**document, **changes}))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"timm_wrapper"}))
def test_pixels_of_every_family_are_the_processors_own(family, tmp_path):
    model = small(family)
    model.save_pretrained(tmp_path)
    write_processor(tmp_path, model.config)
    if family in OTHER_INPUTS:
        with pytest.raises(ClassifierError, match=OTHER_INPUTS[family]) as error:
            load_classifier(f"hf/{tmp_path}")
        assert "\n" not in str(error.value)
        return
    check(tmp_path)


def test_no_family_is_left_out():
    """What the test above skips: families whose package needs a compiler, and one that answers in words."""
    absent = []
    for family in FAMILIES:
        try:
            with torch.device("meta"):  # no weight is made
                small(family) if family != "timm_wrapper" else None
        except pytest.skip.Exception:
            absent.append(family)
    assert set(absent) <= {"dinat", "nat", "shieldgemma2"}


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    model = small("vit")
    model.save_pretrained(folder)
    write_processor(folder, model.config)
    return folder


@pytest.fixture
def changed(vit, tmp_path):
    """Writes the same model with other values in the processor's file or in the configuration."""

    def write(processor=None, config=None) -> Path:
        for file in vit.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        for name, changes in (("preprocessor_config.json", processor), ("config.json", config)):
            document = json.loads((vit / name).read_text()) | (changes or {})
            (tmp_path / name).write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "values",
    [
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 0.5]},
        {"image_mean": [0.1, 0.5, 0.7], "image_std": [0.2, 0.3, 0.9]},
        {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]},
        {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True, "crop_size": 64},
        {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": False, "crop_size": 64},
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": True},
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": False, "rescale_offset": True,
         "rescale_factor": 1 / 127.5},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}, "crop_pct": 0.875},
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 72}, "crop_size": 64,
         "do_center_crop": True},
    ],
)  # fmt: skip
def test_values_of_a_processors_file(changed, values):
    check(changed(values))


def test_sizes_of_a_processors_file(changed):
    for values, size in (
        ({"size": {"height": 32, "width": 48}}, (32, 48)),
        ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 99}, "do_center_crop": True,
          "crop_size": {"height": 80, "width": 72}}, (80, 72)),
        ({"do_resize": False}, (64, 64)),
    ):  # fmt: skip
        assert load_classifier(f"hf/{changed(values)}").size == size


def test_a_multimodal_processors_file(changed):
    folder = changed()
    document = json.loads((folder / "preprocessor_config.json").read_text())
    document["image_mean"] = [0.1, 0.2, 0.3]
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": document, "processor_class": "CLIPProcessor"})
    )
    check(folder)
    assert load_classifier(f"hf/{folder}").mean == pytest.approx((0.1, 0.2, 0.3), abs=1e-6)


@pytest.mark.parametrize("key", ["do_equalize", "do_flip_channel_order", "gamma", "to_grayscale", "color_jitter"])
def test_a_key_that_its_processor_does_not_know_is_named(changed, key):
    with pytest.raises(ClassifierError, match=f"its processor's file has {key}, which ViTImageProcessor") as error:
        load_classifier(f"hf/{changed({key: 2.2 if key == 'gamma' else True})}")
    assert "\n" not in str(error.value)
    load_classifier(f"hf/{changed({key: False, 'crop_pct': 0.9})}")


class Odd:
    """A processor that does something else to colours."""

    do_something = True

    def __init__(self, change) -> None:
        self.change = change

    def to_dict(self):
        return {"do_something": True}

    def preprocess(self):
        raise AssertionError

    def __call__(self, images, return_tensors):
        x = torch.from_numpy(np.asarray(images.resize((32, 32)))).permute(2, 0, 1)[None] / 255
        return {"pixel_values": self.change(x)}


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x**2,  # gamma
        lambda x: 1 - x,  # a negative
        lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1),  # grey
        lambda x: x[:, [1, 0, 2]],
        lambda x: (x - x.mean((2, 3), keepdim=True)) / 0.2,  # each photograph's own mean
        lambda x: x.flip(3),
        lambda x: x.round(),
        lambda x: torch.zeros_like(x),
    ],
)
def test_what_is_not_done_to_each_colour_alone_is_refused(change):
    with pytest.raises(ClassifierError, match="its Odd does something else; it has do_something") as error:
        preparation(Odd(change), "x")
    assert "\n" not in str(error.value)
    assert preparation(Odd(lambda x: 2 * x - 1), "x") == ((32, 32), (0.5,) * 3, (0.5,) * 3, "RGB")
    assert preparation(Odd(lambda x: x.flip(1) / 0.3), "x") == ((32, 32), (0.0,) * 3, (0.3,) * 3, "BGR")


def test_a_wrapper_round_timm(tmp_path):
    config = {
        "architecture": "test_resnet", "num_classes": 3, "label_names": ["a", "b", "c"], "pretrained_cfg": {
            "input_size": [3, 96, 96], "mean": [0.1, 0.5, 0.7], "std": [0.2, 0.3, 0.9], "crop_pct": 0.9,
            "num_classes": 3, "fixed_input_size": False, "interpolation": "bicubic",
        },
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    classifier = load_classifier(f"hf/{tmp_path}")
    assert classifier.labels == ("a", "b", "c")
    assert (classifier.size, classifier.mean, classifier.std) == ((96, 96), (0.1, 0.5, 0.7), (0.2, 0.3, 0.9))
    x = classifier.prepare([photograph(96, 96)])
    with torch.inference_mode():
        torch.testing.assert_close(classifier.logits(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(tmp_path, dtype):
    model = small("vit").to(dtype)
    model.save_pretrained(tmp_path)
    write_processor(tmp_path, model.config)
    classifier = load_classifier(f"hf/{tmp_path}")
    assert classifier.dtype == torch.float32
    assert classifier.detect([photograph(64, 64)])


def test_a_backbone_without_a_head_is_refused(tmp_path):
    model = small("vit")
    model.vit.save_pretrained(tmp_path)
    write_processor(tmp_path, model.config)
    with pytest.raises(
        ClassifierError, match=r"weights lack 2 that a ViTForIm\w+ has, such as classifier.bias"
    ) as error:
        load_classifier(f"hf/{tmp_path}")
    assert "\n" not in str(error.value)


def test_outputs_without_names(changed):
    assert load_classifier(f"hf/{changed(config={'id2label': {'0': 'a', '2': ''}})}").labels == ("a", "1", "2")
    assert load_classifier(f"hf/{changed(config={'id2label': ..., 'num_labels': 3})}").labels == (
        "LABEL_0",
        "LABEL_1",
        "LABEL_2",
    )


def test_one_output_has_a_way_out(tmp_path):
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64, num_labels=1)
    )
    model.save_pretrained(tmp_path)
    write_processor(tmp_path, model.config)
    with pytest.raises(ClassifierError, match=r'has one output; .* "problem_type": "multi_label_classification"'):
        load_classifier(f"hf/{tmp_path}")
    config = json.loads((tmp_path / "config.json").read_text())
    config["problem_type"] = "multi_label_classification"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_classifier(f"hf/{tmp_path}").multilabel


@pytest.mark.parametrize("family", ["vit", "clip", "siglip", "dinov2", "beit", "swinv2", "metaclip_2"])
def test_other_sizes_by_interpolated_positions(family, tmp_path):
    model = small(family)
    model.save_pretrained(tmp_path)
    write_processor(tmp_path, model.config)
    classifier = load_classifier(f"hf/{tmp_path}").at(128)
    with torch.inference_mode():
        assert classifier.logits(classifier.prepare([photograph(64, 64)])).shape == (1, 3)


def test_nothing_is_said_while_a_classifier_is_loaded_and_no_setting_stays(vit, tmp_path, capfd, caplog):
    from transformers.utils import logging

    shutil.copytree(vit, damaged := tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"damaged")
    logging.set_tqdm_hook(hook := lambda factory, args, kwargs: factory(*args, **kwargs))
    logging.set_verbosity_info()
    capfd.readouterr()
    try:
        load_classifier(f"hf/{vit}")
        load_backbone(f"hf/{vit}")  # whose table would say that the head's weights are left over
        assert "Loading weights" not in capfd.readouterr().err
        assert "classifier.weight" not in caplog.text
        with pytest.raises(ClassifierError, match="weights are damaged"):
            load_classifier(f"hf/{damaged}")
        assert logging.get_verbosity() == logging.INFO
        assert logging.set_tqdm_hook(None) is hook
    finally:
        logging.set_tqdm_hook(None)
        logging.set_verbosity_warning()


def test_transformers_says_what_it_says_outside(vit, capfd, caplog):
    """What the test above holds is there to be silenced."""
    transformers.AutoModel.from_pretrained(vit)
    assert "Loading weights" in capfd.readouterr().err
    assert "classifier.weight" in caplog.text

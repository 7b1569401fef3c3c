"""Heads on networks that have none: features, the fit, the file, masks, and what does not do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gradcut import Segmenter, load_classifier
from gradcut.classifiers import load_backbone
from gradcut.classifiers.backbones import headless
from gradcut.classifiers.heads import attach, presence_of, read_head
from gradcut.classifiers.sizes import Patches
from gradcut.classifiers.weights import weights_sha256
from gradcut.errors import ClassifierError
from gradcut.fit import LinearFit, PlaceFit, fit_backbone, fit_folds, linear_layer, read_labels
from gradcut.fit.features import prior_rows
from gradcut.fit.places import SCALES, scales_of
from gradcut.images import resize_map
from gradcut.network.view import View
from gradcut.saliency import CAM, Features
from gradcut.saliency.cams import linear_head
from gradcut.saliency.method import scales_of as sizes_of

transformers = pytest.importorskip("transformers")

SIDE = 64
COLOURS = {"blue": (30, 40, 220), "red": (220, 40, 30)}

SMALL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE,
    "patch_size": 8,
}  # fmt: skip


def written(model: Any, folder: Path) -> Any:
    model.eval().save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return model


def whole(model: Any) -> Callable[[Tensor], Tensor]:
    """The encoder of a masked autoencoder, on all patches in their order."""

    def encoded(x: Tensor) -> Tensor:
        embeddings = model.vit.embeddings
        positions = embeddings.position_embeddings
        tokens = embeddings.patch_embeddings(x) + positions[:, 1:]
        tokens = torch.cat([(embeddings.cls_token + positions[:, :1]).expand(len(x), -1, -1), tokens], 1)
        for layer in model.vit.layers:
            tokens = layer(tokens, None)
        return model.vit.layernorm(tokens)

    return encoded


def dinov2(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    model = written(transformers.Dinov2Model(transformers.Dinov2Config(**SMALL)), folder)
    return f"hf/{folder}", lambda x: model(x).last_hidden_state[:, 1:].mean(1)


def registers(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    config = transformers.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=3)
    model = written(transformers.Dinov2WithRegistersModel(config), folder)
    return f"hf/{folder}", lambda x: model(x).last_hidden_state[:, 4:].mean(1)


def dinov3(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    config = transformers.DINOv3ViTConfig(**SMALL, num_register_tokens=4)
    model = written(transformers.DINOv3ViTModel(config), folder)
    return f"hf/{folder}", lambda x: model(x).last_hidden_state[:, 5:].mean(1)


def mae(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    decoder = {f"decoder_{key}": 32 for key in ("hidden_size", "intermediate_size")}
    config = transformers.ViTMAEConfig(
        **SMALL, **decoder, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, mask_ratio=0.75
    )
    encoded = whole(written(transformers.ViTMAEForPreTraining(config), folder))
    return f"hf/{folder}", lambda x: encoded(x)[:, 1:].mean(1)


def worded(kind: str, folder: Path) -> Any:
    """The image tower of a model of photographs and text, which is in the folder as a whole."""
    text = {**SMALL, "vocab_size": 16, "max_position_embeddings": 8, "projection_size": 32}
    marks = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    config = getattr(transformers, f"{kind}Config")(
        text_config={**text, **marks}, vision_config={**SMALL, "num_patches": (SIDE // 8) ** 2}
    )
    model = getattr(transformers, f"{kind}Model")(config)
    for name, parameter in model.named_parameters():
        if "out_proj" in name:  # SigLIP begins with places that all attend to all
            parameter.data *= 0.1
    return written(model, folder).vision_model


def clip(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    tower = worded("CLIP", folder)
    return f"hf/{folder}", lambda x: tower.post_layernorm(tower(x).last_hidden_state)[:, 1:].mean(1)


def clip_vision(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    tower = written(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SMALL)), folder)
    return f"hf/{folder}", lambda x: tower.post_layernorm(tower(x).last_hidden_state)[:, 1:].mean(1)


def siglip(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    tower = worded("Siglip", folder)
    return f"hf/{folder}", lambda x: tower(x).last_hidden_state.mean(1)


def siglip2(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    """It takes patches."""
    tower = worded("Siglip2", folder)
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=(SIDE // 8) ** 2).save_pretrained(folder)
    cut = Patches(8, nn.Module())
    return f"hf/{folder}", lambda x: tower(**cut(x)).last_hidden_state.mean(1)


def timm_vit(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    """A checkpoint with a head of other classes than timm's, which a class token feeds."""
    model = timm.create_model("test_vit", num_classes=7, dynamic_img_size=True).eval()
    save_file(model.state_dict(), folder / "vit.safetensors")
    return f"timm/test_vit@{folder}/vit.safetensors", lambda x: model.forward_features(x)[:, 1:].mean(1)


def timm_map(folder: Path) -> tuple[str, Callable[[Tensor], Tensor]]:
    model = timm.create_model("test_resnet", num_classes=0).eval()
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in model.state_dict().items()}}, folder / "map.pth")
    return f"timm/test_resnet@{folder}/map.pth", lambda x: model.forward_features(x).mean((2, 3))


BACKBONES = {
    function.__name__: function
    for function in (dinov2, registers, dinov3, mae, clip, clip_vision, siglip, siglip2, timm_vit, timm_map)
}


#: Those that a head is fitted on, too.
FITTED = ("dinov2", "registers", "mae", "clip", "siglip", "timm_vit", "timm_map")


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request, tmp_path_factory) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Its name, and its features as its own library computes them."""
    torch.manual_seed(0)
    return BACKBONES[request.param](tmp_path_factory.mktemp(request.param))


def draw(labels: tuple[str, ...], seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A quarter in each colour, the others coarse grey noise; and where."""
    random = np.random.default_rng(seed)
    pixels = (110 + 25 * random.normal(size=(8, 8, 1))).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    where = {}
    for label, quarter in zip(labels, random.permutation(4), strict=False):
        where[label] = np.zeros((2, 2), bool)
        where[label][divmod(quarter, 2)] = True
        where[label] = where[label].repeat(32, 0).repeat(32, 1)
        pixels[where[label]] = COLOURS[label]
    return np.clip(pixels, 0, 255).astype(np.uint8), where


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Sixteen drawings, of four with none, one, the other and both colours; with masks of red."""
    folder = tmp_path_factory.mktemp("drawings")
    (folder / "photos").mkdir()
    (folder / "masks").mkdir()
    rows = ["file,labels"]
    for number in range(16):
        labels = tuple(label for bit, label in enumerate(COLOURS) if number >> bit & 1)
        pixels, where = draw(labels, number)
        Image.fromarray(pixels).save(folder / f"photos/{number:02}.png")
        mask = where.get("red", np.zeros((SIDE, SIDE), bool)).astype(np.uint8)
        Image.fromarray(mask).save(folder / f"masks/{number:02}.png")
        rows.append(f"{number:02}.png,{';'.join(labels)}")
    (folder / "classes.txt").write_text("red\n")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_features_are_the_mean_over_the_places(backbone):
    name, expected = backbone
    classifier = load_backbone(name)
    x = classifier.prepare([draw(("red",), 100)[0], draw((), 101)[0]])
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(x), expected(x), rtol=1e-4, atol=1e-5)
        assert linear_head(View(classifier, x), "").features.shape[2] > 1
    again = load_backbone(name)
    assert classifier.fingerprint == again.fingerprint
    assert weights_sha256(classifier.model) == weights_sha256(again.model)


@pytest.mark.parametrize("backbone", FITTED, indirect=True)
def test_a_head_on_any_of_them(backbone, photographs, tmp_path, caplog):
    name, expected = backbone
    path = tmp_path / "head.safetensors"
    network = fit_backbone(name).at(128 if "@" in name else SIDE)
    assert f"backbone: {name} is taken without a head" in caplog.text
    data = read_labels(photographs / "labels.csv", photographs / "photos")
    heads = fit_folds(network, data, LinearFit(folds=2), PlaceFit(rounds=1), every_fold=False, mirror=False)
    assert heads.fitted.mean_average_precision > 0.8
    heads.save(path)
    head = read_head(path)
    assert (head.backbone, head.headless) == (name, True)
    assert head.backbone_sha256 == weights_sha256(load_backbone(name).model)

    classifier = load_classifier(path)
    pixels, where = draw(("blue", "red"), 102)
    x = classifier.prepare([pixels])
    with torch.no_grad():
        own = expected(x) @ head.weight.T + head.bias
        torch.testing.assert_close(classifier.logits(x), own, rtol=1e-3, atol=1e-3)
    assert {detection.label for detection in classifier.detect([pixels])[0]} == {"blue", "red"}
    assert CAM()(classifier, x, [(0, 0)]).max() > 0
    largest = max(sizes_of(Segmenter(classifier).recipe.saliency))
    assert largest == 8 / 3 if name.endswith("map.pth") else largest <= 5 / 3
    result = Segmenter(classifier, "fast")(pixels)
    assert {item.label for item in result} == {"blue", "red"}
    for item in result:
        saliency = resize_map(item.saliency, (SIDE, SIDE))
        inside, outside = (saliency[mask].mean() for mask in (where[item.label], ~where[item.label]))
        assert inside > 1.25 * outside
    assert result.save(tmp_path / "saved")["classifier"]["sha256"] == classifier.fingerprint
    assert load_classifier(path).fingerprint == classifier.fingerprint


def test_the_commands(photographs, tmp_path, command):
    """Fit with heads of folds, and so with what the surest places say; classify, evaluate."""
    torch.manual_seed(0)
    name, _ = timm_vit(tmp_path)
    images = ["--images", photographs / "photos"]
    fitted = ["fit", "--backbone", name, "--size", 64, *images, "--labels", photographs / "labels.csv"]
    status, out, _ = command(*fitted, "--folds", 2, "-o", tmp_path / "heads", "--json")
    assert status == 0
    assert json.loads(out)["mean_average_precision"] > 0.8
    path = tmp_path / "heads/head.safetensors"
    classifier = load_classifier(path)
    assert presence_of(classifier.model).scale == max(SCALES)
    status, out, _ = command("classify", photographs / "photos/03.png", "-c", path, "--json")
    assert status == 0
    (detections,) = json.loads(out)["results"].values()
    assert {detection["label"] for detection in detections} == {"blue", "red"}
    masks = ["--masks", photographs / "masks", "--classes", photographs / "classes.txt"]
    status, out, err = command("evaluate", "folder", *images, *masks, "-c", path, "--json", "--limit", 4)
    assert status == 0, err
    assert json.loads(out)["recipes"]["default"]["class_iou"]["value"] > 0.3


def test_other_weights_than_the_cards_are_refused(photographs, tmp_path):
    torch.manual_seed(0)
    name, _ = timm_map(tmp_path)
    data = read_labels(photographs / "labels.csv", photographs / "photos")
    network = fit_backbone(name).at(SIDE)
    heads = fit_folds(network, data, LinearFit(folds=2), every_fold=False, mirror=False)
    heads.save(tmp_path / "head.safetensors")
    load_classifier(tmp_path / "head.safetensors")
    timm_map(tmp_path)
    with pytest.raises(
        ClassifierError, match=f"was fitted on a backbone with weights {heads.head.backbone_sha256[:12]}"
    ):
        load_classifier(tmp_path / "head.safetensors")


def test_a_head_that_reads_the_mean_of_a_map_is_replaced_and_its_rows_are_the_prior(tmp_path, caplog):
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "r.safetensors")
    network = fit_backbone(f"timm/test_resnet@{tmp_path}/r.safetensors")
    assert linear_layer(network) == "fc"
    assert prior_rows(network, ["cat"]).any()
    assert not caplog.text
    without = load_backbone(network.name)
    assert linear_layer(without) == "head"
    assert not prior_rows(without, ["cat", "3"]).any()


def test_without_places_a_class_token_does(tmp_path, caplog):
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "v.safetensors")
    name = f"timm/test_vit@{tmp_path}/v.safetensors"
    assert linear_layer(fit_backbone(name, places=False)) == "head"
    assert not caplog.text
    assert fit_backbone(name).model.num_prefix_tokens > 0
    assert "its own head reads something else than the mean of its last map" in caplog.text


class Tokens(nn.Module):
    """Two tokens of no place, then a row of patches after the other; of one size, or of any."""

    def __init__(self, fixed: bool = False) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 6, 8, 8)
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed and x.shape[2:] != (SIDE, SIDE):
            raise RuntimeError("expected 64")
        places = self.cut(x).flatten(2).transpose(1, 2)
        return torch.cat([places[:, :2] + 9, places], 1)


def test_a_module_of_ones_own(photographs):
    torch.manual_seed(0)
    network = headless(Tokens(), (SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "tokens")
    assert (network.model.num_prefix_tokens, len(network.labels)) == (2, 6)
    assert scales_of(network) == SCALES
    x = network.prepare([draw(("red",), 5)[0]])
    torch.testing.assert_close(network.logits(x), network.model.network(x)[:, 2:].mean(1))


def test_a_network_of_one_size_has_its_places_looked_at_in_that(photographs):
    torch.manual_seed(0)
    network = headless(Tokens(fixed=True), (SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "tokens")
    assert scales_of(network) == (1.0,)
    data = read_labels(photographs / "labels.csv", photographs / "photos")
    heads = fit_folds(network, data, LinearFit(folds=2), PlaceFit(rounds=1), mirror=False)
    classifier = attach(network, heads.head, "placed")
    assert presence_of(classifier.model).scale == 1
    pixels, where = draw(("red",), 50)
    (item,) = Segmenter(classifier)(pixels, ["red"])
    assert item.saliency[where["red"]].min() > np.median(item.saliency[~where["red"]])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda x: [x], "expected a map .* or tokens .* from the last layer of odd, got list"),
        (lambda x: x.mean((2, 3)), r"got \(1, 3\)"),
        (lambda x: x @ torch.zeros(3, 3), r"backbone: odd failed on input \(1, 3, 64, 64\)"),
    ],
)
def test_features_without_places_are_refused(made, says):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return made(x)

    with pytest.raises(ClassifierError, match=says) as error:
        headless(Odd(), (SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "odd")
    assert "\n" not in str(error.value)


def test_names_that_have_no_head_to_take_off(tmp_path):
    for name in ("lite2", "own.json"):
        with pytest.raises(ClassifierError, match=f"backbone: expected timm/NAME, .* to take a head off, got '{name}'"):
            load_backbone(name)
    with pytest.raises(ClassifierError, match="timm has no model 'resnet1'"):
        fit_backbone("timm/resnet1")
    with pytest.raises(ClassifierError, match=r"expected config.json"):
        fit_backbone(f"hf/{tmp_path}")


def test_weights_of_another_network_are_refused(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    name = f"timm/test_vit@{tmp_path}/w.safetensors"
    for more in ("head.weight", "mask_token", "decoder_blocks.0.bias", "projector.weight"):
        save_file({**state, more: torch.zeros(3)}, tmp_path / "w.safetensors")
        load_backbone(name)
    for more in ("norm_pre.weight", "fc_norm.weight", "blocks.0.head.weight"):
        save_file({**state, more: torch.zeros(3)}, tmp_path / "w.safetensors")
        with pytest.raises(ClassifierError, match=f"test_vit without its head: 1 are unknown, the first is '{more}'"):
            load_backbone(name)


def test_weights_that_a_backbone_lacks_are_not_made_up(tmp_path):
    dinov2(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in state.items() if k != "layernorm.bias"}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(
        ClassifierError, match=r"weights lack 1 that a Dinov2Model has, such as layernorm.bias; expected"
    ):
        load_backbone(f"hf/{tmp_path}")


def test_the_walk_goes_over_the_tokens_own_grid():
    over = Features()
    assert over.grid_of([torch.zeros(1, 4, 7, 9)]) == (7, 9)
    assert over.grid_of([torch.zeros(1, 4, 60, 9)]) == (40, 9)
    assert over.grid_of([torch.zeros(1, 4, 14, 14), torch.zeros(1, 4, 7, 7)]) == (40, 40)
    assert Features(levels=1).grid_of([torch.zeros(1, 4, 7, 9)]) == (40, 40)
    torch.manual_seed(0)
    network = headless(Tokens(), (SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "tokens")
    view = View(network, network.prepare([draw(("red",), 5)[0]]))
    over.declare(view)
    grid, walks = over.shares(view, [0])
    features = nn.functional.normalize(network.model.network(view.x)[0, 2:], dim=1)
    expected = (features @ features.T).clamp(min=0) ** 12
    assert grid == (8, 8)
    torch.testing.assert_close(walks[0], expected / expected.sum(1, keepdim=True))


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
def test_a_wrapper_round_timm(architecture, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=3).eval()
    prepared = {"input_size": [3, 160, 160], "mean": [0.1, 0.5, 0.7], "std": [0.2, 0.3, 0.9], "num_classes": 3}
    more = {"crop_pct": 0.9, "interpolation": "bicubic", "fixed_input_size": False}
    config = {"architecture": architecture, "num_classes": 3, "label_names": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {**prepared, **more}}))
    save_file(model.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    network = load_backbone(f"hf/{tmp_path}")
    assert (network.size, network.mean, network.std) == ((160, 160), (0.1, 0.5, 0.7), (0.2, 0.3, 0.9))
    x = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        made = model.forward_features(x)
        expected = made[:, 1:].mean(1) if made.ndim == 3 else made.mean((2, 3))
        torch.testing.assert_close(network.logits(x), expected)

"""Where classifiers come from: each source gives masks, and each thing that is wrong with it one line."""

from __future__ import annotations

import copy
import json
import os
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from networks import refused
from safetensors.torch import save_file
from torch import nn

from gradcut import Classifier, Segmenter, load_classifier, saliency
from gradcut.catalogue import CLASSIFIERS
from gradcut.classifiers.embedded import lite_network
from gradcut.classifiers.hub import reachable_or_cached
from gradcut.classifiers.lite import EfficientNetLite
from gradcut.classifiers.sources import list_classifiers
from gradcut.classifiers.weights import fold_batch_norms, weights_sha256
from gradcut.labels import coco_ids, imagenet_labels, timm_labels
from gradcut.network.activations import Backward, guided
from gradcut.recipes import RECIPES, Recipe

TINY = "test_resnet"


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(TINY, num_classes=4)


@pytest.fixture
def card(tmp_path, tiny):
    """Writes a card and its weights, changed as asked, and gives the card's path."""

    def write(state=None, **changes):
        state = tiny.state_dict() if state is None else state
        torch.save(state, tmp_path / "own.pth")
        content = {"architecture": TINY, "labels": ["a", "b", "c", "d"], **changes}
        (tmp_path / "own.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        return str(tmp_path / "own.json")

    return write


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> str:
    """A tiny transformers ViT in a folder."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=64, patch_size=16,
        num_labels=3, id2label={0: "red", 1: "green", 2: "red"}, problem_type="multi_label_classification",
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    preparation = {
        "do_resize": True, "size": {"height": 64, "width": 64}, "do_rescale": True, "rescale_factor": 1 / 127.5,
        "do_normalize": True, "image_mean": [1, 1, 1], "image_std": [1, 1, 0.5],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return str(folder)


says = partial(refused, load_classifier)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_embedded_networks_are_timms_to_the_bit(number):
    model, theirs = EfficientNetLite(number).eval(), timm.create_model(f"tf_efficientnet_lite{number}").eval()
    for buffer in theirs.buffers():
        if buffer.ndim:
            buffer.uniform_(0.5, 1.5)  # so that a batch norm in the wrong place shows
    model.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 75, 96, generator=torch.Generator().manual_seed(number))
    with torch.no_grad():
        assert torch.equal(model(x), theirs(x))
    assert list(model.state_dict()) == list(theirs.state_dict())


# Batch norms are folded into the convolutions --------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """What `embedded` is made of."""
    return lite_network(0, "embedded")


def test_the_embedded_network_is_without_batch_norms(embedded, plain, cat):
    norms = {name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) == 49
    assert not any(isinstance(module, nn.BatchNorm2d) for module in embedded.model.modules())
    assert norms <= {name for name, _ in embedded.model.named_modules()}  # their names stay
    assert all(parameter.dtype == torch.float32 for parameter in embedded.model.parameters())
    x = embedded.prepare([cat])
    with torch.no_grad():
        logits = plain(x)
        torch.testing.assert_close(embedded.model(x), logits, rtol=1e-5, atol=2e-5)
    with Backward(guided) as rule:
        embedded.model(x.requires_grad_())
    assert rule.followed == 33


@pytest.mark.parametrize(
    "method", [saliency.CAM(), saliency.GradCAM(layers=("blocks.4.2.bn2", "bn2")), saliency.LayerCAM(layers=3)]
)
def test_maps_of_the_folded_network_are_those_of_timms(embedded, plain, cat, method):
    x = embedded.prepare([cat])
    expected = method(replace(embedded, model=plain), x, [(0, 285)])
    torch.testing.assert_close(method(embedded, x, [(0, 285)]), expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_gradients_of_the_folded_network_are_those_of_timms(embedded, plain, cat):
    # Where rounding pushes an activation over its kink, a few pixels differ.
    x = embedded.prepare([cat])
    expected = saliency.Gradient()(replace(embedded, model=plain), x, [(0, 285)])
    found = saliency.Gradient()(embedded, x, [(0, 285)])
    assert (found - expected).norm() < 1e-2 * expected.norm()


def test_a_folded_network_is_known_by_the_weights_that_it_was_made_of(embedded, plain):
    assert weights_sha256(embedded.model) == weights_sha256(plain)
    changed = copy.deepcopy(embedded.model)
    fold_batch_norms(changed)  # nothing is left to fold
    assert weights_sha256(changed) == weights_sha256(plain)
    with torch.no_grad():
        changed.conv_head.bias[0] += 1
    assert weights_sha256(changed) != weights_sha256(plain)


def test_a_module_that_is_handed_in_keeps_its_batch_norms(plain, cat):
    before = weights_sha256(plain)
    Segmenter(Classifier(plain, imagenet_labels(), size=96), "fast")(cat, ["tabby"])
    assert weights_sha256(plain) == before
    assert sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules()) == 49


# Every source gives masks -----------------------------------------------------------------------------------------


def test_coco80_sees_the_cat(cat):
    classifier = load_classifier("coco80")
    assert classifier.labels == tuple(coco_ids())
    assert classifier.multilabel
    (found,) = classifier.detect([cat])
    assert found[0].label == "cat"
    assert found[0].score > 0.5
    result = Segmenter(classifier)(cat)
    assert 0.05 < result.objects[0].mask.mean() < 0.95
    # Twelve by twelve features at 384: CAM, whose equation holds exactly, takes the head for what it is.
    x = classifier.prepare([cat])
    assert saliency.CAM()(classifier, x, [(0, found[0].members[0])]).max() > 0


def sources(vit: str, tmp_path) -> dict[str, Classifier]:
    torch.manual_seed(0)
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "r.safetensors")
    own = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    return {
        "embedded": load_classifier("embedded").at(96),
        "coco80": load_classifier("coco80").at(96),
        "timm": load_classifier(f"timm/resnet18@{tmp_path}/r.safetensors").at(64),
        "transformers": load_classifier(f"hf/{vit}"),
        "own": Classifier(own, ("a", "b"), size=32),
    }


ATTENTIONS = (saliency.AttentionGradient(), saliency.AttentionRollout())
OTHERS = (
    saliency.Gradient(of="probability"), saliency.Gradient(of="logit"), saliency.GradientXInput(),
    saliency.GuidedBackprop(), saliency.DeconvNet(), saliency.SmoothGrad(samples=2), saliency.VarGrad(samples=2),
    saliency.IntegratedGradients(steps=4), saliency.GradCAM(), saliency.GradCAMPlusPlus(), saliency.HiResCAM(),
    saliency.LayerCAM(), saliency.GuidedGradCAM(),
)  # fmt: skip


def test_masks_out_of_every_source_with_every_method_that_applies(vit, tmp_path, cat):
    photograph = np.ascontiguousarray(cat[::4, ::4])
    for name, classifier in sources(vit, tmp_path).items():
        label = classifier.detect([photograph], threshold=0, top_k=1)[0][0].label
        tokens = name == "transformers"
        for method in (*OTHERS, *(ATTENTIONS if tokens else (saliency.CAM(),))):
            recipe = Recipe("test", "", method, RECIPES["simonyan"].seeds, RECIPES["simonyan"].masks)
            (found,) = Segmenter(classifier, recipe)(photograph, [label]).objects
            assert found.saliency.max() > 0, (name, method)
            assert 0 < found.mask.mean() < 1, (name, method)
        for method in (saliency.CAM(),) if tokens else ATTENTIONS:
            with pytest.raises(saliency.SaliencyError, match=r"GradCAM\(\) works with any"):
                method(classifier, classifier.prepare([photograph]), [(0, 0)])


def test_a_group_of_classes_has_a_mask_and_exports(embedded, cat, tmp_path):
    from gradcut.formats import pile

    (found,) = Segmenter(embedded)(cat, ["cat"]).objects
    (one,) = Segmenter(embedded)(cat, ["Egyptian cat"]).objects
    assert found.label == "cat"
    assert found.score > one.score
    assert not np.array_equal(found.saliency, one.saliency)
    result = Segmenter(embedded)(cat, ["cat", "dog"])
    given = pile([result])
    assert given.classes[1000:] == ("cat", "dog")
    for each in result.objects:
        assert (result.classmap() == given.classes.index(each.label) + 1).any()


def test_a_namesake_keeps_the_name_it_was_asked_for_by(cat):
    from gradcut.formats import pile

    result = Segmenter(load_classifier("coco80").at(96))(cat, ["sofa", "couch"])
    sofa, couch = result.objects
    assert (sofa.label, couch.label) == ("sofa", "couch")
    assert np.array_equal(sofa.mask, couch.mask)
    assert sofa.score == pytest.approx(couch.score)
    assert pile([result]).classes[80:] == ("sofa",)


# timm -------------------------------------------------------------------------------------------------------------


def test_timm_takes_its_pretrained_configuration(tmp_path):
    model = timm.create_model(TINY)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth")
    classifier = load_classifier(f"timm/{TINY}@{tmp_path}/w.pth")
    config = model.pretrained_cfg
    assert classifier.size == config["input_size"][1:]
    assert classifier.mean == config["mean"]
    assert classifier.labels == imagenet_labels()
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.logits(x), model.eval()(x))


def test_timm_vit_takes_other_sizes(tmp_path, cat):
    model = timm.create_model("test_vit")
    torch.save(model.state_dict(), tmp_path / "v.pth")
    classifier = load_classifier(f"timm/test_vit@{tmp_path}/v.pth")
    x = classifier.prepare([cat])
    with torch.inference_mode():
        torch.testing.assert_close(classifier.logits(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    assert Segmenter(classifier, "simonyan")(cat, ["tabby"]).objects[0].saliency.shape == (448, 448)


def test_labels_of_larger_imagenets():
    model = timm.create_model(TINY, num_classes=11821)
    model.pretrained_cfg["num_classes"] = 11821
    labels = timm_labels(model)
    assert len(labels) == len(set(labels)) == 11821


# Hugging Face -----------------------------------------------------------------------------------------------------


def test_transformers_folder(vit, cat):
    classifier = load_classifier(f"hf/{vit}")
    assert classifier.labels == ("red (0)", "green", "red (2)")
    assert classifier.multilabel
    assert classifier.size == (64, 64)
    # p / 127.5 - 1, over 1 or 0.5, is (p / 255 - 0.5) over 0.5 or 0.25.
    assert classifier.mean == pytest.approx((0.5,) * 3)
    assert classifier.std == pytest.approx((0.5, 0.5, 0.25))
    assert Segmenter(classifier, "simonyan")(cat, ["green"]).objects[0].saliency.shape == (448, 448)


def test_folder_without_a_classifier(tmp_path):
    says(f"hf/{tmp_path}", "expected config.json", "in the folder")


# Cards ------------------------------------------------------------------------------------------------------------


def test_card_says_it_all(card, tiny, tmp_path):
    classifier = load_classifier(
        card(size=[32, 48], mean=[0, 0, 0], std=[1, 1, 1], multilabel=True, threshold=0.3, top_k=2, name="mine")
    )
    assert repr(classifier) == repr(
        Classifier(tiny, list("abcd"), (32, 48), (0, 0, 0), (1, 1, 1), True, 0.3, 2, "mine")
    )
    x = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.logits(x), tiny.eval()(x))
    assert repr(load_classifier(str(tmp_path / "own.pth"))) == repr(classifier)


def test_card_labels_by_name_or_file(card, tmp_path):
    (tmp_path / "names.txt").write_text("w\nx\ny\nz\n")
    assert load_classifier(card(labels="names.txt")).labels == ("w", "x", "y", "z")
    (tmp_path / "names.txt").write_bytes("\ufeffw\r\nx\r\ny\r\nz\r\n\r\n".encode())  # as editors on Windows leave it
    assert load_classifier(card(labels="names.txt")).labels == ("w", "x", "y", "z")
    (tmp_path / "names.txt").write_bytes("w\nx\ny\nköttbullar".encode("latin1"))
    says(card(labels="names.txt"), "labels: names.txt: cannot be read as UTF-8, in line 4; save it as UTF-8")
    says(card(labels="voc"), "20 labels", "expected (20,", "got (4,")
    says(card(labels="other"), "expected a list, coco, voc, imagenet or a file")


def test_wrong_cards(card, tmp_path):
    says(card(labels=["a", "b", "c"]), "have another shape", "expected (3,", "got (4,")
    says(card(labels=["a", "a", "b", "c"]), "no label twice, got ['a']")
    says(card(architecture="resnet1"), "timm has no model 'resnet1'", "near it are", "resnet")
    says(card(labels=None), "expected architecture, labels")
    says(card(colour="red"), "got architecture, labels, colour")
    says(card(multilabel="yes"), "multilabel: expected bool, got 'yes'")
    says(card(weights="none.pth"), "none.pth: no such file")
    (tmp_path / "own.json").write_text("{")
    says(str(tmp_path / "own.json"), "cannot be read as JSON")
    says(str(tmp_path / "other.json"), "no such card", "architecture")


# Weights ----------------------------------------------------------------------------------------------------------


class Code:
    def __reduce__(self):
        return os.system, ("echo this must not run",)


def test_wrong_weights(card, tiny, tmp_path, capfd):
    state = tiny.state_dict()
    key = next(key for key in state if key.endswith("conv1.weight"))
    says(card({k: v for k, v in state.items() if k != key}), "1 are missing", key)
    says(card({**state, "more": torch.zeros(1)}), "1 are unknown", "'more'")
    says(card({"a": 1}), "expected weights by name")
    says(card({"model": Code()}), "more than weights in it", "not run", "system")
    says(card([1, 2]), "expected a checkpoint with named weights, got list")
    whole = (tmp_path / "own.pth").read_bytes()
    card()
    whole = (tmp_path / "own.pth").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "own.pth").write_bytes(whole[:size])
        says(str(tmp_path / "own.json"), "own.pth: damaged, or not a PyTorch checkpoint")
    save_file(state, tmp_path / "own.safetensors")
    (tmp_path / "own.safetensors").write_bytes((tmp_path / "own.safetensors").read_bytes()[:-7])
    says(str(tmp_path / "own.json"), "own.safetensors: damaged")
    assert "must not run" not in capfd.readouterr().out


# Names ------------------------------------------------------------------------------------------------------------


def test_a_file_may_be_a_path(card, tmp_path):
    path = Path(card(name="mine"))
    assert load_classifier(path).name == "mine"
    assert load_classifier(path.with_suffix(".pth")).name == "mine"


@pytest.mark.parametrize("name", [None, b"coco80", 3, nn.Identity()])
def test_what_is_no_name(unchecked, name):
    says(name, f"classifier: expected a name or a path, got {type(name).__name__}", "Classifier(model, labels)")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet50", "timm/resnet50"),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("google/vit-base-patch16-224", "hf/google/vit-base-patch16-224"),
        ("embeded", "embedded"),
        ("COCO80", "coco80"),
        ("lite-2", "lite2"),
    ],
)
def test_near_misses(name, meant):
    says(name, f"got {name!r}; did you mean {meant!r}?")


def test_refusals_say_what_is_accepted(monkeypatch):
    says("nothing of the kind", *CLASSIFIERS, "got 'nothing of the kind'")
    says("embeded", *CLASSIFIERS)
    says("timm/resnet1", "near it are")
    says("ml-decoder@none.pth", "none.pth: no such file")
    says("none.safetensors", "none.safetensors: no such file")


def test_without_the_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    def nobody():
        raise ConnectionError

    monkeypatch.setattr("gradcut.classifiers.hub.get_session", nobody)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    says(
        "timm/test_vit2",
        "could not be downloaded",
        "download model.safetensors of timm/test_vit2.",
        "@model.safetensors",
    )
    pytest.importorskip("transformers")
    says("hf/nobody/nothing", "could not be downloaded", "of nobody/nothing", "hf/FOLDER")
    assert not constants.HF_HUB_OFFLINE


def test_two_loads_at_once_leave_the_hubs_switch_as_it_was(monkeypatch):
    from huggingface_hub import constants

    def nobody():
        raise ConnectionError

    monkeypatch.setattr("gradcut.classifiers.hub.get_session", nobody)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    entered, leave = threading.Event(), threading.Event()

    def second():
        with reachable_or_cached():
            entered.set()
            leave.wait(10)

    with reachable_or_cached():
        assert constants.HF_HUB_OFFLINE
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.3)  # else it would take the turned switch for how the user has it
    assert entered.wait(10)
    leave.set()
    thread.join(10)
    assert constants.HF_HUB_OFFLINE is False


def test_list():
    assert list_classifiers() == CLASSIFIERS
    assert list(list_classifiers("COCO80")) == ["coco80"]
    found = list_classifiers("resnet18*")
    assert "timm/resnet18.a1_in1k" in found
    assert all(name.startswith("timm/resnet18") for name in found)
    assert list_classifiers("no such thing") == {}


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("timm/resnet18", "hub", "timm"), ("own.json", "card", "timm"), ("hf/org/name", "hugging_face", "hf")],
)
def test_a_package_that_is_missing_names_its_extra(name, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for each in {module, "hub"}:
        monkeypatch.delitem(sys.modules, f"gradcut.classifiers.{each}", raising=False)
    refused(load_classifier, name, f"timm is not installed; pip install 'gradcut[{extra}]'")


def test_looking_through_timm_needs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert list_classifiers() == CLASSIFIERS
    refused(list_classifiers, "resnet*", "timm is not installed; pip install 'gradcut[timm]'")


def test_a_torchvision_of_another_build_is_told_of(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("gradcut.classifiers.sources.import_module", broken)
    refused(
        load_classifier, "timm/resnet18", "torchvision are different builds (operator torchvision::nms does not exist)"
    )

"""Classifiers of words say what their models say, whatever else is asked for."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from worded import KINDS, SIDE, transformers, written

from gradcut import Segmenter, load_classifier
from gradcut.classifiers.sources import takes_words
from gradcut.classifiers.words import BACKGROUND, TEMPLATES, Words
from gradcut.errors import ClassifierError
from gradcut.recipes import with_saliency

PHOTOGRAPH = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((SIDE, SIDE))
)
WORDS = ["cat", "forklift"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, folder in made.items():
        written(kind, folder)
    return made


def scores(classifier) -> dict[str, float]:
    return {found.label: found.score for found in classifier.detect([PHOTOGRAPH], threshold=0)[0]}


def own_logits(folder: Path, sentences: list[str]) -> torch.Tensor:
    """Those of transformers' own forward pass of the photograph and the sentences."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    filled = {"padding": "max_length", "max_length": 64} if hasattr(model, "logit_bias") else {"padding": True}
    inputs = tokenizer(sentences, return_tensors="pt", **filled)
    with torch.inference_mode():
        return model(**inputs, **processor(images=Image.fromarray(PHOTOGRAPH), return_tensors="pt")).logits_per_image[0]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_model(folders, kind):
    words = [*WORDS, "sky", "sea"]
    logits = own_logits(folders[kind], [f"a photo of a {word}." for word in words]).double()
    sigmoid = "siglip" in kind
    rest = 1.0 if sigmoid else 0.0
    odds = logits[:2].exp() / (rest + logits[2:].exp().sum())
    classifier = load_classifier(f"hf/{folders[kind]}", labels=WORDS, background=["sky", "sea"])
    assert classifier.labels == tuple(WORDS)
    assert classifier.threshold == (0.1 if sigmoid else 0.5)
    assert scores(classifier) == pytest.approx(dict(zip(WORDS, (odds / (1 + odds)).tolist(), strict=True)), abs=1e-5)
    if sigmoid:  # alone, as it was trained
        alone = scores(load_classifier(f"hf/{folders[kind]}", labels=WORDS))
        assert alone == pytest.approx(dict(zip(WORDS, logits[:2].sigmoid().tolist(), strict=True)), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_does_not_depend_on_what_else_is_asked_for(folders, kind):
    name, background = f"hf/{folders[kind]}", ["sky", "sea", "grass"]
    alone = scores(load_classifier(name, labels=["cat"], background=background))
    among = scores(load_classifier(name, labels=["Sky", "dog", "cat"], background=background))
    assert among["cat"] == pytest.approx(alone["cat"], abs=1e-6)
    # A background word that is asked for is no rival of itself, and one of all others still.
    own = scores(load_classifier(name, labels=["sky"], background=["sea", "grass"]))
    assert among["Sky"] == pytest.approx(own["sky"], abs=1e-6)
    assert scores(load_classifier(name, labels=["cat"], background=["sea"]))["cat"] > 1.005 * alone["cat"]


def test_templates_are_averaged(folders):
    both = ["a photo of a {}.", "the picture of the {}"]
    model = transformers.AutoModel.from_pretrained(folders["siglip"]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["siglip"])
    sentences = [template.replace("{}", "cat") for template in both]
    inputs = tokenizer(sentences, return_tensors="pt", padding="max_length", max_length=64)
    with torch.inference_mode():
        embeddings = torch.nn.functional.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
    expected = torch.nn.functional.normalize(embeddings.mean(0), dim=0) * model.logit_scale.exp()
    head = load_classifier(f"hf/{folders['siglip']}", labels=["cat"], templates=both).model.head
    torch.testing.assert_close(head.weight[0], expected.detach(), rtol=1e-5, atol=1e-5)
    first = load_classifier(f"hf/{folders['siglip']}", labels=["cat"], templates=both[:1]).model.head
    assert (first.weight - head.weight).abs().max() > 1e-2


def test_what_is_known_of_words_by_default(folders):
    clip = load_classifier(f"hf/{folders['clip']}", labels=WORDS)
    assert clip.record()["words"] == {
        "labels": WORDS, "templates": list(TEMPLATES), "background": list(BACKGROUND),
    }  # fmt: skip
    assert len(clip.model.head.weight) == len(WORDS) + len(BACKGROUND)
    assert len(set(BACKGROUND)) == len(BACKGROUND) == 28  # which a command's help says
    siglip = load_classifier(f"hf/{folders['siglip']}", labels=WORDS)
    assert siglip.record()["words"]["background"] == []
    assert "words" not in load_classifier("embedded").record()


@pytest.mark.parametrize("kind", KINDS)
def test_the_case_of_a_word_does_not_count(folders, kind):
    small, large = (load_classifier(f"hf/{folders[kind]}", labels=[word]) for word in ("forklift", "FORKlift"))
    assert large.labels == ("FORKlift",)
    torch.testing.assert_close(large.model.head.weight, small.model.head.weight, rtol=0, atol=0)


def test_the_text_tower_is_gone(folders):
    state = load_classifier(f"hf/{folders['clip']}", labels=WORDS).model.state_dict()
    assert not [key for key in state if "text" in key or "logit" in key]


def test_the_fingerprint_changes_with_whatever_was_said(folders):
    name = f"hf/{folders['clip']}"
    several = [
        load_classifier(name, labels=WORDS),
        load_classifier(name, labels=["cat", "pallet"]),
        load_classifier(name, labels=WORDS, background=["sky"]),
        load_classifier(name, labels=WORDS, templates=["a photo of {}."]),
        load_classifier(name, labels=WORDS).at(2 * SIDE),
        load_classifier(f"hf/{folders['metaclip_2']}", labels=WORDS),
    ]
    assert len({classifier.fingerprint for classifier in several}) == len(several)
    assert load_classifier(name, labels=WORDS).fingerprint == several[0].fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_sent_to_another_process(folders, kind):
    classifier = load_classifier(f"hf/{folders[kind]}", labels=WORDS)
    sent = pickle.loads(pickle.dumps(classifier))
    assert sent.fingerprint == classifier.fingerprint
    assert scores(sent) == pytest.approx(scores(classifier), rel=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(tmp_path, kind, dtype):
    written(kind, tmp_path, dtype)
    assert load_file(tmp_path / "model.safetensors")["vision_model.encoder.layers.0.mlp.fc1.weight"].dtype == dtype
    classifier = load_classifier(f"hf/{tmp_path}", labels=WORDS)
    assert {value.dtype for value in classifier.model.parameters()} == {torch.float32}
    assert classifier.detect([PHOTOGRAPH], threshold=0)[0]
    assert np.isfinite(list(scores(classifier).values())).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["simonyan", "GradCAM"])
def test_masks_of_words(folders, kind, recipe):
    classifier = load_classifier(f"hf/{folders[kind]}", labels=[*WORDS, "dog"], background=["sky", "sea"])
    segmenter = Segmenter(classifier, with_saliency("fast", "GradCAM") if recipe == "GradCAM" else recipe)
    photograph = np.asarray(Image.fromarray(PHOTOGRAPH).resize((90, 70)))
    result = segmenter(photograph, WORDS)
    assert [each.label for each in result.objects] == WORDS
    for each in result.objects:
        assert each.mask.shape == (70, 90)
        assert 0 < each.mask.mean() < 1
        assert each.saliency.max() > 0
    assert np.abs(result.objects[0].saliency - result.objects[1].saliency).max() > 0
    assert segmenter.record()["classifier"]["words"]["labels"] == [*WORDS, "dog"]
    assert json.dumps(segmenter.record())


@pytest.mark.parametrize("kind", KINDS)
def test_other_sizes_and_several_photographs(folders, kind):
    classifier = load_classifier(f"hf/{folders[kind]}", labels=WORDS).at((2 * SIDE, SIDE))
    assert classifier.size == (2 * SIDE, SIDE)
    several = [PHOTOGRAPH, PHOTOGRAPH[::-1].copy(), PHOTOGRAPH]
    with torch.inference_mode():
        together = classifier.logits(classifier.prepare(several))
        alone = torch.cat([classifier.logits(classifier.prepare([one])) for one in several])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_size_that_is_no_multiple_of_the_patch(folders):
    assert load_classifier(f"hf/{folders['siglip2']}", labels=WORDS).at(100).size == (96, 96)


WRONG = {
    "none": ({}, r'labels: hf/\S+ takes words for classes and was given none; labels=\["cat", "dog"\] in Python'),
    "no list": ({"labels": "cat"}, "labels: expected a list of strings, got 'cat'"),
    "a number": ({"labels": 3}, "labels: expected a list of strings, got 3"),
    "empty list": ({"labels": []}, "labels: expected at least one and no label twice, got none"),
    "empty": ({"labels": ["cat", " "]}, "labels: expected names that are not empty, got ' ' among them"),
    "twice": ({"labels": ["cat", "cat"]}, r"labels: expected at least one and no label twice, got \['cat'\]"),
    "twice but for case": ({"labels": ["a Cat", "a  cat"]}, r"labels: expected .* got \['a cat'\]"),
    "background twice": ({"labels": ["cat"], "background": ["sea", "sea"]}, "background: expected .* got .'sea'."),
    "no background": ({"labels": ["cat"], "background": []}, "background: expected at least one word beside 'cat'"),
    "no rival": ({"labels": ["sea"], "background": ["Sea"]}, "background: expected at least one word beside 'sea'"),
    "no place": ({"labels": ["cat"], "templates": ["a photo"]}, "templates: expected sentences with {} once"),
    "no templates": ({"labels": ["cat"], "templates": []}, "templates: expected at least one"),
    "unknown": (
        {"labels": ["gabelstapler"]},
        "labels: hf/.* does not know what 'a photo of a gabelstapler.'",
    ),
    "too long": ({"labels": ["cat " * 80]}, "labels: hf/.* takes at most 64 tokens, got 87 in 'a photo of a cat"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words_are_one_line(folders, case, unchecked):
    options, message = WRONG[case]
    with pytest.raises(ClassifierError, match=f"^{message}") as error:
        load_classifier(f"hf/{folders['clip']}", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argument", ["labels", "templates", "background"])
def test_words_for_a_classifier_with_classes_of_its_own(argument, tmp_path):
    with pytest.raises(ClassifierError, match=f"^{argument}: coco80 has classes of its own; only a classifier of w"):
        load_classifier("coco80", **{argument: ["cat"]})
    config = transformers.CLIPConfig(
        vision_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE}
    )
    transformers.CLIPForImageClassification(config).save_pretrained(tmp_path)
    assert not takes_words(f"hf/{tmp_path}")
    with pytest.raises(ClassifierError, match=f"^{argument}: hf/{tmp_path} has classes of its own"):
        load_classifier(f"hf/{tmp_path}", **{argument: ["cat"]})


def test_which_take_words(folders):
    assert all(takes_words(f"hf/{folder}") for folder in folders.values())
    assert not takes_words("coco80")
    assert not takes_words("timm/resnet18")


def test_files_that_cannot_be_had_are_one_line(folders, tmp_path, monkeypatch):
    with pytest.raises(ClassifierError, match=f"^classifier: hf/{tmp_path}/none: no such folder: {tmp_path}/none$"):
        load_classifier(f"hf/{tmp_path}/none", labels=WORDS)
    shutil.copytree(folders["clip"], tmp_path / "clip")
    for file in (tmp_path / "clip").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        ClassifierError, match=r"its tokenizer has .* takes [0-9]+; expected the tokenizer's own files"
    ) as error:
        load_classifier(f"hf/{tmp_path}/clip", labels=WORDS)
    assert "\n" not in str(error.value)
    (tmp_path / "clip/preprocessor_config.json").unlink()
    with pytest.raises(
        ClassifierError, match=r"expected config.json, .* the tokenizer's files in the folder: "
    ) as error:
        load_classifier(f"hf/{tmp_path}/clip", labels=WORDS)
    assert "\n" not in str(error.value)

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("gradcut.classifiers.hub.get_session", unreachable)
    name = "hf/nobody/of-that-name"
    with pytest.raises(ClassifierError, match=f"^classifier: {name} is not on this machine and could not be") as error:
        load_classifier(name, labels=WORDS)
    assert "download config.json" in str(error.value)
    assert "the tokenizer's files of nobody/of-that-name from the hub into a folder" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_models_of_photographs_and_text(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "align"}))
    with pytest.raises(ClassifierError, match="is a align model of photographs and text; of these clip, metaclip_2"):
        load_classifier(f"hf/{tmp_path}", labels=WORDS)


def test_own_background_words():
    words = Words(("Cat", "sea"), background=("sky", "SEA"))
    assert words.own.tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_other_files(folders, tmp_path, kind):
    expected = scores(load_classifier(f"hf/{folders[kind]}", labels=WORDS))
    for layout in ("shards", "bin"):
        folder = tmp_path / layout
        shutil.copytree(folders[kind], folder)
        (folder / "model.safetensors").unlink()
        if layout == "shards":
            model = transformers.AutoModel.from_pretrained(folders[kind])
            model.save_pretrained(folder, max_shard_size="40KB")
            assert len(list(folder.glob("model-*.safetensors"))) > 1
        else:
            torch.save(load_file(folders[kind] / "model.safetensors"), folder / "pytorch_model.bin")
        came = scores(load_classifier(f"hf/{folder}", labels=WORDS))
        assert came == pytest.approx(expected, rel=1e-5)


def test_weights_that_lack_something(folders, tmp_path):
    shutil.copytree(folders["clip"], tmp_path / "clip")
    state = load_file(tmp_path / "clip/model.safetensors")
    del state["text_projection.weight"]
    save_file(state, tmp_path / "clip/model.safetensors", {"format": "pt"})
    with pytest.raises(ClassifierError, match=r"its weights lack 1 that a CLIPModel has, such as text_projection.weig"):
        load_classifier(f"hf/{tmp_path}/clip", labels=WORDS)

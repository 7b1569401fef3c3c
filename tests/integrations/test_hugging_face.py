"""The output has the form of transformers' own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from networks import placed
from PIL import Image

import gradcut
from gradcut import GradcutError, Segmenter


def test_objects_are_the_segmenters(brightness, drawn):
    classifier = placed(brightness)
    objects = gradcut.pipeline("image-segmentation", model=classifier)(Image.fromarray(drawn[0]))
    expected = Segmenter(classifier)(drawn[0]).objects
    assert [(o["label"], o["score"]) for o in objects] == [(item.label, item.score) for item in expected]
    for o, item in zip(objects, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(o["mask"]) == 255, item.mask)


def test_options(brightness, drawn, tmp_path):
    classifier = placed(brightness)
    assert len(gradcut.pipeline(model=classifier, top_k=1)(drawn[0])) == 1
    assert gradcut.pipeline(model=classifier, threshold=1.0)(drawn[0]) == []
    pipe = gradcut.pipeline(model=classifier, recipe="fast", device="cpu")
    assert pipe.segmenter.recipe.name == "fast"
    assert [o["label"] for o in pipe(np.zeros((20, 30, 3), np.uint8), labels=["blue"])] == ["blue"]
    Image.fromarray(drawn[0]).save(tmp_path / "a.png")
    several = pipe([str(tmp_path / "a.png"), drawn[0], np.zeros((20, 30, 3), np.uint8)])
    assert [sorted(o["label"] for o in each) for each in several] == [["blue", "red"], ["blue", "red"], []]


def test_words(tmp_path):
    worded = pytest.importorskip("worded", reason="needs transformers")
    worded.written("siglip", tmp_path)
    pipe = gradcut.pipeline(model=f"hf/{tmp_path}", labels=["cat", "forklift"], recipe="clip-es", threshold=0.0)
    photograph = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert {o["label"] for o in pipe(photograph)} == {"cat", "forklift"}


def test_errors_are_one_line(brightness):
    with pytest.raises(GradcutError, match="task: expected 'image-segmentation', got 'depth-estimation'"):
        gradcut.pipeline("depth-estimation")
    with pytest.raises(GradcutError, match="labels: expected a model's name with them"):
        gradcut.pipeline(model=brightness, labels=["cat"])


def test_the_form_is_transformers_own(brightness, drawn):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    small = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "decoder_hidden_size": 8, "num_attention_heads": [1] * 4}
    model = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=3, **small)).eval()
    processor = transformers.SegformerImageProcessor(size={"height": 64, "width": 64})
    theirs = transformers.pipeline("image-segmentation", model=model, image_processor=processor)
    image = Image.fromarray(drawn[0][:50])
    pairs = (theirs(image), gradcut.pipeline(model=placed(brightness))(image))
    forms = [
        {(tuple(sorted(o)), type(o["label"]), type(o["mask"]), o["mask"].mode, o["mask"].size) for o in objects}
        for objects in pairs
    ]
    assert forms[0] == forms[1]
    assert len(forms[0]) == 1
    values = [set(np.unique([np.unique(o["mask"]) for o in objects]).tolist()) for objects in pairs]
    assert values[1] == {0, 255} >= values[0]
    batches = theirs([image, image]), gradcut.pipeline(model=placed(brightness))([image, image])
    assert [type(each) for each in batches[0]] == [type(each) for each in batches[1]] == [list, list]

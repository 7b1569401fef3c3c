"""cvat-sdk's own types take what the function gives, and its own decoder gives the same masks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from networks import Brightness, placed
from PIL import Image, ImageDraw

from gradcut import Classifier, GradcutError, Segmenter
from gradcut.integrations import cvat
from gradcut.labels import imagenet_labels


class Context(NamedTuple):
    """What `cvat_sdk` tells a function of a frame."""

    frame_name: str = "cat.png"
    conf_threshold: float | None = None
    conv_mask_to_poly: bool = False


@pytest.fixture
def sdk():
    return pytest.importorskip("cvat_sdk.auto_annotation", reason="needs cvat-sdk")


@pytest.fixture
def segmenter(brightness) -> Segmenter:
    return Segmenter(placed(brightness))


def numbers(function: cvat.Function) -> dict[int, str]:
    assert {label.type.value if hasattr(label.type, "value") else label.type for label in function.spec.labels} == {
        "mask"
    }
    return {label.id: label.name for label in function.spec.labels}


def test_masks_are_exact(sdk, segmenter, drawn):
    from cvat_sdk.masks import decode_mask

    function = cvat.Function(segmenter)
    names = numbers(function)
    assert names == {0: "red", 1: "blue"}
    shapes = function.detect(Context(), Image.fromarray(drawn[0]))
    expected = {item.label: item.mask for item in segmenter(drawn[0]).objects}
    assert {names[shape.label_id] for shape in shapes} == set(expected)
    for shape in shapes:
        assert (shape.type.value, shape.frame) == ("mask", 0)
        mask = decode_mask(shape.points, image_width=64, image_height=64)
        np.testing.assert_array_equal(mask, expected[names[shape.label_id]])
        assert shape.score == segmenter(drawn[0])[names[shape.label_id]].confidence


def test_polygons_where_they_are_asked_for(sdk, segmenter, drawn):
    function = cvat.Function(segmenter, tolerance=0)
    shapes = function.detect(Context(conv_mask_to_poly=True), Image.fromarray(drawn[0]))
    union = np.zeros((64, 64), dtype=bool)
    for shape in shapes:
        assert shape.type.value == "polygon"
        canvas = Image.new("1", (64, 64))
        ImageDraw.Draw(canvas).polygon(list(zip(shape.points[::2], shape.points[1::2], strict=True)), fill=1)
        union |= np.array(canvas)
    mask = segmenter(drawn[0]).mask
    assert (union & mask).sum() / (union | mask).sum() > 0.85  # Pillow paints the border, too
    fewer = cvat.Function(segmenter, tolerance=2).detect(Context(conv_mask_to_poly=True), Image.fromarray(drawn[0]))
    assert sum(len(shape.points) for shape in fewer) < sum(len(shape.points) for shape in shapes)


def test_the_threshold_is_of_the_confidence(sdk, segmenter, drawn, brightness):
    function, image = cvat.Function(segmenter), Image.fromarray(drawn[0])
    known = sorted(item.confidence for item in segmenter(drawn[0]).objects)
    assert [len(function.detect(Context(conf_threshold=c), image)) for c in (0, known[1], 1)] == [2, 1, 0]
    with pytest.raises(GradcutError, match="expected a confidence for every object"):
        cvat.Function(Segmenter(brightness, "simonyan")).detect(Context(conf_threshold=0.5), image)


def test_labels_and_groups(sdk, segmenter, drawn):
    """CVAT matches labels by name, so they are called as they were asked for."""
    function = cvat.Function(segmenter, ["Blue"])
    assert numbers(function) == {0: "Blue"}
    (shape,) = function.detect(Context(), Image.fromarray(drawn[0]))
    assert shape.label_id == 0

    class Kennel(Brightness):
        def forward(self, x):
            logits = super().forward(x)
            many = logits.new_zeros(len(x), 1000)
            many[:, 151:269] = logits[:, :1]  # as red as each other
            return many

    classifier = Classifier(
        Kennel().eval(), imagenet_labels(), size=64, mean=(0, 0, 0), std=(1, 1, 1), threshold=0.2, name="kennel"
    )
    dogs = Segmenter(classifier, "simonyan")
    assert cvat.Function(dogs).detect(Context(), Image.fromarray(drawn[0])) == []
    function = cvat.Function(dogs, ["cat", "dog"])
    (shape,) = function.detect(Context(), Image.fromarray(drawn[0]))
    assert numbers(function)[shape.label_id] == "dog"
    with pytest.raises(GradcutError, match="brightness has no label 'tree'"):
        cvat.Function(segmenter, ["tree"])


def test_what_cvat_checks_and_uploads(sdk, segmenter, drawn):
    """The driver of `cvat-cli task auto-annotate` takes the shapes for a task with one of the labels."""
    from logging import getLogger

    from cvat_sdk import models
    from cvat_sdk.auto_annotation.driver import _AnnotationMapper

    function = cvat.Function(segmenter)
    for poly in (False, True):
        label = models.Label(name="red", id=77, attributes=[], type="any", sublabels=[])
        mapper = _AnnotationMapper(
            getLogger(), function.spec.labels, [label], allow_unmatched_labels=True, conv_mask_to_poly=poly
        )
        context = Context(conv_mask_to_poly=poly)
        tags, shapes = mapper.validate_and_remap(function.detect(context, Image.fromarray(drawn[0])), 5)
        assert tags == []
        assert {(shape.label_id, shape.frame, shape.source) for shape in shapes} == {(77, 5, "auto")}


CALL = """
import json, sys
from cvat_cli._internal.common import FunctionLoader
from cvat_cli._internal.parsers import parse_function_parameter
from PIL import Image
from skimage.data import chelsea

parameters = dict(map(parse_function_parameter, sys.argv[1:]))
function = FunctionLoader("gradcut.integrations.cvat", None, parameters).load()
class context: frame_name, conf_threshold, conv_mask_to_poly = "cat.png", None, False
shapes = function.detect(context, Image.fromarray(chelsea()))
names = {label.id: label.name for label in function.spec.labels}
print(json.dumps([len(names), [names[shape.label_id] for shape in shapes]]))
"""


def test_cvat_cli_loads_it(sdk):
    pytest.importorskip("cvat_cli", reason="needs cvat-cli")
    parameters = ["classifier=str:embedded", "recipe=str:fast", "labels=str:cat, dog", "top_k=int:1"]
    done = subprocess.run([sys.executable, "-c", CALL, *parameters], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [2, ["cat"]]


def test_without_the_sdk_one_line(segmenter, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GradcutError, match=r"cvat-sdk is missing; pip install 'gradcut\[cvat\]'"):
        cvat.Function(segmenter)

"""FiftyOne's own types hold the masks exactly, and its `apply_model` saves them, where a database is at hand.

FiftyOne is not among the tests' packages: it is large, and brings no database for every system. To run these, install
gradcut[fiftyone] and name a MongoDB in FIFTYONE_DATABASE_URI.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from networks import placed
from PIL import Image

from gradcut import GradcutError, Segmenter
from gradcut.integrations import fiftyone as integration


@pytest.fixture
def tool():
    return pytest.importorskip("fiftyone", reason="needs fiftyone")


@pytest.fixture
def segmenter(brightness) -> Segmenter:
    return Segmenter(placed(brightness))


def masks_of(detections, size=(64, 64)) -> dict[str, np.ndarray]:
    """As FiftyOne itself paints them onto the photograph."""
    return {
        detection.label: detection.to_segmentation(frame_size=size[::-1], target=255).mask == 255
        for detection in detections.detections
    }


def test_masks_are_exact(tool, segmenter, drawn):
    model = integration.model(segmenter)
    assert isinstance(model, tool.Model)
    found = model.predict(drawn[0])
    assert isinstance(found, tool.Detections)
    expected = {item.label: item for item in segmenter(drawn[0]).objects}
    masks = masks_of(found)
    assert set(masks) == set(expected) == {"red", "blue"}
    for label, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[label].mask)
    for detection in found.detections:
        item = expected[detection.label]
        assert (detection.confidence, detection.score) == (item.confidence, item.score)
    assert len(model.predict(np.zeros((20, 30, 3), np.uint8)).detections) == 0


def test_saliency_is_a_heat_map(tool, segmenter, drawn):
    found = integration.model(segmenter, saliency=True).predict(drawn[0])
    assert set(found) == {"masks", "saliency"}
    heat = found["saliency"]
    assert isinstance(heat, tool.Heatmap)
    assert (heat.map.shape, heat.range) == ((64, 64), [0.0, 1.0])
    assert 0 <= heat.map.min() < 0.2
    assert 0.8 < heat.map.max() <= 1
    assert heat.map[drawn[1]["red"]].mean() > 2 * heat.map[~(drawn[1]["red"] | drawn[1]["blue"])].mean()
    nothing = integration.model(segmenter, saliency=True).predict(np.zeros((20, 30, 3), np.uint8))
    assert not nothing["saliency"].map.any()


def test_labels(tool, segmenter, drawn):
    assert set(masks_of(integration.model(segmenter, ["Red"]).predict(drawn[0]))) == {"Red"}
    with pytest.raises(GradcutError, match="brightness has no label 'tree'"):
        integration.model(segmenter, ["tree"])


def test_apply_model_saves_them(tool, segmenter, drawn, tmp_path):
    if "FIFTYONE_DATABASE_URI" not in os.environ:
        pytest.skip("needs a MongoDB, named in FIFTYONE_DATABASE_URI")
    for name, photograph in {"both": drawn[0], "other": drawn[0][:50, ::-1]}.items():
        Image.fromarray(photograph).save(tmp_path / f"{name}.png")
    dataset = tool.Dataset(overwrite=True, name="gradcut-test")
    try:
        dataset.add_samples([tool.Sample(filepath=str(path)) for path in sorted(tmp_path.glob("*.png"))])
        model = integration.model(segmenter, saliency=True)
        dataset.apply_model(model, label_field="gradcut", skip_failures=False)
        for sample in tool.load_dataset("gradcut-test").view():
            photograph = np.asarray(Image.open(sample.filepath))
            expected = {item.label: item.mask for item in segmenter(photograph).objects}
            masks = masks_of(sample["gradcut_masks"], photograph.shape[:2])
            assert set(masks) == set(expected)
            for label, mask in masks.items():
                np.testing.assert_array_equal(mask, expected[label])
            assert sample["gradcut_saliency"].map.shape == photograph.shape[:2]
        known = sorted(item.confidence for item in segmenter(drawn[0]).objects)
        dataset.apply_model(integration.model(segmenter), "sure", confidence_thresh=known[-1], skip_failures=False)
        assert dataset.count("sure.detections") < dataset.count("gradcut_masks.detections")
    finally:
        dataset.delete()


def test_without_the_package_one_line(segmenter, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GradcutError, match=r"not installed; pip install 'gradcut\[fiftyone\]'"):
        integration.model(segmenter)

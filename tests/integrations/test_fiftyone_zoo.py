"""The folder that FiftyOne's model zoo copies: its manifest, and the two functions that FiftyOne calls."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from gradcut import GradcutError
from gradcut.integrations import fiftyone as integration

FOLDER = Path(__file__).parents[2] / "zoo/fiftyone"
MODELS = json.loads((FOLDER / "manifest.json").read_text())["models"]


@pytest.fixture
def source(tmp_path):
    """The module, imported from a copy as FiftyOne does it: by its file, whatever its folder is called."""
    shutil.copytree(FOLDER, tmp_path / "zoo/gradcut")
    spec = importlib.util.spec_from_file_location("copied", tmp_path / "zoo/gradcut/__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_is_written_and_loaded(source, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(integration, "model", lambda *arguments: asked.append(arguments) or "model")
    for model in MODELS:
        name, path = model["base_name"], tmp_path / "zoo/gradcut" / model["base_filename"]
        source.download_model(name, str(path))
        assert path.is_file()
        choice = {"classifier": "lite0"} if name == "gradcut/classifier" else {}
        assert source.load_model(name, str(path), recipe="fast", saliency=True, threshold=0.2, **choice) == "model"
    assert [segmenter.classifier.name for segmenter, _, _ in asked] == ["coco80", "embedded", "lite0"]
    assert {(segmenter.recipe.name, segmenter.threshold) for segmenter, _, _ in asked} == {("fast", 0.2)}
    assert {saliency for _, _, saliency in asked} == {True}


def test_its_name_takes_no_packages_place():
    """FiftyOne puts the module into `sys.modules` under it."""
    name = json.loads((FOLDER / "manifest.json").read_text())["name"]
    assert importlib.util.find_spec(name) is None


def test_a_classifier_is_named_where_it_has_to_be_and_nowhere_else(source, tmp_path):
    for name, classifier, said in (
        ("classifier", None, "expected the name of one"),
        ("coco80", "lite0", "for x/coco80"),
    ):
        source.download_model(f"x/{name}", str(tmp_path / name))
        with pytest.raises(GradcutError, match=said):
            source.load_model(f"x/{name}", str(tmp_path / name), classifier=classifier)


def test_by_fiftyone_itself(tmp_path, monkeypatch, drawn):
    """Found below its folder of models, downloaded and loaded by its own functions."""
    pytest.importorskip("fiftyone", reason="needs fiftyone")
    import fiftyone
    from fiftyone.zoo import models as zoo

    shutil.copytree(FOLDER, tmp_path / json.loads((FOLDER / "manifest.json").read_text())["name"])
    monkeypatch.setattr(fiftyone.config, "model_zoo_dir", str(tmp_path))
    zoo._invalidate_zoo_models_manifest()
    assert {model["base_name"] for model in MODELS} <= set(zoo.list_zoo_models())
    model = zoo.load_zoo_model("gradcut/coco80", recipe="fast", cache=False, ensure_requirements=False)
    assert isinstance(model, fiftyone.Model)
    assert (tmp_path / "gradcut_zoo/coco80.txt").read_text() == "coco80"
    assert isinstance(model.predict(drawn[0]), fiftyone.Detections)

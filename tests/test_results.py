from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradcut import GradcutError, Segmenter, results


@pytest.fixture
def result(brightness, drawn):
    return Segmenter(brightness)(drawn[0])


def opened(path):
    with Image.open(path) as image:
        return image.mode, np.array(image)


def test_files_agree_with_the_result(tmp_path, result):
    document = results.save(result, tmp_path, "deep/drawn")
    assert document == json.loads((tmp_path / "results/deep/drawn.json").read_text())
    mode, labels = opened(tmp_path / document["files"]["labelmap"])
    assert mode == "P"
    assert np.array_equal(labels, result.labelmap())
    assert len(document["objects"]) == 2
    for found, entry in zip(result.objects, document["objects"], strict=True):
        _, mask = opened(tmp_path / entry["mask"])
        assert np.array_equal(mask == 255, found.mask)
        assert entry["label"] == found.label
        assert entry["area"] == found.mask.sum()
        left, top, width, height = entry["box"]
        inside = np.zeros_like(found.mask)
        inside[top : top + height, left : left + width] = True
        assert not (found.mask & ~inside).any()
        assert found.mask[top : top + height, left].any()
        assert found.mask[top, left : left + width].any()
        assert (labels == entry["labelmap_value"]).sum() > 0
    assert document["recipe"]["sha256"] == result.recipe.fingerprint
    assert document["classifier"]["sha256"] == result.classifier.fingerprint
    assert opened(tmp_path / document["files"]["picture"])[1].ndim == 3


def test_nothing_found_leaves_the_record_alone_and_old_files_go(tmp_path, brightness, drawn, result):
    results.save(result, tmp_path, "drawn")
    empty = Segmenter(brightness)(np.zeros_like(drawn[0]))
    assert empty.objects == ()
    document = results.save(empty, tmp_path, "drawn")
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["results/drawn.json"]
    assert document["objects"] == []
    assert set(document["best_scores"]) == {"red", "blue"}


@given(st.lists(st.text(max_size=12), max_size=6))
def test_file_names_are_safe_and_unique(labels):
    names = results.filenames(labels)
    assert len({name.casefold() for name in names}) == len(labels)
    for name in names:
        assert name
        assert not set(name) & set('/\\:*?"<>|\0\n')
        assert name not in (".", "..")


def test_plain_labels_keep_their_names():
    assert results.filenames(["Egyptian cat", "jack-o'-lantern", "traffic light"]) == [
        "Egyptian cat", "jack-o_-lantern", "traffic light",
    ]  # fmt: skip


def test_a_result_saves_itself(tmp_path, brightness, drawn):
    Image.fromarray(drawn[0]).save(tmp_path / "shapes.png")
    document = Segmenter(brightness)(tmp_path / "shapes.png").save(tmp_path / "out")
    assert document["photograph"] == str(tmp_path / "shapes.png")
    assert (tmp_path / "out/results/shapes.json").is_file()
    Segmenter(brightness)(drawn[0]).save(tmp_path / "out")
    assert (tmp_path / "out/results/photograph.json").is_file()
    with pytest.raises(GradcutError, match=r"output: .* cannot be written"):
        Segmenter(brightness)(drawn[0]).save(tmp_path / "shapes.png" / "below")

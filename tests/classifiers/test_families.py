"""Every family of transformers all the way: made from a configuration, saved, loaded, asked, its masks saved, loaded
again, served on the page."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import conformance
import numpy as np
import pytest
import torch
import worded
from PIL import Image

from gradcut import Classifier, Segmenter, load_classifier
from gradcut.images import encode_png
from gradcut.saliency import kind_of

transformers = pytest.importorskip("transformers")
pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("httpx2", reason="starlette's client needs it")
from starlette.testclient import TestClient  # noqa: E402

from gradcut.web import create_app  # noqa: E402

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
STAGES = {"num_channels": 3, "hidden_sizes": [16, 32], "depths": [1, 1]}

#: The options of each configuration, and what the head reads.
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "ViT": ({**SMALL, "image_size": 64, "patch_size": 8}, "class token"),
    "DeiT": ({**SMALL, "image_size": 64, "patch_size": 8}, "class token"),
    "Swin": (
        {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        "mean",
    ),
    "Beit": ({**SMALL, "image_size": 64, "patch_size": 8}, "tokens"),
    "ConvNext": ({**STAGES, "num_stages": 2}, "map"),
    "Dinov2WithRegisters": ({**SMALL, "image_size": 64, "patch_size": 8}, "tokens"),
    "MobileViT": (
        {"image_size": 128, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64],
         "num_attention_heads": 2},
        "map",
    ),
    "ResNet": ({**STAGES, "embedding_size": 16}, "mean"),
}  # fmt: skip


def written(family: str, folder: Path) -> None:
    """Write a model with its processor; its classes are `conformance.LABELS`."""
    names = dict(enumerate(conformance.LABELS))
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family][0], id2label=names)
    kind = "ForImageClassificationWithTeacher" if family == "DeiT" else "ForImageClassification"
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}{kind}")(config).eval()
    conformance.drawn(model)
    model.save_pretrained(folder)
    side = getattr(config, "image_size", 64)
    transformers.ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)


def masks_are_saved_and_served(classifier: Classifier, tmp_path: Path) -> None:
    """The mask of one class: in the result, in its file and from the page."""
    photograph = conformance.photograph((60, 80), 0, (0.1, 0.1))[0]
    (detections,) = classifier.detect([photograph], threshold=0, top_k=9)
    assert {detection.label for detection in detections} == set(classifier.labels)
    segment = Segmenter(classifier, "fast")
    results = (segment(photograph, [label]) for label in classifier.labels)
    # Of weights as drawn, many a class has no evidence anywhere.
    result = next(result for result in results if 0 < result.masks.mean() < 1)
    (item,) = result
    record = result.save(tmp_path / "out")
    assert record["classifier"]["sha256"] == classifier.fingerprint
    assert np.array_equal(pixels((tmp_path / "out" / record["objects"][0]["mask"]).read_bytes()), item.mask)
    with TestClient(create_app({"own": classifier}, recipe="fast"), base_url="http://127.0.0.1") as page:
        page.headers["x-tab"] = "t" * 48
        key = page.post("/api/photograph", content=encode_png(photograph)).json()["photograph"]
        question = {"photograph": key, "classifier": "own", "recipe": "fast", "label": item.label, "threshold": 1}
        answer = page.post("/api/download/mask", json=question)
        assert answer.status_code == 200, answer.text
        assert np.array_equal(pixels(answer.content), item.mask)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_classifiers_of_transformers(family: str, tmp_path: Path):
    """Their maps move with the patch, besides."""
    written(family, tmp_path / "model")
    classifier, again = (load_classifier(f"hf/{tmp_path}/model") for _ in range(2))
    assert classifier.fingerprint == again.fingerprint
    found = kind_of(classifier)
    assert found is not None
    assert found.reads == FAMILIES[family][1]
    masks_are_saved_and_served(classifier, tmp_path)

    row = conformance.measure(replace(classifier, name=family))
    assert row.state in ("done", "blank")
    # A small MobileViT's last places are all alike before training, so that an earlier map is taken.
    assert row.early if family == "MobileViT" else row.verdict == "right", row


@pytest.mark.parametrize("kind", worded.KINDS)
def test_classifiers_of_words(kind: str, tmp_path: Path):
    """CLIP reads a class token, SigLIP all tokens by attention; `default` gives masks with both, too."""
    worded.written(kind, tmp_path / "model")
    words = ["cat", "dog", "forklift", "pallet"]
    classifier, again = (load_classifier(f"hf/{tmp_path}/model", labels=words) for _ in range(2))
    assert classifier.fingerprint == again.fingerprint
    found = kind_of(classifier)
    assert found is not None
    assert found.reads == ("tokens" if "siglip" in kind else "class token")
    assert found.attention
    masks_are_saved_and_served(classifier, tmp_path)
    photograph = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    assert Segmenter(classifier)(photograph, labels=["cat"]).masks.shape == (1, 60, 50)


def test_the_documented_families_are_those_tried_here():
    text = (Path(__file__).parents[2] / "docs" / "classifiers.md").read_text("utf-8")
    rows = text.split("<!-- families -->\n")[1].split("<!-- end of families -->")[0].splitlines()[2:]
    documented = [tuple(cell.strip() for cell in row.split("|")[1:3]) for row in rows]
    assert len(documented) == len(FAMILIES) + 2
    for (name, reads), (family, (_, expected)) in zip(documented[:-2], FAMILIES.items(), strict=True):
        assert name.split(",")[0].replace(" ", "").casefold() == family.casefold()
        assert reads == expected
    assert documented[-2:] == [("CLIP, MetaCLIP 2", "class token"), ("SigLIP, SigLIP 2", "tokens")]

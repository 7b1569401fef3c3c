"""A run's photographs come back as tensors, and gradcut counts as torchmetrics does."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_runs import QUICK, draw
from networks import brightness, placed
from PIL import Image
from torch.utils.data import DataLoader

from gradcut import Classifier, GradcutError, Segmenter, refine
from gradcut.datasets import Sample
from gradcut.evaluation import evaluate
from gradcut.evaluation.measures import iou
from gradcut.evaluation.summary import summarise
from gradcut.files import Folder
from gradcut.integrations.pytorch import PseudoLabels
from gradcut.painting import Stroke, rasterise
from gradcut.runs.correct import save_correction
from gradcut.runs.corrections import Correction
from gradcut.runs.job import Job
from gradcut.runs.segment import segment_all


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run over six drawn photographs, one of them black and one broken; and the segmenter."""
    folder = tmp_path_factory.mktemp("finished")
    draw(folder / "in", 0)
    Image.new("RGB", (30, 20)).save(folder / "in" / "dark.png")
    (folder / "in" / "broken.png").write_text("nothing")
    tasks = draw(folder / "in", 4)
    segment = Segmenter(placed(brightness()), "fast")
    list(segment_all(Job(segment, Folder(str(folder / "run")), void=(0.0, 1.0)), tasks))
    return folder / "run", segment


@pytest.fixture
def run(finished, tmp_path):
    """The same, to be corrected."""
    folder, segment = finished
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", segment


def test_items_are_photographs_and_class_maps(finished):
    folder, segment = finished
    labels = PseudoLabels(folder)
    assert labels.names == ("000", "001", "002", "003")
    assert (labels.classes, labels.ignored) == (("background", "red", "blue"), 255)
    seen = set()
    for name, (photograph, classmap) in zip(labels.names, labels, strict=True):
        pixels = np.asarray(Image.open(folder.parent / "in" / f"{name}.png"))
        np.testing.assert_array_equal((photograph * 255).round().numpy().transpose(1, 2, 0), pixels)
        np.testing.assert_array_equal(classmap.numpy(), segment(pixels).classmap((0.0, 1.0)))
        assert (photograph.dtype, classmap.dtype) == (torch.float32, torch.int64)
        seen |= set(classmap.unique().tolist())
    assert seen == {0, 1, 2, 255}


def test_batches_of_one_size_in_other_processes(finished):
    """Class maps keep their numbers when they are resized; spawned workers can be given the dataset."""
    labels = PseudoLabels(finished[0], size=(24, 32))
    loader = DataLoader(labels, batch_size=3, num_workers=1, multiprocessing_context="spawn")
    batches = list(loader)
    assert [batch[0].shape for batch in batches] == [(3, 3, 24, 32), (1, 3, 24, 32)]
    values = torch.cat([batch[1].flatten() for batch in batches]).unique().tolist()
    assert set(values) <= {0, 1, 2, 255}
    assert {0, 1} <= set(values)
    whole = PseudoLabels(finished[0])[0][1]
    share = [(m == 1).float().mean().item() for m in (whole, labels[0][1])]
    assert share[0] == pytest.approx(share[1], abs=0.05)


def test_options(finished):
    folder, _ = finished
    ignored = PseudoLabels(folder, min_confidence=1.0)[0][1]
    assert set(ignored.unique().tolist()) <= {0, 255}
    assert (ignored == 255).sum() > (PseudoLabels(folder)[0][1] == 255).sum()
    turned = PseudoLabels(folder, transform=lambda photograph, classmap: (photograph.flip(2), classmap.flip(1)))
    for one, other in zip(turned[0], PseudoLabels(folder)[0], strict=True):
        torch.testing.assert_close(one.flip(-1), other)


def test_what_a_person_has_decided_counts(run):
    folder, segment = run
    strokes = [Stroke("foreground", 3, [(5, 35)])]
    inside, _ = rasterise(strokes, (40, 48))
    result = refine(segment(PseudoLabels(folder)._photographs[0].path), {"red": inside})
    save_correction(folder, Correction("000", "corrected", strokes={"red": strokes}), result)
    save_correction(folder, Correction("001", "rejected"))
    labels = PseudoLabels(folder, min_confidence=1.0)
    assert labels.names == ("000", "002", "003")
    classmap = labels[0][1].numpy()
    np.testing.assert_array_equal(classmap, result.classmap())
    assert (classmap[inside] == 1).all()


def test_errors_are_one_line(finished, tmp_path):
    folder, _ = finished
    for options, said in (
        ({"size": (0, 5)}, "size: expected height and width"), ({"min_confidence": 2}, "min_confidence: "),
    ):  # fmt: skip
        with pytest.raises(GradcutError, match=said) as error:
            PseudoLabels(folder, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(GradcutError, match="run: expected a folder of 'gradcut segment'"):
        PseudoLabels(tmp_path)
    labels = PseudoLabels(folder)
    Image.new("RGB", (9, 9)).save(tmp_path / "000.png")
    labels._photographs[0] = replace(labels._photographs[0], path=str(tmp_path / "000.png"))
    with pytest.raises(GradcutError, match=r"expected a photograph of \(40, 48\), as the run saw it"):
        labels[0]


def test_a_run_without_objects_or_confidences(brightness, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "dark.png")
    tasks = [task for task in draw(tmp_path, 0) if task.name == "dark"]
    list(segment_all(Job(Segmenter(brightness, QUICK), Folder(str(tmp_path / "dark"))), tasks))
    with pytest.raises(GradcutError, match="expected photographs with an object"):
        PseudoLabels(tmp_path / "dark")
    tasks = draw(tmp_path / "in", 1)
    list(segment_all(Job(Segmenter(brightness, "simonyan"), Folder(str(tmp_path / "run"))), tasks))
    assert len(PseudoLabels(tmp_path / "run")) == 1
    with pytest.raises(GradcutError, match="min_confidence: expected a confidence for every object, 'red' in 000"):
        PseudoLabels(tmp_path / "run", min_confidence=0.5)


# torchmetrics ---------------------------------------------------------------------------------------------------------


def test_iou_is_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics", reason="needs torchmetrics")
    generator = np.random.default_rng(0)
    for _ in range(20):
        share = generator.random(3)
        prediction, truth, ignore = (generator.random((12, 15)) < s for s in share)
        metric = torchmetrics.JaccardIndex("binary", ignore_index=255)
        expected = metric(torch.from_numpy(prediction), torch.from_numpy(np.where(ignore, 255, truth).astype(np.int64)))
        assert iou(prediction, truth, ignore) == pytest.approx(float(expected), abs=1e-6)


def test_miou_of_an_evaluation_is_torchmetrics(brightness: Classifier):
    torchmetrics = pytest.importorskip("torchmetrics", reason="needs torchmetrics")
    generator = np.random.default_rng(1)
    metric = torchmetrics.JaccardIndex("multiclass", num_classes=3, ignore_index=255)
    segment, samples = Segmenter(brightness, QUICK), []
    for number in range(4):
        image = np.zeros((40, 48, 3), dtype=np.uint8)
        truth = np.zeros((40, 48), dtype=np.int64)
        y, x = generator.integers(0, 20, 2)
        image[y : y + 15, x : x + 20, 0] = 255
        image[30:, 30:] = (0, 0, 255)
        truth[y : y + 12, x : x + 18], truth[32:, 28:], truth[:3] = 1, 2, 255
        masks = {"red": truth == 1, "blue": truth == 2}
        samples.append(Sample(str(number), image, masks, truth == 255))
        metric.update(
            torch.from_numpy(segment(image, ["red", "blue"]).classmap().astype(np.int64)), torch.from_numpy(truth)
        )
    rows = list(evaluate(samples, {"quick": segment}, baselines=False))
    found = summarise(rows, resamples=0)["recipes"]["quick"]["miou"]["value"]
    assert found == pytest.approx(float(metric.compute()), abs=1e-6)

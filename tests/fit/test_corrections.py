"""A head learns from a run's corrections: what it knew stays where nobody says otherwise, and masks get better."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import ColoursOfPlaces
from PIL import Image

from gradcut import Classifier, Segmenter, load_classifier, segment_folder
from gradcut.classifiers import sources
from gradcut.classifiers.heads import Head, PlaceWeights, Presence, attach, places_of, read_head, weights_sha256
from gradcut.errors import FitError
from gradcut.fit import linear_layer
from gradcut.fit.corrections import FIRM, UNKNOWN, CorrectionFit, logistic_change
from gradcut.fit.labels import ImageLabels
from gradcut.masks import GraphCut
from gradcut.recipes import Recipe
from gradcut.results import Object
from gradcut.runs.correct import save_correction
from gradcut.runs.corrections import Correction, read, standing
from gradcut.runs.learn import fit_corrections
from gradcut.runs.run import read_run
from gradcut.saliency import CAM, PlaceProbability
from gradcut.saliency.presence import detection_logits
from gradcut.seeds import Fractions

SIZE = 40
PLACES = Recipe("places", "what single places say", PlaceProbability(), Fractions(0.5, 0.2), GraphCut(grid=40))
LABELS = ("blue", "red", "white")


def draw(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A red square on green, in every other photograph a blue one beside it; and where they are."""
    random = np.random.default_rng(number)
    pixels, where = np.full((SIZE, SIZE, 3), 90.0), {}
    pixels[:22, :] = (40, 130, 40)
    y, x = random.integers(2, 8, 2)
    where["red"] = np.zeros((SIZE, SIZE), bool)
    where["red"][y : y + 12, x : x + 12] = True
    pixels[where["red"]] = (220, 20, 20)
    if number % 2:
        where["blue"] = np.zeros((SIZE, SIZE), bool)
        where["blue"][25:36, 20:36] = True
        pixels[where["blue"]] = (20, 20, 220)
    return np.clip(pixels + random.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8), where


@pytest.fixture(scope="module")
def backbone() -> Classifier:
    torch.manual_seed(0)
    return Classifier(ColoursOfPlaces(), ("a", "b", "c"), size=SIZE, mean=(0, 0, 0), std=(1, 1, 1), name="colours")


@pytest.fixture(scope="module")
def head(backbone) -> Head:
    """It takes the green round a red square for red, too, as weights from image-level labels do."""
    weight = torch.tensor([[0.0, 0, 9, 0, 0], [9, 9, 0, 0, 0], [0, 0, 0, 5, 0]])
    places = PlaceWeights(
        torch.tensor([[0.0, 0, 9, 0, 0], [9, 14, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]),
        torch.tensor([-1.0, -1, -3, 0]),
    )
    return Head(
        weight, torch.tensor([-0.3, -0.3, -4.0]), LABELS, backbone.name, weights_sha256(backbone.model),
        linear_layer(backbone), backbone.size, 0.5, figures={"options": {"l2": 1}}, places=places,
        presence=Presence(5 / 3, 1.0, 0.1, 0.2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory, head, backbone):
    """A run over eight photographs."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "in").mkdir()
    for number in range(8):
        Image.fromarray(draw(number)[0]).save(folder / f"in/{number}.png")
    head.save(folder / "head.safetensors")
    classifier = attach(backbone, head, str(folder / "head.safetensors"))
    segment_folder(Segmenter(classifier, PLACES), folder / "in", folder / "run", pictures=False)
    return folder


@pytest.fixture
def run(finished, tmp_path, backbone, monkeypatch):
    known = sources.load_classifier
    monkeypatch.setattr(sources, "load_classifier", lambda name: backbone if name == "colours" else known(name))
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


def correct(run: Path, name: str, masks: dict[str, np.ndarray] | None = None) -> Correction:
    """As the truth has it."""
    (line,) = [line for line in read_run(run)[1] if line["name"] == name]
    masks = draw(int(name))[1] if masks is None else masks
    settings = json.loads((run / "run.json").read_text())["settings"]
    result = Segmenter(load_classifier(settings["classifier"]["name"]), PLACES)(line["photograph"], ["red"])
    (item,) = result.objects
    objects = tuple(
        replace(item, label=label, members=(LABELS.index(label) if label in LABELS else 0,), mask=mask)
        for label, mask in masks.items()
    )
    assert all(isinstance(each, Object) for each in objects)
    found = [item["label"] for item in line["objects"]]
    removed, added = [each for each in found if each not in masks], [each for each in masks if each not in found]
    correction = replace(read(run, name), state="corrected", removed=removed, added=added)
    return save_correction(run, correction, replace(result, objects=objects))


def worth(head: Head, backbone: Classifier, numbers: range | list[int]) -> float:
    """The mean IoU of red."""
    segment, ious = Segmenter(attach(backbone, head, "head"), PLACES), []
    for number in numbers:
        pixels, where = draw(number)
        (item,) = segment(pixels, ["red"]).objects
        ious.append((item.mask & where["red"]).sum() / (item.mask | where["red"]).sum())
    return float(np.mean(ious))


def test_pixels_of_corrected_photographs_make_the_others_masks_better(run, finished, head, backbone):
    for name in ("0", "1", "2"):
        correct(run, name)
    save_correction(run, Correction("3", "rejected"))
    taught = fit_corrections(run)
    others = [4, 5, 6, 7]
    assert worth(head, backbone, others) < 0.5, "or there is nothing to learn"
    assert worth(taught.head, backbone, others) > 0.7
    assert [path.name for path in taught.photographs] == ["0.png", "1.png", "2.png"]
    assert (taught.before, taught.left_out, taught.problems) == (0, (), ())
    card = taught.head.figures["corrections"]
    assert card["photographs"] == 3
    assert len(card["learnt"]) == 3
    assert taught.head.figures["options"] == {"l2": 1}, "what was known of it before"
    assert taught.head.presence == head.presence

    again = fit_corrections(run, cache=finished / "kept")
    for before, after in zip(taught.head.places, again.head.places, strict=True):
        assert torch.equal(before, after)
    kept = len(list((finished / "kept").iterdir()))
    fit_corrections(run, cache=finished / "kept")
    assert len(list((finished / "kept").iterdir())) == kept == 3


def test_what_nobody_speaks_of_stays(run, head):
    """White is in no photograph, and nobody was asked for it."""
    correct(run, "1")
    correct(run, "2")
    taught = fit_corrections(run).head
    assert torch.equal(taught.weight[2], head.weight[2])
    assert torch.equal(taught.bias[2], head.bias[2])
    assert not torch.equal(taught.weight[:2], head.weight[:2])
    firm = fit_corrections(run, CorrectionFit(head=1e9, weights=1e9)).head
    every = [(one.weight, one.bias, *one.places) for one in (head, firm)]
    for before, after in zip(*every, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_without_corrections_the_head_is_the_old_one(head, backbone):
    nothing = ImageLabels((), LABELS, np.zeros((0, 3), bool), np.zeros((0, 3), bool), np.zeros(0, bool), "")
    assert CorrectionFit()(head, attach(backbone, head, "head"), nothing, lambda _: np.zeros((1, 1), np.int64)) is head


@pytest.mark.parametrize("change", [{"head": 0.01}, {"weights": 3.0}, {"places": 2}, {"places": 2, "seed": 1}])
def test_every_option_matters(run, change):
    correct(run, "1")
    correct(run, "2")
    usual = fit_corrections(run, CorrectionFit(places=2) if "seed" in change else None).head
    other = fit_corrections(run, CorrectionFit(**change)).head
    assert torch.equal(usual.weight, other.weight) == ("head" not in change)
    assert torch.equal(usual.places.weight, other.places.weight) == ("head" in change)
    assert other.figures["corrections"]["options"] != usual.figures["corrections"]["options"]


def test_a_head_without_weights_for_places_learns_classes_alone(run, head, backbone, finished, tmp_path):
    plain = replace(head, places=None, presence=None)
    plain.save(tmp_path / "plain.safetensors")
    segment = Segmenter(load_classifier(tmp_path / "plain.safetensors"), replace(PLACES, saliency=CAM()))
    segment_folder(segment, finished / "in", tmp_path / "other", pictures=False)
    for name in ("0", "1"):
        save_correction(tmp_path / "other", Correction(name, "accepted"))
    taught = fit_corrections(tmp_path / "other").head
    assert taught.places is None
    assert not torch.equal(taught.weight, head.weight)


def test_a_class_that_was_removed_is_found_less_and_one_that_was_added_more(run, head, backbone):
    without = {"blue": np.zeros((SIZE, SIZE), bool)}
    without["blue"][25:36, 20:36] = True
    for name in ("1", "3", "5"):
        correct(run, name, masks=without)
    taught = fit_corrections(run).head
    pixels = [draw(7)[0]]
    before, after = (detection_logits(attach(backbone, each, "head"), pixels)[0] for each in (head, taught))
    assert after[1] < before[1] - 0.1, "red was removed"
    assert after[0] > before[0]


def test_damaged_corrections_are_named_and_cost_nothing_else(run, finished, tmp_path):
    for name in ("0", "1"):
        correct(run, name)
    expected = fit_corrections(run)
    for name in ("2", "3", "4", "5"):
        correct(run, name)
    (run / "corrections/2.json").write_text("{")
    (run / "corrected/classmaps/3.1.png").write_bytes(b"no picture")
    (run / "corrected/results/4.1.json").unlink()
    for file in ("manifest.jsonl", "corrections/5.json", "corrected/results/5.1.json"):  # its photograph is gone
        text = (run / file).read_text()
        (run / file).write_text(text.replace(str(finished / "in/5.png"), str(tmp_path / "5.png")))
    taught = fit_corrections(run)
    assert len(taught.problems) == 4, taught.problems
    for problem, what in zip(taught.problems, ("corrections/2.json", "3.1.png", "4.1.json", "5.png"), strict=True):
        assert what in problem
        assert "\n" not in problem
    assert torch.equal(taught.head.places.weight, expected.head.places.weight)
    assert torch.equal(taught.head.weight, expected.head.weight)


def test_a_class_that_the_head_does_not_have_is_left_out(run, head):
    masks = draw(1)[1]
    correct(run, "1", masks={"red": masks["red"], "parcel": masks["blue"]})
    taught = fit_corrections(run)
    assert taught.left_out == ("parcel",)
    assert taught.head.labels == LABELS
    expected = CorrectionFit().examples(np.where(masks["red"], 2, np.where(masks["blue"], UNKNOWN, 0)), (20, 20), 3)
    assert set(expected[1].tolist()) == {1, 3}, "its pixels are no background either"


def test_a_correction_teaches_a_head_once(run, tmp_path, backbone):
    for name in ("0", "1"):
        correct(run, name)
    first = fit_corrections(run).head
    first.save(tmp_path / "first.safetensors")
    segment = Segmenter(load_classifier(tmp_path / "first.safetensors"), PLACES)
    before = standing(run)
    photographs = [line["photograph"] for line in read_run(run)[1]]
    segment_folder(segment, photographs, run, pictures=False, overwrite=True, corrections="skip")
    assert standing(run) == before
    with pytest.raises(FitError, match=r"^corrections: expected some .*; all 2 of .*run have taught this head before$"):
        fit_corrections(run)
    correct(run, "2")
    second = fit_corrections(run)
    assert ([path.name for path in second.photographs], second.before) == (["2.png"], 2)
    assert second.head.figures["corrections"]["photographs"] == 3
    assert worth(second.head, backbone, range(4, 8)) > 0.7


def test_what_cannot_be_fitted_is_refused_in_one_line(run, tmp_path, brightness):
    with pytest.raises(
        FitError, match=r"^corrections: expected some that teach .*run has no accepted or corrected photo"
    ):
        fit_corrections(run)
    save_correction(run, Correction("0", "accepted"))
    about = json.loads((run / "run.json").read_text())
    for key, value, message in (
        ("name", "embedded", "expected a run with a head of 'gradcut fit', .* was made with embedded"),
        ("weights", "0" * 64, "expected the head that .* was made with; it has changed since: weights 0000"),
    ):
        changed = about["settings"]["classifier"] | {key: value}
        settings = {**about, "settings": {**about["settings"], "classifier": changed}}
        (run / "run.json").write_text(json.dumps(settings))
        with pytest.raises(FitError, match=f"^corrections: {message}") as caught:
            fit_corrections(run)
        assert "\n" not in str(caught.value)
    for options, message in (
        ({"head": 0}, "head: expected"),
        ({"weights": -1.0}, "weights:"),
        ({"places": 0}, "places:"),
    ):
        with pytest.raises(FitError, match=message):
            CorrectionFit(**options)


def test_logistic_change_is_the_least_loss():
    random = np.random.default_rng(0)
    x, logits = random.normal(size=(6, 4)), random.normal(size=(6, 2))
    truth, known = random.random((6, 2)) > 0.5, random.random((6, 2)) > 0.2
    weight, bias = logistic_change(x, logits, truth, known, 0.7, 2.0)
    centre = x.mean(0)
    scale = np.sqrt(((x - centre) ** 2).sum(1).mean())

    def loss(weight, bias):
        z = logits + 0.7 * (x @ weight.T + bias)
        pulled = (scale * weight) ** 2
        return (
            (known * (np.logaddexp(0, z) - truth * z)).sum()
            + pulled.sum()
            + FIRM * ((bias + weight @ centre) ** 2).sum()
        )

    best = loss(weight, bias)
    for _ in range(20):
        assert loss(weight + random.normal(size=weight.shape) * 0.01, bias + random.normal(size=2) * 0.01) > best


def test_places_are_of_what_most_of_their_pixels_are_of():
    classmap = np.zeros((8, 8), np.int64)
    classmap[:4, :3] = 1  # three of four columns of the first two places, in a grid of 4 by 4
    classmap[7, 7] = 2  # a quarter of a place, and no other
    classmap[4:6, 4:6] = UNKNOWN
    places, classes = CorrectionFit().examples(classmap, (4, 4), 5)
    found = dict(zip(places.tolist(), classes.tolist(), strict=True))
    assert {place for place, value in found.items() if value == 0} == {0, 4}
    assert 10 not in found
    assert [value for place, value in zip(places, classes, strict=True) if place == 15] == [5, 1]
    few = CorrectionFit(places=3).examples(classmap, (4, 4), 5)[1]
    assert np.bincount(few, minlength=6).tolist() == [2, 1, 0, 0, 0, 3]


def test_the_command(run, tmp_path, command, finished):
    for name in ("0", "1"):
        correct(run, name)
    masks = draw(2)[1]
    correct(run, "2", masks={"parcel": masks["red"]})
    (run / "corrections/9.json").write_text("{")
    code, out, err = command("fit", "--corrections", run, "-o", tmp_path / "new.safetensors", "--json")
    assert code == 0, err
    assert json.loads(out)["photographs"] == 3
    assert json.loads(out)["left_out"] == ["parcel"]
    assert "left out: corrections/9.json" in err
    assert "the head has no parcel" in err
    taught = load_classifier(tmp_path / "new.safetensors")
    assert not torch.equal(places_of(taught.model).weight, read_head(finished / "head.safetensors").places.weight)
    code, out, err = command("fit", "--corrections", run, "-o", tmp_path / "heads")
    assert code == 0, err
    assert out.splitlines()[0] == f"3 corrected photographs of {run} and their pixels have taught it"
    assert read_head(tmp_path / "heads/head.safetensors").figures["corrections"]["photographs"] == 3
    for options, message in (
        (["--labels", "a.csv"], "--labels: it does not go with --corrections"),
        (["--l2", "1"], "--l2: it does not go with --corrections"),
    ):
        code, _, err = command("fit", "--corrections", run, "-o", tmp_path / "x.safetensors", *options)
        assert (code, err.startswith(f"gradcut: {message}"), err.count("\n")) == (2, True, 1)
    code, _, err = command("fit", "-o", tmp_path / "x.safetensors")
    assert (code, err) == (2, "gradcut: labels: expected --images and --labels, or --corrections RUN\n")

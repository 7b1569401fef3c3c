"""Weights for places: found from image-level labels alone, kept with the head, and what they say of a photograph."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import ColoursOfPlaces
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from gradcut import Classifier, GradcutError, Segmenter, images, load_classifier
from gradcut.classifiers.heads import Head, PlaceWeights, Presence, attach, places_of, read_head, weights_sha256
from gradcut.cli import app
from gradcut.errors import ClassifierError, FitError
from gradcut.fit import LinearFit, fit_folds, linear_layer, read_labels
from gradcut.fit.calibration import platt
from gradcut.fit.labels import ImageLabels
from gradcut.fit.places import SCALES, PlaceFit, softmax_regression
from gradcut.masks import GraphCut
from gradcut.network.view import View
from gradcut.recipes import Recipe
from gradcut.saliency import CAM, Gradient, MultiScale, PlaceProbability
from gradcut.saliency.cams import linear_head
from gradcut.saliency.presence import detect, detection_logits, evidence
from gradcut.seeds import Fractions

SIZE = 40

#: Where the surest places are looked for.
SCALE = max(SCALES)


@pytest.fixture(scope="module")
def backbone() -> Classifier:
    torch.manual_seed(0)
    return Classifier(ColoursOfPlaces(), ("red", "b", "c"), size=SIZE, mean=(0, 0, 0), std=(1, 1, 1), name="colours")


def draw(red: bool, blue: bool, random: np.random.Generator, green: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A red and a blue square, each in its corner, on grey; red ones on green, that is elsewhere too. And where."""
    pixels = np.full((SIZE, SIZE, 3), 90.0)
    where = np.zeros((2, SIZE, SIZE), bool)
    where[0, 4:16, 4:16] = red
    where[1, 24:36, 20:36] = blue
    if red or green:
        pixels[:20, :] = (40, 110, 40)
    pixels[where[0]] = (220, 20, 20)
    pixels[where[1]] = (20, 20, 220)
    return np.clip(pixels + random.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8), where


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ImageLabels:
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    rows = ["file,labels"]
    for number in range(24):
        red, blue = bool(number % 2), bool(number // 2 % 2)
        Image.fromarray(draw(red, blue, random, green=number % 4 == 0)[0]).save(folder / f"{number:02}.png")
        rows.append(f"{number:02}.png,{';'.join(['red'] * red + ['blue'] * blue)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return read_labels(folder / "labels.csv", folder)


@pytest.fixture(scope="module")
def few(data) -> ImageLabels:
    """For what does not depend on how well the weights are."""
    return data.part(np.arange(24) < 8)


@pytest.fixture(scope="module")
def head(backbone, data) -> Head:
    """It likes green too, for that comes with red: so do heads of whole photographs."""
    weight = torch.tensor([[0.0, 0, 9, 0, 0], [9, 12, 0, 0, 0]])
    assert data.labels == ("blue", "red")
    return Head(
        weight, torch.tensor([-0.3, -0.3]), data.labels, backbone.name, weights_sha256(backbone.model),
        linear_layer(backbone), backbone.size, 0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(backbone, data, head) -> PlaceWeights:
    (places,) = PlaceFit(l2=1e-6, prior=0)(backbone, data, [head], [everything(data)])
    return places


def test_progress_names_each_stage_and_comes_to_its_end(backbone, few):
    stages = {}

    @contextmanager
    def progress(what, total):
        items = []

        def track(more):
            for item in more:
                items.append(item)
                yield item

        yield track
        stages[what] = (total, len(items))

    fit_folds(backbone, few, LinearFit(folds=2), PlaceFit(rounds=2), progress=progress)
    assert stages == {
        "features": (8, 8),
        "solving for 3 heads": (9, 9),
        "places for 3 heads": (22, 22),
        "what the surest places say": (8, 8),
    }


def test_a_fit_that_was_stopped_goes_on(backbone, few, tmp_path, monkeypatch):
    looked = []
    forward = ColoursOfPlaces.forward
    monkeypatch.setattr(ColoursOfPlaces, "forward", lambda self, x: looked.append(len(x)) or forward(self, x))

    def fit(stop: int | None = None, rounds: int = 2, seed: int = 0) -> list[Head]:
        looked.clear()

        @contextmanager
        def progress(what, total):
            def track(items):
                for number, item in enumerate(items):
                    if what.startswith("places") and number == stop:
                        raise KeyboardInterrupt
                    yield item

            yield track

        places = PlaceFit(rounds=rounds, seed=seed)
        heads = fit_folds(backbone, few, LinearFit(folds=2), places, cache=tmp_path / "kept", progress=progress)
        return [heads.head, *heads.of_folds]

    with pytest.raises(KeyboardInterrupt):
        fit(stop=5)
    whole = fit()
    assert len(looked) == 2 * (3 + 8 + 8), "two sizes of what the rounds lack, and of all for the surest places"
    for head, again in zip(whole, fit(), strict=True):
        assert torch.equal(head.places.weight, again.places.weight)
    assert not looked
    fit(rounds=1)
    assert 0 < len(looked) <= 2 * 8, "the first round is the same, but other places come of it"
    fit(seed=1)
    assert len(looked) == 2 * 3 * 8


def everything(data: ImageLabels) -> np.ndarray:
    return np.ones(len(data.files), bool)


def test_places_know_the_object_from_what_comes_with_it(backbone, head, fitted):
    photograph, where = draw(True, True, np.random.default_rng(5))
    classifier = attach(backbone, replace(head, places=fitted), "placed")
    x = classifier.prepare([photograph])
    green = np.zeros_like(where[0])
    green[:20] = ~where[0][:20]
    (cam,), (place,) = (method(classifier, x, [(0, 1)]).numpy() for method in (CAM(), PlaceProbability()))
    assert cam[green].mean() > 0.25 * cam[where[0]].mean()
    assert place[where[0]].mean() > 0.7
    assert place[green].mean() < 0.1 * place[where[0]].mean()
    (blue,) = PlaceProbability()(classifier, x, [(0, 0)]).numpy()
    assert blue[where[1]].mean() > 0.7
    assert blue[~where[1]].mean() < 0.1


def test_what_the_map_is(backbone, head, fitted):
    photographs = [draw(*which, np.random.default_rng(6))[0] for which in ((True, False), (True, True))]
    classifier = attach(backbone, replace(head, places=fitted), "placed")
    x = classifier.prepare(photographs)
    features = classifier.model.conv(x).relu()
    z = torch.einsum("kd,bdhw->bkhw", fitted.weight, features) + fitted.bias[:, None, None]
    expected = nn.functional.interpolate(z.softmax(1), x.shape[2:], mode="bilinear", align_corners=False)
    found = PlaceProbability()(classifier, x, [(0, 0), (1, 1), (1, (0, 1))])
    torch.testing.assert_close(found[:2], torch.stack([expected[0, 0], expected[1, 1]]))
    torch.testing.assert_close(found[2], expected[1, 0] + expected[1, 1])
    # The logits, and with them CAM, are the head's as before.
    plain = attach(backbone, head, "plain")
    assert torch.equal(classifier.logits(x), plain.logits(x))
    assert torch.equal(CAM()(classifier, x, [(0, 1)]), CAM()(plain, x, [(0, 1)]))
    assert PlaceProbability()(classifier, x, []).shape == (0, SIZE, SIZE)


def test_without_such_weights_another_method_steps_in(backbone, head):
    classifier = attach(backbone, head, "plain")
    x = classifier.prepare([draw(True, True, np.random.default_rng(7))[0]])
    assert places_of(classifier.model) is None
    assert torch.equal(PlaceProbability()(classifier, x, [(0, 1)]), CAM()(classifier, x, [(0, 1)]))
    assert torch.equal(PlaceProbability(Gradient())(classifier, x, [(0, 1)]), Gradient()(classifier, x, [(0, 1)]))


def test_the_file_keeps_them(backbone, head, fitted, tmp_path):
    replace(head, places=fitted).save(tmp_path / "h.safetensors")
    again = read_head(tmp_path / "h.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(again.places, fitted, strict=True))
    replace(head, places=PlaceWeights(fitted.weight[1:], fitted.bias)).save(tmp_path / "h.safetensors")
    says = r"expected weights for places of shape \(3, 5\) and 3 biases, got \(2, 5\) and \(3,\)"
    with pytest.raises(ClassifierError, match=says):
        read_head(tmp_path / "h.safetensors")
    replace(head, places=PlaceWeights(fitted.weight[:, 1:], fitted.bias)).save(tmp_path / "h.safetensors")
    with pytest.raises(ClassifierError, match="expected weights for places"):
        read_head(tmp_path / "h.safetensors")


QUICK = PlaceFit(l2=1e-4, prior=0.0, places=12)


@pytest.fixture(scope="module")
def quick(backbone, few, head) -> PlaceWeights:
    (places,) = QUICK(backbone, few, [head], [everything(few)])
    return places


@pytest.mark.parametrize(
    "option",
    [{"l2": 0.1}, {"prior": 3.0}, {"high": 0.9}, {"low": 0.05}, {"places": 2}, {"rounds": 1}, {"seed": 1}],
    ids=str,
)
def test_every_option_matters(backbone, few, head, quick, option):
    (changed,) = replace(QUICK, **option)(backbone, few, [head], [everything(few)])
    assert not torch.allclose(changed.weight, quick.weight)


def test_the_same_photographs_have_the_same_weights(backbone, few, head, quick):
    (again,) = QUICK(backbone, few, [head], [everything(few)])
    assert torch.equal(again.weight, quick.weight)


def test_a_head_learns_from_its_own_photographs(backbone, few, head):
    part = everything(few)
    part[::3] = False
    # Which places are taken depends on a photograph's number; all are taken here that are sure.
    many = PlaceFit(l2=0.01, places=10_000)
    both, (alone,) = (
        many(backbone, few, [head, head], [everything(few), part]),
        many(backbone, few.part(part), [head], [np.ones(part.sum(), bool)]),
    )
    assert not torch.allclose(both[0].weight, both[1].weight)
    torch.testing.assert_close(both[1].weight, alone.weight, rtol=1e-2, atol=1e-2)


def test_the_optimum():
    random = np.random.default_rng(0)
    x = random.normal(2, 1, (200, 6)).astype(np.float32)
    classes = ((x - 2) @ random.normal(0, 1, (6, 3)) + random.normal(0, 0.5, (200, 3))).argmax(1)
    importance = random.random(200).astype(np.float32)
    prior, l2 = random.normal(0, 0.3, (3, 6)), 0.01
    weight, bias = softmax_regression(x, classes, importance, prior, l2)
    share = importance / importance.sum()
    scale2 = share @ ((x - share @ x) ** 2).sum(1)

    def objective(weight, bias):
        z = torch.from_numpy(x @ weight.T + bias).double()
        value = -share @ z.log_softmax(1)[range(200), classes].numpy()
        return value + l2 / 2 * scale2 * ((weight - prior) ** 2).sum()

    best = objective(weight, bias)
    for size in (0.02, 0.1):
        for _ in range(5):
            other = weight + size * random.normal(size=weight.shape), bias + size * random.normal(size=bias.shape)
            assert objective(*other) > best - 1e-5
    assert np.mean((x @ weight.T + bias).argmax(1) == classes) > 0.8
    drawn, _ = softmax_regression(x, classes, importance, prior, 1e5)
    np.testing.assert_allclose(drawn, prior, atol=1e-3)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"l2": 0}, "l2: expected a positive number, got 0"),
        ({"prior": -1}, "prior: expected 0 or more, got -1"),
        ({"low": 0.6}, "high, low: expected 0 < low <= high < 1, got 0.5, 0.6"),
        ({"high": 1}, "high, low: expected 0 < low <= high < 1, got 1, 0.2"),
        ({"places": 0}, "places: expected a whole number of at least 1, got 0"),
        ({"rounds": 0}, "rounds: expected a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_wrong_options(option, says):
    with pytest.raises(GradcutError, match=says):
        PlaceFit(**option)


def test_command(data, tmp_path):
    folder = data.files[0].parent
    few = tmp_path / "labels.csv"
    few.write_text("".join((folder / "labels.csv").read_text().splitlines(keepends=True)[:9]))
    common = [
        "fit",
        "--images",
        str(folder),
        "--labels",
        str(few),
        "--backbone",
        "lite0",
        "--size",
        "64",
        "--folds",
        "2",
    ]
    for name, options in {"with": [], "without": ["--no-places"]}.items():
        done = CliRunner().invoke(app, [*common, *options, "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    for file in ("head", "fold-0", "fold-1"):
        plain, placed = (read_head(tmp_path / name / f"{file}.safetensors") for name in ("without", "with"))
        assert plain.places is None
        assert placed.places.weight.shape == (3, 1280)
        assert torch.equal(plain.weight, placed.weight)
    classifier = load_classifier(str(tmp_path / "with/head.safetensors"))
    assert places_of(classifier.model).weight.shape == (3, 1280)
    assert places_of(load_classifier("coco80").model).weight.shape == (81, 1280)


def test_a_backbone_whose_logits_are_no_mean_over_places_says_what_to_leave_out(data, tmp_path, monkeypatch):
    class Maximum(ColoursOfPlaces):
        def forward(self, x):
            return self.head(self.conv(x).relu().amax((2, 3)))

    torch.manual_seed(0)
    backbone = Classifier(Maximum(), ("a", "b", "c"), size=SIZE, name="maximum")
    monkeypatch.setattr("gradcut.fit.backbones.load_classifier", lambda *_, **__: backbone)
    folder = data.files[0].parent
    command = [
        "fit",
        "--images",
        str(folder),
        "--labels",
        str(folder / "labels.csv"),
        "-o",
        str(tmp_path / "h.safetensors"),
    ]
    with pytest.raises(FitError, match=r"^places: PlaceFit needs a classifier whose logits.*--no-places"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "h.safetensors").exists()
    done = CliRunner().invoke(app, [*command, "--no-places"])
    assert done.exit_code == 0, done.output
    assert read_head(tmp_path / "h.safetensors").places is None


# The surest places in a detection ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heads(backbone, data):
    return fit_folds(backbone, data, LinearFit(folds=3), PlaceFit(prior=0))


def test_how_they_count_is_fitted_to_photographs_that_were_not_seen(backbone, data, heads):
    said = heads.head.presence
    assert said.surest > 0
    assert said.slope > 0
    assert said.scale == SCALE
    logits, evidences = np.zeros((2, *data.truth.shape))
    folds = [attach(backbone, head, "fold") for head in heads.of_folds]
    plains = [attach(backbone, replace(head, presence=None), "plain") for head in heads.of_folds]
    for number, file in enumerate(data.files):
        fold, plain = folds[heads.folds[number]], plains[heads.folds[number]]
        photograph = images.read(file)
        (probability,) = fold.probabilities(detection_logits(fold, [photograph])).numpy()
        np.testing.assert_allclose(heads.fitted.scores[number], probability, atol=1e-5)
        view = View(plain, plain.at(plain.scaled(SCALE)).prepare([photograph]))
        logits[number] = plain.logits(view.at(1.0).x).detach()
        features = linear_head(view, "test").features.detach()
        evidences[number] = evidence(features, heads.of_folds[heads.folds[number]].places)
    # Of all the judged ones for the head, and of the others' for a fold's.
    for head, part in ((heads.head, heads.folds >= 0), (heads.of_folds[1], heads.folds != 1)):
        slopes, offset = platt(np.stack([logits[part].ravel(), evidences[part].ravel()]), data.truth[part].ravel())
        np.testing.assert_allclose(head.presence[1:], (*slopes, offset), rtol=1e-3, atol=1e-3)


def test_evidence_is_the_mean_of_the_surest_places(fitted):
    features = torch.rand(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    logs = torch.einsum("kd,bdhw->bkhw", fitted.weight, features) + fitted.bias[:, None, None]
    expected = logs.log_softmax(1)[:, :-1].flatten(2).sort(dim=2, descending=True).values[:, :, :5].mean(2)
    torch.testing.assert_close(evidence(features, fitted), expected)
    torch.testing.assert_close(evidence(features[:, :, :1, :1], fitted), logs.log_softmax(1)[:, :-1, 0, 0])


def test_recipes_that_look_at_that_size_detect_with_it(backbone, heads, data):
    # These photographs are easy: with the numbers that were fitted, all scores are 1.
    classifier = attach(backbone, replace(heads.head, presence=Presence(SCALE, 0.2, 1.5, 0.3)), "placed")
    plain = attach(backbone, replace(heads.head, presence=None), "plain")
    assert classifier.fingerprint != plain.fingerprint
    photograph = images.read(data.files[3])
    counted = detect(classifier, [photograph], 0, 2)[0]
    alone = plain.detect([photograph], 0, 2)[0]
    assert detect(plain, [photograph], 0, 2)[0] == alone
    several = Recipe("several", "", MultiScale(PlaceProbability(), (1.0, SCALE), flip=False), Fractions(), GraphCut())
    several, once = (Segmenter(classifier, recipe)(photograph) for recipe in (several, "fast"))
    assert [found.score for found in several.best] == pytest.approx([found.score for found in counted], abs=1e-5)
    assert [found.score for found in once.best] == pytest.approx([found.score for found in alone], abs=1e-5)
    assert [found.score for found in counted] != pytest.approx([found.score for found in alone], abs=1e-3)


def test_the_pass_at_that_size_is_made_once(backbone, heads, data, monkeypatch):
    classifier = attach(backbone, heads.head, "placed")
    recipe = Recipe("several", "", MultiScale(PlaceProbability(), (1.0, SCALE), flip=False), Fractions(), GraphCut())
    segmenter = Segmenter(classifier, recipe)
    segmenter(data.files[3])
    sizes = []
    forward = type(classifier.model).forward
    monkeypatch.setattr(type(classifier.model), "forward", lambda self, x: sizes.append(x.shape[2]) or forward(self, x))
    segmenter(data.files[3])
    assert sizes == [SIZE, round(SIZE * SCALE)]


def test_the_file_keeps_how_they_count(heads, tmp_path):
    heads.head.save(tmp_path / "head.safetensors")
    again = read_head(tmp_path / "head.safetensors")
    assert again.presence == heads.head.presence
    replace(heads.head, places=None).save(tmp_path / "odd.safetensors")
    with pytest.raises(ClassifierError, match="expected weights for places beside 'presence', got none"):
        read_head(tmp_path / "odd.safetensors")


def test_a_head_alone_counts_none(backbone, few):
    assert fit_folds(backbone, few, LinearFit(folds=2), PlaceFit(rounds=1), every_fold=False).head.presence is None

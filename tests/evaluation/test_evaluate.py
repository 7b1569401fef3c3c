"""Masks against the truth, held to pycocotools, a plain confusion matrix and scikit-learn; and the runs over many."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_runs import OVERLAPPING
from networks import placed
from pycocotools import mask as coco_mask
from sklearn.metrics import average_precision_score, confusion_matrix

from gradcut import Classifier, Segmenter, datasets, evaluation
from gradcut.datasets import OBJECT, Dataset, Sample
from gradcut.errors import EvaluationError, GradcutError
from gradcut.evaluation import BASELINES, Counts, OutOfFold, Rectangle, Region, Regions
from gradcut.evaluation.evaluate import evaluate
from gradcut.evaluation.faithfulness import deletion
from gradcut.evaluation.report import page
from gradcut.evaluation.scoring import score
from gradcut.evaluation.summary import summarise
from gradcut.masks import Expansion, GraphCut
from gradcut.recipes import Recipe, with_saliency
from gradcut.records import fingerprint
from gradcut.saliency import Gradient
from gradcut.seeds import Percentiles

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _from_the_start():
    """Every test draws the same masks, alone or among others."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def blob(share: float, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    return RNG.random(size) < share


# Pure functions ------------------------------------------------------------------------------------------------------


def test_iou_is_pycocotools():
    for a, b in [(0.3, 0.5), (0.01, 0.9), (1.0, 0.2)]:
        one, two = blob(a), blob(b)
        codes = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in (one, two)]
        assert evaluation.iou(one, two) == pytest.approx(float(coco_mask.iou([codes[0]], [codes[1]], [0])[0, 0]))


def test_counts_are_the_confusion_matrix_without_ignored_pixels():
    prediction, truth, ignore = blob(0.4), blob(0.3), blob(0.2)
    tn, fp, fn, tp = map(int, confusion_matrix(truth[~ignore], prediction[~ignore]).ravel())
    found = evaluation.counts(prediction, truth, ignore)
    assert found == Counts(tp, fp, fn, tn)
    assert found.precision == tp / (tp + fp)
    assert found.recall == tp / (tp + fn)
    assert found.accuracy == (tp + tn) / (~ignore).sum()
    assert evaluation.counts(prediction, truth) != found


def test_ratios_of_nothing_are_none():
    nothing = np.zeros((4, 4), dtype=bool)
    both = evaluation.counts(nothing, nothing)
    assert (both.iou, both.precision, both.recall, both.accuracy) == (None, None, None, 1.0)
    assert evaluation.iou(nothing, ~nothing) == 0


def test_rounding_neither_points_nor_ranks():
    """A map that says nothing is worth the same whatever its last digits are."""
    truth, ignore = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    truth[:10] = True
    flat = np.full((30, 40), 0.3, np.float32)
    noisy = flat + np.random.default_rng(0).normal(0, 1e-8, flat.shape).astype(np.float32)
    assert noisy.min() < noisy.max()
    for saliency in (flat, noisy):
        assert evaluation.pointing(saliency, truth, ignore) is False
        assert evaluation.protocol(saliency, truth) == evaluation.protocol(flat, truth)


def test_pointing_game_and_energy():
    saliency = np.zeros((6, 6), dtype=np.float32)
    saliency[1, 1], saliency[4, 4] = 3, 1
    truth, ignore = np.zeros((6, 6), dtype=bool), np.zeros((6, 6), dtype=bool)
    truth[4:, 4:] = True
    assert evaluation.pointing(saliency, truth, ignore) is False
    assert evaluation.energy_inside(saliency, truth, ignore) == 0.25
    ignore[:2] = True  # the maximum counts no more
    assert evaluation.pointing(saliency, truth, ignore) is True
    assert evaluation.energy_inside(saliency, truth, ignore) == 1
    assert evaluation.energy_inside(0 * saliency, truth, ignore) is None
    assert evaluation.pointing(saliency, truth, ~(truth & False)) is None


def test_average_precision_is_scikit_learns():
    for digits in (6, 1):  # with one digit there are many ties
        scores, truth = RNG.random(300).round(digits), RNG.random(300) < 0.3
        assert evaluation.average_precision(scores=scores, truth=truth) == pytest.approx(
            average_precision_score(truth, scores)
        )
    assert evaluation.average_precision(scores=scores, truth=truth & False) is None


def test_protocol_written_out():
    """The steps of the ImageNet-Segmentation protocol by hand, with a map of its size so that nothing is resized."""
    saliency, truth = RNG.random((224, 224)).astype(np.float32) ** 2, blob(0.3, (224, 224))
    values = saliency.astype(float)
    scaled = (values - values.min()) / (values.max() - values.min())
    found = evaluation.protocol(saliency, truth)
    tn, fp, fn, tp = map(int, confusion_matrix(truth.ravel(), (scaled > scaled.mean()).ravel()).ravel())
    assert found["counts"] == [tp, fp, fn, tn]
    scores, one_hot = np.stack([1 - scaled, scaled]), np.stack([~truth, truth])
    assert found["ap"] == pytest.approx(average_precision_score(one_hot.ravel(), scores.ravel()))
    assert evaluation.protocol(np.ones((7, 9), dtype=np.float32), truth)["counts"][:2] == [0, 0]


def test_the_smaller_true_mask_lies_on_top():
    big, small = np.ones((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    small[0] = True
    sample = Sample("it", np.zeros((4, 4, 3), dtype=np.uint8), {"cup": small, "table": big}, small & False)
    joint = evaluation.true_labelmap(sample, ("table", "cup"))
    assert (joint[0] == 2).all()
    assert (joint[1:] == 1).all()


# One photograph ------------------------------------------------------------------------------------------------------


class Fixed:
    """A `Segment` that answers with masks given beforehand, and their saliency."""

    def __init__(self, masks: dict[str, np.ndarray], saliency: np.ndarray | None = None) -> None:
        self.masks, self.saliency = masks, saliency

    def __call__(self, image, labels):
        chosen = list(self.masks) if labels is None else [label for label in labels if label in self.masks]
        regions = tuple(Region(label, self.masks[label], self.saliency, 0.5) for label in chosen)
        return Regions(regions, image.shape[:2])


def sample_of(masks: dict[str, np.ndarray], ignore: np.ndarray | None = None, **more) -> Sample:
    size = next(iter(masks.values())).shape
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    return Sample("it", image, masks, np.zeros(size, dtype=bool) if ignore is None else ignore, **more)


def test_joint_counts_are_a_confusion_matrix():
    """Pixels summed over classes and background, as VOC counts them, against scikit-learn's matrix."""
    cat, dog = blob(0.3), blob(0.3)
    dog &= ~cat
    ignore = blob(0.1)
    found = Fixed({"dog": blob(0.4), "cat": blob(0.2), "bird": blob(0.1)})
    sample, labels = sample_of({"cat": cat, "dog": dog}, ignore), ("bird", "cat", "dog")
    result = found(sample.image, None)
    row = evaluation.score(result, sample, labels)
    order = {number: labels.index(one.label) + 1 for number, one in enumerate(result.objects, start=1)}
    predicted = np.vectorize({0: 0, **order}.get)(result.labelmap())
    truth = evaluation.true_labelmap(sample, labels)
    matrix = confusion_matrix(truth[~ignore], predicted[~ignore], labels=range(4))
    for place, entry in enumerate([row["background"], *(row["classes"][label]["joint"] for label in labels)]):
        tp = matrix[place, place]
        assert entry == [tp, matrix[:, place].sum() - tp, matrix[place].sum() - tp]
    assert row["union"] == list(
        evaluation.counts(found.masks["dog"] | found.masks["cat"] | found.masks["bird"], cat | dog, ignore)
    )
    assert row["classes"]["cat"]["counts"] == list(evaluation.counts(found.masks["cat"], cat, ignore))
    assert row["classes"]["bird"]["counts"][0] == 0
    assert [row["classes"][label]["true"] for label in labels] == [False, True, True]
    json.dumps(row)


def test_missed_classes_count_as_zero():
    cat = blob(0.3)
    row = evaluation.score(Fixed({})(sample_of({"cat": cat}).image, None), sample_of({"cat": cat}), ("cat",))
    assert row["classes"]["cat"]["counts"] == [0, 0, int(cat.sum()), int((~cat).sum())]
    assert not row["classes"]["cat"]["found"]


def test_classes_in_crowds_alone_are_neither_right_nor_wrong():
    cat, crowd, elsewhere = np.zeros((3, 20, 20), dtype=bool)
    cat[:5], crowd[10:15], elsewhere[8:18] = True, True, True
    sample = sample_of({"cat": cat}, crowd, doubtful=frozenset({"person"}))
    labels = ("cat", "person")
    with_crowd = evaluation.score(Fixed({"cat": cat, "person": elsewhere})(sample.image, None), sample, labels)
    assert set(with_crowd["classes"]) == {"cat"}
    assert Counts(*with_crowd["union"]).iou == 1
    assert with_crowd["background"][1:] == [0, 0]
    # A class all of whose true pixels are ignored is as doubtful.
    hidden = sample_of({"cat": cat, "person": crowd}, crowd)
    assert set(evaluation.score(Fixed({"person": elsewhere})(hidden.image, None), hidden, labels)["classes"]) == {"cat"}


def test_what_the_truth_does_not_know_is_left_out():
    cat = blob(0.3)
    sample = sample_of({"cat": cat})
    row = evaluation.score(Fixed({"CAT": cat, "unicorn": ~cat})(sample.image, None), sample, ("cat",))
    assert set(row["classes"]) == {"cat"}  # found whatever its case
    assert Counts(*row["union"]).iou == 1


def test_without_names_all_masks_together_are_compared():
    truth, saliency = blob(0.4), RNG.random((40, 50)).astype(np.float32)
    sample = sample_of({OBJECT: truth})
    result = Fixed({"tabby": truth & blob(0.5), "tiger cat": truth}, saliency)(sample.image, None)
    row = evaluation.score(result, sample, None)
    assert Counts(*row["union"]).iou == 1
    assert row["protocol"] == evaluation.protocol(saliency, truth)
    assert row["classes"][OBJECT]["energy"] == pytest.approx(saliency[truth].sum() / saliency.sum(), rel=1e-5)


def test_sizes_and_numbers_of_objects():
    cat = blob(0.3)
    sample = sample_of({"cat": cat}, areas={"cat": (0.1, 0.05, 0.2)})
    entry = evaluation.score(Fixed({"cat": cat})(sample.image, None), sample, ("cat",))["classes"]["cat"]
    assert (entry["instances"], entry["largest"]) == (3, 0.2)


def test_rectangles():
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    whole, box = (BASELINES[name](image, ["cat", "dog"]) for name in ("whole", "box"))
    assert whole.objects[1].mask.all()
    assert box.objects[0].mask.sum() == 30 * 60
    assert box.objects[0].mask[5, 10]
    assert not box.objects[0].mask[4, 10]
    assert set(np.unique(box.labelmap())) == {0, 1}  # the first class has the pixels
    assert Rectangle(0.5)(image, ["cat"]).objects[0].mask.sum() == 20 * 40
    with pytest.raises(EvaluationError, match=r"side: .* got 1.5"):
        Rectangle(1.5)
    with pytest.raises(EvaluationError, match="labels"):
        Rectangle()(image, None)


# Many photographs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def samples(drawn) -> list[Sample]:
    """Six drawings with a red square and a blue disc, the last two with one of them alone."""
    photograph, masks = drawn
    made = []
    for number in range(6):
        image, truth = np.roll(photograph, 2 * number, axis=1), dict(masks)
        for label in ("red", "blue")[: max(0, number - 3)][:1]:
            truth.pop(label)
        truth = {label: np.roll(mask, 2 * number, axis=1) for label, mask in truth.items()}
        made.append(Sample(f"{number}.png", image, truth, np.zeros((64, 64), dtype=bool)))
    return made


@pytest.fixture
def recipes(brightness) -> dict[str, Segmenter]:
    steps = Gradient(), Percentiles(90, 30)
    return {
        "grown": Segmenter(brightness, Recipe("grown", "", *steps, Expansion())),
        "grown less": Segmenter(brightness, Recipe("grown less", "", *steps, Expansion(start=5))),
        "cut": Segmenter(brightness, Recipe("cut", "", Gradient(of="logit"), Percentiles(), GraphCut())),
    }


def untimed(rows) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_rows_of_every_recipe_and_baseline(samples, recipes):
    rows = list(evaluate(samples, recipes))
    names = [*recipes, "whole", "box"]
    assert [(row["photograph"], row["recipe"]) for row in rows] == [(s.name, name) for s in samples for name in names]
    for row in rows:
        json.dumps(row)
        sample = samples[int(row["photograph"][0])]
        assert set(row["classes"]) == set(sample.masks)
        if row["recipe"] in recipes:
            result = recipes[row["recipe"]](sample.image, sorted(sample.masks))
            assert row["union"] == list(evaluation.counts(result.mask, sample.truth))
            assert set(row["scores"]) == {"red", "blue"}
            for found in result.objects:
                entry = row["classes"][found.label]
                assert entry["counts"] == list(evaluation.counts(found.mask, sample.masks[found.label]))
                assert row["scores"][found.label] == pytest.approx(found.score, rel=1e-4)
        assert ("seconds" in row) == (row["recipe"] in recipes)


def test_predicted_labels(samples, recipes):
    rows = list(evaluate(samples, recipes, "predicted"))
    alone = [row for row in rows if row["photograph"] == "5.png"]
    assert alone
    for row in alone:  # the blue disc is there and seen, and both colours are in the picture
        assert row["classes"]["red"]["true"] is False
        assert row["classes"]["red"]["found"]
        assert Counts(*row["classes"]["red"]["counts"]).iou == 0


def test_options_change_rows(samples, recipes):
    plain = untimed(evaluate(samples[:1], recipes))
    assert plain[0]["size"] == [64, 64]
    assert {row["size"][1] for row in evaluate(samples[:1], recipes, size=(32, 48))} == {48}
    assert untimed(evaluate(samples[:1], recipes, baselines=False)) == plain[:3]
    assert "scores" not in next(iter(evaluate(samples[:1], recipes, classification=False)))
    rest = list(evaluate(samples[:1], recipes, skip={("0.png", "grown"), ("0.png", "whole")}))
    assert [row["recipe"] for row in rest] == ["grown less", "cut", "box"]
    assert not list(evaluate(samples[:1], recipes, skip={("0.png", name) for name in [*recipes, "whole", "box"]}))


def test_recipes_that_share_a_saliency_get_the_numbers_that_they_get_alone(samples, recipes):
    together = untimed(evaluate(samples[:2], recipes, baselines=False))
    alone = [
        row for name, one in recipes.items() for row in untimed(evaluate(samples[:2], {name: one}, baselines=False))
    ]
    key = lambda row: (row["photograph"], row["recipe"])  # noqa: E731
    assert sorted(together, key=key) == sorted(alone, key=key)


def test_recipes_that_differ_in_one_setting_of_the_maps_share_none(samples, brightness):
    """Photographs of half the size, another limit, or another preparation: each recipe gets its own maps."""
    recipe = Recipe("whole", "", Gradient(of="logit"), Percentiles(90, 30), Expansion())
    darker = replace(brightness, mean=(0.3, 0.3, 0.3))
    segmenters = {
        "plain": Segmenter(brightness, recipe),
        "half": Segmenter(brightness, replace(recipe, detail=0.5)),
        "one class": Segmenter(brightness, recipe, top_k=1),
        "darker": Segmenter(darker, recipe),
    }
    rows = untimed(evaluate(samples[:1], segmenters, "predicted", baselines=False))
    alone = [
        row
        for name, segmenter in segmenters.items()
        for row in untimed(evaluate(samples[:1], {name: segmenter}, "predicted", baselines=False))
    ]
    assert rows == alone
    assert len({json.dumps([row["classes"], row["scores"]]) for row in rows}) == len(rows)


def test_a_failing_photograph_costs_no_other(samples, recipes):
    def load(name: str) -> Sample:
        if name == "1.png":
            raise datasets.DatasetError("1.png: its mask is broken")
        return samples[int(name[0])]

    dataset = Dataset("drawings", ("blue", "red"), tuple(sample.name for sample in samples), load)
    rows = list(evaluate(dataset, recipes))
    assert [row["error"] for row in rows if "error" in row] == ["1.png: its mask is broken"] * 5
    assert len(rows) == 6 * 5


def test_one_thread_while_a_photograph_is_at_work(samples, recipes):
    """The caller's own loop body has all of its threads."""
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)

    def watched(image, labels):
        seen.append(torch.get_num_threads())
        return recipes["grown"](image, labels)

    def failing(image, labels):
        raise RuntimeError("not a GradcutError")

    try:
        for _ in evaluate(samples[:3], {"watched": watched}):
            assert torch.get_num_threads() == 2
        assert seen == [1, 1, 1]
        with pytest.raises(RuntimeError, match="not a GradcutError"):
            next(evaluate(samples, {"failing": failing}))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_numbers_do_not_depend_on_the_workers(samples, recipes):
    torch.manual_seed(0)  # a model of torch's own parts, which another process can load
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
    )  # fmt: skip
    classifier = Classifier(model.eval(), ("blue", "red"), size=64, multilabel=True)
    mine = {name: Segmenter(classifier, one.recipe) for name, one in recipes.items()}
    one = untimed(evaluate(samples, mine))
    assert not [row for row in one if "error" in row]
    assert one == untimed(evaluate(samples, mine, workers=2))


def test_what_other_processes_cannot_have(samples, recipes):
    with pytest.raises(EvaluationError, match="workers: more than one needs steps that can be pickled"):
        next(evaluate(samples, {"mine": lambda image, labels: None}, workers=2))
    with pytest.raises(EvaluationError, match="workers: expected 1"):
        evaluate(samples, recipes, workers=0)


def test_open_segmenters(tmp_path, monkeypatch, brightness):
    """By names: recipes on one classifier, or on a head a fold."""
    asked = []

    def load(name: str) -> Classifier:
        asked.append(name)
        return replace(brightness, name=name)

    monkeypatch.setattr("gradcut.evaluation.opening.load_classifier", load)
    opened = evaluation.open_segmenters(["simonyan", "fast"], "mine", top_k=3, device="cpu")
    assert asked == ["mine"]
    assert {name: one.recipe.name for name, one in opened.items()} == {"simonyan": "simonyan", "fast": "fast"}
    assert opened["fast"].top_k == 3
    (changed,) = evaluation.open_segmenters(["fast with layercam"], "mine").values()
    assert changed.recipe == with_saliency("fast", "LayerCAM")
    with pytest.raises(GradcutError, match="saliency: expected one of"):
        evaluation.open_segmenters(["fast with nothing"], "mine")
    (tmp_path / "folds.csv").write_text("file,fold\na.png,1\nb.png,0\n")
    folded = evaluation.open_segmenters(folds=tmp_path, threshold=0.1)["default"]
    assert folded.of("images/a.png").classifier.name == str(tmp_path / "fold-1.safetensors")
    assert folded.of("b.png").threshold == 0.1


def test_maps_are_asked_about_as_they_are_in_rows(samples, recipes, brightness):
    """Of every class that was found, with the classifier as the recipe has it; one process or two."""
    faithfulness = evaluation.Faithfulness(("deletion", "sensitivity"), steps=4, moves=2)
    rows = untimed(evaluate(samples, recipes, faithfulness=faithfulness))
    plain = untimed(evaluate(samples, recipes))
    for row in rows:
        for label, entry in row["classes"].items():
            values = entry.pop("faithfulness", None)
            assert (values is not None) == (row["recipe"] in recipes and entry["found"])
            if values is not None:
                segmenter = recipes[row["recipe"]]
                sample = next(s for s in samples if s.name == row["photograph"])
                result = segmenter(sample.image, sorted(sample.masks))
                x = segmenter.classifier.prepare([sample.image])
                curve = deletion(segmenter.classifier, x, result[label].saliency, result[label].members, steps=4)
                assert values["curves"]["deletion"] == pytest.approx(curve.scores, abs=1e-5)
                assert values["deletion"] == pytest.approx(curve.area, abs=1e-5)
                assert values["sensitivity"] >= 0
    assert rows == plain, "nothing else changes"
    nameless = [replace(s, masks={OBJECT: s.truth}, areas={}) for s in samples[:1]]
    row = next(evaluate(nameless, recipes, "predicted", faithfulness=faithfulness))
    assert set(row["classes"][OBJECT]["faithfulness"]) == {"deletion", "sensitivity", "curves"}
    with pytest.raises(EvaluationError, match="faithfulness: expected Segmenters, whose network is known, got 'mine'"):
        evaluate(samples, {"mine": Fixed({})}, faithfulness=faithfulness)


def test_a_segment_of_your_own(samples):
    """Any callable with the signature is a step."""
    perfect: Callable = lambda image, labels: Fixed(  # noqa: E731
        next(s.masks for s in samples if np.array_equal(s.image, image))
    )(image, labels)
    for row in evaluate(samples, {"perfect": perfect}, baselines=False):
        assert Counts(*row["union"]).iou == 1
        assert "scores" not in row


def test_classes_that_the_classifier_does_not_know(samples, recipes):
    green = np.zeros((64, 64), dtype=bool)
    green[:4] = True
    more = [Sample("g", s.image, {**s.masks, "green": green}, s.ignore) for s in samples[:1]]
    with pytest.raises(EvaluationError, match=r"does not know 1 of the 3 classes of samples: green; .*--only-known"):
        evaluate(more, recipes)
    (row, *_) = evaluate(more, recipes, only_known=True)
    assert set(row["classes"]) == {"red", "blue"}
    with pytest.raises(EvaluationError, match="does not know 1 of the 1 classes"):
        evaluate([Sample("g", samples[0].image, {"green": green}, green)], recipes, "predicted")
    nameless = [Sample("g", samples[0].image, {OBJECT: green}, green & False)]
    with pytest.raises(EvaluationError, match="does not name its classes"):
        evaluate(nameless, recipes)
    assert next(evaluate(nameless, recipes, "predicted"))["protocol"]["ap"] > 0


@pytest.mark.parametrize("segmenters", [{}, {"whole": Fixed({})}])
def test_names_of_recipes(samples, segmenters):
    with pytest.raises(EvaluationError, match="segmenters"):
        evaluate(samples, segmenters)


def test_no_sample_twice(samples, recipes):
    with pytest.raises(EvaluationError, match="no name twice"):
        evaluate([samples[0], samples[0]], recipes)


def test_out_of_fold(samples, recipes, tmp_path):
    """Every photograph goes through the segmenter of its own fold."""
    (tmp_path / "folds.csv").write_text("file,fold\n" + "".join(f"images/{n}.png,{n % 2}\n" for n in range(5)))
    folds = evaluation.read_folds(tmp_path / "folds.csv")
    both = OutOfFold((recipes["grown"], recipes["cut"]), folds)
    rows = untimed(evaluate(samples, {"mixed": both}, baselines=False))
    for number, row in enumerate(rows[:5]):
        (expected,) = untimed(evaluate([samples[number]], {"mixed": both.segmenters[number % 2]}, baselines=False))
        assert row | {"scores": 0} == expected | {"scores": 0}
    assert rows[5] == {
        "photograph": "5.png", "recipe": "mixed",
        "error": "5.png: folds: expected a fold below 2 for 5.png, got None",
    }  # fmt: skip
    with pytest.raises(EvaluationError, match=r"folds: .*none\.csv"):
        evaluation.read_folds(tmp_path / "none.csv")
    (tmp_path / "folds.csv").write_text("file,fold\n")
    with pytest.raises(EvaluationError, match="a line a photograph, got none"):
        evaluation.read_folds(tmp_path / "folds.csv")
    (tmp_path / "folds.csv").write_text("name,number\n1,2\n")
    with pytest.raises(EvaluationError, match="columns file and fold"):
        evaluation.read_folds(tmp_path / "folds.csv")


def test_folds_of_names_without_an_ending(recipes):
    """As Pascal VOC's are, and those of a folder; not where the ending alone tells two files apart."""
    asked = OutOfFold((recipes["grown"], recipes["cut"]), {"images/a.jpg": 1, "b.jpg": 0, "c.jpg": 0, "c.png": 1})
    assert asked.of("a") is asked.of("images/a.jpg") is recipes["cut"]
    assert asked.of("below/b") is recipes["grown"]
    assert asked.of("c.png") is recipes["cut"]
    for name in ("c", "a.png"):
        with pytest.raises(EvaluationError, match=f"for {name}, got None"):
            asked.of(name)


# A file of rows ------------------------------------------------------------------------------------------------------


def settings(**more) -> dict:
    return {"labels": "truth", "recipes": {"grown": {"recipe": {"name": "grown", "sha256": "a"}}}} | more


def test_resuming_gives_the_same_file(samples, recipes, tmp_path):
    path, names = tmp_path / "scores.jsonl", [*recipes, "whole", "box"]
    whole = untimed(evaluate(samples, recipes))
    assert evaluation.resume(path, settings()) == []
    with path.open("a") as file:  # stopped in the middle of the third photograph, and of a line
        for row in whole[:12]:
            file.write(evaluation.line(row))
        file.write(evaluation.line(whole[12])[:40])
    done = evaluation.resume(path, settings())
    assert done == whole[:12]
    skip = {(row["photograph"], row["recipe"]) for row in done}
    with path.open("a") as file:
        file.writelines(map(evaluation.line, untimed(evaluate(samples, recipes, skip=skip))))
    assert evaluation.read_rows(path) == whole
    assert len(whole) == len(samples) * len(names)


def test_failures_are_tried_again(tmp_path):
    path = tmp_path / "scores.jsonl"
    evaluation.resume(path, settings())
    good, bad = {"photograph": "a", "recipe": "grown"}, {"photograph": "b", "recipe": "grown", "error": "broken"}
    path.write_text(evaluation.line(good) + evaluation.line(bad))
    assert evaluation.resume(path, settings()) == [good]
    assert evaluation.read_rows(path) == [good]


def test_other_settings_are_refused(tmp_path):
    path = tmp_path / "scores.jsonl"
    evaluation.resume(path, settings())
    more = settings(recipes={"cut": {"recipe": {"name": "cut", "sha256": "c"}}})
    evaluation.resume(path, more)  # another recipe joins
    assert set(evaluation.read_settings(path)["recipes"]) == {"grown", "cut"}
    with pytest.raises(EvaluationError, match="made with labels truth, now predicted; choose"):
        evaluation.resume(path, settings(labels="predicted"))
    with pytest.raises(EvaluationError, match=r"made with grown: another recipe .*; choose"):
        evaluation.resume(path, settings(recipes={"grown": {"recipe": {"name": "grown", "sha256": "b"}}}))
    path.write_text(evaluation.line({"photograph": "a", "recipe": "grown"}))
    assert evaluation.resume(path, settings(labels="predicted"), overwrite=True) == []
    assert path.read_text() == ""
    evaluation.settings_path(path).unlink()
    with pytest.raises(EvaluationError, match=r"without its settings, scores\.settings\.json"):
        evaluation.resume(path, settings())


def all_settings(segmenters, **more) -> dict:
    source = {"classifier": "head.safetensors", "folds": None, "threshold": None, "top_k": None}
    return evaluation.settings("drawings", {"kind": "folder"}, source | more, segmenters, "truth")


def test_names_words_and_paths_do_not_refuse_to_resume(recipes, tmp_path, brightness):
    path, grown = tmp_path / "scores.jsonl", recipes["grown"]
    evaluation.resume(path, all_settings({"grown": grown}))
    reworded = Segmenter(
        replace(brightness, name="elsewhere/h"), replace(grown.recipe, summary="other words", name="x")
    )
    moved = all_settings({"grown": reworded}, classifier="elsewhere/head.safetensors")
    evaluation.resume(path, moved | {"title": "drawings, again"})
    evaluation.check_unchanged(path, evaluation.read_settings(path), {"grown": grown})
    evaluation.resume(path, all_settings({"grown": grown}))
    before = evaluation.read_settings(path)
    changes = {
        "seeds": Segmenter(brightness, replace(grown.recipe, seeds=Percentiles(80, 20))),
        "detail": Segmenter(brightness, replace(grown.recipe, detail=2.0)),
        "top_k": Segmenter(brightness, grown.recipe, top_k=1),
        "multilabel": Segmenter(replace(brightness, multilabel=False, top_k=20, threshold=0.75), grown.recipe),
    }
    for what, segmenter in changes.items():
        with pytest.raises(EvaluationError, match=rf"made with grown: .*{what} .*, now .*; choose"):
            evaluation.resume(path, all_settings({"grown": segmenter}))
        with pytest.raises(EvaluationError, match=rf"grown: .*{what} .*, now .*; evaluate again"):
            evaluation.check_unchanged(path, before, {"grown": segmenter})


def test_another_version_of_the_algorithms_or_the_measures_refuses(recipes, tmp_path, monkeypatch):
    path, segmenters = tmp_path / "scores.jsonl", {"grown": recipes["grown"]}
    evaluation.resume(path, all_settings(segmenters))
    before = evaluation.read_settings(path)
    monkeypatch.setattr("gradcut.recipes.ALGORITHMS", 99)
    with pytest.raises(EvaluationError, match=r"made with grown: recipe's algorithms .*, now .*99; choose") as info:
        evaluation.resume(path, all_settings(segmenters))
    assert "\n" not in str(info.value)
    with pytest.raises(EvaluationError, match=r"grown: recipe's algorithms .*, now .*99; evaluate again"):
        evaluation.check_unchanged(path, before, segmenters)
    monkeypatch.undo()
    evaluation.resume(path, all_settings(segmenters))
    monkeypatch.setattr("gradcut.evaluation.rows.MEASURES", 99)
    with pytest.raises(EvaluationError, match="made with measures 1, now 99; choose"):
        evaluation.resume(path, all_settings(segmenters))


def test_heads_of_folds_are_recorded_all_of_them(recipes, brightness):
    """Another head, or another share of the photographs, is another record; other names of both are not."""
    grown, folds = recipes["grown"], {"a.png": 0, "b.png": 1}
    darker = Segmenter(replace(brightness, mean=(0.1, 0.1, 0.1)), grown.recipe)
    renamed = Segmenter(replace(brightness, name="h"), grown.recipe)

    def print_of(*parts, folds=folds) -> str:
        return fingerprint(OutOfFold(parts, folds).record())

    assert print_of(grown, darker) == print_of(renamed, darker)
    prints = {
        print_of(grown, grown), print_of(grown, darker), print_of(darker, grown), print_of(grown, grown, grown),
        print_of(grown, grown, folds={"a.png": 1, "b.png": 0}), fingerprint(grown.record()),
    }  # fmt: skip
    assert len(prints) == 6


def test_files_that_are_no_scores(tmp_path):
    path = tmp_path / "scores.jsonl"
    with pytest.raises(EvaluationError, match=r"scores: .*scores\.jsonl"):
        evaluation.read_rows(path)
    path.write_text('{"photograph": "a", "recipe": "b"}\n{"a": 1}\n{"photograph"')
    with pytest.raises(EvaluationError, match="line 2 is no row"):
        evaluation.read_rows(path)


def test_coco_dev_runs_through(coco_dev: Path):
    """Real annotations and photographs: the baselines' IoU is the share of the photograph."""
    dataset = datasets.coco(coco_dev / "images", coco_dev / "annotations/instances_dev.json")[:8]
    by_name = {sample.name: sample for sample in dataset}
    rows = list(evaluate(dataset, {"nothing": Fixed({})}))
    assert len(rows) == 24
    for row in rows:
        if row["recipe"] == "whole":
            sample = by_name[row["photograph"]]
            valid = ~sample.ignore
            share = sample.truth[valid].mean()
            assert math.isclose(Counts(*row["union"]).iou, share)


def test_a_blank_map_counts_as_nothing_found():
    """Its row says so, the summary counts it, and the report tells."""
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    true = np.zeros((20, 20), dtype=bool)
    true[:10] = True
    nothing = Region("cat", np.zeros_like(true), np.full((5, 5), 0.5, dtype=np.float32), 0.9)
    sample = Sample("a", image, {"cat": true}, np.zeros_like(true))
    row = score(Regions((nothing,), (20, 20)), sample, ("cat",))
    assert row["classes"]["cat"]["blank"] is True
    assert row["classes"]["cat"]["found"] is False
    assert row["classes"]["cat"]["counts"] == [0, 0, 200, 200]
    seen = score(Regions((Region("cat", true, nothing.saliency, 0.9),), (20, 20)), sample, ("cat",))
    assert "blank" not in seen["classes"]["cat"]
    rows = [{"photograph": "a", "recipe": recipe} | each for recipe, each in (("x", row), ("y", seen))]
    figures = summarise(rows, resamples=0)
    assert [figures["recipes"][recipe]["blank"] for recipe in ("x", "y")] == [1, 0]
    settings = {"title": "t", "labels": "truth", "recipes": {}}
    assert "saliency is blank: 1 of x;" in page(rows, figures, settings)


def test_classes_that_differ_in_case_are_judged_apart():
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    left = np.zeros((4, 4), dtype=bool)
    left[:, :2] = True
    sample = Sample("a", image, {"Turkey": left, "turkey": ~left}, np.zeros_like(left))
    found = Regions((Region("turkey", ~left), Region("Turkey", left)), (4, 4))
    row = score(found, sample, ("Turkey", "turkey"))
    assert all(entry["counts"][1:3] == [0, 0] for entry in row["classes"].values())


def test_masks_without_overlaps_are_judged_as_the_joint_labelling(brightness, drawn):
    photograph, masks = drawn
    sample = Sample("a", photograph, masks, np.zeros((64, 64), dtype=bool))
    segmenters = {
        "plain": Segmenter(brightness, OVERLAPPING),
        "disjoint": Segmenter(brightness, OVERLAPPING, disjoint=True),
    }
    plain, disjoint = evaluate([sample], segmenters, "truth", baselines=False)
    for label in masks:
        assert disjoint["classes"][label]["joint"] == plain["classes"][label]["joint"]
        assert disjoint["classes"][label]["counts"][:3] == plain["classes"][label]["joint"]
        assert plain["classes"][label]["counts"][1] == 64 * 64 - masks[label].sum()


@pytest.mark.parametrize("labels", ["predicted", "truth"])
def test_an_object_below_the_least_confidence_counts_as_not_found(brightness, drawn, labels):
    photograph, masks = drawn
    sample = Sample("a", photograph, masks, np.zeros((64, 64), dtype=bool))
    segmenters = {"default": Segmenter(placed(brightness))}
    least, most = sorted(segmenters["default"](photograph), key=lambda item: item.confidence)
    middle = (least.confidence + most.confidence) / 2
    segmenters["sure"] = Segmenter(placed(brightness), min_confidence=middle)
    whole, sure = evaluate([sample], segmenters, labels, baselines=False)
    assert whole["classes"][most.label] == sure["classes"][most.label]
    assert whole["classes"][least.label]["found"]
    assert not sure["classes"][least.label]["found"]
    hit, extra, missed, *_ = sure["classes"][least.label]["counts"]
    assert (hit, extra, missed) == (0, 0, int(masks[least.label].sum()))

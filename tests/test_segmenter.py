"""From a photograph to masks: drawn images with known masks, and real photographs with the embedded classifier."""

from __future__ import annotations

import csv
import gc
import inspect
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from networks import Brightness, placed
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcut import RECIPES, Classifier, GradcutError, Recipe, Segmenter, images, refine, saliency
from gradcut.catalogue import OF_WORDS
from gradcut.masks import GraphCut
from gradcut.recipes import METHODS, blank_advice, with_saliency
from gradcut.saliency import CAM, Gradient, Method, MultiScale
from gradcut.seeds import Percentiles, Seeds

#: The recipes that any classifier can be asked with.
ANY = [name for name in RECIPES if name not in OF_WORDS]


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_drawn_masks_are_found_exactly(brightness, drawn):
    """Black, red and blue are so far apart that the cut follows the drawn boundary to the pixel."""
    photograph, truth = drawn
    recipe = Recipe("drawn", "", CAM(), Percentiles(99, 30), GraphCut())
    result = Segmenter(brightness, recipe)(photograph)
    assert {o.label for o in result.objects} == {"red", "blue"}
    for found in result.objects:
        assert np.array_equal(found.mask, truth[found.label])
    labels = result.labelmap()
    for number, found in enumerate(result.objects, start=1):
        assert np.array_equal(labels == number, truth[found.label])
    assert np.array_equal(result.mask, truth["red"] | truth["blue"])


def test_masks_have_the_photographs_own_size(brightness, drawn):
    large = np.kron(drawn[0], np.ones((3, 5, 1), dtype=np.uint8))
    recipe = Recipe("drawn", "", CAM(), Percentiles(99, 30), GraphCut())
    result = Segmenter(brightness, recipe)(large)
    assert result.objects
    for found in result.objects:
        assert found.mask.shape == large.shape[:2]
        truth = np.kron(drawn[1][found.label], np.ones((3, 5), dtype=bool))
        assert iou(found.mask, truth) > 0.9


def test_detection_and_labels(brightness, drawn):
    photograph = drawn[0].copy()
    photograph[drawn[1]["blue"]] = 0
    assert [o.label for o in Segmenter(brightness)(photograph).objects] == ["red"]
    asked = Segmenter(brightness)(photograph, labels=["blue", "red"])
    assert [o.label for o in asked.objects] == ["blue", "red"]
    assert asked.objects[0].score < 0.75 < asked.objects[1].score
    assert [o.label for o in Segmenter(brightness, threshold=0.0, top_k=2)(photograph).objects] == ["red", "blue"]
    nothing = Segmenter(brightness)(np.zeros((8, 8, 3), dtype=np.uint8))
    assert nothing.objects == ()
    assert not nothing.mask.any()
    assert not nothing.labelmap().any()
    assert {detection.label for detection in nothing.best} == {"red", "blue"}


@pytest.mark.parametrize("name", ANY)
def test_every_recipe_makes_masks_of_a_cat(embedded, cat, name):
    result = Segmenter(embedded, name)(cat)
    (found,) = result.objects
    assert "cat" in found.label
    assert 0 < found.mask.mean() < 1
    assert found.mask.shape == cat.shape[:2]
    assert (found.saliency >= 0).all()
    assert not (found.seeds.foreground & found.seeds.background).any()
    assert set(result.seconds) == {"read", "prepare", "saliency", "seeds", "masks"}


@pytest.mark.parametrize("name", ["simonyan", "guided", "deconvnet"])
def test_the_seeds_recipes_work_at_448(embedded, cat, name):
    found = Segmenter(embedded, name)(cat).objects[0]
    assert found.saliency.shape == (448, 448)
    assert abs(found.seeds.foreground.mean() - 0.05) < 0.001
    assert abs(found.seeds.background.mean() - 0.30) < 0.001


def test_top_1_on_imagenet_photographs(embedded, imagenet_samples):
    with (imagenet_samples / "classes.csv").open() as table:
        truth = {row["file"]: int(row["imagenet_index"]) for row in csv.DictReader(table)}
    hits = [
        embedded.detect([images.read(imagenet_samples / file)])[0][0].members == (index,)
        for file, index in truth.items()
    ]
    assert len(hits) == 40
    assert np.mean(hits) >= 0.75


def state(model):
    return {
        "parameters": [
            (p.requires_grad, p.grad, p.is_contiguous(), p.stride(), p._version) for p in model.parameters()
        ],
        "buffers": [(b.clone(), b.stride()) for b in model.buffers()],
        "training": [m.training for m in model.modules()],
        "hooks": [
            len(hooks)
            for m in model.modules()
            for name, hooks in vars(m).items()
            if "hooks" in name and hooks is not None
        ],
        "types": [(type(m), type(m).forward, "forward" in vars(m)) for m in model.modules()],
    }


def same(a, b):
    buffers = zip(a.pop("buffers"), b.pop("buffers"), strict=True)
    return a == b and all(torch.equal(x, y) and s == t for (x, s), (y, t) in buffers)


class Breaks(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("out of luck")


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ANY)
def test_the_model_is_left_as_it_was(drawn, brightness, name, training, breaks):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(0.5),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
        *([Breaks()] if breaks else []),
    ).to(memory_format=torch.channels_last)
    model.train(training)
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    before = state(model)
    classifier = Classifier(model, ("a", "b"), size=32, top_k=2)
    if breaks:
        with pytest.raises(GradcutError, match="out of luck"):
            Segmenter(classifier, name)(drawn[0])
    else:
        assert len(Segmenter(classifier, name)(drawn[0]).objects) == 2
    assert same(before, state(model))


def test_a_batch_is_the_same_as_one_by_one(brightness, drawn):
    segment = Segmenter(brightness)
    photographs = [drawn[0], np.zeros((5, 9, 3), dtype=np.uint8), drawn[0][::-1].copy()]
    together = [segment.cut(evidence) for evidence in segment.explain(photographs)]
    assert [len(result.objects) for result in together] == [2, 0, 2]
    for result, photograph in zip(together, photographs, strict=True):
        alone = segment(photograph)
        assert [o.label for o in alone.objects] == [o.label for o in result.objects]
        assert np.array_equal(alone.labelmap(), result.labelmap())


def test_what_was_resized_before_is_what_the_network_sees(embedded, cat):
    segment = Segmenter(embedded.at(64), "fast")
    (now,), (before,) = segment.explain([cat]), segment.explain([cat], resized=[segment.resized(cat)])
    np.testing.assert_array_equal(now.saliency, before.saliency)
    assert segment.resized(cat).dtype == np.uint8
    (black,) = segment.explain([cat], resized=[np.zeros_like(segment.resized(cat))])
    assert not np.array_equal(black.saliency, now.saliency)


@pytest.mark.parametrize(("recipe", "passes"), [("fast", 1), ("default", 3), ("simonyan", 1)])
def test_a_batch_waits_for_the_device_once_a_pass_and_nine_times_more(embedded, cat, recipe, passes):
    """Where the numbers of a device are looked at it has to come to an end first, and stands still meanwhile."""
    segment = Segmenter(embedded.at(64), recipe)
    photographs = [cat, cat[::-1]]
    segment.explain(photographs)  # the first time passes are compared with bare ones
    with Waits() as waits:
        segment.explain(photographs)
    assert waits.calls[Tensor.__bool__] == passes  # are the logits finite?
    # What is there and the best five, scores and numbers, and by places; the range of the maps; these themselves.
    assert sum(waits.calls.values()) - passes <= 9


class Waits(TorchFunctionMode):
    """Counts the functions that hand numbers of a tensor to Python."""

    FUNCTIONS = frozenset({
        Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__, Tensor.item, Tensor.tolist, Tensor.cpu,
        Tensor.nonzero, torch.nonzero, torch.equal, Tensor.equal, torch.allclose, torch.masked_select, torch.unique,
    })  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in self.FUNCTIONS:
            self.calls[func] += 1
        return result


def test_results_repeat_exactly(embedded, cat):
    first, second = (Segmenter(embedded)(cat).objects[0] for _ in range(2))
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.saliency, second.saliency)


def test_the_repr_is_the_record(brightness):
    text = repr(Segmenter(brightness, "simonyan", threshold=0.5))
    for part in (
        "brightness",
        "Gradient(of='probability'",
        "Percentiles(foreground=95, background=30)",
        "threshold=0.5",
    ):
        assert part in text


def test_detail_gives_larger_photographs_to_the_saliency_alone(brightness, drawn):
    """Stripes of a pixel are gone at the classifier's size, and there at twice that size."""
    steps = Percentiles(99, 30), GraphCut()
    height, width = brightness.size
    stripes = np.zeros((2 * height, 2 * width, 3), np.uint8)
    stripes[:, ::2] = 255
    sizes = []

    def spy(classifier, x, targets):
        sizes.append((tuple(x.shape[2:]), classifier.size, float(x.std())))
        return CAM()(classifier, x, targets)

    for detail in (1.0, 2.0):
        (evidence,) = Segmenter(brightness, Recipe("x", "", spy, *steps, detail=detail)).explain([stripes])
        assert evidence.saliency.shape[1:] == brightness.size
    assert [size[:2] for size in sizes] == [((height, width),) * 2, ((2 * height, 2 * width), (height, width))]
    assert sizes[1][2] > 3 * sizes[0][2]
    plain, fine = (
        Segmenter(brightness, Recipe("x", "", MultiScale(CAM(), (1, 2)), *steps, detail=detail)) for detail in (1, 2)
    )
    assert plain.recipe.fingerprint != fine.recipe.fingerprint
    assert not np.array_equal(plain.explain([drawn[0]])[0].saliency, fine.explain([drawn[0]])[0].saliency)
    with pytest.raises(GradcutError, match="detail: expected a number above 0, got 0"):
        Recipe("x", "", CAM(), *steps, detail=0)


def test_fingerprints_tell_settings_and_weights_apart(brightness):
    recipes = [*RECIPES.values(), Recipe("x", "", Gradient(of="logit"), Percentiles(), GraphCut())]
    assert len({recipe.fingerprint for recipe in recipes}) == len(recipes)
    before = brightness.fingerprint
    assert brightness.at(32).fingerprint != before
    with torch.no_grad():
        brightness.model.fc.bias.add_(1)
    assert (
        Classifier(brightness.model, brightness.labels, 64, (0, 0, 0), (1, 1, 1), True, name="brightness").fingerprint
        != before
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's own modules, when asked for their type
def test_a_gradient_leaves_no_graph_behind(brightness, drawn):
    segment = Segmenter(brightness, "simonyan")
    segment(drawn[0])
    gc.collect()
    before = sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())
    for _ in range(5):
        segment(drawn[0])
    gc.collect()
    assert sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()) == before


# what steps return, where they meet ----------------------------------------------------------------------------------


def never(classifier, x, targets):
    return torch.zeros(2, 64, 64)


def twice(classifier, x, targets):
    CAM()(classifier, x, targets)
    return CAM()(classifier, x, targets)


def cam_and(change):
    """Class activation maps, changed."""
    return lambda classifier, x, targets: change(CAM()(classifier, x, targets))


def seeds_and(change):
    return lambda saliency: change(Percentiles(99, 30)(saliency))


def mask_and(change):
    return lambda photograph, saliency, seeds: change(GraphCut()(photograph, saliency, seeds))


NOWHERE = np.zeros((64, 64), dtype=bool)

WRONG = {
    "never asks": ({"saliency": never}, "saliency: expected <function never .* to ask for its targets, it did not"),
    "asks twice": ({"saliency": twice}, "saliency: expected <function twice .* its targets once, it asked again"),
    "one map more": (
        {"saliency": cam_and(lambda maps: torch.cat([maps, maps[:1]]))},
        r"saliency: .* floats of shape \(2, h, w\), got torch.float32 of shape \(3, 64, 64\)",
    ),
    "one map less": ({"saliency": cam_and(lambda maps: maps[:1])}, r"saliency: .* got .* of shape \(1, 64, 64\)"),
    "a channel": ({"saliency": cam_and(lambda maps: maps[:, None])}, r"saliency: .* of shape \(2, 1, 64, 64\)"),
    "numpy": ({"saliency": cam_and(lambda maps: maps.numpy())}, "saliency: .* got ndarray"),
    "whole numbers": ({"saliency": cam_and(lambda maps: maps.long())}, "saliency: .* got torch.int64"),
    "None": ({"saliency": cam_and(lambda maps: None)}, "saliency: .* got NoneType"),
    "negative": ({"saliency": cam_and(lambda maps: maps - maps.max())}, "saliency: .* nowhere negative, got .* from -"),
    "NaN": ({"saliency": cam_and(lambda maps: maps * torch.nan)}, "saliency: .* finite maps .* nan"),
    "infinite": ({"saliency": cam_and(lambda maps: maps / 0)}, "saliency: .* finite maps"),
    "seeds of a size": ({"seeds": seeds_and(lambda s: Seeds(*(side[1:] for side in s)))}, r"seeds: .* \(63, 64\)"),
    "seeds of numbers": ({"seeds": seeds_and(lambda s: Seeds(*(side * 1.0 for side in s)))}, "seeds: .* boolean"),
    "no seeds": ({"seeds": lambda saliency: None}, "seeds: .* got NoneType"),
    "one array": ({"seeds": seeds_and(lambda s: s.foreground)}, "seeds: .* got ndarray"),
    "seeds on both sides": (
        {"seeds": seeds_and(lambda s: Seeds(s.foreground, s.background | s.foreground))}, "seeds: .* share no pixel",
    ),
    "no foreground": ({"seeds": seeds_and(lambda s: Seeds(NOWHERE, s.background))}, "seeds: .* got 0 and"),
    "no background": ({"seeds": seeds_and(lambda s: Seeds(s.foreground, NOWHERE))}, "seeds: .* and 0 pixels"),
    "one mask": ({"masks": mask_and(lambda masks: masks[0])}, r"masks: .* shape \(2, 64, 64\), got bool of shape"),
    "masks of numbers": ({"masks": mask_and(lambda masks: masks * 1)}, "masks: .* got int64 of shape"),
    "no masks": ({"masks": mask_and(lambda masks: None)}, "masks: .* got NoneType"),
    "a list": ({"masks": mask_and(list)}, "masks: .* got list"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_step_that_breaks_its_promise_is_named_in_one_line(brightness, drawn, name, unchecked):
    steps, message = WRONG[name]
    recipe = replace(Recipe("own", "", CAM(), Percentiles(99, 30), GraphCut()), **steps)
    with pytest.raises(GradcutError, match=message) as refused:
        Segmenter(brightness, recipe)(drawn[0])
    assert "\n" not in str(refused.value)
    assert repr(next(iter(steps.values()))) in str(refused.value)


class Full(torch.autograd.Function):
    """Memory runs out in the backward pass."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 6.64 GB)\nmore lines")


def test_memory_that_runs_out_is_one_line_wherever_it_does(brightness, drawn):
    forward = brightness.model.forward
    segment = Segmenter(brightness, "simonyan")
    says = r"memory: there is not enough for 1 photograph of 448 x 448 at once: .*out of memory"
    for fails in (lambda x: Full.apply(forward(x)), lambda x: forward(x) + Full.backward(None, x)):
        brightness.model.forward = fails
        with pytest.raises(GradcutError, match=says) as refused:
            segment(drawn[0])
        assert "\n" not in str(refused.value)
        assert isinstance(refused.value, torch.OutOfMemoryError)
    del brightness.model.forward
    assert len(segment(drawn[0])) == 2


def test_maps_of_half_precision_come_out_in_single(brightness, drawn):
    recipe = Recipe("own", "", cam_and(lambda maps: maps.bfloat16()), Percentiles(99, 30), GraphCut())
    (evidence,) = Segmenter(brightness, recipe).explain([drawn[0]])
    assert evidence.saliency.dtype == np.float32


# arguments -----------------------------------------------------------------------------------------------------------


def test_a_classifier_may_be_named_and_other_types_are_refused(brightness, drawn, unchecked):
    assert Segmenter("coco80").classifier.name == "coco80"
    for arguments, message in (
        ((brightness.model,), "classifier: expected a Classifier or a name .*, got Brightness; Classifier"),
        ((None,), "classifier: .* got NoneType"),
        ((brightness, "defualt"), "recipe: expected one of default, .* got 'defualt'"),
        ((brightness, CAM()), "recipe: expected a Recipe or the name of one, got CAM"),
        ((brightness, "default", "0.5"), "threshold: expected a probability from 0 to 1, got '0.5'"),
        ((brightness, "default", None, 2.5), "top_k: expected a whole number of at least 1, got 2.5"),
    ):
        with pytest.raises(GradcutError, match=message):
            Segmenter(*arguments)
    for labels, message in (
        ("red", "labels: expected a list of labels, got 'red'"),
        (["green"], "label: brightness has no label 'green'"),
        ([0], "label: expected a string, got 0"),
        (7, "labels: expected a list of labels, got 7"),
    ):
        with pytest.raises(GradcutError, match=message):
            Segmenter(brightness)(drawn[0], labels)


def test_labels_are_called_as_the_classifier_has_them_and_groups_as_they_were_asked_for(brightness, embedded):
    assert Segmenter(brightness).asked(["RED", "red"]) == {"red": (0,)}
    asked = Segmenter(embedded).asked(["Egyptian CAT", "cat"])
    assert list(asked) == ["Egyptian cat", "cat"]
    assert asked["Egyptian cat"] == (285,)
    assert 285 in asked["cat"]
    assert len(asked["cat"]) > 1


def test_a_result_is_a_collection_of_objects(brightness, drawn):
    result = Segmenter(brightness)(drawn[0])
    assert len(result) == 2
    assert list(result) == list(result.objects)
    assert result["Red"] is next(found for found in result if found.label == "red")
    assert result.masks.shape == (2, 64, 64)
    assert all(np.array_equal(mask, found.mask) for mask, found in zip(result.masks, result, strict=True))
    with pytest.raises(KeyError) as missing:
        result["green"]
    assert isinstance(missing.value, GradcutError)
    assert str(missing.value) == f"label: expected one of those found, '{result.objects[0].label}', " + (
        f"'{result.objects[1].label}', got 'green'"
    )
    nothing = Segmenter(brightness)(np.zeros((8, 9, 3), dtype=np.uint8))
    assert nothing, "a result without an object is one"
    assert len(nothing) == 0
    assert nothing.masks.shape == (0, 8, 9)
    with pytest.raises(GradcutError, match="label: expected one of those found, nothing, got 'red'"):
        nothing["red"]


def test_a_record_says_what_was_asked(brightness):
    record = Segmenter(brightness, "simonyan").record()
    assert record["recipe"] == RECIPES["simonyan"].record()
    assert record["classifier"]["sha256"] == brightness.at(448).fingerprint
    assert (record["threshold"], record["top_k"]) == (brightness.threshold, brightness.top_k)
    record = Segmenter(brightness, "simonyan", 0.25, 3).record()
    assert (record["threshold"], record["top_k"]) == (0.25, 3)


def test_evidence_is_shared_by_those_that_differ_in_seeds_and_masks_alone(brightness):
    """Every field of a recipe and of a classifier counts, but for names, words and what comes after the maps."""
    recipe, other = RECIPES["simonyan"], RECIPES["expansion"]
    key = Segmenter(brightness, recipe).evidence_key
    same = {"name": "mine", "summary": "in other words", "seeds": other.seeds, "masks": other.masks}
    changes = {"saliency": RECIPES["guided"].saliency, "size": 32, "detail": 2.0}
    assert {field.name for field in fields(Recipe)} == {*same, *changes}
    assert Segmenter(brightness, replace(recipe, **same)).evidence_key == key
    for name, value in changes.items():
        assert Segmenter(brightness, replace(recipe, **{name: value})).evidence_key != key, name
    changes = {
        "model": torch.nn.Flatten(), "labels": ("a", "b"), "mean": (1, 1, 1), "std": (2, 2, 2), "multilabel": False,
        "threshold": 0.1, "top_k": 1, "channels": "BGR",
    }  # fmt: skip
    assert {field.name for field in fields(Classifier)} == {*changes, "name", "size"}  # the recipe has a size
    assert Segmenter(replace(brightness, name="other"), recipe).evidence_key == key
    for name, value in changes.items():
        assert Segmenter(replace(brightness, **{name: value}), recipe).evidence_key != key, name
    assert Segmenter(brightness, recipe, threshold=0.1).evidence_key != key
    assert Segmenter(brightness, recipe, top_k=1).evidence_key != key


# maps that say nothing, and ways out ---------------------------------------------------------------------------------


def constant(value):
    """Class activation maps, of which the first class's says the same everywhere."""

    def change(maps):
        maps = maps.clone()
        maps[0] = value
        return maps

    return cam_and(change)


def everything(photograph, saliency, seeds):
    """A mask maker that does not look at seeds."""
    return np.ones((len(saliency), *photograph.shape[:2]), dtype=bool)


def any_seeds(saliency):
    """A seed rule that does not look at the map."""
    side = np.arange(saliency.size).reshape(saliency.shape) < 9
    return Seeds(side, ~side)


@pytest.mark.parametrize("value", [0.0, 0.7, 1e-20])
@pytest.mark.parametrize(("rule", "maker"), [(Percentiles(), GraphCut()), (any_seeds, everything)])
def test_a_map_that_says_nothing_gives_no_mask_and_says_so(brightness, drawn, value, rule, maker):
    result = Segmenter(brightness, Recipe("own", "", constant(value), rule, maker))(drawn[0])
    first, second = result.objects
    assert first.blank
    assert not first.mask.any()
    assert not any(map(np.any, first.seeds))
    assert not second.blank
    assert second.mask.any()
    assert result.state == "done"
    assert result.advice.startswith(f"{first.label}: the saliency is blank")
    assert "--saliency GuidedBackprop or --saliency GradCAM" in result.advice
    assert not result.support()[0].any()
    assert f"{first.label}: score {first.score:.2f}, blank" in result._repr_html_()
    inside = np.zeros_like(first.mask)
    inside[10:20, 10:20] = True
    again = refine(result, {first.label: inside})
    assert again.objects[0].mask[inside].all()
    assert not again.objects[0].blank, "a person has said where it is"
    assert again.advice is None


def test_the_advice_is_about_the_method():
    assert 'of="logit"' in blank_advice(["cat"], RECIPES["simonyan"])
    assert "layers" in blank_advice(["cat"], with_saliency("fast", "GradCAM"))
    assert "--saliency GuidedBackprop" not in blank_advice(["cat"], RECIPES["guided"])
    assert "layers" not in blank_advice(["cat"], RECIPES["guided"])


@pytest.mark.parametrize("recipe", ["default", "fast"])
def test_no_mask_is_expected_to_be_right_where_there_is_none(brightness, drawn, monkeypatch, recipe):
    """Of a recipe whose confidence was fitted: a blank class has one of 0."""
    real = Segmenter._explain

    def explain(self, photographs, asked, resized):
        return [
            replace(e, saliency=e.saliency * np.array([0, 1])[:, None, None]) for e in real(self, photographs, asked)
        ]

    monkeypatch.setattr(Segmenter, "_explain", explain)
    result = Segmenter(placed(brightness), recipe)(drawn[0])
    assert [item.blank for item in result.objects] == [True, False]
    assert result.objects[0].confidence == 0
    assert result.objects[1].confidence > 0


def test_a_method_can_be_chosen_by_name(brightness, drawn):
    for name in METHODS:
        recipe = with_saliency("fast", name.lower())
        assert type(recipe.saliency) is METHODS[name]
        assert (recipe.seeds, recipe.masks, recipe.size) == (RECIPES["fast"].seeds, RECIPES["fast"].masks, None)
        assert name in recipe.name
        assert recipe.fingerprint != RECIPES["fast"].fingerprint
    assert Segmenter(brightness, with_saliency("fast", "Gradient"))(drawn[0])["red"].mask.any()
    alone = {
        name
        for name, method in vars(saliency).items()
        if isinstance(method, type) and issubclass(method, Method) and method.explain is not Method.explain
        and all(p.default is not p.empty for p in inspect.signature(method).parameters.values())
    }  # fmt: skip
    assert set(METHODS) == alone - {"GridMethod", "PixelMethod"}, "every method that needs no other can be chosen"
    with pytest.raises(
        GradcutError, match=r"saliency: expected one of .*; got 'GradCam\+'; did you mean 'GradCAM'"
    ) as refused:
        with_saliency("fast", "GradCam+")
    assert "\n" not in str(refused.value)
    with pytest.raises(GradcutError, match="recipe: expected one of"):
        with_saliency("quick", "GradCAM")


class OneSize(nn.Module):
    """`Brightness`, but for one input size; deep: with a layer after the head, so that no class activation map does."""

    def __init__(self, side, deep=False):
        super().__init__()
        self.side, self.net, self.deep = side, Brightness(), deep

    def forward(self, x):
        if x.shape[-1] != self.side:
            raise RuntimeError(f"expected {self.side}")
        logits = self.net(x)
        return logits.sigmoid() * 6 if self.deep else logits


class NoMap(nn.Module):
    """A linear layer on all the pixels: no place of it is made of places of the photograph."""

    def __init__(self, side):
        super().__init__()
        self.fc = nn.Linear(3 * side * side, 2)

    def forward(self, x):
        return self.fc(x.flatten(1))


SIZE, FAST = "--size 64 (in Python, Recipe.size)", '--recipe fast (in Python, recipe="fast")'
GRADIENT = '--recipe fast --saliency Gradient (in Python, recipes.with_saliency("fast", "Gradient"))'


@pytest.mark.parametrize(
    ("recipe", "model", "option"),
    [
        (RECIPES["simonyan"], OneSize(64), SIZE),
        (with_saliency("default", "CAM"), OneSize(64, deep=True), FAST),
        (replace(RECIPES["default"], name="large", saliency=MultiScale(CAM())), OneSize(64), FAST),
        (RECIPES["default"], NoMap(64), GRADIENT),
        (RECIPES["fast"], NoMap(64), GRADIENT),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else type(value).__name__,
)
def test_what_a_recipe_asks_in_vain_names_a_way_out_that_works(drawn, recipe, model, option):
    classifier = Classifier(model.eval(), ("red", "blue"), 64, (0, 0, 0), (1, 1, 1), multilabel=True)
    with pytest.raises(GradcutError, match=f"the recipe {recipe.name} ") as refused:
        Segmenter(classifier, recipe)(drawn[0], ["red"])
    message = str(refused.value)
    assert "\n" not in message
    assert f"; the recipe {recipe.name} " in message
    assert message.endswith(f"{option} does"), message
    changed = {SIZE: replace(recipe, size=64), FAST: "fast", GRADIENT: with_saliency("fast", "Gradient")}
    Segmenter(classifier, changed[option])(drawn[0], ["red"])


def test_a_fault_that_no_recipe_mends_has_no_way_out(drawn):
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    with pytest.raises(GradcutError, match="broken") as refused:
        Segmenter(Classifier(Broken(), 2, 64), "simonyan")(drawn[0])
    assert "; the recipe simonyan" not in str(refused.value)

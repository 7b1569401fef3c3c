"""What a result depends on: the same in every process, whatever decides a pixel in it, and nothing else."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

import gradcut
from gradcut import RECIPES, GradcutError, Recipe, Segmenter, recipes, records
from gradcut.masks import GraphCut, Vote, contrasts
from gradcut.recipes import with_saliency
from gradcut.records import brief, described, differing, fingerprint, versions
from gradcut.saliency import CAM, MultiScale
from gradcut.seeds import Percentiles

RECIPE = Recipe("mine", "in my words", CAM(), Percentiles(), GraphCut())


class Pair(NamedTuple):
    power: int


STEPS = """
import functools
import re
from dataclasses import dataclass
from gradcut.saliency import CAM, MultiScale

def plain(classifier, x, targets, power=2):
    return CAM()(classifier, x, targets) ** power

def outer(power):
    def inner(classifier, x, targets):
        return CAM()(classifier, x, targets) ** power
    return inner

class Holding:
    def __init__(self, power):
        self.power = power

    def __call__(self, classifier, x, targets):
        return CAM()(classifier, x, targets) ** self.power

    def method(self, classifier, x, targets):
        return self(classifier, x, targets)

class Slotted:
    __slots__ = ("power",)

    def __init__(self, power):
        self.power = power

class Below(Holding):
    pass

@dataclass(frozen=True)
class Options:
    step: object

def all_of(power):
    return {
        "function": plain, "lambda": lambda c, x, t: plain(c, x, t, power), "closure": outer(power),
        "partial": functools.partial(plain, power=power), "object": Holding(power), "slots": Slotted(power),
        "method": Holding(power).method, "subclass": Below(power), "dataclass": Options(outer(power)),
        "wrapper": MultiScale(outer(power)),
    }
"""


#: Prints the fingerprints of recipes with steps from files, each of which is called steps.py.
FINGERPRINTS = """
import importlib.util, json, sys
from gradcut import Recipe
from gradcut.masks import GraphCut
from gradcut.seeds import Percentiles

for path, power in json.loads(sys.argv[1]):
    spec = importlib.util.spec_from_file_location("steps", path)
    sys.modules["steps"] = steps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(steps)
    recipes = {n: Recipe("x", "", s, Percentiles(), GraphCut()) for n, s in steps.all_of(power).items()}
    print(json.dumps({name: recipe.fingerprint for name, recipe in recipes.items()}))
"""


def written(folder, *sources: tuple[str, int]) -> str:
    """Files of steps, and with what power each is asked."""
    asked = []
    for number, (source, power) in enumerate(sources):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "steps.py").write_text(source)
        asked.append((f"{folder}/{number}/steps.py", power))
    return json.dumps(asked)


def test_a_step_of_ones_own_is_known_by_its_source_and_what_it_holds_in_every_process(
    unchecked, tmp_path, monkeypatch, capsys
):
    edit = STEPS.replace("** power", "** (power + 1)").replace("** self.power", "* 2")
    asked = written(tmp_path / "another", (STEPS, 2), (STEPS, 3), (edit, 2))
    done = subprocess.run([sys.executable, "-c", FINGERPRINTS, asked], capture_output=True, text=True, check=True)
    second, held, edited = map(json.loads, done.stdout.splitlines())
    monkeypatch.setitem(sys.modules, "steps", None)  # and then as it was
    monkeypatch.setattr(sys, "argv", ["", written(tmp_path / "one", (STEPS, 2))])
    exec(FINGERPRINTS, {})
    first = json.loads(capsys.readouterr().out)
    assert first == second
    assert len(set(first.values())) == len(first)
    assert {name for name in first if held[name] == first[name]} == {"function"}  # it holds nothing
    assert {name for name in first if edited[name] == first[name]} == {
        "lambda",
        "slots",
    }  # their own lines are the same


def test_names_and_words_decide_nothing_and_every_other_setting_does():
    other = RECIPES["expansion"]
    changes = {
        "saliency": MultiScale(CAM()), "seeds": other.seeds, "masks": other.masks, "size": 32, "detail": 2.0,
    }  # fmt: skip
    assert {field.name for field in fields(Recipe)} == {"name", "summary", *changes}
    assert replace(RECIPE, name="other", summary="in other words").fingerprint == RECIPE.fingerprint
    prints = {replace(RECIPE, **{name: value}).fingerprint for name, value in changes.items()}
    assert len(prints | {RECIPE.fingerprint}) == 1 + len(changes)
    assert len({recipe.fingerprint for recipe in RECIPES.values()}) == len(RECIPES)


def test_a_recipe_can_be_rebuilt_from_its_record():
    for recipe in RECIPES.values():
        record = recipe.record()
        names = {**vars(gradcut.saliency), **vars(contrasts), **vars(gradcut.masks), **vars(gradcut.seeds)}
        steps = (eval(record[step], names) for step in ("saliency", "seeds", "masks"))
        size = tuple(record["size"]) if isinstance(record["size"], list) else record["size"]
        again = Recipe(record["name"], recipe.summary, *steps, size, record["detail"])
        assert (again.saliency, again.seeds, again.masks) == (recipe.saliency, recipe.seeds, recipe.masks)
        assert again.fingerprint == recipe.fingerprint
        assert record["sha256"] == recipe.fingerprint


def test_the_version_of_the_algorithms_decides(monkeypatch):
    before = RECIPE.record()
    monkeypatch.setattr(recipes, "ALGORITHMS", "0.1+other")
    assert RECIPE.fingerprint != before["sha256"]
    assert differing({"recipe": before}, {"recipe": RECIPE.record()}) == [
        f"recipe's algorithms {before['algorithms']}, now 0.1+other"
    ]
    assert before["algorithms"] == f"{'.'.join(gradcut.__version__.split('.')[:2])}+{recipes.REVISION}"


def test_what_cannot_be_compared_is_refused_in_one_line_and_a_call_works(brightness, drawn):
    scope: dict[str, object] = {"CAM": CAM}
    exec("step = lambda *arguments: CAM()(*arguments)", scope)

    @dataclass
    class Drawing:
        draws: torch.Generator

        def __call__(self, *arguments):
            return CAM()(*arguments)

    for step in (
        scope["step"],
        functools.partial(scope["step"]),
        MultiScale(scope["step"]),
        Drawing(torch.Generator()),
    ):
        recipe = replace(RECIPE, saliency=step)
        with pytest.raises(GradcutError, match=r"recipe: the source of .* cannot be read") as refused:
            recipe.record()
        assert "\n" not in str(refused.value)
        (found, *_) = Segmenter(brightness, recipe)(drawn[0])
        assert found.confidence is None


def test_what_holds_on_to_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(GradcutError, match="recipe: list holds on to itself"):
        described(loop)


def test_values_are_told_apart():
    values = [
        1, 1.0, True, "1", b"1", None, (1,), [1], {1}, {1: 1}, {"a": 1}, np.ones(2), np.ones(3), np.ones(2, int),
        torch.ones(4), torch.zeros(4),
        np.mean, max, Vote, Vote((GraphCut(),)), [1].append, [2].append, "a".join, Pair(1), Pair(2),
    ]  # fmt: skip
    assert len({described(value) for value in values}) == len(values)
    assert described({2, 1, 3}) == "{1, 2, 3}"


def test_differences_are_told_in_a_few_words():
    one = {"recipe": {"name": "a", "seeds": "S(1)", "sha256": "1"}, "batch": 1}
    assert differing(one, {"recipe": {"name": "b", "seeds": "S(1)", "sha256": "1"}, "batch": 1}) == []
    assert differing(one, {"recipe": {"name": "b", "seeds": "S(2)", "sha256": "2"}, "batch": 2}) == [
        "recipe a, now b", "batch 1, now 2",
    ]  # fmt: skip
    assert differing(one, {**one, "recipe": {"name": "a", "seeds": "S(2)", "sha256": "2"}}) == [
        "recipe's seeds S(1), now S(2)"
    ]
    assert differing(one, {**one, "recipe": {"name": "a", "seeds": "S(1)", "sha256": "2"}}) == [
        "another recipe of the same name"
    ]
    assert fingerprint(one) != fingerprint({**one, "batch": 2})


def told(**changes) -> str:
    before = {"recipe": RECIPES["default"].record(), "threshold": 0.5, "labels": None}
    return brief(differing(before, before | changes))


def test_each_kind_of_difference_is_named_briefly():
    default, fast = RECIPES["default"], RECIPES["fast"]
    assert told(recipe=fast.record()) == "recipe default, now fast"
    assert told(recipe=with_saliency("default", "GradCAM").record()) == "recipe default, now default with GradCAM"
    rough = replace(default, masks=replace(default.masks, smoothness=4.0))
    assert told(recipe=rough.record()) == "recipe's masks smoothness=0.2, now smoothness=4.0"
    assert told(recipe=replace(default, size=224).record(), threshold=0.3) == (
        "recipe's size none, now 224; threshold 0.5, now 0.3"
    )
    assert told(labels=["cat", "dog"]) == "labels none, now cat, dog"
    assert told(recipe=replace(default, saliency=default.saliency.methods[0].method).record()).startswith(
        "recipe's saliency Mean(methods=(Walk(method=Rivals("
    )
    walks = default.saliency.methods
    shorter = replace(default, saliency=replace(default.saliency, methods=(replace(walks[0], steps=(8,)), walks[1])))
    assert told(recipe=shorter.record()) == "recipe's saliency 4, now without"


def test_a_classifier_goes_by_its_name_then_by_what_differs(brightness):
    before = brightness.record()
    for change, said in (
        ({"name": "other", "size": (32, 32)}, "classifier brightness, now other"),
        ({"size": (32, 32)}, "classifier's size [64, 64], now [32, 32]"),
        ({"multilabel": False, "threshold": 0.5}, "classifier's multilabel true, now false"),
    ):
        assert brief(differing({"classifier": before}, {"classifier": replace(brightness, **change).record()})) == said
    relabelled = brief(
        differing({"classifier": before}, {"classifier": replace(brightness, labels=("a", "b")).record()})
    )
    assert re.fullmatch("classifier's labels [0-9a-f]{12}, now [0-9a-f]{12}", relabelled)


def test_any_number_of_differences_is_one_short_line():
    names = [name for name in RECIPES if name != "default"]
    for name in names:
        other = replace(RECIPES[name], name="default").record()
        many = {f"option{number}": "x" * 500 for number in range(20)}
        line = told(recipe=other, threshold=0.1, labels=["a" * 50] * 9, **many)
        assert len(line) <= 300
        assert re.search(r"; and \d+ more$", line)


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    records._versions.cache_clear()
    assert "timm" not in versions()
    assert {"python", "gradcut", "torch"} < set(versions())
    records._versions.cache_clear()


def test_versions_are_those_that_run():
    assert versions()["torch"] == torch.__version__.split("+")[0] or versions()["torch"] == torch.__version__
    assert versions()["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert {"gradcut", "timm", "numpy", "pillow"} < set(versions())

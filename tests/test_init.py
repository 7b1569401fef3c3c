"""The public names: what is said to be there is there, in a process that has imported nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import gradcut

LOOK = """
import json, sys
import gradcut
heavy = [name for name in ("torch", "timm", "numpy", "scipy") if name in sys.modules]
before = dir(gradcut)
values = {name: getattr(gradcut, name) for name in gradcut.__all__}
there = sorted(
    name for name, value in vars(gradcut).items() if not name.startswith("_") and not hasattr(value, "__path__")
    and type(value).__name__ != "module"
)
by_star = {}
exec("from gradcut import *", by_star)
del by_star["__builtins__"]
print(json.dumps({
    "heavy": heavy, "dir before": before, "dir after": dir(gradcut), "all": gradcut.__all__, "there": there,
    "star": sorted(by_star), "kept": all(vars(gradcut)[name] is value for name, value in values.items()),
    "names": {name: getattr(value, "__name__", name) for name, value in values.items()},
}))
"""


@pytest.fixture(scope="module")
def fresh() -> dict:
    return json.loads(subprocess.run([sys.executable, "-c", LOOK], check=True, capture_output=True, text=True).stdout)


def test_every_exported_name_is_there_and_no_other(fresh):
    assert sorted(fresh["all"]) == fresh["there"] == fresh["star"]
    assert fresh["names"] == {name: name for name in fresh["all"]}  # each is what it is called


def test_dir_shows_the_public_names_before_and_after_their_first_use(fresh):
    assert fresh["dir before"] == fresh["dir after"] == sorted([*fresh["all"], "__version__"])


def test_names_are_imported_on_first_use_and_kept(fresh):
    assert fresh["heavy"] == []
    assert fresh["kept"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gradcut' has no attribute 'Segmentor'"):
        _ = gradcut.Segmentor


@pytest.mark.parametrize(("own", "expected"), [(None, "1"), ("0", "0")])
def test_torch_is_asked_for_large_pages_unless_a_person_has_decided(own, expected):
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    environment |= {} if own is None else {"THP_MEM_ALLOC_ENABLE": own}
    look = "import gradcut, os; print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    run = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True, env=environment)
    assert run.stdout.strip() == expected

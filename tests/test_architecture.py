"""The layout is the pipeline: a folder for each stage, and imports point one way."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import gradcut

PACKAGE = Path(gradcut.__file__).parent

#: The floors of the house, the lowest first. A room imports from the floors below it, never from its own or above.
FLOORS = (
    {"errors"},
    {"shards"},
    {"catalogue", "files", "known", "labels", "listening", "names", "ranges", "ranking", "records", "seeds"},
    {"images", "painting"},
    {"compact"},
    {"classifiers", "masks", "pictures", "confidence", "edits", "overlaps", "prompts"},
    {"objects"},
    {"network"},
    {"saliency"},
    {"fit", "recipes"},
    {"results"},
    {"segmenter", "datasets"},
    {"comparison", "naming", "strokes"},
    {"runs", "evaluation"},
    {"audit", "formats"},
    {"web"},
    {"integrations"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> dict[str, bool]:
    """The modules of gradcut that a module imports, and whether it does so inside a function."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    inner = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradcut":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "gradcut"]
        for name in names:
            found[name] = found.get(name, True) and id(node) in inner
    return found


def room(module: str) -> str:
    return module.split(".")[1]


ASYNCHRONOUS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

ROOMS = [module for module in MODULES if module not in ("gradcut", "gradcut.__main__")]


def test_every_room_has_its_floor():
    assert {room(module) for module in ROOMS} == set(FLOOR)


@pytest.mark.parametrize("module", ROOMS)
def test_imports_point_one_way(module):
    mine = room(module)
    for name in imports(module):
        if name == "gradcut":
            continue  # its version
        other = room(name)
        assert other == mine or FLOOR[other] < FLOOR[mine], f"{module} imports {name}"


def test_no_import_goes_in_a_circle():
    TopologicalSorter({module: set(imports(module)) for module in ROOMS}).prepare()


def test_no_import_hides_in_a_function():
    """But for the shell's, whose help answers at once because torch is not imported for it."""
    hidden = {(module, name) for module in ROOMS for name, inside in imports(module).items() if inside}
    assert not {(module, name) for module, name in hidden if room(module) != "cli"}


def test_masks_know_no_torch():
    code = "import sys, gradcut.masks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_shapes_are_checked_everywhere():
    """Every function of every module that names an array is wrapped by the tests' type checker, the kernels' aside."""
    shape = re.compile(r"\w\[(Tensor|np\.ndarray), '")

    def functions(namespace: ModuleType | type):
        for value in vars(namespace).values():
            value = getattr(value, "__func__", value)
            if getattr(value, "__module__", None) != module or value is namespace:
                continue
            if inspect.isclass(value):
                yield from functions(value)
            # The hook leaves asynchronous functions alone; the page's take and give no arrays.
            elif inspect.isfunction(value) and not inspect.unwrap(value).__code__.co_flags & ASYNCHRONOUS:
                yield value

    seen = 0
    for module in ROOMS:
        if module == "gradcut.masks.ibfs":
            continue
        for function in functions(sys.modules[module]):
            written = inspect.unwrap(function)
            of_arrays = shape.search(" ".join(map(str, written.__annotations__.values())))
            if written.__code__.co_filename == str(MODULES[module]) and of_arrays:
                seen += 1
                assert hasattr(function, "__wrapped__"), f"{module}: {function.__qualname__}"
    assert seen > 200


def test_no_benchmark_hides_a_library():
    """A script's folder is the first place that its imports are looked for in."""
    scripts = {path.stem for path in (PACKAGE.parents[1] / "benchmarks").glob("*.py")}
    assert scripts
    assert not scripts & {*importlib.metadata.packages_distributions(), *sys.stdlib_module_names}


def test_help_does_without_torch():
    code = "import sys, gradcut.cli; assert 'torch' not in sys.modules, 'torch'; assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_maxflow_solver_of_tests_is_never_imported():
    for path in MODULES.values():
        assert "import maxflow" not in path.read_text(encoding="utf-8"), "PyMaxflow is GPL"

"""The layout is the pipeline: a module imports only from those above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gradcut

PACKAGE = Path(gradcut.__file__).parent

ORDER = (
    "errors", "images", "labels", "classifier", "weights", "mldecoder", "heads", "sources", "fit", "activations",
    "targets", "faster", "features", "layers", "gradients", "cams", "attentions", "scales", "affinity", "places",
    "saliency", "seeds",
    "maxflow", "contrasts", "mixtures", "makers", "cuts", "thresholds", "masks", "pictures", "confidence", "segmenter",
    "strokes", "outlines", "export", "runs", "formats",
    "datasets", "evaluation", "summary", "report", "batch", "cluster", "webstate", "webview", "web", "cli",
)  # fmt: skip


def imported(module: str) -> set[str]:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "gradcut":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradcut."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("gradcut.")}
    return names & set(ORDER)


def test_every_module_has_its_place():
    assert sorted(path.stem for path in PACKAGE.glob("*.py")) == sorted(("__init__", "__main__", *ORDER))


# `Segmentation.save` calls `export.save`, which depends on it: the one import that points down, made when called.
EXCEPTIONS = {"segmenter": {"export"}}


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_one_way(module):
    assert imported(module) - EXCEPTIONS.get(module, set()) <= set(ORDER[: ORDER.index(module)])


def test_exported_names():
    assert gradcut.__all__ == sorted(
        gradcut.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    for name in gradcut.__all__:
        assert getattr(gradcut, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gradcut.nothing  # noqa: B018


def test_help_does_without_torch():
    code = "import sys, gradcut.cli; assert 'torch' not in sys.modules, 'torch'; assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_maxflow_solver_of_tests_is_never_imported():
    for path in PACKAGE.glob("*.py"):
        assert "import maxflow" not in path.read_text(encoding="utf-8"), "PyMaxflow is GPL"

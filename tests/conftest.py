"""What all tests share."""

from __future__ import annotations

import errno
import functools
import gc
import io
import os
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import typecheck
import typer.main
from hypothesis import settings

import gradcut

settings.register_profile("gradcut", deadline=None, max_examples=20)
settings.load_profile("gradcut")


def pytest_configure(config: pytest.Config) -> None:
    """Import gradcut with its checks before any test does, but not where tests are only handed out to workers."""
    if config.getoption("dist", "no") == "no":
        gc.disable()
        typecheck.load()
        typer.main.get_command = functools.cache(typer.main.get_command)  # else made for every command line


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray's come first: as the last tests they were divided between the workers, and each started a cluster."""
    items.sort(key=lambda item: item.path.name != "test_cluster.py")


def pytest_collection_finish() -> None:
    """What was imported stays: looking through its millions of objects for garbage would only take time."""
    gc.freeze()
    gc.enable()


SHARED = Path(__file__).parents[2] / "shared" / "data"


def _folder(*parts: str) -> Path:
    folder = SHARED.joinpath(*parts)
    if not folder.is_dir():
        pytest.skip(f"needs the development photographs in ../shared/data/{'/'.join(parts)}")
    return folder


@pytest.fixture(scope="session")
def coco_dev() -> Path:
    return _folder("coco-dev")


@pytest.fixture(scope="session")
def imagenet_samples() -> Path:
    return _folder("imagenet-samples")


@pytest.fixture(scope="session")
def embedded() -> gradcut.Classifier:
    return gradcut.load_classifier("embedded")


@pytest.fixture(scope="session")
def cat() -> np.ndarray:
    from skimage.data import chelsea

    return chelsea()


@pytest.fixture
def unchecked():
    """No shape or type is checked, as for a user: what is gradcut's own answer to a wrong one?"""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def brightness() -> gradcut.Classifier:
    """Multi-label over 'red' and 'blue'; input values are the photograph's in [0, 1]."""
    from networks import brightness  # imports gradcut, and so not before it is checked

    return brightness()


@pytest.fixture
def drawn() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A black photograph, 64 x 64, with a red square and a blue disc, and their masks."""
    from drawn_runs import square_and_disc

    return square_and_disc()


@pytest.fixture
def shut(monkeypatch):
    """Makes a folder that may not be looked into by whoever walks there; root may look into any."""
    walk, closed = os.walk, set()

    def walked(top, onerror=None):
        for place, folders, names in walk(top):
            for name in [name for name in folders if Path(place, name) in closed]:
                folders.remove(name)
                onerror(PermissionError(errno.EACCES, "Permission denied", str(Path(place, name))))
            yield place, folders, names

    def make(folder):
        folder.mkdir(parents=True)
        closed.add(folder)
        monkeypatch.setattr(os, "walk", walked)
        return folder

    return make


@pytest.fixture
def command(monkeypatch, capsys):
    """Call the command line in this process; returns exit status, standard output, standard error.

    What is under way is not told of, however slow the machine.
    """
    monkeypatch.setattr(gradcut.cli.progress, "FIRST", 600)
    monkeypatch.setattr(gradcut.cli.progress, "EVERY", 600)

    def call(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gradcut", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = 0
        try:
            gradcut.cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call

"""'gradcut doctor': what is here, and whether it works."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from gradcut import Segmenter
from gradcut.cli import doctor


def test_what_is_here_is_told_and_tried(command):
    status, printed, _ = command("doctor", "--json")
    assert status == 0
    found = json.loads(printed)
    assert found["versions"]["gradcut"] == importlib.metadata.version("gradcut")
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert "starlette" in found["extras"]["web"]
    assert found["machine"]["devices"].startswith("cpu")
    assert found["trial"]["works"] == "yes"
    assert found["trial"]["cat"].startswith("score 0.")


@pytest.mark.parametrize("fault", ["error", "nothing"])
def test_a_trial_that_fails_is_told_in_one_line(command, monkeypatch, fault):
    def segment(self, photograph):
        if fault == "error":
            raise RuntimeError("mkl is broken\nand more lines")
        return type("Nothing", (), {"__iter__": lambda self: iter(())})()

    monkeypatch.setattr(Segmenter, "__call__", segment)
    status, printed, said = command("doctor")
    assert status == 1
    line = next(line for line in printed.splitlines() if line.strip().startswith("works"))
    assert line.endswith("no: RuntimeError: mkl is broken" if fault == "error" else "no: the cat was not found")
    assert "Traceback" not in printed + said


def test_a_missing_extra_names_what_installs_it(monkeypatch):
    real = importlib.metadata.version

    def version(package):
        if package == "starlette":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor._extras()["web"] == "not installed: pip install 'gradcut[web]'"


def test_without_the_hub_there_is_no_cache_of_it(monkeypatch):
    assert "hub's cache" in doctor._folders()
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert list(doctor._folders()) == ["gradcut"]

"""'gradcut doctor'."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from gradcut.cli.options import AsJson, app, out
from gradcut.cli.progress import err, working
from gradcut.errors import one_line


@app.command(
    examples="""
    gradcut doctor                              # goes into a report of a fault
    gradcut doctor --json                       # the same for a program
    """
)
def doctor(as_json: AsJson = False) -> None:
    """Check what gradcut finds on this machine, and try it once."""
    with working("looking"):
        found = {
            "versions": _versions(), "extras": _extras(), "machine": _machine(), "folders": _folders(),
        }  # fmt: skip
    with working("trying it on a photograph of a cat"):
        found["trial"] = _trial()
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        width = max(len(name) for part in found.values() for name in part)
        for part, values in found.items():
            out.print(part, style="bold")
            for name, value in values.items():
                out.print(f"  {name:<{width}}  {value}", highlight=False, soft_wrap=True, markup=False)
    if found["trial"]["works"] != "yes":
        err.print("gradcut: the trial failed; a report of it with all of the above will be read")
        raise typer.Exit(1)


def _requirements() -> list[tuple[str, str | None]]:
    """The packages that gradcut names, each with the extra that asks for it; None is the main job's."""
    named = []
    for line in importlib.metadata.requires("gradcut") or []:
        package, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([^'\"]+)", marker)
        named.append((re.split(r"[^\w.-]", package.strip())[0], extra.group(1) if extra else None))
    return named


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    known = {"gradcut": _version("gradcut"), "python": platform.python_version(), "system": platform.platform()}
    known |= {package: _version(package) for package, extra in _requirements() if extra is None}
    return {name: value or "missing" for name, value in known.items()}


def _extras() -> dict[str, str]:
    extras: dict[str, list[str]] = {}
    for package, extra in _requirements():
        if extra is not None:
            extras.setdefault(extra, []).append(package)
    described = {}
    for extra, packages in extras.items():
        missing = [package for package in packages if _version(package) is None]
        there = ", ".join(f"{package} {_version(package)}" for package in packages)
        described[extra] = f"not installed: pip install 'gradcut[{extra}]'" if missing else there
    return described


def _machine() -> dict[str, str]:
    import torch

    from gradcut.runs.job import cores

    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    asked = os.environ.get("THP_MEM_ALLOC_ENABLE") == "1"
    answer = pages.read_text().strip() if pages.exists() else "no such setting here"
    devices = [f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return {
        "processor": f"{platform.machine()}, {cores()} cores for this process, {torch.get_num_threads()} torch threads",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "devices": ", ".join(["cpu", *devices]),
        "large pages": f"{'asked for' if asked else 'not asked for'}; the kernel says {answer}",
    }


def _folders() -> dict[str, str]:
    import gradcut

    folders = {"gradcut": _told(Path(gradcut.__file__).parent)}
    if find_spec("huggingface_hub") is not None:  # which the extras timm and hf bring
        from huggingface_hub.constants import HF_HUB_CACHE

        folders["hub's cache"] = _told(Path(HF_HUB_CACHE))
    return folders


def _told(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}, not there yet"
    return f"{folder}, {'can' if os.access(folder, os.W_OK) else 'cannot'} be written"


def _trial() -> dict[str, Any]:
    """Whether a cat is seen and segmented, by what comes with gradcut."""
    began = time.perf_counter()
    try:
        from skimage.data import chelsea

        from gradcut.segmenter import Segmenter

        segment = Segmenter("coco80", "fast")
        loaded = time.perf_counter()
        result = segment(chelsea())
        seen = {item.label: f"score {item.score:.2f}, {item.mask.mean():.0%} of the photograph" for item in result}
    except Exception as error:  # whatever it is, it is what the report is for
        return {"works": f"no: {type(error).__name__}: {one_line(error)}"}
    right = "cat" in seen and 0.2 < result["cat"].mask.mean() < 0.9
    return {
        "works": "yes" if right else "no: the cat was not found", **seen,
        "seconds": f"{loaded - began:.1f} to load, {time.perf_counter() - loaded:.1f} to segment",
    }  # fmt: skip

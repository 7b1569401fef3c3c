"""What the page's server keeps in memory over many photographs: docs/web.md holds what this printed.

    python benchmarks/serving.py [--number 500]

Parts of a cat's photograph, 640 x 480, are sent to `gradcut serve` one after another, each looked at with two classes
and a stroke, by tabs that close after ten; then as many photographs of a run are opened, corrected with a stroke and
saved, by one tab. Resident memory of the whole process is printed every 50. The network is a tiny one, which keeps of a
photograph what any network does.
"""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from skimage.data import chelsea
from torch import nn

from gradcut import Classifier, Recipe, Segmenter, images
from gradcut.files import Folder
from gradcut.listening import listen
from gradcut.masks import GraphCut
from gradcut.recipes import RECIPES
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all
from gradcut.saliency import CAM
from gradcut.seeds import Fractions
from gradcut.web import Server, create_app

EVERY = 50
RECIPE = Recipe("quick", "one class activation map and a coarse cut", CAM(), Fractions(), GraphCut(grid=32))
STROKE = {"kind": "foreground", "radius": 6, "points": [[100, 100], [140, 120]]}


def resident() -> float:
    """Megabytes of this process in memory."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def photograph(number: int) -> np.ndarray:
    """A part of a cat's photograph; no two are alike."""
    top, left = np.random.default_rng(number).integers(0, 100, 2)
    return images.resize(chelsea()[top : top + 200, left : left + 350], (480, 640))


def classifier() -> Classifier:
    """Three classes, by a convolution of random weights."""
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 16, 3, 2, 1), act=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
                    fc=nn.Linear(16, 3))
    )  # fmt: skip
    scale = {"size": 224, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    return Classifier(model.eval(), ("a", "b", "c"), **scale, multilabel=True, name="tiny", threshold=0.05)


class Client:
    """Who asks a server, as a browser's tab does."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self.tab = secrets.token_hex(24)

    def ask(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> bytes:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        self.connection.request(method, path, data, {"x-tab": self.tab})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:200]!r}")
        return content


def uploads(url: str) -> Callable[[int], None]:
    client = Client(url)

    def one(number: int) -> None:
        nonlocal client
        if number % 10 == 0:
            client.ask("DELETE", "/api/photographs")
            client = Client(url)
        sent = json.loads(client.ask("POST", "/api/photograph", images.encode_png(photograph(number))))
        asked = {"photograph": sent["photograph"], "classifier": "tiny", "recipe": RECIPE.name, "threshold": 0.05}
        for label, strokes in (("a", {}), ("b", {}), ("b", {"b": [STROKE]})):
            answer = client.ask("POST", "/api/segment", asked | {"label": label, "strokes": strokes})
            assert json.loads(answer.splitlines()[-1])["state"] == "done"

    return one


def gone_through(url: str) -> Callable[[int], None]:
    client = Client(url)
    names = [line["name"] for line in json.loads(client.ask("GET", "/api/run"))["photographs"]]

    def one(number: int) -> None:
        client.ask("GET", f"/api/run/thumbnail/{names[number]}")
        known = json.loads(client.ask("POST", "/api/run/open", {"name": names[number]}))
        label = known["objects"][0]["label"]
        edit = {"photograph": known["photograph"], "removed": [], "added": [], "strokes": {label: [STROKE]}}
        client.ask("POST", "/api/run/look", edit)
        client.ask("POST", "/api/run/save", edit | {"state": "corrected", "revision": known["revision"]})

    return one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=500)
    number = parser.parse_args().number
    torch.set_num_threads(1)
    RECIPES[RECIPE.name] = RECIPE
    segmenter = Segmenter(classifier(), RECIPE)
    with TemporaryDirectory(prefix="gradcut-") as folder:
        tasks = []
        for n in range(number):
            path = Path(folder, f"{n:04}.png")
            images.write_png(path, np.ascontiguousarray(photograph(n)[::4, ::4]))
            tasks.append(Task(str(path), path.stem))
        list(segment_all(Job(segmenter, Folder(f"{folder}/run"), pictures=False), tasks, 1))
        print("| photographs | sent | of a run |\n| --- | --- | --- |")
        of_run = create_app({"tiny": segmenter.classifier}, run=(f"{folder}/run", segmenter))
        single = create_app({"tiny": segmenter.classifier}, recipe=RECIPE.name)
        table: list[list[float]] = []
        for app, visitor in ((single, uploads), (of_run, gone_through)):
            with Server(app, listen(port=0)) as server:
                one, memory = visitor(server.url), []
                for n in range(number):
                    one(n)
                    if (n + 1) % EVERY == 0:
                        memory.append(resident())
                        print(f"{n + 1}: {memory[-1]:.0f} MB", flush=True)
                table.append(memory)
        for row, (sent, opened) in enumerate(zip(*table, strict=True)):
            print(f"| {EVERY * (row + 1)} | {sent:.0f} MB | {opened:.0f} MB |")


if __name__ == "__main__":
    main()

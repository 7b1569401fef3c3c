"""Whether anything is lost when the page's server is killed: docs/web.md holds what this printed.

    python benchmarks/killing.py [--kills 10] [--seed 0]

`python -m gradcut serve RUN` runs in a process of its own, and a real browser (Playwright's Python package and
/usr/bin/chromium) goes through the run: each photograph gets a stroke and is accepted. At random moments the server is
killed (SIGKILL), its folder is looked at, and it is started again. What the page had shown as saved must be there,
every file must be whole, and at the end no photograph may have lost its stroke. The classifier is `embedded`, the
recipe `fast`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from playwright.sync_api import Page, sync_playwright
from skimage.data import chelsea

from gradcut import Segmenter, images, load_classifier
from gradcut.files import Folder
from gradcut.runs import corrections
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all

#: What a photograph goes through here.
ORDER = ("untouched", "corrected", "accepted")
SHOWN = "all => Object.fromEntries(all.map(one => [one.title, one.className]))"


def write_run(folder: Path, number: int) -> Path:
    """A run over parts of a cat's photograph."""
    tasks = []
    for n in range(number):
        top, left = np.random.default_rng(n).integers(0, 100, 2)
        path = folder / f"{n:03}.png"
        images.write_png(path, np.ascontiguousarray(chelsea()[top : top + 200, left : left + 300]))
        tasks.append(Task(str(path), path.stem))
    segmenter = Segmenter(load_classifier("embedded"), "fast", threshold=0.01)
    list(segment_all(Job(segmenter, Folder(str(folder / "run")), pictures=False), tasks, 1))
    return folder / "run"


class Killer(threading.Thread):
    """Starts the server, kills it at random moments, and notes what is wrong in the folder then."""

    def __init__(self, run: Path, kills: int, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.run_folder, self.kills, self.chance = run, kills, chance
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.shown: dict[str, str] = {}  # what the page says is saved
        self.problems: list[str] = []
        self.killed = 0
        self.begin()

    def begin(self) -> None:
        command = [sys.executable, "-m", "gradcut", "serve", str(self.run_folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ)
        assert self.process.stdout is not None
        self.process.stdout.readline()  # the address

    def run(self) -> None:
        while self.killed < self.kills:
            time.sleep(self.chance.uniform(1, 10))
            shown = dict(self.shown)
            self.process.kill()
            self.process.wait()
            self.killed += 1
            self.problems += faults(self.run_folder, shown)
            self.begin()


def faults(run: Path, shown: dict[str, str]) -> list[str]:
    """What is lost of what the page had shown as saved, and what is not whole."""
    found, problems = corrections.read_all(run)
    lines = list(problems.values())
    for path in (run / "corrections").glob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            lines.append(f"{path}: {error}")
    for name, item in found.items():
        if item.record is not None:
            record = json.loads((run / item.record).read_bytes())
            paths = [*record["files"].values(), *(entry["mask"] for entry in record["objects"])]
            missing = [path for path in paths if path is not None and not (run / "corrected" / path).stat().st_size]
            lines += [f"{name}: {path} is empty" for path in missing]
    for name, state in shown.items():
        now = found[name].state if name in found else "untouched"
        if ORDER.index(now) < ORDER.index(state):
            lines.append(f"{name}: shown as {state}, and is {now}")
    return lines


def go_through(page: Page, killer: Killer) -> int:
    """Paint on and accept photographs until the server has been killed often enough; how many there were."""
    number = 0
    names = page.locator("#strip button").evaluate_all("all => all.map(one => one.title)")

    def see(selector: str) -> None:
        while not page.locator(selector).count():
            killer.shown |= page.locator("#strip button").evaluate_all(SHOWN)
            page.wait_for_timeout(20)
        killer.shown |= page.locator("#strip button").evaluate_all(SHOWN)

    while killer.killed < killer.kills or killer.process.poll() is not None:
        page.wait_for_selector("#strip button")
        name = page.locator("#strip button[aria-current=true]").get_attribute("title")
        names = [*dict.fromkeys([*names, *page.locator("#strip button").evaluate_all("all => all.map(o => o.title)")])]
        while not page.locator(f"body[data-shown='{name}']").count():
            if page.locator("#error").is_visible():  # it was fetched just then: ask again
                page.locator(f"#strip button[title='{name}']").click()
            page.wait_for_timeout(200)
        page.keyboard.press("o")
        box = page.locator("#strokes").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=3)
        page.mouse.up()
        see(f"#strip button[title='{name}'].corrected")
        page.keyboard.press("a")
        see(f"#strip button[title='{name}'].accepted")
        number += 1
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--photographs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="gradcut-") as folder, sync_playwright() as playwright:
        run = write_run(Path(folder), arguments.photographs)
        killer = Killer(run, arguments.kills, random.Random(arguments.seed))
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        page.goto(f"http://127.0.0.1:{killer.port}")
        page.wait_for_selector("body[data-ready]")
        killer.start()
        number = go_through(page, killer)
        browser.close()
        killer.join()
        problems = [*killer.problems, *faults(run, killer.shown)]
        done = [item for item in corrections.read_all(run)[0].values() if item.state == "accepted"]
        problems += [f"{item.name}: no stroke" for item in done if sum(map(len, item.strokes.values())) != 1]
        killer.process.kill()
    print(
        f"{killer.killed} kills, {number} photographs accepted, {len(done)} of them on disk; {len(problems)} problems"
    )
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()

"""What the program takes of a person's time who goes through a run on the page: docs/web.md holds what this printed.

    python benchmarks/desk.py IMAGES [--number 30]

The first photographs of the folder are segmented with `default`, and gone through in a real browser (Playwright's
Python package and /usr/bin/chromium): each is looked at for two and a half seconds, every other one gets two strokes,
and all are accepted. Seconds from the request to the whole answer are printed, and from accepting to the next
photograph.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from playwright.sync_api import Page, sync_playwright

from gradcut import Segmenter, load_classifier
from gradcut.files import SUFFIXES, Folder
from gradcut.listening import listen
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all
from gradcut.web import Server, create_app

#: What the requests are for, by the end of their addresses.
REQUESTS = {
    "open": "a photograph is fetched, with its masks",
    "prepare": "the network is asked, while one looks",
    "look": "a stroke, to the new masks",
    "save": "what was changed or decided is saved",
}


def stroke(page: Page, x: float) -> None:
    """A short one, in the middle of the photograph's height."""
    box = page.locator("#strokes").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + (x + 0.05) * box["width"], box["y"] + 0.55 * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_timeout(900)


def go_through(page: Page, names: list[str]) -> list[float]:
    """Seconds from accepting to the next photograph."""
    seconds = []
    for number, name in enumerate(names):
        page.wait_for_selector(f"body[data-shown='{name}']")
        page.wait_for_timeout(2500)
        if number % 2 and page.locator("#legend .class").count():
            page.keyboard.press("o")
            for x in (0.3, 0.5):
                stroke(page, x)
        started = time.perf_counter()
        page.keyboard.press("a")
        if number + 1 < len(names):
            page.wait_for_selector(f"body[data-shown='{names[number + 1]}']")
            seconds.append(time.perf_counter() - started)
    page.wait_for_timeout(3000)  # until the last one is saved
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--number", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in arguments.images.iterdir() if path.suffix.lower() in SUFFIXES)[: arguments.number]
    segmenter = Segmenter(load_classifier("coco80"))
    with TemporaryDirectory(prefix="gradcut-") as folder, sync_playwright() as playwright:
        tasks = [Task(str(path), path.stem) for path in paths]
        list(segment_all(Job(segmenter, Folder(f"{folder}/run"), pictures=False), tasks, 1))
        app = create_app({"coco80": segmenter.classifier}, run=(f"{folder}/run", segmenter))
        with Server(app, listen(port=0)) as server:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            times: dict[str, list[float]] = {name: [] for name in REQUESTS}
            page.on(
                "requestfinished",
                lambda request: times.get(request.url.rpartition("/")[2], []).append(
                    request.timing["responseEnd"] / 1000
                ),
            )
            page.goto(server.url)
            page.wait_for_selector("body[data-ready]")
            listed = page.evaluate("fetch('/api/run').then(answer => answer.json())")
            following = go_through(page, [line["name"] for line in listed["photographs"]])
            browser.close()
    print("| what | number | median | most |\n| --- | --- | --- | --- |")
    for name, what in {**REQUESTS, "next": "from *Accept* to the next photograph"}.items():
        seconds = following if name == "next" else times[name]
        print(f"| {what} | {len(seconds)} | {statistics.median(seconds):.2f} s | {max(seconds):.2f} s |")


if __name__ == "__main__":
    main()

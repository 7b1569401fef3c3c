"""The server of a run is killed while somebody goes through it: nothing that was confirmed is lost, no half file."""

from __future__ import annotations

import json
import multiprocessing
import random

import pytest
from drawn_runs import QUICK, draw
from networks import Brightness

from gradcut import Classifier, Segmenter
from gradcut.files import Folder
from gradcut.listening import listen
from gradcut.runs import corrections
from gradcut.runs.job import Job
from gradcut.runs.segment import segment_all

pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("uvicorn", reason="needs gradcut[web]")
from gradcut.web import Server, create_app

#: What a photograph goes through here.
ORDER = ("untouched", "corrected", "accepted")
SHOWN = "all => Object.fromEntries(all.map(one => [one.title, one.className]))"


def whole(run):
    """Every correction can be read, and has the files that it names."""
    found, problems = corrections.read_all(run)
    assert problems == {}
    for path in (run / "corrections").glob("*.json"):
        json.loads(path.read_text())
    for item in found.values():
        if item.record is not None:
            record = json.loads((run / item.record).read_text())
            paths = [*record["files"].values(), *(entry["mask"] for entry in record["objects"])]
            assert all((run / "corrected" / path).stat().st_size > 0 for path in paths if path is not None)
    return found


class Killable:
    """The server in a process of its own, a copy of this one: starting anew takes no time."""

    def __init__(self, run, segmenter):
        self.run, self.segmenter, self.port = run, segmenter, 0
        self.start()

    def start(self):
        listening = listen(port=self.port)
        self.port = listening.getsockname()[1]
        app = create_app({"tiny": self.segmenter.classifier}, run=(str(self.run), self.segmenter))
        self.process = multiprocessing.get_context("fork").Process(target=Server(app, listening).run, daemon=True)
        self.process.start()
        listening.close()

    def kill(self):
        self.process.kill()
        self.process.join()


def test_a_server_that_is_killed_loses_nothing(pages, tmp_path):
    classifier = Classifier(
        Brightness().eval(), ("red", "blue"), size=64, mean=(0, 0, 0), std=(1, 1, 1), multilabel=True, name="tiny"
    )
    run, segmenter, chance = tmp_path / "run", Segmenter(classifier, QUICK), random.Random(0)
    list(segment_all(Job(segmenter, Folder(str(run)), pictures=False), draw(tmp_path / "in", 2)))
    server = Killable(run, segmenter)
    try:
        page = pages(f"http://127.0.0.1:{server.port}")
        page.wait_for_selector("body[data-ready]")
        names = page.locator("#strip button").evaluate_all("all => all.map(one => one.title)")
        for number, name in enumerate(names):
            page.wait_for_selector(f"body[data-shown='{name}']")
            page.keyboard.press("o")
            box = page.locator("#strokes").bounding_box()
            page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
            page.mouse.down()
            page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"], steps=2)
            if number == 0:
                server.kill()  # before the stroke is sent
            page.mouse.up()
            if number == 0:
                page.locator("#status", has_text="The server does not answer").wait_for()
                whole(run)
                server.start()
                page.locator("#status", has_text="The server does not answer").wait_for(state="detached")
            page.keyboard.press("a")  # at once: what the stroke leads to is not awaited
            if number == 1:
                page.wait_for_timeout(chance.uniform(0, 60))  # somewhere in saving
                shown = page.locator("#strip button").evaluate_all(SHOWN)
                server.kill()
                kept = whole(run)
                for title, state in shown.items():
                    now = kept[title].state if title in kept else "untouched"
                    assert ORDER.index(now) >= ORDER.index(state), title
                server.start()
            page.wait_for_selector(f"#strip button[title='{name}'].accepted")
        kept = whole(run)
        assert {name: item.state for name, item in kept.items()} == dict.fromkeys(names, "accepted")
        assert all(len(drawn) == 1 for item in kept.values() for drawn in item.strokes.values())
        assert all(item.strokes for item in kept.values()), "no stroke is lost, and none is there twice"
        assert page.locator("#error").is_hidden()
    finally:
        server.kill()

"""What the page of a run asks the server for, without a browser: words, odd runs, wrong requests, and memory."""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from desks import DRAWN, segmented, segmenter
from PIL import Image

from gradcut import RECIPES, Segmenter, formats, load_classifier
from gradcut.listening import listen
from gradcut.recipes import with_saliency
from gradcut.runs import corrections
from gradcut.saliency import Gradient

pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("uvicorn", reason="needs gradcut[web]")
from gradcut.web import Server, create_app
from gradcut.web.desk import segmenter_of


@contextmanager
def asking(run, made_with):
    """Sends a JSON value to an address below ``/api/run/``, as a tab does; returns status and JSON value."""
    app = create_app({"own": made_with.classifier}, run=(str(run), made_with))
    with Server(app, listen(port=0)) as server:

        def ask(path, body):
            request = urllib.request.Request(
                f"{server.url}/api/run/{path}", json.dumps(body).encode(), {"x-tab": "t" * 48}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                return error.code, json.loads(error.read())

        yield ask


def masks(seen):
    """By label, the pixels of an answer's label map."""
    data = base64.b64decode(seen["values"].partition(",")[2])
    values = np.asarray(Image.open(io.BytesIO(data)))
    return {item["label"]: values == item["value"] for item in seen["objects"]}


def test_a_word_is_added_to_a_run_of_words(tmp_path, drawn):
    worded = pytest.importorskip("worded")
    worded.written("clip", tmp_path / "clip")
    classifier = load_classifier(f"hf/{tmp_path}/clip", ["cat", "dog"], background=["sky"])
    recipe = replace(DRAWN, saliency=Gradient(of="probability"))
    made_with = Segmenter(classifier, recipe, threshold=0.0)
    run = segmented(tmp_path, made_with, {"a": drawn[0]})
    with asking(run, made_with) as ask:
        _, known = ask("open", {"name": "a"})
        photograph = {"photograph": known["photograph"]}
        _, before = ask("look", photograph)
        status, seen = ask("look", photograph | {"added": ["forklift"]})
        assert (status, seen["added"]) == (200, ["forklift"])
        assert [item["label"] for item in seen["objects"]][-1] == "forklift"
        status, two = ask("look", photograph | {"added": [" forklift ", "DOG", "pallet"]})
        assert (status, two["added"]) == (200, ["forklift", "dog", "pallet"])
        alone = load_classifier(f"hf/{tmp_path}/clip", ["cat", "dog", "forklift"], background=["sky"])
        (expected,) = Segmenter(alone, recipe).explain([drawn[0]], ["forklift"])
        score = {item["label"]: item["score"] for item in seen["objects"]}["forklift"]
        assert score == pytest.approx(expected.found[0].score, abs=1e-4)
        # The masks of the others stay as they are: where the new one is not, nothing moves.
        was, now = masks(before), masks(seen)
        for label, mask in was.items():
            assert np.array_equal(mask & ~now["forklift"], now[label] & ~now["forklift"])
        status, saved = ask("save", photograph | {"added": ["forklift"], "state": "corrected", "revision": 0})
        assert (status, saved["revision"]) == (200, 1)
        status, said = ask("look", photograph | {"added": ["x" * 150]})
        assert status == 400
        assert "\n" not in said["message"]
    assert corrections.read(run, "a").added == ("forklift",)
    assert formats.run_pile(run).classes == ("cat", "dog", "forklift")


def test_a_run_of_another_saliency_is_opened_with_it(tmp_path, drawn, monkeypatch):
    monkeypatch.setitem(RECIPES, "drawn", DRAWN)
    monkeypatch.setattr("gradcut.web.desk.load_classifier", lambda name: segmenter().classifier)
    made_with = Segmenter(segmenter().classifier, with_saliency("drawn", "Gradient"))
    run = segmented(tmp_path, made_with, {"a": drawn[0]})
    assert segmenter_of(str(run)).record() == made_with.record()


def test_a_photograph_in_which_nothing_was_found_is_painted(tmp_path, drawn):
    run = segmented(tmp_path, segmenter(), {"black": np.zeros((40, 60, 3), np.uint8)})
    stroke = {"kind": "foreground", "radius": 4, "points": [[20, 20]]}
    with asking(run, segmenter()) as ask:
        status, known = ask("open", {"name": "black"})
        assert (status, known["objects"]) == (200, [])
        asked = {"photograph": known["photograph"], "painted": ["a well"], "strokes": {"a well": [stroke]}}
        status, seen = ask("look", asked)
        assert status == 200
        assert masks(seen)["a well"][20, 20]
        assert ask("save", asked | {"state": "accepted", "revision": 0})[0] == 200
        status, known = ask("open", {"name": "black"})
        assert masks(known)["a well"][20, 20]
        assert known["found"]["objects"] == []
    assert corrections.states(run) == {"black": "accepted"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"painted": 5}, {"painted": [5]}, {"painted": ["x" * 201]}, {"painted": ["red"]}, {"painted": ["a", "a"]},
        {"edits": 5}, {"edits": [[]]}, {"edits": [{"kind": "give"}]},
        {"edits": [{"kind": "fill", "label": "red"}] * 201},
        {"edits": [{"kind": "give", "label": "red", "to": "blue", "at": [1e999, 0]}]}, {"removed": 5}, {"added": [5]},
        {"strokes": {"red": [{"kind": "erase", "shape": "box", "radius": 1, "points": [[1, 1], [2, 2]]}]}},
        {"strokes": {"red": [{"kind": "foreground", "shape": "polygon", "radius": 1, "points": [[1, 1]]}]}},
    ],
)  # fmt: skip
def test_a_wrong_request_is_a_sentence(wrong_requests, wrong):
    ask, photograph = wrong_requests
    for path, more in (("look", {}), ("save", {"state": "corrected", "revision": 0})):
        status, said = ask(path, {"photograph": photograph} | more | wrong)
        assert status == 400
        assert "expected" in said["message"]
        assert "\n" not in said["message"]


@pytest.fixture(scope="module")
def wrong_requests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    red = np.zeros((64, 64, 3), np.uint8)
    red[10:30, 8:28, 0] = 255
    run = segmented(folder, segmenter(), {"a": red})
    with asking(run, segmenter()) as ask:
        yield ask, ask("open", {"name": "a"})[1]["photograph"]
    assert corrections.states(run) == {}


def test_a_stroke_takes_no_more_memory_on_a_large_photograph(tmp_path, drawn):
    """What is cut is no larger than what is seen; a mask of the large photograph's size would be 15 MB."""
    large = np.kron(drawn[0], np.ones((60, 60, 1), np.uint8))
    run = segmented(tmp_path, segmenter(), {"small": large[::4, ::4], "large": large})
    peaks = {}
    with asking(run, segmenter()) as ask:
        for name in ("small", "large"):
            _, known = ask("open", {"name": name})
            side = known["width"]
            for number in range(2):  # the first prepares
                points = [[0.1 * side, 0.8 * side], [0.2 * side, (0.82 + number / 100) * side]]
                stroke = {"kind": "foreground", "radius": 0.02 * side, "points": points}
                tracemalloc.start()
                status, seen = ask("look", {"photograph": known["photograph"], "strokes": {"red": [stroke]}})
                _, peaks[name] = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert status == 200
                assert masks(seen)["red"].shape == (800, 800)
    assert peaks["large"] < peaks["small"] + 7e6

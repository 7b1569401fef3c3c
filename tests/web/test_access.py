"""Both pages for everybody: axe's rules, names for a screen reader, and a whole task by keyboard alone."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from drawn_runs import QUICK, draw
from networks import brightness

from gradcut import RECIPES, Segmenter, images
from gradcut.files import Folder
from gradcut.listening import listen
from gradcut.runs.job import Job
from gradcut.runs.segment import segment_all

pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("uvicorn", reason="needs gradcut[web]")
pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python, for axe's script")
from gradcut.web import Server, create_app

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")

#: Roles that somebody does something with, or that say something.
NAMED = {
    "button", "link", "textbox", "combobox", "listbox", "slider", "radio", "radiogroup", "checkbox", "application",
    "region", "navigation", "dialog", "image", "img", "heading", "DisclosureTriangle",
}  # fmt: skip


@pytest.fixture(scope="module")
def classifier():
    return brightness()


@pytest.fixture(scope="module")
def single(classifier):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, QUICK.name, QUICK)
        app = create_app({"brightness": classifier}, recipe=QUICK.name)
        with Server(app, listen(port=0)) as server:
            yield server.url


@pytest.fixture
def run(classifier, tmp_path):
    """The address of a run of three photographs."""
    segmenter = Segmenter(classifier, QUICK)
    list(segment_all(Job(segmenter, Folder(str(tmp_path / "run")), pictures=False), draw(tmp_path / "in", 3)))
    app = create_app({"brightness": classifier}, run=(str(tmp_path / "run"), segmenter))
    with Server(app, listen(port=0)) as server:
        yield server.url


def faults(page):
    """What axe finds serious or critical, with the first element of each; target sizes among it."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(
        "axe.run(document, {rules: {'target-size': {enabled: true}}, resultTypes: ['violations']})"
        ".then(done => done.violations.filter(one => ['serious', 'critical'].includes(one.impact))"
        ".map(one => `${one.id}: ${one.nodes[0].html}: ${one.nodes[0].failureSummary}`))"
    )
    return [*found, *nameless(page)]


def nameless(page):
    """What a screen reader would have no name for, and what is out of order for the Tab key."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in tree if not node["ignored"] and node["role"]["value"] in NAMED]
    assert len(seen) > 5
    without = [node["role"]["value"] for node in seen if not node.get("name", {}).get("value", "").strip()]
    assert page.locator("main").count() == 1
    return [*(f"a {role} without a name" for role in without), *page.locator("[tabindex]").evaluate_all(
        "all => all.filter(one => one.tabIndex > 0).map(one => `tabindex: ${one.outerHTML}`)"
    )]  # fmt: skip


def settle(page):
    page.wait_for_selector("#result[aria-busy=false] .row:not(.stale)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_photograph_is_for_everybody(pages, single, drawn, scheme):
    page = pages(single, color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_selector("body[data-ready]")
    assert faults(page) == []
    page.set_input_files("#file", {"name": "a.png", "mimeType": "", "buffer": images.encode_png(drawn[0])})
    settle(page)
    page.locator("#keyboard summary").click()
    assert faults(page) == []
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "", "buffer": b"nothing"})
    page.wait_for_selector("#error:not([hidden])")
    page.select_option("#compare", QUICK.name)
    settle(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert faults(page) == []
    running = "document.getAnimations().filter(one => one.playState === 'running').length"
    page.route("**/api/segment", lambda route: None)
    page.locator("#threshold").fill("0.3")
    page.wait_for_selector("#status.busy")
    assert page.evaluate(running) == 0, "nothing moves for those who asked for that"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_run_is_for_everybody(pages, run, scheme):
    page = pages(run, color_scheme=scheme)
    page.wait_for_selector("body[data-ready]")
    page.keyboard.press("a")
    page.wait_for_selector("#strip button.accepted")
    page.wait_for_selector("body[data-shown]")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert faults(page) == []


WINDOWS = [(390, 844), (768, 1024), (1280, 800), (1920, 1080), (2560, 1440)]


def test_the_photograph_is_as_large_as_the_window_allows(pages, single):
    page = pages(single)
    page.wait_for_selector("body[data-ready]")
    for height, width in ((40, 60), (60, 40)):
        data = images.encode_png(np.full((height, width, 3), 99, np.uint8))
        page.set_input_files("#file", {"name": "a.png", "mimeType": "", "buffer": data})
        settle(page)
        for across, down in WINDOWS:
            page.set_viewport_size({"width": across, "height": down})
            box = page.locator(".row .frame").bounding_box()
            assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.01)
            assert page.evaluate("document.documentElement.scrollWidth") == across
            assert 0 <= box["x"] <= across - box["width"]
            # Beside the tools where the window is wide, above them where it is narrow.
            most = (0.7 * across, 0.85 * down) if across > 900 else (across - 32, 0.5 * down)
            assert box["width"] >= 0.97 * min(most[0], most[1] * width / height)
            for place in (".row .frame", ".switch", "#status"):
                box = page.locator(place).bounding_box()
                assert 0 <= box["y"] <= down - box["height"], "all of it is on the first screen"

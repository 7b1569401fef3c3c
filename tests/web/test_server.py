"""The web page in a real browser, and its server without one. No request may leave loopback."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from networks import Brightness, placed
from PIL import ExifTags, Image
from pycocotools import mask as coder
from skimage.data import coffee

import gradcut
from gradcut import RECIPES, Classifier, Recipe, Segmenter, images, refine
from gradcut.cli import app, main
from gradcut.formats import brush_rle
from gradcut.listening import listen
from gradcut.masks import GraphCut, Threshold
from gradcut.saliency import CAM, Gradient, Rivals
from gradcut.seeds import Percentiles

pytest.importorskip("starlette", reason="needs gradcut[web]")
pytest.importorskip("uvicorn", reason="needs gradcut[web]")
from gradcut.painting import Stroke, rasterise
from gradcut.web import Limits, Server, create_app
from gradcut.web.state import Queue, Shelf, Upload
from gradcut.web.view import Query

TAB = "t" * 48


class Counting(Brightness):
    """`Brightness` that counts its forward passes, and does what a test tells it to in each."""

    def __init__(self):
        super().__init__()
        self.passes = 0
        self.meanwhile = lambda: None

    def forward(self, x):
        self.passes += 1
        self.meanwhile()
        return super().forward(x)


def tiny():
    return Classifier(
        Counting().eval(), ("red", "blue"), size=64, mean=(0, 0, 0), std=(1, 1, 1), multilabel=True, name="tiny"
    )


#: What the page does must not depend on what the default recipe is.
DRAWN = Recipe("drawn", "class activation map, percentiles, graph cut", CAM(), Percentiles(95, 30), GraphCut())
OTHER = Recipe("other", "gradient, percentiles, graph cut", Gradient(of="probability"), Percentiles(95, 30), GraphCut())


@pytest.fixture(scope="module", autouse=True)
def _with_recipe():
    with pytest.MonkeyPatch.context() as patch:
        for recipe in (DRAWN, OTHER):
            patch.setitem(RECIPES, recipe.name, recipe)
        yield


def serve(classifiers, **options):
    return Server(create_app(classifiers, recipe="drawn", **options), listen(port=0))


@pytest.fixture(scope="module")
def server(embedded):
    with serve({"tiny": placed(tiny()), "embedded": embedded}) as running:
        yield running


@pytest.fixture
def visit(pages, server):
    """Opens the page as somebody new."""

    def open_page(url=server.url, width=1280, height=800, **options):
        page = pages(url, width, height, **options)
        page.wait_for_selector("body[data-ready]")
        return page

    return open_page


def png(pixels):
    return images.encode_png(pixels)


def upload(page, data, name="drawn.png", settled=True):
    page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": data})
    if settled:
        settle(page)


def settle(page):
    page.wait_for_selector("#result[aria-busy=false] .row:not(.stale)")


def read(page, place, text):
    """Wait until a text stands there."""
    page.locator(f"#{place}", has_text=text).wait_for()


def classes(page):
    """Labels by whether they reach the threshold, and the one looked at."""
    buttons = page.locator("#classes button").evaluate_all(
        "all => all.map(b => [b.dataset.label, b.classList.contains('found'), b.getAttribute('aria-pressed')])"
    )
    return {label for label, found, _ in buttons if found}, [label for label, _, on in buttons if on == "true"]


def slide(page, name, value):
    page.locator(f"#{name}").fill(str(value))
    settle(page)


def drag(page, tool, *points):
    page.locator(f"label[for={tool}]").click()
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=2)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    settle(page)


def downloaded(page, kind="mask"):
    with page.expect_download() as waiting:
        page.click(f"#download-{kind}")
    path = Path(waiting.value.path())
    return waiting.value.suggested_filename, path.read_bytes()


def mask_of(page):
    _, data = downloaded(page)
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    assert pixels.dtype == np.uint8
    assert set(np.unique(pixels)) <= {0, 255}
    return pixels > 0


# In the browser ------------------------------------------------------------------------------------------------------


def test_from_the_photograph_to_the_corrected_mask(visit, drawn):
    photograph = drawn[0]
    page = visit()
    bodies = []
    page.on("request", lambda request: bodies.append(request.post_data) if "/download/" in request.url else None)
    upload(page, png(photograph), "my drawing.png")
    found, looked_at = classes(page)
    assert found == {"red", "blue"}
    plain = {o.label: o.mask for o in Segmenter(tiny(), DRAWN)(photograph).objects}
    assert np.array_equal(mask_of(page), plain[looked_at[0]])
    assert downloaded(page)[0] == f"my drawing-{looked_at[0]}.png"
    page.click("#classes button[data-label=red]")
    settle(page)
    assert np.array_equal(mask_of(page), plain["red"])
    before = page.get_attribute("img.mask", "src")

    drag(page, "foreground", (0.7, 0.1), (0.9, 0.1))
    painted = mask_of(page)
    strokes = Query.parse(json.loads(bodies[-1]), {"tiny": tiny()}).strokes["red"]
    assert len(strokes) == 1
    inside = rasterise(strokes, photograph.shape[:2]).foreground
    assert inside[6, 45:57].all()
    assert painted[inside].all()
    assert np.array_equal(painted, refine(Segmenter(tiny(), DRAWN)(photograph), {"red": inside}).objects[1].mask)
    assert page.get_attribute("img.mask", "src") != before

    drag(page, "background", (0.28, 0.3), (0.28, 0.32))
    twice = mask_of(page)
    assert not twice[20, 18]
    assert twice[6, 45:57].all()
    page.click("#undo")
    settle(page)
    assert np.array_equal(mask_of(page), painted)
    page.click("#clear")
    settle(page)
    assert np.array_equal(mask_of(page), plain["red"])
    page.keyboard.press("z")
    settle(page)
    assert np.array_equal(mask_of(page), painted), "clearing can be undone as well"
    page.click("#classes button[data-label=blue]")
    settle(page)
    assert not mask_of(page)[inside].any(), "what was painted red is not blue"

    values = np.asarray(Image.open(io.BytesIO(downloaded(page, "labelmap")[1])))
    assert set(np.unique(values)) == {0, 1, 2}
    assert len(np.unique(values[inside])) == 1
    masks = {}
    name, data = downloaded(page, "coco")
    document = json.loads(data)
    names = {each["id"]: each["name"] for each in document["categories"]}
    for each in document["annotations"]:
        masks[names[each["category_id"]]] = coder.decode(each["segmentation"]) > 0
    assert name == "my drawing-coco.json"
    assert document["images"][0]["file_name"] == "my drawing.png"
    assert np.array_equal(masks["red"], painted)
    assert np.array_equal(masks["blue"], mask_of(page))
    name, data = downloaded(page, "label-studio")
    archive = zipfile.ZipFile(io.BytesIO(data))
    (task,) = json.loads(archive.read("tasks.json"))
    assert [each["value"]["brushlabels"] for each in task["predictions"][0]["result"]] == [["blue"], ["red"]]
    red = task["predictions"][0]["result"][1]["value"]["rle"]
    assert red == brush_rle(painted)
    assert b"BrushLabels" in archive.read("config.xml")


def test_an_unsure_mask_is_marked(visit, drawn, monkeypatch):
    monkeypatch.setattr("gradcut.confidence.expected", lambda saliency, *_: [0.12, 0.9][: len(saliency)])
    page = visit()
    upload(page, png(drawn[0]))
    buttons = [button.inner_text().split() for button in page.locator("#classes button").all()]
    assert {label: "unsure" in words for label, *words in buttons} == {"blue": True, "red": False}
    title = "expected IoU 0.12 is below 0.3: the mask is probably wrong"
    assert page.get_attribute("#classes button[data-label=blue]", "title") == title
    assert "expected IoU 0.12 (unsure)" in page.inner_text("#figures")
    assert "and is unsure" in page.inner_text("#status")
    page.locator("#classes button", has_text="red").click()
    read(page, "figures", "red: score")
    assert "unsure" not in page.inner_text("#figures")


def test_sliders_answer_without_the_network(visit, server, drawn):
    page = visit()
    model = server.page.classifiers["tiny"].model
    noise = np.random.default_rng(0).integers(0, 40, drawn[0].shape, dtype=np.uint8)
    upload(page, png(np.maximum(drawn[0], noise)))
    passes = model.passes
    assert page.locator("output[for=high]").inner_text() == "95th"
    seeds = page.get_attribute("img.seeds", "src")
    before = mask_of(page)
    # This recipe has no confidence, and the page says nothing of one.
    figures = page.inner_text("#figures")
    assert re.fullmatch(r"\w+: score [\d.]+, [\d.]+ % of the photograph", figures)
    slide(page, "high", 60)
    assert page.get_attribute("img.seeds", "src") != seeds
    assert mask_of(page).sum() > before.sum()
    slide(page, "low", 80)
    assert page.input_value("#high") == "80", "one slider pushes the other"
    assert page.locator("#error").is_hidden()
    assert classes(page)[0] == {"red", "blue"}
    assert model.passes == passes, "no slider of the seeds asks the network"
    slide(page, "threshold", 0.99)
    found, looked_at = classes(page)
    assert found == set()
    assert len(looked_at) == 1
    assert "Nothing reaches" in page.inner_text("#status")
    assert model.passes == passes + 1, "once, for the best class alone"
    slide(page, "threshold", 0.05)
    assert classes(page)[0] == {"red", "blue"}
    page.click("#reset")
    settle(page)
    assert page.get_attribute("img.seeds", "src") == seeds
    assert model.passes == passes + 1, "what was asked before is kept"
    page.select_option("#recipe", "other")
    settle(page)
    assert model.passes == passes + 2


def test_recipes_side_by_side_and_aligned(visit, drawn):
    page = visit()
    upload(page, png(np.kron(drawn[0], np.ones((2, 5, 1), dtype=np.uint8))))
    page.select_option("#compare", "other")
    settle(page)
    assert page.locator(".row").count() == 2
    assert "the mask covers" in page.inner_text("#status"), "nothing is under way any more"
    assert page.locator(".row h2").all_inner_texts()[1].startswith("other")
    masks = page.locator("img.mask").evaluate_all("all => all.map(one => one.src)")
    assert masks[0] != masks[1]
    boxes = [one.bounding_box() for one in page.locator(".row .frame").all()]
    assert len({(round(box["x"]), round(box["width"]), round(box["height"])) for box in boxes}) == 1
    assert boxes[0]["width"] / boxes[0]["height"] == pytest.approx(320 / 128, rel=0.02)
    assert boxes[0]["height"] + boxes[1]["height"] > 0.5 * page.viewport_size["height"]
    for kind, number in (("saliency", "2"), ("seeds", "3"), ("mask", "1")):
        page.keyboard.press(number)
        page.locator(f".views button[data-view={kind}][aria-pressed=true]").last.wait_for()
        for frame in page.locator(".row .frame").all():
            assert frame.locator(".layers > img:visible").evaluate_all("all => all.map(one => one.className)") == [
                "photograph",
                kind,
            ]
            for layer in frame.locator("img:visible, canvas").all():
                assert layer.bounding_box() == frame.bounding_box()
    page.mouse.move(boxes[0]["x"] + 0.25 * boxes[0]["width"], boxes[0]["y"] + 0.5 * boxes[0]["height"])
    thumb = page.locator(".views .frame").nth(4)
    mark, small = thumb.locator(".cross").bounding_box(), thumb.bounding_box()
    assert (mark["x"] + mark["width"] / 2 - small["x"]) / small["width"] == pytest.approx(0.25, abs=0.02)
    page.select_option("#compare", "")
    settle(page)
    assert page.locator(".row").count() == 1
    for menu in ("recipe", "classifier"):
        assert page.inner_text(f"#{menu}-line")


@pytest.fixture
def limited():
    with serve({"tiny": tiny()}, limits=Limits(megabytes=0.5)) as running:
        yield running


def test_what_is_no_photograph_becomes_a_sentence(limited, visit, drawn):
    page = visit(limited.url)
    upload(page, b"no photograph at all", settled=False)
    read(page, "error", "drawn.png: not an image that can be read")
    assert "Below is still" not in page.inner_text("#error"), "there is none yet"
    upload(page, png(drawn[0]))
    bilevel = io.BytesIO()
    Image.new("1", (10000, 10000)).save(bilevel, "PNG")
    for name, data, sentence in (
        ("notes.txt", b"no photograph at all\n" * 9, "notes.txt: not an image that can be read"),
        ("empty.png", b"", "empty.png: the file is empty"),
        ("huge.png", bilevel.getvalue(), "10000 x 10000 pixels are more than the limit of 50,000,000"),
        ("large.jpg", bytes(600_000), "large.jpg is 0.6 MB; the limit is 0.5 MB"),
        ("half.png", png(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[:2000], "cannot be read"),
    ):
        upload(page, data, name, settled=False)
        read(page, "error", sentence)
        assert page.locator("#error").is_visible()
        assert page.inner_text("#error").endswith(" Below is still drawn.png.")
        assert "Traceback" not in page.content()
        assert str(Path(gradcut.__file__).parent) not in page.content()
    page.fill("#another", "unicorn")
    page.click("#ask button")
    read(page, "error", "tiny has no label")
    page.click("#classes button[data-label=red]")
    settle(page)
    assert page.locator("#error").is_hidden()
    assert mask_of(page).any(), "the page goes on"


def test_four_people_at_once(visit):
    """Each gets the mask of their own photograph, and cannot reach another's."""
    pages = [visit() for _ in range(4)]
    squares = []
    for number, page in enumerate(pages):
        photograph = np.zeros((64, 64, 3), dtype=np.uint8)
        top, left = divmod(number, 4)
        photograph[8 + 28 * top : 24 + 28 * top, 2 + 15 * left : 15 + 15 * left] = (255, 0, 0)
        squares.append(photograph[..., 0] > 0)
        upload(page, png(photograph), f"{number}.png", settled=False)
    for page, square in zip(pages, squares, strict=True):
        settle(page)
        page.click("#classes button[data-label=red]")
        settle(page)
        mask = mask_of(page)
        assert (mask & square).sum() / (mask | square).sum() > 0.8
    keys = [page.evaluate("document.querySelector('.photograph').src") for page in pages]
    assert len(set(keys)) == 4


def test_a_phone_in_the_dark(visit, drawn):
    page = visit(width=390, height=844, is_mobile=True, has_touch=True, color_scheme="dark")
    light = visit().evaluate("getComputedStyle(document.body).backgroundColor")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert page.is_checked("#look"), "a finger on the mask scrolls until one chooses to paint"
    upload(page, png(drawn[0]))
    page.select_option("#compare", "other")
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.select_option("#compare", "")
    settle(page)
    page.locator("#downloads").scroll_into_view_if_needed()
    mask = page.locator(".row .frame").bounding_box()
    assert mask["width"] > 350
    assert 0 <= mask["y"] < 20, "the photograph stays where it is while one scrolls through the tools"
    page.evaluate("scrollTo(0, 0)")
    switch = page.locator(".switch").bounding_box()
    assert mask["height"] < switch["y"] < 844 - 200, "the tools are below it, on the same screen"
    small = page.locator("button:visible, select:visible").evaluate_all(
        "all => all.filter(b => b.getBoundingClientRect().height < 44).map(b => b.outerHTML)"
    )
    assert small == [], "large enough for a finger"
    page.click("#classes button[data-label=red]")
    settle(page)
    before = mask_of(page)
    page.tap("label[for=foreground]")
    box = page.locator("canvas").first.bounding_box()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
    settle(page)
    after = mask_of(page)
    assert after[6, 57]
    assert not before[6, 57]


def test_by_keyboard_alone(visit, embedded):
    """The embedded classifier and the example, without a mouse."""
    page = visit()

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"no way to {selector}")

    tab_to("#classifier")
    page.keyboard.press("ArrowDown")
    page.evaluate("document.activeElement.blur()")
    tab_to("[data-example=espresso]")
    page.keyboard.press("Enter")
    settle(page)
    assert classes(page)[1] == ["espresso"]
    default = Segmenter(embedded, DRAWN)(coffee()).objects[0].mask
    assert np.array_equal(mask_of(page), default)
    page.evaluate("document.activeElement.blur()")
    tab_to("canvas")
    for key in ("b", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Space"):
        page.keyboard.press(key)
    settle(page)
    painted = mask_of(page)
    assert default[200, 300:372].any()
    assert not painted[200, 300:372].any()
    page.keyboard.press("z")
    settle(page)
    page.keyboard.press("y")
    settle(page)
    tab_to("#download-mask")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    taken = np.asarray(Image.open(waiting.value.path())) > 0
    assert np.array_equal(taken, painted)
    page.keyboard.press("?")
    tab_to("#letters")
    page.keyboard.press("Space")
    page.keyboard.press("z")
    assert page.is_disabled("#redo"), "single keys can be switched off"
    page.keyboard.press("Control+z")
    settle(page)
    assert np.array_equal(mask_of(page), default)
    tab_to("#high")
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert page.locator("output[for=high]").inner_text() == "94th"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus can be seen"


def test_a_slow_model_tells_how_it_goes_and_a_full_line_turns_away(visit, drawn):
    slow = tiny()
    go = threading.Event()
    slow.model.meanwhile = lambda: go.wait(60)
    with serve({"slow": slow}, limits=Limits(waiting=2)) as server:
        first, second, third = (visit(server.url) for _ in range(3))
        try:
            upload(first, png(drawn[0]), settled=False)
            read(first, "status", "Asking slow what it sees …")
            upload(second, png(drawn[0]), settled=False)
            read(second, "status", "Waiting in line, 1 before you")
            upload(third, png(drawn[0]), settled=False)
            read(third, "error", "2 requests are waiting already")
            read(first, "status", " 1 s")
        finally:
            go.set()
        settle(first)
        settle(second)
        assert mask_of(second).any()


def test_pictures_of_the_examples_take_no_place_in_the_line(drawn):
    """People who only open the page do not turn away another, who sends a photograph."""
    with serve({"tiny": tiny()}, limits=Limits(waiting=0)) as server:
        assert ask(server, "GET", "/api/example/cat")[0].status == 200
        assert ask(server, "POST", "/api/photograph", png(drawn[0]))[0].status == 503


def test_a_server_that_fails_or_goes_becomes_a_sentence(visit, drawn):
    broken = tiny()
    with serve({"broken": broken}) as server:
        page = visit(server.url)

        def fail():
            raise ZeroDivisionError("/srv/secret")

        broken.model.meanwhile = fail
        upload(page, png(drawn[0]), settled=False)
        read(page, "error", "The server failed on this request")
        assert "secret" not in page.content()
    upload(page, png(drawn[0]), settled=False)
    read(page, "error", "The server does not answer")


def test_closing_the_tab_forgets_the_photograph(visit, drawn):
    with serve({"tiny": tiny()}) as server:
        page = visit(server.url)
        upload(page, png(drawn[0]))
        assert len(server.page.shelf) == 1
        page.goto("about:blank")
        deadline = time.monotonic() + 10
        while len(server.page.shelf) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(server.page.shelf) == 0


def dropped(page, *files):
    """Drop files of these names and contents; without any, a link."""
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, data] of files) transfer.items.add(new File([Uint8Array.from(data)], name));
            if (!files.length) transfer.setData("text/uri-list", "http://127.0.0.1/");
            return transfer;
        }""",
        [[name, list(data)] for name, data in files],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def test_what_is_dropped_beside_a_photograph_is_told_of(visit, drawn):
    page = visit()
    dropped(page)
    read(page, "error", "What was dropped is no file")
    dropped(page, ("a.png", png(drawn[0])), ("b.png", png(drawn[0])), ("c.png", b"nothing"))
    settle(page)
    read(page, "error", "One photograph at a time: this is a.png; 2 more were left out.")
    upload(page, png(drawn[0]))
    page.wait_for_selector("#error", state="hidden")


def test_the_class_that_was_chosen_last_is_looked_at(visit, drawn):
    """Whatever was under way; and a stroke that is painted meanwhile is that class's."""
    page = visit()
    upload(page, png(drawn[0]))
    others = [label for label in ("red", "blue") if label not in classes(page)[1]]
    assert len(others) == 1
    chosen = classes(page)[1][0]
    held, strokes = [], []
    page.route("**/api/segment", lambda route: held.append(route))
    page.click(f"#classes button[data-label={others[0]}]")
    page.wait_for_timeout(100)
    page.click(f"#classes button[data-label={chosen}]")
    page.wait_for_timeout(100)
    assert len(held) == 2
    held[1].continue_()
    page.unroute("**/api/segment")
    settle(page)
    assert classes(page)[1] == [chosen]
    page.on("request", lambda request: strokes.append(json.loads(request.post_data)["strokes"]))
    drag(page, "foreground", (0.5, 0.1), (0.6, 0.1))
    assert set(strokes[-1]) == {chosen}


def test_two_fingers_paint_nothing(visit, drawn, fingers):
    page = visit(has_touch=True)
    upload(page, png(drawn[0]))
    page.locator("label[for=foreground]").click()
    box = page.locator("canvas").first.bounding_box()
    touch = fingers(page, box)
    touch("touchStart", (0.4, 0.4))
    touch("touchStart", (0.4, 0.4), (0.6, 0.6))
    touch("touchMove", (0.3, 0.3), (0.7, 0.7))
    touch("touchEnd")
    assert page.is_disabled("#clear")
    assert page.locator("canvas").bounding_box()["width"] == pytest.approx(2 * box["width"], rel=0.05)
    page.click("#fit")
    touch("touchStart", (0.4, 0.4))
    touch("touchMove", (0.5, 0.5))
    touch("touchEnd")
    settle(page)
    assert page.is_enabled("#clear")


def test_nearer_with_the_other_side_and_a_server_that_has_forgotten(visit, server, drawn):
    page = visit()
    upload(page, png(drawn[0]))
    page.click("#classes button[data-label=red]")
    settle(page)
    asked = []
    page.on("request", lambda request: asked.append(request.post_data) if "/segment" in request.url else None)
    unsaved = "!dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert not page.evaluate(unsaved)
    box = page.locator("canvas").bounding_box()
    at = box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"]
    page.mouse.move(*at)
    page.mouse.wheel(0, -600)
    assert page.locator("canvas").bounding_box()["width"] > 2 * box["width"]
    server.page.shelf.forget(json.loads(page.evaluate("import('/talk.js').then(talk => JSON.stringify(talk.tab))")))
    page.keyboard.down("Alt")
    page.mouse.down()
    page.mouse.up()
    page.keyboard.up("Alt")
    settle(page)
    (stroke,) = json.loads(asked[-1])["strokes"]["red"]
    assert stroke["kind"] == "background", "Alt paints the other of the two"
    assert stroke["points"][0] == pytest.approx((16, 48), abs=1), "the place under the pointer stays"
    assert not mask_of(page)[48, 16], "the photograph was sent once more, and the stroke is still there"
    assert page.locator("#error").is_hidden()
    assert page.evaluate(unsaved), "who leaves is asked whether to leave the strokes"
    page.keyboard.press("f")
    assert page.locator("canvas").bounding_box() == box


def test_escape_drops_a_stroke_and_cancels_a_request(visit, drawn):
    page = visit()
    upload(page, png(drawn[0]))
    page.locator("label[for=foreground]").click()
    canvas = page.locator("canvas").first
    canvas.focus()
    for key in ("Space", "ArrowRight", "Escape", "ArrowRight", "Space"):
        canvas.press(key)
    assert page.is_disabled("#clear"), "what was begun before Escape is gone, the second begins anew"
    canvas.press("Escape")
    page.route("**/api/segment", lambda route: None)
    page.locator("#threshold").fill("0.3")
    page.wait_for_selector("#cancel:not([hidden])")
    page.click("#cancel")
    read(page, "status", "Cancelled.")
    assert page.is_hidden("#cancel")
    page.unroute("**/api/segment")
    slide(page, "threshold", 0.4)


def test_another_photograph_does_not_wait_for_the_one_before(visit, drawn):
    page = visit()
    page.route("**/api/segment", lambda route: None)
    upload(page, png(drawn[0]), settled=False)
    page.wait_for_selector("#result[aria-busy=true]")
    page.unroute("**/api/segment")
    upload(page, png(drawn[0][:, ::-1].copy()), "other.png")
    assert classes(page)[0] == {"red", "blue"}


# A classifier of words -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    worded = pytest.importorskip("worded")
    folder = tmp_path_factory.mktemp("clip")
    worded.written("clip", folder)
    return gradcut.load_classifier(f"hf/{folder}", ["cat", "forklift"], background=["sky"])


@pytest.fixture(scope="module")
def words_server(clip):
    with serve({"clip": clip, "tiny": tiny()}) as running:
        yield running


def test_words_are_typed_and_looked_for(visit, words_server, drawn):
    page = visit(words_server.url)
    page.select_option("#recipe", "other")
    assert page.input_value("#words") == "cat, forklift"
    page.select_option("#classifier", "tiny")
    assert page.is_hidden("#words")
    page.select_option("#classifier", "clip")
    upload(page, png(drawn[0]))
    labels = "all => all.map(b => b.dataset.label).sort()"
    assert page.locator("#classes button").evaluate_all(labels) == ["cat", "forklift"]
    page.fill("#words", "dog, pallet ,, sea")
    page.click("#words-form button")
    page.locator("#classes button", has_text="pallet").wait_for()
    settle(page)
    assert page.locator("#classes button").evaluate_all(labels) == ["dog", "pallet", "sea"]
    page.fill("#words", "dog, Dog")
    page.click("#words-form button")
    read(page, "error", "no label twice")


def test_other_words_are_those_of_python(words_server, clip, drawn):
    folder = clip.name
    sent = json.loads(ask(words_server, "POST", "/api/photograph", png(drawn[0]), x_name="a.png")[1])["photograph"]
    asked = {"classifier": "clip", "recipe": "other", "words": ["dog", "pallet"], "label": "pallet"}
    loaded = gradcut.load_classifier(folder, ["dog", "pallet"], background=["sky"])
    expected = Segmenter(loaded, "other")(drawn[0], labels=["pallet"]).masks[0]
    for _ in range(2):  # read, and kept
        answer, data = ask(words_server, "POST", "/api/download/mask", question(sent, **asked))
        assert answer.status == 200, data
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))) > 0, expected)
    for words in ([], "dog", [1], ["x"] * 201):
        message = sentence(*ask(words_server, "POST", "/api/segment", question(sent, **asked | {"words": words})), 400)
        assert message.startswith("words: expected a list of 1 to 200 words, got")


# Without a browser ---------------------------------------------------------------------------------------------------


def ask(server, method, path, body=None, tab=TAB, **headers):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    if tab is not None:
        headers["x-tab"] = tab
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers, encode_chunked="transfer-encoding" in headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer, data


def sentence(answer, data, status):
    assert answer.status == status, data
    message = json.loads(data)["message"]
    assert message.endswith(".") or "expected" in message or ":" in message
    assert "Traceback" not in message
    return message


def question(key, **changes):
    asked = {"photograph": key, "classifier": "tiny", "recipe": "drawn", "label": None, "threshold": 0.5}
    return json.dumps(asked | changes)


@pytest.fixture(scope="module")
def key(server):
    photograph = np.zeros((64, 64, 3), dtype=np.uint8)
    photograph[8:24, 8:24] = (255, 0, 0)
    answer, data = ask(server, "POST", "/api/photograph", png(photograph), x_name="a%20b.png")
    assert answer.status == 200
    document = json.loads(data)
    assert (document["name"], document["width"], document["height"]) == ("a b.png", 64, 64)
    return document["photograph"]


def test_nobody_elses_photograph(server, key):
    assert ask(server, "GET", f"/api/photograph/{key}")[0].status == 200
    body = question(key)
    for method, path, sent in (
        ("GET", f"/api/photograph/{key}", None),
        ("POST", "/api/segment", body),
        ("POST", "/api/download/mask", body),
    ):
        assert "no longer has" in sentence(*ask(server, method, path, sent, tab="u" * 48), 404)
        assert "no tab's key" in sentence(*ask(server, method, path, sent, tab=None), 400)
        assert "no tab's key" in sentence(*ask(server, method, path, sent, tab=""), 400)
    assert ask(server, "DELETE", "/api/photographs", tab="u" * 48)[0].status == 204
    assert ask(server, "GET", f"/api/photograph/{key}")[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/../../../../../../etc/passwd", "/..%2f..%2f..%2f..%2fetc/passwd", "/page/index.html",
        "/page.js/../../web.py", "/%2e%2e/web.py", "/api/photograph/..%2f..%2fweb.py", "/api/photograph//etc/passwd",
        "/file=/etc/passwd", "/static/page.js", "/web.py", "//etc/passwd",
    ],
)  # fmt: skip
def test_no_path_of_the_server_is_readable(server, path):
    answer, data = ask(server, "GET", path)
    sentence(answer, data, 404)
    assert b"root:" not in data
    assert b"import" not in data


def test_other_sites_are_kept_out(server, key):
    """Neither under a name of their own, nor from their own pages, nor in a frame."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        sentence(*ask(server, "GET", f"/api/photograph/{key}", host=host), 421)
    for host in ("localhost:7860", "LOCALHOST:7860"):
        assert ask(server, "GET", "/", host=host)[0].status == 200
    answer, _ = ask(server, "OPTIONS", "/api/segment", origin="http://evil.example",
                    access_control_request_headers="x-tab")  # fmt: skip
    assert answer.status == 403
    for path in ("/", "/page.js", "/api/page", "/nothing"):
        answer, _ = ask(server, "GET", path, origin="http://evil.example")
        assert answer.getheader("access-control-allow-origin") is None
        assert "default-src 'none'" in answer.getheader("content-security-policy")
        assert "frame-ancestors 'none'" in answer.getheader("content-security-policy")
        assert answer.getheader("cache-control") == "no-store"
    with serve({"tiny": tiny()}, hosts=None) as opened:
        assert ask(opened, "GET", "/", host="my-machine:7860")[0].status == 200


def test_where_others_reach_the_server_a_token_is_needed(pages):
    with serve({"tiny": tiny()}, hosts=None, token="a-token") as opened:
        assert ask(opened, "GET", "/")[0].status == 200
        for headers in ({}, {"x_token": ""}):
            assert "needs the whole address" in sentence(*ask(opened, "GET", "/api/page", **headers), 403)
        assert "no longer valid" in sentence(*ask(opened, "GET", "/api/page", x_token="b-token"), 403)
        assert "no longer valid" in sentence(*ask(opened, "GET", "/api/page?token=a-toke"), 403)
        assert ask(opened, "GET", "/api/page", x_token="a-token")[0].status == 200
        assert ask(opened, "GET", "/api/page?token=a-token")[0].status == 200
        pages(f"{opened.url}/?token=a-token").wait_for_selector("body[data-ready]")
        page = pages(opened.url)
        read(page, "error", "needs the whole address that 'gradcut serve' printed")


def test_a_page_that_stayed_open_is_told_of_the_new_address(pages):
    with serve({"tiny": placed(tiny())}, hosts=None, token="a-token") as opened:
        page = pages(f"{opened.url}/?token=a-token")
        page.wait_for_selector("body[data-ready]")
        port = int(opened.url.rpartition(":")[2])
    app = create_app({"tiny": placed(tiny())}, recipe="drawn", hosts=None, token="b-token")
    with Server(app, listen(port=port)):
        page.click("[data-example]")
        read(page, "error", "This address is no longer valid: the server was started again and has a new token.")
        read(page, "error", "Open the address that 'gradcut serve' printed last.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "no"}, "recipe: expected one of default"),
        ({"recipe": ["default"]}, "recipe: expected one of"),
        ({"classifier": "/etc/passwd"}, "classifier: expected one of tiny, embedded, got '/etc/passwd'"),
        ({"label": 3}, "label: expected a class's name, got '3'"),
        ({"words": ["cat"]}, "words: expected none, for tiny has classes of its own, got"),
        ({"threshold": None}, "threshold: expected a number from 0.05 to 1, got 'None'"),
        ({"threshold": 0.01}, "got '0.01'"),
        ({"threshold": True}, "got 'True'"),
        ({"foreground": "high"}, "foreground: expected a number"),
        ({"background": float("nan")}, "background: expected a number"),
        ({"strokes": []}, "strokes: expected lists"),
        ({"strokes": {"red": [{"kind": "foreground"}]}}, "strokes: expected lists"),
        ({"strokes": {"red": [{"kind": "side", "radius": 1, "points": [[1, 2]]}]}}, "kind foreground, background or"),
        ({"strokes": {"red": [{"kind": "foreground", "radius": 0, "points": [[1, 2]]}]}}, "a radius above 0"),
        ({"strokes": {"red": [{"kind": "foreground", "radius": 1, "points": [[1e999, 2]]}]}}, "finite points"),
        (
            {"strokes": {"red": [{"kind": "foreground", "radius": 99999, "points": [[0, 9], [1, 9]] * 5000}]}},
            "strokes: expected to cover the photograph at most 200 times",
        ),
        ({"label": "x" * 201}, f"label: expected a class's name, got '{60 * 'x'}'"),
        ({"foreground": 0.1, "background": 0.9}, "0 <= background <= foreground <= 1"),
        ({"label": "green"}, "tiny has no label 'green'"),
        ({"photograph": None}, "no longer has this photograph"),
    ],
)  # fmt: skip
def test_unusable_requests_are_named(server, key, changes, message):
    answer, data = ask(server, "POST", "/api/download/mask", question(key, **changes))
    assert message in sentence(answer, data, 404 if "photograph" in changes else 400)


def test_more_unusable_requests(server, key):
    assert "expected JSON" in sentence(*ask(server, "POST", "/api/segment", b"{"), 400)
    assert "expected JSON" in sentence(*ask(server, "POST", "/api/segment", 200_000 * b"["), 400)
    assert "a JSON object" in sentence(*ask(server, "POST", "/api/segment", b"[]"), 400)
    assert "limit of 4 MB" in sentence(*ask(server, "POST", "/api/segment", bytes(4_000_001)), 400)
    assert "download: expected one of mask" in sentence(*ask(server, "POST", "/api/download/exe", question(key)), 400)
    answer, data = ask(server, "POST", "/api/segment", question(key, label="green"))
    last = json.loads(data.splitlines()[-1])
    assert answer.status == 200
    assert last["state"] == "error"
    assert "no label 'green'" in last["message"]


def test_work_that_ends_an_iterator_ends_the_request():
    """Else whoever waits for it waits for ever."""
    queue = Queue(1, 4, "test")

    async def ask():
        await asyncio.wait_for(queue.result(lambda: next(iter(()))), 20)

    with ThreadPoolExecutor(1) as thread, pytest.raises(RuntimeError, match="ended an iterator"):
        thread.submit(asyncio.run, ask()).result()  # the browser's loop runs in this thread
    queue.close()


def test_what_is_seen_is_cut_at_the_size_of_a_screen_and_what_is_downloaded_at_its_own(server, monkeypatch):
    """So a stroke answers as soon on a large photograph as on a small one."""
    photograph = np.zeros((1500, 3000, 3), dtype=np.uint8)
    photograph[300:900, 300:900] = (255, 0, 0)
    sent = json.loads(ask(server, "POST", "/api/photograph", png(photograph), x_name="a.png")[1])["photograph"]
    sizes = []

    def cut(self, evidence):
        sizes.append(evidence.photograph.shape)
        return CUT(self, evidence)

    monkeypatch.setattr(Segmenter, "cut", cut)
    stroke = {"kind": "foreground", "radius": 40, "points": [[2000, 1000], [2400, 1000]]}
    body = question(sent, label="red", strokes={"red": [stroke]})
    _, data = ask(server, "POST", "/api/segment", body)
    seen = json.loads(data.splitlines()[-1])
    assert seen["state"] == "done", seen
    _, data = ask(server, "POST", "/api/download/mask", body)
    mask = np.asarray(Image.open(io.BytesIO(data))) > 0
    assert sizes == [(700, 1400, 3), (1500, 3000, 3)]
    assert mask.shape == (1500, 3000)
    assert mask[1000, 2000:2400].all()
    assert abs(mask.mean() - seen["share"]) < 0.01


CUT = Segmenter.cut


def zeros(classifier, x, targets):
    """A saliency that says nothing."""
    return 0 * CAM()(classifier, x, targets)


@pytest.fixture
def blank(monkeypatch):
    monkeypatch.setitem(RECIPES, "blank", replace(DRAWN, name="blank", saliency=zeros))


def test_a_blank_saliency_is_a_sentence_and_no_mask(server, key, blank):
    _, data = ask(server, "POST", "/api/segment", question(key, recipe="blank", label="red"))
    seen = json.loads(data.splitlines()[-1])
    assert seen["state"] == "done"
    assert "The saliency of red is blank" in seen["blank"]
    assert "another recipe" in seen["blank"]
    assert not {"mask", "seeds"} & seen.keys()
    for kind in ("mask", "labelmap"):
        answer = ask(server, "POST", f"/api/download/{kind}", question(key, recipe="blank", label="red"))
        assert "there is no mask" in sentence(*answer, 400)
    stroke = {"kind": "foreground", "radius": 4, "points": [[20, 20]]}
    painted = question(key, recipe="blank", label="red", strokes={"red": [stroke]})
    seen = json.loads(ask(server, "POST", "/api/segment", painted)[1].splitlines()[-1])
    assert "blank" not in seen
    assert seen["share"] > 0


def test_the_page_says_that_a_saliency_is_blank(blank, visit, drawn):
    page = visit()
    upload(page, png(drawn[0]))
    assert page.locator("img.mask").is_visible()
    assert page.locator("p.blank").is_hidden()
    page.select_option("#recipe", "blank")
    settle(page)
    read(page, "status", "is blank")
    assert "there is no mask" in page.inner_text("p.blank")
    assert page.locator("img.mask").is_hidden()
    assert page.locator("img.seeds").is_hidden()
    assert "no mask" in page.inner_text("#figures")
    drag(page, "foreground", (0.3, 0.3), (0.35, 0.3))
    assert page.locator("p.blank").is_hidden()
    assert page.locator("img.mask").is_visible()


def test_nothing_is_expected_of_seeds_that_were_changed(server, key):
    def confidence(**changes):
        _, data = ask(server, "POST", "/api/segment", question(key, recipe="fast", label="red", **changes))
        return json.loads(data.splitlines()[-1])["confidence"]

    assert 0 < confidence() < 1
    assert confidence(foreground=0.9, background=0.1) is None


def everywhere(classifier, x, targets):
    """A saliency that says something of each place, so that classes are in each other's way."""
    maps = CAM()(classifier, x, targets)
    return 0.5 + maps / maps.amax((1, 2), keepdim=True)


@pytest.fixture
def rivalry(server, monkeypatch):
    """A photograph of two classes, a recipe in which they compete, and the page's mask of a label."""
    recipe = replace(DRAWN, name="rivalry", saliency=Rivals(everywhere), masks=Threshold(0.3))
    monkeypatch.setitem(RECIPES, "rivalry", recipe)
    photograph = np.full((64, 64, 3), 20, np.uint8)
    photograph[4:36, 4:36] = (255, 0, 90)
    photograph[28:44, 28:44] = (90, 0, 200)
    _, data = ask(server, "POST", "/api/photograph", png(photograph), x_name="x.png")

    def mask(label, threshold):
        body = question(json.loads(data)["photograph"], label=label, threshold=threshold, recipe="rivalry")
        return np.asarray(Image.open(io.BytesIO(ask(server, "POST", "/api/download/mask", body)[1]))) > 0

    return photograph, recipe, mask


def test_the_masks_are_those_of_the_segmenter(server, rivalry):
    """Whatever was asked before, and whatever else is looked at."""
    photograph, recipe, mask = rivalry
    low, high = sorted(found.score for found in tiny().detect([photograph], 0)[0])
    assert 0.05 < low < high - 0.02
    one, run = (Segmenter(tiny(), recipe, threshold)(photograph) for threshold in ((low + high) / 2, 0.05))
    both = replace(run, objects=(*run.objects, *run.dropped))  # a run leaves out a class that has another's pixels
    (first,) = one.objects
    (second,) = {item.label for item in both} - {first.label}
    assert not np.array_equal(first.mask, both[first.label].mask), "else this test could not tell"
    Segmenter(server.page.classifiers["tiny"], recipe)(photograph)  # what is found out of a network once
    model, passes = server.page.classifiers["tiny"].model, []
    for threshold, result in (((low + high) / 2, one), (0.05, both), ((low + high) / 2, one)):
        before = model.passes
        for item in result:
            assert np.array_equal(mask(item.label, threshold), item.mask)
        passes.append(model.passes - before)
        # A class beyond them has them as rivals, by whatever spelling.
        assert np.array_equal(mask(second.upper(), threshold), both[second].mask)
        assert np.array_equal(mask(first.label, threshold), result[first.label].mask)
    assert passes == [1, 1, 0], "one pass for each set of classes"
    assert np.array_equal(mask(None, 0.99), Segmenter(tiny(), recipe)(photograph, [first.label]).objects[0].mask)


def test_a_class_with_anothers_pixels_is_shown_and_marked(server, rivalry):
    photograph, recipe, _ = rivalry
    (borrowed,) = Segmenter(tiny(), recipe, 0.05)(photograph).dropped
    _, data = ask(server, "POST", "/api/photograph", png(photograph), x_name="x.png")
    body = question(json.loads(data)["photograph"], label=borrowed.label, threshold=0.05, recipe="rivalry")
    document = json.loads(ask(server, "POST", "/api/segment", body)[1].splitlines()[-1])
    marks = {entry["label"]: entry["unsure"] for entry in document["classes"] if entry["found"]}
    assert marks[borrowed.label] == f"most of its pixels are those of {borrowed.borrowed_from}"
    assert not marks[borrowed.borrowed_from]
    assert document["share"] == pytest.approx(borrowed.mask.mean())


def test_a_class_below_the_threshold_has_the_detected_ones_as_rivals(server):
    """The page looks at any class; what it looks at is what is downloaded."""
    photograph = np.zeros((64, 64, 3), np.uint8)
    photograph[8:24, 8:24] = (255, 0, 0)
    photograph[40:48, 40:48] = (0, 0, 200)
    _, data = ask(server, "POST", "/api/photograph", png(photograph), x_name="x.png")
    body = question(json.loads(data)["photograph"], label="blue", threshold=0.9)
    _, data = ask(server, "POST", "/api/download/mask", body)
    mask = np.asarray(Image.open(io.BytesIO(data))) > 0
    segment = Segmenter(tiny(), DRAWN, threshold=0.9)
    assert "blue" not in [item.label for item in segment(photograph).objects]
    assert mask.any()
    detected = [item.label for item in segment(photograph).objects]
    assert np.array_equal(mask, segment(photograph, [*detected, "blue"])["blue"].mask)


def test_uploads_have_limits_and_leave_no_file(drawn, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serve({"tiny": tiny()}, limits=Limits(megabytes=0.01, megapixels=0.01)) as server:
        answer, data = ask(server, "POST", "/api/photograph", bytes(10_001), x_name="x.png")
        assert "x.png: the file is larger than the limit of 0.01 MB" in sentence(answer, data, 400)

        def endless():
            for _ in range(3):
                yield bytes(4000)

        answer, data = ask(server, "POST", "/api/photograph", endless(), transfer_encoding="chunked")
        assert "larger than the limit" in sentence(answer, data, 400)
        large = png(np.zeros((101, 100, 3), dtype=np.uint8))
        assert "100 x 101 pixels" in sentence(*ask(server, "POST", "/api/photograph", large), 400)
        answer, data = ask(server, "POST", "/api/photograph", png(drawn[0]), x_name="..%2F..%2Fetc%2Fa%22b%0A.png")
        assert json.loads(data)["name"] == 'a"b\n.png'
        body = question(json.loads(data)["photograph"])
        for kind in ("mask", "labelmap", "coco", "label-studio"):
            answer, data = ask(server, "POST", f"/api/download/{kind}", body)
            assert answer.status == 200
            assert str(tmp_path).encode() not in data
            assert "/" not in answer.getheader("content-disposition").removeprefix("attachment")
    assert list(tmp_path.iterdir()) == [], "photographs stay in memory, and what an export wrote is gone"


def test_what_an_upload_is_called_is_no_path_on_the_server(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(drawn[0]).save("x.png", exif=exif)
    with serve({"tiny": tiny()}) as server:
        _, data = ask(server, "POST", "/api/photograph", png(drawn[0]), x_name="x.png")
        body = question(json.loads(data)["photograph"])
        _, data = ask(server, "POST", "/api/download/label-studio", body)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.namelist() == ["config.xml", "tasks.json"]
            assert json.loads(archive.read("tasks.json"))[0]["data"]["image"] == "x.png"
        (image,) = json.loads(ask(server, "POST", "/api/download/coco", body)[1])["images"]
        assert image["file_name"] == "x.png"


def kept(tab, side=10, used=None):
    one = Upload(tab, "x", *[np.zeros((side, side, 3), dtype=np.uint8)] * 2, b"")
    one.used = time.monotonic() if used is None else used
    return one


def test_the_shelf_forgets():
    now = time.monotonic()
    shelf = Shelf(Limits(photographs=2))
    first, second, third = (shelf.put(kept("a" * 40, used=now + number)) for number in range(3))
    other = shelf.put(kept("b" * 40, used=now - 60))
    assert len(shelf) == 3
    with pytest.raises(gradcut.GradcutError, match="no longer"):
        shelf.get("a" * 40, first)
    assert shelf.get("a" * 40, second).tab == "a" * 40
    with pytest.raises(gradcut.GradcutError, match="no longer"):
        shelf.get("b" * 40, third)
    shelf.forget("a" * 40)
    assert len(shelf) == 1
    assert shelf.get("b" * 40, other)
    old = Shelf(Limits(minutes=1))
    old.put(kept("a" * 40, used=now - 61))
    assert len(old) == 0
    small = Shelf(Limits(gigabytes=1000e-9))
    early = small.put(kept("a" * 40, used=now - 1))
    late = small.put(kept("b" * 40, side=40))
    assert small.get("b" * 40, late), "the newest stays, whatever its size"
    with pytest.raises(gradcut.GradcutError, match="no longer"):
        small.get("a" * 40, early)


def test_who_leaves_the_queue_is_not_served():
    queue, served, go = Queue(1, 5, "test"), [], threading.Event()

    async def scene():
        first = asyncio.create_task(queue.result(lambda: (go.wait(10), served.append(1))))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(queue.result(lambda: served.append(2)))
        third = asyncio.create_task(queue.result(lambda: served.append(3)))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(first, third)

    with ThreadPoolExecutor() as pool:  # Playwright keeps a loop of its own on this thread
        pool.submit(asyncio.run, scene()).result()
    queue.close()
    assert served == [1, 3]


def test_a_later_stroke_covers_an_earlier_one():
    seeds = rasterise([Stroke("foreground", 3, [(2, 5), (18, 5)]), Stroke("background", 2, [(10, 5)])], (11, 21))
    assert seeds.background[5, 10]
    assert not seeds.foreground[5, 10]
    assert seeds.foreground[5, [3, 17]].all()
    assert not (seeds.foreground & seeds.background).any()
    assert Query.parse(json.loads(question("x")), {"tiny": tiny()}).strokes == {}


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_serves_on_loopback(capsys, monkeypatch):
    servers = []

    class Recorded(Server):
        def run(self):
            servers.append(self)
            super().run()

    monkeypatch.setattr("gradcut.web.Server", Recorded)
    command = typer.main.get_command(app)
    thread = threading.Thread(target=command, args=(["serve", "--port", "0", "--max-megapixels", "0.001"], "gradcut"),
                              kwargs={"standalone_mode": False})  # fmt: skip
    thread.start()
    printed = ""
    while not printed.endswith("\n"):
        assert thread.is_alive()
        time.sleep(0.05)
        printed += capsys.readouterr().out
    (server,) = servers
    try:
        assert printed.strip() == server.url
        assert server.url.startswith("http://127.0.0.1:")
        _, data = ask(server, "GET", "/api/page")
        assert [one["name"] for one in json.loads(data)["classifiers"]] == ["coco80", "embedded"]
        answer, data = ask(server, "POST", "/api/photograph", png(np.zeros((50, 50, 3), dtype=np.uint8)))
        assert "more than the limit of 1,000" in sentence(answer, data, 400)
        sentence(*ask(server, "GET", "/", host="evil.example"), 421)
        taken = server.url.rpartition(":")[2]
        monkeypatch.setattr(sys, "argv", ["gradcut", "serve", "--port", taken])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith("gradcut: host, port: cannot listen on 127.0.0.1:")
        assert told.count("\n") == 1
    finally:
        server.stop()
        thread.join(10)


def test_the_command_names_what_is_missing(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("gradcut.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(gradcut, "web")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(sys, "argv", ["gradcut", "serve"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "uvicorn is missing; pip install 'gradcut[web]'" in capsys.readouterr().err

"""The hands of an annotator on the page of a run: every tool, by mouse, keys, fingers and pen."""

from __future__ import annotations

import json

import pytest
from desks import legend, saved, shown, state, stroke

from gradcut.runs import corrections


def opened(page, name="a", chosen="red"):
    page.locator(f"#strip button[title={name}]").click()
    shown(page, name)
    page.click(f".class[data-label={chosen}]")


def click(page, *points):
    box = page.locator("#strokes").bounding_box()
    for x, y in points:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def picture(page):
    return page.locator("#masks").evaluate("canvas => canvas.toDataURL()")


def painted(label):
    return lambda correction: label in correction.painted


def test_polygon_box_and_eraser(desk, run):
    page = desk()
    opened(page)
    page.click("label[for=polygon]")
    click(page, (0.7, 0.05), (0.95, 0.05), (0.5, 0.5))
    page.keyboard.press("Backspace")
    click(page, (0.95, 0.2), (0.7, 0.2))
    page.keyboard.press("Enter")
    page.keyboard.press("p")  # once more is the background
    click(page, (0.05, 0.8), (0.2, 0.8))
    box = page.locator("#strokes").bounding_box()
    page.mouse.dblclick(box["x"] + 0.2 * box["width"], box["y"] + 0.95 * box["height"])
    page.keyboard.press("c")
    stroke(page, (0.02, 0.02), (0.98, 0.7))
    page.keyboard.press("e")
    assert page.locator("#ring").is_visible()
    stroke(page, (0.72, 0.07), (0.9, 0.07))
    page.keyboard.press("p")
    click(page, (0.3, 0.9), (0.4, 0.9))
    page.keyboard.press("Escape")
    strokes = saved(page, run, "a", lambda correction: len(correction.strokes.get("red", ())) == 4).strokes["red"]
    kinds = [(drawn.kind, drawn.shape, len(drawn.points)) for drawn in strokes[:3]]
    assert kinds == [("foreground", "polygon", 4), ("background", "polygon", 3), ("background", "box", 2)]
    assert strokes[0].points[2] == pytest.approx((0.95 * 64, 0.2 * 64), abs=0.3)
    assert (strokes[3].kind, strokes[3].shape) == ("erase", "line")
    for _ in range(3):
        page.keyboard.press("z")
    saved(page, run, "a", lambda correction: len(correction.strokes["red"]) == 1)
    assert page.is_enabled("#redo")


def test_regions_are_given_filled_and_compared_with_what_the_run_had(desk, run):
    page = desk()
    opened(page)
    before = picture(page)
    page.keyboard.press("g")
    click(page, (18 / 64, 20 / 64))
    page.locator("#menu").get_by_text("blue").click()
    page.locator(".class[data-label=red]").wait_for(state="detached")
    assert legend(page) == [["blue", ""]]
    page.keyboard.press("z")
    page.click("[aria-label='More about red']")
    page.locator("#menu input").fill("a truck, or two")
    page.keyboard.press("Enter")
    page.locator(".class[data-label='a truck, or two'] small", has_text="by hand").wait_for()
    page.locator(".class[data-label=red]").wait_for(state="detached")
    page.keyboard.press("k")
    page.locator("#status", has_text="There is no crumb in a truck, or two.").wait_for()
    page.keyboard.press("z")
    page.keyboard.press("h")
    page.locator("#status", has_text="There is no hole in a truck, or two.").wait_for()
    kept = saved(page, run, "a", lambda correction: len(correction.edits) == 2)
    assert [(edit.kind, edit.label, edit.to, edit.at) for edit in kept.edits] == [
        ("give", "red", "a truck, or two", None), ("fill", "a truck, or two", None, None),
    ]  # fmt: skip
    assert set(kept.accepted) == {"blue", "a truck, or two"}
    assert json.loads((run / "corrected/classes.json").read_text()) == ["a truck, or two"]

    now = picture(page)
    page.keyboard.down("v")
    page.locator("#before[aria-pressed=true]").wait_for()
    assert picture(page) not in (now, before), "red is there, and not chosen"
    page.keyboard.up("v")
    assert picture(page) == now
    page.keyboard.press(
        "ArrowRight" if page.locator("#strip button").first.get_attribute("title") == "a" else "ArrowLeft"
    )
    page.locator("body:not([data-shown=a])[data-shown]").wait_for()
    opened(page, chosen="'a truck, or two'")
    assert picture(page) == now, "as it was saved"
    page.click("[aria-label='Remove a truck, or two']")
    page.locator(".class[data-label=red]").wait_for()
    page.click("#untouch")
    state(page, "untouched")


def test_a_class_of_any_name_is_painted_and_removed(desk, run):
    page = desk()
    opened(page)
    page.keyboard.press("n")
    page.keyboard.type("Griff (links)")
    page.click("#paint")
    page.locator(".class[data-label='Griff (links)'][aria-pressed=true] small", has_text="paint it").wait_for()
    page.keyboard.press("o")
    stroke(page, (0.8, 0.1), (0.9, 0.12))
    page.locator(".class[data-label='Griff (links)'] small", has_text="by hand").wait_for()
    kept = saved(page, run, "a", lambda correction: "Griff (links)" in correction.accepted)
    assert (kept.painted, kept.added) == (("Griff (links)",), ())
    # What the classifier does not know it cannot find, and says so; one goes on from before.
    page.keyboard.press("n")
    page.keyboard.type("unicorn")
    page.keyboard.press("Enter")
    page.locator("#error", has_text="Paint takes any name").wait_for()
    assert page.locator(".class[aria-pressed=true]").get_attribute("data-label") == "Griff (links)"
    page.fill("#another", "GRIFF (links)")
    page.click("#paint")  # is there already
    assert page.locator("#legend li").count() == 3
    page.keyboard.press("x")
    page.locator(".class[data-label='Griff (links)']").wait_for(state="detached")
    assert page.is_hidden("#error")
    state(page, "untouched")
    assert corrections.read(run, "a").painted == ()


def test_by_keyboard_alone(desk, run):
    page = desk()
    opened(page)
    page.keyboard.press("o")
    page.focus("#strokes")
    for key in ("ArrowRight", "Shift+ArrowUp", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Space"):
        page.keyboard.press(key)
    page.keyboard.press("p")
    for key in ("Space", "Shift+ArrowDown", "Space", "Shift+ArrowLeft", "Space", "Enter"):
        page.keyboard.press(key)
    page.keyboard.press("c")
    for key in ("Space", "Shift+ArrowUp", "Shift+ArrowRight", "Space"):
        page.keyboard.press(key)
    strokes = saved(page, run, "a", lambda correction: len(correction.strokes.get("red", ())) == 3).strokes["red"]
    assert [drawn.shape for drawn in strokes] == ["line", "polygon", "box"]
    assert strokes[0].points[0] == pytest.approx((32 + 0.012 * 64, 32 - 0.06 * 64), abs=0.1)
    assert strokes[0].points[-1][0] == pytest.approx(32 + 0.132 * 64, abs=0.1)
    page.keyboard.press("g")
    for key in (*["Shift+ArrowDown"] * 3, "Space"):
        page.keyboard.press(key)
    page.locator("#menu button:focus", has_text="red").wait_for()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "nothing, background"
    page.keyboard.press("Escape")
    page.locator("#menu").wait_for(state="hidden")
    assert page.locator("body").get_attribute("data-shown") == "a", "the arrow keys moved the cursor"


PEN = """(canvas, [type, pointerType, id, buttons, button, ...points]) => {
    const box = canvas.getBoundingClientRect();
    points.forEach(([x, y], number) => {
        const kinds = [number ? null : "pointerdown", "pointermove", number + 1 < points.length ? null : "pointerup"];
        for (const kind of kinds.filter(Boolean)) canvas.dispatchEvent(new PointerEvent(kind, {
            pointerType, pointerId: id, buttons, button, bubbles: true, cancelable: true, isPrimary: true,
            clientX: box.left + x * box.width, clientY: box.top + y * box.height,
        }));
    });
}"""


def test_a_pen_paints_its_other_end_erases_and_the_hand_that_holds_it_does_not(desk, run):
    page = desk(width=390, height=844, has_touch=True)
    opened(page)
    page.locator("label[for=foreground]").click()
    page.locator("#strokes").evaluate(PEN, ["", "touch", 7, 1, 0, [0.7, 0.1], [0.9, 0.1]])
    page.locator("#strokes").evaluate(PEN, ["", "pen", 8, 1, 0, [0.7, 0.2], [0.9, 0.2]])
    page.locator("#strokes").evaluate(PEN, ["", "pen", 8, 32, 5, [0.7, 0.1], [0.8, 0.1]])
    page.keyboard.press("+")
    page.keyboard.press("+")
    before = page.locator("#strokes").bounding_box()
    page.locator("#strokes").evaluate(PEN, ["", "touch", 7, 1, 0, [0.5, 0.5], [0.4, 0.45]])
    after = page.locator("#strokes").bounding_box()
    assert after["x"] < before["x"] - 20, "a finger moves the photograph, once a pen was seen"
    strokes = saved(page, run, "a", lambda correction: len(correction.strokes.get("red", ())) == 3).strokes["red"]
    assert [drawn.kind for drawn in strokes] == ["foreground", "foreground", "erase"]
    assert strokes[2].points[0] == pytest.approx((0.7 * 64, 0.1 * 64), abs=0.5)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_photograph_is_as_large_as_the_window_allows(desk, width, height):
    page = desk(width=width, height=height)
    opened(page)
    stage = page.locator("#stage").bounding_box()
    assert stage["width"] > 370 if width == 390 else stage["height"] > 0.76 * height
    assert stage["x"] >= 0
    assert stage["x"] + stage["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#help")
    keys = page.locator("#keys").bounding_box()
    assert keys["x"] >= 0
    assert keys["x"] + keys["width"] <= width
    for label in page.locator(".rail kbd").all_inner_texts():
        assert page.locator("#keys dt kbd", has_text=label).count(), label
    page.keyboard.press("Escape")
    page.click("[aria-label='More about red']")
    page.locator("#menu").wait_for()
    menu = page.locator("#menu").bounding_box()
    assert menu["x"] >= 0
    assert menu["x"] + menu["width"] <= width
    assert menu["y"] + menu["height"] <= height
    page.keyboard.press("Escape")
    page.locator("#menu").wait_for(state="hidden")  # while it is there, keys are its own
    page.keyboard.press("u")
    outlined = picture(page)
    page.keyboard.press("u")
    assert picture(page) != outlined
    page.keyboard.press("m")
    assert page.locator("#masks").evaluate("canvas => canvas.style.opacity") == "0"
    page.select_option("#order", "name")
    page.click("label[for=box]")
    page.keyboard.press("ArrowRight")  # chooses no other tool
    shown(page, "b")
    assert page.is_checked("#box")

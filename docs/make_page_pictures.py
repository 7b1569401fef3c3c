"""page-desktop.png and page-phone.png, the screenshots in README.md and web.md.

    python docs/make_page_pictures.py

Needs `gradcut[web]`, Playwright's Python package and a Chromium.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from gradcut import load_classifier
from gradcut.listening import listen
from gradcut.web import Server, create_app

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def settle(page: Page) -> None:
    page.wait_for_selector("#result[aria-busy=false]")


def stroke(page: Page, tool: str, points: list[tuple[float, float]]) -> None:
    """Drag over the mask; points as shares of its width and height."""
    page.locator(f"label[for={tool}]").click()
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    settle(page)


def main(folder: Path) -> None:
    app = create_app({"embedded": load_classifier("embedded")})
    with Server(app, listen(port=0)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, size, scheme, touch in (
            ("page-desktop", (1280, 800), "light", False),
            ("page-phone", (390, 844), "dark", True),
        ):
            context = browser.new_context(
                viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=touch, is_mobile=touch
            )
            context.set_default_timeout(120_000)
            page = context.new_page()
            page.goto(server.url)
            page.click("#example")
            settle(page)
            stroke(page, "foreground", [(0.35, 0.62), (0.36, 0.7)])
            stroke(page, "background", [(0.6, 0.72), (0.64, 0.76)])
            if not touch:
                page.select_option("#compare", "simonyan")
                settle(page)
            page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
            shot = folder / f"{name}.png"
            page.screenshot(path=shot, full_page=True)
            # A palette of 256 colours is enough for a page, and a fifth of the size. An octree keeps rare colours.
            picture = Image.open(shot).convert("RGB")
            palette = picture.quantize(256, Image.Quantize.FASTOCTREE)
            picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(shot, optimize=True)
            print(shot)
            context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(__file__).parent)

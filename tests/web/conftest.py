"""A real browser for the tests of the page. No request may leave loopback."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright's Python package")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def fingers():
    """Touches a page at places of a box, as shares of its width and height."""

    def on(page, box):
        touches = page.context.new_cdp_session(page)

        def touch(kind, *places):
            points = [
                {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": number}
                for number, (x, y) in enumerate(places)
            ]
            touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        return touch

    return on


@pytest.fixture
def pages(browser):
    """Opens an address as somebody new; at the end, nobody has sent anything off loopback or met a script error."""
    hosts, failures, contexts = set(), [], []

    def open_page(url, width=1280, height=800, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        contexts.append(context)
        context.set_default_timeout(60000)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or urlsplit(request.url).scheme))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert hosts <= {"127.0.0.1", "data", "blob"}
    assert "127.0.0.1" in hosts
    assert failures == []


@pytest.fixture
def run(tmp_path, drawn):
    from desks import write_run  # imports gradcut, and so not before it is checked

    return write_run(tmp_path, drawn)


@pytest.fixture
def desk(pages, run):
    """The page of the run, opened."""
    from desks import segmenter

    from gradcut.listening import listen

    web = pytest.importorskip("gradcut.web", reason="needs gradcut[web]")
    asked = segmenter()
    app = web.create_app({"brightness": asked.classifier}, run=(str(run), asked))
    with web.Server(app, listen(port=0)) as server:

        def open_page(**options):
            page = pages(server.url, **options)
            page.wait_for_selector("body[data-ready]")
            return page

        yield open_page

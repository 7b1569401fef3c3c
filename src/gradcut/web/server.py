"""The web page: see a mask, correct it, take it home. Starlette and hand-written HTML; nothing comes from outside.

A browser tab draws a random key and sends it with every request; what it uploads is kept in memory under that key,
never written to a file, and forgotten when the tab closes, after a while, or when newer photographs need the room.
The server keeps photographs and saliency only: strokes and sliders come with each request, so nothing here is
edited, and undo is the browser's own affair.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradcut import images, results
from gradcut.classifiers.classifier import Classifier
from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.recipes import RECIPES, Recipe
from gradcut.results import Segmentation
from gradcut.seeds import Fractions, Percentiles
from gradcut.segmenter import Evidence, Segmenter
from gradcut.web.state import BusyError, GoneError, Kept, Limits, Line, Shelf
from gradcut.web.view import DOWNLOADS, FLOOR, Asked, cut, preview, select, view, wrong

PAGE = Path(__file__).parent / "page"

#: What a browser may call a server by that listens on loopback.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

log = logging.getLogger(__name__)


# The server ----------------------------------------------------------------------------------------------------------


class Page:
    """One server's state, and its answers.

    Args:
        classifiers: that the page's menu offers, by name.
    """

    def __init__(self, classifiers: Mapping[str, Classifier], recipe: str, limits: Limits) -> None:
        self.classifiers = classifiers
        self.recipe = recipe
        self.limits = limits
        self.shelf = Shelf(limits)
        # One model at a time: two would only slow each other down, and need twice the memory.
        self.network = Line(1, limits.waiting, "gradcut-network")
        self.pixels = Line(max(2, os.cpu_count() or 1), limits.waiting, "gradcut-pixels")
        self.uploading = 0

    async def info(self, request: Request) -> Response:
        """What the menus offer."""
        return JSONResponse(
            {
                "recipe": self.recipe,
                "recipes": [
                    {"name": name, "summary": recipe.summary, "seeds": _seed_slider(recipe)}
                    for name, recipe in RECIPES.items()
                ],
                "classifiers": [
                    {"name": name, "summary": _summary(one), "labels": one.labels, "threshold": one.threshold or 0.5}
                    for name, one in self.classifiers.items()
                ],
                "downloads": [{"kind": kind, "name": name} for kind, (name, *_) in DOWNLOADS.items()],
                "megabytes": self.limits.megabytes,
                "floor": FLOOR,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take a photograph: the request's body is the file."""
        tab = _tab(request)
        name = PurePosixPath(unquote(request.headers.get("x-name", "")).replace("\\", "/")).name[:200] or "photograph"
        if self.uploading >= self.limits.waiting:
            raise BusyError("Too many photographs are being sent at once; try again in a minute.")
        self.uploading += 1
        try:
            data = await self._body(request, int(self.limits.megabytes * 1e6), f"{name}: the file")
        finally:
            self.uploading -= 1
        limit = int(self.limits.megapixels * 1e6)
        return await self._keep(tab, name, lambda: images.decode(data, name, limit))

    async def example(self, request: Request) -> Response:
        """Take the photograph of an espresso that comes with scikit-image."""
        from skimage.data import coffee

        return await self._keep(_tab(request), "espresso.png", coffee)

    async def _keep(self, tab: str, name: str, read: Callable[[], Photograph]) -> Response:
        def work() -> Kept:
            photograph = read()
            return Kept(tab, name, photograph, preview(photograph))

        kept = await self.pixels.result(work)
        height, width = kept.photograph.shape[:2]
        return JSONResponse({"photograph": self.shelf.put(kept), "name": name, "width": width, "height": height})

    async def photograph(self, request: Request) -> Response:
        kept = self.shelf.get(_tab(request), request.path_params["key"])
        return Response(kept.preview, media_type="image/jpeg")

    async def forget(self, request: Request) -> Response:
        self.shelf.forget(_tab(request))
        return Response(status_code=204)

    async def segment(self, request: Request) -> Response:
        """News, one JSON document a line; the last one has the state ``done`` or ``error``."""
        kept, asked = await self._asked(request)

        async def lines() -> AsyncIterator[str]:
            try:
                async for news in self._work(kept, asked, view):
                    yield json.dumps(news) + "\n"
            except GradcutError as error:
                yield json.dumps({"state": "error", "message": str(error)}) + "\n"
            except Exception:
                log.exception("a request failed")
                yield json.dumps({"state": "error", "message": _FAILED}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def download(self, request: Request) -> Response:
        kept, asked = await self._asked(request)
        kind = request.path_params["kind"]
        if kind not in DOWNLOADS:
            wrong("download", f"one of {', '.join(DOWNLOADS)}", kind)
        _, ending, media_type, write = DOWNLOADS[kind]
        (stem,) = results.filenames([PurePosixPath(kept.name).stem])

        def finish(evidence: Evidence, result: Segmentation, asked: Asked) -> dict[str, Any]:
            label = asked.label or result.objects[0].label
            found = next(o for o in result.objects if o.label == label)
            name = f"{stem}-{results.filenames([label])[0]}{ending}" if kind == "mask" else stem + ending
            return {"name": name, "data": write(replace(result, source=kept.name), found, kept.name)}

        document: dict[str, Any] = {}
        async for news in self._work(kept, asked, finish):
            document = news
        name = document["name"].encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")
        return Response(
            document["data"],
            media_type=media_type,
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    async def _asked(self, request: Request) -> tuple[Kept, Asked]:
        tab = _tab(request)
        try:
            document = json.loads(await self._body(request, 4_000_000, "The request"))
        except ValueError as error:
            if isinstance(error, GradcutError):
                raise
            raise GradcutError("request: expected JSON") from None
        asked = Asked.parse(document, self.classifiers)
        return self.shelf.get(tab, document.get("photograph")), asked

    async def _work(
        self, kept: Kept, asked: Asked, finish: Callable[[Evidence, Segmentation, Asked], dict[str, Any]]
    ) -> AsyncIterator[dict[str, Any]]:
        """News while the line moves; at last what ``finish`` makes of the result."""
        segmenter = asked.segmenter(self.classifiers)
        first = None
        async for news in self._evidence(kept, asked, segmenter, None):
            first = news if isinstance(news, Evidence) else first
            if not isinstance(news, Evidence):
                yield news
        assert first is not None
        evidence = select(first, asked)
        if evidence is None:
            label = asked.label or first.best[0].label
            async for news in self._evidence(kept, asked, segmenter, label):
                evidence = news if isinstance(news, Evidence) else evidence
                if not isinstance(news, Evidence):
                    yield news
        assert evidence is not None
        chosen = evidence

        def work() -> dict[str, Any]:
            return {"state": "done"} | finish(first, cut(segmenter, chosen, asked), asked)

        async for moved in self.pixels.run(work):
            yield moved.result() if isinstance(moved, Future) else {"state": "cutting", "ahead": moved}

    async def _evidence(
        self, kept: Kept, asked: Asked, segmenter: Segmenter, label: str | None
    ) -> AsyncIterator[dict[str, Any] | Evidence]:
        """What the network says: kept from before, or asked for now."""
        key = (asked.classifier, asked.recipe.name, label)
        if key not in kept.evidence:

            def work() -> Evidence:
                return segmenter.explain([kept.photograph], None if label is None else [label])[0]

            async for moved in self.network.run(work):
                if isinstance(moved, Future):
                    while len(kept.evidence) >= 12:
                        kept.evidence.pop(next(iter(kept.evidence)), None)
                    kept.evidence[key] = moved.result()
                    break
                yield {"state": "waiting" if moved else "asking", "ahead": moved}
        yield kept.evidence[key]

    async def _body(self, request: Request, limit: int, what: str) -> bytes:
        """The request's body, in memory.

        Raises:
            GradcutError: it is longer than ``limit`` bytes, or takes more than a minute.
        """
        too_long = GradcutError(f"{what} is larger than the limit of {limit / 1e6:g} MB.")
        try:
            if int(request.headers.get("content-length", 0)) > limit:
                raise too_long
            data = bytearray()
            async with asyncio.timeout(60):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > limit:
                        raise too_long
        except TimeoutError:
            raise GradcutError(f"{what} did not arrive within a minute.") from None
        return bytes(data)

    def close(self) -> None:
        self.network.close()
        self.pixels.close()


_FAILED = "The server failed on this request; the terminal that runs 'gradcut serve' says why."


def _tab(request: Request) -> str:
    """The tab's key. A page of another origin cannot send this header without being let in."""
    tab = request.headers.get("x-tab", "")
    if len(tab) < 32:
        raise GradcutError("The request has no tab's key; reload the page.")
    return tab


def _seed_slider(recipe: Recipe) -> dict[str, Any] | None:
    """How the page's seed sliders stand for a recipe; None where it has none."""
    rule = recipe.seeds
    if isinstance(rule, Percentiles):
        return {"unit": "percentile", "top": 100, "foreground": rule.foreground, "background": rule.background}
    if isinstance(rule, Fractions):
        return {"unit": "of the maximum", "top": 1, "foreground": rule.foreground, "background": rule.background}
    return None


def _summary(classifier: Classifier) -> str:
    height, width = classifier.size
    several = "any number in a photograph" if classifier.multilabel else "one for a photograph"
    return f"{len(classifier.labels)} classes, {several}; looks at {width} x {height} pixels"


def create_app(
    classifiers: Mapping[str, Classifier],
    recipe: str = "default",
    limits: Limits | None = None,
    hosts: Collection[str] | None = LOOPBACK,
) -> Starlette:
    """The page as an ASGI application.

    Args:
        classifiers: that the menu offers, by name; the first is chosen at the start.
        recipe: chosen at the start.
        hosts: names that a browser may call the server by; None allows any. Other sites' pages cannot reach a
            server on loopback by pointing a name of their own at it.
    """
    page = Page(classifiers, recipe, limits or Limits())
    routes = [
        *(Route(path, _static(*file)) for path, file in _FILES.items()),
        Route("/api/page", page.info),
        Route("/api/photograph", page.upload, methods=["POST"]),
        Route("/api/example", page.example, methods=["POST"]),
        Route("/api/photograph/{key}", page.photograph),
        Route("/api/photographs", page.forget, methods=["DELETE"]),
        Route("/api/segment", page.segment, methods=["POST"]),
        Route("/api/download/{kind}", page.download, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        GradcutError: _sentence, HTTPException: _sentence, ClientDisconnect: _sentence, Exception: _sentence,
    }  # fmt: skip
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.add_middleware(Guard, hosts=hosts)
    app.state.page = page
    return app


_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def _static(name: str, media_type: str) -> Callable[[Request], Any]:
    text = (PAGE / name).read_text(encoding="utf-8")

    async def answer(request: Request) -> Response:
        return Response(text, media_type=media_type)

    return answer


async def _sentence(request: Request, error: Exception) -> Response:
    """An error as a sentence for the page. What is not the user's doing is told in the terminal only."""
    status = {GoneError: 404, BusyError: 503, HTTPException: getattr(error, "status_code", 500)}.get(type(error), 400)
    if isinstance(error, GradcutError):
        message = str(error)
    elif isinstance(error, HTTPException):
        message = f"The server has no such page ({error.detail})."
    else:
        status, message = 500, _FAILED
    return JSONResponse({"message": message}, status)


class Guard:
    """Refuses unknown host names, and adds the headers that keep the page to itself."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.hosts is not None and name not in self.hosts:
            refused = JSONResponse({"message": "This server answers to its own address only."}, 421)
            await refused(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)


_HEADERS = [
    (b"content-security-policy",
     b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
     b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]  # fmt: skip


class Server:
    """A page on an address. `run` serves until it is stopped; as a context manager it serves on a thread.

    Args:
        port: 0 takes any free one; `url` tells which.

    Raises:
        GradcutError: the address cannot be used.
    """

    def __init__(self, app: Starlette, host: str = "127.0.0.1", port: int = 7860) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            raise GradcutError(f"host, port: cannot listen on {host}:{port}: {error}") from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        self.page: Page = app.state.page
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.page.close()

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(10)

    def stop(self) -> None:
        """Make `run` return soon."""
        self._server.should_exit = True

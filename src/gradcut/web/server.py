"""The web page: see a mask, correct it, take it home. Starlette and hand-written HTML; nothing comes from outside.

A browser tab draws a random key and sends it with every request; what it uploads is kept in memory under that key,
never written to a file, and forgotten when the tab closes, after a while, or when newer photographs need the room.
The server keeps photographs and saliency only: strokes and sliders come with each request, so nothing here is
edited, and undo is the browser's own affair.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gradcut.classifiers.classifier import Classifier
from gradcut.errors import GradcutError
from gradcut.listening import url
from gradcut.segmenter import Segmenter
from gradcut.web.desk import Desk
from gradcut.web.endpoints import Page
from gradcut.web.guard import CONNECTIONS, Guard, Protocol, sentence
from gradcut.web.state import Limits

PAGE = Path(__file__).parent / "page"

#: What a browser may call a server by that listens on loopback.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def create_app(
    classifiers: Mapping[str, Classifier],
    recipe: str = "default",
    limits: Limits | None = None,
    hosts: Collection[str] | None = LOOPBACK,
    run: tuple[str, Segmenter] | None = None,
    token: str | None = None,
    framed_by: str | None = None,
) -> Starlette:
    """The page as an ASGI application.

    Args:
        classifiers: that the menu offers, by name; the first is chosen at the start.
        recipe: chosen at the start.
        hosts: names that a browser may call the server by; None allows any. Other sites' pages cannot reach a
            server on loopback by pointing a name of their own at it.
        run: the folder of a finished run, and the segmenter that it was made with: the page then goes through it.
        token: which everything but the page's own files asks for, in the header ``x-token`` or in the address; None
            asks for none.
        framed_by: the address of a site whose pages may show this one in a frame; by default none may.

    Raises:
        GradcutError: that is none.
    """
    if framed_by is not None and not re.fullmatch(r"https?://[\w.-]+(:\d+)?", framed_by, re.ASCII):
        raise GradcutError(f"framed_by: expected an address such as https://example.org, got {framed_by!r}")
    page = Page(classifiers, recipe, limits or Limits())
    routes = [
        *_files("index.html" if run is None else "run.html"),
        Route("/api/page", page.info),
        Route("/api/photograph", page.upload, methods=["POST"]),
        Route("/api/example/{name}", page.example, methods=["GET", "POST"]),
        Route("/api/photograph/{key}", page.photograph),
        Route("/api/photographs", page.forget, methods=["DELETE"]),
        Route("/api/segment", page.segment, methods=["POST"]),
        Route("/api/download/{kind}", page.download, methods=["POST"]),
    ]
    if run is not None:
        desk = Desk(*run, page.shelf, page.network, page.pixels)
        routes += [
            Route("/api/run", desk.info),
            Route("/api/run/thumbnail/{name:path}", desk.thumbnail),
            Route("/api/run/open", desk.open, methods=["POST"]),
            Route("/api/run/prepare", desk.prepare, methods=["POST"]),
            Route("/api/run/look", desk.look, methods=["POST"]),
            Route("/api/run/save", desk.save, methods=["POST"]),
        ]
    handlers: dict[Any, Any] = {
        GradcutError: sentence, HTTPException: sentence, ClientDisconnect: sentence, Exception: sentence,
    }  # fmt: skip
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.add_middleware(Guard, hosts=hosts, token=token, framed_by=framed_by)
    app.state.page = page
    return app


#: Of the page's own files, by how their names end.
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}


def _files(first: str) -> list[Route]:
    """The page's own files, read once: the first under "/", style sheets and scripts by their names."""
    paths = [path for path in sorted(PAGE.rglob("*")) if path.suffix in _MEDIA_TYPES]
    return [
        Route("/", _static(PAGE / first, "text/html")),
        *(Route(f"/{path.relative_to(PAGE).as_posix()}", _static(path, _MEDIA_TYPES[path.suffix])) for path in paths),
    ]


def _static(path: Path, media_type: str) -> Callable[[Request], Any]:
    text = path.read_text(encoding="utf-8")

    async def answer(request: Request) -> Response:
        return Response(text, media_type=media_type)

    return answer


class Server:
    """A page at an address. `run` serves until it is stopped; as a context manager it serves on a thread.

    Args:
        listening: as `gradcut.listening.listen` makes it; it is closed at the end.
    """

    def __init__(self, app: Starlette, listening: socket.socket) -> None:
        self._socket, self.url = listening, url(listening)
        self.page: Page = app.state.page
        config = uvicorn.Config(
            app, http=Protocol, log_level="warning", access_log=False, timeout_graceful_shutdown=2,
            limit_concurrency=CONNECTIONS,
        )  # fmt: skip
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

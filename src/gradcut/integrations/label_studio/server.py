"""The backend's addresses, as Label Studio calls them: ``/health``, ``/setup``, ``/predict`` and ``/webhook``."""

from __future__ import annotations

import base64
import logging
import secrets
from collections.abc import Callable, Collection
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gradcut.errors import GradcutError
from gradcut.integrations.label_studio.backend import Backend
from gradcut.web.guard import Guard
from gradcut.web.requests import document
from gradcut.web.server import LOOPBACK
from gradcut.web.state import BusyError, Queue

log = logging.getLogger(__name__)

#: Bytes of a request: tasks come with all their annotations.
_DOCUMENT = 100_000_000


def create_app(
    backend: Backend, hosts: Collection[str] | None = LOOPBACK, login: tuple[str, str] | None = None
) -> Starlette:
    """The backend as an ASGI application, for `gradcut.web.Server`.

    Args:
        hosts: names that it may be called by; None allows any.
        login: user and password that everything asks for; None asks for none.
    """
    endpoints = _Endpoints(backend)
    routes = [
        Route("/", endpoints.health),
        Route("/health", endpoints.health),
        Route("/setup", endpoints.setup, methods=["POST"]),
        Route("/predict", endpoints.predict, methods=["POST"]),
        Route("/webhook", endpoints.webhook, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[..., Any]] = {GradcutError: _sentence, Exception: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers)
    if login is not None:
        app.add_middleware(_Login, login=login)
    app.add_middleware(Guard, hosts=hosts, token=None)
    app.state.page = endpoints  # what the server closes
    return app


class _Endpoints:
    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._network = Queue(1, 32, "gradcut-network")
        self._tokens: dict[str, str] = {}  # by project, what Label Studio's /setup brought

    def close(self) -> None:
        self._network.close()
        self.backend.close()

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": "gradcut"})

    async def setup(self, request: Request) -> Response:
        """Which version answers; and whether it can for this project."""
        asked = await _document(request)
        token = asked.get("access_token")
        if isinstance(token, str) and token:
            self._tokens[str(asked.get("project"))] = token
        self.backend.check(asked.get("schema"))
        return JSONResponse({"model_version": self.backend.version})

    async def predict(self, request: Request) -> Response:
        asked = await _document(request)
        token = self._tokens.get(str(asked.get("project")))
        results = await self._network.result(lambda: self.backend.predict(asked, token))
        return JSONResponse({"results": results})

    async def webhook(self, request: Request) -> Response:
        """Events of annotations change nothing, since nothing is trained here; to ask for training is an error."""
        action = (await _document(request)).get("action")
        if action == "START_TRAINING":
            raise GradcutError("training: this backend does not train; 'gradcut fit' makes a classifier of labels")
        return JSONResponse({"status": "ok"})


async def _document(request: Request) -> dict[str, Any]:
    # A page of another site can send JSON by this name only if it is let in.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise GradcutError("request: expected the content type application/json")
    return await document(request, _DOCUMENT)


async def _sentence(request: Request, error: Exception) -> Response:
    """Label Studio shows no more than the status, so the reason is told in the terminal, too."""
    log.warning("gradcut: %s: %s", request.url.path, error)
    # Half of a surrogate pair, which JSON may have, is no text that can be sent.
    message = str(error).encode("utf-8", "replace").decode()
    return JSONResponse({"error": message}, 503 if isinstance(error, BusyError) else 400)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("gradcut: %s failed", request.url.path, exc_info=error)
    return JSONResponse({"error": "the backend failed; its terminal says why"}, 500)


class _Login:
    """HTTP's basic authentication, which Label Studio's form for a model asks for."""

    def __init__(self, app: ASGIApp, login: tuple[str, str]) -> None:
        self.app = app
        self.expected = b"Basic " + base64.b64encode(":".join(login).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, self.expected):
                refusal = JSONResponse({"error": "user and password are wrong"}, 401, {"www-authenticate": "Basic"})
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)

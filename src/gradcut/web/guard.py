"""Who may talk to the page's server, for how long, and what it says to those who may not."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gradcut.errors import GradcutError
from gradcut.web.endpoints import FAILED
from gradcut.web.state import BusyError, GoneError

log = logging.getLogger(__name__)

#: Connections at once; those beyond are answered with 503.
CONNECTIONS = 128

#: How long a connection may take to send the head of a request.
SECONDS = 10.0


async def sentence(request: Request, error: Exception) -> Response:
    """An error as a sentence for the page. What is not the user's doing is told in the terminal only."""
    status = {GoneError: 404, BusyError: 503, HTTPException: getattr(error, "status_code", 500)}.get(type(error), 400)
    if isinstance(error, GradcutError):
        message = str(error)
    elif isinstance(error, HTTPException):
        message = f"The server has no such page ({error.detail})."
    else:
        status, message = 500, FAILED
    return refusal(request.scope, status, message)


def refusal(scope: Scope, status: int, message: str) -> Response:
    """What goes back to who is refused; the log has one line of it, whatever was sent."""
    path = ascii(scope["path"])[1:-1][:100]
    log.warning("%s %s: %d %s", scope["method"][:10], path, status, ascii(message)[1:-1][:200])
    # Half of a surrogate pair, which JSON may have, is no text that can be sent.
    return JSONResponse({"message": message.encode("utf-8", "replace").decode()}, status)


class Guard:
    """Refuses unknown names, pages of others and who lacks the token; adds the headers that keep the page to itself."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] | None, token: str | None, framed_by: str | None = None
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.token = token
        policy = _POLICY + (framed_by or "'none'").encode()
        self.headers = [(b"content-security-policy", policy), *_HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in self.headers if pair[0] not in own)]
            await send(message)

        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.hosts is not None and name.lower() not in self.hosts:
            refused = refusal(scope, 421, "This server answers to its own address only.")
            await refused(scope, receive, send_guarded)
            return
        origin = headers.get(b"origin")
        if origin is not None and not _same(origin.decode("latin-1"), host):
            refused = refusal(scope, 403, "This server answers to its own page only.")
            await refused(scope, receive, send_guarded)
            return
        if self.token is not None and scope["path"].startswith("/api/"):
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            given = headers.get(b"x-token", asked.encode("latin-1", "replace"))
            if not secrets.compare_digest(given, self.token.encode()):
                message = "This page needs the whole address that 'gradcut serve' printed, with the token at its end."
                if given:  # most likely that of an earlier start, in a page that stayed open or a bookmark
                    message = (
                        "This address is no longer valid: the server was started again and has a new token. Open the "
                        "address that 'gradcut serve' printed last."
                    )
                await refusal(scope, 403, message)(scope, receive, send_guarded)
                return
        await self.app(scope, receive, send_guarded)


def _same(origin: str, host: str) -> bool:
    """Whether a page of this origin came from the host that it asks."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors "
)
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]  # fmt: skip


class Protocol(H11Protocol):
    """uvicorn's, and who does not send the whole head of a request in time is disconnected.

    What is written leaves at once. Else the second part of an answer waits for the first one's receipt, 40 ms: asyncio
    sees to it only where the listening socket names its protocol.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(SECONDS, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

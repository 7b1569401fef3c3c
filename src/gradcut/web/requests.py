"""What a request of the page brings: the tab's key, and a body within its limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import Request

from gradcut.errors import GradcutError

#: Bytes of a request that is no upload.
DOCUMENT = 4_000_000

#: How long a request's body may take.
SECONDS = 60.0


def tab(request: Request) -> str:
    """The tab's key. A page of another origin cannot send this header without being let in."""
    key = request.headers.get("x-tab", "")
    if not 32 <= len(key) <= 200:
        raise GradcutError("The request has no tab's key; reload the page.")
    return key


async def content(request: Request, limit: int, what: str) -> bytes:
    """The request's body, in memory.

    Raises:
        GradcutError: it is longer than ``limit`` bytes, or takes longer than `SECONDS`.
    """
    too_long = GradcutError(f"{what} is larger than the limit of {limit / 1e6:g} MB.")
    try:
        if int(request.headers.get("content-length", 0)) > limit:
            raise too_long
        data = bytearray()
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise too_long
    except TimeoutError:
        raise GradcutError(f"{what} did not arrive within {SECONDS:g} seconds.") from None
    return bytes(data)


async def document(request: Request, limit: int = DOCUMENT) -> dict[str, Any]:
    """The request's body, a JSON object of at most ``limit`` bytes.

    Raises:
        GradcutError: as for `content`, or something else.
    """
    data = await content(request, limit, "The request")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise GradcutError("request: expected JSON") from None
    if not isinstance(value, dict):
        raise GradcutError(f"request: expected a JSON object, got {str(value)[:60]!r}")
    return value

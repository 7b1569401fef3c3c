"""A task's photograph: from the tool's own address with its token, or from hosts that were named; from nowhere else."""

from __future__ import annotations

import base64
import binascii
import json
import urllib.request
from collections.abc import Collection
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request

from gradcut import images
from gradcut.errors import GradcutError, ImageError, one_line
from gradcut.images import Photograph

_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]  # scheme, host, port


def origin(address: str) -> Origin:
    """Scheme, host and port of an address.

    Raises:
        GradcutError: it is none of http or https.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise GradcutError(f"address: expected one such as http://localhost:8080, got {address!r}")
    return parts.scheme, parts.hostname.lower(), port or _PORTS[parts.scheme]


class Photographs:
    """Reads the photographs that tasks name.

    Addresses that are relative, as Label Studio's uploads are, are its own; so are those of cloud storage, which it
    redirects. The token goes to its own address alone, and a redirect is followed to an allowed host only.

    Args:
        address: Label Studio's.
        token: of somebody who may see the photographs: a legacy token, or a personal access token (a JWT), which is
            exchanged at ``/api/token/refresh``.
        hosts: further addresses from which photographs are fetched, without a token.
        megabytes: of one photograph.

    Raises:
        GradcutError: an address of something else than http or https.
    """

    def __init__(
        self, address: str, token: str | None = None, hosts: Collection[str] = (), megabytes: float = 100
    ) -> None:
        self.own = origin(address)
        self.address, self.token, self.limit = address.rstrip("/") + "/", token, int(megabytes * 1e6)
        self.allowed = {self.own, *map(origin, hosts)}
        self._access: dict[str, str] = {}  # by personal token, what it was exchanged for
        self._opener = urllib.request.build_opener(_Redirects(self))

    def __call__(self, url: object, task: object = None, token: str | None = None) -> Photograph:
        """The photograph at an address.

        Args:
            task: the task's number, which cloud storage asks for.
            token: where none was given before.

        Raises:
            GradcutError: an address that is not allowed.
            ImageError: nothing there, or no photograph.
        """
        if not isinstance(url, str) or not url:
            raise GradcutError(f"photograph: expected an address, got {str(url)[:60]!r}")
        if url.startswith("data:"):
            return images.decode(_inline(url), "data")
        name = url.partition("?")[0][:200]
        return images.decode(self._fetched(self._absolute(url, task), self.token or token), name)

    def _absolute(self, url: str, task: object) -> str:
        if url.startswith(("s3:", "gs:", "azure-blob:")):
            coded = base64.urlsafe_b64encode(url.encode()).decode()
            return urljoin(self.address, f"tasks/{task}/presign/?fileuri={coded}")
        if url.startswith(("upload/", "/upload/")):
            url = f"/data/{url.lstrip('/')}"
        return url if "://" in url else urljoin(self.address, url)

    def _fetched(self, url: str, token: str | None) -> bytes:
        self.check(url)
        token = token if origin(url) == self.own else None
        name, was_known = url.partition("?")[0], token in self._access
        headers = {} if token is None else {"Authorization": self._authorization(token)}
        try:
            with self._opener.open(Request(url, headers=headers), timeout=30) as answer:
                data: bytes = answer.read(self.limit + 1)
        except HTTPError as error:
            if token is not None and error.code == 401 and was_known:
                del self._access[token]  # it has run out
                return self._fetched(url, token)
            hint = "; set LABEL_STUDIO_API_KEY" if error.code in (401, 403) and origin(url) == self.own else ""
            raise ImageError(f"{name}: the server answers {error.code} {error.reason}{hint}") from None
        except (OSError, HTTPException) as error:
            raise ImageError(f"{name}: cannot be fetched: {one_line(error)}") from None
        if len(data) > self.limit:
            raise ImageError(f"{name}: larger than the limit of {self.limit / 1e6:g} MB")
        return data

    def check(self, url: str) -> None:
        """Refuse an address of a host that was not named.

        Raises:
            GradcutError: it is one.
        """
        if origin(url) not in self.allowed:
            scheme, host, port = origin(url)
            raise GradcutError(f"photograph: {scheme}://{host}:{port} is none of the hosts that were named")

    def _authorization(self, token: str) -> str:
        """A legacy token as it is; a personal one is exchanged for one of some minutes."""
        if token.count(".") != 2:
            return f"Token {token}"
        if token not in self._access:
            body = json.dumps({"refresh": token}).encode()
            request = Request(urljoin(self.address, "api/token/refresh"), body, {"Content-Type": "application/json"})
            try:
                with self._opener.open(request, timeout=30) as answer:
                    self._access[token] = str(json.loads(answer.read(100_000))["access"])
            except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
                raise ImageError(f"{self.address}: does not take the personal token: {one_line(error)}") from None
        return f"Bearer {self._access[token]}"


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect to an allowed host only, and takes the token to Label Studio alone."""

    def __init__(self, photographs: Photographs) -> None:
        self._photographs = photographs

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        self._photographs.check(newurl)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and origin(newurl) != self._photographs.own:
            request.remove_header("Authorization")
        return request


def _inline(url: str) -> bytes:
    """The bytes in a ``data:`` address."""
    head, _, body = url.partition(",")
    try:
        if not head.endswith(";base64"):
            raise binascii.Error
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("data: expected an address that begins with data:image/...;base64,") from None

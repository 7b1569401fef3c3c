"""A socket to serve at, before there is anything to serve: whether a port is free is known at once."""

from __future__ import annotations

import os
import socket

from gradcut.errors import GradcutError


def listen(host: str = "127.0.0.1", port: int = 7860) -> socket.socket:
    """A socket that listens at an address. Who connects waits until somebody answers.

    Args:
        port: 0 takes any free one.

    Raises:
        GradcutError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        if isinstance(error, socket.gaierror):
            reason = error.strerror or str(error)
        raise GradcutError(
            f"host, port: cannot listen on {host}:{port}: {reason}; --port 0 takes any free one"
        ) from error


def url(listening: socket.socket) -> str:
    """Where a browser finds it; a server that listens everywhere, by this machine's name."""
    host, port = listening.getsockname()[:2]
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_own(host: str) -> bool:
    """Whether nobody but this machine reaches who listens at that address."""
    return host in ("127.0.0.1", "localhost", "::1")

"""The web page of `gradcut serve`, for programs that serve it themselves. Needs gradcut[web]."""

from gradcut.web.server import LOOPBACK, Server, create_app
from gradcut.web.state import Limits

__all__ = ["LOOPBACK", "Limits", "Server", "create_app"]

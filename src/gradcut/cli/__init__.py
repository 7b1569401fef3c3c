"""The command line: a thin shell. Results to files and standard output, messages to standard error."""

from __future__ import annotations

import sys

from gradcut.cli import demo, segment, run, masks, classify, compare, fit, evaluate, audit, serve, label_studio, doctor  # isort: skip  in the order that the help lists them
from gradcut.cli.options import app
from gradcut.cli.progress import err
from gradcut.errors import GradcutError

__all__ = [
    "app",
    "audit",
    "classify",
    "compare",
    "demo",
    "doctor",
    "evaluate",
    "fit",
    "label_studio",
    "main",
    "masks",
    "run",
    "segment",
    "serve",
]


def main() -> None:
    """Entry point: unusable arguments end in one line and exit status 2."""
    try:
        app()
    except GradcutError as error:
        err.print(f"gradcut: {error}")
        sys.exit(2)

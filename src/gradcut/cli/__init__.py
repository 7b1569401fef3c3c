"""The command line: a thin shell. Results to files and standard output, messages to standard error."""

from __future__ import annotations

import errno
import os
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
    """Entry point: unusable arguments, and what the system lets nobody read or write, end in one line and status 2."""
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # what is wrong with it shows here at the latest
    except GradcutError as error:
        err.print(f"gradcut: {error}")
        sys.exit(2)
    except KeyboardInterrupt:  # before a command has begun, which says so itself
        err.print("gradcut: stopped")
        sys.exit(130)
    except OSError as error:
        reason = error.strerror or error
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF):
            # Python would try it again at its end, and say so.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno == errno.EPIPE:  # as behind "| head": who reads has enough
                sys.exit(1)
            err.print(f"gradcut: output: {reason}")
        else:
            err.print(f"gradcut: {error.filename or type(error).__name__}: {reason}")
        sys.exit(2)

"""A process apart that decodes photographs, because a file may crash the decoder."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress


class Decoder:
    """Decodes photographs in a process of its own, begun when the first one comes; use it in a ``with`` block."""

    _CODE = (
        "import sys\nfrom gradcut import images\n"
        "for line in sys.stdin:\n"
        "    try: images.read(line[:-1])\n"
        "    except Exception: pass\n"
        "    print(flush=True)\n"
    )

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def crash(self, photograph: str) -> str | None:
        """What the process died of when it decoded this photograph; None if it lives."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, errors="surrogateescape", start_new_session=True,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(photograph + "\n")
            process.stdin.flush()
        if process.stdout.readline():
            return None
        self._process = None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        status = process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

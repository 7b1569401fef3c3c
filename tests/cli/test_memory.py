"""The C library keeps the memory of maps for the next ones."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Makes 100 MB in a thread, as workers do, frees them, and prints how much of it the process still holds.
SCRIPT = """
import sys, threading
from pathlib import Path
import numpy as np
from gradcut.cli.memory import keep_freed_memory

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1e3

def work():
    np.ones(100_000_000 // 8)

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the options are glibc's")
def test_what_a_thread_has_freed_is_kept():
    def held(how):
        answer = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        return float(answer.stdout)

    assert held("keep") > 90
    assert held("leave") < 50

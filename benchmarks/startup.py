"""How soon the command line answers, beside other tools' own start: docs/scale.md holds what this printed.

    python benchmarks/startup.py --peer 'pip --version' --peer 'llm --version' --peer 'yolo version'

Every command is begun once for each of `--rounds`, in turns, so that what else the machine does meets all of them.
Shown are the least and the median of the seconds from start to end, and the least as a multiple of the first peer's.
With `--before SRC`, the `src` folder of an older checkout, that is measured in the same turns.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage.data import coffee

import gradcut

#: What is asked of gradcut: in a folder with a photograph, and a run of it.
COMMANDS = (
    "--version", "--help", "segment --help", "recipes", "classifiers", "review run", "export run -f coco",
    "segment missing.jpg", "segment coffee.jpg -o run -r fast", "segment coffee.jpg -r defualt",
    "classify coffee.jpg", "segment coffee.jpg -o new --overwrite", "serve --port 99999",
)  # fmt: skip


def seconds(command: list[str], folder: Path, source: Path | None) -> float:
    path = {} if source is None else {"PYTHONPATH": str(source)}
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=os.environ | path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peer", action="append", default=[], help="a command line of another tool")
    options.add_argument("--before", type=Path, help="the src folder of an older checkout of gradcut")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    ours = [sys.executable, "-c", "from gradcut.cli import main; main()"]
    now = Path(gradcut.__file__).parents[1]
    sources = {"now": now} if given.before is None else {"before": given.before.resolve(), "now": now}
    peers = given.peer or [f"{sys.executable} -m pip --version"]
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(coffee()).save(folder / "coffee.jpg")
        seconds([*ours, "segment", "coffee.jpg", "-o", "run"], folder, now)
        for _ in range(given.rounds):
            for peer in peers:
                times.setdefault((peer, ""), []).append(seconds(shlex.split(peer), folder, None))
            for command in COMMANDS:
                for which, source in sources.items():
                    took = seconds([*ours, *command.split()], folder, source)
                    times.setdefault((f"gradcut {command}", which), []).append(took)
    unit = min(times[peers[0], ""])
    table = Table("command", "", "least s", "median s", f"times {peers[0]}")
    for (command, which), took in times.items():
        table.add_row(command, which, f"{min(took):.2f}", f"{median(took):.2f}", f"{min(took) / unit:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

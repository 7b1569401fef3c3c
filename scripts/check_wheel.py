"""Check a built wheel: it holds what the package's folder holds and no more, and does the main job.

    python scripts/check_wheel.py dist/gradcut-0.1.0-py3-none-any.whl .venv/wheel/bin

The second argument is the folder of programs of an environment that the wheel was installed into.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def check_files(wheel: Path) -> None:
    """Exit with both differences unless the wheel and the package's folder hold the same files."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/gradcut"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    expected = {name.removeprefix("src/") for name in listed if (ROOT / name).exists()}
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if files != expected:
        sys.exit(f"{wheel}: missing {sorted(expected - files)}, not of the package {sorted(files - expected)}")


def check_demo(programs: Path) -> None:
    """Run 'gradcut demo' in an empty folder, with nothing of this checkout on the path, and look for its picture."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        demo = subprocess.run(
            [programs.resolve() / "gradcut", "demo"], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE
        )
        picture = Path(folder, demo.stdout.decode().splitlines()[-1])
        if picture.read_bytes()[:4] != b"\x89PNG":
            sys.exit(f"gradcut demo: {picture} is no PNG")


if __name__ == "__main__":
    check_files(Path(sys.argv[1]))
    check_demo(Path(sys.argv[2]))
    print(f"{sys.argv[1]}: complete, and 'gradcut demo' runs from it")

"""The folder of a Space of Hugging Face that serves gradcut's page: Dockerfile, README with its front matter, wheel.

    python scripts/space.py space/ --wheel dist/gradcut-0.1.0-py3-none-any.whl

Push the folder to the Space's repository. Nothing is sent from here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

README = """---
title: {quoted}
emoji: ✂️
colorFrom: indigo
colorTo: pink
sdk: docker
app_port: 7860
license: apache-2.0
short_description: Any image classifier as a segmenter
---

# {title}

gradcut turns any image classifier into a segmenter, with no segmentation training: look at the masks of a photograph,
correct them with strokes, download them. Photographs are kept in this Space's memory only.
"""

# The user has the number that Spaces run containers as.
DOCKERFILE = """FROM python:3.11-slim
RUN useradd --create-home --uid 1000 user
USER user
ENV HOME=/home/user PATH=/home/user/.local/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /home/user/app
COPY --chown=user {wheel} ./
RUN pip install --user {torch}'./{wheel}[web]'
EXPOSE 7860
CMD {command}
"""

COMMAND = [
    "gradcut",
    "serve",
    "--host",
    "0.0.0.0",
    "--port",
    "7860",
    "--public",
    "--framed-by",
    "https://huggingface.co",
]


def write(folder: Path, wheel: Path, title: str, classifiers: Sequence[str], torch_index: str | None) -> None:
    """Write the Space's three files.

    Args:
        torch_index: an index of packages with torch for CPUs, which is much smaller; by default pip's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(wheel, folder / wheel.name)
    command = [*COMMAND, *(part for name in classifiers for part in ("-c", name))]
    torch = f"--extra-index-url {torch_index} " if torch_index else ""
    dockerfile = DOCKERFILE.format(wheel=wheel.name, torch=torch, command=json.dumps(command))
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    (folder / "README.md").write_text(README.format(title=title, quoted=json.dumps(title)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheel", type=Path, required=True, help="what 'make wheel' built")
    parser.add_argument("--title", default="gradcut")
    parser.add_argument("--classifier", "-c", action="append", default=[], help="for the page's menu; may be repeated")
    parser.add_argument("--torch-index", help="an index of packages with torch for CPUs")
    given = parser.parse_args()
    if not given.wheel.is_file():
        sys.exit(f"wheel: no such file: {given.wheel}")
    try:
        write(given.folder, given.wheel, given.title, given.classifier, given.torch_index)
    except OSError as error:
        sys.exit(f"folder: {given.folder} cannot be written: {error.strerror or error}")
    print(given.folder)


if __name__ == "__main__":
    main()

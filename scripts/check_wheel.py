"""Check what is published: the wheel and the source distribution hold what they should and no more, and work.

    python scripts/check_wheel.py dist .venv/wheel/bin

`dist` holds a source distribution, the wheel that was built from it, and in `dist/tree` the wheel that was built from
the checkout. The second argument is the folder of programs of an environment that has the wheel, and no extra.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What a source distribution holds beside the package.
BESIDE = {"PKG-INFO", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", ".gitignore"}

#: What a wheel's own folder has to hold.
ABOUT = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}

#: Code that needs an extra's package, and what its one line has to say where that is missing.
EXTRAS = {
    "load_classifier('timm/resnet18')": "pip install 'gradcut[timm]'",
    "load_classifier('ml-decoder@weights.pth')": "pip install 'gradcut[timm]'",
    "load_classifier('hf/openai/clip-vit-base-patch16', labels=['cat'])": "pip install 'gradcut[hf]'",
    "formats.detections(None)": "pip install 'gradcut[supervision]'",
    "datasets.imagenet_segmentation('no.mat')[0]": "pip install 'gradcut[imagenet-seg]'",
    "run('classifiers resnet*')": "pip install 'gradcut[timm]'",
    "run('serve')": "pip install 'gradcut[web]'",
    "run('label-studio')": "pip install 'gradcut[web]'",
    "run('segment cat.png -o out --engine ray')": "pip install 'gradcut[ray]'",
    "images.read('cat.heic')": "pip install 'gradcut[heic]'",
    "shards.check('photographs.parquet')": "pip install 'gradcut[parquet]'",
    "integrations.cvat.create()": "pip install 'gradcut[cvat]'",
    "integrations.fiftyone.model(Segmenter('coco80'))": "pip install 'gradcut[fiftyone]'",
}

#: A program that prints what each of these says.
ASKING = """
import json, sys
from skimage.data import chelsea
from PIL import Image
import gradcut.integrations.cvat, gradcut.integrations.fiftyone
from gradcut import GradcutError, Segmenter, cli, datasets, formats, images, integrations, load_classifier, shards

Image.fromarray(chelsea()).save("cat.png")
for name in ("cat.heic", "photographs.parquet"):
    open(name, "w").write("of another kind")

def run(line):
    sys.argv = ["gradcut", *line.split()]
    cli.app()

def said(code):
    try:
        eval(code)
    except GradcutError as error:
        return str(error)
    return "nothing"

print(json.dumps({code: said(code) for code in json.loads(sys.argv[1])}))
"""


def package() -> set[str]:
    """The files of the package's folder that git knows or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/gradcut"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {name.removeprefix("src/") for name in listed if (ROOT / name).exists()}


def compare(what: Path, files: set[str], expected: set[str]) -> None:
    """Exit with both differences unless they are the same."""
    if files != expected:
        sys.exit(f"{what}: missing {sorted(expected - files)}, not expected {sorted(files - expected)}")


def check_wheel(wheel: Path) -> None:
    """The package's files, its licence, and what an installer needs."""
    about = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/"
    compare(wheel, set(zipfile.ZipFile(wheel).namelist()), package() | {about + name for name in ABOUT})


def check_source(archive: Path) -> None:
    """The package's files and those that the build reads."""
    with tarfile.open(archive) as opened:
        files = {name.partition("/")[2] for name in opened.getnames()}
    compare(archive, files, {f"src/{name}" for name in package()} | BESIDE)


def check_same(wheel: Path, other: Path) -> None:
    """Two wheels hold the same bytes."""
    first, second = zipfile.ZipFile(wheel), zipfile.ZipFile(other)
    compare(other, set(second.namelist()), set(first.namelist()))
    if differing := [name for name in first.namelist() if first.read(name) != second.read(name)]:
        sys.exit(f"{other}: {differing} differ from those of {wheel}")


def asked(programs: Path, *command: str) -> str:
    """What a program of the environment prints, in an empty folder, with nothing of this checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        line = [programs.resolve() / command[0], *command[1:]]
        done = subprocess.run(line, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        if command[1] == "demo" and Path(folder, done.stdout.splitlines()[-1]).read_bytes()[:4] != b"\x89PNG":
            sys.exit(f"gradcut demo: its last line names no PNG:\n{done.stdout}")
    return done.stdout


def check_extras(programs: Path) -> None:
    """What needs an extra says which, in one line."""
    said = json.loads(asked(programs, "python", "-c", ASKING, json.dumps(list(EXTRAS))).splitlines()[-1])
    for code, expected in EXTRAS.items():
        if expected not in said[code] or "\n" in said[code]:
            sys.exit(f"{code}: expected a line with {expected!r}, got {said[code]!r}")


if __name__ == "__main__":
    dist, programs = Path(sys.argv[1]), Path(sys.argv[2])
    (wheel,), (other,), (archive,) = dist.glob("*.whl"), dist.glob("tree/*.whl"), dist.glob("*.tar.gz")
    check_wheel(wheel)
    check_source(archive)
    check_same(wheel, other)
    asked(programs, "gradcut", "demo")
    check_extras(programs)
    print(f"{wheel} and {archive}: complete; the demo runs, and what needs an extra says which")

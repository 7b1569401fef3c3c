"""Documentation executes: doctests, the Python blocks of the pages, and the options that their command lines name."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import worded
from PIL import Image, ImageShow
from skimage.data import chelsea
from typer.main import get_command

import gradcut
from gradcut.cli import app, main

ROOT = Path(__file__).parents[1]
PACKAGE = Path(gradcut.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Pages whose commands are run, too: a reader follows them from the first block to the last.
FOLLOWED = [ROOT / "docs" / "start.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]

#: A fenced block, and a comment on the line before it that says why it is not run.
FENCE = re.compile(r"(?:^<!-- not run: *(.*?) *-->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str
    line: int  # of the fence
    reason: str | None  # why it is not run


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    every = [Block(m[2], m[3], text.count("\n", 0, m.start(2)) + 1, m[1]) for m in FENCE.finditer(text)]
    return [block for block in every if block.language in languages]


def docstrings() -> dict[str, tuple[str, int, str]]:
    """Module, line and text of every docstring with an example, by its dotted name.

    They are read from the source: `doctest` itself takes a function that is wrapped in shape checks for one of
    another module.
    """
    examples = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if ">>>" not in source:
            continue
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and ">>>" in text:
                    name = f"{module}.{node.name}" if hasattr(node, "name") else module
                    examples[name] = (module, getattr(node, "lineno", 1), text)
    return examples


DOCSTRINGS = docstrings()


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_examples_in_docstrings(name):
    module, line, text = DOCSTRINGS[name]
    names = dict(vars(importlib.import_module(module)))
    test = doctest.DocTestParser().get_doctest(text, names, name, module, line)
    assert test.examples
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("files")
    photograph = Image.fromarray(chelsea())
    small = photograph.resize((150, 100))
    for name in ("cat.jpg", "dog.jpg"):
        photograph.save(folder / name)
    for name in ("photographs", "val2017"):
        (folder / name).mkdir()
        small.save(folder / name / "1.jpg")
    cat = {"id": 1, "image_id": 1, "category_id": 17, "iscrowd": 0, "area": 6000, "bbox": [20, 5, 90, 90]}
    cat["segmentation"] = [[20, 5, 110, 5, 110, 95, 20, 95]]
    instances = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 150, "height": 100}],
        "annotations": [cat],
        "categories": [{"id": 17, "name": "cat"}],
    }
    (folder / "instances_val2017.json").write_text(json.dumps(instances))
    with pytest.MonkeyPatch.context() as patch:
        run(f"gradcut segment {folder}/photographs -o {folder}/run -r fast", patch)
    return folder


def run(line: str, patch: pytest.MonkeyPatch) -> None:
    """A command line, in this process; it has to succeed."""
    patch.setattr("sys.argv", shlex.split(line))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, line


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_blocks_run(page, files, tmp_path, monkeypatch):
    """In order, as one program, in a folder with the files that they read; commands too, where a page is followed."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    shown: list[Image.Image] = []
    monkeypatch.setattr(ImageShow, "show", lambda picture, title: shown.append(picture) or True)
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look for their module
    if "hf/clip" in page.read_text():
        worded.written("clip", tmp_path / "clip")
    for block in blocks(page, "python", *(["sh"] if page in FOLLOWED else [])):
        if block.reason is not None:
            continue
        if block.language == "sh":
            for line in lines_of(block.text):
                run(line, monkeypatch)
        else:
            exec(compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True), vars(module))
    assert bool(shown) == any(".show()" in block.text for block in blocks(page, "python"))


def test_blocks_that_are_not_run_say_why():
    every = [block for page in PAGES for block in blocks(page, "python", "sh") if block.reason is not None]
    assert all(len(block.reason.split()) >= 3 for block in every), every
    assert sum(block.language == "python" for block in every) <= 3, "most blocks have to run"


def lines(page: Path) -> list[str]:
    """The command lines of a page's shell blocks, one for each program in a pipe, without comments."""
    return lines_of("\n".join(block.text for block in blocks(page, "sh")))


def lines_of(text: str) -> list[str]:
    text = text.replace("\\\n", " ")
    text = "\n".join(" ".join(map(shlex.quote, shlex.split(line, comments=True))) for line in text.splitlines())
    return [part.strip() for part in re.split(r"\n| '\|' ", text) if part.strip()]


LINES = [(page.name, line) for page in PAGES for line in lines(page)]


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line in LINES if line.startswith("gradcut ")])
def test_command_lines_name_options_that_exist(page, line):
    _, name, *arguments = shlex.split(line)
    program = get_command(app)
    command, arguments = (program, [name]) if name.startswith("-") else (program.commands[name], arguments)
    named = {argument.split("=")[0] for argument in arguments if argument.startswith("-") and argument != "-"}
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    assert named <= {name for option in options for name in (*option.opts, *option.secondary_opts)}
    for option in options:
        assert not option.required or named & set(option.opts), f"{option.name} is missing"


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line in LINES if " python " in f" {line}"])
def test_scripts_that_pages_name_exist(page, line):
    scripts = [word for word in shlex.split(line) if word.endswith(".py")]
    assert scripts
    for script in scripts:
        assert (ROOT / script).is_file()


def test_targets_and_extras_that_pages_name_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.split()[1] for _, line in LINES if line.startswith("make ")]
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [extra for page in PAGES for extra in re.findall(r"(?:gradcut|'\.)\[([\w-]+)\]", page.read_text())]
    assert extras
    assert set(extras) <= set(project["optional-dependencies"])


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (cited,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert project["version"] == gradcut.__version__ == cited


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_programs_stand_in_fences(page):
    """Indented ones would escape the tests above; and every link leads to a file that is there."""
    text = page.read_text(encoding="utf-8")
    outside = FENCE.sub("", text)
    assert not re.findall(r"^    (?:gradcut|python|pip|from|import) .*", outside, re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", outside):
        assert (page.parent / target).exists(), target


def test_the_changelog_keeps_its_form():
    """Keep a Changelog 1.1.0: what is not released first, then versions with their days, the newest first."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *released = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert unreleased == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in released)
    for section in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.*)$", section, re.MULTILINE)
        assert kinds
        assert len(kinds) == len(set(kinds))
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_what_the_folders_export_is_in_the_reference():
    """The site describes the names in a package's ``__all__``, once a page names the package."""
    described = " ".join(
        page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference" / "api").glob("*.rst")
    )
    for path in PACKAGE.glob("*/__init__.py"):
        room = path.parent.name
        if "__all__" in path.read_text(encoding="utf-8") and room not in ("cli", "web", "network", "pictures"):
            assert f".. automodule:: gradcut.{room}\n" in described, room

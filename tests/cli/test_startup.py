"""What needs no network answers without importing what takes seconds."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest
from PIL import Image

from gradcut import catalogue, formats, recipes
from gradcut.datasets.opening import LAYOUTS
from gradcut.listening import listen

#: The command line, the exit status, and what is printed.
CALLS = [
    ("--help", 0, "segment"),
    ("-V", 0, "gradcut 0"),
    ("help", 0, "segment"),
    ("help segment", 0, "--recipe"),
    ("review -h", 0, "--label"),
    ("{cat} -o x", 2, "gradcut: no such command: {cat}; did you mean 'gradcut segment {cat} -o x'?"),
    ("cat.jpg", 2, "gradcut: no such command: cat.jpg; did you mean 'gradcut segment cat.jpg'?"),
    ("segment --help", 0, "--recipe"),
    ("recipes", 0, "expansion"),
    ("recipes fats", 2, "gradcut: recipe: expected one of default, best, fast"),
    ("classifiers", 0, "gradcut[hf]"),
    ("segment -o x none.jpg", 1, "gradcut: none.jpg: no such file"),
    ("segment -o x", 2, "photographs: expected files, folders or patterns, got none. See 'gradcut segment --help'."),
    ("segment -o x a.jpg -r defualt", 2, "got 'defualt'; did you mean 'default'?"),
    ("segment -o x a.jpg -c resnet50", 2, "got 'resnet50'; did you mean 'timm/resnet50'?"),
    ("segment -o x a.jpg -f coc", 2, "got 'coc'; did you mean 'coco'?"),
    ("segment -o x a.jpg --saliency GradCAN", 2, "got 'GradCAN'; did you mean 'GradCAM'?"),
    ("classify a.jpg -c coco8", 2, "did you mean 'coco80'?"),
    ("serve -c embeded", 2, "did you mean 'embedded'?"),
    ("fit --backbone lit2 --images x --labels y -o z", 2, "did you mean 'lite2'?"),
    ("evaluate voc -r fast -r simoyan", 2, "did you mean 'simonyan'?"),
    ("evaluate coc", 2, "got 'coc'; did you mean 'coco'?"),
    ("evaluate voc --labels true", 2, "got 'true'; did you mean 'truth'?"),
    ("evaluate voc --root . --names coca", 2, "names: expected one of voc, coco; got 'coca'; did you mean 'coco'?"),
    ("evaluate pets --root PETS --split tets", 2, "expected one of test, trainval; got 'tets'; did you mean 'test'?"),
    ("segment a.jpg --engine rai", 2, "engine: expected one of local, ray; got 'rai'; did you mean 'ray'?"),
    ("segment a.jpg --device cuda:x", 2, "device: expected one of cpu, cuda, mps, xpu; got 'cuda:x'"),
    ("segment a.jpg --device cdua", 2, "did you mean 'cuda'?"),
    ("segment a.jpg --recip fast", 2, "did you mean '--recipe'?"),
    ("segmnt a.jpg", 2, "Did you mean 'segment'?"),
    ("export x -f yolo8", 2, "did you mean 'yolo'?"),
    ("export none -f yolo", 2, "none"),
    ("review none", 2, "none"),
    ("serve --port {port}", 2, "cannot listen on 127.0.0.1:{port}: Address already in use; --port 0 takes any free"),
    ("segment {cat} -o {run} -r fast", 2, "made with recipe default, now fast; choose another folder"),
    ("segment {cat} -o {run} -c embedded", 2, "made with classifier coco80, now embedded; choose"),
    ("segment {cat} -o {run} --no-pictures", 2, "made with pictures true, now false; choose another"),
    ("segment {cat} -o {run} --label cat", 2, "made with labels none, now cat; choose another"),
    ("segment {cat} -o {run} --threshold 0.5", 2, "made with threshold 0.3, now 0.5; choose another"),
    ("segment {cat} -o {other}", 2, "{other}/run.json is no run's; choose another folder or --overwrite"),
    ("segment {cat} --threshold 1.5", 2, "gradcut: --threshold: expected at most 1, got 1.5."),
    ("classify {cat} --top-k 0", 2, "gradcut: --top-k: expected at least 1, got 0."),
    ("segment {cat} --size 10", 2, "gradcut: --size: expected at least 32, got 10."),
    ("segment {cat} -o {cat}", 2, "gradcut: output: {cat} is a file; -o takes a folder"),
    ("demo -o {cat}/out", 2, "gradcut: output: {cat}/out cannot be a folder: {cat} is a file"),
    ("segment {cat} -o {run}/new --label umbrela", 2, "coco80 has no label 'umbrela'; did you mean 'umbrella'?"),
    (
        "segment {cat} -o {run}/new -c lite1 --label umbrela",
        2,
        "lite1 has no label 'umbrela'; did you mean 'umbrella'?",
    ),
    ("segment none.jpg -c embedded --label dog", 1, "none.jpg: no such file"),  # a group of classes
    ("segment none.jpg --label sofa", 1, "none.jpg: no such file"),  # COCO's couch
    ("segment {cat} -r simonyan --min-confidence 0.3", 2, "give confidences; 'simonyan' gives none"),
    ("segment {cat} --size 64 --min-confidence 0.3", 2, "give confidences; 'default' with --size 64 gives none"),
    ("evaluate folder --images . -r guided --min-confidence 0.3", 2, "give confidences; 'guided' gives none"),
    ("report nope.jsonl", 2, "gradcut: SCORES: no such file: nope.jsonl"),
    ("report {cat}", 2, "gradcut: SCORES: expected the JSON lines that 'gradcut evaluate -o' writes, got {cat}"),
    ("fit --images none --labels {cat} -o z", 2, "gradcut: --images: no such folder: none"),
    ("fit --images {run} --labels none.csv -o z", 2, "gradcut: --labels: no such file: none.csv"),
    ("fit --images {run} --labels {run} -o z", 2, "gradcut: --labels: {run} is a folder, expected a file"),
    ("evaluate coco", 2, "gradcut: evaluate coco needs --images and --annotations"),
    ("evaluate folder --images none", 2, "gradcut: --images: no such folder: none"),
    ("evaluate folder --images {cat}", 2, "gradcut: --images: {cat} is a file, expected a folder"),
    ("evaluate coco --images {run} --annotations none", 2, "gradcut: --annotations: no such file: none"),
    ("evaluate voc --root none", 2, "gradcut: --root: no such folder: none"),
]

#: All in one process, to begin only one: what one has imported, those after it have too.
ALL = """
import contextlib, io, json, sys
from gradcut.cli import main, options, progress
answers = []
for line in json.loads(sys.argv[1]):
    sys.argv, status, printed = ["gradcut", *line.split()], 0, io.StringIO()
    options.out.file = progress.err.file = printed
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main()
    except SystemExit as ended:
        status = ended.code or 0
    heavy = [name for name in ("torch", "torchvision", "timm", "numba", "transformers") if name in sys.modules]
    answers.append([status, heavy, printed.getvalue()])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What the command lines name: a photograph, a run's folder, a folder of something else, and a port in use."""
    folder = tmp_path_factory.mktemp("startup")
    Image.new("RGB", (8, 8)).save(folder / "cat.png")
    settings = {
        "recipe": {"name": "default"}, "classifier": {"name": "coco80"}, "labels": None, "void": None, "range": None,
        "pictures": True, "cutouts": False, "threshold": 0.3, "top_k": 5,
    }  # fmt: skip
    for name, content in (("run", json.dumps({"settings": settings})), ("other", "{}")):
        (folder / name).mkdir()
        (folder / name / "run.json").write_text(content)
    with listen(port=0) as taken:
        yield {
            "cat": folder / "cat.png", "run": folder / "run", "other": folder / "other",
            "port": taken.getsockname()[1],
        }  # fmt: skip


@pytest.fixture(scope="module")
def answers(places: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Exit status, what was imported of the slow libraries, and all that was printed, by command line."""
    lines = [line.format(**places) for line, _, _ in CALLS]
    lists = tmp_path_factory.mktemp("answers") / "PETS/annotations"
    lists.mkdir(parents=True)
    for name in ("test", "trainval"):
        (lists / f"{name}.txt").touch()
    done = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps(lines)], check=True, capture_output=True, text=True,
        cwd=lists.parents[1],
    )  # fmt: skip
    return dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("line", "status", "says"), CALLS)
def test_answers_at_once(
    answers: dict[str, list], places: dict[str, object], line: str, status: int, says: str
) -> None:
    came, heavy, printed = answers[line.format(**places)]
    assert heavy == []
    assert says.format(**places) in printed
    assert came == status


def test_names_are_those_of_what_they_name() -> None:
    assert {name: recipe.summary for name, recipe in recipes.RECIPES.items()} == catalogue.RECIPES
    assert tuple(recipes.METHODS) == catalogue.METHODS
    assert tuple(formats.FORMATS) == catalogue.FORMATS


def test_coco80_needs_no_library_that_takes_seconds() -> None:
    code = "import sys; import gradcut; gradcut.load_classifier(); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported = set(ast.literal_eval(done.stdout))
    assert not imported & {"timm", "torchvision", "torch._dynamo", "transformers", "skimage", "numba"}
    assert "torch" in imported
    assert tuple(LAYOUTS) == catalogue.DATASETS


class _Interrupted(types.ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt


def test_control_c_while_the_program_is_still_being_imported_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradcut.cli", _Interrupted("gradcut.cli"))
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("gradcut", run_name="__main__")
    assert (stop.value.code, capsys.readouterr().err) == (130, "gradcut: stopped\n")

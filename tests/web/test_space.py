"""The folder of a Space: what Hugging Face asks of it, and a command that serves whoever comes, in its frame."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.main import get_command

from gradcut import GradcutError
from gradcut.cli import app
from gradcut.web import create_app

SCRIPT = Path(__file__).parents[2] / "scripts/space.py"


@pytest.fixture
def space(tmp_path):
    wheel = tmp_path / "gradcut-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    call = [
        sys.executable,
        SCRIPT,
        tmp_path / "space",
        "--wheel",
        wheel,
        "-c",
        "coco80",
        "--title",
        'Masks: "ours" # 1',
    ]
    subprocess.run(call, check=True, timeout=60)
    return tmp_path / "space"


def test_the_folder(space):
    assert {path.name for path in space.iterdir()} == {"Dockerfile", "README.md", "gradcut-0.1.0-py3-none-any.whl"}
    _, front, _ = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    values = dict(line.split(": ", 1) for line in front.splitlines())
    assert json.loads(values["title"]) == 'Masks: "ours" # 1', "quoted, as YAML has strings"
    assert (values["sdk"], values["app_port"], values["license"]) == ("docker", "7860", "apache-2.0")
    assert {values["colorFrom"], values["colorTo"]} <= {
        "red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray",
    }  # fmt: skip
    assert len(values["short_description"]) <= 60
    dockerfile = (space / "Dockerfile").read_text(encoding="utf-8")
    for copied in re.findall(r"COPY --chown=user (\S+)", dockerfile):
        assert (space / copied).is_file()
    program, name, *arguments = json.loads(dockerfile.rpartition("CMD ")[2])
    assert (program, name) == ("gradcut", "serve")
    given = get_command(app).commands[name].make_context(name, arguments, resilient_parsing=True).params
    assert (given["host"], str(given["port"]), given["public"]) == ("0.0.0.0", values["app_port"], True)
    assert (given["classifier"], given["framed_by"]) == (["coco80"], "https://huggingface.co")


def test_a_wheel_that_is_not_there(tmp_path):
    call = [sys.executable, SCRIPT, tmp_path / "space", "--wheel", tmp_path / "gone.whl"]
    result = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, "no such file" in result.stderr) == (1, True)


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"wheel")
    call = [sys.executable, SCRIPT, tmp_path / "a.whl", "--wheel", tmp_path / "a.whl"]
    result = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (1, f"folder: {tmp_path / 'a.whl'} cannot be written: File exists\n")


def test_only_who_is_named_may_frame_the_page(brightness):
    for framed_by, ancestors in ((None, "'none'"), ("https://huggingface.co", "https://huggingface.co")):
        page = TestClient(create_app({"one": brightness}, hosts=None, framed_by=framed_by))
        assert page.get("/").headers["content-security-policy"].endswith(f"frame-ancestors {ancestors}")
    for wrong in ("huggingface.co", "https://a.b; script-src *", "https://a b"):
        with pytest.raises(GradcutError, match="framed_by: expected an address such as"):
            create_app({"one": brightness}, framed_by=wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["RUN", "--public"], "--public: a run is for its own people"),
        (["--framed-by", "nowhere"], "framed_by: expected an address such as"),
    ],
)
def test_options_that_do_not_fit(command, tmp_path, options, said):
    (tmp_path / "run.json").write_text("{}")
    given = [tmp_path if option == "RUN" else option for option in options]
    status, _, err = command("serve", *given, "--port", 0)
    assert (status, said in err) == (2, True), err

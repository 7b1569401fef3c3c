"""Files: found under names of their own, and written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

import gradcut
from gradcut import GradcutError, files, images


def test_find_names_are_unique_and_sorted(tmp_path):
    for name in ("b.jpg", "a.jpg", "a.png", "deep/a.jpg", "notes.txt", ".hidden/c.jpg", "UPPER.JPG"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").touch()
    (tmp_path / "empty").mkdir()
    found, failures = files.find(
        [tmp_path / "photos", tmp_path / "other", tmp_path / "photos/b.jpg", tmp_path / "empty"]
    )
    assert {name: path.relative_to(tmp_path).as_posix() for path, name in found} == {
        "UPPER": "photos/UPPER.JPG", "a": "photos/a.jpg", "a.png": "photos/a.png", "b": "photos/b.jpg",
        "deep/a": "photos/deep/a.jpg", "a.jpg": "other/a.jpg",
    }  # fmt: skip
    assert failures == [f"{tmp_path / 'empty'}: no photographs in this folder"]


@pytest.fixture
def without_heif(monkeypatch):
    """As where pillow-heif is not installed."""
    monkeypatch.setattr(files, "SUFFIXES", files.SUFFIXES - files.HEIF)


@pytest.mark.usefixtures("without_heif")
def test_what_a_folder_holds_and_is_not_read_is_counted(tmp_path):
    names = ("a.jpg", "b.HEIC", "deep/c.heic", "d.jxl", "notes.txt", ".hidden/e.jpg", ".DS_Store", "f", "g.cr2")
    for name in names:
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).touch()
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "h.tga").touch()
    assert files.left_out([tmp_path / "p", tmp_path / "p/a.jpg", tmp_path / "p/notes.txt", tmp_path / "q"]) == [
        f"8 files in {tmp_path / 'p'} were left out: 2 .heic, 2 hidden, 1 .cr2, 1 .jxl, 1 .txt, 1 without a suffix; "
        "pip install 'gradcut[heic]' to read .heic; convert .cr2, .jxl first, to JPEG for instance",
        f"1 file in {tmp_path / 'q'} was left out: 1 .tga",
    ]
    assert files.left_out([tmp_path / "p" / "*"]) == [
        f"5 files in {tmp_path / 'p' / '*'} were left out: 1 .cr2, 1 .heic, 1 .jxl, 1 .txt, 1 without a suffix; "
        "pip install 'gradcut[heic]' to read .heic; convert .cr2, .jxl first, to JPEG for instance"
    ]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    assert files.left_out([tmp_path / "photos"]) == []


def test_a_pattern_may_name_a_suffix_that_folders_are_not_searched_for(tmp_path):
    for name in ("a.tga", "b.txt", "c.jpg"):
        (tmp_path / name).touch()
    assert files.find([tmp_path / "*.tga"])[0] == [(tmp_path / "a.tga", "a")]
    assert [name for _, name in files.find([tmp_path / "*.*"])[0]] == ["c"]
    assert files.left_out([tmp_path / "*.tga"]) == []


@pytest.mark.usefixtures("without_heif")
def test_what_an_address_holds_and_is_not_read_is_counted(tmp_path):
    folder = f"memory://{tmp_path.name}/left"
    for name in ("a.jpg", "b.heic", "c.tga"):
        files.Folder(folder).write(name, b"")
    try:
        assert files.left_out([folder]) == [
            f"2 files in {folder} were left out: 1 .heic, 1 .tga; pip install 'gradcut[heic]' to read .heic"
        ]
        assert [name for _, name in files.find([f"{folder}/*.tga"])[0]] == ["c"]
    finally:
        fsspec.filesystem("memory").store.clear()


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "a.png").write_text("old")

    def interrupted():
        with files.replacing(tmp_path / "a.png") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.png", "old")]


def test_json_is_written_whole(tmp_path):
    files.write_json(tmp_path / "deep" / "a.json", {"name": "käse", "values": [1, None]})
    text = (tmp_path / "deep" / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "käse", "values": [1, None]}
    assert "käse" in text
    assert text.endswith("}\n")
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "deep" / "a.json", {"name": object()})
    assert [(p.name, p.read_text(encoding="utf-8")) for p in (tmp_path / "deep").iterdir()] == [("a.json", text)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("the bucket is gone"), "the bucket is gone"),
    ],
)
def test_what_cannot_be_written_is_one_line(error, reason):
    def fail():
        with files.writing("s3://bucket/out"):
            raise error

    with pytest.raises(GradcutError) as caught:
        fail()
    assert str(caught.value) == f"output: s3://bucket/out cannot be written: {reason}"


def test_writing_into_a_file_as_if_it_were_a_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    path = tmp_path / "out" / "a.json"
    with pytest.raises(GradcutError, match=r"^output: .*out/a\.json cannot be written: "), files.writing(path):
        files.write_json(path, {})


def test_an_error_of_another_kind_passes():
    with pytest.raises(RuntimeError, match="something else"), files.writing("out"):
        raise RuntimeError("something else")


def test_one_place_says_that_an_output_cannot_be_written():
    package = Path(gradcut.__file__).parent
    saying = re.compile(r'f".*cannot be written')
    places = {path.name for path in package.rglob("*.py") if saying.search(path.read_text(encoding="utf-8"))}
    assert places == {"files.py"}


def test_addresses():
    assert files.is_url("s3://bucket/cat.jpg")
    for path in ("cat.jpg", "file:///cat.jpg", Path("s3:/cat.jpg"), 3, None):
        assert not files.is_url(path)


@pytest.fixture(params=["here", "memory"])
def folder(request, tmp_path):
    yield files.Folder(str(tmp_path / "a") if request.param == "here" else f"memory://{tmp_path.name}/a")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


def test_a_folder_here_and_elsewhere(folder):
    assert folder.read("b/c.txt") is None
    assert folder.names("b") == []
    assert list(folder.lines("b/c.txt")) == []
    folder.write("b/c.txt", b"one\ntwo")
    folder.write("b/d/e.txt", b"")
    folder.write("b/a.txt", b"first")
    assert folder.read("b/c.txt") == b"one\ntwo"
    assert [line.rstrip() for line in folder.lines("b/c.txt")] == [b"one", b"two"]
    assert folder.names("b") == ["a.txt", "c.txt"], "files alone, sorted"
    folder.write("b/c.txt", b"again")
    assert folder.read("b/c.txt") == b"again"
    for _ in range(2):
        folder.remove("b/c.txt")
        assert folder.read("b/c.txt") is None
    assert folder.read("b/a.txt/below") is None
    folder.remove("b/a.txt/below")


def test_names_that_are_no_utf_8_come_back_from_json():
    name = os.fsdecode(b"caf\xe9.jpg")
    written = files.encode_json({"photograph": name, "label": "Käse"})
    assert json.loads(written) == {"photograph": name, "label": "Käse"}
    assert "Käse" in files.encode_json({"label": "Käse"}).decode()


def test_a_path_that_may_not_be_looked_at_is_a_photograph_that_cannot_be_read(tmp_path, monkeypatch):
    real = os.stat

    def refused(path, *arguments, **options):
        if str(path).startswith(str(tmp_path / "secret")):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refused)
    for place in ("secret", "secret/a.jpg", "secret/a.tar", "secret/*.jpg"):
        assert files.find([tmp_path / place]) == ([(tmp_path / place, Path(place).stem)], [])
        assert not files.is_missing(tmp_path / place)
    assert files.is_missing(tmp_path / "gone")
    assert not files.is_missing("s3://bucket/gone")


@contextmanager
def nobody():
    """Without root's right to look into everything."""
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def closed():
    """A folder with one that may not be looked into, one of whose files nothing may be known, and a link."""
    if os.name == "nt":
        pytest.skip("Windows has no such permissions")
    folder = Path(tempfile.mkdtemp())  # the usual one is below a folder that is root's own
    for name in ("a.jpg", "shut/b.jpg", "half/c.jpg", ".hidden/d.jpg", "deep/e.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    modes = {"shut": 0o000, "half": 0o444, ".hidden": 0o000, "deep": 0o755, ".": 0o755}
    for name, mode in modes.items():
        (folder / name).chmod(mode)
    yield folder
    for name in modes:
        (folder / name).chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("pattern", ["", "**/*.jpg"])
def test_what_may_not_be_looked_into_is_not_left_out_in_silence(closed, pattern):
    with nobody():
        found, failures = files.find([closed / pattern])
        reasons = {}
        for path, _ in found:
            with pytest.raises(GradcutError) as error:
                images.read(path)
            reasons[path.relative_to(closed).as_posix()] = str(error.value).removeprefix(f"{path}: ")
        alone = files.find([closed / "shut"])
    assert failures == []
    assert reasons == {
        "a.jpg": "the file is empty", "deep/e.jpg": "the file is empty", "gone.jpg": "no such file",
        "half/c.jpg": "cannot be read: Permission denied", "shut": "cannot be read: Permission denied",
    }  # fmt: skip
    assert list(reasons)[-1] == "shut", "the names of the others do not depend on it"
    assert alone == ([(closed / "shut", "shut")], [])


def test_a_pattern_of_folders_names_those_that_may_not_be_looked_into(closed):
    with nobody():
        found, _ = files.find([f"{closed}/*/*.jpg"])
        assert {path.name for path, _ in found} == {"e.jpg", "c.jpg", "shut"}
        found, _ = files.find([f"{closed}/d*/*.jpg"])
        assert {path.name for path, _ in found} == {"e.jpg"}


def test_files_that_belong_together_are_all_there_or_an_error(closed):
    with (
        nobody(),
        pytest.raises(GradcutError, match=rf"^masks: {closed}/shut cannot be read: Permission denied$"),
    ):
        files.walk(closed, "masks")
    for name in ("shut", "half", ".hidden"):
        (closed / name).chmod(0o755)
    with nobody():
        walked = [path.as_posix() for path in files.walk(closed, "masks")]
    assert walked == [".hidden/d.jpg", "a.jpg", "deep/e.jpg", "gone.jpg", "half/c.jpg", "shut/b.jpg"]

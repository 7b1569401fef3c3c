"""Photographs in tar and parquet files are found, named and read as files are."""

from __future__ import annotations

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from drawn_runs import QUICK, draw
from PIL import Image

from gradcut import GradcutError, Segmenter, files, formats, images, segment_folder, shards
from gradcut.errors import ImageError


def png(number: int) -> bytes:
    """A photograph of one colour, which says its number."""
    content = io.BytesIO()
    Image.new("RGB", (8 + number, 8), (number, 0, 0)).save(content, "PNG")
    return content.getvalue()


def tar(path, members: dict[str, bytes]):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def parquet(path, rows, group=100):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet as writer

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    values = pyarrow.array([{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(rows)], kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = pyarrow.array(range(len(rows)))
    writer.write_table(pyarrow.table({"label": labels, "image": values}), path, row_group_size=group)
    return path


def test_a_tar_of_webdataset(tmp_path):
    """Keys end at the first dot; what is no photograph is counted; a folder's shards are gone through in order."""
    members = {"b/cat.png": png(1), "b/cat.json": b"{}", "b/cat.seg.png": png(2), "./dog.jpg": png(3), ".x.png": png(4)}
    tar(tmp_path / "in/1.tar", members)
    tar(tmp_path / "in/deep/2.tar", {"cat.png": png(5)})
    (tmp_path / "in/plain.png").write_bytes(png(6))
    found, problems = files.find([tmp_path / "in"])
    assert problems == []
    assert [name for _, name in found] == ["1/b/cat", "1/dog", "deep/2/cat", "plain"]
    assert found[0][0] == f"tar://b/cat.png::{tmp_path}/in/1.tar"
    assert [images.read(path)[0, 0, 0] for path, _ in found] == [1, 3, 5, 6]
    assert [images.size_of(path)[1] for path, _ in found] == [9, 11, 13, 14]
    assert files.left_out([tmp_path / "in"]) == [
        f"3 files in {tmp_path / 'in'} were left out: 1 .*.png, 1 .json, 1 hidden; in tar files a name ends at the "
        "first dot, as that of cat.seg.png"
    ]
    for argument in (tmp_path / "in/1.tar", f"{tmp_path}/in/*.tar", f"file://{tmp_path}/in/1.tar"):
        assert [name for _, name in files.find([argument])[0]] == ["1/b/cat", "1/dog"]


def test_a_parquet_of_hugging_face(tmp_path):
    parquet(tmp_path / "train-00000.parquet", [png(n) for n in range(7)], group=3)
    found, _ = files.find([tmp_path])
    assert [name for _, name in found] == [f"train-00000/{n:06}" for n in range(7)]
    assert [images.read(path)[0, 0, 0] for path, _ in reversed(found)] == [6, 5, 4, 3, 2, 1, 0]


def test_shards_at_an_address(tmp_path):
    folder = files.Folder(f"memory://{tmp_path.name}/shards")
    folder.write("a.tar", tar(tmp_path / "a.tar", {"x.png": png(1), "y.png": png(2)}).read_bytes())
    for argument in (folder.url, f"{folder.url}/a.tar", f"{folder.url}/*.tar"):
        found, _ = files.find([argument])
        assert [name for _, name in found] == ["a/x", "a/y"]
        assert [images.read(path)[0, 0, 0] for path, _ in found] == [1, 2]


def test_many_threads_read_one_shard(tmp_path):
    tar(tmp_path / "a.tar", {f"{n:03}.png": png(n) for n in range(120)})
    paths = [path for path, _ in files.find([tmp_path])[0]]
    with ThreadPoolExecutor(8) as pool:
        assert [pixels[0, 0, 0] for pixels in pool.map(images.read, paths * 3)] == [*range(120)] * 3


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_run_over_shards_is_that_over_files_and_goes_on(brightness, tmp_path, kind):
    tasks = draw(tmp_path / "in", 4)
    contents = [(tmp_path / "in" / f"{task.name}.png").read_bytes() for task in tasks]
    shard = tmp_path / f"s.{kind}"
    if kind == "tar":
        tar(shard, {f"{task.name}.png": content for task, content in zip(tasks, contents, strict=True)})
    else:
        parquet(shard, contents)
    segmenter = Segmenter(brightness, QUICK)
    expected = segment_folder(segmenter, tmp_path / "in", tmp_path / "files")
    segment_folder(segmenter, shard, tmp_path / "run", limit=2)
    lines = segment_folder(segmenter, shard, tmp_path / "run")
    assert lines[0]["name"] == ("s/000" if kind == "tar" else "s/000000")
    for line, other in zip(lines, expected, strict=True):
        for item, same in zip(line["objects"], other["objects"], strict=True):
            assert (tmp_path / "run" / item["mask"]).read_bytes() == (tmp_path / "files" / same["mask"]).read_bytes()
    assert segment_folder(segmenter, shard, tmp_path / "run") == lines, "nothing is done again"
    formats.write(tmp_path / "run", tmp_path / "yolo", "yolo")
    brought = sorted((tmp_path / "yolo/images").iterdir())
    assert [path.read_bytes() for path in brought] == contents
    assert brought[0].name == ("s__000.png" if kind == "tar" else "s__000000.jpg")


@pytest.mark.parametrize("name", ["coco", "label-studio", "cvat"])
def test_formats_that_name_files_bring_photographs_out_of_shards(brightness, tmp_path, name):
    task = draw(tmp_path / "in", 1)[0]
    content = (tmp_path / "in" / f"{task.name}.png").read_bytes()
    segment_folder(Segmenter(brightness, QUICK), tar(tmp_path / "s.tar", {"000.png": content}), tmp_path / "run")
    with pytest.warns(UserWarning, match=rf"{name}: 1 of the photographs are in shards.*use .*out/images"):
        formats.write(tmp_path / "run", tmp_path / "out", name)
    assert (tmp_path / "out/images/s__000.png").read_bytes() == content
    if name == "coco":
        assert json.loads((tmp_path / "out/instances.json").read_text())["images"][0]["file_name"] == "s__000.png"
    if name == "label-studio":
        (entry,) = json.loads((tmp_path / "out/tasks.json").read_text())
        assert entry["data"]["image"] == str(tmp_path / "out/images/s__000.png")


def test_shards_that_cannot_be_read_cost_no_other(brightness, tmp_path):
    tar(tmp_path / "in/good.tar", {"a.png": png(200)})
    (tmp_path / "in/bad.tar").write_bytes(b"nothing" * 999)
    with tarfile.open(tmp_path / "in/packed.tar", "w:gz") as archive:
        archive.add(tmp_path / "in/good.tar", "a.png")
    (tmp_path / "in/rows.parquet").write_bytes(b"nothing")
    lines = {
        line["name"]: line for line in segment_folder(Segmenter(brightness, QUICK), tmp_path / "in", tmp_path / "out")
    }
    assert lines["good/a"]["state"] != "failed"
    for name, reason in (("bad", "not a tar file"), ("packed", "packed.tar: a compressed tar file")):
        assert reason in lines[f"{name}/unreadable"]["error"]
    assert "not a parquet file that can be read" in lines["rows/unreadable"]["error"]
    with pytest.raises(ImageError, match="no such file"):
        images.read(f"tar://b.png::{tmp_path}/in/good.tar")
    with pytest.raises(ImageError, match="no such file"):
        images.read(f"tar://b.png::{tmp_path}/in/gone.tar")


@pytest.mark.parametrize("damage", ["header", "cut"])
def test_what_stands_before_a_damage_is_done(tmp_path, damage):
    """Tarfile takes a damaged header for the end, in silence."""
    shard = tar(tmp_path / "a.tar", {f"{n}.png": png(n) for n in range(3)})
    content = bytearray(shard.read_bytes())
    content[2048:2148] = b"x" * 100
    shard.write_bytes(content if damage == "header" else content[:2200])
    found, _ = files.find([shard])
    assert [name for _, name in found] == ["a/0", "a/1", "a/unreadable"]
    assert [images.read(path)[0, 0, 0] for path, _ in found[:2]] == [0, 1]
    with pytest.raises(ImageError, match=r"^\S*/a.tar: damaged, what follows is not read: no header at byte 2048$"):
        images.read(found[2][0])


def test_names_in_a_tar_stay_in_the_run(brightness, tmp_path):
    long = "long" * 80
    members = ["../up.png", "/abs/a.png", "a//b.png", "a/b.png", "a/./b.png", "ü 猫.png"]
    members += [f"{long}.png", f"{long}/x.png"]
    drawn = tmp_path / f"deep/drawn/{draw(tmp_path / 'deep/drawn', 1)[0].name}.png"
    tar(tmp_path / "deep/in/s.tar", {name: drawn.read_bytes() for name in members})
    lines = segment_folder(Segmenter(brightness, QUICK), tmp_path / "deep/in/s.tar", tmp_path / "deep/out")
    assert {line["state"] for line in lines} == {"done"}
    names = [line["name"] for line in lines]
    assert len(names) == len(set(names)) == len(members) - 1
    assert names[0] == "s/abs/a"
    assert not any(part in ("", "..") for name in names for part in name.split("/"))
    assert max(len(part) for name in names for part in name.split("/")) == 200
    assert files.left_out([tmp_path / "deep/in/s.tar"])[0].endswith("was left out: 1 hidden")
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"drawn", "in", "out"}


def test_a_linked_member_is_what_it_is_linked_to(tmp_path):
    with tarfile.open(tar(tmp_path / "a.tar", {"a.png": png(7)}), "a") as archive:
        entry = tarfile.TarInfo("b.png")
        entry.type, entry.linkname = tarfile.LNKTYPE, "a.png"
        archive.addfile(entry)
    assert [images.read(path)[0, 0, 0] for path, _ in files.find([tmp_path])[0]] == [7, 7]


def test_a_shard_is_no_photograph(tmp_path):
    shard = tar(tmp_path / "a.tar", {"a.png": png(7)})
    with pytest.raises(ImageError, match=r"expected a photograph, got a shard of them; name one, as tar://"):
        images.read(shard)
    with pytest.raises(ImageError, match=r"^\S*/a.tar: not an image that can be read$"):
        images.decode(b"nothing", str(shard))  # what is uploaded may have any name
    (tmp_path / "b.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ImageError, match=r"b.tar.gz: a compressed tar file; decompress it first"):
        images.read(tmp_path / "b.tar.gz")


def test_a_parquet_without_photographs_and_one_without_pyarrow(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet as writer

    writer.write_table(pyarrow.table({"label": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(GradcutError, match="expected a column with the bytes of photographs, got label"):
        shards.members(str(tmp_path / "a.parquet"))
    sizes = pyarrow.array([{"bytes": 3}], pyarrow.struct([("bytes", pyarrow.int64())]))
    writer.write_table(pyarrow.table({"sizes": sizes, "jpeg": [png(5)]}), tmp_path / "d.parquet")
    assert images.read(f"parquet://000000::{tmp_path}/d.parquet")[0, 0, 0] == 5
    writer.write_table(pyarrow.table({"jpeg": pyarrow.array([png(3)], pyarrow.binary())}), tmp_path / "b.parquet")
    assert np.array_equal(images.read(f"parquet://000000::{tmp_path}/b.parquet")[0, 0], (3, 0, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    parquet(tmp_path / "c.parquet", [png(1)])
    with pytest.raises(GradcutError, match=r"pyarrow is missing; pip install 'gradcut\[parquet\]'"):
        shards.members(str(tmp_path / "c.parquet"))

"""Corrections of a finished run are saved: all or nothing, and never over what another window has saved."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from gradcut import files, images, results
from gradcut.edits import Edit
from gradcut.errors import GradcutError, RunError
from gradcut.files import Folder
from gradcut.painting import parse_strokes
from gradcut.pictures import palette
from gradcut.records import versions
from gradcut.results import Segmentation
from gradcut.runs.corrections import FORMAT, Correction, added_classes, numbered, read, read_about
from gradcut.runs.run import CORRECTIONS


def save_correction(
    run: str | os.PathLike[str], correction: Correction, result: Segmentation | None = None
) -> Correction:
    """Keep a correction with the result that it leads to, and return it as it was saved.

    It is all or nothing, whenever the process is killed. To undo a correction, save it as untouched.

    Args:
        correction: with the revision that was read, so that nobody overwrites what another window has saved since.
        result: of the photograph at its full size, of a corrected one. One that is accepted as the run found it needs
            none: the run's own result is copied, so that it lasts when the run is done again.

    Raises:
        RunError: another one has been saved since, the run has no such photograph, or lies on another machine.
        GradcutError: a result that is missing, that nobody asked for, or that is another photograph's.
        OutputError: the run's folder cannot be written.
    """
    folder = Folder(os.fspath(run))
    if folder.local is None:
        raise RunError(f"run: expected a folder on this machine to save corrections in, got {folder.url}")
    strokes = parse_strokes({key: [stroke._asdict() for stroke in each] for key, each in correction.strokes.items()})
    edits = Edit.parse([vars(edit) for edit in correction.edits])
    _check_result(correction, result)
    with files.writing(folder.url):
        (own, settings), original = read_about(folder), _original(folder, correction.name)
        if result is not None:
            _check_same(result, original, correction.name)
        with locked(folder.local):
            before = read(run, correction.name)
            if before.revision != correction.revision:
                raise RunError(
                    f"correction: expected revision {before.revision} of {correction.name}, which another window or "
                    f"program has saved, got {correction.revision}; read it again"
                )
            saved = replace(
                correction, strokes=strokes, edits=edits, revision=before.revision + 1, versions=versions(),
                time=datetime.now(UTC).isoformat(timespec="milliseconds"), photograph=original["photograph"],
                record=None,
            )  # fmt: skip
            store = Folder(str(folder.local / "corrected"))
            if before.revision:
                files.remove_result(store, f"{saved.name}.{before.revision - 1}")
            if saved.state == "accepted" or result is not None:
                saved = replace(saved, record=_write_result(folder, store, saved, result, original, own, settings))
            folder.write(f"corrections/{saved.name}.json", files.encode_json(_document(saved)) + b"\n")
    return saved


def remove_all(folder: Path) -> None:
    """Remove the corrections of a run on this machine, with their results."""
    with locked(folder):
        for below in CORRECTIONS:
            if (folder / below).is_dir():
                shutil.rmtree(folder / below)


def sweep(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it saved a correction."""
    if any((folder / below).is_dir() for below in CORRECTIONS):
        with locked(folder):
            for below in CORRECTIONS:
                for file in (folder / below).rglob(".*.part"):
                    file.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other thread or process save a correction of this run on this machine; waits for one that does.

    Raises:
        OSError: the folder cannot be written, or its file system knows no locks.
    """
    with (folder / ".corrections.lock").open("ab") as file:
        _lock(file)
        yield  # the system takes the lock back when the file is closed, also that of a process that is killed


if sys.platform == "win32":

    def _lock(file: IO[bytes]) -> None:
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # gives up after ten seconds

else:

    def _lock(file: IO[bytes]) -> None:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _original(folder: Folder, name: str) -> dict[str, Any]:
    """The record of what the run found."""
    try:
        record = dict(json.loads(folder.read(f"results/{name}.json") or b""))
        return record | {key: record[key] for key in ("photograph", "width", "height", "files", "objects")}
    except (ValueError, KeyError, TypeError):
        raise RunError(f"name: {folder.url} holds no finished photograph {name!r}") from None


def _document(saved: Correction) -> dict[str, Any]:
    strokes = {label: [stroke._asdict() for stroke in drawn] for label, drawn in saved.strokes.items()}
    edits = [vars(edit) | {"after": dict(edit.after)} for edit in saved.edits]
    return {"format": FORMAT, **vars(saved), "versions": dict(saved.versions), "strokes": strokes, "edits": edits}


def _check_result(correction: Correction, result: Segmentation | None) -> None:
    if result is None and (correction.state == "corrected" or (correction.state == "accepted" and correction.changed)):
        raise GradcutError(f"result: expected the corrected one of {correction.name}, got none")
    if result is not None and correction.state in ("rejected", "untouched"):
        raise GradcutError(f"result: expected none of {correction.name}, which is {correction.state}, got one")


def _check_same(result: Segmentation, original: Mapping[str, Any], name: str) -> None:
    expected, size = (original["height"], original["width"]), result.image.shape[:2]
    if size != expected:
        raise GradcutError(f"result: expected {name} with height and width {expected}, got {size}")
    if result.source not in ("", original["photograph"]):
        raise GradcutError(f"result: expected that of {original['photograph']}, got that of {result.source}")


def _write_result(
    folder: Folder,
    store: Folder,
    saved: Correction,
    result: Segmentation | None,
    original: Mapping[str, Any],
    own: tuple[str, ...],
    settings: Mapping[str, Any],
) -> str:
    """Write the revision's result; its record's path below the run.

    Class maps have no unsure pixels, for somebody has looked; classes have the numbers of `classes`. There is no
    picture: it takes most of the time, and who corrects has just seen it.
    """
    target = f"{saved.name}.{saved.revision}"
    files.remove_result(store, target)  # of a process that was killed
    if result is None:
        document = _copy(folder, store, saved.name, target, original)
    else:
        result = replace(result, source=original["photograph"])
        document = results.save(
            result,
            store,
            target,
            pictures=False,
            cutouts=bool(settings.get("cutouts")),
            maps=bool(settings.get("maps")),
        )
    added = added_classes(folder)
    labels = [item["label"] for item in document["objects"]]
    if new := [label for label in dict.fromkeys(labels) if label not in own and label not in added]:
        added += new
        store.write("classes.json", files.encode_json(added, indent=1) + b"\n")
    numbers = {label: number for number, label in enumerate((*own, *added))}
    for item in document["objects"]:
        item["index"] = numbers[item["label"]]
    if path := document["files"].get("labelmap"):
        values = numbered(images.read_values(f"{store.url}/{path}"), document["objects"], numbers)
        document["files"]["classmap"] = f"classmaps/{target}.png"
        store.write(
            document["files"]["classmap"], images.encode_png(values, palette() if values.dtype == np.uint8 else None)
        )
    store.write(f"results/{target}.json", files.encode_json(document, indent=1) + b"\n")
    return f"corrected/results/{target}.json"


def _copy(folder: Folder, store: Folder, name: str, target: str, original: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own result under another name, without its class map and picture; its record."""

    def copied(path: str | None) -> str | None:
        if path is None:
            return None
        content = folder.read(path)
        if content is None:
            raise RunError(f"name: {path} of {name} is missing in {folder.url}")
        kind, _, rest = path.partition("/")
        moved = f"{kind}/{target}{rest.removeprefix(name)}"
        store.write(moved, content)
        return moved

    kept = {kind: copied(path) for kind, path in original["files"].items() if kind == "labelmap"}
    objects = [
        item | {kind: copied(item[kind]) for kind in ("mask", "cutout", "map") if kind in item}
        for item in original["objects"]
    ]
    if _original(folder, name) != original:
        raise RunError(f"name: {name} in {folder.url} is being done again; look at it once more")
    return {**original, "files": kept, "objects": objects}

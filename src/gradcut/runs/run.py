"""A run's folder: its settings, its manifest, and what is finished in it, here or on a remote store.

=================== ====================================================================================
``run.json``        settings, versions, hashes and the classifier's labels: what every result depends on
``manifest.jsonl``  one line a photograph: what was found and where it lies, or the error
``.trying/``        a mark for each photograph that is being worked on; empty when nothing is
=================== ====================================================================================

Beside them lie the photographs' files, as `gradcut.results.save` writes them. The record ``results/NAME.json`` is
written last, so where it stands the photograph is finished, whatever the manifest says. What a person has corrected
lies in folders of its own, as `gradcut.runs.corrections` says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from gradcut import files
from gradcut.errors import RunError
from gradcut.files import Folder, encode_json
from gradcut.records import brief, differing

#: One line of the manifest.
Entry = dict[str, Any]

#: What a manifest's line has, of a photograph that failed and of another one.
_FAILED = {"name", "photograph", "state"}
_WHOLE = _FAILED | {"width", "height", "objects", "files"}

#: The folders below a run's that belong to corrections, which a run that goes on leaves alone.
CORRECTIONS = ("corrections", "corrected")


def mark(name: str) -> str:
    """The file that says: this photograph is being worked on. Its content is the name and how often it was alone."""
    return f".trying/{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:24]}"


def manifest_line(name: str, record: Mapping[str, Any]) -> Entry:
    """The manifest's line for a finished photograph, from its record."""
    line = {
        "name": name,
        "photograph": record["photograph"],
        "state": record["state"],
        "width": record["width"],
        "height": record["height"],
        "confidence": record["confidence"],
        "objects": record["objects"],
        "files": {**record["files"], "record": f"results/{name}.json"},
    }
    if not record["objects"]:
        line["best_scores"] = record["best_scores"]
    line |= {part: record[part] for part in ("advice", "dropped") if part in record}
    return line | {"seconds": round(sum(record["seconds"].values()), 4)}


class Run:
    """A run's folder, open for writing by this process alone; use it in a ``with`` block.

    A folder of the same settings is continued: finished photographs stay, failed ones are forgotten so that they
    are tried again, and what a killed process left half written is removed.

    Args:
        settings: what every result depends on, as JSON values.
        about: further content of ``run.json`` that may differ between the runs of one folder.
        overwrite: remove what an earlier run wrote and begin anew.
        kept: names of photographs whose results stay when the others are removed.

    Raises:
        RunError: the folder holds results of other settings, or another process is writing into it.
        GradcutError: it cannot be written.
    """

    def __init__(
        self,
        folder: Folder,
        settings: Mapping[str, Any],
        about: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        kept: Collection[str] = (),
    ) -> None:
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        self.about, self.overwrite, self.kept = dict(about or {}), overwrite, frozenset(kept)
        self._at: dict[str, tuple[int, str]] = {}  # name: where its line begins, and the photograph
        self._lock: int | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Run:
        try:
            with files.writing(self.folder.url):
                self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def done(self) -> Mapping[str, str]:
        """Names of the photographs that have a line, and the photographs' paths."""
        return {name: photograph for name, (_, photograph) in self._at.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._at

    def _open(self) -> None:
        local = self.folder.local
        if local is not None:
            local.mkdir(parents=True, exist_ok=True)
            self._acquire(local)
        before = self.folder.read("run.json")
        earlier = _lines(self.folder)
        if self.overwrite:
            kept = []
            for line in earlier:
                if line["name"] in self.kept:
                    kept.append(line)
                else:
                    files.remove_result(self.folder, line["name"])
            # Before the new settings: a process that is killed leaves no line of a result that is gone.
            if kept:
                self.folder.write("manifest.jsonl", b"".join(encode_json(line) + b"\n" for line in kept))
            else:
                self.folder.remove("manifest.jsonl")
            before, earlier = None, iter(kept)
        elif before is not None:
            made = settings_of(self.folder, before)
            compare(self.folder, made, dict.fromkeys(made) | self.settings)
        if local is not None:
            _sweep(local)
        if before is None or self.overwrite:
            document = {"settings": self.settings, **self.about}
            self.folder.write("run.json", encode_json(document, indent=1) + b"\n")
        self._file = tempfile.TemporaryFile() if local is None else None  # noqa: SIM115
        if local is not None:
            manifest = local / "manifest.jsonl"
            with files.replacing(manifest) as temporary, temporary.open("wb") as file:
                self._write(earlier, file)
            self._file = manifest.open("ab")
        else:
            assert self._file is not None
            self._write(earlier, self._file)

    def _write(self, lines: Iterable[Entry], file: IO[bytes]) -> None:
        """Keep the finished photographs' lines, each once."""
        for line in lines:
            if line["state"] != "failed" and line["name"] not in self._at:
                self._at[line["name"]] = (file.tell(), line["photograph"])
                file.write(encode_json(line) + b"\n")

    def _acquire(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # Windows has no advisory locks; two runs in one folder remain the user's affair there
            return
        self._lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"output: another process is writing into {folder}") from None

    def lines(self, names: Iterable[str]) -> Iterator[Entry]:
        """The lines of these photographs."""
        for name in names:
            yield json.loads(self._line(name))

    def _line(self, name: str) -> bytes:
        at = self._at[name][0]
        if self.folder.local is None:
            assert self._file is not None
            try:
                self._file.seek(at)
                return self._file.readline()
            finally:
                self._file.seek(0, os.SEEK_END)
        with (self.folder.local / "manifest.jsonl").open("rb") as file:
            file.seek(at)
            return file.readline()

    def append(self, line: Entry) -> None:
        """Add a photograph's line."""
        assert self._file is not None
        with files.writing(self.folder.url):
            at = self._file.tell()
            try:
                self._file.write(encode_json(line) + b"\n")
                self._file.flush()
            except OSError:
                # What the buffer still holds would be written again when the file is closed.
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None
                raise
        self._at[line["name"]] = (at, line["photograph"])

    def finish(self, order: Iterable[str]) -> None:
        """Put the lines into the order of the photographs, those of other photographs first."""
        wanted = [name for name in order if name in self._at]
        named = set(wanted)
        names = [*(name for name in self._at if name not in named), *wanted]
        with files.writing(self.folder.url):
            local = self.folder.local
            if local is None:
                self.folder.write("manifest.jsonl", b"".join(map(self._line, names)))
                return
            with files.replacing(local / "manifest.jsonl") as temporary, temporary.open("wb") as file:
                file.writelines(map(self._line, names))
            with contextlib.suppress(OSError):
                (local / ".trying").rmdir()


def settings_of(folder: Folder, about: bytes) -> dict[str, Any]:
    """The settings in the content of a folder's ``run.json``.

    Raises:
        RunError: it is no run's.
    """
    try:
        return dict(json.loads(about)["settings"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"output: {folder.url}/run.json is no run's; choose another folder or --overwrite") from None


def compare(folder: Folder, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse a folder that was made with other settings than these, which may be some of a run's.

    Args:
        before: the settings that it was made with.

    Raises:
        RunError: they differ; the message names what does.
    """
    if differences := differing({name: before.get(name) for name in settings}, settings):
        raise RunError(f"output: {folder.url} was made with {brief(differences)}; choose another folder or --overwrite")


def read_run(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], Iterator[Entry]]:
    """A run's ``run.json``, and its manifest line by line.

    Raises:
        RunError: the folder holds no run, or a damaged one; a damaged line is told of when its turn comes.
    """
    opened = Folder(os.fspath(folder))
    about = opened.read("run.json")
    # On a remote store the manifest is written last.
    if about is None or (opened.local is not None and not (opened.local / "manifest.jsonl").is_file()):
        raise RunError(f"run: expected a folder of 'gradcut segment' with run.json and manifest.jsonl, got {folder}")
    try:
        document: dict[str, Any] = json.loads(about)
        _ = dict(document["settings"]), list(document["classes"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"run: {folder}/run.json is damaged; expected what 'gradcut segment' writes") from None
    return document, _lines(opened, strict=True)


def review(folder: str | os.PathLike[str]) -> list[Entry]:
    """A run's photographs, the least certain first: those without an object, then by their least sure object.

    How sure an object is says its confidence, or, with a recipe that has none, its score.

    Returns:
        Lines of the manifest with ``certainty``, of the least sure object, in [0, 1]; None without an object.

    Raises:
        RunError: the folder holds no run.
    """

    lines = [line for line in read_run(folder)[1] if line["state"] != "failed"]
    return [
        line | {"certainty": min(_sure(line["objects"]), default=None)}
        for line in sorted(lines, key=lambda line: doubt(line["objects"], line["name"]))
    ]


def doubt(objects: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float, str]:
    """What `review` orders photographs by: the first are the least certain.

    Args:
        objects: with ``state``, ``score`` and ``confidence``, as in the manifest.
        name: the photograph's, between those that are equally certain.
    """
    sure = _sure(objects)
    return min(sure, default=-1.0), sum(sure) / max(len(sure), 1), name


def _sure(objects: Sequence[Mapping[str, Any]]) -> list[float]:
    return [
        0.0 if item["state"] == "blank" else item["score"] if item["confidence"] is None else item["confidence"]
        for item in objects
    ]


def _lines(folder: Folder, strict: bool = False) -> Iterator[Entry]:
    """The manifest's whole lines: a process that dies while it writes leaves a torn last one.

    Raises:
        RunError: ``strict``, and another line is damaged. Who continues the run finds what it was about in the records.
    """
    for number, text in enumerate(folder.lines("manifest.jsonl"), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and (_FAILED if line.get("state") == "failed" else _WHOLE) <= line.keys():
            yield line
        elif strict and text.endswith(b"\n"):
            raise RunError(
                f"run: line {number} of {folder.url}/manifest.jsonl is damaged; the 'gradcut segment' that wrote it "
                "mends it"
            )


def _sweep(folder: Path) -> None:
    """Remove the temporary files of a process that was killed, but for those of corrections, which others may save."""
    for below, folders, names in os.walk(folder):
        if Path(below) == folder:
            folders[:] = [name for name in folders if name not in CORRECTIONS]
        for name in names:
            if name.startswith(".") and name.endswith(".part"):
                Path(below, name).unlink(missing_ok=True)

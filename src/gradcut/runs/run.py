"""The output folder of a run: its settings, its manifest, and what is finished in it, here or on a remote store.

=================== ====================================================================================
``run.json``        settings, versions, hashes and the classifier's labels: what every result depends on
``manifest.jsonl``  one line a photograph: what was found and where it lies, or the error
``.trying/``        a mark for each photograph that is being worked on; empty when nothing is
=================== ====================================================================================

Beside them lie the photographs' files, as `gradcut.results.save` writes them. The record ``results/NAME.json`` is
written last, so where it stands the photograph is finished, whatever the manifest says.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from gradcut import files, results
from gradcut.errors import RunError
from gradcut.results import Segmentation

#: One line of the manifest.
Entry = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A folder, here or at any address that fsspec knows (``s3://``, ``gs://``, ``memory://``).

    A file is either there as a whole or not at all: here by renaming, in an object store by its own promise.
    """

    url: str

    @cached_property
    def local(self) -> Path | None:
        """The folder on this machine, or None for a remote one."""
        return None if files.is_url(self.url) else Path(self.url.removeprefix("file://"))

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        return files.remote(self.url)

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        try:
            if self.local is not None:
                return (self.local / name).read_bytes()
            store, root = self._remote
            return bytes(store.cat_file(f"{root}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def lines(self, name: str) -> Iterator[Entry]:
        """A manifest's whole lines: a process that dies while it writes leaves a torn last one."""
        if self.local is None:
            yield from _lines((self.read(name) or b"").split(b"\n"))
        elif (self.local / name).is_file():
            with (self.local / name).open("rb") as file:
                yield from _lines(file)

    def write(self, name: str, content: bytes) -> None:
        if self.local is not None:
            with files.replacing(self.local / name) as temporary:
                temporary.write_bytes(content)
            return
        store, root = self._remote
        store.pipe_file(f"{root}/{name}", content)

    def remove(self, name: str) -> None:
        if self.local is not None:
            (self.local / name).unlink(missing_ok=True)
            return
        store, root = self._remote
        with contextlib.suppress(FileNotFoundError):
            store.rm_file(f"{root}/{name}")

    def names(self, folder: str) -> list[str]:
        """The files directly in a folder, sorted."""
        if self.local is not None:
            below = self.local / folder
            return sorted(path.name for path in below.iterdir()) if below.is_dir() else []
        store, root = self._remote
        store.invalidate_cache()
        if not store.isdir(f"{root}/{folder}"):
            return []
        return sorted(path.rsplit("/", 1)[-1] for path in store.ls(f"{root}/{folder}", detail=False))

    def save(self, result: Segmentation, name: str, **options: Any) -> dict[str, Any]:
        """`gradcut.results.save`, the record last here as well."""
        if self.local is not None:
            return results.save(result, self.local, name, **options)
        with tempfile.TemporaryDirectory(prefix="gradcut-") as scratch:
            record = results.save(result, Path(scratch), name, **options)
            written = [path for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
            last = Path(scratch) / f"results/{name}.json"
            for path in [*(path for path in written if path != last), last]:
                self.write(path.relative_to(scratch).as_posix(), path.read_bytes())
        return record

    def clear(self, entry: Entry) -> None:
        """Remove a photograph's files, the record first."""
        self.remove(f"results/{entry['name']}.json")
        for path in entry.get("files", {}).values():
            self.remove(path)
        for found in entry.get("objects", ()):
            self.remove(found["mask"])
        if self.local is not None:
            with contextlib.suppress(OSError):
                (self.local / f"masks/{entry['name']}").rmdir()


# marks ---------------------------------------------------------------------------------------------------------------


def mark(name: str) -> str:
    """The file that says: this photograph is being worked on. Its content is the name and how often it was alone."""
    return f".trying/{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:24]}"


# the manifest --------------------------------------------------------------------------------------------------------


def entry(name: str, record: Mapping[str, Any]) -> Entry:
    """The manifest's line for a finished photograph, from its record."""
    found = {
        "name": name,
        "photograph": record["photograph"],
        "state": "done" if record["objects"] else "empty",
        "width": record["width"],
        "height": record["height"],
        "confidence": record["confidence"],
        "objects": record["objects"],
        "files": {**record["files"], "record": f"results/{name}.json"},
    }
    if not record["objects"]:
        found["best_scores"] = record["best_scores"]
    return found | {"seconds": round(sum(record["seconds"].values()), 4)}


class Run:
    """A run's folder, open for writing by this process alone; use it in a ``with`` block.

    A folder of the same settings is continued: finished photographs stay, failed ones are forgotten so that they
    are tried again, and what a killed process left half written is removed.

    Args:
        settings: what every result depends on, as JSON values.
        about: further content of ``run.json`` that may differ between the runs of one folder.
        overwrite: remove what an earlier run wrote and begin anew.

    Raises:
        RunError: the folder holds results of other settings, or another process is writing into it.
        GradcutError: it cannot be written.
    """

    def __init__(
        self, place: Place, settings: Mapping[str, Any], about: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> None:
        self.place, self.settings = place, json.loads(json.dumps(settings))
        self.about, self.overwrite = dict(about or {}), overwrite
        self._at: dict[str, tuple[int, str]] = {}  # name: where its line begins, and the photograph
        self._lock: int | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Run:
        try:
            with files.writing(self.place.url):
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
        folder = self.place.local
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._acquire(folder)
        before = self.place.read("run.json")
        earlier = self.place.lines("manifest.jsonl")
        if self.overwrite:
            for line in earlier:
                self.place.clear(line)
            self.place.remove("manifest.jsonl")
            before, earlier = None, iter(())
        elif before is not None:
            self._compare(before)
        if folder is not None:
            _sweep(folder)
        if before is None or self.overwrite:
            document = {"settings": self.settings, **self.about}
            self.place.write("run.json", _json(document, indent=1) + b"\n")
        self._file = tempfile.TemporaryFile() if folder is None else None  # noqa: SIM115
        if folder is not None:
            kept = folder / "manifest.jsonl"
            with files.replacing(kept) as temporary, temporary.open("wb") as file:
                self._write(earlier, file)
            self._file = kept.open("ab")
        else:
            assert self._file is not None
            self._write(earlier, self._file)

    def _write(self, lines: Iterable[Entry], file: IO[bytes]) -> None:
        """Keep the finished photographs' lines, each once."""
        for line in lines:
            if line["state"] != "failed" and line["name"] not in self._at:
                self._at[line["name"]] = (file.tell(), line["photograph"])
                file.write(_json(line) + b"\n")

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

    def _compare(self, before: bytes) -> None:
        try:
            there = json.loads(before)["settings"]
        except (ValueError, KeyError, TypeError):
            raise RunError(
                f"output: {self.place.url}/run.json is no run's; choose another folder or --overwrite"
            ) from None
        keys = [key for key in {**there, **self.settings} if there.get(key) != self.settings.get(key)]
        if keys:
            shown = "; ".join(f"{key} {_short(there.get(key))}, now {_short(self.settings.get(key))}" for key in keys)
            raise RunError(
                f"output: {self.place.url} was made with other settings: {shown}; choose another folder or --overwrite"
            )

    def lines(self, names: Iterable[str]) -> Iterator[Entry]:
        """The lines of these photographs."""
        for name in names:
            yield json.loads(self._line(name))

    def _line(self, name: str) -> bytes:
        at = self._at[name][0]
        if self.place.local is None:
            assert self._file is not None
            try:
                self._file.seek(at)
                return self._file.readline()
            finally:
                self._file.seek(0, os.SEEK_END)
        with (self.place.local / "manifest.jsonl").open("rb") as file:
            file.seek(at)
            return file.readline()

    def append(self, line: Entry) -> None:
        """Add a photograph's line."""
        assert self._file is not None
        with files.writing(self.place.url):
            at = self._file.tell()
            try:
                self._file.write(_json(line) + b"\n")
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
        with files.writing(self.place.url):
            local = self.place.local
            if local is None:
                self.place.write("manifest.jsonl", b"".join(map(self._line, names)))
                return
            with files.replacing(local / "manifest.jsonl") as temporary, temporary.open("wb") as file:
                file.writelines(map(self._line, names))
            with contextlib.suppress(OSError):
                (local / ".trying").rmdir()


def read_run(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], Iterator[Entry]]:
    """A run's ``run.json``, and its manifest line by line.

    Raises:
        RunError: the folder holds no run.
    """
    place = Place(os.fspath(folder))
    about = place.read("run.json")
    if about is None:
        raise RunError(f"run: expected a folder of 'gradcut segment' with run.json and manifest.jsonl, got {folder}")
    return json.loads(about), place.lines("manifest.jsonl")


def review(folder: str | os.PathLike[str]) -> list[Entry]:
    """A run's photographs, the least certain first: those without an object, then by their least sure object.

    Raises:
        RunError: the folder holds no run.
    """

    def doubt(line: Entry) -> tuple[float, float, str]:
        sure = [found["confidence"] for found in line["objects"]]
        return min(sure, default=-1.0), line["confidence"] or 0.0, line["name"]

    return sorted((line for line in read_run(folder)[1] if line["state"] != "failed"), key=doubt)


def versions() -> dict[str, str]:
    """Of the packages that a result depends on."""
    return {package: importlib.metadata.version(package) for package in ("gradcut", "torch", "timm", "numpy", "pillow")}


def _lines(lines: Iterable[bytes]) -> Iterator[Entry]:
    for line in lines:
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and {"name", "photograph", "state"} <= found.keys():
                yield found


def _sweep(folder: Path) -> None:
    """Remove the temporary files of a process that was killed."""
    for below, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(".part"):
                Path(below, name).unlink(missing_ok=True)


def _json(document: Any, indent: int | None = None) -> bytes:
    return json.dumps(document, indent=indent, ensure_ascii=False).encode(errors="surrogateescape")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(_short(each) for each in value.values())
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text

"""Files here and on remote stores: found, fetched, and written whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import io
import json
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeGuard

from gradcut import shards
from gradcut.errors import GradcutError, ImageError, OutputError

#: Photographs of phones, which pillow-heif reads.
HEIF = frozenset({".heic", ".heif", ".hif"})
#: Whether it is installed.
READS_HEIF = importlib.util.find_spec("pillow_heif") is not None
#: What a folder is searched for.
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif", ".avif", ".jp2",
    ".j2k", ".j2c", ".jpx",
}) | (HEIF if READS_HEIF else frozenset())  # fmt: skip
#: Cameras' own files, of which decoders see a small preview at best.
RAW = frozenset({
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef", ".srw",
    ".x3f", ".3fr", ".iiq", ".dcr", ".kdc", ".mrw", ".erf", ".mef", ".mos", ".rwl",
})  # fmt: skip
#: Photographs that have to be converted before they are read.
CONVERTED = RAW | {".jxl"}

# Bytes of a part of a result's name.
_LONGEST = 200


def is_url(path: object) -> TypeGuard[str]:
    """Whether this is an address such as ``s3://bucket/cat.jpg`` and no path on this machine."""
    return isinstance(path, str) and "://" in path and not path.startswith("file://")


def remote(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it, as fsspec has them.

    Raises:
        ImageError: a protocol that is unknown, or whose package is not installed.
    """
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ImageError(f"{url}: cannot be opened: {error}") from error
    return files, path.rstrip("/")


def suffix(path: str) -> str:
    """The ending of a photograph's file or address, in small letters; empty where it has none."""
    shard = shards.split(path)
    return Path(shard[1] if shard else path).suffix.lower()


def fetch(url: str) -> io.BytesIO:
    """A file at an address, as a whole.

    Raises:
        FileNotFoundError: there is none.
        ImageError: it is empty, or the protocol is unknown.
    """
    if shards.split(url):
        return shards.read(url)
    files, path = remote(url)
    content = files.cat_file(path)
    if not content:
        raise ImageError(f"{url}: the file is empty")
    return io.BytesIO(content)


def is_missing(path: Path | str) -> bool:
    """Whether this is a path on this machine with nothing there; not one that may not be looked at: reading tells."""
    try:
        return isinstance(path, Path) and not path.exists()
    except OSError:
        return False


@dataclass(frozen=True)
class _Listing:
    """What a folder or a pattern holds: photographs, with their paths below it, and the other files' paths below it."""

    kind: str
    photographs: list[tuple[Path | str, Path]]
    others: list[Path]


def find(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[tuple[Path | str, str]], list[str]]:
    """Every photograph under files, folders and patterns, each with a name of its own, and what cannot be used.

    Folders are searched recursively, sorted by name, hidden files left out. A pattern has ``*``, ``?`` or
    ``[`` in it, ``**`` for any depth, and counts where no file has that very name. A photograph's suffix is one
    of `SUFFIXES`, or the one that a pattern names; `left_out` counts the other files. A name is the path below the
    folder without its suffix, its parts of 200 bytes at most; where two photographs would share one, the later one
    keeps its suffix, or gets its folder's name in front, or a number. A shard, as `gradcut.shards` reads them, counts
    as a folder of its own name: its photographs are called ``shard/key``. A folder that may not be looked into is
    among the photographs itself, after the others of its argument: reading it tells.

    Returns:
        Pairs of path and name, and one sentence for each folder or pattern without photographs. An address
        such as ``s3://bucket/folder`` stays a string. A missing file is among the pairs: reading it tells.
    """
    by_name: dict[str, Path | str] = {}
    seen: set[str] = set()
    failures: list[str] = []
    for argument in [os.fspath(path) for path in paths]:
        listing = _listing(argument)
        if not listing.photographs:
            failures.append(f"{argument}: no photographs in this {listing.kind}")
        for path, below in listing.photographs:
            where = Path(path.replace("::", "/").partition("://")[2]) if isinstance(path, str) else path.resolve()
            key = path if isinstance(path, str) else str(where)
            if key in seen:
                continue
            seen.add(key)
            choices = [
                below.with_suffix(""),
                below,
                where.parent.name / below,
                Path(*where.parts[where.is_absolute() :]),
            ]
            # Members of a tar may share even the last: nothing keeps two from having one path.
            numbered = (f"{_short(below)}-{number}" for number in count(2))
            by_name[next(name for name in chain(map(_short, choices), numbered) if name not in by_name)] = path
    return [(path, name) for name, path in by_name.items()], failures


def _short(name: Path) -> str:
    """With ``/``, and no part longer than a file system takes together with an ending and a temporary name's."""
    return "/".join(part if len(os.fsencode(part)) <= _LONGEST else _shortened(part) for part in name.parts)


def _shortened(part: str) -> str:
    content = os.fsencode(part)
    return f"{content[: _LONGEST - 13].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:12]}"


def left_out(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """One sentence for each folder or pattern that holds files that `find` leaves out: how many of them, and why."""
    listings = {argument: _listing(argument) for argument in [os.fspath(path) for path in paths]}
    return [_counted(argument, listing.others) for argument, listing in listings.items() if listing.others]


def _counted(argument: str, others: Sequence[Path]) -> str:
    kinds = Counter(map(_kind, others))
    ranked = sorted(kinds.items(), key=lambda counted: (-counted[1], counted[0]))
    counts = ", ".join(f"{number} {kind}" for kind, number in ranked)
    number = f"{len(others)} files" if len(others) > 1 else "1 file"
    text = f"{number} in {argument} {'were' if len(others) > 1 else 'was'} left out: {counts}"
    if dotted := next((path for path in others if _kind(path).startswith(".*")), None):
        text += f"; in tar files a name ends at the first dot, as that of {dotted.name}"
    if heif := sorted(HEIF & kinds.keys() - SUFFIXES):
        text += f"; pip install 'gradcut[heic]' to read {', '.join(heif)}"
    convert = sorted(CONVERTED & kinds.keys())
    return f"{text}; convert {', '.join(convert)} first, to JPEG for instance" if convert else text


def _kind(path: Path) -> str:
    """What files are counted by; ``.*.png`` are those in tar files of which ``.png`` is but the end of the ending."""
    if _hidden(path):
        return "hidden"
    suffix = path.suffix.lower()
    return f".*{suffix}" if suffix in SUFFIXES else suffix or "without a suffix"


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _listing(argument: str) -> _Listing:
    if is_url(argument):
        return _remote_listing(argument)
    path = Path(argument.removeprefix("file://"))
    # The functions of `os.path` answer no, where those of `Path` raise, for what may not be looked at.
    if os.path.isdir(path):  # noqa: PTH112
        found, errors = _walk(path)
        listing = _sorted("folder", [(path / name, name) for name in found], SUFFIXES)
        for closed in [Path(error.filename) for error in errors]:
            below = Path(path.resolve().name) if closed == path else closed.relative_to(path)
            listing.photographs.append((closed, below))
        return listing
    if glob.has_magic(str(path)) and is_missing(path):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207  the pattern may be absolute
        named = [(match, Path(match.name)) for match in matches if _is_file(match)]
        listing = _sorted("pattern", named, _suffixes(path))
        listing.photographs.extend((closed, Path(closed.name)) for closed in _closed(path))
        return listing
    if shards.is_shard(str(path)) and os.path.isfile(path):  # noqa: PTH113
        return _sorted("shard", [(path, Path(path.name))], SUFFIXES)
    return _Listing("path", [(path, Path(path.name))], [])


def walk(folder: Path, argument: str) -> list[Path]:
    """The files at any depth in a folder, by their paths below it, sorted.

    Raises:
        GradcutError: a folder among them cannot be looked into; ``argument`` is whose it is.
    """
    found, errors = _walk(folder)
    if errors:
        raise GradcutError(f"{argument}: {errors[0].filename} cannot be read: {errors[0].strerror}")
    return found


def _walk(folder: Path) -> tuple[list[Path], list[OSError]]:
    """The files at any depth, by their paths below the folder, sorted; and why folders, not hidden, cannot be read."""
    errors: list[OSError] = []
    files = [Path(top, name) for top, _, names in os.walk(folder, onerror=errors.append) for name in names]
    told = [error for error in errors if not _hidden(Path(error.filename).relative_to(folder))]
    return sorted(file.relative_to(folder) for file in files if _is_file(file)), told


def _is_file(path: Path) -> bool:
    """Whether there is one to read; also where that may not be known, or a link leads nowhere: reading tells."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return True


def _closed(pattern: Path) -> list[Path]:
    """The folders that a pattern leads into and that cannot be looked into, of which `glob` says nothing."""
    closed = set()
    for place in (pattern, *pattern.parents):
        if glob.has_magic(place.name):
            for folder in glob.glob(str(place if place.name == "**" else place.parent), recursive=True):  # noqa: PTH207
                try:
                    os.scandir(folder).close()
                except (NotADirectoryError, FileNotFoundError):
                    continue
                except OSError:
                    closed.add(Path(folder))
    return sorted(closed)


def _sorted(kind: str, found: Sequence[tuple[Path | str, Path]], suffixes: frozenset[str]) -> _Listing:
    """Files with their names: photographs, the contents of shards in their place, and what is neither."""
    listing = _Listing(kind, [], [])
    for path, name in found:
        if _hidden(name) and kind != "pattern":
            listing.others.append(name)
        elif name.suffix.lower() in shards.SHARDS:
            for member in _members(str(path)):
                below = name.with_suffix("") / (member.name + member.suffix)
                known = member.suffix.lower() in SUFFIXES or (not member.suffix and name.suffix.lower() == ".parquet")
                if known and not _hidden(below):
                    listing.photographs.append((member.address, below))
                else:
                    listing.others.append(below)
        elif name.suffix.lower() in suffixes:
            listing.photographs.append((path, name))
        else:
            listing.others.append(name)
    return listing


def _members(shard: str) -> list[shards.Member]:
    """What a shard holds; for what cannot be read of it the shard itself, as a photograph of which reading says why."""
    found: list[shards.Member] = []
    try:
        found = shards.members(shard)
        shards.check(shard)
    except (ImageError, OSError):
        found = [*found, shards.Member(shard, "unreadable", ".png")]
    return found


def _suffixes(pattern: Path) -> frozenset[str]:
    """`SUFFIXES`, and the suffix that a pattern names: whoever names it wants it to be read."""
    return SUFFIXES if glob.has_magic(pattern.suffix) else SUFFIXES | {pattern.suffix.lower()} - {""}


def _remote_listing(url: str) -> _Listing:
    files, root = remote(url)
    pattern = glob.has_magic(root)
    if not pattern and not files.isdir(root):
        if shards.is_shard(root):
            return _sorted("shard", [(url, Path(Path(root).name))], SUFFIXES)
        return _Listing("path", [(url, Path(Path(root).name))], [])
    suffixes = _suffixes(Path(root)) if pattern else SUFFIXES
    below = {
        path: Path(Path(path).name) if pattern else Path(path).relative_to(root)
        for path in sorted(files.glob(root) if pattern else files.find(root))
    }
    found = [(files.unstrip_protocol(path), name) for path, name in below.items()]
    return _sorted("pattern" if pattern else "folder", found, suffixes)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` on success, removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def encode_json(document: Any, indent: int | None = None) -> bytes:
    """A JSON document in UTF-8; escaped where it holds the name of a file that is none in UTF-8."""
    try:
        return json.dumps(document, indent=indent, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent).encode()


def write_json(path: Path, document: Any) -> None:
    """A JSON document with an indent of 1; all or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(encode_json(document, indent=1) + b"\n")


@contextmanager
def writing(output: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of an output that cannot be written into one line.

    Raises:
        OutputError: an OSError inside the block.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"output: {os.fspath(output)} cannot be written: {reason}") from error


@dataclass(frozen=True)
class Folder:
    """A folder, here or at any address that fsspec knows (``s3://``, ``gs://``, ``memory://``).

    A file is either there as a whole or not at all: here by renaming, in an object store by its own promise.
    """

    url: str

    @cached_property
    def local(self) -> Path | None:
        """The folder on this machine, or None for a remote one."""
        return None if is_url(self.url) else Path(self.url.removeprefix("file://"))

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        return remote(self.url)

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        try:
            if self.local is not None:
                return (self.local / name).read_bytes()
            store, root = self._remote
            return bytes(store.cat_file(f"{root}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def lines(self, name: str) -> Iterator[bytes]:
        """A file's lines, read as they are asked for where the folder is here; none where there is no such file."""
        if self.local is None:
            yield from (self.read(name) or b"").splitlines()
        elif (self.local / name).is_file():
            with (self.local / name).open("rb") as file:
                yield from file

    def write(self, name: str, content: bytes) -> None:
        if self.local is not None:
            with replacing(self.local / name) as temporary:
                temporary.write_bytes(content)
            return
        store, root = self._remote
        store.pipe_file(f"{root}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        if self.local is not None:
            with suppress(FileNotFoundError, NotADirectoryError):
                (self.local / name).unlink()
            return
        store, root = self._remote
        with suppress(FileNotFoundError):
            store.rm_file(f"{root}/{name}")

    def names(self, below: str) -> list[str]:
        """The files directly in a folder of this folder, sorted."""
        if self.local is not None:
            path = self.local / below
            return sorted(file.name for file in path.iterdir() if file.is_file()) if path.is_dir() else []
        store, root = self._remote
        store.invalidate_cache()
        if not store.isdir(f"{root}/{below}"):
            return []
        inside = store.ls(f"{root}/{below}", detail=True)
        return sorted(file["name"].rsplit("/", 1)[-1] for file in inside if file["type"] == "file")


def remove_result(folder: Folder, name: str) -> None:
    """Remove what `gradcut.results.save` writes under this name, the record first."""
    for path in (f"results/{name}.json", f"labelmaps/{name}.png", f"classmaps/{name}.png", f"pictures/{name}.png"):
        folder.remove(path)
    for below in (f"masks/{name}", f"cutouts/{name}", f"maps/{name}"):
        for file in folder.names(below):
            folder.remove(f"{below}/{file}")
        if folder.local is not None:
            with suppress(OSError):  # there is none, or it holds those of photographs in a folder of that name
                (folder.local / below).rmdir()

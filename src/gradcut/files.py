"""Files here and on remote stores: found, fetched, and written whole or not at all."""

from __future__ import annotations

import glob
import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from gradcut.errors import GradcutError, ImageError

#: What a folder is searched for.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif"})


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


def fetch(url: str) -> io.BytesIO:
    """A file at an address, as a whole.

    Raises:
        FileNotFoundError: there is none.
        ImageError: it is empty, or the protocol is unknown.
    """
    files, path = remote(url)
    content = files.cat_file(path)
    if not content:
        raise ImageError(f"{url}: the file is empty")
    return io.BytesIO(content)


def find(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[tuple[Path | str, str]], list[str]]:
    """Every photograph under files, folders and patterns, each with a name of its own, and what cannot be used.

    Folders are searched recursively, sorted by name, hidden files left out. A pattern has ``*``, ``?`` or
    ``[`` in it, ``**`` for any depth, and counts where no file has that very name. A name is the path below the
    folder without its suffix; where two photographs would share one, the later one keeps its suffix, or
    gets its folder's name in front.

    Returns:
        Pairs of path and name, and one sentence for each folder or pattern without photographs. An address
        such as ``s3://bucket/folder`` stays a string. A missing file is among the pairs: reading it tells.
    """
    by_name: dict[str, Path | str] = {}
    seen: set[str] = set()
    failures: list[str] = []
    for argument in [os.fspath(path) for path in paths]:
        members, kind = _remote_members(argument) if is_url(argument) else _members(argument.removeprefix("file://"))
        if not members:
            failures.append(f"{argument}: no photographs in this {kind}")
        for path, below in members:
            where = Path(path.partition("://")[2]) if isinstance(path, str) else path.resolve()
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
            by_name[next(name for name in map(Path.as_posix, choices) if name not in by_name)] = path
    return [(path, name) for name, path in by_name.items()], failures


def _members(argument: str) -> tuple[list[tuple[Path | str, Path]], str]:
    path = Path(argument)
    if path.is_dir():
        below = (each.relative_to(path) for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
        visible = (each for each in below if not any(part.startswith(".") for part in each.parts))
        return [(path / each, each) for each in sorted(visible) if (path / each).is_file()], "folder"
    if glob.has_magic(argument) and not path.exists():
        matches = (Path(each) for each in sorted(glob.glob(argument, recursive=True)))  # noqa: PTH207  the pattern may be absolute
        return [(m, Path(m.name)) for m in matches if m.suffix.lower() in SUFFIXES and m.is_file()], "pattern"
    return [(path, Path(path.name))], "path"


def _remote_members(url: str) -> tuple[list[tuple[Path | str, Path]], str]:
    files, root = remote(url)
    pattern = glob.has_magic(root)
    if not pattern and not files.isdir(root):
        return [(url, Path(Path(root).name))], "path"
    inside = sorted(files.glob(root) if pattern else files.find(root))
    photographs = [path for path in inside if Path(path).suffix.lower() in SUFFIXES]
    below = [Path(Path(path).name) if pattern else Path(path).relative_to(root) for path in photographs]
    return [(files.unstrip_protocol(path), each) for path, each in zip(photographs, below, strict=True)], (
        "pattern" if pattern else "folder"
    )


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


def write_json(path: Path, document: Any) -> None:
    """A JSON document with an indent of 1; all or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def writing(output: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of an output that cannot be written into one line.

    Raises:
        GradcutError: an OSError inside the block.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise GradcutError(f"output: {os.fspath(output)} cannot be written: {reason}") from error

"""Photographs in shards: tar files, as WebDataset has them, and parquet files, as Hugging Face's datasets have them.

A photograph in one has an address of fsspec's form, ``tar://KEY.jpg::shards/0001.tar`` or ``parquet://000012::0001.parquet``,
here or with the shard's own address.
"""

from __future__ import annotations

import importlib.util
import io
import tarfile
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from gradcut.errors import ImageError, one_line

#: The endings of shards.
SHARDS = frozenset({".tar", ".parquet"})

# How files of gzip, bzip2, xz and Zstandard begin.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")

# Rows are read by the hundred, and photographs in order: threads wait for the one that reads theirs.
_rows_lock = threading.Lock()


class Member(NamedTuple):
    """A photograph in a shard: its address, the name of its result and what its ending would be as a file's."""

    address: str
    name: str
    suffix: str


def split(address: str) -> tuple[str, str, str] | None:
    """Of the address of a photograph in a shard: the kind, the member and the shard; None of any other address."""
    scheme, _, rest = address.partition("://")
    member, separator, shard = rest.partition("::")
    return (scheme, member, shard) if separator and f".{scheme}" in SHARDS else None


def is_shard(path: str) -> bool:
    return Path(path).suffix.lower() in SHARDS


def members(shard: str) -> list[Member]:
    """All that a shard holds, in order.

    Of a tar file that is every file; its name is the key of WebDataset, its path until the first dot of its last part,
    and what follows is its ending. Of a parquet file it is a photograph a row, named by the row's number.
    Where a tar file is damaged, what stands before is listed, and `check` says what is wrong.

    Raises:
        ImageError: it cannot be read, or is compressed, or has no column of photographs, or pyarrow is missing.
    """
    if Path(shard).suffix.lower() == ".parquet":
        count = _table(shard, *_stamp(shard))[0].metadata.num_rows
        return [Member(f"parquet://{row:06}::{shard}", f"{row:06}", "") for row in range(count)]
    found = []
    for path in _index(shard, *_stamp(shard))[0]:
        folder, slash, last = path.lstrip("/").rpartition("/")
        key, _, ending = last.partition(".")
        found.append(Member(f"tar://{path}::{shard}", f"{folder}{slash}{key}", f".{ending}" if ending else ""))
    return found


def check(shard: str) -> None:
    """Whether a shard is whole, as far as that shows without reading its photographs.

    Raises:
        ImageError: as `members` has them, or a tar file is damaged.
    """
    members(shard)
    if Path(shard).suffix.lower() == ".tar" and (damage := _index(shard, *_stamp(shard))[1]):
        raise ImageError(f"{shard}: damaged, what follows is not read: {damage}")


def read(address: str) -> io.BytesIO:
    """A photograph's file in a shard.

    Raises:
        FileNotFoundError: there is no such shard, or none of that name in it.
        ImageError: the shard cannot be read, or the photograph is empty.
    """
    parts = split(address)
    assert parts is not None
    kind, member, shard = parts
    content = _row(shard, int(member.partition(".")[0])) if kind == "parquet" else _file(shard, member)
    if not content:
        raise ImageError(f"{address}: the file is empty")
    return io.BytesIO(content)


def _store(shard: str) -> tuple[Any, str]:
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(shard)
    except (ImportError, ValueError) as error:
        raise ImageError(f"{shard}: cannot be opened: {one_line(error)}") from error
    return store, path


def _stamp(shard: str) -> tuple[Any, ...]:
    """What changes when a shard does."""
    if "://" in shard:
        return ()
    state = Path(shard).stat()
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=64)
def _index(shard: str, *_: object) -> tuple[Mapping[str, tuple[int, int]], str]:
    """By path where each file of a tar begins, and how long it is; and, of a damaged one, what ends the list."""
    store, path = _store(shard)
    index: dict[str, tuple[int, int]] = {}
    with store.open(path, "rb") as stream:
        if stream.read(6).startswith(_COMPRESSED):
            raise ImageError(f"{shard}: a compressed tar file; decompress it first")
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for entry in archive:
                    name = entry.name.removeprefix("./")
                    if entry.isfile():
                        index[name] = entry.offset_data, entry.size
                    elif entry.islnk() and (same := index.get(entry.linkname.removeprefix("./"))):
                        index[name] = same
                # To tarfile a header that is damaged, or not whole, is the end.
                stream.seek(archive.offset)
                damage = f"no header at byte {archive.offset}" if stream.read(tarfile.BLOCKSIZE).strip(b"\0") else ""
        except tarfile.TarError as error:
            damage = one_line(error)
    if damage and not index:
        raise ImageError(f"{shard}: not a tar file that can be read: {damage}")
    return index, damage


def _file(shard: str, member: str) -> bytes:
    """Read by its place: several threads read from one shard."""
    index, _ = _index(shard, *_stamp(shard))
    if member not in index:
        raise FileNotFoundError(member)
    start, size = index[member]
    store, path = _store(shard)
    return bytes(store.cat_file(path, start=start, end=start + size))


@lru_cache(maxsize=16)
def _table(shard: str, *_: object) -> tuple[Any, str]:
    """A parquet file, and the name of its column of photographs: the first with bytes in it, or the first of bytes."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ImageError(f"{shard}: pyarrow is missing; pip install 'gradcut[parquet]'")
    import pyarrow
    from pyarrow import parquet

    store, path = _store(shard)
    try:
        table = parquet.ParquetFile(store.open(path, "rb"))
    except pyarrow.ArrowInvalid as error:
        raise ImageError(f"{shard}: not a parquet file that can be read: {one_line(error)}") from error

    def is_bytes(kind: Any) -> bool:
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    for column in table.schema_arrow:
        kind = column.type
        if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type):
            return table, f"{column.name}.bytes"
    for column in table.schema_arrow:
        if is_bytes(column.type):
            return table, column.name
    raise ImageError(
        f"{shard}: expected a column with the bytes of photographs, got {', '.join(table.schema_arrow.names)}"
    )


def _row(shard: str, row: int) -> bytes:
    with _rows_lock:
        table, column = _table(shard, *_stamp(shard))
        first = 0
        for number in range(table.metadata.num_row_groups):
            count = table.metadata.row_group(number).num_rows
            if row < first + count:
                return _group(shard, number, column, *_stamp(shard))[row - first] or b""
            first += count
    raise FileNotFoundError(str(row))


@lru_cache(maxsize=2)
def _group(shard: str, number: int, column: str, *stamp: object) -> list[bytes | None]:
    """The photographs of a group of rows, which parquet keeps together."""
    read = _table(shard, *stamp)[0].read_row_group(number, columns=[column]).column(0)
    return [value["bytes"] if isinstance(value, dict) else value for value in read.to_pylist()]

"""What the numbers or the colours of other people's class maps mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from gradcut.errors import GradcutError, one_line
from gradcut.labels import decoded, read_names, vocabulary

#: A class by its number, or by its colour in RGB.
Table = Mapping[int, str] | Mapping[tuple[int, int, int], str]

_COLOURED = re.compile(r"(?P<name>[^:]+):(?P<red>\d+),(?P<green>\d+),(?P<blue>\d+)(?::.*)?")


def is_background(name: str) -> bool:
    """Whether a class is called background or unlabeled, whatever the case, with or without underscores round it."""
    return name.strip("_").casefold() in ("background", "unlabeled", "unlabelled")


def is_void(name: str) -> bool:
    """Whether a class is called void or ignore, as pixels are of which nothing is known."""
    return name.strip("_").casefold() in ("void", "ignore", "ignored")


def classes_of(table: Table) -> tuple[str, ...]:
    """The classes in order, without background and void."""
    return tuple(name for name in table.values() if not is_background(name) and not is_void(name))


def read_table(labels: str | Path) -> Table:
    """The classes that a file lists, by the numbers or the colours that class maps have for them.

    JSON with ``{number: name}`` or ``{name: number}``, whatever the numbers; ``name:red,green,blue`` a line, as
    ``labelmap.txt`` of Pascal VOC's and CVAT's folders has them; else names in order, as `gradcut.labels.read_names`
    reads them, which have the numbers 1, 2, 3, or 0, 1, 2 where the first is background.

    Args:
        labels: a file; or coco, voc or imagenet, for their classes in order from 1.

    Raises:
        GradcutError: no such file, one that cannot be read so, or a number, a colour or a name twice.
    """
    if (own := vocabulary(str(labels))) is not None:
        return dict(enumerate(own, start=1))
    path = Path(labels)
    try:
        content = path.read_bytes()
        table = _table(decoded(content), content)
    except OSError as error:
        raise GradcutError(f"labels: {path} cannot be read: {error.strerror or one_line(error)}") from error
    except GradcutError as error:
        raise GradcutError(f"labels: {path}: {error}") from error
    names = classes_of(table)
    if not names or not all(name.strip() for name in names) or len({*names}) < len(names):
        raise GradcutError(f"labels: {path}: expected names of classes, each once, got {str(names)[:60]}")
    return table


def _table(text: str, content: bytes) -> Table:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    coloured = [_COLOURED.fullmatch(line.strip()) for line in lines]
    if lines and all(coloured):
        rows = [match.groupdict() for match in coloured if match]
        colours = {(int(row["red"]), int(row["green"]), int(row["blue"])): row["name"].strip() for row in rows}
        if len(colours) < len(rows):
            raise GradcutError("expected each colour once")
        return colours
    if text.lstrip().startswith("{"):
        return _numbered(text)
    names = read_names(content)
    first = 0 if names and is_background(names[0]) else 1
    return dict(enumerate(names, start=first))


def _numbered(text: str) -> dict[int, str]:
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except (json.JSONDecodeError, RecursionError) as error:
        raise GradcutError(f"cannot be read as JSON: {one_line(error)}") from None
    document = document.get("id2label", document)
    if isinstance(document, dict) and document:
        sides = [str(key) for key in document], [str(value) for value in document.values()]
        for numbers, names in (sides, sides[::-1]):
            if all(number.isascii() and number.isdigit() for number in numbers):
                table = {int(number): name for number, name in zip(numbers, names, strict=True)}
                if len(table) < len(document):
                    raise GradcutError("expected each number once")
                return table
    raise GradcutError("expected JSON with {number: name} or {name: number}")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise GradcutError("expected each key once")
    return dict(pairs)

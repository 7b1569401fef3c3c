"""Names of files that are different on every file system."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

#: Bytes of a name, so that an ending and what a temporary name adds find room in the usual 255.
_LONGEST = 120
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\s*(\.|$)", re.IGNORECASE)


def filenames(labels: Sequence[str]) -> list[str]:
    """A file name for each label, no name twice, on any file system: letters, digits and ``-_.() `` are kept.

    Names differ whatever their case and however their accents are written, have 120 bytes at most, so that an ending
    and a temporary name's find room, and are none that Windows keeps for its devices.
    """
    names = [re.sub(r"[^\w\-.() ]+", "_", label).encode()[:_LONGEST].decode(errors="ignore") for label in labels]
    names = [name.strip(" .") or "label" for name in names]
    return distinct([f"_{name}" if _DEVICE.match(name) else name for name in names])


def printable(name: str) -> str:
    """The name with ``_`` for every character that is none to print, such as a line's end."""
    return "".join(character if character.isprintable() else "_" for character in name)


def folded(name: str) -> str:
    """What names have in common that a file system may not tell apart: their case, the writing of their accents."""
    return unicodedata.normalize("NFKC", name).casefold()


def distinct(names: Sequence[str], key: Callable[[str], str] = folded) -> list[str]:
    """The names; one that an earlier one has, by its key, gets a number."""
    taken, numbers, different = set[str](), Counter[str](), []
    for name in names:
        other = name
        while (mark := key(other)) in taken:
            numbers[name] += 1
            other = f"{name}_{numbers[name]}"
        taken.add(mark)
        different.append(other)
    return different

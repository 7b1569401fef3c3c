"""Photographs, the classes that are in them, and the classes that nobody looked for, from files."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool

from gradcut.errors import FitError, GradcutError, one_line
from gradcut.files import is_missing
from gradcut.labels import decoded, group, vocabulary
from gradcut.ranges import Range, check_range

T = TypeVar("T")

#: What may stand for the classes that were looked for.
WORDS = ("all", "labels", "coco", "voc")


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """Photographs, the classes that are in them, and what is known of them.

    Attributes:
        files: the photographs.
        labels: the classes, in the order of the head's outputs.
        truth: whether a class is in a photograph, as far as is known.
        known: whether that is known; of other pairs, of which ``truth`` is False, nothing is learnt or judged.
        judged: whether cross-validation judges a photograph; the others are only learnt from, in every fold.
        sha256: of the labels files.
        value_range: how the photographs are read, as by `gradcut.images.read`.
    """

    files: tuple[Path, ...] = field(repr=False)
    labels: tuple[str, ...]
    truth: Bool[np.ndarray, "n k"] = field(repr=False)
    known: Bool[np.ndarray, "n k"] = field(repr=False)
    judged: Bool[np.ndarray, " n"] = field(repr=False)
    sha256: str
    value_range: Range | None = None

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Classes that at most one judged photograph shows: cross-validation cannot say how well they are found."""
        counts = self.truth[self.judged].sum(0)
        return tuple(label for label, count in zip(self.labels, counts, strict=True) if count <= 1)

    def part(self, chosen: Bool[np.ndarray, " n"]) -> ImageLabels:
        """Some of the photographs, with all the labels."""
        files = tuple(file for file, wanted in zip(self.files, chosen, strict=True) if wanted)
        return replace(
            self, files=files, truth=self.truth[chosen], known=self.known[chosen], judged=self.judged[chosen]
        )


class _Row(NamedTuple):
    where: str  # for an error: the CSV, the line, the photograph
    file: Path
    labels: tuple[str, ...]
    known: tuple[str, ...]


def read_labels(
    path: Path | Sequence[Path],
    folder: Path | Sequence[Path],
    classes: Sequence[str] | None = None,
    value_range: Range | None = None,
    known: str | Sequence[str | Sequence[str]] = "all",
    judged: int | None = None,
) -> ImageLabels:
    """Read CSVs with the columns ``file`` (below ``folder``), ``labels`` and, if not all is known, ``known``.

    ``labels`` are separated by ``;`` and may be empty. So is ``known``, the classes that were looked for: those that
    are not among the labels are known not to be in the photograph. A photograph's own labels are known in any case; of
    all other classes nothing is known. Words stand for classes, in a CSV unless a class is called so: ``all``;
    ``labels``, the photograph's own and no other; ``coco`` and ``voc``, those that are among theirs, by name or
    namesake (VOC's ``sofa`` is COCO's ``couch``).

    Between the columns are commas, tabs, or semicolons; with semicolons, several labels are in quotes. A CSV is in
    UTF-8, or says what it is in by a byte-order mark.

    Args:
        path, folder: one CSV or several; one folder for all of them, or one for each.
        classes: the head's classes in order; by default those in the CSVs, sorted by name.
        value_range: as for `gradcut.images.read`.
        known: what is known in rows that do not say it: a word for all CSVs; or for each a word, or a list of classes.
        judged: cross-validation judges the photographs of so many CSVs, the first ones; those of the others are
            learnt from in every fold. By default it judges all.

    Raises:
        FitError: a CSV cannot be read, names a photograph twice, or names one that does not exist; what is known of
            a photograph is no class, or nothing at all; or no photograph is known to have a class, or to be without.
            The message names the CSV, and the line or the class.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    folders = _each("images", [folder] if isinstance(folder, Path) else folder, len(paths))
    defaults = _each("known", [known] if isinstance(known, str) else known, len(paths))
    if judged is not None and not 1 <= judged <= len(paths):
        raise FitError(f"judged: expected 1 to {len(paths)}, as many as there are CSVs of labels, got {judged}")
    contents, tables = zip(*map(_rows, paths, folders), strict=True)
    for one, table in zip(paths, tables, strict=True):
        _check_files(one, [row.file for row in table])
    rows: list[_Row] = [row for table in tables for row in table]
    if repeated := sorted(file for file, times in Counter(row.file for row in rows).items() if times > 1):
        raise FitError(f"labels: {len(repeated)} photographs are in two of the CSVs, the first is {repeated[0]}")
    used = [{label for row in table for label in row.labels} for table in tables]
    names = tuple(sorted(set().union(*used)) if classes is None else classes)
    if not names:
        raise FitError(f"labels: {', '.join(map(str, paths))} has no label in any row")
    for one, several in zip(paths, used, strict=True):
        if wrong := sorted(several - set(names)):
            raise FitError(f"labels: {one} has labels that are not among the classes: {', '.join(wrong[:5])}")
    truth = np.array([[name in row.labels for name in names] for row in rows], dtype=bool)
    asked = []
    for one, default, table in zip(paths, defaults, tables, strict=True):
        usual = _looked_for(default, names, f"for {one}")
        asked += [_looked_for(row.known, names, f"in {row.where}") if row.known else usual for row in table]
    sure = truth | np.array([[name in several for name in names] for several in asked], dtype=bool)
    if (nothing := np.flatnonzero(~sure.any(1))).size:
        raise FitError(f"known: nothing is known of the photograph in {rows[nothing[0]].where}")
    first = np.arange(len(rows)) < sum(map(len, tables[:judged]))
    _check_examples(names, truth, sure, first)
    sha256 = hashlib.sha256(b"".join(contents)).hexdigest()
    return ImageLabels(tuple(row.file for row in rows), names, truth, sure, first, sha256, check_range(value_range))


def _check_examples(
    names: Sequence[str], truth: Bool[np.ndarray, "n k"], known: Bool[np.ndarray, "n k"], judged: Bool[np.ndarray, " n"]
) -> None:
    without = "every photograph has {}; photographs without it are needed too"
    if not known.all():
        without = "no photograph is known to be without {}; such photographs are needed too"
    for examples, message in ((truth, "no photograph has {}"), (known & ~truth, without)):
        if lacking := [name for name, some in zip(names, examples.T, strict=True) if not some.any()]:
            raise FitError(f"labels: {message.format(', '.join(lacking))}")
        if not examples[judged].any():
            what = "with" if examples is truth else "known to be without"
            raise FitError(f"judged: expected photographs {what} a class among those that are judged, got none")


def _each(argument: str, values: Sequence[T], count: int) -> Sequence[T]:
    """One value for each of so many CSVs, from one for all of them or from as many."""
    if len(values) not in (1, count):
        raise FitError(f"{argument}: expected one, or one for each of {count} CSVs of labels, got {len(values)}")
    return list(values) * count if len(values) == 1 else values


def _looked_for(words: str | Sequence[str], names: tuple[str, ...], where: str) -> set[str]:
    """The classes that one word stands for, or each of several, among which a class's name comes first."""
    classes: set[str] = set()
    for word in [words] if isinstance(words, str) else words:
        if not isinstance(words, str) and word in names:
            classes.add(word)
        elif word in WORDS:
            classes.update(_of_word(word, names))
        else:
            raise FitError(f"known: expected classes, {', '.join(WORDS[:-1])} or {WORDS[-1]} {where}, got {word!r}")
    return classes


@cache
def _of_word(word: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if word in ("all", "labels"):
        return names if word == "all" else ()  # its own labels are known in any case
    return tuple(names[number] for label in vocabulary(word) or () for number in group(label, names))


def _rows(path: Path, folder: Path) -> tuple[bytes, list[_Row]]:
    try:
        content = path.read_bytes()
        text = decoded(content).lstrip()
    except FileNotFoundError:
        raise FitError(f"labels: {path}: no such file") from None
    except (OSError, GradcutError) as error:
        raise FitError(f"labels: {path}: {one_line(error)}") from error
    header = re.split("[\r\n]", text, maxsplit=1)[0]
    delimiters = [mark for mark in ",;\t" if {"file", "labels"} <= set(_cells(header, mark))]
    if not delimiters:
        came = f"the columns {', '.join(next(csv.reader([header])))[:80]}" if header else "no rows"
        raise FitError(f"labels: expected a CSV with the columns file and labels in {path}, got {came}")
    columns = _cells(header, delimiters[0])
    if "known" not in columns and (near := get_close_matches("known", columns, 1, 0.75)):
        raise FitError(f"labels: expected the columns file, labels and known in {path}, got {near[0]}")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiters[0], strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))][1:]
    except csv.Error as error:
        raise FitError(f"labels: {path} cannot be read: {error}") from error
    if not lines:
        raise FitError(f"labels: expected a photograph a row in {path}, got no rows")
    file, labels, last = columns.index("file"), columns.index("labels"), len(columns) - 1
    known = columns.index("known") if "known" in columns else None
    if delimiters[0] == ";" and last in (labels, known):  # several labels that are not in quotes
        lines = [(n, [*line[:last], ";".join(line[last:])] if len(line) > last else line) for n, line in lines]
    if wrong := [line for _, line in lines if len(line) != len(columns) or not line[file]]:
        raise FitError(
            f"labels: expected {len(columns)} columns in every row of {path}, got {', '.join(wrong[0])[:80]!r}"
        )
    return content, [
        _Row(
            f"{path}, line {number} ({line[file]})", folder / line[file],
            _names(line[labels]), () if known is None else _names(line[known]),
        )
        for number, line in lines
    ]  # fmt: skip


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().casefold() for cell in next(csv.reader([line], delimiter=delimiter))]


def _names(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(str.strip, cell.split(";")))))


def _check_files(path: Path, files: Sequence[Path]) -> None:
    if repeated := sorted(file for file, times in Counter(files).items() if times > 1):
        raise FitError(f"labels: {path} names {len(repeated)} photographs twice, the first is {repeated[0]}")
    if missing := [file for file in files if not os.path.isfile(file)]:  # noqa: PTH113  `Path` raises where it may not look
        what = "do not exist" if is_missing(missing[0]) else "cannot be read"
        raise FitError(f"images: {len(missing)} of {len(files)} photographs {what}, the first is {missing[0]}")

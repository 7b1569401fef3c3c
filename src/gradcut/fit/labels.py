"""Photographs and the classes that are in them, from a file."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from gradcut.errors import FitError, GradcutError, one_line
from gradcut.labels import decoded
from gradcut.ranges import Range, check_range


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """Photographs and the classes that are in them.

    Attributes:
        files: the photographs.
        labels: the classes, in the order of the head's outputs.
        truth: whether a class is in a photograph.
        sha256: of the labels file.
        value_range: how the photographs are read, as by `gradcut.images.read`.
    """

    files: tuple[Path, ...] = field(repr=False)
    labels: tuple[str, ...]
    truth: Bool[np.ndarray, "n k"] = field(repr=False)
    sha256: str
    value_range: Range | None = None

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Classes that only one photograph shows: cross-validation cannot say how well they are found."""
        return tuple(label for label, count in zip(self.labels, self.truth.sum(0), strict=True) if count == 1)

    def part(self, chosen: Bool[np.ndarray, " n"]) -> ImageLabels:
        """Some of the photographs, with all the labels."""
        files = tuple(file for file, wanted in zip(self.files, chosen, strict=True) if wanted)
        return ImageLabels(files, self.labels, self.truth[chosen], self.sha256, self.value_range)


def read_labels(
    path: Path, folder: Path, classes: Sequence[str] | None = None, value_range: Range | None = None
) -> ImageLabels:
    """Read a CSV with the columns ``file`` (below ``folder``) and ``labels`` (separated by ``;``, may be empty).

    Between the columns are commas, tabs, or semicolons; with semicolons, several labels are in quotes. It is in UTF-8,
    or says what it is in by a byte-order mark.

    Args:
        classes: the head's classes in order; by default those in the file, sorted by name.
        value_range: as for `gradcut.images.read`.

    Raises:
        FitError: the file cannot be read, names a photograph twice, names one that does not exist, or lacks a
            photograph with or without a class; the message names it.
    """
    content, rows = _rows(path)
    labels = [list(dict.fromkeys(filter(None, map(str.strip, (row["labels"] or "").split(";"))))) for row in rows]
    files = _files(path, folder, [row["file"] for row in rows])
    used = {label for several in labels for label in several}
    names = tuple(sorted(used) if classes is None else classes)
    if not names:
        raise FitError(f"labels: {path} has no label in any row")
    if unknown := sorted(used - set(names)):
        raise FitError(f"labels: {path} has labels that are not among the classes: {', '.join(unknown[:5])}")
    truth = np.array([[name in several for name in names] for several in labels], dtype=bool)
    for count, message in (
        (0, "labels: no photograph has {}"),
        (len(files), "labels: every photograph has {}; photographs without it are needed too"),
    ):
        if wrong := [name for name, number in zip(names, truth.sum(0), strict=True) if number == count]:
            raise FitError(message.format(", ".join(wrong)))
    return ImageLabels(files, names, truth, hashlib.sha256(content).hexdigest(), check_range(value_range))


def _rows(path: Path) -> tuple[bytes, list[dict[str, str]]]:
    try:
        content = path.read_bytes()
        text = decoded(content)
    except FileNotFoundError:
        raise FitError(f"labels: {path}: no such file") from None
    except (OSError, GradcutError) as error:
        raise FitError(f"labels: {path}: {one_line(error)}") from error
    header = re.split("[\r\n]", text.lstrip(), maxsplit=1)[0]
    delimiters = [mark for mark in ",;\t" if {"file", "labels"} <= set(_cells(header, mark))]
    if not delimiters:
        came = f"the columns {', '.join(next(csv.reader([header])))[:80]}" if header else "no rows"
        raise FitError(f"labels: expected a CSV with the columns file and labels in {path}, got {came}")
    try:
        lines = csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiters[0], strict=True)
        columns, *rows = [[cell.strip() for cell in line] for line in lines if any(map(str.strip, line))]
    except csv.Error as error:
        raise FitError(f"labels: {path} cannot be read: {error}") from error
    columns = [column.casefold() for column in columns]
    file, labels = columns.index("file"), columns.index("labels")
    if not rows:
        raise FitError(f"labels: expected a photograph a row in {path}, got no rows")
    if delimiters[0] == ";" and labels == len(columns) - 1:  # several labels that are not in quotes
        rows = [[*line[:labels], ";".join(line[labels:])] if len(line) > labels else line for line in rows]
    if wrong := [line for line in rows if len(line) != len(columns) or not line[file]]:
        raise FitError(
            f"labels: expected {len(columns)} columns in every row of {path}, got {', '.join(wrong[0])[:80]!r}"
        )
    return content, [{"file": line[file], "labels": line[labels]} for line in rows]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().casefold() for cell in next(csv.reader([line], delimiter=delimiter))]


def _files(path: Path, folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    files = tuple(folder / name for name in names)
    if repeated := sorted(file for file, times in Counter(files).items() if times > 1):
        raise FitError(f"labels: {path} names {len(repeated)} photographs twice, the first is {repeated[0]}")
    if missing := [file for file in files if not file.is_file()]:
        raise FitError(f"images: {len(missing)} of {len(files)} photographs do not exist, the first is {missing[0]}")
    return files

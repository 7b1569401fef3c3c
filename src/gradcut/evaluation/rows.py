"""A file of rows, with the settings that they were made with beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradcut.errors import EvaluationError
from gradcut.evaluation.faithfulness import Faithfulness
from gradcut.evaluation.measures import MEASURES
from gradcut.evaluation.scoring import Row
from gradcut.evaluation.segment import OutOfFold, Segment, record_of
from gradcut.files import replacing, write_json
from gradcut.records import brief, differing, versions
from gradcut.segmenter import Segmenter

#: Settings for people, or for opening things again: another path to the same head makes the same rows.
_ASIDE = ("title", "source", "versions", "recipes")


def settings(
    title: str,
    dataset: Mapping[str, str],
    source: Mapping[str, Any],
    segmenters: Mapping[str, Segment | OutOfFold],
    labels: str,
    size: int | None = None,
    only_known: bool = False,
    faithfulness: Faithfulness | None = None,
) -> dict[str, Any]:
    """What rows depend on, and what `report` needs to show them, as JSON values.

    Args:
        title: of the dataset, for people.
        dataset: its kind and options, as `gradcut.datasets.open_dataset` takes them.
        source: the arguments of `gradcut.evaluation.open_segmenters`, without the recipes and the device.
        segmenters, labels, size, only_known, faithfulness: as for `gradcut.evaluation.evaluate`.
    """
    document: dict[str, Any] = {
        "title": title, "dataset": dict(dataset), "source": dict(source), "labels": labels, "size": size,
        "only_known": only_known, "measures": MEASURES, "versions": versions(),
        "recipes": {name: _summary(segmenter) | record_of(segmenter) for name, segmenter in segmenters.items()},
    }  # fmt: skip
    return document if faithfulness is None else document | {"faithfulness": faithfulness.record()}


def _summary(segmenter: Segment | OutOfFold) -> dict[str, str]:
    first = segmenter.segmenters[0] if isinstance(segmenter, OutOfFold) else segmenter
    return {"summary": first.recipe.summary} if isinstance(first, Segmenter) else {}


def check_unchanged(scores: Path, before: Mapping[str, Any], segmenters: Mapping[str, Segment | OutOfFold]) -> None:
    """Raise EvaluationError unless each segmenter is what the settings in ``before`` say that it was.

    Args:
        scores: the file of rows, for the message.
    """
    for name, segmenter in segmenters.items():
        if changes := differing(before["recipes"][name], record_of(segmenter)):
            raise EvaluationError(f"{name}: {brief(changes)}; evaluate again what {scores} holds")


def settings_path(path: Path) -> Path:
    """Where the settings of a file of rows stand: ``scores.settings.json`` beside ``scores.jsonl``."""
    return path.with_suffix(".settings.json")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that a file of rows was made with.

    Raises:
        EvaluationError: they are not beside it.
    """
    beside = settings_path(path)
    try:
        document: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        return document
    except (OSError, ValueError) as error:
        raise EvaluationError(f"scores: {path} needs its settings in {beside}: {error}") from error


def read_rows(path: Path) -> list[Row]:
    """The rows in a JSON-lines file; a last line that was cut off is left out.

    Raises:
        EvaluationError: the file is missing, or another line is no row.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise EvaluationError(f"scores: {path}: {error.strerror or error}") from error
    rows: list[Row] = []
    for number, text in enumerate(lines, start=1):
        if not text:
            continue
        try:
            row = json.loads(text)
            row["photograph"], row["recipe"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # not ended: the run was stopped while it wrote
                break
            raise EvaluationError(f"scores: {path}: line {number} is no row of scores") from None
        rows.append(row)
    return rows


def resume(path: Path, settings: Mapping[str, Any], overwrite: bool = False) -> list[Row]:
    """Prepare a file for more rows, and return those that it has: all but the failures, which are tried again.

    Args:
        settings: as `settings` makes them. ``recipes`` may grow from run to run; titles, paths to classifiers and
            versions of packages may change.
        overwrite: begin anew.

    Raises:
        EvaluationError: the file holds rows that were made with other settings.
    """
    beside = settings_path(path)
    done: list[Row] = []
    if path.exists() and not overwrite:
        try:
            before = read_settings(path)
        except EvaluationError:
            raise EvaluationError(
                f"output: {path} is there without its settings, {beside.name}; choose another name or --overwrite"
            ) from None
        changes = differing(*({k: v for k, v in each.items() if k not in _ASIDE} for each in (before, settings)))
        for name in sorted(before["recipes"].keys() & settings["recipes"].keys()):
            changes += [f"{name}: {c}" for c in differing(before["recipes"][name], settings["recipes"][name])]
        if changes:
            raise EvaluationError(f"output: {path} was made with {brief(changes)}; choose another name or --overwrite")
        settings = {**settings, "recipes": {**before["recipes"], **settings["recipes"]}}
        done = [row for row in read_rows(path) if "error" not in row]
    write_json(beside, settings)
    with replacing(path) as temporary:
        temporary.write_text("".join(map(line, done)), encoding="utf-8")
    return done


def line(row: Row) -> str:
    """A row as one line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"

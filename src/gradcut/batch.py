"""Many photographs: each on its own, so that one failure costs no other's result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradcut import export
from gradcut.errors import GradcutError
from gradcut.segmenter import Segmenter


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph: its record, or the reason why there is none."""

    path: Path
    record: dict[str, Any] | None = None
    error: str | None = None
    skipped: bool = False


def segment_all(
    segmenter: Segmenter,
    photographs: Sequence[tuple[Path, str]],
    folder: Path,
    labels: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Segment photographs into a folder, as `export.save` lays it out, and yield each one's outcome.

    A photograph whose record is there already, made with the same settings, is skipped.

    Args:
        photographs: paths with the names to save them under, as `images.find` gives them.
        labels: classes to ask for whatever their score.
        overwrite: do finished photographs again.

    Raises:
        GradcutError: the folder cannot be written, or holds a result made with other settings.
    """
    for path, name in photographs:
        finished = None if overwrite else _finished(folder / f"results/{name}.json", path, segmenter)
        if finished is not None:
            yield Outcome(path, record=finished, skipped=True)
            continue
        try:
            result = segmenter(path, labels)
        except GradcutError as error:
            yield Outcome(path, error=str(error))
            continue
        record = export.save(result, folder, name)
        yield Outcome(path, record=record)


def _finished(record: Path, path: Path, segmenter: Segmenter) -> dict[str, Any] | None:
    """The record of an earlier run, if it is of this photograph and these settings."""
    try:
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    recipe = segmenter.recipe
    same = (
        found["recipe"]["sha256"] == recipe.fingerprint
        and found["classifier"]["sha256"] == segmenter.classifier.fingerprint
        and found["photograph"] == str(path)
    )
    if not same:
        raise GradcutError(
            f"output: {record} was made from {found['photograph']} with recipe {found['recipe']['name']}; "
            "choose another folder or --overwrite"
        )
    return found

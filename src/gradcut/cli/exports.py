"""What commands share that export a finished run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcut.cli.progress import err, working

if TYPE_CHECKING:
    from gradcut.formats import Pile


def opened(run: str, uncorrected: bool = False) -> Pile:
    """A run for export; how many of its photographs a person has corrected is a line."""
    with working(f"reading {run}"):
        from gradcut.formats import run_pile

        pile = run_pile(run, uncorrected)
    if pile.states:
        counts = (f"{pile.states[state]} {state}" for state in ("corrected", "accepted", "rejected"))
        err.print(f"gradcut: of the photographs in {run} {', '.join(counts)}; rejected ones are left out")
    return pile


def given(masks: str, photographs: str, labels: str | None) -> Pile:
    """Masks that somebody has, for export; how many photographs have none is a line."""
    with working(f"reading {masks}"):
        from gradcut.formats import mask_pile

        pile, without = mask_pile(masks, photographs, labels)
    tell_without(masks, without)
    return pile


def tell_without(masks: str, without: Sequence[str]) -> None:
    """A line that says how many photographs have no mask, if there are such."""
    if without:
        several = len(without) > 1
        number = f"{len(without)} photographs have" if several else "1 photograph has"
        err.print(
            f"gradcut: {number} no mask in {masks}, {without[0]} for one, and {'are' if several else 'is'} left out"
        )


def written(pile: Pile, folder: str | Path, name: str, **options: Any) -> Path:
    """Export photographs; what the library warns of is a line."""
    from gradcut import formats as exports

    with working(f"exporting to {name}"), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        path = exports.write(pile, folder, name, **options)
    for warning in said:
        err.print(f"gradcut: {warning.message}")
    return path

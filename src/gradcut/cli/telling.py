"""What 'gradcut segment' says of a run while it lasts: a line a photograph, and in one how it went."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gradcut.cli.options import out
from gradcut.cli.progress import bar, err

#: So many photographs that could not be judged are told one by one: thousands may be missing.
FEW = 10


class Tally:
    """Counts a run's photographs, shows how far it is, and says in one line how it went."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.before, self.failed, self.empty, self.blank = total, 0, 0, 0, 0, 0
        self.began = time.perf_counter()

    def watch(self, lines: Iterator[tuple[dict[str, Any], bool]]) -> Iterator[tuple[dict[str, Any], bool]]:
        with bar("segmenting", self.total, note=lambda: f"{self.rate:.1f}/s" * (self.done > self.before)) as track:
            for line, skipped in track(lines):
                self.failed += line["state"] == "failed"
                self.empty += line["state"] == "empty"
                self.blank += line["state"] == "blank"
                self.done += line["state"] != "failed"
                self.before += skipped
                yield line, skipped

    @property
    def rate(self) -> float:
        return (self.done + self.failed - self.before) / max(time.perf_counter() - self.began, 1e-9)

    def summary(self, output: str) -> str:
        parts = [f"{self.done} photograph{'' if self.done == 1 else 's'} in {output}"]
        if self.before:
            parts.append(f"{self.before} of them done before")
        if self.empty:
            parts.append(f"{self.empty} without an object")
        if self.blank:
            parts.append(f"{self.blank} without a mask, their saliency being blank")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.done > self.before:
            parts.append(f"{self.rate:.1f} a second")
        return ", ".join(parts)


def tell(line: dict[str, Any], skipped: bool, quiet: bool) -> None:
    """One line about one photograph: failures and empty results to standard error, the rest to standard output."""
    if line["state"] == "failed":
        err.print(f"gradcut: {line['error']}")
    elif line["state"] == "empty" and "dropped" in line:
        err.print(f"{line['photograph']}: nothing is sure enough{_dropped(line)}")
    elif line["state"] == "empty":
        best = ", ".join(f"{label} {score:.2f}" for label, score in line["best_scores"].items())
        err.print(f"{line['photograph']}: nothing reaches the threshold; the best are {best}")
    elif not quiet:
        found = ", ".join(f"{o['label']} {o['score']:.2f}{trust(o)}" for o in line["objects"])
        note = "  (done before)" if skipped else ""
        out.print(f"{line['photograph']}: {found}{_dropped(line)}{note}", highlight=False, soft_wrap=True)
    if "advice" in line:
        err.print(f"{line['photograph']}: {line['advice']}")


def tell_errors(errors: Sequence[str], where: str) -> None:
    """The first of what went wrong, a line each; of the others how many there are, and where they can be read."""
    for error in errors[:FEW]:
        err.print(f"gradcut: {error}")
    if len(errors) > FEW:
        err.print(f"gradcut: and {len(errors) - FEW} more, {len(errors)} in all{where}")


def tell_letters(drawn: Iterable[str]) -> None:
    """In one line which texts a picture has numbers for, as no font here has their letters."""
    from gradcut.pictures.letters import plain, told_by_numbers  # they import what a command's help does without

    if numbered := told_by_numbers(sorted(set(drawn))):
        others = f", and {len(numbered) - 1} more likewise" if len(numbered) > 1 else ""
        err.print(
            f"gradcut: in pictures {numbered[0]} is written {plain(numbered[0])}{others}: no font of this machine has "
            "the letters; install one, such as Noto Sans"
        )


def _dropped(line: dict[str, Any]) -> str:
    """What was left out, and why."""
    told: tuple[list[str], list[str]] = ([], [])
    for entry in line.get("dropped", ()):
        told["borrowed_from" in entry].append(f"{entry['label']} {entry['score']:.2f}{trust(entry)}")
    below, borrowed = told
    left = f"; left out: {', '.join(borrowed)}" if borrowed else ""
    return left + (f"; {len(below)} below --min-confidence: {', '.join(below)}" if below else "")


def trust(entry: dict[str, Any]) -> str:
    """What is known of an object's mask: that there is none, the IoU to expect of it, or whose pixels it has."""
    from gradcut.confidence import UNSURE  # they import NumPy, which a command's help does without
    from gradcut.overlaps import note

    if entry.get("state") == "blank":
        return " (blank)"
    words = []
    if entry["confidence"] is not None:
        words.append(f"expected IoU {entry['confidence']:.2f}{', unsure' if entry['confidence'] < UNSURE else ''}")
    if "borrowed_from" in entry:
        words.append(note(entry["borrowed_from"]))
    return f" ({'; '.join(words)})" if words else ""

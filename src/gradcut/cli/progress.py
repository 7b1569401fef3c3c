"""A sign of life: a bar or a spinner on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

err = Console(stderr=True, markup=False, soft_wrap=True, highlight=False)

#: Seconds until a plain line tells what is under way, and between those that tell that it goes on.
FIRST, EVERY = 2.0, 30.0

Item = TypeVar("Item")


class Track:
    """Hands items on, and moves a bar on by one after each. It may be called again, for a further part of the total."""

    def __init__(self, progress: Progress, task: TaskID, note: Callable[[], str]) -> None:
        self._progress, self._task, self._note = progress, task, note

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            yield item
            self._progress.update(self._task, advance=1, note=self._note())


@contextmanager
def bar(what: str, total: int, completed: int = 0, note: Callable[[], str] = str) -> Iterator[Track]:
    """Show how far a count is, on standard error, while the block runs.

    Args:
        what: the word before the bar.
        total, completed: how many items there are, and how many of them were done before.
        note: asked after each item for a few words behind the numbers.
    """
    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        number = progress.add_task("", total=total, completed=completed, note="")

        def line(seconds: float) -> str:
            task = progress.tasks[number]
            done, words = int(task.completed), task.fields["note"]
            rate = (done - completed) / seconds
            left = f", about {_duration((total - done) / rate)} left" if rate else ""
            return f"{what}: {done} of {total}{f', {words}' if words else ''}{left}"

        with _plain_lines(line):
            yield Track(progress, number, note)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on standard error that something is under way, while the block runs: what it is, in a few words."""
    if err.is_terminal:
        with err.status(f"{what} ..."):
            yield
    else:
        with _plain_lines(lambda seconds: f"{what} since {_duration(seconds)}", f"{what} ..."):
            yield


@contextmanager
def _plain_lines(line: Callable[[float], str], first: str = "") -> Iterator[None]:
    """Print a line every half minute where standard error is no terminal; ``line`` is asked with the seconds so far.

    Args:
        first: what is printed of a block that is not quick; nothing where it is empty.
    """
    if err.is_terminal:
        yield
        return
    over, began = threading.Event(), time.monotonic()

    def tell() -> None:
        if first and not over.wait(FIRST):
            err.print(f"gradcut: {first}")
        while not over.wait(EVERY):
            err.print(f"gradcut: {line(time.monotonic() - began)}")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _duration(seconds: float) -> str:
    """A time in one or two numbers."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

"""What the page's server keeps of each browser tab, and in which order it works."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.segmenter import Evidence


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    Args:
        megabytes: of one upload.
        megapixels: of one photograph.
        gigabytes: of photographs and saliency kept for all tabs together; the least recently used go first.
        photographs: kept for one tab.
        minutes: an unused photograph is kept.
        waiting: requests in line; those beyond are asked to come back.
    """

    megabytes: float = 20
    megapixels: float = 50
    gigabytes: float = 2
    photographs: int = 4
    minutes: float = 30
    waiting: int = 32


class BusyError(GradcutError):
    """More requests than the line holds."""


class GoneError(GradcutError):
    """A photograph that is not kept for this tab."""


@dataclass(eq=False)
class Kept:
    """A photograph that a tab sent, and what the network said about it."""

    tab: str
    name: str
    photograph: Photograph
    preview: bytes
    used: float = field(default_factory=time.monotonic)
    evidence: dict[tuple[str, str, str | None], Evidence] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        maps = sum(evidence.saliency.nbytes for evidence in list(self.evidence.values()))
        return self.photograph.nbytes + len(self.preview) + maps


class Shelf:
    """The photographs that are kept, each for one tab, within the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._kept: dict[str, Kept] = {}

    def put(self, kept: Kept) -> str:
        key = secrets.token_urlsafe(16)
        self._kept[key] = kept
        self.sweep()
        return key

    def get(self, tab: str, key: object) -> Kept:
        """Raises GoneError alike for a photograph that was forgotten, another tab's, and one that never was."""
        self.sweep()
        kept = self._kept.get(key) if isinstance(key, str) else None
        if kept is None or not secrets.compare_digest(kept.tab.encode(), tab.encode()):
            raise GoneError("The server no longer has this photograph; choose it again.")
        kept.used = time.monotonic()
        return kept

    def forget(self, tab: str) -> None:
        for key in [key for key, kept in self._kept.items() if kept.tab == tab]:
            del self._kept[key]

    def sweep(self) -> None:
        """Forget what is too old or too much. The newest photograph always stays."""
        recent = sorted(self._kept.items(), key=lambda item: item[1].used, reverse=True)
        oldest = time.monotonic() - self.limits.minutes * 60
        total, of_tab = 0.0, dict.fromkeys((kept.tab for kept in self._kept.values()), 0)
        for number, (key, kept) in enumerate(recent):
            total += kept.nbytes
            of_tab[kept.tab] += 1
            crowded = of_tab[kept.tab] > self.limits.photographs or (number and total > self.limits.gigabytes * 1e9)
            if kept.used < oldest or crowded:
                del self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)


class Line:
    """Work on threads, first come, first served; full when ``longest`` are in it."""

    def __init__(self, workers: int, longest: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._longest = longest
        self._jobs: list[Future[Any]] = []

    async def run(self, work: Callable[[], Any]) -> AsyncIterator[int | Future[Any]]:
        """Yields, now and then, how many are before this work (0 while it runs); at the end the finished future.

        Raises:
            BusyError: the line is full.
        """
        self._jobs = [job for job in self._jobs if not job.done()]
        if len(self._jobs) >= self._longest:
            raise BusyError(f"{len(self._jobs)} requests are waiting already; try again in a minute.")
        job = self._pool.submit(work)
        self._jobs.append(job)
        waiter = asyncio.wrap_future(job)
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())  # told through the job itself
        try:
            while not (await asyncio.wait({waiter}, timeout=0.3))[0]:
                before = self._jobs[: self._jobs.index(job)] if job in self._jobs else []
                yield 0 if job.running() else max(1, sum(not other.done() for other in before))
            yield job
        finally:
            job.cancel()  # whoever left the line is not served; what runs already runs to its end

    async def result(self, work: Callable[[], Any]) -> Any:
        """The work's result, without news in between."""
        async for news in self.run(work):
            if isinstance(news, Future):
                return news.result()
        raise AssertionError("the line ended without a result")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

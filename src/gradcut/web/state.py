"""What the page's server keeps of each browser tab, and in which order it works."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from gradcut.errors import GradcutError
from gradcut.images import Photograph
from gradcut.segmenter import Evidence

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    Args:
        megabytes: of one upload.
        megapixels: of one photograph.
        gigabytes: of photographs and saliency kept for all tabs together; the least recently used go first.
        photographs: kept for one tab.
        in_all: photographs kept for all tabs together.
        minutes: an unused photograph is kept.
        waiting: requests in the queue; those beyond are asked to come back.
    """

    megabytes: float = 20
    megapixels: float = 50
    gigabytes: float = 2
    photographs: int = 4
    in_all: int = 200
    minutes: float = 30
    waiting: int = 32


class BusyError(GradcutError):
    """More requests than the queue holds."""


class GoneError(GradcutError):
    """A photograph that is not kept for this tab."""


#: How many answers of the network are kept for one photograph.
EVIDENCE = 12


def keep(known: dict[K, V], key: K, value: V, most: int) -> None:
    """Put a value in, and leave no more than so many: those that came first go first."""
    while len(known) >= most:
        known.pop(next(iter(known)), None)
    known[key] = value


@dataclass(eq=False)
class Upload:
    """A photograph that a tab sent, and what the network said about it.

    ``seen`` is the photograph no larger than a screen, at which the page's masks are cut; ``preview`` is its JPEG.
    ``evidence`` is kept by classifier, its words, recipe, and what was asked for: a threshold, or labels.
    """

    tab: str
    name: str
    photograph: Photograph
    seen: UInt8[np.ndarray, "h w 3"]
    preview: bytes
    used: float = field(default_factory=time.monotonic)
    evidence: dict[tuple[str, tuple[str, ...] | None, str, float | tuple[str, ...]], Evidence] = field(
        default_factory=dict
    )

    @property
    def nbytes(self) -> int:
        maps = sum(evidence.saliency.nbytes for evidence in list(self.evidence.values()))
        seen = 0 if self.seen is self.photograph else self.seen.nbytes
        return self.photograph.nbytes + seen + len(self.preview) + maps


class Shelf:
    """The photographs that are kept, each for one tab, within the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._uploads: dict[str, Upload] = {}

    def put(self, upload: Upload) -> str:
        key = secrets.token_urlsafe(16)
        self._uploads[key] = upload
        self.sweep()
        return key

    def get(self, tab: str, key: object) -> Upload:
        """Raises GoneError alike for a photograph that was forgotten, another tab's, and one that never was."""
        self.sweep()
        upload = self._uploads.get(key) if isinstance(key, str) else None
        if upload is None or not secrets.compare_digest(upload.tab.encode(), tab.encode()):
            raise GoneError("The server no longer has this photograph; choose it again.")
        upload.used = time.monotonic()
        return upload

    def forget(self, tab: str) -> None:
        for key in [key for key, upload in self._uploads.items() if upload.tab == tab]:
            del self._uploads[key]

    def sweep(self) -> None:
        """Forget what is too old or too much. The newest photograph always stays."""
        recent = sorted(self._uploads.items(), key=lambda item: item[1].used, reverse=True)
        oldest = time.monotonic() - self.limits.minutes * 60
        total, of_tab = 0.0, dict.fromkeys((upload.tab for upload in self._uploads.values()), 0)
        for number, (key, upload) in enumerate(recent):
            total += upload.nbytes
            of_tab[upload.tab] += 1
            crowded = of_tab[upload.tab] > self.limits.photographs or number >= self.limits.in_all
            crowded |= number > 0 and total > self.limits.gigabytes * 1e9
            if upload.used < oldest or crowded:
                del self._uploads[key]

    def __len__(self) -> int:
        return len(self._uploads)


class Queue:
    """Work on threads, first come, first served; full when ``longest`` are in it."""

    def __init__(self, workers: int, longest: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._longest = longest
        self._jobs: list[Future[Any]] = []

    async def run(self, work: Callable[[], Any]) -> AsyncIterator[int | Future[Any]]:
        """Yields, now and then, how many are before this work (0 while it runs); at the end the finished future.

        Raises:
            BusyError: the queue is full.
        """
        self._jobs = [job for job in self._jobs if not job.done()]
        if len(self._jobs) >= self._longest:
            raise BusyError(f"{len(self._jobs)} requests are waiting already; try again in a minute.")
        job = self._pool.submit(_without_stop, work)
        self._jobs.append(job)
        waiter = asyncio.wrap_future(job)
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())  # told through the job itself
        try:
            while not (await asyncio.wait({waiter}, timeout=0.3))[0]:
                before = self._jobs[: self._jobs.index(job)] if job in self._jobs else []
                yield 0 if job.running() else max(1, sum(not other.done() for other in before))
            yield job
        finally:
            job.cancel()  # whoever left the queue is not served; what runs already runs to its end

    async def result(self, work: Callable[[], Any]) -> Any:
        """The work's result, without news in between."""
        async for news in self.run(work):
            if isinstance(news, Future):
                return news.result()
        raise AssertionError("the queue ended without a result")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _without_stop(work: Callable[[], Any]) -> Any:
    """The work's result. A StopIteration would never leave an asyncio future, and whoever waits would wait for ever."""
    try:
        return work()
    except StopIteration as error:
        raise RuntimeError("a request's work ended an iterator") from error

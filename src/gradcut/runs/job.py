"""Many photographs: read, explained in batches and cut side by side, each on its own, through any crash.

The engine here is one process: threads read, others ask the network, others cut and write, and the queues between
them are bounded. `gradcut.runs.cluster` runs the same `Job` on Ray.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from gradcut import files, images, results
from gradcut.classifiers.classifier import evaluating, out_of_memory
from gradcut.classifiers.threads import each_on_one_thread, single_threaded_pool
from gradcut.confidence import VARIANTS
from gradcut.errors import GradcutError, OutputError, check_least, one_line
from gradcut.files import Folder
from gradcut.images import Photograph
from gradcut.ranges import Range, check_range
from gradcut.records import brief, differing, versions
from gradcut.results import checked_void
from gradcut.runs.decoder import Decoder
from gradcut.runs.run import Entry, manifest_line, mark
from gradcut.segmenter import Evidence, Segmenter

#: How often a photograph may be alone at work when the process dies before it is given up.
TRIES = 2


class Task(NamedTuple):
    """A photograph's path or address, and the name to save its results under."""

    photograph: str
    name: str


class Reading(NamedTuple):
    """A photograph that was read, what the network will be shown of it, and the seconds that both took."""

    photograph: Photograph
    resized: Photograph
    seconds: float


@dataclass(frozen=True)
class Job:
    """What is done with every photograph, whoever does it.

    Args:
        folder: where the results go.
        labels: classes to ask for whatever their score.
        void: bounds of the class map's unsure pixels, as in `Segmentation.classmap`.
        pictures: write a picture for a person, too.
        cutouts: write every object cut out, with transparency, too.
        maps: write the saliency of every object, too.
        batch: photographs that the network sees at once. A batch that is not full is filled up with copies, so
            that every photograph goes through the same arithmetic whatever its neighbours are. Where memory does not
            hold a batch, this job goes on with half as many, and without copies.
        value_range: the numbers that become black and white in photographs of more than 8 bits, as for `images.read`.

    Raises:
        GradcutError: an unknown label, options out of range, or a step of one's own that no second process could tell
            from another one, as `Recipe.record` says.
    """

    segmenter: Segmenter
    folder: Folder
    labels: tuple[str, ...] | None = None
    void: tuple[float, float] | None = None
    pictures: bool = True
    batch: int = 1
    value_range: Range | None = None
    cutouts: bool = False
    maps: bool = False

    def __post_init__(self) -> None:
        if self.void is not None:
            checked_void(self.void)
        check_least(GradcutError, self, batch=1)
        check_range(self.value_range)
        if self.labels is not None:
            self.segmenter.asked(self.labels)
        _ = self.settings  # refuses a recipe that has no record

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """What every result depends on, as JSON values."""
        return {
            **self.segmenter.record(), "labels": None if self.labels is None else list(self.labels),
            "void": None if self.void is None else list(self.void), "pictures": self.pictures, "cutouts": self.cutouts,
            **({"maps": True} if self.maps else {}), "batch": self.batch,
            "range": None if self.value_range is None else list(map(float, self.value_range)),
            "variants": None if self.void is None else list(map(list, VARIANTS)),
        }  # fmt: skip

    def about(self) -> dict[str, Any]:
        """The rest of ``run.json``: what a reader of the results needs to know."""
        labels = self.segmenter.classifier.labels
        groups = [name for name in self.segmenter.asked(self.labels or ()) if name not in labels]
        return {"classes": [*labels, *groups], "versions": versions()}

    def __call__(self, tasks: Sequence[Task], workers: int | None = None) -> Generator[Entry]:
        """Do the tasks and yield each one's line for the manifest, finished results of an earlier run included.

        Photographs that were at work when a process died come last, each alone, after a process of their own has
        decoded them: a file that crashes the decoder is named instead of crashing this process again.

        On a CPU every photograph is explained on one torch thread. Sums then have the same order, and results the same
        bytes, whatever the number of workers and whoever does the job; and workers that each do their own photograph
        wait for each other less than threads that share one.

        Args:
            workers: threads that read, as many that cut and write, and on a CPU as many that ask the network, each
                about photographs of its own; a device of its own is asked by one. By default one a core.

        Raises:
            GradcutError: the folder cannot be written, or holds a result that was made with other settings.
        """
        lines = self._lines(tasks, workers or cores())
        return each_on_one_thread(lines) if self._on_cpu else lines

    def _lines(self, tasks: Sequence[Task], workers: int) -> Generator[Entry]:
        marks = set(self.folder.names(".trying"))
        suspects = [task for task in tasks if mark(task.name).split("/")[1] in marks]
        suspected = {task.name for task in suspects}
        with evaluating(self.segmenter.classifier.model):
            yield from self._pipeline((task for task in tasks if task.name not in suspected), workers)
            yield from self._alone(suspects)

    # The pipeline -----------------------------------------------------------------------------------------------------

    def _pipeline(self, tasks: Iterable[Task], workers: int) -> Iterator[Entry]:
        tasks = iter(tasks)
        lanes = workers if self._on_cpu else 1
        readers = ThreadPoolExecutor(workers, "gradcut-read")
        askers = single_threaded_pool(lanes, "gradcut-ask") if self._on_cpu else ThreadPoolExecutor(1, "gradcut-ask")
        cutters = ThreadPoolExecutor(workers, "gradcut-cut")
        reading: deque[tuple[Task, Future[Reading | Entry]]] = deque()
        asking: deque[Future[list[tuple[Task, Evidence | Entry]]]] = deque()
        cutting: deque[Future[Entry]] = deque()
        try:
            while True:
                while len(asking) <= lanes:
                    for task in islice(tasks, 2 * self.batch + workers - len(reading)):
                        reading.append((task, readers.submit(self._read, task)))
                    if not reading:
                        break
                    taken = [reading.popleft() for _ in range(min(self.batch, len(reading)))]
                    asking.append(askers.submit(self._explain_read, taken))
                if not asking:
                    break
                for task, evidence in asking.popleft().result():
                    cutting.append(cutters.submit(self._finish, task, evidence))
                # In the order of the photographs, so a manifest without an accident needs no sorting.
                while cutting and (len(cutting) > 2 * workers or cutting[0].done()):
                    yield cutting.popleft().result()
            while cutting:
                yield cutting.popleft().result()
        finally:
            # What has begun is finished, so that nothing is lost when a person or an error stops the run.
            for pool in (readers, askers, cutters):
                pool.shutdown(cancel_futures=True)

    @property
    def _on_cpu(self) -> bool:
        return self.segmenter.classifier.device.type == "cpu"

    def _read(self, task: Task, alone: int = 0) -> Reading | Entry:
        """The photograph; or its line, if it is finished or cannot be read."""
        with files.writing(self.folder.url):
            finished = self._finished(task)
            if finished is not None:
                return finished
            content = json.dumps({"name": task.name, "alone": alone})
            self.folder.write(mark(task.name), content.encode())

        def reading() -> Reading:
            began = time.perf_counter()
            photograph = images.read(task.photograph, value_range=self.value_range)
            return Reading(photograph, self.segmenter.resized(photograph), time.perf_counter() - began)

        read: Reading | Entry = self._guard(task, reading)
        return read

    def _explain_read(
        self, reading: Sequence[tuple[Task, Future[Reading | Entry]]]
    ) -> list[tuple[Task, Evidence | Entry]]:
        return self._explain([(task, read.result()) for task, read in reading])

    def _explain(self, batch: Sequence[tuple[Task, Reading | Entry]]) -> list[tuple[Task, Evidence | Entry]]:
        waiting = [(task, read) for task, read in batch if isinstance(read, Reading)]
        answers = dict(zip((task for task, _ in waiting), self._ask(waiting), strict=True))
        return [(task, line if not isinstance(line, Reading) else answers[task]) for task, line in batch]

    def _ask(self, waiting: Sequence[tuple[Task, Reading]]) -> list[Evidence | Entry]:
        """The network's part, in as many passes as memory asks for; what goes wrong with one costs no other."""
        most = self._memory.photographs
        if len(waiting) > most:
            return [*self._ask(waiting[:most]), *self._ask(waiting[most:])]
        if not waiting:
            return []
        copies = self.batch - len(waiting) if most == self.batch else 0
        try:
            return list(self._evidence(waiting, copies))
        except Exception as error:
            # What follows is outside this block, in which the error keeps the tensors of the pass alive.
            line, short = self._failure(waiting[0][0], error), out_of_memory(error)
        if short and len(waiting) + copies > 1:
            gc.collect()
            self._memory.photographs = min(self._memory.photographs, (len(waiting) + copies) // 2)
            return self._ask(waiting)
        if len(waiting) > 1:  # one of them may be at fault; each says for itself
            return [answer for pair in waiting for answer in self._ask([pair])]
        return [line]

    @cached_property
    def _memory(self) -> _Memory:
        return _Memory(self.batch)

    def _evidence(self, waiting: Sequence[tuple[Task, Reading]], copies: int) -> Iterator[Evidence]:
        padded = [read for _, read in waiting] + [waiting[-1][1]] * copies
        explained = self.segmenter.explain(
            [read.photograph for read in padded], self.labels, [read.resized for read in padded]
        )
        for (task, read), evidence in zip(waiting, explained, strict=False):
            yield replace(evidence, source=task.photograph, seconds={"read": read.seconds, **evidence.seconds})

    def _finish(self, task: Task, evidence: Evidence | Entry) -> Entry:
        """Cut and write, and take the mark away."""
        line = evidence if isinstance(evidence, dict) else self._guard(task, lambda: self._save(task, evidence))
        with files.writing(self.folder.url):
            self.folder.remove(mark(task.name))
        return line

    def _save(self, task: Task, evidence: Evidence) -> Entry:
        record = results.save(
            self.segmenter.cut(evidence),
            self.folder,
            task.name,
            classmaps=True,
            void=self.void,
            pictures=self.pictures,
            settings=self.settings,
            cutouts=self.cutouts,
            maps=self.maps,
        )
        return manifest_line(task.name, record)

    def _guard(self, task: Task, step: Callable[[], Any]) -> Any:
        """What the step returns, or the line that says why this photograph failed; none costs another's result."""
        try:
            return step()
        except Exception as error:
            return self._failure(task, error)

    @staticmethod
    def _failure(task: Task, error: Exception) -> Entry:
        """The line that says why; a folder that cannot be written ends the run, for the next one would fail as well."""
        if isinstance(error, OutputError):
            raise error
        if out_of_memory(error):
            return failed(task, f"{task.photograph}: not enough memory")
        if isinstance(error, GradcutError):
            named = task.photograph in str(error)
            return failed(task, str(error) if named else f"{task.photograph}: {error}")
        kind, reason = type(error).__name__, one_line(error)
        return failed(task, f"{task.photograph}: {kind if reason == kind else f'{kind}: {reason}'}")

    # After a crash ----------------------------------------------------------------------------------------------------

    def _finished(self, task: Task) -> Entry | None:
        """The line of a photograph whose record an earlier run wrote."""
        try:
            record = json.loads(self.folder.read(f"results/{task.name}.json") or b"")
            made = {part: record[part] for part in ("recipe", "classifier")}
            line = manifest_line(task.name, record)
        except (ValueError, KeyError, TypeError):
            return None
        differences = differing(made, {part: self.settings[part] for part in made})
        if record["photograph"] != task.photograph:
            differences.append(f"photograph {record['photograph']}, now {task.photograph}")
        if differences:
            raise GradcutError(
                f"output: results/{task.name}.json in {self.folder.url} was made with {brief(differences)}; "
                "choose another folder or --overwrite"
            )
        return line

    def _alone(self, suspects: Sequence[Task]) -> Iterator[Entry]:
        if not suspects:
            return
        with Decoder() as decoder:
            for task in suspects:
                try:
                    alone = int(json.loads(self.folder.read(mark(task.name)) or b"")["alone"])
                except (ValueError, KeyError, TypeError):  # killed while the mark was written
                    alone = 0
                crash = decoder.crash(task.photograph) if self._finished(task) is None else None
                line: Evidence | Entry
                if crash is not None:
                    line = failed(task, f"{task.photograph}: the decoder crashed ({crash})")
                elif alone >= TRIES:
                    line = failed(task, f"{task.photograph}: the process died {alone} times at this photograph alone")
                else:
                    ((_, line),) = self._explain([(task, self._read(task, alone + 1))])
                yield self._finish(task, line)


@dataclass
class _Memory:
    """How many photographs the network can be shown at once, as far as is known."""

    photographs: int


def failed(task: Task, error: str) -> Entry:
    """The manifest's line for a photograph that cannot be done."""
    return {"name": task.name, "photograph": task.photograph, "state": "failed", "error": error}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [1])


#: Who does a job: called as ``engine(job, tasks, workers)``, workers None for a number of its own choice.
Engine = Callable[[Job, Sequence[Task], int | None], Generator[Entry]]

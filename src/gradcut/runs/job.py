"""Many photographs: read, explained in batches and cut side by side, each on its own, through any crash.

The engine here is one process: threads read, others ask the network, others cut and write, and the queues between
them are bounded. `gradcut.runs.cluster` runs the same `Job` on Ray.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import torch

from gradcut import files, images
from gradcut.classifiers.classifier import evaluating
from gradcut.errors import GradcutError, RunError, check_least, one_line
from gradcut.results import checked_void
from gradcut.runs import run as runs
from gradcut.runs.run import Entry, Place, Run
from gradcut.segmenter import Evidence, Segmenter

#: How often a photograph may be alone at work when the process dies before it is given up.
TRIES = 2


class Task(NamedTuple):
    """A photograph's path or address, and the name to save its results under."""

    photograph: str
    name: str


@dataclass(frozen=True)
class Job:
    """What is done with every photograph, whoever does it.

    Args:
        place: where the results go.
        labels: classes to ask for whatever their score.
        void: bounds of the class map's unsure pixels, as in `Segmentation.classmap`.
        pictures: write a picture for a person, too.
        batch: photographs that the network sees at once. A batch that is not full is filled up with copies, so
            that every photograph goes through the same arithmetic whatever its neighbours are.
    """

    segmenter: Segmenter
    place: Place
    labels: tuple[str, ...] | None = None
    void: tuple[float, float] | None = None
    pictures: bool = True
    batch: int = 1

    def __post_init__(self) -> None:
        if self.void is not None:
            checked_void(self.void)
        check_least(GradcutError, self, batch=1)

    @property
    def settings(self) -> dict[str, Any]:
        """What every result depends on, as JSON values."""
        recipe, classifier = self.segmenter.recipe, self.segmenter.classifier
        return {
            "recipe": {
                "name": recipe.name, "saliency": repr(recipe.saliency), "seeds": repr(recipe.seeds),
                "masks": repr(recipe.masks), "sha256": recipe.fingerprint,
            },
            "classifier": {
                "name": classifier.name, "size": list(classifier.size), "multilabel": classifier.multilabel,
                "sha256": classifier.fingerprint,
            },
            "threshold": self.segmenter.threshold, "top_k": self.segmenter.top_k,
            "labels": None if self.labels is None else list(self.labels),
            "void": None if self.void is None else list(self.void), "pictures": self.pictures, "batch": self.batch,
        }  # fmt: skip

    def about(self) -> dict[str, Any]:
        """The rest of ``run.json``: what a reader of the results needs to know."""
        classifier = self.segmenter.classifier
        groups = [label for label in self.labels or () if not isinstance(classifier.find(label), int)]
        return {"classes": [*classifier.labels, *groups], "versions": runs.versions()}

    def __call__(self, tasks: Sequence[Task], workers: int = 1) -> Generator[Entry]:
        """Do the tasks and yield each one's line for the manifest, finished results of an earlier run included.

        Photographs that were at work when a process died come last, each alone, after a process of their own has
        decoded them: a file that crashes the decoder is named instead of crashing this process again.

        Args:
            workers: threads that read, as many that cut and write, and on a CPU as many that ask the network, each
                about photographs of its own; a device of its own is asked by one.

        Raises:
            GradcutError: the place cannot be written, or holds a result that was made with other settings.
        """
        marks = set(self.place.names(".trying"))
        suspects = [task for task in tasks if runs.mark(task.name).split("/")[1] in marks]
        suspected = {task.name for task in suspects}
        with evaluating(self.segmenter.classifier.model), self._one_thread_each():
            yield from self._pipeline((task for task in tasks if task.name not in suspected), workers)
            yield from self._alone(suspects)

    # The pipeline -----------------------------------------------------------------------------------------------------

    def _pipeline(self, tasks: Iterable[Task], workers: int) -> Iterator[Entry]:
        tasks = iter(tasks)
        lanes = workers if self._on_cpu else 1
        readers = ThreadPoolExecutor(workers, "gradcut-read")
        askers = ThreadPoolExecutor(lanes, "gradcut-ask")
        cutters = ThreadPoolExecutor(workers, "gradcut-cut")
        reading: deque[tuple[Task, Future[Evidence | Entry]]] = deque()
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

    @contextmanager
    def _one_thread_each(self) -> Iterator[None]:
        """On a CPU, one thread for each photograph that the network sees.

        Sums then have the same order, and results the same bytes, whatever the number of workers and whoever does
        the job; and workers that each do their own photograph wait for each other less than threads that share one.
        """
        before = torch.get_num_threads()
        try:
            if self._on_cpu:
                torch.set_num_threads(1)  # threads that begin from here on have one, too
            yield
        finally:
            torch.set_num_threads(before)

    def _read(self, task: Task, alone: int = 0) -> Evidence | Entry:
        """The photograph, as evidence that is still empty; or its line, if it is finished or cannot be read."""
        with files.writing(self.place.url):
            finished = self._finished(task)
            if finished is not None:
                return finished
            content = json.dumps({"name": task.name, "alone": alone})
            self.place.write(runs.mark(task.name), content.encode())
        began = time.perf_counter()

        def evidence() -> Evidence:
            photograph = images.read(task.photograph)
            seconds = {"read": time.perf_counter() - began}
            return Evidence(photograph, (), (), _NOTHING, seconds, task.photograph)

        read: Evidence | Entry = self._guard(task, evidence)
        return read

    def _explain_read(
        self, reading: Sequence[tuple[Task, Future[Evidence | Entry]]]
    ) -> list[tuple[Task, Evidence | Entry]]:
        return self._explain([(task, read.result()) for task, read in reading])

    def _explain(self, batch: Sequence[tuple[Task, Evidence | Entry]]) -> list[tuple[Task, Evidence | Entry]]:
        waiting = [(task, found) for task, found in batch if isinstance(found, Evidence)]
        done: dict[str, Evidence | Entry] = {}
        if waiting:
            try:
                explained = self._ask([found for _, found in waiting])
                done = {task.name: evidence for (task, _), evidence in zip(waiting, explained, strict=True)}
            except torch.OutOfMemoryError as error:
                raise GradcutError(
                    f"batch: the device's memory does not hold {self.batch} photographs at once; ask for fewer"
                ) from error
            except Exception:
                # One of them may be at fault; each says for itself.
                for task, found in waiting:
                    done[task.name] = self._guard(task, lambda found=found: self._ask([found])[0])  # type: ignore[misc]
        return [(task, done.get(task.name, found)) for task, found in batch]

    def _ask(self, waiting: Sequence[Evidence]) -> list[Evidence]:
        photographs = [each.photograph for each in waiting]
        photographs += [photographs[-1]] * (self.batch - len(photographs))
        explained = self.segmenter.explain(photographs, self.labels)
        return [
            replace(new, source=old.source, seconds={**old.seconds, **new.seconds})
            for old, new in zip(waiting, explained, strict=False)
        ]

    def _finish(self, task: Task, evidence: Evidence | Entry) -> Entry:
        """Cut and write, and take the mark away."""
        line = evidence if isinstance(evidence, dict) else self._guard(task, lambda: self._save(task, evidence))
        with files.writing(self.place.url):
            self.place.remove(runs.mark(task.name))
        return line

    def _save(self, task: Task, evidence: Evidence) -> Entry:
        result = self.segmenter.cut(evidence)
        try:
            record = self.place.save(result, task.name, classmaps=True, void=self.void, pictures=self.pictures)
        except (GradcutError, OSError) as error:
            raise _UnwritableError(str(error)) from error
        return runs.entry(task.name, record)

    @staticmethod
    def _guard(task: Task, step: Callable[[], Any]) -> Any:
        """What the step returns, or the line that says why this photograph failed; none costs another's result."""
        try:
            return step()
        except _UnwritableError as error:
            raise GradcutError(str(error)) from error
        except MemoryError:
            return failed(task, f"{task.photograph}: not enough memory")
        except GradcutError as error:
            named = task.photograph in str(error)
            return failed(task, str(error) if named else f"{task.photograph}: {error}")
        except Exception as error:
            kind, reason = type(error).__name__, one_line(error)
            return failed(task, f"{task.photograph}: {kind if reason == kind else f'{kind}: {reason}'}")

    # After a crash ----------------------------------------------------------------------------------------------------

    def _finished(self, task: Task) -> Entry | None:
        """The line of a photograph whose record an earlier run wrote."""
        try:
            record = json.loads(self.place.read(f"results/{task.name}.json") or b"")
            made = record["recipe"]["sha256"], record["classifier"]["sha256"]
            line = runs.entry(task.name, record)
        except (ValueError, KeyError):
            return None
        ours = made == (self.segmenter.recipe.fingerprint, self.segmenter.classifier.fingerprint)
        if not ours or record["photograph"] != task.photograph:
            raise GradcutError(
                f"output: results/{task.name}.json in {self.place.url} was made from {record['photograph']} with "
                f"recipe {record['recipe']['name']}; choose another folder or --overwrite"
            )
        return line

    def _alone(self, suspects: Sequence[Task]) -> Iterator[Entry]:
        if not suspects:
            return
        with _Decoder() as decoder:
            for task in suspects:
                try:
                    alone = int(json.loads(self.place.read(runs.mark(task.name)) or b"")["alone"])
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


class _UnwritableError(Exception):
    """The place refuses a file: the run ends, for the next photograph would fail as well."""


_NOTHING = torch.zeros(0, 1, 1).numpy()


def failed(task: Task, error: str) -> Entry:
    """The manifest's line for a photograph that cannot be done."""
    return {"name": task.name, "photograph": task.photograph, "state": "failed", "error": error}


class _Decoder:
    """Decodes photographs in a process of its own, which a bad file may crash."""

    _CODE = (
        "import sys\nfrom gradcut import images\n"
        "for line in sys.stdin:\n"
        "    try: images.read(line[:-1])\n"
        "    except Exception: pass\n"
        "    print(flush=True)\n"
    )

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def crash(self, photograph: str) -> str | None:
        """What the process died of when it decoded this photograph; None if it lives."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, errors="surrogateescape", start_new_session=True,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(photograph + "\n")
            process.stdin.flush()
        if process.stdout.readline():
            return None
        self._process = None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        status = process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


#: Who does a job: called as ``engine(job, tasks, workers)``.
Engine = Callable[[Job, Sequence[Task], int], Generator[Entry]]


def segment_all(
    job: Job,
    tasks: Sequence[Task],
    workers: int = 1,
    overwrite: bool = False,
    engine: Engine | None = None,
) -> Generator[tuple[Entry, bool]]:
    """Do a job into its folder and yield every photograph's line, and whether it was done before.

    Killed at any moment, the same call finishes what is missing. The manifest ends in the order of the tasks.

    Args:
        tasks: with names that are all different, as `gradcut.files.find` gives them.
        workers: of the engine: threads here, actors on Ray.
        overwrite: do finished photographs again.
        engine: who does it; the job itself by default.

    Raises:
        RunError: the folder holds results of other settings, or is in use.
        GradcutError: it cannot be written.
    """
    with Run(job.place, job.settings, job.about(), overwrite) as run:
        missing = []
        before = run.done
        for task in tasks:
            if task.name not in run:
                missing.append(task)
            elif before[task.name] != task.photograph:
                raise RunError(
                    f"output: {task.name} in {job.place.url} was made from {before[task.name]}, not from "
                    f"{task.photograph}; choose another folder or --overwrite"
                )
        for line in run.lines(task.name for task in tasks if task.name in before):
            yield line, True
        try:
            with closing((engine or Job.__call__)(job, missing, workers)) as lines:
                for line in lines:
                    run.append(line)
                    yield line, False
        except (KeyboardInterrupt, GeneratorExit):
            run.finish(task.name for task in tasks)
            raise
        run.finish(task.name for task in tasks)

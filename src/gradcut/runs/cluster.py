"""The same job on Ray: a folder of photographs over many machines, and the same files."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradcut.errors import GradcutError, one_line
from gradcut.runs.job import Job, Task
from gradcut.runs.run import Entry


@dataclass(frozen=True)
class OnRay:
    """An engine for `gradcut.runs.segment.segment_all`: Ray Data hands blocks of photographs to actors.

    An actor loads the model once. When one dies, Ray starts another and gives it the block again; photographs of
    the block whose records stand are not done again, and the one at which it died is tried alone, as `Job` says.

    Args:
        address: of the cluster; None starts one on this machine, or takes the one that runs.
        gpus: for an actor; a share lets several use one GPU.
        block: photographs that an actor is given at a time. What a dead actor had begun is that much at most.
        threads: of an actor, and the CPUs that it asks for.

    A call takes the number of actors as ``workers``, 2 by default.
    """

    address: str | None = None
    gpus: float = 0
    block: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise GradcutError("engine: ray is not installed; pip install 'gradcut[ray]'")

    def __call__(self, job: Job, tasks: Sequence[Task], workers: int | None = None) -> Generator[Entry]:
        import ray
        import ray.data

        if not tasks:
            return
        workers = workers or 2
        if not ray.is_initialized():
            try:
                ray.init(
                    address=self.address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise GradcutError(f"address: no Ray cluster at {self.address}: {one_line(error)}") from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        block = max(1, min(self.block, -(-len(tasks) // workers)))
        rows = [{"photograph": task.photograph, "name": task.name} for task in tasks]
        data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // block)).map_batches(
            Worker,
            fn_constructor_args=(_Sent(ray.put(job)), self.threads, self.gpus > 0, str(Path.cwd())),
            batch_size=block,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=self.threads,
            num_gpus=self.gpus or None,
        )
        try:
            for row in data.iter_rows():
                line = json.loads(row["line"])
                if "fatal" in line:
                    raise GradcutError(line["fatal"])
                yield line
        except ray.exceptions.RayError as error:
            raise GradcutError(f"engine: Ray gave up: {str(error).strip().splitlines()[-1]}") from error


@dataclass(frozen=True)
class _Sent:
    """A reference in an envelope, so that each actor fetches the job itself, once."""

    reference: Any


class Worker:
    """An actor: the job with its model, on this actor's share of a machine."""

    def __init__(self, sent: _Sent, threads: int, gpu: bool, folder: str) -> None:
        import ray

        with contextlib.suppress(OSError):  # relative paths mean the same here, where all machines share them
            os.chdir(folder)
        self.job: Job = ray.get(sent.reference)
        self.threads = threads
        if gpu:
            self.job.segmenter.classifier.to("cuda")

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        tasks = [Task(*map(str, each)) for each in zip(batch["photograph"], batch["name"], strict=True)]
        try:
            return {"line": [json.dumps(line) for line in self.job(tasks, self.threads)]}
        except GradcutError as error:  # raised here, Ray would try the block again
            return {"line": [json.dumps({"fatal": str(error)})]}

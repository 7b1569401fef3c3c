"""The Ray engine on a cluster of two workers here: the same bytes as the local engine, through a worker's death."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from drawn_runs import contents, draw

from gradcut import GradcutError, Segmenter
from gradcut.files import Folder
from gradcut.runs.cluster import OnRay
from gradcut.runs.job import Job, Task
from gradcut.runs.run import read_run
from gradcut.runs.segment import segment_all

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'gradcut[ray]'")


@pytest.fixture(scope="module")
def cluster():
    ray.init(
        num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=100_000_000,
    )  # fmt: skip
    own = builtins.print
    yield
    ray.shutdown()
    builtins.print = own  # Ray's bars put another in its place


@pytest.fixture(autouse=True)
def by_value(brightness):
    """The workers cannot import the tests' modules, so their classes travel whole, as those of a script do."""
    modules = {sys.modules[__name__], sys.modules[type(brightness.model).__module__]}
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        ray.cloudpickle.unregister_pickle_by_value(module)


class Marking(Segmenter):
    """Leaves its process's id in a folder for every photograph that it cuts, and takes its time."""

    def cut(self, evidence):
        photograph = Path(evidence.source)
        folder = photograph.parents[1] / "cuts"
        folder.mkdir(exist_ok=True)
        with (folder / photograph.name).open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.05)
        return super().cut(evidence)


def test_a_killed_workers_photographs_are_done_again_once(cluster, brightness, tmp_path):
    tasks = draw(tmp_path / "in", 24)
    (tmp_path / "in/007.png").write_bytes(b"nothing")
    Segmenter(brightness)(tasks[0].photograph)  # compiled here, cached for all
    local = Job(Segmenter(brightness), Folder(str(tmp_path / "local")), pictures=False)
    list(segment_all(local, tasks, 2))

    job = Job(Marking(brightness), Folder(str(tmp_path / "ray")), pictures=False)
    killed = None
    lines = []
    for line, _ in segment_all(job, tasks, 2, engine=OnRay(block=4)):
        lines.append(line)
        if killed is None:
            # Another worker than the one whose block has come back is in the middle of its own.
            recent = max((tmp_path / "cuts").iterdir(), key=lambda path: path.stat().st_mtime_ns)
            killed = int(recent.read_text().split()[-1])
            os.kill(killed, signal.SIGKILL)
    assert sorted(line["name"] for line in lines) == sorted(task.name for task in tasks)
    assert [line["name"] for line in lines if line["state"] == "failed"] == ["007"]
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    cuts = {path.name: path.read_text().split() for path in (tmp_path / "cuts").iterdir()}
    assert len(cuts) == 23
    workers = {pid for pids in cuts.values() for pid in pids}
    assert str(killed) in workers
    assert len(workers) == 3  # two, and the one that took the dead one's place
    assert sum(len(pids) for pids in cuts.values()) <= 23 + 3  # only what was at work at that moment is cut again


def test_ray_goes_on_where_this_machine_stopped_and_errors_come_through(cluster, brightness, tmp_path):
    tasks = draw(tmp_path / "in", 4)
    job = Job(Segmenter(brightness), Folder(f"file://{tmp_path}/out"), pictures=False)
    list(segment_all(job, tasks[:2]))
    assert [skipped for _, skipped in segment_all(job, tasks, 1, engine=OnRay())] == [True, True, False, False]
    assert [line["name"] for line in read_run(tmp_path / "out")[1]] == [task.name for task in tasks]
    with pytest.raises(GradcutError, match="was made with"):
        list(segment_all(Job(Segmenter(brightness, "guided"), job.folder), tasks, 1, engine=OnRay()))
    (tmp_path / "file").touch()
    with pytest.raises(GradcutError, match="cannot be written"):
        list(OnRay()(Job(job.segmenter, Folder(str(tmp_path / "file/out"))), tasks, 1))


class OnOneGPU(Job):
    """In a job's place: says which process did it, on which device, and which GPU Ray has given it a share of."""

    def __init__(self, seen):
        for name, value in {"segmenter": self, "classifier": self, "device": "cpu", "seen": seen}.items():
            object.__setattr__(self, name, value)

    def to(self, device):
        object.__setattr__(self, "device", device)

    def __call__(self, tasks, workers):
        (self.seen / str(os.getpid())).touch()
        late = time.monotonic() + 60
        while len(list(self.seen.iterdir())) < 2 and time.monotonic() < late:  # so that both workers get something
            time.sleep(0.02)
        context = ray.get_runtime_context()
        gpus = context.get_accelerator_ids()["GPU"], context.get_assigned_resources()["GPU"]
        for task in tasks:
            yield {"name": task.name, "pid": os.getpid(), "device": self.device, "gpus": gpus}


def test_workers_share_one_gpu(cluster, tmp_path):
    # Ray hands out the GPUs that it was told of, so that this needs none.
    tasks = [Task(f"{number}.png", str(number)) for number in range(6)]
    lines = list(OnRay(gpus=0.5, block=1)(OnOneGPU(tmp_path), tasks, 2))
    assert sorted(line["name"] for line in lines) == sorted(task.name for task in tasks)
    assert len({line["pid"] for line in lines}) == 2
    assert {line["device"] for line in lines} == {"cuda"}
    assert all(line["gpus"] == [["0"], 0.5] for line in lines)


def test_ray_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GradcutError, match=r"ray is not installed; pip install 'gradcut\[ray\]'"):
        OnRay()

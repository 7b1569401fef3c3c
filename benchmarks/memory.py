"""Memory of a long run, or of one large photograph after the network.

    python benchmarks/memory.py [--photographs 5000] [--workers 2]
    python benchmarks/memory.py --megapixels 49 --classes 17

The first prints the resident size after every 500 of 5,000 generated photographs, which differ in content and size.
The second prints, for a drawn photograph and drawn maps, the processor's seconds of each step after the network, and
its peak beyond what photograph and maps take, in MB and in MB a megapixel and class. The classifier is a small
convolutional network: the photographs, the masks and the run's own records are what could pile up.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gradcut import Classifier, Segmenter, refine
from gradcut.classifiers.classifier import Detection
from gradcut.files import Folder
from gradcut.images import resize
from gradcut.results import record
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all
from gradcut.segmenter import Evidence


def resident() -> float:
    """Of this process, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def draw(folder: Path, number: int) -> list[Task]:
    generator = np.random.default_rng(0)
    tasks = []
    for n in range(number):
        height, width = generator.integers(150, 400, 2)
        rough = generator.integers(0, 255, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8)
        path = folder / f"{n:05}.jpg"
        Image.fromarray(rough).resize((int(width), int(height)), Image.Resampling.BICUBIC).save(path, quality=85)
        tasks.append(Task(str(path), path.stem))
    return tasks


def watched(name: str, step: Callable[[], Any], before: float, unit: float) -> Any:
    """What a step returns; its time and its peak memory are printed."""
    peaks, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peaks.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.process_time()
    result = step()
    seconds = time.process_time() - started
    done.set()
    watcher.join()
    peak = (max(peaks) - before) * 1.048576
    print(f"| {name} | {seconds:.1f} | {peak:.0f} | {peak / unit:.2f} |", flush=True)
    return result


def one_large(segment: Segmenter, megapixels: float, classes: int) -> None:
    """Cut, correct, join and record one photograph of ellipses, one a class."""
    generator = np.random.default_rng(0)
    height = int((0.75e6 * megapixels) ** 0.5)
    size, side = (height, height * 4 // 3), 384
    y, x = np.mgrid[:side, :side] / side
    maps = np.empty((classes, side, side), np.float32)
    for values in maps:
        (top, left), (down, across) = generator.uniform(0.2, 0.8, 2), generator.uniform(0.08, 0.3, 2)
        values[...] = np.exp(-(((y - top) / down) ** 2) - ((x - left) / across) ** 2)
    grey = (255 * maps.max(axis=0)).astype(np.uint8)
    photograph = resize(np.stack([grey, grey.T, 255 - grey], axis=2), size)
    found = tuple(Detection(f"class {n}", (n,), 0.9 - n / 100) for n in range(classes))
    stroke = np.zeros(size, dtype=bool)
    stroke[height // 2 : height // 2 + height // 50, height // 2 : height // 2 + height // 10] = True
    segment.cut(Evidence(photograph[:300, :400].copy(), found[:1], (), maps[:1], {}))  # compiles
    before, unit = resident(), megapixels * classes
    print("| step | seconds | peak, MB | MB a megapixel and class |\n| --- | --- | --- | --- |")
    evidence = Evidence(photograph, found, (), maps, {}, asked=True)
    result = watched("masks", lambda: segment.cut(evidence), before, unit)
    result = watched("a stroke", lambda: refine(result, {found[0].label: stroke}), before, unit)
    watched("label map", result.labelmap, before, unit)
    watched("record", lambda: record(result), before, unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--megapixels", type=float, help="of one photograph, instead of a long run")
    parser.add_argument("--classes", type=int, default=17, help="of that photograph, at most 20")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, 2, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 20),
    )  # fmt: skip
    segment = Segmenter(Classifier(model, [f"class {n}" for n in range(20)], 64, top_k=2))
    if arguments.megapixels:
        one_large(segment, arguments.megapixels, arguments.classes)
        return
    with tempfile.TemporaryDirectory() as folder:
        tasks = draw(Path(folder), arguments.photographs)
        job = Job(segment, Folder(f"{folder}/out"), pictures=False)
        print("| photographs | resident MiB |\n| --- | --- |")
        for number, (line, _) in enumerate(segment_all(job, tasks, arguments.workers), start=1):
            assert line["state"] == "done", line
            if number == 100 or number % 500 == 0:
                print(f"| {number} | {resident():.0f} |", flush=True)


if __name__ == "__main__":
    main()

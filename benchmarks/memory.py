"""Memory of a long run: its resident size after every 500 of 5,000 generated photographs.

    python benchmarks/memory.py [--photographs 5000] [--workers 2]

The photographs differ in content and size; the classifier is a small convolutional network, so that the run takes
minutes: the photographs, the masks and the run's own records are what could pile up.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gradcut import Classifier, Segmenter
from gradcut.files import Folder
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, 2, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 20),
    )  # fmt: skip
    segment = Segmenter(Classifier(model, [f"class {n}" for n in range(20)], 64, top_k=2))
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

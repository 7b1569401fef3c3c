"""Photographs a second: a run against a plain loop over `Segmenter`, and where the time goes.

    python benchmarks/throughput.py IMAGES [--limit 32] [--rounds 3] [--workers 1 2] [--device cuda] [-o FILE]

All contenders write the same files. They take turns, and the best round of each counts, because a machine that is
shared only ever slows one down. `cpu` is the processor time of a photograph, which a busy machine changes least.
`network` is the share of the wall time in which the model works: on a GPU, how busy it is kept. The stage with the
most seconds a photograph and worker is the bottleneck.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch

from gradcut import Segmenter, files, load_classifier, results
from gradcut.cli.memory import keep_freed_memory
from gradcut.files import Folder
from gradcut.runs.job import Job, Task
from gradcut.runs.segment import segment_all

STAGES = {"read": ("read",), "network": ("prepare", "saliency"), "cut": ("seeds", "masks"), "write": ("save",)}


def loop(segment, tasks, folder):
    for task in tasks:
        results.save(segment(task.photograph), folder, task.name, classmaps=True)


def run(segment, tasks, folder, workers, batch):
    for line, _ in segment_all(Job(segment, Folder(str(folder)), batch=batch), tasks, workers):
        assert line["state"] != "failed", line


def stages(folder, wall, number):
    """Seconds a photograph of each stage, and the share of the wall time in which the network worked."""
    records = [json.loads(path.read_text())["seconds"] for path in (folder / "results").rglob("*.json")]
    spent = {
        stage: sum(record.get(part, 0) for record in records for part in parts) / number
        for stage, parts in STAGES.items()
    }
    return {stage: round(value, 4) for stage, value in spent.items()} | {
        "network_share": round(spent["network"] * number / wall, 3)
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--classifier", default="coco80")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    segment = Segmenter(load_classifier(arguments.classifier).to(arguments.device), arguments.recipe)
    batch = arguments.batch or (1 if arguments.device == "cpu" else 16)
    tasks = [Task(str(path), name) for path, name in files.find([arguments.images])[0]][: arguments.limit]

    contenders = {"plain loop": lambda folder: loop(segment, tasks, folder)} | {
        f"run, {n} worker{'s'[: n - 1]}": lambda folder, n=n: run(segment, tasks, folder, n, batch)
        for n in arguments.workers
    }
    best: dict[str, dict] = {}
    segment(tasks[0].photograph)  # compiles the cut, warms the model
    for _ in range(arguments.rounds):
        for name, contender in contenders.items():
            with tempfile.TemporaryDirectory() as folder:
                began, used = time.perf_counter(), time.process_time()
                contender(Path(folder))
                wall, used = time.perf_counter() - began, time.process_time() - used
                if name not in best or wall < best[name]["wall"]:
                    best[name] = {
                        "wall": wall,
                        "cpu": round(used / len(tasks), 4),
                        **stages(Path(folder), wall, len(tasks)),
                    }
    for row in best.values():
        row["photographs_per_second"] = round(len(tasks) / row["wall"], 2)
        row["times_the_loop"] = round(best["plain loop"]["wall"] / row["wall"], 2)
        row["wall"] = round(row["wall"], 2)
    document = {
        "photographs": len(tasks), "classifier": arguments.classifier, "recipe": arguments.recipe, "batch": batch,
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "cpu",
        "cores": len(os.sched_getaffinity(0)), "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1), "contenders": best,
    }  # fmt: skip
    print(json.dumps({key: value for key, value in document.items() if key != "contenders"}))
    columns = ("photographs_per_second", "times_the_loop", "cpu", *STAGES, "network_share")
    print("| contender |", " | ".join(columns), "|")
    print("| --- |" + " --- |" * len(columns))
    for name, row in best.items():
        print(f"| {name} |", " | ".join(str(row[column]) for column in columns), "|")
    if arguments.output:
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

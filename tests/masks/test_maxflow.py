from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from inspect import unwrap  # what is wrong is said by the functions themselves, not by the tests' type checker
from pathlib import Path

import maxflow as pymaxflow
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import event
from PIL import Image
from skimage.data import chelsea

import gradcut
from gradcut.errors import MaskError
from gradcut.masks.maxflow import _expand, alpha_expansion, ends, energy_of, min_cut

PHOTOGRAPHS = Path(__file__).parents[2] / "../shared/data/coco-dev/images"


def edge_shapes(h, w, connectivity):
    return ((h, w - 1), (h - 1, w), (h - 1, w - 1), (h - 1, w - 1))[: connectivity // 2]


def random_problem(rng, h, w, connectivity=4, dtype=np.float64, seeds=0.0, zeros=0.0, integers=False, decades=0):
    def numbers(shape):
        values = rng.integers(0, 4, shape).astype(dtype) if integers else rng.random(shape).astype(dtype)
        return (values * 10.0 ** rng.integers(-decades, decades + 1, shape)).astype(dtype)

    costs = numbers((2, h, w))
    place = rng.random((h, w))
    costs[0][place < seeds / 2] = np.inf
    costs[1][place > 1 - seeds / 2] = np.inf
    weights = [numbers(s) * (rng.random(s) >= zeros) for s in edge_shapes(h, w, connectivity)]
    return (*costs, *(weight.astype(dtype) for weight in weights))


def reference_segments(foreground_cost, background_cost, *weights):
    """PyMaxflow's minimum, the one with the most foreground; an infinite cost is more than all the rest together."""
    costs = [np.asarray(c, np.float64) for c in (foreground_cost, background_cost)]
    weights = [np.asarray(w, np.float64) for w in weights]
    finite = [c[np.isfinite(c)] for c in costs]
    infinite = 1 + sum(np.abs(a).sum() for a in (*finite, *weights))
    h, w = foreground_cost.shape
    graph = pymaxflow.Graph[float](h * w, 4 * h * w)
    nodes = graph.add_grid_nodes((h, w))
    graph.add_grid_tedges(nodes, *(np.where(np.isinf(c), infinite, c) for c in costs[::-1]))
    neighbours = ends(nodes)
    for weight, (a, b) in zip(weights, neighbours, strict=False):
        graph.add_edges(a.ravel(), b.ravel(), weight.ravel(), weight.ravel())
    graph.maxflow()
    return ~graph.get_grid_segments(nodes)


def reference_energy(foreground_cost, background_cost, *weights):
    labels = reference_segments(foreground_cost, background_cost, *weights)
    return energy_of(labels, (background_cost, foreground_cost), *weights)


def close(a, b, dtype=np.float64):
    return a == pytest.approx(b, rel=1e-6 if dtype == np.float64 else 1e-5, abs=1e-12)


def all_labellings(h, w, k=2):
    return np.array(list(itertools.product(range(k), repeat=h * w))).reshape(-1, h, w)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (2, 4), (3, 3)])
def test_equals_brute_force_and_returns_the_smallest_foreground(shape, connectivity):
    rng = np.random.default_rng(0)
    labellings = all_labellings(*shape).astype(bool)
    for integers in (True, False):
        for _ in range(4):
            problem = random_problem(rng, *shape, connectivity, seeds=0.3, zeros=0.2, integers=integers)
            labels, energy = min_cut(*problem)
            fg, bg, *weights = problem
            energies = np.array([energy_of(each, (bg, fg), *weights) for each in labellings])
            assert close(energy, energies.min())
            assert energy == energy_of(labels, (bg, fg), *weights)
            if integers:  # ties abound, and sums are exact
                smallest = np.logical_and.reduce(labellings[energies == energies.min()])
                assert (labels == smallest).all()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    h=st.integers(1, 24),
    w=st.integers(1, 24),
    connectivity=st.sampled_from([4, 8]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seeds=st.sampled_from([0.0, 0.02, 0.35, 1.0]),
    zeros=st.sampled_from([0.0, 0.5, 1.0]),
    integers=st.booleans(),
    decades=st.sampled_from([0, 2, 5]),
)
def test_equals_pymaxflow_on_random_grids(dtype, seed, **kinds):
    problem = random_problem(np.random.default_rng(seed), dtype=dtype, **kinds)
    labels, energy = min_cut(*problem)
    assert close(energy, reference_energy(*problem), dtype)
    assert not (labels & np.isinf(problem[0])).any()
    assert (labels | ~np.isinf(problem[1])).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_integers_are_cut_to_the_last_digit_and_ties_go_to_the_background(connectivity, dtype):
    rng = np.random.default_rng(9)
    for seeds, zeros in itertools.product((0.0, 0.05, 0.35), (0.0, 0.5)):
        problem = random_problem(rng, 70, 90, connectivity, dtype, seeds, zeros, integers=True)
        foreground_cost, background_cost, *weights = problem
        labels, energy = min_cut(*problem)
        # With the two labels exchanged, what PyMaxflow has the most of is background.
        smallest = ~reference_segments(background_cost, foreground_cost, *weights)
        assert (labels == smallest).all()
        assert energy == reference_energy(*problem)
        assert (smallest != reference_segments(*problem)).any() or seeds > 0.05


def photograph_problems(rgb, rng):
    """Weights and seeds as the recipes have them, on a map that is smooth and rough by turns."""
    differences = [((a - b) ** 2).sum(axis=2) for a, b in gradcut.masks.maxflow.ends(rgb)]
    saliency = np.abs(np.diff(rgb.sum(axis=2), prepend=0)) + rng.random(rgb.shape[:2])
    foreground, background = saliency >= np.percentile(saliency, 95), saliency <= np.percentile(saliency, 30)
    inf = np.inf
    inverse = [1 / (1 + d) for d in differences]
    yield np.where(background, inf, 0.0), np.where(foreground, inf, 0.0), *inverse[:2]
    probability = np.clip(saliency / np.percentile(saliency, 99), 0.02, 0.98)
    contrast = [5 * np.exp(-d / 2 / max(d.mean(), 1e-9)) for d in differences]
    yield -np.log(probability), -np.log(1 - probability), *contrast
    yield np.where(background, inf, 0.3), np.where(foreground, inf, 0.1), *contrast


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_pymaxflow_on_a_photograph(dtype):
    rng = np.random.default_rng(0)
    for problem in photograph_problems(chelsea()[::2, ::2].astype(np.float64), rng):
        problem = [a.astype(dtype) for a in problem]
        _, energy = min_cut(*problem)
        assert close(energy, reference_energy(*problem), dtype)


def test_equals_pymaxflow_on_coco_photographs():
    if not PHOTOGRAPHS.is_dir():
        pytest.skip(f"the development photographs are not at {PHOTOGRAPHS}")
    rng = np.random.default_rng(0)
    for path in sorted(PHOTOGRAPHS.glob("*.jpg"))[:8]:
        rgb = np.asarray(Image.open(path).convert("RGB").resize((200, 160)), np.float64)
        for problem in photograph_problems(rgb, rng):
            _, energy = min_cut(*problem)
            assert close(energy, reference_energy(*problem))


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 23)])
def test_degenerate_grids(shape, connectivity):
    rng = np.random.default_rng(1)
    zero = np.zeros(shape)
    some = [np.ones(s) for s in edge_shapes(*shape, connectivity)]
    nothing = [np.zeros(s) for s in edge_shapes(*shape, connectivity)]
    truth = rng.random(shape) < 0.5

    labels, energy = min_cut(zero, zero, *some)
    assert not labels.any()
    assert energy == 0

    seeds = np.where(truth, 0, np.inf), np.where(truth, np.inf, 0)
    labels, energy = min_cut(*seeds, *some)
    assert (labels == truth).all()
    assert energy == energy_of(truth, (zero, zero), *some)

    labels, energy = min_cut(np.where(truth, 1.0, 3.0), np.where(truth, 2.0, 1.0), *nothing)
    assert (labels == truth).all()
    assert energy == truth.size

    labels, _ = min_cut(zero, zero + np.inf, *some)
    assert labels.all()

    huge = [w * 1e30 for w in some]
    labels, _ = min_cut(zero + 2, zero + 3, *huge)
    assert labels.all()

    labels, energy = min_cut(np.where(truth, 1e30, 0.0), np.where(truth, 0.0, 1e30), *some)
    assert (labels == ~truth).all()


def test_costs_may_be_negative():
    costs = np.array([[-3.0, 2.0]]), np.array([[0.0, -1.0]])
    labels, energy = min_cut(*costs, np.array([[1.5]]), np.zeros((0, 2)))
    assert labels.tolist() == [[True, False]]
    assert energy == -2.5


def test_takes_any_layout_and_leaves_its_arguments_alone():
    problem = random_problem(np.random.default_rng(2), 20, 30, 8, seeds=0.2)
    before = [a.copy() for a in problem]
    expected, energy = min_cut(*problem)
    for layout in (
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1].copy()[::-1],
    ):
        labels, other = min_cut(*map(layout, problem))
        assert (labels == expected).all()
        assert other == energy
    for a in problem:
        a.flags.writeable = False
    min_cut(*problem)
    assert all((a == b).all() for a, b in zip(problem, before, strict=True))


def test_every_direction_counts():
    problem = random_problem(np.random.default_rng(3), 12, 12, 8)
    problem = (*problem[:2], *(weight / 10 for weight in problem[2:]))
    _, energy = min_cut(*problem)
    for i in range(2, 6):
        changed = list(problem)
        changed[i] = changed[i] * 3
        assert min_cut(*changed)[1] > energy


def test_same_labels_every_time_and_on_threads():
    rng = np.random.default_rng(4)
    problems = [random_problem(rng, 60, 50, c, d, seeds=0.1) for c in (4, 8) for d in (np.float32, np.float64)] * 4
    sequential = [min_cut(*problem) for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda problem: min_cut(*problem), problems))
    for (labels, energy), (other, other_energy) in zip(sequential, threaded, strict=True):
        assert (labels == other).all()
        assert energy == other_energy


ZERO = np.zeros((3, 4))
RIGHT, DOWN, DIAGONAL = np.ones((3, 3)), np.ones((2, 4)), np.ones((2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ZERO[0], ZERO, RIGHT, DOWN), r"foreground_cost: expected shape \(h, w\).*got \(4,\)"),
        (
            (ZERO[:0], ZERO[:0], RIGHT[:0], DOWN),
            r"foreground_cost: expected .* at least one pixel, got \(0, 4\)",
        ),
        ((ZERO, ZERO[:2], RIGHT, DOWN), r"background_cost: expected shape \(3, 4\).*got \(2, 4\)"),
        ((ZERO, ZERO, ZERO, DOWN), r"right: expected shape \(3, 3\) .*got \(3, 4\)"),
        ((ZERO, ZERO, RIGHT, ZERO), r"down: expected shape \(2, 4\) .*got \(3, 4\)"),
        ((ZERO, ZERO, RIGHT, DOWN, ZERO, DIAGONAL), r"down_right: expected shape \(2, 3\) .*got \(3, 4\)"),
        (
            (ZERO, ZERO, RIGHT, DOWN, DIAGONAL),
            r"down_left: expected shape \(2, 3\) as down_right is given, got None",
        ),
        (
            (ZERO, ZERO, RIGHT, DOWN, None, DIAGONAL),
            r"down_right: expected .* as down_left is given, got None",
        ),
        ((ZERO, ZERO, -RIGHT, DOWN), r"right: expected finite weights of at least 0, got -1.0 to -1.0"),
        ((ZERO, ZERO, RIGHT, DOWN * np.inf), r"down: expected finite weights of at least 0, got inf to inf"),
        ((ZERO, ZERO, RIGHT * np.nan, DOWN), r"right: expected numbers, got NaN at \(y, x\) = \(0, 0\)"),
        ((ZERO * np.nan, ZERO, RIGHT, DOWN), r"foreground_cost: expected numbers, got NaN"),
        ((ZERO, ZERO - np.inf, RIGHT, DOWN), r"background_cost: expected costs above -inf, got -inf"),
        (
            (ZERO + np.inf, ZERO + np.inf, RIGHT, DOWN),
            r"foreground_cost and background_cost: .*got inf for all",
        ),
        ((ZERO + 1j, ZERO, RIGHT, DOWN), r"foreground_cost: expected real numbers, got complex128"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(MaskError, match=message):
        unwrap(min_cut)(*arguments)


# --- alpha-expansion ---


def multilabel_problem(rng, k, h, w, connectivity, forbidden=0.0, dtype=np.float64):
    costs = rng.random((k, h, w))
    costs[rng.random(costs.shape) < forbidden] = np.inf
    np.put_along_axis(costs, rng.integers(0, k, (1, h, w)), rng.random((1, h, w)), axis=0)
    weights = [rng.random(s) * 0.6 for s in edge_shapes(h, w, connectivity)]
    return costs.astype(dtype), [weight.astype(dtype) for weight in weights]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("forbidden", [0.0, 0.4])
def test_an_expansion_is_the_best_of_all(connectivity, forbidden):
    rng = np.random.default_rng(5)
    changes = all_labellings(2, 4).astype(bool)
    for _ in range(6):
        costs, weights = multilabel_problem(rng, 4, 2, 4, connectivity, forbidden)
        labels = np.where(np.isinf(costs), 2.0, rng.random(costs.shape)).argmin(axis=0)
        padded = [*weights, None, None][:4]
        for alpha in range(4):
            expanded = _expand(labels, alpha, costs, padded)
            best = min(energy_of(np.where(change, alpha, labels), costs, *weights) for change in changes)
            assert close(energy_of(expanded, costs, *weights), best)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_no_expansion_improves_the_result(connectivity, k):
    rng = np.random.default_rng(6)
    changes = all_labellings(2, 3).astype(bool)
    labellings = all_labellings(2, 3, k)
    for forbidden in (0.0, 0.3):
        costs, weights = multilabel_problem(rng, k, 2, 3, connectivity, forbidden)
        labels, energy = alpha_expansion(costs, *weights)
        assert np.isfinite(energy)
        assert energy == energy_of(labels, costs, *weights)
        for alpha in range(k):
            for change in changes:
                assert energy_of(np.where(change, alpha, labels), costs, *weights) >= energy - 1e-9
        minimum = min(energy_of(each, costs, *weights) for each in labellings)
        assert energy <= 2 * minimum + 1e-9
        if k <= 2:
            assert close(energy, minimum)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_expansion_never_raises_the_energy(dtype):
    rng = np.random.default_rng(7)
    for connectivity in (4, 8):
        costs, weights = multilabel_problem(rng, 5, 40, 30, connectivity, 0.1, dtype)
        allowed = np.where(np.isinf(costs), 2.0, rng.random(costs.shape)).argmin(axis=0)
        for initial in (None, allowed):
            start = costs.argmin(axis=0) if initial is None else initial
            labels, energy = alpha_expansion(costs, *weights, initial=initial)
            assert energy <= energy_of(start, costs, *weights)
            assert energy <= energy_of(costs.argmin(axis=0), costs, *weights)
            assert np.isfinite(np.take_along_axis(costs, labels[None], axis=0)).all()
        again, _ = alpha_expansion(costs, *weights, initial=labels)
        assert (again == labels).all()


def test_the_initial_labelling_matters():
    """Of several local minima, the start decides."""
    costs, weights = multilabel_problem(np.random.default_rng(8), 6, 12, 12, 4)
    starts = [None, *(np.full((12, 12), label) for label in range(6))]
    results = [alpha_expansion(costs, *weights, initial=start)[0] for start in starts]
    assert any((result != results[0]).any() for result in results)


@pytest.mark.parametrize(
    ("costs", "initial", "message"),
    [
        (np.zeros((0, 3, 4)), None, r"costs: expected shape \(k, h, w\)"),
        (ZERO, None, r"costs: expected shape \(k, h, w\)"),
        (np.full((2, 3, 4), np.inf), None, r"costs\[0\] and costs\[1\]: .*got inf for all"),
        (np.zeros((3, 3, 4)), np.zeros((3, 3), int), r"initial: expected integers of shape \(3, 4\)"),
        (np.zeros((3, 3, 4)), ZERO, r"initial: expected integers .*got float64"),
        (np.zeros((3, 3, 4)), np.full((3, 4), 3), r"initial: expected labels 0 to 2, got 3 to 3"),
        (
            np.stack([ZERO + np.inf, ZERO, ZERO]),
            np.zeros((3, 4), int),
            r"initial: expected labels of finite cost",
        ),
    ],
)
def test_expansion_errors_name_the_argument(costs, initial, message):
    with pytest.raises(MaskError, match=message):
        unwrap(alpha_expansion)(costs, RIGHT, DOWN, initial=initial)


# --- Compilation ---


def test_compilation_is_announced_once_and_cached_beside_a_read_only_package(tmp_path):
    program = (
        "import numpy as np; from concurrent.futures import ThreadPoolExecutor; "
        "from gradcut.masks.maxflow import min_cut; "
        "pixel = np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 0)), np.zeros((0, 1)); "
        "list(ThreadPoolExecutor(4).map(lambda _: min_cut(*pixel), range(8)))"
    )
    package = tmp_path / "gradcut"
    shutil.copytree(Path(gradcut.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "masks" / "__pycache__").touch()  # numba cannot make its folder there, whoever runs this
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | {
        "PYTHONPATH": str(tmp_path),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    messages = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stderr
        for _ in range(2)
    ]
    assert messages[0].count("\n") == 1
    assert "compiling the graph cut once" in messages[0]
    assert messages[1] == ""
    assert list((tmp_path / "cache").rglob("*.nbi"))


def test_other_code_that_compiles_tells_gradcut_nothing():
    min_cut(ZERO, ZERO, RIGHT, DOWN)
    listeners = [listener for kind in event._registered.values() for listener in kind]
    assert not [listener for listener in listeners if type(listener).__module__.startswith("gradcut")]

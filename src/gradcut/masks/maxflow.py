"""The exact minimum cut of a pixel grid with 4 or 8 neighbours, and alpha-expansion over it.

The cut is a maximum flow, found with incremental breadth-first search (IBFS): Goldberg, Hed, Kaplan, Tarjan
and Werneck, "Maximum Flows by Incremental Breadth-First Search", ESA 2011. As in Boykov and Kolmogorov (TPAMI
2004) two search trees grow from the terminals and are mended, not rebuilt, after each augmentation; here they
stay breadth-first trees, so that paths are short and a pixel cut off from its parent finds another by its
distance. Where nearly every pixel has costs of its own, one wave of Goldberg and Tarjan's push-relabel (JACM
1988), with exact distances, first carries the excess of the foreground to the frontier in bulk.

The grid lies in one array of pixels with a frame of inert ones, so that a neighbour is an offset and no bound
is checked; the residual capacities that leave a pixel lie beside each other, and one byte a pixel says which of
them are positive. Seeds are contracted: what joins them to a free pixel is added to that pixel's terminal. A cut
of float64 takes 67 bytes a pixel with 4 neighbours and 99 with 8 (float32: 47 and 63), beside the arguments.

The kernels are compiled at the first cut and kept on disk by numba, beside this file or, where that is
read-only, in the user's cache directory. Before they are compiled, one line goes to the logger
`gradcut.masks.maxflow` as a warning: Python shows it on standard error unless told otherwise, and
`logging.getLogger("gradcut.masks.maxflow").setLevel("ERROR")` hides it. They hold no lock: a
`concurrent.futures.ThreadPoolExecutor` cuts on as many cores as it has threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped
from numba import typeof
from numba.core import event
from numpy import ndarray

from gradcut.errors import MaskError
from gradcut.masks.ibfs import build, solve

logger = logging.getLogger(__name__)


def min_cut(
    foreground_cost: Float[ndarray, "h w"],
    background_cost: Float[ndarray, "h w"],
    right: Float[ndarray, "h w-1"],
    down: Float[ndarray, "h-1 w"],
    down_right: Float[ndarray, "h-1 w-1"] | None = None,
    down_left: Float[ndarray, "h-1 w-1"] | None = None,
) -> tuple[Bool[ndarray, "h w"], float]:
    """Labels (true: foreground) of least energy `sum_p cost_p(L_p) + sum_pq w_pq [L_p != L_q]`, and it.

    A cost of +inf forbids the label: an infinite `foreground_cost` is a background seed. Weights are finite
    and at least 0. `down_right` joins (y, x) to (y + 1, x + 1), `down_left` joins (y, x + 1) to (y + 1, x);
    both or neither. Where several labellings are minimal, the one with the fewest foreground pixels comes
    back (it is unique, up to rounding). All float32 is solved in float32, else in float64; the energy is
    summed in float64 from the labels.

    >>> labels, energy = min_cut(
    ...     np.array([[0, 0, np.inf]]), np.array([[np.inf, 0, 0]]), np.array([[3.0, 1.0]]), np.zeros((0, 3))
    ... )
    >>> labels.tolist(), energy
    ([[True, True, False]], 1.0)

    Raises:
        MaskError: arrays of other shapes, NaN, a weight outside, or a pixel without a label of finite cost.
    """
    costs, weights = _checked(
        {"foreground_cost": foreground_cost, "background_cost": background_cost},
        {"right": right, "down": down, "down_right": down_right, "down_left": down_left},
    )
    foreground, background = costs
    labels = _cut(foreground, background, *weights)
    return labels, energy_of(labels, (background, foreground), *weights)


#: Rows and columns to the neighbours, in the kernels' order of directions: each next to its opposite.
NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))


def min_cut_within(
    labels: Bool[ndarray, "h w"],
    free: Integer[ndarray, " m"],
    odds: Float[ndarray, " m"],
    weights: Float[ndarray, "8 m"],
) -> Bool[ndarray, " m"]:
    """New labels of a few pixels that minimise `min_cut`'s energy while all the others keep theirs.

    Time and memory grow with the number of free pixels (about 180 bytes each) and not with the grid, but for one
    integer a pixel. Of several minima the one with the fewest foreground pixels comes back.

    Args:
        labels: true in the foreground.
        free: which pixels may change, as positions in reading order, ascending.
        odds: what each of them gains as foreground: the background's cost less the foreground's, finite.
        weights: to each of its `NEIGHBOURS`, finite and at least 0, the same from either end; those that lead out of
            the grid are ignored.
    """
    (h, w), m = labels.shape, len(free)
    # Pixel 0 is inert: a neighbour that cannot change, and whose weight is part of the terminal, leads there.
    residual = np.zeros((m + 1, 8))
    excess = np.zeros(m + 1)
    excess[1:] = odds
    # One column too many, so that numba takes the table and the view of `_cut` for one type, and compiles once.
    offsets = np.zeros((m + 1, 9), np.int32)[:, :8]
    number = np.zeros(h * w, np.int32)
    number[free] = own = np.arange(1, m + 1, dtype=np.int32)
    y, x = np.divmod(free, w)
    for direction, (down, right) in enumerate(NEIGHBOURS):
        is_inside = (y + down >= 0) & (y + down < h) & (x + right >= 0) & (x + right < w)
        neighbour = np.where(is_inside, free + (down * w + right), 0)
        other, weight = np.where(is_inside, number[neighbour], 0), np.where(is_inside, weights[direction], 0)
        residual[1:, direction] = np.where(other > 0, weight, 0)
        excess[1:] += np.where(other > 0, 0, np.where(labels.ravel()[neighbour], weight, -weight))
        offsets[1:, direction] = other - own
    offsets.flags.writeable = False
    code = np.zeros(m + 1, np.int32)
    openings = np.tile(np.packbits(residual > 0, axis=1, bitorder="little").T, (2, 1))
    _load(solve, residual, excess, code, openings, offsets)
    solve(residual, excess, code, openings, offsets)
    is_foreground: Bool[ndarray, " m"] = code[1:] > 0
    return is_foreground


def ends(values: Shaped[ndarray, "h w *c"]) -> tuple[tuple[ndarray, ndarray], ...]:
    """The two ends of the right, down, down-right and down-left edges, in this order, as views."""
    return (
        (values[:, :-1], values[:, 1:]), (values[:-1], values[1:]),
        (values[:-1, :-1], values[1:, 1:]), (values[:-1, 1:], values[1:, :-1]),
    )  # fmt: skip


def energy_of(
    labels: Bool[ndarray, "h w"] | Integer[ndarray, "h w"],
    costs: Sequence[Float[ndarray, "h w"]] | Float[ndarray, "k h w"],
    right: Float[ndarray, "h w-1"],
    down: Float[ndarray, "h-1 w"],
    down_right: Float[ndarray, "h-1 w-1"] | None = None,
    down_left: Float[ndarray, "h-1 w-1"] | None = None,
) -> float:
    """The Potts energy of labels, summed in float64; for a cut, costs are (background, foreground)."""
    energy = 0.0
    for label, cost in enumerate(costs):
        energy += float(cost[labels == label].sum(dtype=np.float64))
    for weight, (a, b) in zip((right, down, down_right, down_left), ends(labels), strict=True):
        if weight is not None:
            energy += float(weight[a != b].sum(dtype=np.float64))
    return energy


def alpha_expansion(
    costs: Float[ndarray, "k h w"],
    right: Float[ndarray, "h w-1"],
    down: Float[ndarray, "h-1 w"],
    down_right: Float[ndarray, "h-1 w-1"] | None = None,
    down_left: Float[ndarray, "h-1 w-1"] | None = None,
    initial: Integer[ndarray, "h w"] | None = None,
) -> tuple[Integer[ndarray, "h w"], float]:
    """Labels 0 to k - 1 of small energy `sum_p costs[L_p, p] + sum_pq w_pq [L_p != L_q]`, and that energy.

    Boykov, Veksler and Zabih, "Fast Approximate Energy Minimization via Graph Cuts", TPAMI 2001: each step is
    the exact best change of any set of pixels to one label, and steps repeat until none lowers the energy. It
    starts from `initial`, or from each pixel's cheapest label, and never ends above that. Without negative
    costs the result is within twice the minimum; for two labels it is the minimum, by one cut.
    A cost of +inf forbids a label at a pixel.

    Raises:
        MaskError: as for `min_cut`, or initial labels that are none of 0 to k - 1 or forbidden.
    """
    if np.ndim(costs) != 3 or len(costs) == 0:
        raise MaskError(f"costs: expected shape (k, h, w) with k at least 1, got {np.shape(costs)}")
    layers, weights = _checked(
        {f"costs[{label}]": cost for label, cost in enumerate(costs)},
        {"right": right, "down": down, "down_right": down_right, "down_left": down_left},
    )
    costs = np.stack(layers)
    labels = costs.argmin(axis=0) if initial is None else _checked_initial(initial, costs)
    if len(costs) == 2:
        labels = _cut(costs[1], costs[0], *weights).astype(np.intp)
    energy = energy_of(labels, costs, *weights)
    if len(costs) <= 2:
        return labels, energy
    alpha = 0
    unsuccessful = 0
    while unsuccessful < len(costs):
        changed = _expand(labels, alpha, costs, weights)
        changed_energy = energy_of(changed, costs, *weights)
        unsuccessful += 1
        if changed_energy < energy:
            labels, energy, unsuccessful = changed, changed_energy, 1
        alpha = (alpha + 1) % len(costs)
    return labels, energy


def _expand(
    labels: Integer[ndarray, "h w"],
    alpha: int,
    costs: Float[ndarray, "k h w"],
    weights: Sequence[ndarray | None],
) -> Integer[ndarray, "h w"]:
    """The best labelling in which any pixels have changed to alpha.

    Two neighbours with different labels, neither alpha, cost w unless both change. With x = 1 for a change,
    that is w - w/2 x_p - w/2 x_q + w/2 [x_p != x_q]: an edge of half the weight, and both changes cheaper.
    """
    change = costs[alpha].copy()
    stay = np.take_along_axis(costs, labels[None], axis=0)[0]
    is_alpha = labels == alpha
    change[is_alpha] = 0
    stay[is_alpha] = np.inf
    edges: list[ndarray | None] = []
    for weight, (a, b), (change_a, change_b) in zip(weights, ends(labels), ends(change), strict=True):
        if weight is None:
            edges.append(None)
        else:
            half = np.where((a != b) & (a != alpha) & (b != alpha), weight / 2, 0)
            change_a -= half
            change_b -= half
            edges.append(weight - half)
    return np.where(_cut(change, stay, *edges), alpha, labels)


def _checked(costs: Mapping[str, ndarray], weights: Mapping[str, ndarray | None]) -> tuple[list[ndarray], list[Any]]:
    """The same arrays, contiguous and of one type, or a MaskError."""
    arrays = {name: np.asarray(a) for name, a in {**costs, **weights}.items() if a is not None}
    for name, a in arrays.items():
        if a.dtype.kind not in "fiub":
            raise MaskError(f"{name}: expected real numbers, got {a.dtype}")
    dtype = np.float32 if all(a.dtype == np.float32 for a in arrays.values()) else np.float64
    arrays = {name: np.ascontiguousarray(a, dtype) for name, a in arrays.items()}
    reference = next(iter(costs))
    shape = arrays[reference].shape
    if len(shape) != 2 or 0 in shape:
        raise MaskError(f"{reference}: expected shape (h, w) of at least one pixel, got {shape}")
    h, w = shape
    shapes = {"right": (h, w - 1), "down": (h - 1, w)} | dict.fromkeys(("down_right", "down_left"), (h - 1, w - 1))
    for name, a in arrays.items():
        expected = shapes.get(name, shape)
        if a.shape != expected:
            raise MaskError(f"{name}: expected shape {expected} as {reference} has {shape}, got {a.shape}")
        low, high = (a.min(), a.max()) if a.size else (0, 0)
        if np.isnan(low):
            raise MaskError(f"{name}: expected numbers, got NaN at (y, x) = {_first(np.isnan(a))}")
        if name in shapes and (low < 0 or high == np.inf):
            raise MaskError(f"{name}: expected finite weights of at least 0, got {low} to {high}")
        if name in costs and low == -np.inf:
            raise MaskError(f"{name}: expected costs above -inf, got -inf at (y, x) = {_first(a == low)}")
    for missing, other in (("down_right", "down_left"), ("down_left", "down_right")):
        if missing not in arrays and other in arrays:
            raise MaskError(f"{missing}: expected shape {shapes[missing]} as {other} is given, got None")
    impossible = np.logical_and.reduce([np.isinf(arrays[name]) for name in costs])
    if impossible.any():
        where = f"(y, x) = {_first(impossible)}"
        raise MaskError(f"{' and '.join(costs)}: expected one finite cost a pixel, got inf for all at {where}")
    return [arrays[name] for name in costs], [arrays.get(name) for name in weights]


def _checked_initial(initial: ndarray, costs: Float[ndarray, "k h w"]) -> Integer[ndarray, "h w"]:
    initial = np.asarray(initial)
    shape, k = costs.shape[1:], len(costs)
    if initial.shape != shape or initial.dtype.kind not in "iu":
        raise MaskError(f"initial: expected integers of shape {shape}, got {initial.dtype} of {initial.shape}")
    if initial.min() < 0 or initial.max() >= k:
        raise MaskError(f"initial: expected labels 0 to {k - 1}, got {initial.min()} to {initial.max()}")
    initial = initial.astype(np.intp)
    forbidden = np.isinf(np.take_along_axis(costs, initial[None], axis=0)[0])
    if forbidden.any():
        raise MaskError(f"initial: expected labels of finite cost, got inf at (y, x) = {_first(forbidden)}")
    return initial


def _first(mask: Bool[ndarray, "h w"]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))


def _cut(
    foreground_cost: Float[ndarray, "h w"], background_cost: Float[ndarray, "h w"], *weights: ndarray | None
) -> Bool[ndarray, "h w"]:
    h, w = foreground_cost.shape
    dtype = foreground_cost.dtype
    edges = [np.zeros((1, 1), dtype) if weight is None else weight for weight in weights]
    directions = 4 if weights[2] is None else 8
    # the frame: a row above and below, and one column that serves as left and right
    n = (h + 2) * (w + 1) + 1
    offsets = np.array([down * (w + 1) + right for down, right in NEIGHBOURS[:directions]], np.int32)
    offsets = np.broadcast_to(offsets, (n, directions))
    residual = np.zeros((n, directions), dtype)
    excess = np.zeros(n, dtype)
    code = np.zeros(n, np.int32)
    openings = np.zeros((2, n), np.uint8)
    _load(solve, residual, excess, code, openings, offsets)
    _load(build, residual, excess, code, openings, foreground_cost, background_cost, *edges)
    build(residual, excess, code, openings, foreground_cost, background_cost, *edges)
    solve(residual, excess, code, openings, offsets)
    labels: Bool[ndarray, "h w"] = code[:-1].reshape(h + 2, w + 1)[1:-1, 1:] > 0
    return labels


class _Announcement(event.Listener):  # type: ignore[misc]
    """Numba sends this event before it compiles, and not when its cache on disk has the kernel."""

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"] is solve:  # the first kernel of every cut
            logger.warning("gradcut: compiling the graph cut once (about 5 s)")

    def on_end(self, event: Any) -> None:
        pass


_LOADING = threading.Lock()
_LOADED: set[tuple[Any, ...]] = set()


def _load(kernel: Any, *arguments: ndarray) -> None:
    """Compile a kernel for arguments of these types, or load it from disk, unless this process has done so.

    Numba would do it at the call. Here it is announced, and numba is listened to for that long only.
    """
    # Numba's own types take longer to find out than a small cut.
    types = (kernel, *((argument.dtype, argument.ndim, argument.flags.writeable) for argument in arguments))
    if types not in _LOADED:
        with _LOADING, event.install_listener("numba:compile", _Announcement()):
            kernel.compile(tuple(typeof(argument) for argument in arguments))
        _LOADED.add(types)

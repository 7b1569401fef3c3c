"""The exact minimum cut of a pixel grid with 4 or 8 neighbours, and alpha-expansion over it.

The cut is a maximum flow, found with incremental breadth-first search (IBFS): Goldberg, Hed, Kaplan, Tarjan
and Werneck, "Maximum Flows by Incremental Breadth-First Search", ESA 2011. As in Boykov and Kolmogorov (TPAMI
2004) two search trees grow from the terminals and are mended, not rebuilt, after each augmentation; here they
stay breadth-first trees, so that paths are short and a pixel cut off from its parent finds another by its
distance. Where nearly every pixel has costs of its own, one wave of Goldberg and Tarjan's push-relabel (JACM
1988), with exact distances, first carries the excess of the foreground to the frontier in bulk.

The grid lies in one array of pixels with a frame of inert ones, so that a neighbour is an offset and no bound
is checked; the residual capacities that leave a pixel lie beside each other. Seeds are contracted: what joins
them to a free pixel is added to that pixel's terminal. A cut of float64 takes 61 bytes a pixel with 4
neighbours and 93 with 8 (float32: 41 and 57), beside the arguments.

The kernels are compiled at the first cut and kept on disk by numba, beside this file or, where that is
read-only, in the user's cache directory. Before they are compiled, one line goes to the logger
`gradcut.maxflow` as a warning: Python shows it on standard error unless told otherwise, and
`logging.getLogger("gradcut.maxflow").setLevel("ERROR")` hides it. They hold no lock: a
`concurrent.futures.ThreadPoolExecutor` cuts on as many cores as it has threads.
"""

# numba has no types, so that its decorator hides those of the kernels:
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from numba import njit
from numba.core import event
from numpy import ndarray

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
    """
    costs, weights = _checked(
        {"foreground_cost": foreground_cost, "background_cost": background_cost},
        {"right": right, "down": down, "down_right": down_right, "down_left": down_left},
    )
    foreground, background = costs
    labels = _cut(foreground, background, *weights)
    return labels, energy_of(labels, (background, foreground), *weights)


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
    for weight, (a, b) in zip((right, down, down_right, down_left), _ends(labels), strict=True):
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
    """
    if np.ndim(costs) != 3 or len(costs) == 0:
        raise ValueError(f"costs: expected shape (k, h, w) with k at least 1, got {np.shape(costs)}")
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
    for weight, (a, b), (change_a, change_b) in zip(weights, _ends(labels), _ends(change), strict=True):
        if weight is None:
            edges.append(None)
        else:
            half = np.where((a != b) & (a != alpha) & (b != alpha), weight / 2, 0)
            change_a -= half
            change_b -= half
            edges.append(weight - half)
    return np.where(_cut(change, stay, *edges), alpha, labels)


def _ends(a: ndarray) -> list[tuple[ndarray, ndarray]]:
    """The two ends of the right, down, down-right and down-left edges, as views."""
    return [(a[:, :-1], a[:, 1:]), (a[:-1], a[1:]), (a[:-1, :-1], a[1:, 1:]), (a[:-1, 1:], a[1:, :-1])]


def _checked(costs: Mapping[str, ndarray], weights: Mapping[str, ndarray | None]) -> tuple[list[ndarray], list[Any]]:
    """The same arrays, contiguous and of one type, or a ValueError."""
    arrays = {name: np.asarray(a) for name, a in {**costs, **weights}.items() if a is not None}
    for name, a in arrays.items():
        if a.dtype.kind not in "fiub":
            raise ValueError(f"{name}: expected real numbers, got {a.dtype}")
    dtype = np.float32 if all(a.dtype == np.float32 for a in arrays.values()) else np.float64
    arrays = {name: np.ascontiguousarray(a, dtype) for name, a in arrays.items()}
    reference = next(iter(costs))
    shape = arrays[reference].shape
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{reference}: expected shape (h, w) of at least one pixel, got {shape}")
    h, w = shape
    shapes = {"right": (h, w - 1), "down": (h - 1, w)} | dict.fromkeys(("down_right", "down_left"), (h - 1, w - 1))
    for name, a in arrays.items():
        expected = shapes.get(name, shape)
        if a.shape != expected:
            raise ValueError(f"{name}: expected shape {expected} as {reference} has {shape}, got {a.shape}")
        low, high = (a.min(), a.max()) if a.size else (0, 0)
        if np.isnan(low):
            raise ValueError(f"{name}: expected numbers, got NaN at (y, x) = {_first(np.isnan(a))}")
        if name in shapes and (low < 0 or high == np.inf):
            raise ValueError(f"{name}: expected finite weights of at least 0, got {low} to {high}")
        if name in costs and low == -np.inf:
            raise ValueError(f"{name}: expected costs above -inf, got -inf at (y, x) = {_first(a == low)}")
    for missing, given in (("down_right", "down_left"), ("down_left", "down_right")):
        if missing not in arrays and given in arrays:
            raise ValueError(f"{missing}: expected shape {shapes[missing]} as {given} is given, got None")
    impossible = np.logical_and.reduce([np.isinf(arrays[name]) for name in costs])
    if impossible.any():
        where = f"(y, x) = {_first(impossible)}"
        raise ValueError(f"{' and '.join(costs)}: expected one finite cost a pixel, got inf for all at {where}")
    return [arrays[name] for name in costs], [arrays.get(name) for name in weights]


def _checked_initial(initial: ndarray, costs: Float[ndarray, "k h w"]) -> Integer[ndarray, "h w"]:
    initial = np.asarray(initial)
    shape, k = costs.shape[1:], len(costs)
    if initial.shape != shape or initial.dtype.kind not in "iu":
        raise ValueError(f"initial: expected integers of shape {shape}, got {initial.dtype} of {initial.shape}")
    if initial.min() < 0 or initial.max() >= k:
        raise ValueError(f"initial: expected labels 0 to {k - 1}, got {initial.min()} to {initial.max()}")
    initial = initial.astype(np.intp)
    forbidden = np.isinf(np.take_along_axis(costs, initial[None], axis=0)[0])
    if forbidden.any():
        raise ValueError(f"initial: expected labels of finite cost, got inf at (y, x) = {_first(forbidden)}")
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
    offsets = np.array([1, -1, w + 1, -w - 1, w + 2, -w - 2, w, -w])[:directions]
    residual = np.zeros((n, directions), dtype)
    excess = np.zeros(n, dtype)
    code = np.zeros(n, np.int32)
    _build(residual, excess, code, offsets, foreground_cost, background_cost, *edges)
    _solve(residual, excess, code, offsets)
    labels: Bool[ndarray, "h w"] = code[:-1].reshape(h + 2, w + 1)[1:-1, 1:] > 0
    return labels


# --- The kernels: trees S (foreground, side 0) and T (background, side 1) ---

ROOT, ORPHAN = 8, 9  # in place of a direction (0 to 7; d ^ 1 is the way back)
SEED = (1 << 30) + 15  # further than any distance, and no direction

# residual[p, d] is what may still flow from p to p + offsets[d], excess[p] what may come from the source, or
# go to the sink where negative. code[p] holds all that a pixel's neighbours ask about it: 0 for a free pixel,
# else 16 * distance + direction of the parent, negative in T. Distances start at 1 at the roots, the pixels
# with excess (S) or a deficit (T). The kernels take arrays alone: numba's files on disk would name a class of
# this module, and not load with another version of it.


@njit(nogil=True, cache=True)
def _build(
    residual: ndarray,
    excess: ndarray,
    code: ndarray,
    offsets: ndarray,
    fg: ndarray,
    bg: ndarray,
    right: ndarray,
    down: ndarray,
    down_right: ndarray,
    down_left: ndarray,
) -> None:
    """Fill capacities; join seeds to the terminals."""
    h, w = fg.shape
    for y in range(h):
        for x in range(w):
            p = (y + 1) * (w + 1) + x + 1
            if fg[y, x] == np.inf:
                code[p] = -SEED
            elif bg[y, x] == np.inf:
                code[p] = SEED
            else:
                excess[p] = bg[y, x] - fg[y, x]
    for y in range(h):
        for x in range(w):
            p = (y + 1) * (w + 1) + x + 1
            for k in range(residual.shape[1] // 2):
                if (y + 1 == h and k > 0) or (x + 1 == w and k % 2 == 0) or (x == 0 and k == 3):
                    continue
                if k == 0:
                    weight = right[y, x]
                elif k == 1:
                    weight = down[y, x]
                elif k == 2:
                    weight = down_right[y, x]
                else:
                    weight = down_left[y, x - 1]
                q = p + offsets[2 * k]
                if code[p] == 0 and code[q] == 0:
                    residual[p, 2 * k] = weight
                    residual[q, 2 * k + 1] = weight
                elif code[p] == 0:
                    excess[p] += weight if code[q] > 0 else -weight
                elif code[q] == 0:
                    excess[q] += weight if code[p] > 0 else -weight


@njit(inline="always")
def _step(p: Any, offset: Any) -> Any:
    """The neighbour's index, in a way that shows the compiler that it isn't negative."""
    return np.int64(np.uint32(p + offset))


@njit(inline="always")
def _enqueue(queue: Any, head: Any, length: Any, queued: Any, side: Any, p: Any) -> None:
    if not queued[p] & (1 + side):
        queued[p] |= np.uint8(1 + side)
        i = head[side] + length[side]
        n = queue.shape[1]
        queue[side, i if i < n else i - n] = p
        length[side] += 1


@njit(inline="always")
def _orphan(code: Any, first_orphan: Any, next_orphan: Any, sign: Any, p: Any) -> Any:
    """Take p from its parent; its distance."""
    level = (code[p] * sign) >> 4
    code[p] = sign * (16 * level + ORPHAN)
    next_orphan[p] = first_orphan[level]
    first_orphan[level] = p
    return level


@njit(nogil=True, cache=True)
def _wave(residual: Any, excess: Any, offsets: Any, order: Any, distance: Any) -> None:
    """Push all excess, the furthest first, along shortest paths towards deficits."""
    n, directions = residual.shape
    found = 0
    for start in range(n):
        distance[start] = -1
        if excess[start] < 0:
            distance[start] = 0
            order[found] = start
            found += 1
    i = 0
    while i < found:
        p = np.int64(order[i])
        i += 1
        for d in range(directions):
            q = _step(p, offsets[d])
            if distance[q] < 0 and residual[q, d ^ 1] > 0:
                distance[q] = distance[p] + 1
                order[found] = q
                found += 1
    for i in range(found - 1, -1, -1):
        p = np.int64(order[i])
        if distance[p] == 0:
            break
        left = excess[p]
        for d in range(directions):
            if left <= 0:
                break
            q = _step(p, offsets[d])
            if distance[q] == distance[p] - 1 and residual[p, d] > 0:
                flow = min(left, residual[p, d])
                residual[p, d] -= flow
                residual[q, d ^ 1] += flow
                excess[q] += flow
                left -= flow
        excess[p] = left


@njit(nogil=True, cache=True)
def _solve(residual: ndarray, excess: ndarray, code: ndarray, offsets: ndarray) -> None:
    """Push a maximum flow; what the source still reaches has a positive code.

    One long function: numba counts references to every array that a call hands on, and calls are many here.
    """
    n, directions = residual.shape
    queue = np.empty((2, n), np.uint32)  # per tree, a ring of the pixels whose neighbours are to be looked at
    head, length = np.zeros(2, np.int64), np.zeros(2, np.int64)
    queued = np.zeros(n, np.uint8)  # bit 1: in the queue of S; bit 2: in that of T
    depth = np.ones(2, np.int64)  # the distance of the pixels that the tree grows from next
    first_orphan = np.full(n + 2, -1, np.int32)  # per distance, a chain of orphans
    next_orphan = np.empty(n, np.int32)
    free, roots = 0, 0
    for start in range(n):
        free += code[start] == 0
        roots += excess[start] != 0
    dense = roots > 0.9 * free
    if dense:
        _wave(residual, excess, offsets, queue[0], next_orphan)
    for start in range(n):
        if excess[start] != 0:
            side = 0 if excess[start] > 0 else 1
            code[start] = (1 - 2 * side) * (16 + ROOT)
            _enqueue(queue, head, length, queued, side, start)

    # T may be complete before S; S goes on, so that it holds all that the source reaches
    while length[0] > 0:
        # dense terminals meet soonest at equal depth; of sparse ones, the smaller front is cheaper to move
        behind = depth[1] < depth[0] if dense else length[1] < length[0]
        growing = 1 if length[1] > 0 and behind else 0
        forward = 1 - 2 * growing
        front = depth[growing]
        pending = length[growing]  # how many at the queue's head belong to this front; behind them is the next
        while pending > 0:
            p = np.int64(queue[growing, head[growing]])
            head[growing] = head[growing] + 1 if head[growing] + 1 < n else 0
            length[growing] -= 1
            pending -= 1
            queued[p] &= ~np.uint8(1 + growing)
            if code[p] * forward <= 0:
                continue
            if (code[p] * forward) >> 4 != front:
                _enqueue(queue, head, length, queued, growing, p)
                continue
            d = 0
            while d < directions:
                q = _step(p, offsets[d])
                other = code[q] * forward
                if other > 0 or (residual[p, d] if growing == 0 else residual[q, d ^ 1]) <= 0:
                    d += 1
                    continue
                if other == 0:
                    code[q] = forward * (16 * (front + 1) + (d ^ 1))
                    _enqueue(queue, head, length, queued, growing, q)
                    d += 1
                    continue

                # The trees meet in the edge from a to b: saturate the path source - a - b - sink.
                a, b, ab = (p, q, d) if growing == 0 else (q, p, d ^ 1)
                flow = residual[a, ab]
                i = a
                while code[i] & 15 != ROOT:
                    up = code[i] & 15
                    i = _step(i, offsets[up])
                    flow = min(flow, residual[i, up ^ 1])
                flow = min(flow, excess[i])
                i = b
                while -code[i] & 15 != ROOT:
                    up = -code[i] & 15
                    flow = min(flow, residual[i, up])
                    i = _step(i, offsets[up])
                flow = min(flow, -excess[i])
                residual[a, ab] -= flow
                residual[b, ab ^ 1] += flow
                for side in range(2):
                    sign = 1 - 2 * side
                    i = a if side == 0 else b
                    last = (code[i] * sign) >> 4
                    level = last + 1
                    up = (code[i] * sign) & 15
                    while up != ROOT:
                        j = _step(i, offsets[up])
                        if side == 0:
                            residual[i, up] += flow
                            left = residual[j, up ^ 1] - flow
                            residual[j, up ^ 1] = left
                        else:
                            residual[j, up ^ 1] += flow
                            left = residual[i, up] - flow
                            residual[i, up] = left
                        if left <= 0:
                            level = _orphan(code, first_orphan, next_orphan, sign, i)
                        i = j
                        up = (code[i] * sign) & 15
                    excess[i] -= sign * flow
                    if excess[i] * sign <= 0:
                        level = _orphan(code, first_orphan, next_orphan, sign, i)

                    # Adoption, the nearest orphans first. A parent is one step nearer to the root. An orphan
                    # without one moves away to where there may be one, and leaves its children behind as
                    # orphans; beyond the tree's depth it is free.
                    limit = depth[side] + (1 if side == growing else 0)
                    while level <= last:
                        if first_orphan[level] < 0:
                            level += 1
                            continue
                        i = np.int64(np.uint32(first_orphan[level]))
                        first_orphan[level] = next_orphan[i]
                        nearest = 16 * limit
                        parent = 0
                        for e in range(directions):
                            j = _step(i, offsets[e])
                            other = code[j] * sign
                            if 0 < other < nearest and (residual[j, e ^ 1] if side == 0 else residual[i, e]) > 0:
                                nearest = other
                                parent = e
                                if nearest < 16 * level:
                                    break
                        if nearest < 16 * level:
                            code[i] = sign * (16 * level + parent)
                            continue
                        for e in range(directions):
                            j = _step(i, offsets[e])
                            other = code[j] * sign
                            if other > 0 and other & 15 == e ^ 1:
                                last = max(last, _orphan(code, first_orphan, next_orphan, sign, j))
                        if nearest == 16 * limit:
                            code[i] = 0
                            continue
                        moved = (nearest >> 4) + 1
                        code[i] = sign * 16 * moved
                        last = max(last, _orphan(code, first_orphan, next_orphan, sign, i))
                        if moved == front and side == growing and not queued[i] & (1 + side):
                            # at the front that is growing now: next in the queue
                            queued[i] |= np.uint8(1 + side)
                            head[side] = head[side] - 1 if head[side] > 0 else n - 1
                            queue[side, head[side]] = i
                            length[side] += 1
                            pending += 1
                        elif moved >= depth[side]:
                            _enqueue(queue, head, length, queued, side, i)
                if (code[p] * forward) >> 4 != front:
                    break
        depth[growing] += 1


class _Announcement(event.Listener):  # type: ignore[misc]
    """Numba sends this event before it compiles, and not when its cache on disk has the kernel."""

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"] is _build:  # the first kernel of every cut
            logger.warning("gradcut: compiling the graph cut once (about 5 s)")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcement())

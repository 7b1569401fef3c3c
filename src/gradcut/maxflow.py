"""The exact minimum cut of a pixel grid, with 4 or 8 neighbours, and alpha-expansion over it.

The cut is found as a maximum flow with the algorithm of Boykov and Kolmogorov, "An Experimental Comparison of
Min-Cut/Max-Flow Algorithms for Energy Minimization in Vision", TPAMI 2004: two search trees grow from the terminals,
and are mended instead of rebuilt after each augmentation.

The grid is laid out in one array of pixels with a frame of inert ones round it, so that a neighbour is an offset and
no bound is ever checked; the residual capacities that leave a pixel lie beside each other. Seeds are not in the
graph: what joins them to a free pixel is added to that pixel's terminal.

The kernels are compiled at the first cut, kept on disk by numba (beside this file, or in the user's cache directory
where that is read-only), and hold no lock: a `concurrent.futures.ThreadPoolExecutor` cuts on as many cores as it has
threads. Before compiling, which takes some seconds, one line goes to the logger `gradcut.maxflow` as a warning, which
Python shows on standard error unless told otherwise: `logging.getLogger("gradcut.maxflow").setLevel("ERROR")`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer
from numba import njit
from numba.core import event
from numpy import ndarray

logger = logging.getLogger(__name__)

FREE, S, T = 0, 1, 2
SEED = 4  # the state of a pixel that is decided: SEED + S is foreground, SEED + T background
ROOT, ORPHAN = 8, 9


def min_cut(
    foreground_cost: Float[ndarray, "h w"],
    background_cost: Float[ndarray, "h w"],
    right: Float[ndarray, "h w-1"],
    down: Float[ndarray, "h-1 w"],
    down_right: Float[ndarray, "h-1 w-1"] | None = None,
    down_left: Float[ndarray, "h-1 w-1"] | None = None,
) -> tuple[Bool[ndarray, "h w"], float]:
    """Labels (true is foreground) that minimise `sum_p cost_p(L_p) + sum_pq w_pq [L_p != L_q]`, and that energy.

    A cost of +inf forbids the label: an infinite `foreground_cost` is a background seed. Weights are finite and at
    least 0. `down_right` joins (y, x) to (y + 1, x + 1), `down_left` joins (y, x + 1) to (y + 1, x); both or neither.
    Where several labellings are minimal, the one with the fewest foreground pixels comes back (it is unique, up to
    rounding). All float32 is solved in float32, else in float64; the energy is summed from the labels in float64.

    >>> flat = np.zeros((1, 3))
    >>> labels, energy = min_cut(
    ...     np.array([[0, 0, np.inf]]), np.array([[np.inf, 0, 0]]), np.array([[3.0, 1.0]]), np.zeros((0, 3))
    ... )
    >>> labels.tolist(), energy
    ([[True, True, False]], 1.0)
    """
    costs = {"foreground_cost": foreground_cost, "background_cost": background_cost}
    weights = {"right": right, "down": down, "down_right": down_right, "down_left": down_left}
    costs, weights = _checked(costs, weights)
    labels = _cut(*costs.values(), *weights.values())
    return labels, energy_of(labels, list(costs.values())[::-1], **weights)


def energy_of(
    labels: Bool[ndarray, "h w"] | Integer[ndarray, "h w"],
    costs: Sequence[Float[ndarray, "h w"]] | Float[ndarray, "k h w"],
    right: Float[ndarray, "h w-1"],
    down: Float[ndarray, "h-1 w"],
    down_right: Float[ndarray, "h-1 w-1"] | None = None,
    down_left: Float[ndarray, "h-1 w-1"] | None = None,
) -> float:
    """The Potts energy of a labelling, summed in float64; for a binary one the costs are (background, foreground)."""
    energy = 0.0
    for label, cost in enumerate(costs):
        energy += float(cost[labels == label].sum(dtype=np.float64))
    for weight, (a, b) in zip((right, down, down_right, down_left), _pairs(labels), strict=True):
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

    Boykov, Veksler and Zabih, "Fast Approximate Energy Minimization via Graph Cuts", TPAMI 2001: each step is the
    exact best change of any set of pixels to one label, and steps repeat until none lowers the energy. The result is
    within twice the minimum, and is the minimum for two labels. It starts from `initial`, or from each pixel's
    cheapest label, and never ends above that. A cost of +inf forbids a label at a pixel.
    """
    if costs.ndim != 3 or len(costs) == 0:
        raise ValueError(f"costs: expected shape (k, h, w) with k at least 1, got {costs.shape}")
    named, weights = _checked(
        {f"costs[{i}]": cost for i, cost in enumerate(costs)},
        dict(zip(_WEIGHTS, (right, down, down_right, down_left))),
    )
    costs = np.stack(list(named.values()))
    cheapest = costs.argmin(axis=0)
    if len(costs) == 2:
        labels, energy = min_cut(costs[1], costs[0], **weights)
        return labels.astype(cheapest.dtype), energy
    labels = cheapest if initial is None else _checked_initial(initial, costs)
    energy = energy_of(labels, costs, **weights)
    unsuccessful = 0
    alpha = 0
    while unsuccessful < len(costs):
        changed = _expand(labels, alpha, costs, weights)
        changed_energy = energy_of(changed, costs, **weights)
        unsuccessful += 1
        if changed_energy < energy:
            labels, energy, unsuccessful = changed, changed_energy, 1
        alpha = (alpha + 1) % len(costs)
    return labels, energy


def _expand(labels, alpha, costs, weights):
    """The best labelling in which any pixels have changed to alpha.

    Two neighbours with different labels, neither alpha, cost w unless both change. With x = 1 for a change that is
    w - w/2 x_p - w/2 x_q + w/2 [x_p != x_q]: an edge of half the weight and a discount on both pixels' change.
    """
    is_alpha = labels == alpha
    change_cost = costs[alpha].copy()
    stay_cost = np.take_along_axis(costs, labels[None], axis=0)[0]
    stay_cost[is_alpha] = np.inf
    change_cost[is_alpha] = 0
    edges = []
    for weight, (a, b), (change_a, change_b) in zip(weights.values(), _pairs(labels), _pairs(change_cost)):
        if weight is None:
            edges.append(None)
            continue
        half = np.where((a != b) & (a != alpha) & (b != alpha), weight / 2, 0)
        change_a -= half
        change_b -= half
        edges.append(weight - half)
    return np.where(_cut(change_cost, stay_cost, *edges), alpha, labels)


_WEIGHTS = ("right", "down", "down_right", "down_left")


def _pairs(a: ndarray) -> list[tuple[ndarray, ndarray]]:
    """The two ends of the right, down, down-right and down-left edges, as views."""
    return [
        (a[:, :-1], a[:, 1:]),
        (a[:-1], a[1:]),
        (a[:-1, :-1], a[1:, 1:]),
        (a[:-1, 1:], a[1:, :-1]),
    ]


def _checked_initial(initial, costs):
    initial = np.asarray(initial)
    if initial.shape != costs.shape[1:] or initial.dtype.kind not in "iu":
        raise ValueError(f"initial: expected integers of shape {costs.shape[1:]}, got {initial.dtype} {initial.shape}")
    if initial.min() < 0 or initial.max() >= len(costs):
        raise ValueError(f"initial: expected labels 0 to {len(costs) - 1}, got {initial.min()} to {initial.max()}")
    initial = initial.astype(np.intp)
    forbidden = np.isinf(np.take_along_axis(costs, initial[None], axis=0)[0])
    if forbidden.any():
        raise ValueError(
            f"initial: expected labels of finite cost, got an infinite one at (y, x) = {_first(forbidden)}"
        )
    return initial


def _first(mask: Bool[ndarray, "h w"]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(mask.argmax(), mask.shape))


def _checked(costs, weights):
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
    shapes = {
        "right": (h, w - 1),
        "down": (h - 1, w),
        "down_right": (h - 1, w - 1),
        "down_left": (h - 1, w - 1),
    }
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
    if ("down_right" in arrays) != ("down_left" in arrays):
        given, missing = ("down_right", "down_left") if "down_right" in arrays else ("down_left", "down_right")
        raise ValueError(f"{missing}: expected shape {(h - 1, w - 1)} as {given} is given, got None")
    impossible = np.logical_and.reduce([np.isinf(arrays[name]) for name in costs])
    if impossible.any():
        raise ValueError(
            f"{' and '.join(costs)}: expected a finite cost for some label, got inf for all at (y, x) = {_first(impossible)}"
        )
    return {name: arrays[name] for name in costs}, {name: arrays.get(name) for name in weights}


def _cut(fg, bg, right, down, dr, dl):
    h, w = fg.shape
    nd = 4 if dr is None else 8
    n = (h + 2) * (w + 1) + 1
    cap = np.zeros((n, nd), fg.dtype)
    tr = np.zeros(n, fg.dtype)
    state = np.full(n, SEED, np.int8)
    inside = state[:-1].reshape(h + 2, w + 1)[1:-1, 1:]
    inside[:] = FREE
    e = np.zeros((1, 1), fg.dtype)
    _build(fg, bg, right, down, e if dr is None else dr, e if dl is None else dl, nd, cap, tr, state)
    _solve(cap, tr, state, w + 1)
    return (inside & 3) == S


# --- The kernels ---------------------------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _build(fg, bg, right, down, dr, dl, nd, cap, tr, state):
    h, w = fg.shape
    W = w + 1
    for y in range(h):
        for x in range(w):
            p = (y + 1) * W + x + 1
            if fg[y, x] == np.inf:
                state[p] = SEED + T
            elif bg[y, x] == np.inf:
                state[p] = SEED + S
            else:
                tr[p] = bg[y, x] - fg[y, x]
    for y in range(h):
        for x in range(w):
            p = (y + 1) * W + x + 1
            for k in range(nd // 2):
                if k == 0:
                    if x + 1 >= w:
                        continue
                    c = right[y, x]
                    q = p + 1
                elif y + 1 >= h:
                    continue
                elif k == 1:
                    c = down[y, x]
                    q = p + W
                elif k == 2:
                    if x + 1 >= w:
                        continue
                    c = dr[y, x]
                    q = p + W + 1
                else:
                    if x == 0:
                        continue
                    c = dl[y, x - 1]
                    q = p + W - 1
                a = state[p]
                b = state[q]
                if a == FREE and b == FREE:
                    cap[p, 2 * k] = c
                    cap[q, 2 * k + 1] = c
                elif a == FREE:
                    tr[p] += c if b == SEED + S else -c
                elif b == FREE:
                    tr[q] += c if a == SEED + S else -c


@njit(nogil=True, cache=True)
def _solve(cap, tr, state, W):
    """Boykov and Kolmogorov (2004)."""
    n, nd = cap.shape
    off = np.empty(nd, np.int64)
    for d in range(nd):
        k = d // 2
        o = 1 if k == 0 else W if k == 1 else W + 1 if k == 2 else W - 1
        off[d] = o if d % 2 == 0 else -o
    parent = np.empty(n, np.int8)
    dist = np.zeros(n, np.int32)
    stamp = np.zeros(n, np.int32)
    queued = np.zeros(n, np.bool_)
    queue = np.empty(n, np.int32)
    orphans = np.empty(n, np.int32)
    head = 0
    count = 0
    for p in range(n):
        if state[p] == FREE and tr[p] != 0:
            state[p] = S if tr[p] > 0 else T
            parent[p] = ROOT
            dist[p] = 1
            queue[count] = p
            queued[p] = True
            count += 1
    time = 0
    while count > 0:
        p = queue[head]
        head += 1
        if head == n:
            head = 0
        count -= 1
        queued[p] = False
        tree = state[p]
        if tree == FREE:
            continue
        d = 0
        while d < nd:
            if state[p] != tree:
                break
            q = p + off[d]
            c = cap[p, d] if tree == S else cap[q, d ^ 1]
            if c <= 0:
                d += 1
                continue
            other = state[q]
            if other == FREE:
                state[q] = tree
                parent[q] = d ^ 1
                stamp[q] = stamp[p]
                dist[q] = dist[p] + 1
                if not queued[q]:
                    queued[q] = True
                    i = head + count
                    queue[i if i < n else i - n] = q
                    count += 1
                d += 1
                continue
            if other == tree:
                if stamp[q] <= stamp[p] and dist[q] > dist[p] + 1 and parent[q] != ROOT:
                    parent[q] = d ^ 1
                    stamp[q] = stamp[p]
                    dist[q] = dist[p] + 1
                d += 1
                continue
            # a path: s .. a -> b .. t
            a = p
            b = q
            e = d
            if tree == T:
                a = q
                b = p
                e = d ^ 1
            time += 1
            f = cap[a, e]
            i = a
            while parent[i] != ROOT:
                j = i + off[parent[i]]
                f = min(f, cap[j, parent[i] ^ 1])
                i = j
            f = min(f, tr[i])
            i = b
            while parent[i] != ROOT:
                f = min(f, cap[i, parent[i]])
                i = i + off[parent[i]]
            f = min(f, -tr[i])
            cap[a, e] -= f
            cap[b, e ^ 1] += f
            first = 0
            last = 0
            i = a
            while parent[i] != ROOT:
                g = parent[i]
                j = i + off[g]
                cap[i, g] += f
                cap[j, g ^ 1] -= f
                if cap[j, g ^ 1] <= 0:
                    parent[i] = ORPHAN
                    orphans[last] = i
                    last += 1
                i = j
            tr[i] -= f
            if tr[i] <= 0:
                parent[i] = ORPHAN
                orphans[last] = i
                last += 1
            i = b
            while parent[i] != ROOT:
                g = parent[i]
                j = i + off[g]
                cap[j, g ^ 1] += f
                cap[i, g] -= f
                if cap[i, g] <= 0:
                    parent[i] = ORPHAN
                    orphans[last] = i
                    last += 1
                i = j
            tr[i] += f
            if tr[i] >= 0:
                parent[i] = ORPHAN
                orphans[last] = i
                last += 1
            # adoption
            while first != last:
                i = orphans[first]
                first += 1
                if first == n:
                    first = 0
                t = state[i]
                best = -1
                best_dist = n
                for g in range(nd):
                    j = i + off[g]
                    if state[j] != t:
                        continue
                    c = cap[j, g ^ 1] if t == S else cap[i, g]
                    if c <= 0:
                        continue
                    # does j hang on a root?
                    steps = 0
                    k = j
                    rooted = True
                    while stamp[k] != time:
                        m = parent[k]
                        if m == ORPHAN:
                            rooted = False
                            break
                        steps += 1
                        if m == ROOT:
                            stamp[k] = time
                            dist[k] = 1
                            steps -= 1
                            break
                        k = k + off[m]
                    if not rooted:
                        continue
                    steps += dist[k]
                    if steps < best_dist:
                        best_dist = steps
                        best = g
                    k = j
                    while stamp[k] != time:
                        stamp[k] = time
                        dist[k] = steps
                        steps -= 1
                        k = k + off[parent[k]]
                if best >= 0:
                    parent[i] = best
                    stamp[i] = time
                    dist[i] = best_dist + 1
                    continue
                state[i] = FREE
                for g in range(nd):
                    j = i + off[g]
                    if state[j] != t:
                        continue
                    if (cap[j, g ^ 1] if t == S else cap[i, g]) > 0 and not queued[j]:
                        queued[j] = True
                        k = head + count
                        queue[k if k < n else k - n] = j
                        count += 1
                    if parent[j] == g ^ 1:
                        parent[j] = ORPHAN
                        orphans[last] = j
                        last += 1
                        if last == n:
                            last = 0
    return time


class _Announcement(event.Listener):
    """Says once that numba compiles; numba sends the event only where its cache on disk has nothing."""

    def on_start(self, event: event.Event) -> None:
        if event.data["dispatcher"] is _solve:
            logger.warning("gradcut: compiling the graph cut once (about 4 s)")

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcement())

"""The kernels of the minimum cut: incremental breadth-first search over arrays, compiled by numba.

`gradcut.masks.maxflow` says what they do and where they come from. Two trees grow: S (foreground, side 0) and T
(background, side 1).
"""

# numba has no types, so that its decorator hides those of the kernels:
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy import ndarray

ROOT, ORPHAN = 8, 9  # in place of a direction (0 to 7; d ^ 1 is the way back)
SEED = (1 << 30) + 15  # further than any distance, and no direction

# residual[p, d] is what may still flow from p to p + offsets[p, d], excess[p] what may come from the source, or
# go to the sink where negative. code[p] holds all that a pixel's neighbours ask about it: 0 for a free pixel,
# else 16 * distance + direction of the parent, negative in T. Distances start at 1 at the roots, the pixels
# with excess (S) or a deficit (T). The kernels take arrays alone: numba's files on disk would name a class of
# this module, and not load with another version of it.


@njit(nogil=True, cache=True)
def build(
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
                q = p + offsets[p, 2 * k]
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
    reached = 0
    for start in range(n):
        distance[start] = -1
        if excess[start] < 0:
            distance[start] = 0
            order[reached] = start
            reached += 1
    i = 0
    while i < reached:
        p = np.int64(order[i])
        i += 1
        for d in range(directions):
            q = _step(p, offsets[p, d])
            if distance[q] < 0 and residual[q, d ^ 1] > 0:
                distance[q] = distance[p] + 1
                order[reached] = q
                reached += 1
    for i in range(reached - 1, -1, -1):
        p = np.int64(order[i])
        if distance[p] == 0:
            break
        left = excess[p]
        for d in range(directions):
            if left <= 0:
                break
            q = _step(p, offsets[p, d])
            if distance[q] == distance[p] - 1 and residual[p, d] > 0:
                flow = min(left, residual[p, d])
                residual[p, d] -= flow
                residual[q, d ^ 1] += flow
                excess[q] += flow
                left -= flow
        excess[p] = left


@njit(nogil=True, cache=True)
def solve(residual: ndarray, excess: ndarray, code: ndarray, offsets: ndarray) -> None:
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
                q = _step(p, offsets[p, d])
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
                    i = _step(i, offsets[i, up])
                    flow = min(flow, residual[i, up ^ 1])
                flow = min(flow, excess[i])
                i = b
                while -code[i] & 15 != ROOT:
                    up = -code[i] & 15
                    flow = min(flow, residual[i, up])
                    i = _step(i, offsets[i, up])
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
                        j = _step(i, offsets[i, up])
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
                            j = _step(i, offsets[i, e])
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
                            j = _step(i, offsets[i, e])
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

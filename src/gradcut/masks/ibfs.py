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
# go to the sink where negative. Bit d of openings[0, p] is set where that residual is positive, of openings[1, p]
# where the neighbour's towards p is: trees grow and are mended without a look at the residuals, which are many and
# far apart. code[p] holds all that a pixel's neighbours ask about it: 0 for a free pixel, else 16 * distance +
# direction of the parent, negative in T. Distances start at 1 at the roots, the pixels with excess (S) or a
# deficit (T). Loops over the directions have a fixed length, so that the compiler unrolls them, and what is inlined
# in the search has no branches: numba would count references to its arrays at every use. The kernels take arrays
# alone: numba's files on disk would name a class of this module, and not load with another version of it.


@njit(inline="always")
def _step(p: Any, offset: Any) -> Any:
    """The neighbour's index, in a way that shows the compiler that it isn't negative."""
    return np.int64(np.uint32(p + offset))


@njit(inline="always")
def _join(residual: Any, excess: Any, code: Any, openings: Any, p: Any, q: Any, d: Any, weight: Any) -> None:
    """An edge between two pixels; to a seed, part of the terminal."""
    is_free = (code[p] == 0) & (code[q] == 0)
    residual[p, d] = residual[q, d ^ 1] = weight * is_free
    is_open = np.uint8(is_free & (weight > 0))
    openings[0, p] |= is_open << d
    openings[0, q] |= is_open << (d ^ 1)
    excess[p] += weight * ((code[q] > 0) - (code[q] < 0)) * (code[p] == 0)
    excess[q] += weight * ((code[p] > 0) - (code[p] < 0)) * (code[q] == 0)


@njit(nogil=True, cache=True)
def build(
    residual: ndarray,
    excess: ndarray,
    code: ndarray,
    openings: ndarray,
    fg: ndarray,
    bg: ndarray,
    right: ndarray,
    down: ndarray,
    down_right: ndarray,
    down_left: ndarray,
) -> None:
    """Fill capacities; join seeds to the terminals."""
    h, w = fg.shape
    row = w + 1
    for y in range(h):
        for x in range(w):
            p = (y + 1) * row + x + 1
            is_free = (fg[y, x] < np.inf) & (bg[y, x] < np.inf)
            code[p] = 0 if is_free else SEED if bg[y, x] == np.inf else -SEED
            excess[p] = bg[y, x] - fg[y, x] if is_free else 0
    for y in range(h):
        first = (y + 1) * row + 1
        for x in range(w - 1):
            _join(residual, excess, code, openings, first + x, first + x + 1, 0, right[y, x])
        if y + 1 == h:
            break
        for x in range(w):
            _join(residual, excess, code, openings, first + x, first + x + row, 2, down[y, x])
        if residual.shape[1] == 8:
            for x in range(w - 1):
                _join(residual, excess, code, openings, first + x, first + x + row + 1, 4, down_right[y, x])
                _join(residual, excess, code, openings, first + x + 1, first + x + row, 6, down_left[y, x])
    openings[1] = openings[0]


@njit(inline="always")
def _push(residual: Any, openings: Any, p: Any, q: Any, d: Any, flow: Any) -> Any:
    """Send a positive flow from p in direction d, to q; what else may flow."""
    left = residual[p, d] - flow
    residual[p, d] = left
    residual[q, d ^ 1] += flow
    openings[0, q] |= np.uint8(1 << (d ^ 1))
    openings[1, p] |= np.uint8(1 << d)
    is_closed = np.int64(left <= 0)
    openings[0, p] &= ~np.uint8(is_closed << d)
    openings[1, q] &= ~np.uint8(is_closed << (d ^ 1))
    return left


@njit(inline="always")
def _append(queue: Any, head: Any, length: Any, queued: Any, side: Any, p: Any) -> None:
    """Put a pixel at the end of the queue; it isn't queued yet."""
    queued[p] |= np.uint8(1 + side)
    n = queue.shape[1]
    i = head[side] + length[side]
    queue[side, i - n * (i >= n)] = p
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
def _wave(residual: Any, excess: Any, openings: Any, offsets: Any, order: Any, distance: Any) -> None:
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
                _push(residual, openings, p, q, d, flow)
                excess[q] += flow
                left -= flow
        excess[p] = left


@njit(inline="always")
def _nearer(nearest: Any, far: Any, code: Any, offsets: Any, sign: Any, p: Any, d: Any, openings: Any) -> Any:
    """The nearer of nearest and p's neighbour, as 16 * distance + direction, where that is in the tree and d open."""
    own = np.int64(code[_step(p, offsets[p, d])] * sign)
    return min(nearest, (own & -16) + d if (own > 0) & (openings >> d) else far)


@njit(inline="always")
def _child(code: Any, offsets: Any, sign: Any, p: Any, d: Any) -> Any:
    """Bit d where p's neighbour there has p for its parent."""
    own = np.int64(code[_step(p, offsets[p, d])] * sign)
    return ((own > 0) & (own & 15 == d ^ 1)) << d


@njit(inline="always")
def _beyond(code: Any, offsets: Any, sign: Any, p: Any, d: Any, openings: Any) -> Any:
    """Bit d where p's neighbour there isn't in the tree, and d open."""
    return (openings >> d & 1 & (code[_step(p, offsets[p, d])] * sign <= 0)) << d


@njit(nogil=True, cache=True)
def solve(residual: ndarray, excess: ndarray, code: ndarray, openings: ndarray, offsets: ndarray) -> None:
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
    path = np.empty(n, np.uint32)  # the pixels from a and from b up to their roots, without these
    ends = np.empty(2, np.int64)  # its roots
    free, roots = 0, 0
    for start in range(n):
        free += code[start] == 0
        roots += excess[start] != 0
    if roots > 0.9 * free:
        _wave(residual, excess, openings, offsets, queue[0], next_orphan)
    for start in range(n):
        if excess[start] != 0:
            side = 0 if excess[start] > 0 else 1
            code[start] = (1 - 2 * side) * (16 + ROOT)
            if not queued[start] & (1 + side):
                _append(queue, head, length, queued, side, start)

    # T may be complete before S; S goes on, so that it holds all that the source reaches
    while length[0] > 0:
        growing = 1 if length[1] > 0 and depth[1] < depth[0] else 0  # paths are shortest from trees of equal depth
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
                if not queued[p] & (1 + growing):
                    _append(queue, head, length, queued, growing, p)
                continue
            opening = np.int64(openings[growing, p])
            beyond = 0
            for d in range(4):
                beyond |= _beyond(code, offsets, forward, p, d, opening)
            if directions > 4:
                for d in range(4, 8):
                    beyond |= _beyond(code, offsets, forward, p, d, opening)
            d = 0
            while beyond:
                while not beyond & 1 << d:
                    d += 1
                q = _step(p, offsets[p, d])
                other = code[q] * forward
                if other > 0 or not openings[growing, p] & 1 << d:
                    beyond &= beyond - 1
                    continue
                if other == 0:
                    code[q] = forward * (16 * (front + 1) + (d ^ 1))
                    if not queued[q] & (1 + growing):
                        _append(queue, head, length, queued, growing, q)
                    beyond &= beyond - 1
                    continue

                # The trees meet in the edge from a to b: saturate the path source - a - b - sink.
                a, b, ab = (p, q, d) if growing == 0 else (q, p, d ^ 1)
                flow = residual[a, ab]
                steps = 0
                i = a
                while code[i] & 15 != ROOT:
                    up = np.int64(code[i] & 15)
                    path[steps] = i
                    steps += 1
                    i = _step(i, offsets[i, up])
                    flow = min(flow, residual[i, up ^ 1])
                flow = min(flow, excess[i])
                ends[0] = i
                middle = steps
                i = b
                while -code[i] & 15 != ROOT:
                    up = np.int64(-code[i] & 15)
                    path[steps] = i
                    steps += 1
                    flow = min(flow, residual[i, up])
                    i = _step(i, offsets[i, up])
                flow = min(flow, -excess[i])
                ends[1] = i
                _push(residual, openings, a, b, ab, flow)
                for side in range(2):
                    sign = 1 - 2 * side
                    last = (code[a if side == 0 else b] * sign) >> 4
                    level = last + 1
                    for k in range(0 if side == 0 else middle, middle if side == 0 else steps):
                        i = np.int64(path[k])
                        up = np.int64((code[i] * sign) & 15)
                        j = _step(i, offsets[i, up])
                        giver, taker, along = (j, i, up ^ 1) if side == 0 else (i, j, up)
                        left = _push(residual, openings, giver, taker, along, flow)
                        if left <= 0:
                            level = _orphan(code, first_orphan, next_orphan, sign, i)
                    i = ends[side]
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
                        far = 16 * limit
                        nearest = far
                        opening = np.int64(openings[1 - side, i])
                        for e in range(4):
                            nearest = _nearer(nearest, far, code, offsets, sign, i, e, opening)
                        if directions > 4:
                            for e in range(4, 8):
                                nearest = _nearer(nearest, far, code, offsets, sign, i, e, opening)
                        if nearest < 16 * level:
                            code[i] = sign * (16 * level + (nearest & 7))
                            continue
                        children = 0
                        for e in range(4):
                            children |= _child(code, offsets, sign, i, e)
                        if directions > 4:
                            for e in range(4, 8):
                                children |= _child(code, offsets, sign, i, e)
                        e = 0
                        while children:
                            if children & 1:
                                j = _step(i, offsets[i, e])
                                last = max(last, _orphan(code, first_orphan, next_orphan, sign, j))
                            children >>= 1
                            e += 1
                        if nearest == far:
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
                        elif moved >= depth[side] and not queued[i] & (1 + side):
                            _append(queue, head, length, queued, side, i)
                if (code[p] * forward) >> 4 != front:
                    break
        depth[growing] += 1

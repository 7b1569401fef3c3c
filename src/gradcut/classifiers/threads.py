"""One torch thread for a while: with another number of them sums come out in another order, and a cut may tip over."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch computes on one thread in the block, and afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def each_on_one_thread(items: Generator[Item]) -> Generator[Item]:
    """The items of a generator, each computed on one torch thread.

    Between two of them, while the caller does what it likes with the last one, torch has as many threads as before.
    """
    try:
        while True:
            with one_torch_thread():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
    finally:
        with one_torch_thread():
            items.close()


def single_threaded_pool(number: int, name: str) -> ThreadPoolExecutor:
    """A pool of threads on each of which torch computes on that one thread alone, whatever the others do.

    A number of torch threads counts for the thread that sets it, and for those that ask torch for something for the
    first time later. So all of them have done so when this returns.
    """
    together = Barrier(number)

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()
        together.wait()

    with one_torch_thread():
        pool = ThreadPoolExecutor(number, name)
        for future in [pool.submit(begin) for _ in range(number)]:
            future.result()
    return pool

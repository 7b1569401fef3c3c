"""One torch thread for a while, and for whom."""

from __future__ import annotations

from threading import Thread

import pytest
import torch

from gradcut.classifiers.threads import each_on_one_thread, one_torch_thread, single_threaded_pool


def of_a_new_thread() -> int:
    numbers = []
    thread = Thread(target=lambda: numbers.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return numbers[0]


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_thread_in_the_block_and_as_many_as_before_after_it():
    def failing():
        with one_torch_thread():
            assert torch.get_num_threads() == of_a_new_thread() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert torch.get_num_threads() == of_a_new_thread() == 3


def test_items_are_computed_on_one_thread_and_used_on_all():
    closed = []

    def items():
        try:
            while True:
                yield torch.get_num_threads()
        finally:
            closed.append(torch.get_num_threads())

    made = each_on_one_thread(items())
    for _, inside in zip(range(3), made, strict=False):
        assert inside == 1
        assert torch.get_num_threads() == of_a_new_thread() == 3
    made.close()
    assert closed == [1]
    assert list(each_on_one_thread(n for n in range(3))) == [0, 1, 2]
    assert torch.get_num_threads() == 3


def test_threads_of_a_pool_have_one_each_and_nobody_else_has():
    with single_threaded_pool(2, "test") as pool:
        assert torch.get_num_threads() == of_a_new_thread() == 3
        assert {pool.submit(torch.get_num_threads).result() for _ in range(8)} == {1}

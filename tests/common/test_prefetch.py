import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.prefetch import prefetch


def test_results_come_in_order_and_not_too_many_are_made_ahead() -> None:
    drawn: list[int] = []
    lock = threading.Lock()

    def items() -> Iterator[int]:
        for i in range(20):
            with lock:
                drawn.append(i)
            yield i

    with ThreadPoolExecutor(4) as pool:
        for i, made in enumerate(prefetch(pool, lambda i: i * i, items(), 3)):
            assert made == i * i
            assert len(drawn) <= i + 4


def test_the_next_one_is_made_while_the_last_one_is_used() -> None:
    """Each result waits for the next to be begun: without overlap this would stand still."""
    begun = [threading.Event() for _ in range(6)]

    def make(i: int) -> int:
        begun[i].set()
        return i

    with ThreadPoolExecutor(1) as pool:
        for i in prefetch(pool, make, range(5), 1):
            assert i == 4 or begun[i + 1].wait(10)


def test_an_error_reaches_who_asks() -> None:
    def fail(i: int) -> None:
        raise ValueError(f"item {i}")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="item 0"):
        next(prefetch(pool, fail, range(3), 1))

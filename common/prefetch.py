"""Work that runs ahead of who needs it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(
    pool: Executor, function: Callable[[Item], Made], items: Iterable[Item], depth: int
) -> Iterator[Made]:
    """function(item) for every item, in order, with up to `depth` results made before they are asked for.

    Items are drawn from their iterator by the thread that asks; only the function runs in the pool.
    """
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

"""The next batch is made while the present one is learnt from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

AHEAD = 2
"""Batches that are made ahead."""


class Prefetched(Generic[T, U]):
    """Iterates over `(item, make(item))`, made in order by one thread beside the caller's.

    `make` must not draw from a global random state: draws belong to the items' iterator, which the caller's
    thread runs.
    """

    def __init__(self, items: Iterable[T], make: Callable[[T], U]) -> None:
        """Say what is iterated over, and what is made of each."""
        self._items, self._make = items, make
        self.waited = 0.0
        """Seconds that the caller has waited for."""

    def __iter__(self) -> Iterator[tuple[T, U]]:
        coming: deque[tuple[T, Future[U]]] = deque()
        items = iter(self._items)
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            try:
                while True:
                    began = time.perf_counter()
                    while len(coming) < AHEAD and (item := next(items, None)) is not None:
                        coming.append((item, thread.submit(self._make, item)))
                    if not coming:
                        return
                    item, future = coming.popleft()
                    made = future.result()
                    self.waited += time.perf_counter() - began
                    yield item, made
            finally:
                for _, future in coming:
                    future.cancel()

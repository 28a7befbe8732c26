"""The next batch is made while an accelerator learns from the present one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

AHEAD = 2
"""Batches that are made ahead for an accelerator. On a CPU none: its cores are busy with the step already."""


class Prefetched(Generic[T, U]):
    """Iterates over `(item, make(item))`, in order.

    `make` must not draw from a global random state: draws belong to the items' iterator, which the caller's
    thread runs.
    """

    def __init__(self, items: Iterable[T], make: Callable[[T], U], ahead: int) -> None:
        """Say what is iterated over, what is made of each, and how many are made ahead by a thread."""
        self._items, self._make, self._ahead = items, make, ahead
        self.waited = 0.0
        """Seconds that the caller has waited for."""

    def __iter__(self) -> Iterator[tuple[T, U]]:
        pairs = self._ahead_of_time() if self._ahead else ((item, self._make(item)) for item in self._items)
        while True:
            began = time.perf_counter()
            pair = next(pairs, None)
            self.waited += time.perf_counter() - began
            if pair is None:
                return
            yield pair

    def _ahead_of_time(self) -> Iterator[tuple[T, U]]:
        coming: deque[tuple[T, Future[U]]] = deque()
        items = iter(self._items)
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            try:
                while True:
                    while len(coming) < self._ahead and (item := next(items, None)) is not None:
                        coming.append((item, thread.submit(self._make, item)))
                    if not coming:
                        return
                    item, future = coming.popleft()
                    yield item, future.result()
            finally:
                for _, future in coming:
                    future.cancel()

"""Batches made ahead are the same, in the same order, and mistakes are not swallowed."""

from __future__ import annotations

import threading
import time

import pytest

from edgeaudio.training.prefetch import Prefetched


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_order_and_values(ahead: int) -> None:
    assert list(Prefetched(range(7), lambda x: x * x, ahead)) == [(x, x * x) for x in range(7)]
    assert list(Prefetched([], str, ahead)) == []


def test_the_next_is_made_while_the_present_one_is_used() -> None:
    makers = []

    def make(x: int) -> int:
        makers.append(threading.current_thread())
        time.sleep(0.05)
        return x

    batches = Prefetched(range(6), make, 2)
    began = time.perf_counter()
    for _ in batches:
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    assert threading.main_thread() not in makers
    assert batches.waited < 0.6 * seconds  # all but the first were ready, or nearly


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_mistake_reaches_the_caller_and_ends_the_thread(ahead: int) -> None:
    def make(x: int) -> float:
        return 1 / (2 - x)

    batches = iter(Prefetched(range(5), make, ahead))
    assert [next(batches)[0], next(batches)[0]] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(batches)
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_leaving_early_leaves_no_thread() -> None:
    for item, _ in Prefetched(range(100), lambda x: x, 2):
        if item == 3:
            break
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]

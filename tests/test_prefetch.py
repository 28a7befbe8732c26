"""Batches made ahead are the same, in the same order, and mistakes are not swallowed."""

from __future__ import annotations

import threading

import pytest

from edgeaudio.training.prefetch import Prefetched


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_order_and_values(ahead: int) -> None:
    assert list(Prefetched(range(7), lambda x: x * x, ahead)) == [(x, x * x) for x in range(7)]
    assert list(Prefetched([], str, ahead)) == []


def test_the_next_is_made_while_the_present_one_is_used() -> None:
    made = [threading.Event() for _ in range(5)]

    def make(x: int) -> str:
        made[x].set()
        return threading.current_thread().name

    for x, maker in Prefetched(range(5), make, 2):
        assert maker.startswith("batches")
        # without asking for it: the next one comes by itself
        assert x == 4 or made[x + 1].wait(timeout=60)


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

"""Freed memory that stays with the process, in processes of their own: page faults and pages held."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from edgeaudio.training.memory import freed_memory_kept

HELPERS = """
import os, resource, torch
from edgeaudio.training.memory import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(12 * 2**20).fill_(1.0)  # 48 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

def use():
    del [torch.ones(12 * 2**20) for _ in range(8)][:]  # 384 MiB

"""


def printed(code: str) -> list[int]:
    """The numbers that a script prints."""
    script = HELPERS + textwrap.dedent(code)
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(word) for word in out.stdout.split()]


@pytest.fixture(autouse=True)
def glibc() -> None:
    with freed_memory_kept() as kept:
        if not kept:
            pytest.skip("the C library is not glibc")


def test_memory_is_handed_out_once_inside_and_each_time_outside() -> None:
    outside, inside = printed("""
        print(faults())
        with freed_memory_kept():
            with freed_memory_kept():
                faults()  # until the heap has grown
            print(faults())
        """)
    assert inside < outside / 4


def test_memory_goes_back_at_the_end_and_after_an_error() -> None:
    start, inside, after, failed = printed("""
        print(resident())
        with freed_memory_kept():
            use()
            print(resident())
        print(resident())

        @freed_memory_kept()
        def fail():
            use()
            raise ValueError

        try:
            fail()
        except ValueError:
            print(resident())
        """)
    assert inside > start + 300
    assert after < start + 100
    assert failed < start + 100

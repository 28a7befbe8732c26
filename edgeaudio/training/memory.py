"""Freed memory stays with the process while it learns.

glibc hands large blocks back to the system as soon as they are freed. A training step frees and asks for the
same few hundred megabytes again and again, and each time the system has to zero every page of them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# of malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER, _GIGABYTE = -1, 2**30
_USUAL_TRIM, _USUAL_MMAP = 64 * 2**20, 32 * 2**20  # where glibc's own adaptation ends up

_users = 0


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep freed memory for reuse inside the block, and give it back at the end; blocks may be nested.

    It holds for the whole process. Also a decorator.

    Yields:
        Whether it is kept: elsewhere than on Linux with glibc nothing is changed.
    """
    global _users
    libc = _glibc()
    if libc is not None and _users == 0:
        libc.mallopt(_MMAP_THRESHOLD, _GIGABYTE)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    _users += 1
    try:
        yield libc is not None
    finally:
        _users -= 1
        if libc is not None and _users == 0:
            libc.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
            libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    # musl has neither, and no need of them
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None

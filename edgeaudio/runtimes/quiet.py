"""Keeps a library's chatter off the screen: what its Python prints and logs, and what its C++ writes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, nothing reaches standard output, standard error, the log or the list of warnings.

    C++ writes to the descriptors past `sys.stderr`, so the descriptors themselves are turned aside: for the
    whole process, hence only around short calls. Errors are raised as ever.
    """
    before = logging.root.manager.disable
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        with (
            tempfile.TemporaryFile("w") as nowhere,  # a file, since some progress bars ask for its descriptor
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        logging.disable(before)

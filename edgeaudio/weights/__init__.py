"""Published weights by name: what there is, whose it is, and a verified file of it.

``catalogue()`` lists, ``get(name)`` fetches, ``resolve(text)`` takes a name or a path. Nothing here imports
torch: `edgeaudio.checkpoints` reads the files.
"""

from __future__ import annotations

from pathlib import Path

from edgeaudio.console import Console
from edgeaudio.errors import CheckpointError, did_you_mean
from edgeaudio.weights.entries import Entry, catalogue
from edgeaudio.weights.fetching import fetch, place

__all__ = ["Entry", "catalogue", "fetch", "find", "get", "place", "resolve"]


def find(name: str) -> Entry:
    """The entry of a name; raises `CheckpointError` with the closest known one."""
    known = catalogue()
    if name not in known:
        raise CheckpointError(f"no published weights are called {name!r}; {did_you_mean(name, known)}")
    return known[name]


def get(name: str, console: Console | None = None) -> Path:
    """A verified file of published weights, fetched into the cache unless it is there.

    Args:
        name: of a catalogue entry.
        console: shows progress.

    Raises:
        CheckpointError: the name is unknown, or the file can't be fetched or isn't the published one.
    """
    return fetch(find(name), console)


def resolve(text: str, console: Console | None = None) -> Path:
    """The file behind a catalogue name or a path.

    Args:
        text: a name such as ``mn10``, or the path of a file.
        console: shows progress.

    Raises:
        CheckpointError: it is neither, or the file can't be fetched.
    """
    if text in catalogue():
        return get(text, console)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    raise CheckpointError(
        f"{text!r} is neither a file nor a name of published weights; {did_you_mean(text, catalogue())}"
    )

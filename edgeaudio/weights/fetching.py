"""One file over HTTP into the cache: resumed where it broke off, verified, then renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from edgeaudio import __version__
from edgeaudio.console import Console
from edgeaudio.errors import CheckpointError
from edgeaudio.weights.entries import Entry

_BLOCK = 1 << 18
_PATIENCE = 30.0  # seconds without a byte
_ATTEMPTS = 4  # in a row that bring nothing new
_BREAKS = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)  # midway

Progress = Callable[[int, int], None]


def place(entry: Entry) -> Path:
    """Where the file of an entry lies in the cache, or is to be put by hand."""
    from edgeaudio.data.waveforms import cache_folder

    return cache_folder() / "weights" / entry.file


def fetch(entry: Entry, console: Console | None = None, path: Path | None = None) -> Path:
    """A verified file of an entry.

    A file that lies there already, fetched earlier or put there by hand, is verified and used. What a broken
    download left in ``NAME.partial`` is continued, if the server can.

    Args:
        entry: which file.
        console: shows progress.
        path: where it shall lie; its place in the cache if not given.

    Raises:
        CheckpointError: the file can't be fetched, or isn't the published one.
    """
    console = console or Console(quiet=True)
    path = path or place(entry)
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(entry, path, console)
            return path
        if wrong := _wrong(entry, path):
            raise CheckpointError(
                f"{path} isn't the published file of {entry.name}: {wrong}; remove it to fetch it again"
            )
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise CheckpointError(
            f"{entry.name} can't be fetched from {entry.address} ({_reason(error)}); try again, or fetch "
            f"it by hand and put it at {path}"
        ) from error
    return path


def _download(entry: Entry, path: Path, console: Console) -> None:
    partial = path.with_name(path.name + ".partial")
    with console.counting(entry.name) as progress:
        _continue(entry, partial, progress)
    if wrong := _wrong(entry, partial):
        partial.unlink()
        raise CheckpointError(
            f"what {entry.address} sent isn't the published file of {entry.name}: {wrong}; it was deleted; "
            f"try again, or put a file that you trust at {path}"
        )
    partial.replace(path)
    checked = "verified" if entry.checksum else "no checksum is published to hold it against"
    console.stage("weights", f"{entry.name}: {path.stat().st_size / 1e6:.1f} MB, {checked}")


def _continue(entry: Entry, partial: Path, progress: Progress) -> None:
    """Ask again for the rest as long as that brings something."""
    failures, reached = 0, _size(partial)
    while not _receive(entry, partial, progress):
        failures = 0 if _size(partial) > reached else failures + 1
        reached = _size(partial)
        if failures == _ATTEMPTS:
            raise ConnectionError(f"the connection broke off after {reached} bytes, which are kept")


def _receive(entry: Entry, partial: Path, progress: Progress) -> bool:
    """Append to `partial` what the server sends; whether that was all."""
    start = _size(partial)
    request = urllib.request.Request(entry.address, headers={"User-Agent": f"edgeaudio/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        if start == _total(error.headers.get("Content-Range")):
            return True  # it was whole already
        partial.unlink()  # another file lies there now
        return False
    with response, contextlib.suppress(*_BREAKS):
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = start if resumed else 0  # a server that knows no ranges sends all of it
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with partial.open("ab" if resumed else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                start += len(block)
                progress(start, total or entry.bytes or start)
        return total is None or start >= total
    return False


def _wrong(entry: Entry, path: Path) -> str | None:
    """What differs from what is known of the published file, in words."""
    size = path.stat().st_size
    if entry.checksum is None:
        differs = entry.bytes is not None and size != entry.bytes
        return f"it has {size} bytes, not {entry.bytes}" if differs else None
    algorithm, published = entry.checksum
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    return None if found == published.lower() else f"its {algorithm} is {found}, not {published}"


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _total(content_range: str | None) -> int | None:
    """The size in ``bytes */SIZE``."""
    size = (content_range or "").rpartition("/")[2]
    return int(size) if size.isdigit() else None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

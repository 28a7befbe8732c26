"""Sounds inside one large file, unpacked once into the cache and read from there.

The cache is keyed by content. It appears by one rename when it is whole, so an interrupted unpacking leaves
nothing that would be taken for the sounds.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgeaudio.config import content_hash, file_hash
from edgeaudio.data.clips import Clips
from edgeaudio.data.layouts.jsonl import clip_from, parse
from edgeaudio.data.waveforms import cache_folder

_FORMAT = 1  # raise when what is unpacked, or how, changes
_TABLE, _ABOUT = "clips.jsonl", "about.json"


@dataclass(frozen=True)
class Contents:
    """What was found in the file."""

    records: Sequence[dict[str, Any]]
    """One for each clip, as `layouts.jsonl` reads them; `path` is relative to the unpacked folder."""
    classes: Sequence[str] = ()
    """Their order, where the file says it."""
    multi_label: bool = False
    """Whether clips may have several labels."""


def unpack(kind: str, source: Path, files: Iterable[Path], fill: Callable[[Path], Contents]) -> Clips:
    """The clips of files that hold sounds.

    Args:
        kind: what the files are; part of the key.
        source: the data set, for errors.
        files: they are the key, by their content.
        fill: writes the sounds into an empty folder.
    """
    key = content_hash([_FORMAT, kind, [file_hash(path) for path in files]])
    folder = cache_folder() / "unpacked" / key[:32]
    if not folder.is_dir():
        with _alone(folder.parent):
            if not folder.is_dir():  # another process may just have done it
                _fill(folder, fill)
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    lines = (folder / _TABLE).read_text(encoding="utf-8").splitlines()
    records = [parse(line, str(source)) for line in lines]
    items = tuple(clip_from(record, folder / record["path"], str(source)) for record in records)
    return Clips(folder, items, tuple(about["classes"]), about["multi_label"])


def _fill(folder: Path, fill: Callable[[Path], Contents]) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    partial.mkdir()
    try:
        found = fill(partial)
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in found.records]
        (partial / _TABLE).write_text("".join(lines), encoding="utf-8")
        about = {"classes": list(found.classes), "multi_label": found.multi_label}
        (partial / _ABOUT).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process unpacks."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass
class Namer:
    """Gives each unpacked sound a name of its own that can't lead out of the folder."""

    taken: set[str] = field(default_factory=set)

    def name(self, wanted: str, suffix: str) -> str:
        """`wanted` with another ending, if it is harmless and free; else a number stands before it."""
        path = PurePosixPath(wanted.replace("\\", "/"))
        parts = [part for part in path.parts if part.strip("/. ") and part.isprintable()]
        name = PurePosixPath(*parts).with_suffix(suffix).as_posix() if parts else f"sound{suffix}"
        if name in self.taken or (path.is_absolute() or ".." in path.parts):
            name = f"{len(self.taken):06d}-{PurePosixPath(name).name}"
        self.taken.add(name)
        return name

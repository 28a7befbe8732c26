"""Sounds of which nothing else is known: one file, or a folder `**/<file>`."""

from __future__ import annotations

from pathlib import Path

from edgeaudio.audio import SUFFIXES, find_files
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout
from edgeaudio.errors import DataError


def _found(source: Path) -> bool:
    """Whether all sounds lie loose: where they lie in folders, these may be classes."""
    if source.is_file():
        return source.suffix.lower() in SUFFIXES
    files = find_files(source) if source.is_dir() else []
    return bool(files) and all(path.parent == source for path in files)


def read_unlabelled(folder: Path, columns: CsvColumns) -> Clips:
    """Read one sound, or all below a folder, without labels."""
    if folder.is_file():
        return Clips(folder.parent, (Clip(folder, ""),))
    items = tuple(Clip(path, "") for path in find_files(folder))
    if not items:
        raise DataError(f"{folder} holds no sound files (looked for {' '.join(sorted(SUFFIXES))})")
    return Clips(folder, items)


UNLABELLED = Layout("sounds without labels", _found, read_unlabelled, labelled=False)

"""ESC-10 and ESC-50 as first published: folders `001 - Dog bark`, files `<fold>-….ogg`.

The classes stand in the order of their three digits, so their numbers are those of the data set.

Source: Piczak, ESC: Dataset for Environmental Sound Classification (2015).
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeaudio.audio import find_files
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, subfolders
from edgeaudio.data.layouts.folders import class_folders

_FOLDER = re.compile(r"\d{3} - (.+)")
_FILE = re.compile(r"([1-5])-(?:([^-]+)-)?.+")
"""`4-161579-A.ogg`: the fold, and the recording that the clip was cut from."""


def _found(source: Path) -> bool:
    """Whether all folders and all files are named as above: class folders may be numbered otherwise."""
    folders = subfolders(source)
    files = [find_files(folder) for folder in folders if _FOLDER.fullmatch(folder.name)]
    return bool(files) and len(files) == len(folders) and all(map(_all_named, files))


def _all_named(files: list[Path]) -> bool:
    return bool(files) and all(_FILE.fullmatch(path.name) for path in files)


def read_esc_folders(folder: Path, columns: CsvColumns) -> Clips:
    """Read ESC in folders: official folds, and the source recording as group."""
    items = [_clip(clip.path, clip.label) for clip in class_folders(subfolders(folder))]
    return Clips(folder, tuple(items), tuple(dict.fromkeys(clip.label for clip in items)))


def _clip(path: Path, folder: str) -> Clip:
    label, file = _FOLDER.fullmatch(folder), _FILE.fullmatch(path.name)
    assert label is not None
    assert file is not None
    return Clip(path, label[1], fold=file[1], group=file[2] or "")


ESC_FOLDERS = Layout("ESC in numbered folders", _found, read_esc_folders)

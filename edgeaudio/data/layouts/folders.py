"""Folders of sounds: `<class>/**/<file>`, or `<train|val|test>/<class>/**/<file>`."""

from __future__ import annotations

from pathlib import Path

from edgeaudio.audio import SUFFIXES, find_files
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import SPLIT_NAMES, CsvColumns, Layout, subfolders
from edgeaudio.errors import DataError


def read_class_folders(folder: Path, columns: CsvColumns) -> Clips:
    """Read `folder/<class>/**/<file>`, or `folder/<train|val|test>/<class>/<file>`."""
    children = subfolders(folder)
    split_names = {child.name.lower() for child in children}
    if len(split_names) > 1 and split_names <= SPLIT_NAMES.keys():
        items = [
            clip
            for child in children
            for clip in class_folders(subfolders(child), SPLIT_NAMES[child.name.lower()])
        ]
    else:
        items = class_folders(children)
    if not items:
        raise DataError(_why_empty(folder))
    return Clips(folder, tuple(items))


def class_folders(folders: list[Path], split: str = "") -> list[Clip]:
    """The sounds of folders that each hold one class."""
    found = {folder: find_files(folder) for folder in folders}
    for folder, files in found.items():
        # with no sounds anywhere the whole folder is the mistake, and is said so elsewhere
        if not files and any(found.values()):
            raise DataError(
                f"{folder} holds no sound files, so it can't be a class; "
                "fill it, take it away, or name the clips in a CSV"
            )
    return [Clip(path, folder.name, split=split) for folder, files in found.items() for path in files]


def _why_empty(folder: Path) -> str:
    endings = " ".join(sorted(SUFFIXES))
    if loose := [path for path in find_files(folder) if path.parent == folder]:
        return f"{folder} holds {len(loose)} sound files but no class folders; give each class a folder"
    return f"{folder} holds no sound files in class folders (looked for {endings})"


CLASS_FOLDERS = Layout("class folders", Path.is_dir, read_class_folders)

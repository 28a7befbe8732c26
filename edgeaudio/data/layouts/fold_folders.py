"""Cross-validation as folders: `fold_1/<class>/**/<file>`, `fold_2/…`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from edgeaudio.data.clips import Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, subfolders
from edgeaudio.data.layouts.folders import class_folders
from edgeaudio.errors import DataError

_FOLD = re.compile(r"fold_0*(\d+)")


def _found(source: Path) -> bool:
    folders = subfolders(source)
    return len(folders) > 1 and all(_FOLD.fullmatch(child.name) and subfolders(child) for child in folders)


def read_fold_folders(folder: Path, columns: CsvColumns) -> Clips:
    """Read folders of folds; a fold's clips are those that are held out in it."""
    folds: dict[str, Path] = {}
    for child in subfolders(folder):
        match = _FOLD.fullmatch(child.name)
        assert match is not None
        if match[1] in folds:
            raise DataError(
                f"{folder}: {folds[match[1]].name} and {child.name} are the same fold; rename one"
            )
        folds[match[1]] = child
    items = [
        replace(clip, fold=name)
        for name in sorted(folds, key=int)
        for clip in class_folders(subfolders(folds[name]))
    ]
    if not items:
        raise DataError(f"{folder} holds no sound files in fold_N/<class> folders")
    return Clips(folder, tuple(items))


FOLD_FOLDERS = Layout("folders of folds", _found, read_fold_folders)

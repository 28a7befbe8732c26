"""DCASE development sets with folds: `meta.txt` and `evaluation_setup/fold1_train.txt`, ….

A line of `meta.txt` is the file, its class, and where there is one the place or session that it comes from,
which becomes its group. In a fold, what is not in its training list is held out. So lie TUT Acoustic Scenes
2016 and 2017, and the home activities of DCASE 2018.

Source: Mesaros, Heittola, Virtanen, TUT Database for Acoustic Scene Classification and Sound Event Detection
(2016); Dekkers et al., The SINS Database (2017).
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, check_files, read_lines
from edgeaudio.errors import DataError

_HOME = ("other", "social_activity", "eating", "working", "absence", "vacuum_cleaner", "dishwashing",
         "watching_tv", "cooking")  # fmt: skip
"""The order that class numbers of the home activities have elsewhere; scenes go by the alphabet."""


def _train_lists(folder: Path) -> dict[str, Path]:
    """Fold → its training list."""
    found = [
        (int(match[1]), path)
        for path in (folder / "evaluation_setup").glob("fold*_train.txt")
        if (match := re.fullmatch(r"fold(\d+)_train\.txt", path.name))
    ]
    return {str(number): path for number, path in sorted(found)}


def read_dcase_folds(folder: Path, columns: CsvColumns) -> Clips:
    """Read a DCASE development set: official folds, and place or session as group."""
    meta, lists = folder / "meta.txt", _train_lists(folder)
    rows = dict(_row(meta, line, text) for line, text in read_lines(meta))
    if not rows:
        raise DataError(f"{meta} names no clips")
    trained = {fold: _listed(path, rows, meta) for fold, path in lists.items()}
    items = []
    for name, (label, group) in rows.items():
        held_out = [fold for fold, names in trained.items() if name not in names]
        if len(held_out) != 1:
            raise DataError(
                f"{meta}: {name} is held out in {len(held_out)} of {len(lists)} folds of evaluation_setup; "
                "it must be missing in exactly one fold*_train.txt"
            )
        items.append(Clip(folder / name, label, fold=held_out[0], group=group))
    check_files(items, meta)
    labels = {clip.label for clip in items}
    return Clips(folder, tuple(items), _HOME if labels == set(_HOME) else ())


def _row(meta: Path, line: int, text: str) -> tuple[str, tuple[str, str]]:
    """`audio/b020_90_100.wav  beach  b020` → file, class and group."""
    name, *cells = (cell.strip() for cell in text.split("\t"))
    if not name or not cells or not cells[0]:
        raise DataError(f"{meta}, line {line}: {text[:60]!r} must be a file and its class with a tab between")
    # the name begins with the place where no third cell tells it
    stem = Path(name).stem
    place = stem.split("_")[0] if re.fullmatch(r"[ab]\d+_\d+_\d+", stem) else ""
    return name, (cells[0], cells[1] if len(cells) > 1 else place)


def _listed(path: Path, rows: dict[str, tuple[str, str]], meta: Path) -> set[str]:
    names = set()
    for line, text in read_lines(path):
        name = text.split("\t")[0].strip()
        if name not in rows:
            raise DataError(f"{path}, line {line}: {name} is not in {meta}")
        names.add(name)
    return names


DCASE_FOLDS = Layout(
    "a DCASE development set with folds",
    lambda source: (source / "meta.txt").is_file() and len(_train_lists(source)) > 1,
    read_dcase_folds,
)

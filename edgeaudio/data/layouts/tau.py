"""TAU Urban Acoustic Scenes 2019 … 2022: `meta.csv` and `evaluation_setup/`, tab-separated.

`meta.csv` names each clip's scene, place (`identifier`) and device (`source_label`); `fold1_train.csv` and
`fold1_test.csv` say what is trained and what is tested on. Clips in neither list are left out: since 2020
there are such, kept apart by the organisers. The places are the groups, so that a validation split is cut
from the training list by place and never taken from the test list. DCASE 2024 and 2025 train on nested
parts of the training list: `split5.csv` … `split100.csv`.

Source: Mesaros, Heittola, Virtanen, A multi-device dataset for urban acoustic scene classification (2018).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import (
    CsvColumns,
    Layout,
    check_files,
    counted,
    header_of,
    rows_with,
)
from edgeaudio.errors import DataError

_COLUMNS = ("filename", "scene_label", "source_label")


def _found(source: Path) -> bool:
    return source.is_dir() and set(_COLUMNS) <= header_of(source / "meta.csv")


def _subset_lists(source: Path) -> dict[str, Path]:
    """Percentage → its list, the smallest first."""
    places = (source / "evaluation_setup", source)
    found = [
        (int(match[1]), path)
        for place in places
        for path in sorted(place.glob("split*.csv"))
        if (match := re.fullmatch(r"split(\d+)\.csv", path.name))
    ]
    return {str(percent): path for percent, path in sorted(found)}


def subsets(source: Path) -> Sequence[str]:
    """The percentages of which there is a list."""
    return list(_subset_lists(source))


def read_tau(folder: Path, columns: CsvColumns) -> Clips:
    """Read TAU Urban Acoustic Scenes: official split, device, and place as group."""
    meta = folder / "meta.csv"
    items = {row["filename"]: _clip(folder, row) for _, row in rows_with(meta, *_COLUMNS)}
    splits = _splits(folder, columns.subset, items)
    notes: list[str] = []
    if splits:
        if left := [name for name in items if name not in splits]:
            part = f" (subset {columns.subset} %)" if columns.subset else ""
            notes.append(
                f"{counted(len(left), len(items), 'clips')} in {meta.name} are in neither the training nor "
                f"the test list{part} and are left out, the first is {left[0]}."
            )
        items = {name: replace(clip, split=splits[name]) for name, clip in items.items() if name in splits}
    check_files(items.values(), meta)
    return Clips(folder, tuple(items.values()), notes=tuple(notes))


def _clip(folder: Path, row: dict[str, str]) -> Clip:
    # airport-barcelona-203-6125-2-a.wav: the place stands in the name too
    place = (row.get("identifier") or "").strip() or "-".join(Path(row["filename"]).stem.split("-")[1:3])
    return Clip(folder / row["filename"], row["scene_label"], group=place, device=row["source_label"])


def _splits(folder: Path, subset: str, items: dict[str, Clip]) -> dict[str, str]:
    """File name → split of the clips that are in one of the lists."""
    setup = folder / "evaluation_setup"
    train = _subset_lists(folder)[subset] if subset else setup / "fold1_train.csv"
    tests = [setup / f"fold1_{name}.csv" for name in ("test", "evaluate")]
    test = next((path for path in tests if path.is_file()), None)
    if not train.is_file() and test is None:
        return {}
    if not train.is_file():
        raise DataError(f"{train} is missing beside {tests[0].name}; unpack the data set again")
    splits: dict[str, str] = {}
    for split, path in (("train", train), *([("test", test)] if test else [])):
        for line, row in rows_with(path, "filename"):
            name = row["filename"]
            if name not in items:
                raise DataError(f"{path}, line {line}: {name} is not in {folder / 'meta.csv'}")
            if splits.setdefault(name, split) != split:
                raise DataError(f"{path}, line {line}: {name} is in {train.name} too; take it out of one")
    return splits


TAU = Layout("TAU Urban Acoustic Scenes", _found, read_tau, subsets)

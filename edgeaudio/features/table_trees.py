"""Where the tables of a feature set lie: alone, or in folders of partitions, folds, folds in partitions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeaudio.errors import DataError, did_you_mean
from edgeaudio.features.featureset import PARTITIONS
from edgeaudio.features.table_files import SUFFIXES

_FOLD = re.compile(r"fold_(\d+)")


@dataclass(frozen=True)
class Leaf:
    """One table of a tree."""

    path: Path
    """The file."""
    partition: int | None = None
    """Number of the partition that its instances are of."""
    fold: int | None = None
    """Number of the fold, from 0 on, in whose validation part they are."""


def find_leaves(source: Path, name: str | None) -> list[Leaf]:
    """Find the tables of a feature set.

    Args:
        source: the folder of the tree, or a single table.
        name: of the files, without ending; only needed where there are several.

    Returns:
        The tables, by partition and fold.

    Raises:
        DataError: there is no such tree; the text says what is missing or too much.
    """
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES.values():
            raise DataError(f"{source} is no table; tables end in {' or '.join(SUFFIXES.values())}")
        return [Leaf(source)]
    if not source.is_dir():
        raise DataError(f"{source} does not exist; give a table, or the folder of a tree of tables")
    if path := _table_in(source, name):
        return [Leaf(path)]
    folders = _folders(source)
    if any(_FOLD.fullmatch(folder.name) for folder in folders):
        return _of_folds(source, folders, name, None)
    known = {folder.name.lower(): folder for folder in folders}
    for wrong in [each for each in known if each not in PARTITIONS]:
        hint = did_you_mean(wrong, [*PARTITIONS, "fold_1"])
        raise DataError(f"{known[wrong]} is neither a partition nor a fold; {hint}")
    leaves = [
        leaf
        for number, partition in enumerate(PARTITIONS)
        if partition in known
        for leaf in _of_partition(known[partition], name, number)
    ]
    folds: dict[int | None, list[int | None]] = {}
    for leaf in leaves:
        folds.setdefault(leaf.partition, []).append(leaf.fold)
    if any(each != folds[leaves[0].partition] for each in folds.values()):
        raise DataError(f"the partitions of {source} differ in their folds; each needs all of them")
    return leaves


def _of_partition(folder: Path, name: str | None, partition: int) -> list[Leaf]:
    if path := _table_in(folder, name):
        return [Leaf(path, partition)]
    return _of_folds(folder, _folders(folder), name, partition)


def _of_folds(folder: Path, folders: list[Path], name: str | None, partition: int | None) -> list[Leaf]:
    numbers = {}
    for each in folders:
        if not (found := _FOLD.fullmatch(each.name)):
            raise DataError(f"{each} is no fold; folds are called fold_1, fold_2 …")
        numbers[int(found[1])] = each
    for number in range(1, max(2, *numbers) + 1):
        if number not in numbers:
            raise DataError(
                f"{folder} has no fold_{number}; folds are numbered from 1 on, and there are two or more"
            )
    leaves = []
    for number in sorted(numbers):
        if (path := _table_in(numbers[number], name)) is None:
            raise DataError(f"{numbers[number]} holds no table{_called(name)}; each fold needs one")
        leaves.append(Leaf(path, partition, number - 1))
    return leaves


def _table_in(folder: Path, name: str | None) -> Path | None:
    """The table in a folder; None where there is none."""
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES.values())
    called = [path for path in tables if name in (None, path.stem)]
    if len(called) > 1:
        some = ", ".join(path.name for path in called)
        way = "choose one with --name" if name is None else "move all but one away"
        raise DataError(f"{folder} holds several tables ({some}); {way}")
    if name is not None and tables and not called:
        hint = did_you_mean(name, {path.stem for path in tables})
        raise DataError(f"{folder} holds no table{_called(name)}; {hint}")
    return called[0] if called else None


def _called(name: str | None) -> str:
    return "" if name is None else f" called {name}"


def _folders(folder: Path) -> list[Path]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        endings = " or ".join(SUFFIXES.values())
        raise DataError(
            f"{folder} holds no table ({endings}), nor folders train, devel, test or fold_1 … of them"
        )
    return folders

"""The rows of one table: which sound and chunk, which label, which features."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, did_you_mean
from edgeaudio.features.featureset import MISSING
from edgeaudio.features.table_files import open_table
from edgeaudio.features.table_trees import Leaf


@dataclass(frozen=True)
class Columns:
    """How the columns are called that are no features."""

    filename: str = "filename"
    """The sound."""
    chunk: str = "chunk_nr"
    """Number of the chunk in its sound."""
    label: str = "label_nominal"
    """Name of the class."""
    number: str = "label_numeric"
    """Number of the class."""

    def __post_init__(self) -> None:
        name, count = Counter(vars(self).values()).most_common(1)[0]
        if count > 1:
            raise DataError(f"the column {name!r} can't be two things at once; name another one")

    def find(self, path: Path, columns: Sequence[str]) -> dict[str, int]:
        """Where those of them stand that a table has.

        Raises:
            DataError: it lacks one whose name was given.
        """
        for mine, usual in zip(vars(self).values(), vars(Columns()).values(), strict=True):
            if mine != usual and mine not in columns:
                others = [name for name in columns if not re.fullmatch(r"\D+\d+", name)]  # feature_17, mfcc3
                raise DataError(f"{path} has no column {mine!r}; {did_you_mean(mine, others[:20])}")
        return {key: columns.index(name) for key, name in vars(self).items() if name in columns}


class Row(NamedTuple):
    """All of a row but the features."""

    filename: str
    chunk: int
    label: str
    """Empty where it is missing."""
    number: int
    """`MISSING` where it is missing."""
    place: str
    """File and line."""


@dataclass(frozen=True)
class Part:
    """What one table holds."""

    leaf: Leaf
    """The table's place in the tree."""
    rows: list[Row]
    """Of the instances."""
    features: NDArray[np.float32]
    """`(instances, columns)`."""
    names: tuple[str, ...]
    """Of the columns of the features."""
    declared: tuple[str, ...]
    """Classes that the table declares, with instances or without."""
    notes: tuple[str, ...]
    """What should be known of it."""


def read_part(leaf: Leaf, source: Path, columns: Columns) -> Part:
    """Read one table.

    Args:
        leaf: the table.
        source: the tree it is of; rows without a sound are named by their table's place in it.
        columns: how the columns are called that are no features.

    Returns:
        What it holds.

    Raises:
        DataError: it isn't as it should be; the text says where.
    """
    with open_table(leaf.path) as table:
        where = columns.find(leaf.path, table.columns)
        picked = [i for i in range(len(table.columns)) if i not in where.values()]
        names = tuple(table.columns[i] for i in picked)
        if not names:
            raise DataError(f"{leaf.path} has no columns of features")
        inside = leaf.path.name if leaf.path == source else leaf.path.relative_to(source).as_posix()
        rows: list[Row] = []
        values = bytearray()  # grows in place, so that no second copy is ever made
        seen: Counter[str] = Counter()
        for place, cells in table.rows:
            at = f"{leaf.path}, {place}"
            filename = f"{inside}:{len(rows)}"
            if "filename" in where:
                filename = _needed(at, columns.filename, _text(cells[where["filename"]]))
            chunk = seen[filename]
            if "chunk" in where:
                chunk = _needed(at, columns.chunk, _whole(at, columns.chunk, cells[where["chunk"]]))
            seen[filename] += 1
            rows.append(Row(filename, chunk, *_label(at, columns, where, cells), at))
            values += _floats(at, names, [cells[i] for i in picked]).tobytes()
    features = np.frombuffer(values, np.float32).reshape(len(rows), len(names))
    declared = table.nominal.get(columns.label, ())
    return Part(leaf, rows, features, names, declared, tuple(_notes(columns, where, seen)))


def _notes(columns: Columns, where: Mapping[str, int], seen: Counter[str]) -> list[str]:
    notes = []
    if "filename" not in where:
        notes.append(f"no column {columns.filename}: each row is taken for a sound of its own")
    elif "chunk" not in where and max(seen.values(), default=0) > 1:
        notes.append(f"no column {columns.chunk}: the rows of a sound are numbered as they come")
    if "label" not in where and "number" not in where:
        notes.append(f"no column {columns.label}: a set without labels")
    return notes


# ── cells ────────────────────────────────────────────────────────────────────────────────────────


def _needed(at: str, column: str, value: Any) -> Any:
    if value is None:
        raise DataError(f"{at}, has no {column}")
    return value


def _text(cell: Any) -> str | None:
    """Text of a cell; a number of an ARFF file that is whole is written so."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return None if cell is None or cell == "" else str(cell)


def _whole(at: str, column: str, cell: Any) -> int | None:
    if cell is None or cell == "":
        return None
    try:
        number = float(cell)
    except ValueError:
        number = float("nan")
    if not number.is_integer():
        raise DataError(f"{at}: {column} is {cell!r}, which is no whole number")
    return int(number)


def _label(at: str, columns: Columns, where: Mapping[str, int], cells: list[Any]) -> tuple[str, int]:
    """Name and number; the name is the number where the table has no names."""
    name = _text(cells[where["label"]]) if "label" in where else None
    if "number" not in where:
        return name or "", MISSING
    number = _whole(at, columns.number, cells[where["number"]])
    if "label" not in where and number is not None:
        name = str(number)
    if (name is None) != (number is None):
        has, lacks = (columns.number, columns.label) if name is None else (columns.label, columns.number)
        raise DataError(f"{at}, has a {has} but no {lacks}; a row has both or neither")
    return name or "", MISSING if number is None else number


def _floats(at: str, names: tuple[str, ...], cells: list[Any]) -> NDArray[np.float32]:
    """The features of a row; NaN where a cell is empty."""
    try:
        return np.array(cells, np.float32)
    except (ValueError, TypeError):
        pass  # an empty cell, or one that is no number: look at them one by one
    found = np.full(len(cells), np.nan, np.float32)
    for i, (name, cell) in enumerate(zip(names, cells, strict=True)):
        try:
            found[i] = np.nan if cell in (None, "") else float(cell)
        except ValueError:
            raise DataError(
                f"{at}: {cell!r} in the column {name!r} is no number; if these are labels, say "
                f"--label-nominal-attribute {name}, if they are sounds, --filename-attribute {name}"
            ) from None
    return found

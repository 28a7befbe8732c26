"""Tables, or trees of them, read as a feature set: the inverse of `tables.export_tables`."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError
from edgeaudio.features.featureset import MISSING, TRAIN, VALID, FeatureSet
from edgeaudio.features.table_rows import Columns, Part, read_part
from edgeaudio.features.table_trees import find_leaves

Key = tuple[str, int]
"""Sound and chunk."""


def import_tables(
    source: Path, name: str | None = None, columns: Columns | None = None
) -> tuple[FeatureSet, list[str]]:
    """Read a tree of tables.

    Instances that stand in several folds become one that validates in all of them. Without a column of the
    sounds each row is one; without one of the chunks, the rows of a sound are numbered as they come.

    Args:
        source: the folder of the tree, or a single table.
        name: of the files, without ending; only needed where there are several.
        columns: how the columns are called that are no features.

    Returns:
        The set, and what should be known of it, a sentence each.

    Raises:
        DataError: there is no such tree, or a table isn't as it should be; the text says where.
    """
    parts = [read_part(leaf, source, columns or Columns()) for leaf in find_leaves(source, name)]
    for part in parts:
        if part.names != parts[0].names:
            raise DataError(f"{part.leaf.path} and {parts[0].leaf.path} have different columns of features")
    places = _merged(parts)
    order = _in_order(parts)
    label_map = _label_map(parts)
    firsts = [places[key][0] for key in order]
    labels = tuple(parts[i].rows[j].label for i, j in firsts)
    features = np.empty((len(order), len(parts[0].names)), np.float32)
    for row, (i, j) in enumerate(firsts):
        features[row] = parts[i].features[j]
    found = FeatureSet(
        features=features,
        dims=("generated",),
        filenames=tuple(filename for filename, _ in order),
        chunks=np.array([chunk for _, chunk in order], np.int64),
        labels=labels if label_map else None,
        label_ids=np.array([label_map.get(each, MISSING) for each in labels]) if label_map else None,
        label_map=label_map or None,
        folds=_folds([[parts[i].leaf.fold for i, _ in places[key]] for key in order], parts),
        partitions=_partitions([parts[i].leaf.partition for i, _ in firsts]),
        attributes={"imported_from": source.name},
    )
    return found, list(dict.fromkeys(note for part in parts for note in part.notes))


def _merged(parts: list[Part]) -> dict[Key, list[tuple[int, int]]]:
    """Sound and chunk → where they stand: the table, and the row in it; in several folds perhaps."""
    found: dict[Key, list[tuple[int, int]]] = {}
    for i, part in enumerate(parts):
        for j, row in enumerate(part.rows):
            places = found.setdefault((row.filename, row.chunk), [])
            if places:
                _check_same(parts[places[0][0]], places[0][1], part, j)
            places.append((i, j))
    return found


def _check_same(one: Part, i: int, other: Part, j: int) -> None:
    mine, theirs = one.rows[i], other.rows[j]
    twice = f"{mine.filename} chunk {mine.chunk} stands twice, in {mine.place}, and in {theirs.place}"
    if one is other or one.leaf.partition != other.leaf.partition:
        raise DataError(f"{twice}; a sound and its chunk may be there once only")
    same = np.array_equal(one.features[i], other.features[j], equal_nan=True)
    if not same or (mine.label, mine.number) != (theirs.label, theirs.number):
        raise DataError(f"{twice}, with other features or another label; make them the same, or delete one")


def _in_order(parts: list[Part]) -> list[Key]:
    """All instances in an order that keeps that of every table, so that an export writes the same tables."""
    tables = [[(row.filename, row.chunk) for row in part.rows] for part in parts]
    first_come = list(dict.fromkeys(key for table in tables for key in table))
    if len(first_come) == sum(map(len, tables)):
        return first_come
    sorter: TopologicalSorter[Key] = TopologicalSorter(dict.fromkeys(first_come, ()))
    for table in tables:
        for before, after in pairwise(table):
            sorter.add(after, before)
    try:
        return list(sorter.static_order())
    except CycleError:  # tables sorted in ways of their own
        return first_come


def _label_map(parts: list[Part]) -> dict[str, int]:
    """Class name → number; numbered by the alphabet where the tables have no numbers."""
    found: dict[str, int] = {}
    names: dict[int, str] = {}
    for row in (row for part in parts for row in part.rows if row.number != MISSING):
        number = found.setdefault(row.label, row.number)
        name = names.setdefault(row.number, row.label)
        if number != row.number:
            raise DataError(f"{row.place}: {row.label} has the number {row.number}, but {number} elsewhere")
        if name != row.label:
            raise DataError(f"{row.place}: {row.label} has the number {row.number}, as {name} has elsewhere")
    written = {row.label for part in parts for row in part.rows}
    every = sorted((written | {name for part in parts for name in part.declared}) - {""})
    for i, name in enumerate(every):  # where there are no numbers; also classes without an instance
        if name not in found:
            free = i if i not in names else next(j for j in range(len(every)) if j not in names)
            found[name], names[free] = free, name
    return found


def _folds(of: list[list[int | None]], parts: list[Part]) -> NDArray[np.int8] | None:
    """From the folds in which each instance validates."""
    numbers = {part.leaf.fold for part in parts} - {None}
    if not numbers:
        return None
    folds = np.full((len(of), len(numbers)), TRAIN, np.int8)
    for row, valid in enumerate(of):
        folds[row, [fold for fold in valid if fold is not None]] = VALID
    return folds


def _partitions(of: list[int | None]) -> NDArray[np.int8] | None:
    numbers = [number for number in of if number is not None]
    return np.array(numbers, np.int8) if len(numbers) == len(of) else None

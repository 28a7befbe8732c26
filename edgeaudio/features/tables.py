"""Feature sets as trees of tables that any tool reads.

::

    NAME.csv                              neither partitions nor folds
    train/NAME.csv  test/NAME.csv         partitions (train, devel, test)
    fold_1/NAME.csv  fold_2/NAME.csv …    the validation part of each fold
    train/fold_1/NAME.csv …               both

The columns are ``filename``, ``chunk_nr``, ``label_nominal``, ``label_numeric``, ``feature_0`` …
Features are written with just the digits that bring the same float32 back.

Source: github.com/auDeep/auDeep, whose `export` writes the same trees.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, did_you_mean
from edgeaudio.features.featureset import MISSING, PARTITIONS, UNASSIGNED, VALID, FeatureSet
from edgeaudio.features.table_files import SUFFIXES, Row, write_table

META = ("filename", "chunk_nr", "label_nominal", "label_numeric")
"""Columns that are no features."""
BLOCK = 256
"""Instances that are turned into text at once."""


def export_tables(
    features: FeatureSet, folder: Path, name: str, form: str = "csv", labels_last: bool = False
) -> list[str]:
    """Write a feature set as a tree of tables; the tree appears whole.

    Args:
        features: the set; spectrograms are written as plain vectors, row after row.
        folder: a new or empty folder.
        name: of the files, without ending.
        form: ``csv`` or ``arff``.
        labels_last: labels stand in the last columns, as Weka likes it.

    Returns:
        What should be known of it, a sentence each.

    Raises:
        DataError: the folder isn't empty or can't be written, or `form` is unknown.
    """
    if form not in SUFFIXES:
        raise DataError(f"unknown format {form!r}; {did_you_mean(form, SUFFIXES)}")
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and isn't overwritten; name another place, or delete it")
    if not name or Path(name).name != name:
        raise DataError(f"{name!r} can't be the name of a file; give a plain one, without folders")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    columns = _columns(features, labels_last)
    try:
        for place, rows in _leaves(features):
            path = partial / place / (name + SUFFIXES[form])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(path, columns, _rows(features, rows, labels_last))
        if folder.exists():
            folder.rmdir()  # it is empty
        partial.replace(folder)
    except OSError as error:
        raise DataError(f"{folder} can't be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _notes(features)


def _notes(features: FeatureSet) -> list[str]:
    notes = []
    if len(features.dims) > 1:
        sizes = [str(size) for size in features.features.shape[1:]]
        axes = " × ".join(f"{size} {dim}" for dim, size in zip(features.dims, sizes, strict=True))
        notes.append(f"features of {axes} are written as vectors; an import gives vectors")
    if features.folds is not None:
        times = (features.folds == VALID).sum(1)
        if more := int((times > 1).sum()):
            notes.append(f"{more} instances validate in several folds; they are written once for each")
        if never := int((times == 0).sum()):
            notes.append(f"{never} instances validate in no fold; the tree has no place for them")
    if features.partitions is not None and (none := int((features.partitions == UNASSIGNED).sum())):
        notes.append(f"{none} instances are in no partition; the tree has no place for them")
    return notes


def _leaves(features: FeatureSet) -> Iterator[tuple[Path, NDArray[np.int64]]]:
    """Folder and instances of each table."""
    tops = [(Path(), np.ones(len(features), np.bool_))]
    if (partitions := features.partitions) is not None:
        tops = [(Path(name), partitions == i) for i, name in enumerate(PARTITIONS) if (partitions == i).any()]
    for place, mine in tops:
        if features.folds is None:
            yield place, np.flatnonzero(mine)
            continue
        for fold in range(features.fold_count):
            yield place / f"fold_{fold + 1}", np.flatnonzero(mine & (features.folds[:, fold] == VALID))


def _columns(features: FeatureSet, labels_last: bool) -> dict[str, str | list[str]]:
    """Name → type, in order."""
    names = sorted({*(features.label_map or ()), *(features.labels or ())} - {""})
    labels: dict[str, str | list[str]] = {"label_nominal": names or "STRING", "label_numeric": "INTEGER"}
    values = {f"feature_{i}": "REAL" for i in range(int(np.prod(features.features.shape[1:])))}
    first = {"filename": "STRING", "chunk_nr": "INTEGER"}
    return {**first, **values, **labels} if labels_last else {**first, **labels, **values}


def _rows(features: FeatureSet, rows: NDArray[np.int64], labels_last: bool) -> Iterator[Row]:
    labels, ids = features.labels, features.label_ids
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        texts = features.features[block].reshape(len(block), -1).astype(str)  # the shortest that is exact
        for row, values in zip(block.tolist(), texts.tolist(), strict=True):
            first = [features.filenames[row], int(features.chunks[row])]
            number = MISSING if ids is None else int(ids[row])
            label = [(labels[row] if labels else "") or None, None if number == MISSING else number]
            yield [*first, *values, *label] if labels_last else [*first, *label, *values]

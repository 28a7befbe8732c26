"""New feature sets from old ones: several fused into one, chunks fused to sounds, rare classes repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, did_you_mean
from edgeaudio.features.checks import constraints
from edgeaudio.features.featureset import PARTITIONS, FeatureSet
from edgeaudio.features.netcdf import read_features, read_table

COLUMNS = {
    "labels": "labels",
    "label_ids": "label numbers",
    "folds": "folds",
    "partitions": "partitions",
}
"""What must be equal in sets that are fused, and how it is called."""


def fuse_files(paths: Sequence[Path], axis: str | None = None) -> FeatureSet:
    """`fuse` of files; only one of them is in memory beside the result."""
    tables = [read_table(path) for path in paths]
    return fuse(tables, [str(path) for path in paths], axis, (read_features(path).features for path in paths))


def fuse(
    sets: Sequence[FeatureSet],
    names: Sequence[str],
    axis: str | None = None,
    values: Iterable[NDArray[np.float32]] | None = None,
) -> FeatureSet:
    """Put the features of several sets of the same sounds side by side.

    Args:
        sets: the sets, of the same instances in any order; labels, folds and partitions are the same.
        names: what the sets are called when they don't fit.
        axis: along which the features are put together; the last one if not given.
        values: the features of the sets, one after the other; those in `sets` if not given.

    Returns:
        The set, in the order of the first. Attributes in which the sets differ are lists.

    Raises:
        DataError: the sets differ; the text says in what.
    """
    first = sets[0]
    along = _axis(first, axis, names[0], last=True)
    orders = [_fitting(first, one, names[0], name, along) for one, name in zip(sets, names, strict=True)]
    sizes = [one.features.shape[along] for one in sets]
    shape = list(first.features.shape)
    shape[along] = sum(sizes)
    fused, start = np.empty(shape, np.float32), 0
    parts = iter(values or (one.features for one in sets))
    for order, size in zip(orders, sizes, strict=True):
        part = next(parts)
        place: list[Any] = [slice(None)] * fused.ndim
        place[along] = slice(start, start + size)
        fused[tuple(place)] = part if order is None else part[order]
        start += size
        del part  # before the next one is read
    label_map = next((one.label_map for one in sets if one.label_map is not None), None)
    return replace(first, features=fused, label_map=label_map, attributes=_attributes(sets))


def fuse_chunks(features: FeatureSet, axis: str | None = None) -> FeatureSet:
    """Put the chunks of each sound one after the other, so that a sound is one instance.

    Args:
        features: the set; all sounds have as many chunks, numbered from 0 on.
        axis: along which the features are put together; the first one, such as the time, if not given.

    Returns:
        The set of the sounds, as they first appear.

    Raises:
        DataError: sounds differ in their numbers of chunks, or chunks of one in labels, folds or partitions.
    """
    along = _axis(features, axis, "the set", last=False)
    for constraint in constraints(features):
        if not constraint.holds and constraint.key != "label_map":
            raise DataError(
                f"chunks can't be fused unless {constraint.text}, but {constraint.violations[0]}; "
                "'edgeaudio features validate --detailed' tells of all"
            )
    rows = np.lexsort((features.chunks, features.sounds))
    count = len(features) // max(len(set(features.filenames)), 1)
    values = features.features if (rows == np.arange(len(rows))).all() else features.features[rows]
    shape = list(values.shape)
    apart = values.reshape(len(rows) // max(count, 1), count, *shape[1:])
    shape[0], shape[along] = len(apart), shape[along] * count
    fused = np.moveaxis(apart, 1, along).reshape(shape)
    table = replace(features, features=_placeholder(features)).take(rows[::count] if count else rows)
    return replace(table, features=fused)


def upsample(features: FeatureSet, partitions: Sequence[str] = ()) -> FeatureSet:
    """Repeat the instances of rare classes, each class ``largest // own`` times.

    Args:
        features: the set, with a label for all instances that are repeated.
        partitions: in which partitions; all instances if not given. Others stay as they are, and come first.

    Returns:
        The set; the copies of ``a.wav`` are called ``a.wav.upsampled.1``, ``a.wav.upsampled.2`` …

    Raises:
        DataError: there are no such partitions, or labels are missing.
    """
    chosen = _chosen(features, partitions)
    if features.labels is None or not features.labelled[chosen].all():
        raise DataError("classes can't be balanced where instances have no label; label them first")
    counts = Counter(np.array(features.labels, object)[chosen].tolist())
    most = max(counts.values(), default=0)
    again = [
        (int(row), i + 1)
        for row in np.flatnonzero(chosen)
        for i in range(most // counts[features.labels[row]])
    ]
    kept = np.flatnonzero(~chosen).tolist()
    names = [features.filenames[row] for row in kept]
    names += [f"{features.filenames[row]}.upsampled.{i}" for row, i in again]
    return replace(features.take(kept + [row for row, _ in again]), filenames=tuple(names))


def _chosen(features: FeatureSet, partitions: Sequence[str]) -> NDArray[np.bool_]:
    if not partitions:
        return np.ones(len(features), np.bool_)
    chosen = np.zeros(len(features), np.bool_)
    for name in partitions:
        mine = False if features.partitions is None else features.partitions == PARTITIONS.index(name)
        if not np.any(mine):
            raise DataError(
                f"the set has no partition {name}; 'edgeaudio features inspect' tells what it has"
            )
        chosen |= mine
    return chosen


# ── what fits together ───────────────────────────────────────────────────────────────────────────


def _axis(features: FeatureSet, axis: str | None, name: str, *, last: bool) -> int:
    if axis is None:
        return len(features.dims) if last else 1
    if axis not in features.dims:
        raise DataError(f"the features of {name} have no axis {axis!r}; {did_you_mean(axis, features.dims)}")
    return 1 + features.dims.index(axis)


def _placeholder(features: FeatureSet) -> NDArray[np.float32]:
    """Features that take no memory, for what moves only the other columns."""
    return np.broadcast_to(np.float32(np.nan), features.features.shape)


def _fitting(
    first: FeatureSet, other: FeatureSet, first_name: str, other_name: str, along: int
) -> NDArray[np.int64] | None:
    """The order in which `other` has the instances of `first`; None where it is the same."""
    names = f"{first_name} and {other_name}"
    mine, theirs = _without(first, along), _without(other, along)
    if mine != theirs:
        raise DataError(f"{names} can't be fused: their features are {mine} and {theirs}")
    order = _order(_keys(first, first_name), _keys(other, other_name), first_name, other_name)
    moved = replace(other, features=_placeholder(other)).take(order)
    if None not in (first.label_map, other.label_map) and first.label_map != other.label_map:
        raise DataError(f"{names} can't be fused: their label maps differ")
    for column, text in COLUMNS.items():
        ours, others = getattr(first, column), getattr(moved, column)
        if (ours is None) != (others is None):
            raise DataError(
                f"{names} can't be fused: only {other_name if ours is None else first_name} has {text}"
            )
        if ours is not None and (rows := _differing(ours, others)).size:
            where = f"{first.filenames[rows[0]]} chunk {first.chunks[rows[0]]}"
            raise DataError(
                f"{names} can't be fused: the {text} of {rows.size} instances differ, first of {where}"
            )
    return None if (order == np.arange(len(order))).all() else order


def _without(features: FeatureSet, along: int) -> str:
    sizes = [str(size) for size in features.features.shape[1:]]
    if along <= len(sizes):
        sizes[along - 1] = "any"
    return " × ".join(f"{size} {dim}" for dim, size in zip(features.dims, sizes, strict=True))


Keys = dict[tuple[str, int], int]


def _keys(features: FeatureSet, name: str) -> Keys:
    """Sound and chunk → row."""
    keys: Keys = {}
    for row, key in enumerate(zip(features.filenames, features.chunks.tolist(), strict=True)):
        if key in keys:
            raise DataError(f"{name} can't be fused: it has {key[0]} chunk {key[1]} twice")
        keys[key] = row
    return keys


def _order(mine: Keys, theirs: Keys, first_name: str, other_name: str) -> NDArray[np.int64]:
    either = ((mine, theirs, first_name, other_name), (theirs, mine, other_name, first_name))
    for some, others, has, lacks in either:
        if lacking := [key for key in some if key not in others]:
            name, chunk = lacking[0]
            raise DataError(
                f"{first_name} and {other_name} can't be fused: {lacks} lacks {len(lacking)} instances "
                f"of {has}, first {name} chunk {chunk}"
            )
    return np.array([theirs[key] for key in mine], np.int64)


def _differing(ours: Any, others: Any) -> NDArray[np.int64]:
    if isinstance(ours, tuple):
        return np.flatnonzero([a != b for a, b in zip(ours, others, strict=True)])
    if ours.shape != others.shape:  # another number of folds
        return np.arange(len(ours))
    return np.flatnonzero((ours != others).reshape(len(ours), -1).any(1))


def _attributes(sets: Sequence[FeatureSet]) -> dict[str, Any]:
    """What all say alike as it is, all else as a list in the order of the sets."""
    merged = {}
    for name in dict.fromkeys(name for one in sets for name in one.attributes):
        values = [one.attributes.get(name) for one in sets]
        merged[name] = values[0] if all(value == values[0] for value in values) else values
    return merged

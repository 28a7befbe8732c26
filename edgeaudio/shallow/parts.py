"""Which instances are learnt from and which are held out: the set's folds, or its partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, did_you_mean
from edgeaudio.features.featureset import PARTITIONS, TRAIN, VALID, FeatureSet

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One division of a set."""

    name: str
    """Such as ``fold 1`` or ``train → test``."""
    train: Rows
    """Instances that are learnt from."""
    held: Rows
    """Instances that are held out."""


def usable(features: FeatureSet, where: str, *, labelled: bool = True) -> FeatureSet:
    """The set, if something can be learnt from it.

    Args:
        features: the set.
        where: what an error calls it.
        labelled: whether it must have labels.

    Raises:
        DataError: it is empty, has no labels, or a feature is not a finite number.
    """
    if not len(features):
        raise DataError(f"{where} holds no instances")
    if labelled and not features.labelled.any():
        raise DataError(f"{where} has no labels; extract it from a labelled data set")
    finite = np.asarray(np.isfinite(features.vectors).all(axis=1), np.bool_)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"{where}: {features.filenames[row]}, chunk {features.chunks[row]}, has a feature that is not a "
            f"finite number ({len(finite) - finite.sum():,} such instances); extract it again"
        )
    return features


def targets_of(features: FeatureSet) -> Rows:
    """`(instances,)` indices into ``features.classes``; −1 without a label."""
    assert features.labels is not None, "only of a labelled set"
    index = {name: i for i, name in enumerate(features.classes)}
    return np.array([index.get(label, -1) for label in features.labels], np.int64)


def folds(features: FeatureSet, where: str) -> list[Part]:
    """The set's own folds, each once held out.

    Raises:
        DataError: no folds, or one that can't be used; see `checked`.
    """
    if features.folds is None or not features.fold_count:
        raise DataError(
            f"{where} has no folds; make some with edgeaudio features modify, or name partitions: "
            "--train-partitions train --eval-partitions test"
        )
    return [
        checked(
            features,
            Part(f"fold {i}", _labelled(features, column == TRAIN), _labelled(features, column == VALID)),
            where,
        )
        for i, column in enumerate(features.folds.T, start=1)
    ]


def partitions(features: FeatureSet, where: str, train: Sequence[str], held: Sequence[str]) -> Part:
    """One division by partitions.

    Args:
        features: the set.
        where: what an error calls it.
        train: names of the partitions to learn from.
        held: names of those held out.

    Raises:
        DataError: no partitions, an unknown one, one on both sides, or one that can't be used.
    """
    if both := {word.lower() for word in train} & {word.lower() for word in held}:
        raise DataError(f"partition {min(both)} is to be learnt from and held out; name it on one side only")
    part = Part(
        f"{'+'.join(train)} → {'+'.join(held)}".lower(),
        rows_of(features, where, train),
        rows_of(features, where, held),
    )
    return checked(features, part, where)


def rows_of(features: FeatureSet, where: str, names: Sequence[str]) -> Rows:
    """Instances of some partitions that have a label.

    Raises:
        DataError: no partitions, an unknown name, or no such instances.
    """
    if features.partitions is None:
        raise DataError(
            f"{where} has no partitions; make some with edgeaudio features modify, or use its folds"
        )
    for name in names:
        if name.lower() not in PARTITIONS:
            raise DataError(f"unknown partition {name!r}; {did_you_mean(name.lower(), PARTITIONS)}")
    numbers = [PARTITIONS.index(name.lower()) for name in names]
    rows = _labelled(features, np.isin(features.partitions, numbers))
    if not len(rows):
        raise DataError(f"{where}: no labelled instance is of the partition {' or '.join(names)}")
    return rows


def checked(features: FeatureSet, part: Part, where: str) -> Part:
    """The part, if a figure of it means something.

    Raises:
        DataError: an empty side, a single class to learn from, a class that is held out but never learnt, or
            a sound with chunks on both sides.
    """
    assert features.labels is not None, "only of a labelled set"
    for side, rows in (("training", part.train), ("held-out", part.held)):
        if not len(rows):
            raise DataError(f"{where}: {part.name} has no {side} instances")
    learnt = {features.labels[i] for i in part.train}
    if len(learnt) < 2:
        raise DataError(
            f"{where}: the training part of {part.name} holds a single class, {min(learnt)!r}; there is "
            "nothing to tell apart"
        )
    if unseen := sorted({features.labels[i] for i in part.held} - learnt):
        raise DataError(
            f"{where}: {part.name} holds out the class {unseen[0]!r}, of which its training part has no "
            "instance; divide the set anew with edgeaudio features modify"
        )
    if shared := {features.filenames[i] for i in part.train} & {features.filenames[i] for i in part.held}:
        raise DataError(
            f"{where}: {part.name} has chunks of {min(shared)!r} on both sides, so its figures would be too "
            "good; edgeaudio features validate lists such sounds"
        )
    return part


def _labelled(features: FeatureSet, chosen: NDArray[np.bool_]) -> Rows:
    return np.flatnonzero(chosen & features.labelled)


def upsampled(rows: Rows, targets: Rows, seed: int) -> Rows:
    """The rows with those of smaller classes repeated until all classes have as many.

    Whole repeats first; what is then missing is drawn without repetition.

    Args:
        rows: of the training part.
        targets: `(instances,)` class numbers of all instances.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    members = [rows[targets[rows] == target] for target in np.unique(targets[rows])]
    most = max(len(each) for each in members)
    filled = [
        np.concatenate([np.tile(each, most // len(each)), rng.choice(each, most % len(each), replace=False)])
        for each in members
    ]
    return np.concatenate(filled)

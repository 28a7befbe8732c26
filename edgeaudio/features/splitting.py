"""Random folds and partitions of a feature set: the chunks of a sound stay together, classes are balanced."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, MissingExtraError
from edgeaudio.features.featureset import PARTITIONS, TRAIN, VALID, FeatureSet


def with_folds(features: FeatureSet, count: int, seed: int = 0) -> FeatureSet:
    """Divide a set into folds; in each fold one part validates and all others train.

    Args:
        features: the set, labelled or not; folds that it has are replaced.
        count: number of folds, 2 or more.
        seed: of the random draw.

    Returns:
        The set with folds.

    Raises:
        DataError: there are fewer sounds than folds.
    """
    parts = np.arange(count)
    folds = np.where(_divided(features, count, seed)[:, None] == parts, VALID, TRAIN)
    return replace(features, folds=folds.astype(np.int8))


def with_partitions(features: FeatureSet, shares: Mapping[str, int], seed: int = 0) -> FeatureSet:
    """Divide a set into partitions.

    Args:
        features: the set, labelled or not; partitions that it has are replaced.
        shares: partition (train, devel, test) → its share; ``{"train": 3, "test": 1}`` is 75 % and 25 %.
        seed: of the random draw.

    Returns:
        The set with partitions.

    Raises:
        DataError: there are fewer sounds than shares.
    """
    numbers = [PARTITIONS.index(name) for name, share in shares.items() for _ in range(share)]
    parts = _divided(features, len(numbers), seed)
    return replace(features, partitions=np.array(numbers, np.int8)[parts])


def rare_classes(features: FeatureSet, parts: int) -> tuple[str, ...]:
    """Classes with fewer sounds than parts, so that some parts have none of them."""
    of = dict.fromkeys(zip(features.labels or (), features.filenames, strict=False))
    counts = {name: sum(label == name for label, _ in of) for name in features.classes}
    return tuple(name for name, count in counts.items() if 0 < count < parts)


def _divided(features: FeatureSet, parts: int, seed: int) -> NDArray[np.int64]:
    """`(instances,)` in which of the parts each is."""
    try:
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
    except ImportError:
        raise MissingExtraError(
            "folds need scikit-learn; install it with: pip install 'edgeaudio[train,features]'"
        ) from None
    sounds = features.sounds
    if parts > (count := len(np.unique(sounds))):
        raise DataError(f"{count} sounds can't be divided into {parts} parts; ask for fewer parts")
    labels = np.array(features.labels or [""] * len(features))
    _, counts = np.unique(labels, return_counts=True)
    stratified = len(counts) > 1 and counts.max() >= parts
    divider = (StratifiedGroupKFold if stratified else GroupKFold)(parts, shuffle=True, random_state=seed)
    part_of = np.zeros(len(features), np.int64)
    with warnings.catch_warnings():  # of rare classes; `rare_classes` names them
        warnings.simplefilter("ignore", UserWarning)
        for part, (_, rows) in enumerate(divider.split(labels, labels, sounds)):
            part_of[rows] = part
    return part_of

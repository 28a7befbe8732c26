"""What is in a feature set, for people who want to know before they train on it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError
from edgeaudio.features.checks import partition_name
from edgeaudio.features.featureset import MISSING, PARTITIONS, TRAIN, VALID, FeatureSet

UNLABELLED = "(none)"


def overview(features: FeatureSet) -> dict[str, Any]:
    """Size, axes, labels, folds and partitions of a set, as plain values.

    Args:
        features: the set; its features aren't looked at.

    Returns:
        ``instances``, ``sounds``, ``chunks`` (fewest and most of a sound), ``axes`` (name → size),
        ``labelled`` (instances), ``classes`` (name → number, instances, and those of each partition),
        ``folds``, ``overlapping_folds``, ``partitions`` (name → instances), ``attributes``.
    """
    sizes = np.bincount(features.sounds) if len(features) else np.zeros(1, np.int64)
    partitions = features.partitions
    return {
        "instances": len(features),
        "sounds": len(set(features.filenames)),
        "chunks": [int(sizes.min()), int(sizes.max())],
        "axes": dict(zip(features.dims, features.features.shape[1:], strict=True)),
        "labelled": int(features.labelled.sum()),
        "classes": _classes(features),
        "folds": features.fold_count,
        "overlapping_folds": features.folds is not None and bool((_validations(features) > 1).any()),
        "partitions": {} if partitions is None else _counts(partitions),
        "attributes": features.attributes,
    }


def instance(features: FeatureSet, row: int) -> dict[str, Any]:
    """All that a set says of one instance.

    Args:
        features: the set; its features aren't looked at.
        row: which instance, from 0 on.

    Returns:
        ``filename``, ``chunk``, ``label``, ``label_number``, ``folds`` (train or valid in each),
        ``partition`` and ``shape``; None where there is none.

    Raises:
        DataError: there is no such instance.
    """
    if not 0 <= row < len(features):
        raise DataError(f"there is no instance {row}; there are {len(features)}, numbered from 0 on")
    number = MISSING if features.label_ids is None else int(features.label_ids[row])
    folds = [] if features.folds is None else features.folds[row].tolist()
    return {
        "filename": features.filenames[row],
        "chunk": int(features.chunks[row]),
        "label": (features.labels[row] if features.labels else "") or None,
        "label_number": None if number == MISSING else number,
        "folds": [{TRAIN: "train", VALID: "valid"}.get(split) for split in folds],
        "partition": None if features.partitions is None else partition_name(int(features.partitions[row])),
        "shape": list(features.features.shape[1:]),
    }


def fold_table(features: FeatureSet, fold: int) -> list[dict[str, Any]]:
    """How many instances of each class are in the two parts of a fold.

    Args:
        features: the set; its features aren't looked at.
        fold: which fold, from 0 on.

    Returns:
        A row for each class: ``label``, ``train``, ``train_percent``, ``valid``, ``valid_percent``;
        percentages are of their part. Instances without a label come last.
    """
    assert features.folds is not None
    names = features.labels or ("",) * len(features)
    split = features.folds[:, fold].tolist()
    train, valid = (
        Counter(name for name, part in zip(names, split, strict=True) if part == which)
        for which in (TRAIN, VALID)
    )
    rest = [""] if "" in train or "" in valid else []
    return [
        {
            "label": name or UNLABELLED,
            "train": train[name],
            "train_percent": 100 * train[name] / max(train.total(), 1),
            "valid": valid[name],
            "valid_percent": 100 * valid[name] / max(valid.total(), 1),
        }
        for name in [*features.classes, *rest]
    ]


def _validations(features: FeatureSet) -> NDArray[np.int64]:
    """In how many folds' validation parts each instance is."""
    assert features.folds is not None
    return np.asarray((features.folds == VALID).sum(1), np.int64)


def _counts(partitions: NDArray[np.int8]) -> dict[str, int]:
    counts = {name: int((partitions == i).sum()) for i, name in enumerate(PARTITIONS)}
    return {name: count for name, count in counts.items() if count}


def _classes(features: FeatureSet) -> dict[str, dict[str, Any]]:
    if features.labels is None or features.label_ids is None:
        return {}
    numbers = features.label_map or dict(zip(features.labels, features.label_ids.tolist(), strict=True))
    labels = np.array(features.labels, object)
    found = {}
    for name in features.classes:
        mine = labels == name
        counts = {} if features.partitions is None else _counts(features.partitions[mine])
        found[name] = {"number": numbers[name], "instances": int(mine.sum()), **counts}
    return found

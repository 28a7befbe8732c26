"""A feature set: one row of features for each chunk of each sound, with labels, folds and partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError

PARTITIONS = ("train", "devel", "test")
"""Their numbers in a set are 0, 1, 2."""
TRAIN, VALID = 0, 1
"""What a fold says of an instance."""
UNASSIGNED = -1
"""In `FeatureSet.folds` and `partitions`: this instance has none, though others have."""
MISSING = -999999
"""In `FeatureSet.label_ids`: this instance has no label, though others have; the number is auDeep's."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of sounds; an instance is one chunk of one sound, and (sound, chunk) is unique.

    The data model is auDeep's, so its files are read and written without loss.
    """

    features: NDArray[np.float32]
    """`(instances, …)`, axes after the first as in `dims`."""
    dims: tuple[str, ...]
    """Names of the axes of an instance: ``("time", "freq")`` of spectrograms, ``("generated",)`` of vectors,
    ``("time", "generated")`` of an autoencoder that keeps the time."""
    filenames: tuple[str, ...]
    """`(instances,)` the sound that each comes from, relative to its data set."""
    chunks: NDArray[np.int64]
    """`(instances,)` number of the chunk in its sound, from 0 on."""
    labels: tuple[str, ...] | None = None
    """`(instances,)` class names; None of a set without labels. Where only some have one (a challenge keeps
    the test labels back), the others have an empty name and the number `MISSING`: see `labelled`."""
    label_ids: NDArray[np.int64] | None = None
    """`(instances,)` class numbers; there where `labels` are."""
    label_map: dict[str, int] | None = None
    """Class name → number, where the set says so."""
    folds: NDArray[np.int8] | None = None
    """`(instances, folds)`: in each fold an instance is of the training part (0) or the validation part (1);
    so folds may overlap. None without folds, `UNASSIGNED` (-1) where only this instance is of none."""
    partitions: NDArray[np.int8] | None = None
    """`(instances,)`: 0 train, 1 devel, 2 test; None without partitions, `UNASSIGNED` (-1) as in `folds`."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Where the features come from: plain values and strings."""

    def __post_init__(self) -> None:
        count = len(self.features)
        if self.features.ndim != 1 + len(self.dims):
            raise DataError(
                f"a feature set with the axes {', '.join(self.dims)} needs features of {1 + len(self.dims)} "
                f"axes; these have {self.features.ndim}"
            )
        for name in ("filenames", "chunks", "labels", "label_ids", "folds", "partitions"):
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise DataError(f"{len(value)} {name} for {count} instances of a feature set")
        if (self.labels is None) != (self.label_ids is None):
            raise DataError("a feature set has class names and class numbers, or neither")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by their numbers; empty without labels."""
        if self.label_map is not None:
            return tuple(sorted(self.label_map, key=self.label_map.__getitem__))
        if self.labels is None or self.label_ids is None:
            return ()
        found = {name: i for name, i in zip(self.labels, self.label_ids.tolist(), strict=True) if name}
        return tuple(sorted(found, key=found.__getitem__))

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """`(instances,)` whether each has a label."""
        return np.array([bool(name) for name in self.labels or [""] * len(self)], np.bool_)

    @property
    def sounds(self) -> NDArray[np.int64]:
        """`(instances,)` which sound each is of, numbered from 0 on as they appear."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name in self.filenames], np.int64)

    @property
    def fold_count(self) -> int:
        """Number of folds; 0 without."""
        return 0 if self.folds is None else self.folds.shape[1]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Features `(instances, all others)` as plain vectors."""
        return self.features.reshape(len(self), -1)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> FeatureSet:
        """The set of some of the instances, in that order."""
        rows = np.asarray(rows, np.int64)

        def some(values: Any) -> Any:
            if values is None:
                return None
            return tuple(values[i] for i in rows) if isinstance(values, tuple) else values[rows]

        names = ("features", "filenames", "chunks", "labels", "label_ids", "folds", "partitions")
        return replace(self, **{name: some(getattr(self, name)) for name in names})

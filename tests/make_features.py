"""Small feature sets for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeaudio.features.featureset import FeatureSet

NAMES = ("a.wav", "dir/b, c.wav", 'say "d".wav', "it's e.wav", "früh {f}.wav", "back\\g 100%.wav")
CLASSES = {"Rüde, laut": 1, "cat's {paw}": 0}


def make_features(
    chunks: int = 1, sounds: int = 6, shape: tuple[int, ...] = (5,), **fields: Any
) -> FeatureSet:
    """A labelled set; `fields` replace what it has."""
    count = sounds * chunks
    names = [NAMES[i] if i < len(NAMES) else f"{i}.wav" for i in range(sounds)]
    labels = [list(CLASSES)[i % 2] for i in range(sounds)]
    values: dict[str, Any] = {
        "features": np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32),
        "dims": ("generated",) if len(shape) == 1 else ("time", "freq"),
        "filenames": tuple(name for name in names for _ in range(chunks)),
        "chunks": np.tile(np.arange(chunks), sounds),
        "labels": tuple(label for label in labels for _ in range(chunks)),
        "label_ids": np.array([CLASSES[label] for label in labels for _ in range(chunks)]),
        "label_map": dict(CLASSES),
    }
    return FeatureSet(**values | fields)


def equal(one: FeatureSet, other: FeatureSet) -> bool:
    """Whether two sets say the same, features to the bit."""
    names = ("dims", "filenames", "labels", "label_map", "attributes")
    arrays = ("features", "chunks", "label_ids", "folds", "partitions")
    return all(getattr(one, n) == getattr(other, n) for n in names) and all(
        (a is None and b is None) or (a is not None and b is not None and a.tobytes() == b.tobytes())
        for a, b in ((getattr(one, n), getattr(other, n)) for n in arrays)
    )

"""Chunks of a sound → one label for the sound, with NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Vote:
    """What the chunks of each sound came to; sounds in the order of their names."""

    filenames: tuple[str, ...]
    """`(sounds,)`."""
    winners: NDArray[np.int64]
    """`(sounds,)` class numbers."""
    scores: NDArray[np.float32]
    """`(sounds, classes)` the mean of the chunks' scores; its highest class need not be the winner."""
    members: tuple[NDArray[np.int64], ...]
    """`(sounds,)` rows of each sound's chunks."""


def majority(filenames: Sequence[str], scores: NDArray[np.floating[Any]]) -> Vote:
    """The class that most chunks of a sound were taken for.

    Of classes with as many votes, the one with the highest sum of scores over all chunks of the sound wins,
    whatever the classes' numbers.

    Args:
        filenames: `(chunks,)` the sound of each chunk.
        scores: `(chunks, classes)`.
    """
    sounds, sound_of = np.unique(np.asarray(filenames, dtype=object).astype(str), return_inverse=True)
    votes, sums = np.zeros((2, len(sounds), scores.shape[1]))
    np.add.at(votes, (sound_of, scores.argmax(axis=1)), 1)
    np.add.at(sums, sound_of, scores)
    leading = votes == votes.max(axis=1, keepdims=True)
    order = np.argsort(sound_of, kind="stable")
    counts = np.bincount(sound_of, minlength=len(sounds))
    return Vote(
        filenames=tuple(sounds.tolist()),
        winners=np.where(leading, sums, -np.inf).argmax(axis=1),
        scores=(sums / counts[:, None]).astype(np.float32),
        members=tuple(np.split(order, np.cumsum(counts)[:-1])),
    )

"""Stretches of time of one verdict, and how times and shares are written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from edgeaudio.segments.evaluate import Evaluation
from edgeaudio.segments.figures import Laid
from edgeaudio.segments.grid import Grid

BETWEEN = " + "
"""Between labels that sound at a time."""


def percent(share: float | None) -> str:
    """A share as a terminal shows it."""
    return "–" if share is None else f"{100 * share:.1f} %"


def clock(seconds: float) -> str:
    """``7.5 s``, ``3:07`` or ``1:03:07``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def stretches(evaluation: Evaluation) -> Iterator[tuple[str, float, float, str, str, str]]:
    """Stretches in which neither truth nor prediction changes, recording by recording.

    Yields:
        Recording, start and end in seconds, labels of the truth, labels predicted, and the verdict:
        ``right``, ``wrong``, ``ignored``, or ``no truth`` where that says nothing.
    """
    for track, laid in zip(evaluation.tracks, evaluation.laid, strict=True):
        edges = track.grid.edges
        verdicts = _verdicts(laid, evaluation.silent)
        for first, last in runs(laid):
            yield (
                track.name, float(edges[first]), float(edges[last]),
                _names(laid.truth[first], evaluation.labels),
                _names(laid.predicted[first], evaluation.labels), verdicts[first],
            )  # fmt: skip


def runs(laid: Laid) -> list[tuple[int, int]]:
    """First cell, and the one after the last, of each stretch in which nothing changes."""
    rows = np.concatenate([laid.truth, laid.predicted, laid.apart[:, None]], axis=1)
    turns = [0, *(np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1).tolist(), len(rows)]
    return list(pairwise(turns))


def wrong_stretches(laid: Laid, grid: Grid, silent: bool) -> list[tuple[float, float]]:
    """Start and end in seconds of the stretches that are wrong."""
    wrong = laid.counted(silent) & ~laid.right()
    edges = grid.edges
    turns = np.flatnonzero(np.diff(np.concatenate([[False], wrong, [False]])))
    return [(float(edges[first]), float(edges[last])) for first, last in turns.reshape(-1, 2)]


def _verdicts(laid: Laid, silent: bool) -> list[str]:
    counted, right = laid.counted(silent), laid.right()
    words = np.where(right, "right", "wrong")
    return np.where(counted, words, np.where(laid.apart, "ignored", "no truth")).tolist()  # type: ignore[no-any-return]


def _names(row: np.ndarray[Any, Any], labels: tuple[str, ...]) -> str:
    return BETWEEN.join(labels[i] for i in np.flatnonzero(row))

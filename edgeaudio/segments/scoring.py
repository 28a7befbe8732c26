"""Scores of a recording's windows → what is predicted from when to when.

Windows overlap, so each cell of the grid takes the mean of the windows that cover its middle. A bundle of one
label predicts the class with the highest score; thresholds make events as `edgeaudio predict --events` does,
with cells in place of windows, and where they leave several classes the one with the highest score stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import EdgeAudioError
from edgeaudio.events import Rules, merge
from edgeaudio.predictor import Prediction, WindowScore
from edgeaudio.segments.grid import Grid
from edgeaudio.segments.reading import Segment

Scores = NDArray[np.float32]
"""`(cells, labels)`; NaN in cells that no window covers."""


@dataclass(frozen=True)
class Decision:
    """How scores become predictions.

    Raises:
        EdgeAudioError: a negative smoothing.
    """

    rules: Rules = field(default_factory=Rules)
    """Thresholds, least duration and largest gap."""
    thresholded: bool = False
    """Hold the scores of a bundle of one label against the thresholds too, instead of taking the highest."""
    smooth: float = 0.0
    """Seconds over which scores are averaged before; 0 leaves them as they are."""

    def __post_init__(self) -> None:
        if not self.smooth >= 0:
            raise EdgeAudioError(f"the smoothing is {self.smooth:g} s; it can't be negative")
        if self.rules.low is not None and not self.thresholded:
            raise EdgeAudioError("the lower threshold goes with a threshold; add --threshold")


def cell_scores(prediction: Prediction, grid: Grid, smooth: float = 0.0) -> Scores:
    """Mean score of the windows that cover each cell's middle.

    Args:
        prediction: of the whole recording, with its windows.
        grid: the recording's.
        smooth: seconds; each cell then takes the mean of the cells about it.
    """
    middles = grid.middles
    first = np.searchsorted(prediction.ends, middles, side="right")
    last = np.searchsorted(prediction.starts, middles, side="right")
    scores = _means(prediction.window_scores, first, last)
    half = round(smooth / grid.resolution) // 2
    if not half:
        return scores
    places = np.arange(len(scores))
    return _means(scores, np.maximum(places - half, 0), np.minimum(places + half + 1, len(scores)))


def _means(rows: Scores, first: NDArray[np.intp], last: NDArray[np.intp]) -> Scores:
    """Means of rows `first` … `last - 1`, of those that aren't NaN; NaN where there is none."""
    there = np.asarray(~np.isnan(rows).any(axis=1))
    sums = np.cumsum(np.where(there[:, None], rows, 0.0), axis=0, dtype=np.float64)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), sums])
    counts = np.concatenate([[0], np.cumsum(there)])
    last = np.maximum(first, last)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
        means = (sums[last] - sums[first]) / (counts[last] - counts[first])[:, None]
    return np.asarray(means, np.float32)


def predicted(
    scores: Scores, grid: Grid, labels: tuple[str, ...], several: bool, decision: Decision
) -> list[Segment]:
    """What scores say sounds from when to when.

    Args:
        scores: `(cells, labels)`.
        grid: the recording's.
        labels: the bundle's.
        several: whether several labels may sound at a time; else every cell has one at most.
        decision: thresholds and times.

    Raises:
        EdgeAudioError: a threshold of an unknown class.
    """
    decision.rules.check(labels)
    voted = scores if several or decision.thresholded else _winners(scores)
    edges = grid.edges.tolist()
    windows = (
        WindowScore(start, end, False, row, labels, 0.0)
        for start, end, row in zip(edges[:-1], edges[1:], voted, strict=True)
    )
    segments = [Segment(event.start, event.end, event.label) for event in merge(windows, decision.rules)]
    cells = grid.draw(segments, labels)
    if not several:
        best = np.where(cells, np.nan_to_num(scores, nan=-1.0), -np.inf).argmax(axis=1)
        cells &= np.arange(len(labels)) == best[:, None]
    return grid.trace(cells, labels)


def _winners(scores: Scores) -> Scores:
    """1 for the highest score of each row, 0 for the others."""
    there = np.asarray(~np.isnan(scores).any(axis=1))
    best = np.nan_to_num(scores).argmax(axis=1)
    return np.asarray((np.arange(scores.shape[1]) == best[:, None]) & there[:, None], np.float32)

"""Segments on a grid of time, and back.

A cell of the grid is true for a label where a segment of it covers the cell's middle. So a boundary is moved
by half a cell at most, and cells say the same however a segment is cut into touching ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeaudio.segments.reading import DIGITS, Segment

Cells = NDArray[np.bool_]
"""`(cells, labels)`: what sounds in which cell."""

_CLOSE = 1e-6  # seconds: segments no further apart touch


@dataclass(frozen=True)
class Grid:
    """A recording cut into cells of equal length."""

    seconds: float
    """Length of the recording."""
    resolution: float
    """Length of a cell in seconds."""

    @property
    def cells(self) -> int:
        """How many cells have their middle within the recording; at least one."""
        return max(1, math.ceil(self.seconds / self.resolution - 0.5))

    @property
    def middles(self) -> NDArray[np.float64]:
        """`(cells,)` seconds."""
        return np.asarray((np.arange(self.cells) + 0.5) * self.resolution)

    @property
    def edges(self) -> NDArray[np.float64]:
        """`(cells + 1,)` seconds; the last is the end of the recording."""
        edges = np.round(np.arange(self.cells + 1) * self.resolution, DIGITS)
        edges[-1] = round(self.seconds, DIGITS)
        return edges

    def draw(self, segments: Iterable[Segment], labels: Sequence[str]) -> Cells:
        """Which label covers which cell's middle; segments of other labels are passed over."""
        column = {label: i for i, label in enumerate(labels)}
        cells, middles = np.zeros((self.cells, len(labels)), bool), self.middles
        for segment in segments:
            if (i := column.get(segment.label)) is not None:
                first, last = np.searchsorted(middles, (segment.start, segment.end))
                cells[first:last, i] = True
        return cells

    def trace(self, cells: Cells, labels: Sequence[str]) -> list[Segment]:
        """Runs of cells as segments, by their start."""
        found, edges = [], self.edges
        for i in np.flatnonzero(cells.any(axis=0)).tolist():
            turns = np.flatnonzero(np.diff(np.concatenate([[False], cells[:, i], [False]])))
            for first, last in turns.reshape(-1, 2):
                found.append(Segment(float(edges[first]), float(edges[last]), labels[i]))
        return sorted(found, key=lambda segment: (segment.start, segment.label))


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Segments of one label that touch or overlap made one; by their start."""
    done: list[Segment] = []
    open_: dict[str, Segment] = {}
    for segment in sorted(segments, key=lambda s: (s.start, s.end)):
        before = open_.get(segment.label)
        if before is None or segment.start > before.end + _CLOSE:
            if before is not None:
                done.append(before)
            open_[segment.label] = segment
        elif segment.end > before.end:
            open_[segment.label] = Segment(before.start, segment.end, before.label, before.line, before.path)
    return sorted([*done, *open_.values()], key=lambda s: (s.start, s.label))


def without(segments: Iterable[Segment], stretches: Sequence[Segment]) -> list[Segment]:
    """What is left of segments outside of some stretches, whatever those are labelled."""
    left = list(segments)
    for hole in joined(Segment(s.start, s.end, "") for s in stretches):
        pieces = []
        for segment in left:
            if segment.end <= hole.start or segment.start >= hole.end:
                pieces.append(segment)
                continue
            for start, end in ((segment.start, hole.start), (hole.end, segment.end)):
                if end - start > _CLOSE:
                    pieces.append(Segment(start, end, segment.label, segment.line, segment.path))
        left = pieces
    return sorted(left, key=lambda s: (s.start, s.label))


def mostly_outside(segments: Iterable[Segment], stretches: Sequence[Segment]) -> list[Segment]:
    """The segments of which less than half lies in some stretches; whole, with the ends they had."""
    return [
        segment
        for segment in segments
        if sum(left.end - left.start for left in without([segment], stretches))
        > (segment.end - segment.start) / 2
    ]


def seconds_of(segments: Iterable[Segment]) -> dict[str, float]:
    """Label → seconds in all, the longest first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[segment.label] = seconds.get(segment.label, 0.0) + segment.end - segment.start
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))

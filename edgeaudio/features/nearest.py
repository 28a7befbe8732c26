"""Which vectors lie nearest to others, and how well that finds what has the same label.

Distances are computed in float64: ``euclidean``, or ``cosine`` = 1 − cos of the angle, from 0 (same
direction) to 2 (opposite). A vector of zeros has no direction; its cosine distance to all is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

METRICS = ("cosine", "euclidean")
_VECTORS, _QUERIES = 8192, 256  # distances that are held at once

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def nearest(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], metric: str, k: int
) -> tuple[Rows, Floats]:
    """The `k` nearest vectors of each query, the nearest first; of equally near ones the lower row.

    Args:
        vectors: `(vectors, features)`.
        queries: `(queries, features)`.
        metric: one of `METRICS`.
        k: how many; all where there are fewer.

    Returns:
        Rows and distances, both `(queries, k)`.
    """
    parts = [_nearest(vectors, block, metric, min(k, len(vectors))) for block in _blocks(queries, _QUERIES)]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([distances for _, distances in parts])


def _nearest(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], metric: str, k: int
) -> tuple[Rows, Floats]:
    best, best_rows = np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _VECTORS):
        found = distances(queries, vectors[start : start + _VECTORS], metric)
        rows = np.broadcast_to(np.arange(start, start + found.shape[1]), found.shape)
        best, best_rows = np.hstack([best, found]), np.hstack([best_rows, rows])
        order = np.argsort(best, axis=1, kind="stable")[:, :k]
        best, best_rows = np.take_along_axis(best, order, 1), np.take_along_axis(best_rows, order, 1)
    return refined(vectors, queries, metric, best_rows)


def refined(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], metric: str, rows: Rows
) -> tuple[Rows, Floats]:
    """Candidates `(queries, k)` in the order of their distances, which are computed to the last digits.

    Sums of squares less twice a product lose what is common to both; differences don't.
    """
    out = np.empty(rows.shape)
    for i, query in enumerate(np.asarray(queries, np.float64)):
        near = np.asarray(vectors[rows[i]], np.float64)
        if metric == "euclidean":
            out[i] = np.linalg.norm(near - query, axis=1)
        else:  # |a/|a| − b/|b||² = 2 − 2 cos
            out[i] = np.square(unit(near) - unit(query[None])).sum(axis=1) / 2
            out[i][~near.any(axis=1) | (not query.any())] = 1
    order = np.lexsort((rows, out), axis=1)
    return np.take_along_axis(rows, order, 1), np.take_along_axis(out, order, 1)


def distances(queries: NDArray[np.float32], vectors: NDArray[np.float32], metric: str) -> Floats:
    """All distances `(queries, vectors)`, by one matrix product."""
    a, b = np.asarray(queries, np.float64), np.asarray(vectors, np.float64)
    if metric == "cosine":
        return np.asarray(1 - unit(a) @ unit(b).T)
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1; those of length 0 stay as they are."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))


def _blocks(values: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, max(1, len(values)), size):
        yield values[start : start + size]


# ── how well it finds ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Retrieval:
    """What each row, taken as a query, found among the rows of other sounds."""

    rows: Rows
    """`(queries,)` those of which the label has another sound."""
    average_precision: Floats
    """`(queries,)`."""
    precision: dict[int, Floats]
    """k → `(queries,)` share of the k nearest that have the query's label."""


def retrieval(
    vectors: NDArray[np.float32],
    metric: str,
    labels: Sequence[str],
    sounds: Sequence[str],
    tops: Sequence[int] = (1, 5, 10),
    track: Callable[[range], Iterator[int]] = iter,
) -> Retrieval:
    """Take every row as a query, and its own sound out of what is searched.

    Average precision is the mean, over the rows of the query's label, of the share of that label among all
    that are ranked up to there; it looks at the whole ranking.

    Args:
        vectors: `(rows, features)`.
        metric: one of `METRICS`.
        labels: `(rows,)`; empty where there is none: such rows are found, but ask nothing.
        sounds: `(rows,)` which sound each is of.
        tops: the k of precision at k.
        track: wraps the blocks of queries, for a progress bar.

    Source: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, chapter 8.4.
    """
    label = np.unique(np.asarray(labels), return_inverse=True)[1]
    sound = np.unique(np.asarray(sounds), return_inverse=True)[1]
    named = np.array([bool(name) for name in labels])
    asked, precisions = [], []
    shares: dict[int, list[Floats]] = {k: [] for k in tops}
    for start in track(range(0, len(vectors), _QUERIES)):
        rows = np.arange(start, min(start + _QUERIES, len(vectors)))
        own = sound[rows, None] == sound
        relevant = (label[rows, None] == label) & ~own
        keep = relevant.any(axis=1) & named[rows]
        rows, own, relevant = rows[keep], own[keep], relevant[keep]
        found = distances(vectors[rows], vectors, metric)
        found[own] = np.inf
        hits = np.take_along_axis(relevant, np.argsort(found, axis=1, kind="stable"), 1)
        shares_so_far = np.cumsum(hits, axis=1) / np.arange(1, len(vectors) + 1)
        asked.append(rows)
        precisions.append((shares_so_far * hits).sum(axis=1) / hits.sum(axis=1))
        for k in tops:
            shares[k].append(hits[:, :k].mean(axis=1))
    return Retrieval(
        np.concatenate(asked),
        np.concatenate(precisions),
        {k: np.concatenate(each) for k, each in shares.items()},
    )

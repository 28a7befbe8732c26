"""A classifier's answers on a feature set, as rows, TSV or JSON; NumPy and ONNX Runtime alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeaudio.features.featureset import FeatureSet
from edgeaudio.shallow.classifier import Classifier
from edgeaudio.shallow.voting import majority


@dataclass(frozen=True)
class Row:
    """One answer."""

    filename: str
    chunk: int | None
    """None where the chunks of a sound vote."""
    label: str
    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    """`(classes,)`; the mean over the chunks where these vote."""
    truth: str
    """The set's own label; empty where it has none."""


def predict(classifier: Classifier, features: FeatureSet, where: str, *, vote: bool = False) -> list[Row]:
    """Answers on all instances, or on all sounds, sorted by filename and chunk.

    Args:
        classifier: opened.
        features: of the kind that it learnt from.
        where: what an error calls them.
        vote: whether the chunks of a sound give one answer; see `edgeaudio.shallow.voting.majority`.

    Raises:
        DataError: another number of features.
    """
    scores, labels = classifier(features.vectors, where), classifier.labels
    truth = features.labels or ("",) * len(features)
    if vote:
        voted = majority(features.filenames, scores)
        return [
            Row(name, None, labels[winner], labels, row, truth[members[0]])
            for name, winner, row, members in zip(
                voted.filenames, voted.winners.tolist(), voted.scores, voted.members, strict=True
            )
        ]
    order = sorted(range(len(features)), key=lambda i: (features.filenames[i], features.chunks[i]))
    best = scores.argmax(axis=1)
    return [
        Row(features.filenames[i], int(features.chunks[i]), labels[best[i]], labels, scores[i], truth[i])
        for i in order
    ]


def as_tsv(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """``filename<TAB>label`` lines without a header, as auDeep writes them.

    Args:
        rows: the answers.
        columns: class names; then there is a header, the chunk and a score for each class.
    """
    out = io.StringIO()
    table = csv.writer(out, delimiter="\t", lineterminator="\n")
    if columns is not None:
        table.writerow(["filename", "chunk", "label", *columns])
    for row in rows:
        if columns is None:
            table.writerow([row.filename, row.label])
        else:
            chunk = "" if row.chunk is None else row.chunk
            table.writerow([row.filename, chunk, row.label, *(f"{score:.6f}" for score in row.scores)])
    return out.getvalue()


def as_json(rows: Sequence[Row]) -> str:
    """One array, an object each answer, with all scores."""
    items = [
        {
            "filename": row.filename,
            **({} if row.chunk is None else {"chunk": row.chunk}),
            "label": row.label,
            "score": round(float(row.scores[row.labels.index(row.label)]), 6),
            "scores": {name: round(float(s), 6) for name, s in zip(row.labels, row.scores, strict=True)},
        }
        for row in rows
    ]
    return json.dumps(items, indent=1, ensure_ascii=False) + "\n"

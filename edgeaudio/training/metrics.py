"""How good scores are: accuracy, macro accuracy, log loss, per class, per device, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Metrics:
    """Quality of clip scores against the truth."""

    clips: int
    accuracy: float
    """Share of clips whose highest score is the right class."""
    macro_accuracy: float
    """Mean of the classes' accuracies: every class counts the same."""
    log_loss: float
    """Mean negative logarithm of the right class's score."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows: truth; columns: prediction."""

    @property
    def per_class(self) -> list[float | None]:
        """Accuracy of each class; None where it has no clip."""
        rows = np.asarray(self.confusion)
        return [float(r[i] / r.sum()) if r.sum() else None for i, r in enumerate(rows)]

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {
            "clips": self.clips,
            "accuracy": self.accuracy,
            "macro_accuracy": self.macro_accuracy,
            "log_loss": self.log_loss,
            "confusion": [list(row) for row in self.confusion],
        }


def clip_metrics(scores: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> Metrics:
    """Metrics of scores `(clips, classes)`, which sum to 1, against class indices `(clips,)`."""
    scores = np.asarray(scores, dtype=np.float64)
    classes = scores.shape[1]
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    counts = confusion.sum(axis=1)
    present = counts > 0
    right = scores[np.arange(len(targets)), targets]
    return Metrics(
        clips=len(targets),
        accuracy=float(np.mean(predicted == targets)),
        macro_accuracy=float(np.mean(confusion.diagonal()[present] / counts[present])),
        log_loss=float(-np.mean(np.log(np.maximum(right, 1e-12)))),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def accuracy_by(
    names: Sequence[str], scores: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]
) -> dict[str, tuple[int, float]]:
    """Number of clips and accuracy for each distinct name (a device, say); one name a clip."""
    right = np.asarray(scores).argmax(axis=1) == np.asarray(targets)
    groups = np.asarray(names)
    return {
        str(name): (int((groups == name).sum()), float(right[groups == name].mean()))
        for name in np.unique(groups)
    }

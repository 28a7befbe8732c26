"""How much of the time a prediction is right, counted in the cells of a grid.

A cell is right where the predicted labels are those of the truth, no more and no fewer. A cell without truth
either says that nothing sounds, and counts, or says nothing, and doesn't. Precision, recall and F1 of a class
are those of its cells that count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.segments.grid import Cells

NOTHING = "(nothing)"
"""Last row and column of the confusion matrix: cells without a label."""


@dataclass(frozen=True)
class Laid:
    """Truth and prediction of recordings, laid on the same grid."""

    truth: Cells
    """`(cells, labels)`."""
    predicted: Cells
    """`(cells, labels)`."""
    told: NDArray[np.bool_]
    """`(cells,)` of which the truth is told by a label."""
    apart: NDArray[np.bool_]
    """`(cells,)` what is neither right nor wrong: the truth there is ignored."""

    @property
    def overlaps(self) -> NDArray[np.bool_]:
        """`(cells,)` those with several labels, in truth or prediction."""
        return np.asarray((self.truth.sum(axis=1) > 1) | (self.predicted.sum(axis=1) > 1))

    def counted(self, silent: bool) -> NDArray[np.bool_]:
        """`(cells,)` those that are right or wrong; `silent` counts those without truth too."""
        return ~self.apart if silent else ~self.apart & self.truth.any(axis=1)

    def right(self) -> NDArray[np.bool_]:
        """`(cells,)` whether the labels are the same."""
        return np.asarray((self.truth == self.predicted).all(axis=1))


@dataclass(frozen=True)
class ClassCounts:
    """Cells or segments or events of one class, and the ratios that follow from them."""

    truth: float
    """Of the truth."""
    predicted: float
    """Of the prediction."""
    hits: float
    """Of both."""

    @property
    def precision(self) -> float | None:
        """Share of the prediction that is right; None where nothing was predicted."""
        return self.hits / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the truth that was predicted; None where there is no truth."""
        return self.hits / self.truth if self.truth else None

    @property
    def f1(self) -> float | None:
        """2 hits / (truth + predicted): 0 for a class that is never predicted; None without either."""
        both = self.truth + self.predicted
        return 2 * self.hits / both if both else None

    def to_json(self) -> dict[str, float | None]:
        """The ratios, rounded."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: rounded(value) for name, value in ratios.items()}


@dataclass(frozen=True)
class TimeFigures:
    """Figures of the grid, in seconds and shares."""

    seconds: float
    """Length of the recordings."""
    told: float
    """Share of it of which the truth is told."""
    ignored: float
    """Share of it in which the truth is ignored."""
    counted: float
    """Seconds that are right or wrong."""
    accuracy: float | None
    """Share of the counted time in which the labels are the same; None where none is counted."""
    per_class: dict[str, ClassCounts]
    """Class → its seconds."""
    confusion: NDArray[np.float64] | None
    """`(labels + 1, labels + 1)` seconds; rows of truth, the last for nothing; None with several labels."""

    @property
    def macro_f1(self) -> float | None:
        """Mean F1 of the classes that have truth."""
        return mean(counts.f1 for counts in self.per_class.values() if counts.truth)

    @property
    def macro_recall(self) -> float | None:
        """Mean recall of the classes that have truth (UAR, balanced accuracy)."""
        return mean(counts.recall for counts in self.per_class.values() if counts.truth)

    @property
    def overall(self) -> ClassCounts:
        """All classes together: micro averages."""
        return total(self.per_class.values())

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON values."""
        classes = {
            label: {
                "truth_seconds": round(counts.truth, 3),
                "predicted_seconds": round(counts.predicted, 3),
                **counts.to_json(),
            }
            for label, counts in self.per_class.items()
        }
        return {
            "seconds": round(self.seconds, 3),
            "told": rounded(self.told),
            "untold": rounded(1 - self.told - self.ignored),
            "ignored": rounded(self.ignored),
            "counted_seconds": round(self.counted, 3),
            "accuracy": rounded(self.accuracy),
            "macro_recall": rounded(self.macro_recall),
            "macro_f1": rounded(self.macro_f1),
            "micro": self.overall.to_json(),
            "per_class": classes,
            "confusion": self._confusion_json(),
        }

    def _confusion_json(self) -> dict[str, Any] | None:
        if self.confusion is None:
            return None
        rows = [label for label, counts in self.per_class.items() if counts.truth]
        rows += [NOTHING] if self.confusion[-1].any() else []
        kept = [label for label, counts in self.per_class.items() if counts.truth or counts.predicted]
        place = {label: i for i, label in enumerate([*self.per_class, NOTHING])}
        columns = [*kept, NOTHING]
        picked = self.confusion[np.ix_([place[r] for r in rows], [place[c] for c in columns])]
        return {"truth": rows, "predicted": columns, "seconds": np.round(picked, 3).tolist()}


def time_figures(
    laid: Laid, labels: tuple[str, ...], resolution: float, several: bool, silent: bool
) -> TimeFigures:
    """Count the cells.

    Args:
        laid: truth and prediction `(cells, labels)`.
        labels: names of the columns.
        resolution: seconds of a cell.
        several: whether several labels may sound at a time.
        silent: whether cells without truth say that nothing sounds.
    """
    counted = laid.counted(silent)
    truth, predicted = laid.truth[counted], laid.predicted[counted]
    columns = (truth.sum(axis=0), predicted.sum(axis=0), (truth & predicted).sum(axis=0))
    per_class = {
        label: ClassCounts(*(float(resolution * n) for n in numbers))
        for label, *numbers in zip(labels, *columns, strict=True)
    }
    cells = len(counted)
    return TimeFigures(
        seconds=resolution * cells,
        told=float(laid.told.sum() / cells),
        ignored=float(laid.apart.sum() / cells),
        counted=float(resolution * counted.sum()),
        accuracy=float(laid.right()[counted].mean()) if counted.any() else None,
        per_class=per_class,
        confusion=None if several else _confusion(truth, predicted) * resolution,
    )


def _confusion(truth: Cells, predicted: Cells) -> NDArray[np.float64]:
    """Cells by their one label of the truth and of the prediction; the last column for none."""
    side = truth.shape[1] + 1
    rows, columns = (np.where(c.any(axis=1), c.argmax(axis=1), side - 1) for c in (truth, predicted))
    return np.bincount(rows * side + columns, minlength=side**2).reshape(side, side).astype(np.float64)


def stacked(parts: Sequence[Laid]) -> Laid:
    """Several recordings as one."""
    return Laid(
        truth=np.concatenate([part.truth for part in parts]),
        predicted=np.concatenate([part.predicted for part in parts]),
        told=np.concatenate([part.told for part in parts]),
        apart=np.concatenate([part.apart for part in parts]),
    )


def total(counts: Iterable[ClassCounts]) -> ClassCounts:
    """The sum of some counts."""
    rows = [(c.truth, c.predicted, c.hits) for c in counts]
    return (
        ClassCounts(*(float(sum(column)) for column in zip(*rows, strict=True)))
        if rows
        else ClassCounts(0, 0, 0)
    )


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there; None where none is."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def rounded(value: float | None) -> float | None:
    """As it stands in JSON."""
    return None if value is None else round(value, 6)

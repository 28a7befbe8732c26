"""How good scores are, where a clip has one label and where it may have several.

One label: accuracy, macro accuracy, log loss, confusion. Several: mean average precision, label-weighted
ranking precision, F1, log loss of each class's yes or no. Which it is follows from the truth that is given:
class indices, or a row of ones and zeros for each clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

ACCURACY, MEAN_AP = "accuracy", "mAP"
TITLES = {
    "accuracy": "accuracy",
    "macro_accuracy": "macro accuracy",
    "mAP": "mAP",
    "lwlrap": "label-weighted ranking precision",
    "micro_f1": "F1 at 0.5 of all labels",
    "macro_f1": "F1 at 0.5, mean of the classes",
    "log_loss": "log loss",
}
"""Figure, as JSON calls it → what a table calls it."""
Scores = NDArray[np.floating[Any]]
Truth = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
"""`(clips,)` class indices, or `(clips, classes)` a 1 for each of a clip's labels."""
_FLOOR = 1e-12


@dataclass(frozen=True)
class Metrics:
    """Quality of clip scores against the truth, one label a clip."""

    figure: ClassVar[str] = ACCURACY
    """The figure that stands for all: as JSON calls it, and the bound on integers takes it."""
    class_figure: ClassVar[str] = "accuracy"
    """What is told of each class."""
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
    def value(self) -> float:
        """Of the figure that stands for all."""
        return self.accuracy

    @property
    def counts(self) -> list[int]:
        """Clips of each class."""
        return [sum(row) for row in self.confusion]

    @property
    def per_class(self) -> list[float | None]:
        """Accuracy of each class; None where it has no clip."""
        rows = np.asarray(self.confusion)
        return [float(r[i] / r.sum()) if r.sum() else None for i, r in enumerate(rows)]

    @property
    def summary(self) -> dict[str, float]:
        """The figures that a table of models shows."""
        return {name: getattr(self, name) for name in ("accuracy", "macro_accuracy", "log_loss")}

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {"clips": self.clips, **self.summary, "confusion": [list(row) for row in self.confusion]}


@dataclass(frozen=True)
class SeveralMetrics:
    """Quality of clip scores against the truth, several labels a clip.

    Source: Fonseca et al., "FSD50K", 2022 (mAP, over classes); Fonseca et al., "Audio tagging with noisy
    labels and minimal supervision", DCASE 2019 (label-weighted label-ranking average precision).
    """

    figure: ClassVar[str] = MEAN_AP
    class_figure: ClassVar[str] = "AP"
    clips: int
    counts: tuple[int, ...]
    """Clips of each class."""
    per_class: tuple[float | None, ...]
    """Average precision of each class; None where no clip has it."""
    lwlrap: float
    """Mean over all labels: of the classes that a clip's scores put no lower than the label, the share that
    are labels of the clip."""
    micro_f1: float
    """F1 of all decisions together, a score of 0.5 or more being a yes."""
    macro_f1: float
    """Mean of the classes' F1, over classes that occur."""
    log_loss: float
    """Mean binary cross-entropy over clips and classes."""

    @property
    def value(self) -> float:
        """Mean average precision over the classes that occur: every class counts the same."""
        return float(np.mean([each for each in self.per_class if each is not None]))

    @property
    def summary(self) -> dict[str, float]:
        """The figures that a table of models shows."""
        rest = {name: getattr(self, name) for name in ("lwlrap", "micro_f1", "macro_f1", "log_loss")}
        return {MEAN_AP: self.value, **rest}

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {"clips": self.clips, **self.summary}


def clip_metrics(scores: Scores, truth: Truth) -> Metrics | SeveralMetrics:
    """Metrics of scores `(clips, classes)`: with sum 1 against class indices, each by itself against rows."""
    exact: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    return _one(exact, truth.astype(np.int64)) if truth.ndim == 1 else _several(exact, truth > 0)


def quality(scores: Scores, truth: Truth) -> float:
    """Accuracy, or mAP for several labels; both rest on the order alone, so logits do as well as scores."""
    if truth.ndim == 1:
        return float(np.mean(np.asarray(scores).argmax(axis=1) == truth))
    found = _precisions(np.asarray(scores), truth > 0)
    return float(np.mean([each for each in found if each is not None]))


def quality_by(names: Sequence[str], scores: Scores, truth: Truth) -> dict[str, tuple[int, float]]:
    """Number of clips and their `quality` for each distinct name (a device, say); one name a clip."""
    groups, scores = np.asarray(names), np.asarray(scores)
    return {
        str(name): (int((groups == name).sum()), quality(scores[groups == name], truth[groups == name]))
        for name in np.unique(groups)
    }


def figure_of(row: Mapping[str, Any]) -> str:
    """The figure that stands for all in a row of JSON: ``mAP`` where it is told, else ``accuracy``."""
    return MEAN_AP if MEAN_AP in row else ACCURACY


def quality_of(row: Mapping[str, Any]) -> Any:
    """Its value."""
    return row[figure_of(row)]


def share_in_words(row: Mapping[str, Any], width: int = 0, digits: int = 2) -> str:
    """``93.75 %`` of a row of JSON, or ``45.20 % mAP``: a share without a name is the accuracy."""
    name = "" if figure_of(row) == ACCURACY else f" {figure_of(row)}"
    return f"{100 * quality_of(row):{width}.{digits}f} %{name}"


# ── one label ────────────────────────────────────────────────────────────────────────────────────


def _one(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> Metrics:
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
        log_loss=float(-np.mean(np.log(np.maximum(right, _FLOOR)))),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


# ── several labels ───────────────────────────────────────────────────────────────────────────────


def _several(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> SeveralMetrics:
    counts = truth.sum(axis=0)
    said = scores >= 0.5
    hits, wanted = (truth & said).sum(axis=0), counts + said.sum(axis=0)  # F1 = 2·hits / (labels + yeses)
    f1 = 2 * hits / np.maximum(wanted, 1)
    sure = np.clip(np.where(truth, scores, 1 - scores), _FLOOR, None)
    return SeveralMetrics(
        clips=len(truth),
        counts=tuple(int(n) for n in counts),
        per_class=tuple(_precisions(scores, truth)),
        lwlrap=_lwlrap(scores, truth),
        micro_f1=float(2 * hits.sum() / max(int(wanted.sum()), 1)),
        macro_f1=float(np.mean(f1[counts > 0])),
        log_loss=float(-np.mean(np.log(sure))),
    )


def _precisions(scores: Scores, truth: NDArray[np.bool_]) -> list[float | None]:
    """Average precision of each class; None where no clip has it."""
    columns = zip(scores.T, truth.T, strict=True)
    return [average_precision(column, has) if has.any() else None for column, has in columns]


def average_precision(scores: Scores, truth: NDArray[np.bool_]) -> float:
    """Mean precision at the places of the clips that have the class, `(clips,)` both, one at least having it.

    Clips with the same score are found together: AP = Σₙ (Rₙ − Rₙ₋₁)·Pₙ over the distinct scores, from the
    highest down, with recall R and precision P of all that score no less.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of those with the same score
    found = np.cumsum(truth[order])[last]
    taken = np.flatnonzero(last) + 1
    return float(np.sum(np.diff(found, prepend=0) * found / taken) / found[-1])


def _lwlrap(scores: Scores, truth: NDArray[np.bool_]) -> float:
    total = 0.0
    for row, has in zip(scores, truth, strict=True):
        # for each label of the clip: all classes, and all labels, that score no lower
        above, right = (np.sum(part >= row[has, None], axis=1) for part in (row, row[has]))
        total += float(np.sum(right / above))
    return total / int(truth.sum())

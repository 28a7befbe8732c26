"""How well a learner does on a set: over its folds or partitions, repeated, with honest intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from edgeaudio.errors import DataError
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.shallow.intervals import Interval, bootstrap_recall, student, wilson
from edgeaudio.shallow.learners import learn
from edgeaudio.shallow.parts import Part, Rows, targets_of, upsampled
from edgeaudio.shallow.settings import LearnerSpec
from edgeaudio.shallow.voting import majority


@dataclass(frozen=True)
class Answers:
    """What was answered on one held-out part, by one repeat."""

    part: str
    """Name of the division."""
    repeat: int
    """From 1."""
    filenames: tuple[str, ...]
    """`(answers,)` the sound of each; one answer a sound where chunks vote, else one a chunk."""
    chunks: tuple[int, ...] | None
    """`(answers,)`; None where chunks vote."""
    truth: Rows
    """`(answers,)` indices of the classes."""
    predicted: Rows
    """`(answers,)`."""
    scores: NDArray[np.float64]
    """`(answers,)` the predicted class's score; the mean over the chunks where these vote."""
    found: dict[str, Any]
    """What the learner found on the way."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(np.mean(self.truth == self.predicted))

    @property
    def recall(self) -> float:
        """Unweighted average recall: the mean of the shares of right answers of all classes that occur."""
        right = self.truth == self.predicted
        return float(np.mean([right[self.truth == target].mean() for target in np.unique(self.truth)]))


@dataclass(frozen=True)
class Evaluation:
    """All answers on one set, and what they come to."""

    name: str
    """Of the set."""
    classes: tuple[str, ...]
    features: int
    """Features of an instance."""
    answers: tuple[Answers, ...]
    """Of each repeat and each division, in that order."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the divisions."""
        return tuple(dict.fromkeys(each.part for each in self.answers))

    @property
    def repeats(self) -> int:
        """How often it was all done, with other seeds."""
        return len(self.answers) // len(self.parts)

    @property
    def unconverged(self) -> int:
        """Answers of learners that stopped before they had converged."""
        return sum(each.found.get("converged") is False for each in self.answers)

    def by_part(self, figure: str) -> list[float]:
        """``accuracy`` or ``recall`` of each division, the mean over the repeats."""
        table = np.array([getattr(each, figure) for each in self.answers]).reshape(self.repeats, -1)
        return [float(value) for value in table.mean(axis=0)]

    def mean(self, figure: str) -> float:
        """Over divisions and repeats."""
        return float(np.mean(self.by_part(figure)))

    def interval(self, figure: str) -> Interval | None:
        """95 % of the mean over the folds, by Student's t, cut to 0 … 1; None of one division."""
        if (ends := student(self.by_part(figure))) is None:
            return None
        return max(0.0, ends[0]), min(1.0, ends[1])  # no share lies beyond: nothing is lost

    def seed_deviation(self, figure: str) -> float | None:
        """Standard deviation of the mean over the folds from repeat to repeat; None of one repeat."""
        table = np.array([getattr(each, figure) for each in self.answers]).reshape(self.repeats, -1)
        return float(table.mean(axis=1).std(ddof=1)) if self.repeats > 1 else None

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """`(classes, classes)` rows: truth, columns: answers; summed over divisions and repeats."""
        truth = np.concatenate([each.truth for each in self.answers])
        predicted = np.concatenate([each.predicted for each in self.answers])
        found: NDArray[np.int64] = confusion_matrix(truth, predicted, labels=np.arange(len(self.classes)))
        return found

    @cached_property
    def pooled(self) -> dict[str, Any]:
        """Accuracy and recall of all answers together, with intervals in which a sound counts once.

        Chunks of a sound and repeats are no further evidence: Wilson's interval takes the number of sounds,
        and the bootstrap draws sounds.
        """
        names = np.concatenate([np.asarray(each.filenames) for each in self.answers])
        truth = np.concatenate([each.truth for each in self.answers])
        right = np.concatenate([each.truth == each.predicted for each in self.answers]).astype(np.float64)
        # a sound whose chunks have several labels is one for each of them
        _, first, unit = np.unique(
            np.array([f"{t} {name}" for t, name in zip(truth, names, strict=True)]),
            return_index=True, return_inverse=True,
        )  # fmt: skip
        hits, trials = (
            np.asarray(np.bincount(unit, right), np.float64),
            np.asarray(np.bincount(unit), np.int64),
        )
        recalls = self.confusion.diagonal() / np.maximum(self.confusion.sum(axis=1), 1)
        sounds, accuracy = len(np.unique(names)), float(right.mean())
        return {
            "sounds": sounds,
            "accuracy": accuracy,
            "accuracy_interval": list(wilson(accuracy, sounds)),
            "uar": float(recalls[self.confusion.sum(axis=1) > 0].mean()),
            "uar_interval": list(bootstrap_recall(hits, trials, truth[first])),
        }

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON values."""
        folds = [
            {"part": each.part, "repeat": each.repeat, "answers": len(each.truth), "accuracy": each.accuracy,
             "uar": each.recall, "found": each.found}
            for each in self.answers
        ]  # fmt: skip
        figures = {
            title: {
                "mean": self.mean(figure),
                "interval": None if (ends := self.interval(figure)) is None else list(ends),
                "seed_deviation": self.seed_deviation(figure),
            }
            for title, figure in (("accuracy", "accuracy"), ("uar", "recall"))
        }
        return {
            "set": self.name, "features": self.features, "classes": list(self.classes), **figures,
            "pooled": self.pooled, "folds": folds, "confusion": self.confusion.tolist(),
        }  # fmt: skip


def evaluate(
    name: str,
    features: FeatureSet,
    parts: Sequence[Part],
    spec: LearnerSpec,
    *,
    seed: int = 0,
    repeats: int = 1,
    upsample: bool = False,
    vote: bool = False,
    jobs: int = 1,
    progress: Callable[[float, float], None] | None = None,
) -> Evaluation:
    """Learn on each division's training part and answer on what it holds out.

    Args:
        name: of the set.
        features: the set, checked by `edgeaudio.shallow.parts.usable`.
        parts: its divisions, from `edgeaudio.shallow.parts`.
        spec: the learner.
        seed: of the first repeat; each further one has the next.
        repeats: how often all is done.
        upsample: whether the training part's classes are brought to equal size; what is held out never is.
        vote: whether the chunks of a sound give one answer.
        jobs: processes of a grid search.
        progress: told how many divisions of how many are done.

    Raises:
        DataError: a sound that votes has several labels, or the learner can't learn from a part.
    """
    targets, sounds = targets_of(features), features.sounds
    if vote:
        _one_label_a_sound(features, name)
    answers = []
    for done, (repeat, part) in enumerate(product(range(repeats), parts)):
        if progress is not None:
            progress(done, repeats * len(parts))
        train = upsampled(part.train, targets, seed + repeat) if upsample else part.train
        vectors = features.vectors
        try:
            learnt = learn(spec, vectors[train], targets[train], sounds[train], seed + repeat, jobs)
        except DataError as error:
            raise DataError(f"{name}, {part.name}: {error}") from error
        scores = np.zeros((len(part.held), len(features.classes)))
        scores[:, learnt.classes] = learnt.scores(vectors[part.held])
        answers.append(_answers(features, part, repeat + 1, targets[part.held], scores, vote, learnt.found))
    return Evaluation(name, features.classes, features.vectors.shape[1], tuple(answers))


def difference(first: Evaluation, other: Evaluation) -> tuple[float, Interval | None] | None:
    """Accuracy of the other over that of the first, fold by fold: mean and its 95 % interval.

    The same sounds are held out, so what makes a fold hard cancels out, and far smaller differences show than
    the two intervals side by side would tell. None where the divisions hold out other sounds.
    """
    held = [[(each.part, frozenset(each.filenames)) for each in one.answers] for one in (first, other)]
    if held[0] != held[1]:
        return None
    gains = np.subtract(other.by_part("accuracy"), first.by_part("accuracy"))
    return float(gains.mean()), student(gains.tolist())


def _answers(
    features: FeatureSet,
    part: Part,
    repeat: int,
    truth: Rows,
    scores: NDArray[np.float64],
    vote: bool,
    found: dict[str, Any],
) -> Answers:
    names = tuple(features.filenames[i] for i in part.held)
    if not vote:
        chunks = tuple(int(features.chunks[i]) for i in part.held)
        best = scores.argmax(axis=1)
        return Answers(part.name, repeat, names, chunks, truth, best, scores.max(axis=1), found)
    voted = majority(names, scores)
    of_sound = truth[[members[0] for members in voted.members]]
    won = voted.scores[np.arange(len(voted.winners)), voted.winners].astype(np.float64)
    return Answers(part.name, repeat, voted.filenames, None, of_sound, voted.winners, won, found)


def _one_label_a_sound(features: FeatureSet, name: str) -> None:
    assert features.labels is not None, "only of a labelled set"
    label_of: dict[str, str] = {}
    for sound, label in zip(features.filenames, features.labels, strict=True):
        if label_of.setdefault(sound, label) != label:
            raise DataError(
                f"{name}: chunks of {sound!r} are labelled {label_of[sound]!r} and {label!r}, so they can't "
                "vote on one label; leave --majority-vote out"
            )

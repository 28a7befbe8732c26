"""The learners, by scikit-learn: scaler, principal components and classifier as one pipeline.

Scores are a softmax of logits `(instances, classes)`, which are what the classifier computes last:

- svm, rbf: each class's signed margin against all others; of two classes ±d.
- mlp, logistic: what stands before the model's own softmax; of two classes ±d/2, whose softmax is sigmoid(d).

A Gaussian kernel's gamma and C are searched with one machine for each pair of classes, as libsvm has it,
since that is many times faster. The one that is kept has a machine for each class against all others: its
margins are continuous, where a count of duels won jumps, so that two runtimes that differ in the last bit
would give other scores; and on YAMNet embeddings of ESC-10 it was right more often, by 2 points.

Source: Rifkin and Klautau, "In defense of one-vs-all classification", JMLR 2004.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from edgeaudio.errors import DataError, RecipeError
from edgeaudio.shallow.settings import LearnerSpec

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Learnt:
    """A fitted pipeline."""

    pipeline: Pipeline
    """Steps ``scaler``, ``pca`` (where asked for) and ``classifier``, in float64."""
    classes: Rows
    """`(classes,)` the class numbers that it was shown, in the order of its scores."""
    found: dict[str, Any] = field(default_factory=dict)
    """What was found on the way: components kept, the grid's best values, whether it converged."""

    def logits(self, features: NDArray[Any]) -> Floats:
        """Features `(instances, features)` → `(instances, classes)`."""
        return logits(self.pipeline, features)

    def scores(self, features: NDArray[Any]) -> Floats:
        """Features `(instances, features)` → scores `(instances, classes)` that sum to 1."""
        return softmax(self.logits(features))


def learn(
    spec: LearnerSpec, features: NDArray[Any], targets: Rows, sounds: Rows, seed: int, jobs: int = 1
) -> Learnt:
    """Fit a learner, with nothing but the training part.

    Args:
        spec: which, and how.
        features: `(instances, features)`.
        targets: `(instances,)` class numbers.
        sounds: `(instances,)` number of the sound that each comes from; a sound is never on both sides of an
            inner fold.
        seed: of every random draw.
        jobs: processes of the grid search; −1: all cores.

    Raises:
        RecipeError: no processes.
        DataError: fewer than two classes, or too few sounds for a grid search.
    """
    if jobs == 0:
        raise RecipeError("--jobs is 0; give a number of processes, or -1 for all cores")
    values = np.asarray(features, np.float64)
    if len(np.unique(targets)) < 2:
        raise DataError("the training part holds a single class; there is nothing to tell apart")
    splits = _inner_splits(spec, targets, sounds, seed) if spec.learner == "rbf" else []
    # the components that every part which is learnt from has
    rows = min([len(values), *(len(part) for part, _ in splits)])
    pipeline, found = _pipeline(spec, rows, values.shape, seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        if spec.learner == "rbf":
            pipeline = _searched(pipeline, spec, values, targets, splits, jobs, found)
        else:
            pipeline.fit(values, targets)
    # an MLP is given its epochs and ends with them; that is no news
    if spec.learner != "mlp" and any(issubclass(w.category, ConvergenceWarning) for w in caught):
        found["converged"] = False
    return Learnt(pipeline, np.asarray(pipeline.classes_, np.int64), found)


def logits(pipeline: Pipeline, features: NDArray[Any]) -> Floats:
    """Features `(instances, features)` → logits `(instances, classes)` of a fitted pipeline."""
    values: Floats = pipeline[:-1].transform(np.asarray(features, np.float64))
    model = pipeline[-1]
    if isinstance(model, MLPClassifier):
        return two_sided(_before_softmax(model, values), 0.5)
    scale = 0.5 if isinstance(model, LogisticRegression) else 1.0
    return two_sided(model.decision_function(values), scale)


def two_sided(decisions: Floats, scale: float) -> Floats:
    """`(instances, classes)`; the one number that scikit-learn has for two classes stands for the second."""
    if decisions.ndim == 2 and decisions.shape[1] > 1:
        return decisions
    one = decisions.reshape(-1, 1)
    return np.hstack([-scale * one, scale * one])


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _pipeline(
    spec: LearnerSpec, rows: int, shape: tuple[int, ...], seed: int
) -> tuple[Pipeline, dict[str, Any]]:
    steps: list[tuple[str, Any]] = [("scaler", StandardScaler())]
    found: dict[str, Any] = {}
    if spec.pca is not None:
        found["components"] = min(spec.pca, rows, shape[1])
        steps.append(("pca", PCA(found["components"], random_state=seed)))
    return Pipeline([*steps, ("classifier", _classifier(spec, shape[0], seed))]), found


def _classifier(spec: LearnerSpec, instances: int, seed: int) -> Any:
    if spec.learner == "svm":
        return LinearSVC(C=spec.complexity[0], max_iter=20_000, random_state=seed)
    if spec.learner == "logistic":
        return LogisticRegression(C=spec.complexity[0], max_iter=5_000)
    if spec.learner == "rbf":
        return SVC(kernel="rbf", class_weight="balanced")
    return MLPClassifier(
        (spec.units,) * spec.layers,
        batch_size=instances,
        learning_rate_init=spec.learning_rate,
        max_iter=spec.epochs,
        n_iter_no_change=spec.epochs,
        random_state=seed,
    )


def _inner_splits(spec: LearnerSpec, targets: Rows, sounds: Rows, seed: int) -> list[tuple[Rows, Rows]]:
    """Repeated, stratified folds within the training part, in which all chunks of a sound stay together."""
    fewest = min(len(np.unique(sounds[targets == target])) for target in np.unique(targets))
    folds = min(spec.inner_folds, fewest)
    if folds < 2:
        raise DataError("a class of the training part has one sound; the grid search needs two of each")
    return [
        split
        for repeat in range(spec.inner_repeats)
        for split in StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat).split(
            targets, targets, sounds
        )
    ]


def _searched(
    pipeline: Pipeline,
    spec: LearnerSpec,
    values: Floats,
    targets: Rows,
    splits: list[tuple[Rows, Rows]],
    jobs: int,
    found: dict[str, Any],
) -> Pipeline:
    """A machine for each class with the best gamma and C, fitted on all; what was found goes into `found`."""
    grid = {"classifier__C": spec.complexity, "classifier__gamma": spec.gamma}
    search = GridSearchCV(
        pipeline, grid, scoring="f1_macro", cv=splits, n_jobs=jobs, refit=False, error_score="raise"
    )
    search.fit(values, targets)
    best = {name.removeprefix("classifier__"): value for name, value in search.best_params_.items()}
    found |= {**best, "inner_splits": len(splits), "inner_macro_f1": float(search.best_score_)}
    machine = clone(pipeline[-1]).set_params(**best)
    kept = Pipeline([*clone(pipeline).steps[:-1], ("classifier", OneVsRestClassifier(machine))])
    return kept.fit(values, targets)


def _before_softmax(model: MLPClassifier, values: Floats) -> Floats:
    for weights, bias in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        values = np.maximum(values @ weights + bias, 0.0)
    return np.asarray(values @ model.coefs_[-1] + model.intercepts_[-1])

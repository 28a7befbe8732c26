"""Each source's features to fewer principal components, side by side; fitted on the training part alone.

Every feature is brought to mean 0 and deviation 1 first. As both steps are linear and the components
orthonormal, what a classifier learns behind them can be told as one pipeline on the features as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from edgeaudio.features.featureset import FeatureSet
from edgeaudio.shallow.evaluating import Evaluation, evaluate
from edgeaudio.shallow.learners import Learnt
from edgeaudio.shallow.parts import Part
from edgeaudio.shallow.settings import LearnerSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Width:
    """Features of one source, and to how many they are brought."""

    features: int
    """As they come."""
    components: int | None
    """Principal components that are kept; None keeps the features."""


@dataclass(frozen=True)
class Reducer:
    """A fitted reduction."""

    scaler: StandardScaler
    """Of the features as they come."""
    mean: Floats
    """`(features,)` of the scaled features; 0 but for rounding."""
    components: Floats
    """`(components, features)`, orthonormal rows; a source's lie in its own columns."""

    def applied(self, features: FeatureSet) -> FeatureSet:
        """A set with its features reduced."""
        vectors = self(features.vectors).astype(np.float32)
        return replace(features, features=vectors, dims=("generated",))

    def __call__(self, vectors: NDArray[Any]) -> Floats:
        """Features `(instances, features)` → `(instances, components)`."""
        scaled: Floats = self.scaler.transform(np.asarray(vectors, np.float64))
        return (scaled - self.mean) @ self.components.T


def fit_reducer(vectors: NDArray[Any], widths: Sequence[Width]) -> Reducer:
    """Fit on a training part.

    Args:
        vectors: `(instances, features)` of that part, the sources side by side.
        widths: of the sources, in their order. No more components are kept than the part has instances.
    """
    scaler = StandardScaler()
    scaled = scaler.fit_transform(np.asarray(vectors, np.float64))
    means, blocks, start = [], [], 0
    for width in widths:
        part = scaled[:, start : start + width.features]
        start += width.features
        if width.components is None or width.components >= width.features:
            means.append(np.zeros(width.features))
            blocks.append(np.eye(width.features))
            continue
        pca = PCA(min(width.components, len(part)), svd_solver="full").fit(part)
        means.append(pca.mean_)
        blocks.append(pca.components_)
    return Reducer(scaler, np.concatenate(means), np.asarray(block_diag(*blocks)))


def evaluate_reduced(
    name: str,
    features: FeatureSet,
    widths: Sequence[Width],
    parts: Sequence[Part],
    spec: LearnerSpec,
    *,
    seed: int = 0,
    repeats: int = 1,
    upsample: bool = False,
    jobs: int = 1,
) -> Evaluation:
    """As `edgeaudio.shallow.evaluating.evaluate`, with a reduction fitted anew on each training part."""
    each = []
    for part in parts:
        reducer = fit_reducer(features.vectors[part.train], widths)
        reduced = reducer.applied(features)
        each.append(
            evaluate(name, reduced, [part], spec, seed=seed, repeats=repeats, upsample=upsample, jobs=jobs)
        )
    answers = tuple(one.answers[repeat] for repeat in range(repeats) for one in each)
    return replace(each[0], answers=answers)


def undone(reducer: Reducer, learnt: Learnt) -> Learnt:
    """What was learnt from reduced features, as one pipeline on the features as they come.

    The learner scales the components once more, to mean m and deviation s. With orthonormal rows C,
    ((z − μ) Cᵀ − m) / s = (z − (μ + m C)) (C / s)ᵀ, so both are one `PCA` behind the first scaler.
    """
    inner = learnt.pipeline.named_steps["scaler"]
    pca = PCA(len(reducer.components))
    pca.mean_ = reducer.mean + inner.mean_ @ reducer.components
    pca.components_ = reducer.components / inner.scale_[:, None]
    pca.n_components_, pca.n_features_in_ = reducer.components.shape
    pca.explained_variance_ = np.ones(len(reducer.components))
    steps = [("scaler", reducer.scaler), ("pca", pca), ("classifier", learnt.pipeline[-1])]
    found = {**learnt.found, "components": len(reducer.components)}
    return replace(learnt, pipeline=Pipeline(steps), found=found)

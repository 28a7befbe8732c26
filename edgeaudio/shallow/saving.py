"""Train on a whole set, or some partitions of it, and save what came out as ONNX; no pickle anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import sklearn
from numpy.typing import NDArray

from edgeaudio import __version__
from edgeaudio.config import file_hash
from edgeaudio.errors import BoundError, DataError
from edgeaudio.export.parity import Parity, compare
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner
from edgeaudio.shallow.classifier import (
    BOUND,
    FEATURES,
    GOLDEN,
    GRAPH,
    LOGITS,
    MANIFEST,
    SCHEMA,
    SCORES,
    Classifier,
    open_classifier,
)
from edgeaudio.shallow.graph import to_onnx
from edgeaudio.shallow.learners import Learnt, learn, softmax
from edgeaudio.shallow.parts import Rows, rows_of, targets_of, upsampled
from edgeaudio.shallow.settings import SCORES as MEANINGS
from edgeaudio.shallow.settings import LearnerSpec

_GOLDEN_ROWS, _PARITY_ROWS = 8, 4096


@dataclass(frozen=True)
class Trained:
    """A learner that has learnt from a set."""

    learnt: Learnt
    labels: tuple[str, ...]
    """Class names in the order of the scores."""
    spec: LearnerSpec
    seed: int
    name: str
    """Of the set."""
    features: FeatureSet
    """All of it."""
    rows: Rows
    """What was learnt from, before upsampling."""
    partitions: tuple[str, ...]
    """Where only some were."""
    upsampled: bool

    @property
    def held_out(self) -> dict[str, Any] | None:
        """Accuracy on the labelled instances that weren't learnt from; None where there are none."""
        rest = np.setdiff1d(np.flatnonzero(self.features.labelled), self.rows)
        if not len(rest):
            return None
        assert self.features.labels is not None, "it was learnt from"
        answers = self.learnt.logits(self.features.vectors[rest]).argmax(axis=1)
        right = [self.labels[a] == self.features.labels[i] for a, i in zip(answers, rest, strict=True)]
        return {"instances": len(rest), "accuracy": float(np.mean(right))}

    @property
    def facts(self) -> dict[str, Any]:
        """How it came about, as plain JSON values."""
        names = {self.features.filenames[i] for i in self.rows}
        return {
            "learner": self.spec.to_json(),
            "found": self.learnt.found,
            "seed": self.seed,
            "trained_on": {
                "set": self.name, "instances": len(self.rows), "sounds": len(names),
                "partitions": list(self.partitions), "upsampled": self.upsampled,
                "attributes": self.features.attributes,
            },
            "held_out": self.held_out,
        }  # fmt: skip


def train(
    name: str,
    features: FeatureSet,
    spec: LearnerSpec,
    *,
    partitions: Sequence[str] = (),
    seed: int = 0,
    upsample: bool = False,
    jobs: int = 1,
) -> Trained:
    """Fit a learner on all labelled instances of a set, or on some partitions.

    Args:
        name: of the set.
        features: the set, checked by `edgeaudio.shallow.parts.usable`.
        spec: the learner.
        partitions: names of those to learn from; all instances where empty.
        seed: of every random draw.
        upsample: whether the classes are brought to equal size.
        jobs: processes of a grid search.

    Raises:
        DataError: nothing to learn from, or a single class.
    """
    rows = rows_of(features, name, partitions) if partitions else np.flatnonzero(features.labelled)
    targets = targets_of(features)
    fitted = upsampled(rows, targets, seed) if upsample else rows
    try:
        learnt = learn(spec, features.vectors[fitted], targets[fitted], features.sounds[fitted], seed, jobs)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    labels = tuple(features.classes[i] for i in learnt.classes)
    names = tuple(word.lower() for word in partitions)
    return Trained(learnt, labels, spec, seed, name, features, rows, names, upsample)


def save(trained: Trained, folder: Path) -> Classifier:
    """Write a classifier's folder, whole or not at all.

    Raises:
        DataError: the folder is there already.
        BoundError: ONNX Runtime gives other scores than scikit-learn.
    """
    with fresh(folder) as draft:
        model = to_onnx(trained.learnt)
        (draft / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
        runner = OnnxRuntimeRunner(draft / GRAPH, 1, str(draft / GRAPH))
        vectors = trained.features.vectors[trained.rows[:: -(-len(trained.rows) // _PARITY_ROWS)]]
        parity = held_against(
            trained.learnt, vectors, runner.run(LOGITS, vectors), runner.run(SCORES, vectors)
        )
        spread = np.linspace(0, len(trained.rows) - 1, min(_GOLDEN_ROWS, len(trained.rows))).astype(int)
        golden = trained.features.vectors[trained.rows[spread]]
        arrays = {FEATURES: golden, SCORES: runner.run(SCORES, golden)}
        np.savez_compressed(draft / GOLDEN, **arrays)
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)}
            for path in sorted(draft.iterdir())
        }
        manifest = {
            "schema": SCHEMA, "labels": list(trained.labels), "features": vectors.shape[1],
            "scores": MEANINGS[trained.spec.learner], **trained.facts,
            "parity": [each.to_json() for each in parity],
            "versions": {
                "edgeaudio": __version__, "scikit-learn": sklearn.__version__, "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
            "files": files,
        }  # fmt: skip
        text = json.dumps(manifest, indent=2, ensure_ascii=False, default=str) + "\n"
        (draft / MANIFEST).write_text(text, encoding="utf-8")
    return open_classifier(folder)


def held_against(
    learnt: Learnt, vectors: NDArray[np.float32], logits: NDArray[np.float32], scores: NDArray[np.float32]
) -> list[Parity]:
    """A graph's answers held against scikit-learn's, in float64, for the same features.

    Args:
        learnt: the pipeline.
        vectors: `(instances, features)`.
        logits: `(instances, classes)` of the graph.
        scores: `(instances, classes)` of the graph.

    Raises:
        BoundError: a score differs by more than `BOUND`.
    """
    hop, exact = "scikit-learn → ONNX fp32", learnt.logits(vectors)
    found = [
        compare(hop, LOGITS, [(exact, logits)], len(vectors)),
        compare(hop, SCORES, [(softmax(exact), scores)], len(vectors), max_abs=BOUND),
    ]
    if not found[1].ok:
        raise BoundError(
            f"the ONNX graph's scores differ from scikit-learn's by {found[1].max_abs:.2g}, bound {BOUND:g}; "
            "bring the features to similar ranges, or lower --complexity"
        )
    return found


def require_free(folder: Path) -> None:
    """Refuse to write over what is there.

    Raises:
        DataError: something is.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already; choose another folder, or move it away")


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """A draft of a folder, which takes its place when all is written.

    Raises:
        DataError: something is there already.
    """
    require_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)

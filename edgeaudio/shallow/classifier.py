"""The folder of a trained classifier, and its answers: NumPy and ONNX Runtime alone.

::

    classifier/
      classifier.json  schema, labels, learner and settings, what it learnt from, what its scores mean, parity
                       with scikit-learn, versions, and the SHA-256 of the other files
      classifier.onnx  features → scores and logits, float32
      golden.npz       some features, and the scores that the graph gave for them where it was made
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.config import file_hash
from edgeaudio.errors import BoundError, BundleError, DataError
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner

SCHEMA = 1
MANIFEST, GRAPH, GOLDEN = "classifier.json", "classifier.onnx", "golden.npz"
FEATURES, SCORES, LOGITS = "features", "scores", "logits"
BOUND = 1e-4
"""Largest difference of any score: to scikit-learn when it is made, to the golden ones when it is opened."""
_BLOCK = 1024  # instances in one inference


@dataclass(frozen=True)
class Classifier:
    """Features → scores.

    Args:
        folder: written by ``edgeaudio features train``.
    """

    folder: Path
    labels: tuple[str, ...]
    """Class names in the order of the scores."""
    features: int
    """Features of an instance."""
    manifest: dict[str, Any]
    runner: OnnxRuntimeRunner

    def __call__(self, vectors: NDArray[np.float32], where: str = "the set") -> NDArray[np.float32]:
        """Features `(instances, features)` → scores `(instances, classes)`, which sum to 1.

        Args:
            vectors: features of the kind that it learnt from.
            where: what an error calls them.

        Raises:
            DataError: another number of features.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.features:
            raise DataError(
                f"{where} has {int(np.prod(vectors.shape[1:]))} features an instance, but {self.folder} "
                f"learnt from {self.features}; extract it as {self.manifest['trained_on']['set']} was"
            )
        if not len(vectors):
            return np.zeros((0, len(self.labels)), np.float32)
        parts = [
            self.runner.run(SCORES, np.ascontiguousarray(vectors[i : i + _BLOCK], np.float32))
            for i in range(0, len(vectors), _BLOCK)
        ]
        return np.concatenate(parts)


def open_classifier(folder: Path) -> Classifier:
    """Open a classifier, and hold its files and its golden scores against what its manifest says.

    Raises:
        BundleError: not such a folder, or a file is missing or was changed.
        BoundError: the runtime of this machine gives other scores.
    """
    manifest = _manifest(folder)
    try:
        for name, facts in manifest["files"].items():
            if not (folder / name).is_file():
                raise BundleError(f"{folder / name} is missing; copy the folder again as a whole")
            if file_hash(folder / name) != facts["sha256"]:
                raise BundleError(
                    f"{folder / name} was changed or damaged (its SHA-256 differs); copy the folder again"
                )
        runner = OnnxRuntimeRunner(folder / GRAPH, 1, str(folder / GRAPH))
        found = Classifier(folder, tuple(manifest["labels"]), int(manifest["features"]), manifest, runner)
        _check_golden(found)
    except (KeyError, TypeError, AttributeError, ValueError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, (BundleError, BoundError)):
            raise
        raise BundleError(
            f"{folder / MANIFEST} is not a valid manifest ({error}); train the classifier again"
        ) from error
    return found


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        there = "no such folder" if not folder.exists() else f"it has no {MANIFEST}"
        raise BundleError(
            f"{folder} is not a classifier ({there}); edgeaudio features train -o FOLDER writes one"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not a valid manifest ({error}); train the classifier again") from error
    if schema != SCHEMA:
        raise BundleError(f"{path} has schema {schema!r}, this edgeaudio reads {SCHEMA}; update edgeaudio")
    return manifest


def _check_golden(classifier: Classifier) -> None:
    with np.load(classifier.folder / GOLDEN) as golden:
        there, here = golden[SCORES], classifier(golden[FEATURES])
    worst = float(np.abs(there - here).max())
    if not worst <= BOUND:
        raise BoundError(
            f"{classifier.folder} gives other scores here than where it was made: off by {worst:.2g}, bound "
            f"{BOUND:g}; install the ONNX Runtime that its manifest names"
        )

"""A bundle → scores for waveforms and files, with NumPy and ONNX Runtime alone."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeaudio.audio import (
    audible,
    cut_windows,
    find_files,
    load_mono,
    resample,
    window_power,
    window_starts,
)
from edgeaudio.bundle import Bundle, read_bundle
from edgeaudio.errors import AudioError
from edgeaudio.runtimes import open_graph

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BATCH = 32  # windows a call: bounds memory on long recordings


@dataclass(frozen=True)
class Prediction:
    """Scores of one clip."""

    labels: tuple[str, ...]
    """Class names."""
    scores: NDArray[np.float32]
    """`(classes,)`, summing to 1: the mean over the audible windows."""
    starts: NDArray[np.float64]
    """`(windows,)` begin of each window in seconds."""
    window_scores: NDArray[np.float32]
    """`(windows, classes)`."""

    @property
    def label(self) -> str:
        """The class with the highest score."""
        return self.labels[int(self.scores.argmax())]

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores.max())

    def top(self, k: int = 3) -> list[tuple[str, float]]:
        """The `k` highest classes with their scores, best first."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.labels[i], float(self.scores[i])) for i in order]

    def to_json(self, k: int | None = None) -> dict[str, Any]:
        """Label, score and the `k` highest classes (all without `k`) as plain JSON values."""
        top = self.top(k or len(self.labels))
        return {
            "label": self.label,
            "score": round(self.score, 6),
            "top": [{"label": label, "score": round(score, 6)} for label, score in top],
        }

    def __repr__(self) -> str:
        return f"Prediction({', '.join(f'{label}: {score:.3f}' for label, score in self.top(3))})"


def load(path: str | Path, graph: str | None = None, threads: int = 1) -> Predictor:
    """Open a bundle.

    Args:
        path: a bundle's folder, or the run that made it.
        graph: ``int8`` or ``fp32``; the bundle's default where None.
        threads: cores that one inference may use.

    Raises:
        BundleError: not a bundle, changed since it was made, or without that graph.
    """
    return Predictor(read_bundle(path), graph, threads)


class Predictor:
    """Waveform → `Prediction`, by one graph of a bundle."""

    def __init__(self, bundle: Bundle, graph: str | None = None, threads: int = 1) -> None:
        self.bundle = bundle
        self.labels = bundle.labels
        self.sample_rate = bundle.sample_rate
        self._runner = open_graph(bundle.runtime, bundle.graph_path(graph), threads)

    def __call__(self, waveform: ArrayLike, sample_rate: int, *, resample: bool = False) -> Prediction:
        """Scores of one clip of any length.

        Args:
            waveform: mono samples `(samples,)`, full scale at ±1; signed integers are scaled to that.
            sample_rate: Hz of the waveform.
            resample: bring another sample rate to the bundle's instead of refusing it.

        Raises:
            AudioError: not one-dimensional, empty, not finite, or of another sample rate.
        """
        samples = _as_mono(waveform)
        if sample_rate != self.sample_rate:
            if not resample:
                raise AudioError(
                    f"clip is {sample_rate} Hz but the bundle wants {self.sample_rate} Hz; pass resample=True"
                )
            samples = _resampled(samples, sample_rate, self.sample_rate)
        starts = window_starts(len(samples), self.bundle.window_samples, self.bundle.hop_samples)
        window = self.bundle.window_samples
        power = window_power(samples, starts, window)
        scores = np.concatenate(
            [
                self.score_windows(cut_windows(samples, starts[i : i + _BATCH], window))
                for i in range(0, len(starts), _BATCH)
            ]
        )
        return Prediction(
            labels=self.labels,
            scores=scores[audible(power)].mean(axis=0),
            starts=starts / self.sample_rate,
            window_scores=scores,
        )

    def score_windows(self, windows: NDArray[np.float32], output: str = "scores") -> NDArray[np.float32]:
        """What the graph gives for windows `(windows, window_samples)`: `(windows, classes)`.

        `output` is ``scores`` (softmax) or ``logits``.
        """
        parts = [
            self._runner.run(output, np.ascontiguousarray(windows[i : i + _BATCH]))
            for i in range(0, len(windows), _BATCH)
        ]
        return np.concatenate(parts)

    def predict_file(self, path: str | Path) -> Prediction:
        """Decode, mix down, resample and score a sound file.

        Raises:
            AudioError: the file can't be read as sound.
        """
        return self.predict_clip(path)

    def predict_clip(self, path: str | Path, start: float = 0.0, duration: float | None = None) -> Prediction:
        """The same for a stretch of a file, in seconds."""
        return self(load_mono(path, self.sample_rate, start, duration), self.sample_rate)


def expand(inputs: Iterable[str | Path], problems: list[str] | None = None) -> list[Path]:
    """Files, folders (searched for sound files) and globs → files, sorted within each, without repeats.

    Args:
        inputs: what was asked for.
        problems: takes a sentence for each input that matches nothing, instead of the error.

    Raises:
        AudioError: an input matches nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = find_files(path)
        elif path.exists():
            files = [path]
        else:
            matches = glob.glob(str(text), recursive=True)  # noqa: PTH207 - Path.glob has no absolute patterns
            files = sorted(Path(match) for match in matches if Path(match).is_file())
        if not files:
            sentence = f"{text}: no sound files there" if path.is_dir() else f"{text}: no such file"
            if problems is None:
                raise AudioError(sentence)
            problems.append(sentence)
        found.update(dict.fromkeys(files))
    return list(found)


def _as_mono(waveform: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(waveform)
    if array.ndim != 1:
        raise AudioError(f"waveform has the shape {array.shape}; give one channel as a one-dimensional array")
    if not len(array):
        raise AudioError("waveform holds no samples")
    if np.issubdtype(array.dtype, np.signedinteger):
        array = array / -float(np.iinfo(array.dtype).min)
    elif not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"waveform has the type {array.dtype}; give floats in ±1 or signed integers")
    samples = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("waveform holds NaN or infinite samples")
    return samples


def _resampled(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    if rate <= 0:
        raise AudioError(f"sample rate is {rate} Hz; it must be positive")
    return resample(samples, rate, target)

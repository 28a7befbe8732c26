"""A bundle → scores for waveforms and files, with NumPy and one runtime alone.

A clip is cut into windows, and every window is scored by itself: a score doesn't depend on what lies beside
its window, so files, arrays and live streams (`edgeaudio.streaming`) give the very same numbers.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeaudio.audio import Window, as_floats, audible, cut, find_files, load_blocks
from edgeaudio.audio import resample as resampled
from edgeaudio.bundle import Bundle, read_bundle
from edgeaudio.errors import AudioError, BundleError, EdgeAudioError, did_you_mean
from edgeaudio.runtimes import Runner, open_graph

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

EMBEDDING = "embedding"
"""Output of a graph that gives embeddings."""


class _Scored:
    """What scores of classes say, of a window or of a clip."""

    __slots__ = ()
    labels: tuple[str, ...]
    scores: NDArray[np.float32]

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
        return _top(self.labels, self.scores, k)


@dataclass(frozen=True, slots=True)
class WindowScore(_Scored):
    """Scores of one window of a recording."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    """Seconds; the end of the recording where the window reaches past it."""
    padded: bool
    """Whether zeros fill it up."""
    scores: NDArray[np.float32]
    """`(classes,)`, summing to 1; where a sound may have several labels, each by itself."""
    labels: tuple[str, ...]
    """Class names."""
    power: float
    """Sum of the squares of its samples."""


@dataclass(frozen=True)
class Prediction(_Scored):
    """Scores of one clip."""

    labels: tuple[str, ...]
    """Class names."""
    scores: NDArray[np.float32]
    """`(classes,)`, the mean over the audible windows; like a window's, they sum to 1 or are each its own."""
    starts: NDArray[np.float64]
    """`(windows,)` begin of each window in seconds."""
    ends: NDArray[np.float64]
    """`(windows,)` their ends; the last is where the clip ends."""
    padded: NDArray[np.bool_]
    """`(windows,)` whether zeros fill them up; only the last one can be."""
    power: NDArray[np.float64]
    """`(windows,)` sum of the squares of their samples, by which they are audible or not."""
    window_scores: NDArray[np.float32]
    """`(windows, classes)`."""

    def windows(self) -> Iterator[WindowScore]:
        """Window by window, for `edgeaudio.events.merge`."""
        columns = (self.starts.tolist(), self.ends.tolist(), self.padded.tolist(), self.power.tolist())
        for start, end, padded, power, scores in zip(*columns, self.window_scores, strict=True):
            yield WindowScore(start, end, padded, scores, self.labels, power)

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


@dataclass(frozen=True)
class Embeddings:
    """What a network knows of the windows of one recording before it decides."""

    starts: NDArray[np.float64]
    """`(windows,)` begin of each window in seconds."""
    ends: NDArray[np.float64]
    """`(windows,)` their ends; the last is where the recording ends."""
    vectors: NDArray[np.float32]
    """`(windows, dimensions)`."""


def load(
    path: str | Path, graph: str | None = None, threads: int = 1, batch: int = 1, front_end: str = "graph"
) -> Predictor:
    """Open a bundle.

    Args:
        path: a bundle's folder, or the run that made it.
        graph: ``int8`` or ``fp32``; the bundle's default where None.
        threads: cores that one inference may use.
        batch: windows in one inference; more than one can change the last bits of a score, and rarely pays.
        front_end: ``graph``, the shipped front end, or ``host``: the log-mel by this machine's FFT library,
            from the same settings, and the rest of the same graph (ONNX Runtime only).

    Raises:
        BundleError: not a bundle, changed since it was made, or without that graph.
    """
    return Predictor(read_bundle(path), graph, threads, batch, front_end)


class Predictor:
    """Waveform → `Prediction`, by one graph of a bundle."""

    def __init__(
        self,
        bundle: Bundle,
        graph: str | None = None,
        threads: int = 1,
        batch: int = 1,
        front_end: str = "graph",
    ) -> None:
        if front_end not in ("graph", "host"):
            raise EdgeAudioError(f"front_end is {front_end!r}; {did_you_mean(front_end, ('graph', 'host'))}")
        if batch < 1:
            raise EdgeAudioError(f"batch is {batch}; it must be at least 1")
        self.bundle = bundle
        self.labels = bundle.labels
        self.sample_rate = bundle.sample_rate
        self._batch = batch
        self._runner = (
            open_graph(bundle.runtime, bundle.graph_path(graph), threads)
            if front_end == "graph"
            else _on_the_host(bundle, bundle.graph_path(graph), threads)
        )

    def __call__(
        self, waveform: ArrayLike, sample_rate: int, *, resample: bool = False, hop: float | None = None
    ) -> Prediction:
        """Scores of one clip of any length.

        Args:
            waveform: mono samples `(samples,)`, full scale at ±1; signed integers are scaled to that.
            sample_rate: Hz of the waveform.
            resample: bring another sample rate to the bundle's instead of refusing it.
            hop: seconds from one window to the next; the bundle's where None.

        Raises:
            AudioError: not one-dimensional, empty, not finite, or of another sample rate.
        """
        samples = as_floats(waveform)
        if samples.ndim != 1:
            raise AudioError(
                f"waveform has the shape {samples.shape}; give one channel as a one-dimensional array"
            )
        if not len(samples):
            raise AudioError("waveform holds no samples")
        if sample_rate != self.sample_rate:
            if not resample:
                raise AudioError(
                    f"clip is {sample_rate} Hz but the bundle wants {self.sample_rate} Hz; pass resample=True"
                )
            samples = resampled(samples, sample_rate, self.sample_rate)
        return self._predict([samples], hop)

    def predict_file(
        self, path: str | Path, hop: float | None = None, progress: Callable[[float], None] | None = None
    ) -> Prediction:
        """Decode, mix down, resample and score a sound file of any length, block by block.

        Args:
            path: any file that libsndfile reads.
            hop: seconds from one window to the next; the bundle's where None.
            progress: told, in seconds, up to where the recording has been scored.

        Raises:
            AudioError: the file can't be read as sound.
        """
        return self._predict(load_blocks(path, self.sample_rate), hop, progress)

    def predict_clip(
        self, path: str | Path, start: float = 0.0, duration: float | None = None, hop: float | None = None
    ) -> Prediction:
        """The same for a stretch of a file, in seconds."""
        return self._predict(load_blocks(path, self.sample_rate, start, duration), hop)

    def score_blocks(
        self, blocks: Iterable[NDArray[np.float32]], hop: float | None = None
    ) -> Iterator[WindowScore]:
        """Scores of one recording's windows, one after another; no more than a batch of them is held.

        Args:
            blocks: mono samples `(samples,)` at the bundle's rate, from first to last.
            hop: seconds from one window to the next; the bundle's where None.
        """
        windows = cut(blocks, self.bundle.window_samples, self.hop_samples(hop))
        while batch := list(islice(windows, self._batch)):
            yield from self.score(batch)

    def score(self, windows: list[Window]) -> list[WindowScore]:
        """Scores of windows of the bundle's length."""
        rate = self.sample_rate
        rows = self.score_windows(np.stack([window.samples for window in windows]))
        return [
            WindowScore(
                start=window.start / rate,
                end=(window.start + window.heard) / rate,
                padded=window.heard < len(window.samples),
                scores=row,
                labels=self.labels,
                power=float(np.einsum("s,s->", window.samples, window.samples, dtype=np.float64)),
            )
            for window, row in zip(windows, rows, strict=True)
        ]

    def score_windows(self, windows: NDArray[np.float32], output: str = "scores") -> NDArray[np.float32]:
        """What the graph gives for windows `(windows, window_samples)`: `(windows, classes)`.

        `output` is ``scores`` (by the bundle's activation), ``logits``, or another output of the graph.
        """
        parts = [
            self._runner.run(output, np.ascontiguousarray(windows[i : i + self._batch]))
            for i in range(0, len(windows), self._batch)
        ]
        return np.concatenate(parts)

    def embed_file(
        self, path: str | Path, hop: float | None = None, progress: Callable[[float], None] | None = None
    ) -> Embeddings:
        """What the network knows of each window before it decides, where the graph tells.

        Args:
            path: any file that libsndfile reads.
            hop: seconds from one window to the next; the bundle's where None.
            progress: told, in seconds, up to where the recording has been embedded.

        Raises:
            AudioError: the file can't be read as sound.
            BundleError: the graph has no output ``embedding``.
        """
        size, step = self.bundle.window_samples, self.hop_samples(hop)
        times, rows = [], bytearray()
        for window in cut(load_blocks(path, self.sample_rate), size, step):
            times.append((window.start / self.sample_rate, (window.start + window.heard) / self.sample_rate))
            rows += self._embedded(window.samples[None]).tobytes()
            if progress is not None:
                progress(times[-1][1])
        starts, ends = np.array(times).T
        return Embeddings(starts, ends, np.frombuffer(rows, np.float32).reshape(len(times), -1))

    def _embedded(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return self.score_windows(windows, EMBEDDING)
        except Exception as error:  # each runtime has its own way to say that an output isn't there
            raise BundleError(
                f"{self.bundle.folder} gives no embeddings: its graph has no output {EMBEDDING!r}; "
                "make one that has it: edgeaudio export RUN --target x86 --embeddings"
            ) from error

    def hop_samples(self, seconds: float | None) -> int:
        """Samples from one window to the next; the bundle's own where `seconds` is None."""
        if seconds is None:
            return self.bundle.hop_samples
        samples = round(seconds * self.sample_rate)
        if samples < 1:
            raise EdgeAudioError(f"the hop of {seconds:g} s is shorter than one sample; give more, e.g. 0.5")
        return samples

    def _predict(
        self,
        blocks: Iterable[NDArray[np.float32]],
        hop: float | None,
        progress: Callable[[float], None] | None = None,
    ) -> Prediction:
        times: list[tuple[float, float, bool, float]] = []
        rows = bytearray()  # a long recording has more windows than objects are cheap for
        for window in self.score_blocks(blocks, hop):
            times.append((window.start, window.end, window.padded, window.power))
            rows += window.scores.tobytes()
            if progress is not None:
                progress(window.end)
        starts, ends, padded, power = (np.array(column) for column in zip(*times, strict=True))
        scores = np.frombuffer(rows, np.float32).reshape(len(times), -1)
        heard = scores[audible(power)].mean(axis=0, dtype=np.float64)
        return Prediction(self.labels, heard.astype(np.float32), starts, ends, padded, power, scores)


def _top(labels: tuple[str, ...], scores: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
    order = np.argsort(-scores, kind="stable")[:k]
    return [(labels[i], float(scores[i])) for i in order]


def _on_the_host(bundle: Bundle, path: Path, threads: int) -> Runner:
    """The graph behind its front end, fed with log-mels of this machine's FFT library."""
    if bundle.runtime != "onnxruntime":
        raise BundleError(
            f'{path} is for {bundle.runtime}; front_end="host" needs a bundle for ONNX Runtime (x86 or arm)'
        )
    from edgeaudio.host_frontend import HostRunner

    return HostRunner(path, bundle.frontend, bundle.window_samples, threads)


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

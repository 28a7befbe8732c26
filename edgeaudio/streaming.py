"""Sound that comes in bit by bit → scores of its windows, as soon as each is complete.

::

    stream = Stream(edgeaudio.load("bundle"))
    for block in blocks:                  # of any size
        for window in stream.feed(block):
            print(window.start, window.label)
    stream.flush()                        # the tail, filled up with zeros

The scores are those of the offline run, bit for bit: both cut windows by the same code and score each by
itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeaudio.audio import Cutter, Resampler, as_floats, mixed_down
from edgeaudio.errors import AudioError, EdgeAudioError, did_you_mean
from edgeaudio.predictor import Predictor, WindowScore

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PCM: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "s32le": np.dtype("<i4"), "f32le": np.dtype("<f4")}
"""Formats of raw samples by their usual names."""
CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3\x03": "MP3", b"ID3\x04": "MP3"}
"""First bytes of sound files, which are no raw samples."""
_MAGIC = 4  # bytes that tell a container
_READ = 1 << 16  # bytes asked for at a time; a pipe gives what it has


class Stream:
    """One recording that never has to end; holds one window of sound.

    Args:
        predictor: an opened bundle.
        sample_rate: Hz of what is fed; the bundle's where None. Another rate is resampled, which delays
            windows by a few milliseconds.
        hop: seconds from one window to the next; the bundle's where None.
    """

    def __init__(
        self, predictor: Predictor, sample_rate: int | None = None, hop: float | None = None
    ) -> None:
        self._predictor = predictor
        self._resampler = Resampler(
            predictor.sample_rate if sample_rate is None else sample_rate, predictor.sample_rate
        )
        self._cutter = Cutter(predictor.bundle.window_samples, predictor.hop_samples(hop))

    def feed(self, block: ArrayLike) -> list[WindowScore]:
        """Scores of the windows that a block completes.

        Args:
            block: mono samples `(samples,)`, any number: floats with full scale at ±1, or signed integers.

        Raises:
            AudioError: not one-dimensional, of another type, or not finite; the stream stays as it was.
        """
        samples = as_floats(block, "block")
        if samples.ndim != 1:
            raise AudioError(
                f"block has the shape {samples.shape}; give one channel as a one-dimensional array"
            )
        return self._scored(self._resampler.feed(samples))

    def flush(self) -> list[WindowScore]:
        """The end: at most one full window that resampling held back, and the zero-padded tail, if any.

        What is fed next begins a new recording at 0 s.
        """
        last = self._scored(self._resampler.flush())
        for window in self._cutter.flush():
            last += self._predictor.score([window])
        return last

    def _scored(self, samples: NDArray[np.float32]) -> list[WindowScore]:
        return [score for window in self._cutter.feed(samples) for score in self._predictor.score([window])]


def listen(stream: Stream, blocks: Iterable[ArrayLike]) -> Iterator[WindowScore]:
    """Feed blocks as they come until they end, then flush.

    Raises:
        AudioError: a block can't be used; what came before it has been scored by then.
    """
    try:
        for block in blocks:
            yield from stream.feed(block)
    except AudioError:
        yield from stream.flush()
        raise
    yield from stream.flush()


class ByteSource(Protocol):
    """What raw samples are read from, such as ``sys.stdin.buffer``."""

    def read1(self, size: int, /) -> bytes:
        """What is there, at most `size` bytes; empty at the end."""


def read_pcm(source: ByteSource, encoding: str, channels: int = 1) -> Iterator[NDArray[np.float32]]:
    """Raw interleaved samples, mixed down to mono blocks `(samples,)` as they arrive.

    Args:
        source: where the bytes come from.
        encoding: one of `PCM`.
        channels: samples of one moment.

    Raises:
        EdgeAudioError: an unknown encoding.
        AudioError: nothing came, a sound file came, it ended within a sample, or NaN.
    """
    if encoding not in PCM:
        raise EdgeAudioError(f"unknown format {encoding!r} of raw samples; {did_you_mean(encoding, PCM)}")
    frame = PCM[encoding].itemsize * channels
    rest, began, read = b"", False, b"-"
    while read:
        read = source.read1(_READ)
        data = rest + read
        if not began and read and len(data) < _MAGIC:
            rest = data
            continue
        if not began:
            _refuse_container(data)
            began = True
        whole = len(data) - len(data) % frame
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], PCM[encoding]).reshape(-1, channels)
            yield mixed_down(as_floats(samples, "standard input"))
    if rest:
        raise AudioError(
            f"standard input ended within a sample ({len(rest)} of its {frame} bytes); "
            f"check --format {encoding} and --channels {channels}"
        )


def _refuse_container(data: bytes) -> None:
    if not data:
        raise AudioError("standard input held no samples; pipe raw ones into it, e.g. from arecord or ffmpeg")
    if kind := CONTAINERS.get(data[:_MAGIC]):
        raise AudioError(
            f"standard input is a {kind} file, not raw samples; name the file instead, "
            "or take off its header, e.g. ffmpeg -i FILE -f s16le -"
        )

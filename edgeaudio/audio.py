"""Sound files → mono float32 waveforms, and a waveform → the windows that a classifier hears.

Training and the shipped predictor cut windows with the same functions, so that a device never
hears anything cut differently from what the network has learnt. Files are read, resampled and cut block
by block, always by the same code: a short recording is treated as a long one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeaudio.errors import AudioError

if TYPE_CHECKING:
    import soundfile
    import soxr
    from numpy.typing import ArrayLike, NDArray

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".au", ".w64", ".caf"}
)
"""File name endings (lower case) that are looked for in folders; a named file may have any."""

QUIET_DB = -60.0
"""A window this far below the loudest window of its clip (in dB of RMS) has no vote."""

_BLOCK = 1 << 16  # frames that are read at a time: bounds memory on long recordings

# ── files ────────────────────────────────────────────────────────────────────────────────────────


def read_blocks(
    path: str | Path, start: float = 0.0, duration: float | None = None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Read a sound file, or a stretch of it, block by block, and mix it down to mono.

    Args:
        path: any file that libsndfile reads (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF …).
        start: seconds from the beginning.
        duration: seconds; to the end where None.

    Yields:
        At least one block `(samples,)`, full scale at ±1 (float files may exceed it), each with the file's
        sample rate in Hz.

    Raises:
        AudioError: the file is missing, not sound, holds no samples there, or holds NaN or infinity.
    """
    for samples, rate in read_channels(path, start, duration):
        yield mixed_down(samples), rate


def read_channels(
    path: str | Path, start: float = 0.0, duration: float | None = None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Read a sound file as `read_blocks` does, but with its channels: blocks `(samples, channels)`."""
    import soundfile

    empty = True
    try:
        with _opened(path) as file:
            rate = int(file.samplerate)
            _go_to(file, min(round(start * rate), file.frames))
            left = file.frames if duration is None else round(duration * rate)
            while left > 0 and len(samples := file.read(min(left, _BLOCK), dtype="float32", always_2d=True)):
                empty = False
                left -= len(samples)
                yield _finite(samples, str(path)), rate
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        if not Path(path).exists():
            raise AudioError(f"{path}: no such file") from error
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise AudioError(f"{path} can't be read as sound ({reason})") from error
    if empty:
        stretch = f" after {start:g} s" if start else ""
        raise AudioError(f"{path} holds no samples{stretch}")


def _opened(path: str | Path) -> soundfile.SoundFile:
    """A file that is read from first to last: soundfile seeks after every read, which garbles MP3."""
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return Forward(str(path))


def _go_to(file: soundfile.SoundFile, frame: int) -> None:
    if file.format != "MP3":
        file.seek(frame)
    while file.format == "MP3" and frame > 0 and (passed := len(file.read(min(frame, _BLOCK)))):
        frame -= passed


def decode(
    path: str | Path, start: float = 0.0, duration: float | None = None
) -> tuple[NDArray[np.float32], int]:
    """The blocks of `read_blocks` in one piece `(samples,)`, and the sample rate in Hz."""
    blocks, rates = zip(*read_blocks(path, start, duration), strict=True)
    return np.concatenate(blocks), rates[0]


def load_blocks(
    path: str | Path, sample_rate: int, start: float = 0.0, duration: float | None = None
) -> Iterator[NDArray[np.float32]]:
    """Decode, mix down and resample block by block; each `(samples,)` at `sample_rate` Hz."""
    resampler = None
    for block, rate in read_blocks(path, start, duration):
        resampler = resampler or Resampler(rate, sample_rate)
        yield resampler.feed(block)
    if resampler is not None:
        yield resampler.flush()


def load_mono(
    path: str | Path, sample_rate: int, start: float = 0.0, duration: float | None = None
) -> NDArray[np.float32]:
    """The blocks of `load_blocks` in one piece, `(samples,)`."""
    return np.concatenate(list(load_blocks(path, sample_rate, start, duration)))


# ── samples ──────────────────────────────────────────────────────────────────────────────────────


def as_floats(samples: ArrayLike, what: str = "waveform") -> NDArray[np.float32]:
    """Samples of any signed type as finite float32, full scale at ±1; the shape is kept.

    Raises:
        AudioError: an unsigned or another type, NaN or infinity; `what` names the samples in it.
    """
    array = np.asarray(samples)
    if np.issubdtype(array.dtype, np.signedinteger):
        array = array / -float(np.iinfo(array.dtype).min)
    elif not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"{what} has the type {array.dtype}; give floats in ±1 or signed integers")
    return _finite(np.ascontiguousarray(array, dtype=np.float32), what)


def mixed_down(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(samples, channels)` → `(samples,)`, the mean over channels."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return np.ascontiguousarray(mono)


def _finite(samples: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    if not np.isfinite(samples).all():
        raise AudioError(f"{what} holds NaN or infinite samples")
    return samples


class Resampler:
    """Brings one waveform to another sample rate with soxr, block by block.

    Args:
        rate: Hz of what is fed.
        target_rate: Hz of what comes out.

    Raises:
        AudioError: a rate that isn't positive, or a ratio that soxr refuses.
    """

    def __init__(self, rate: int, target_rate: int) -> None:
        if rate <= 0:
            raise AudioError(f"sample rate is {rate} Hz; it must be positive")
        self._rates = (rate, target_rate)
        self._stream = None if rate == target_rate else self._new_stream()
        self._first = self._rest = np.empty(0, np.float32)
        self._silent = True

    def feed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a block `(samples,)` brings to completion; soxr holds a few milliseconds back."""
        if self._stream is None:
            return block
        if not len(self._first):
            self._first = block[:1].copy()
        return self._given(self._stream.resample_chunk(block))

    def flush(self) -> NDArray[np.float32]:
        """The samples that were held back; the waveform ends here, and another may follow."""
        if self._stream is None:
            return self._rest
        rest = self._given(self._stream.resample_chunk(self._rest, last=True))
        if self._silent:  # a handful of samples can round down to none
            rest = self._first
        self._stream = self._new_stream()
        self._first, self._silent = self._rest, True
        return rest

    def _given(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self._silent = self._silent and not len(samples)
        return samples

    def _new_stream(self) -> soxr.ResampleStream:
        import soxr

        try:
            return soxr.ResampleStream(*self._rates, 1, dtype="float32", quality="HQ")
        except (ValueError, RuntimeError) as error:
            raise AudioError(
                f"can't resample from {self._rates[0]} to {self._rates[1]} Hz: {error}"
            ) from error


def resample(waveform: NDArray[np.float32], rate: int, target_rate: int) -> NDArray[np.float32]:
    """Change the sample rate; `(samples,)` → `(samples · target / rate,)`, at least one."""
    if rate == target_rate:
        return waveform
    resampler = Resampler(rate, target_rate)
    return np.concatenate([resampler.feed(waveform), resampler.flush()])


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


def window_starts(samples: int, window: int, hop: int) -> NDArray[np.int64]:
    """First samples of the windows that cover a waveform; the last may reach past its end (zero-padded)."""
    uncovered = -(-(samples - window) // hop)  # windows after the first until the end is reached
    begun = -(-samples // hop) - 1  # and those that begin before it: fewer where hops are long
    return np.arange(1 + max(0, min(uncovered, begun)), dtype=np.int64) * hop


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a waveform that comes in block by block."""

    start: int
    """First sample, counted from the beginning of the waveform."""
    samples: NDArray[np.float32]
    """`(window,)`, zero past the end of the waveform."""
    heard: int
    """How many of them are the waveform's own."""


class Cutter:
    """Cuts the windows of `window_starts` while the samples come in; holds one window.

    Args:
        window: samples of a window.
        hop: samples from one window to the next.
    """

    def __init__(self, window: int, hop: int) -> None:
        self._hop = hop
        self._held = np.zeros(window, np.float32)
        self._reset()

    def _reset(self) -> None:
        self._start = 0  # of the window that is being filled
        self._filled = 0
        self._skip = 0  # samples to drop before it: where hops are longer than windows
        self._fresh = 0  # samples that lie in no window yet

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Window]:
        """The windows that some more samples `(samples,)` complete; to be used up before the next feed."""
        size = len(self._held)
        while len(samples):
            dropped = min(self._skip, len(samples))
            self._skip -= dropped
            piece = samples[dropped : dropped + size - self._filled]
            samples = samples[dropped + len(piece) :]
            self._held[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            self._fresh += len(piece)
            if self._filled == size:
                yield Window(self._start, self._held.copy(), size)
                self._next()

    def flush(self) -> Iterator[Window]:
        """The zero-padded tail, if any samples lie in no window yet; the next feed begins a new waveform."""
        if self._fresh:
            self._held[self._filled :] = 0
            yield Window(self._start, self._held.copy(), self._filled)
        self._reset()

    def _next(self) -> None:
        self._filled = max(0, len(self._held) - self._hop)
        self._held[: self._filled] = self._held[len(self._held) - self._filled :].copy()
        self._skip = max(0, self._hop - len(self._held))
        self._start += self._hop
        self._fresh = 0


def cut(blocks: Iterable[NDArray[np.float32]], window: int, hop: int) -> Iterator[Window]:
    """All windows of a waveform that comes in blocks `(samples,)`."""
    cutter = Cutter(window, hop)
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.flush()


def cut_windows(waveform: NDArray[np.float32], starts: NDArray[np.int64], window: int) -> NDArray[np.float32]:
    """Windows `(len(starts), window)` of a waveform `(samples,)` at rising starts; zero past its end."""
    first, end = int(starts[0]), int(starts[-1]) + window
    piece = waveform[first:end]
    if len(piece) < end - first:
        piece = np.concatenate([piece, np.zeros(end - first - len(piece), np.float32)])
    return np.lib.stride_tricks.sliding_window_view(piece, window)[starts - first]


def window_power(
    waveform: NDArray[np.float32], starts: NDArray[np.int64], window: int
) -> NDArray[np.float64]:
    """Sum of squares of each window, `(len(starts),)`; a few windows at a time are held in memory."""
    power = np.empty(len(starts))
    for i in range(0, len(starts), 32):
        block = cut_windows(waveform, starts[i : i + 32], window)
        power[i : i + 32] = np.einsum("ws,ws->w", block, block, dtype=np.float64)
    return power


def audible(power: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which windows of one clip may vote on its label, from their `window_power` `(windows,)`.

    A recording that was padded with silence would otherwise be decided by its padding: windows more than
    `QUIET_DB` below the loudest one are left out. A clip that is silent throughout keeps all its windows.
    """
    return np.asarray(power >= power.max() * 10 ** (QUIET_DB / 10))


def find_files(folder: Path) -> list[Path]:
    """All sound files below a folder, sorted; hidden files and folders are passed over."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )

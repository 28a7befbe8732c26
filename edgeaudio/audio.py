"""Sound files → mono float32 waveforms, and a waveform → the windows that a classifier hears.

Training and the shipped predictor cut windows with the same functions, so that a device never
hears anything cut differently from what the network has learnt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeaudio.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".au", ".w64", ".caf"}
)
"""File name endings (lower case) that are looked for in folders; a named file may have any."""

QUIET_DB = -60.0
"""A window this far below the loudest window of its clip (in dB of RMS) has no vote."""


def decode(
    path: str | Path, start: float = 0.0, duration: float | None = None
) -> tuple[NDArray[np.float32], int]:
    """Read a sound file, or a stretch of it, and mix it down to mono.

    Args:
        path: any file that libsndfile reads (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF …).
        start: seconds from the beginning.
        duration: seconds; to the end where None.

    Returns:
        The waveform `(samples,)`, full scale at ±1 (float files may exceed it), and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, not sound, holds no samples there, or holds NaN or infinity.
    """
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = int(file.samplerate)
            if start:
                file.seek(min(round(start * rate), file.frames))
            frames = -1 if duration is None else round(duration * rate)
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        if not Path(path).exists():
            raise AudioError(f"{path}: no such file") from error
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise AudioError(f"{path} can't be read as sound ({reason})") from error
    if not len(samples):
        stretch = f" after {start:g} s" if start else ""
        raise AudioError(f"{path} holds no samples{stretch}")
    waveform = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(waveform).all():
        raise AudioError(f"{path} holds NaN or infinite samples")
    return np.ascontiguousarray(waveform), rate


def resample(waveform: NDArray[np.float32], rate: int, target_rate: int) -> NDArray[np.float32]:
    """Change the sample rate with soxr; `(samples,)` → `(samples · target / rate,)`, at least one."""
    if rate == target_rate:
        return waveform
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(waveform, rate, target_rate, quality="HQ").astype(
        np.float32, copy=False
    )
    # a handful of samples can round down to none
    return resampled if len(resampled) else waveform[:1].copy()


def load_mono(
    path: str | Path, sample_rate: int, start: float = 0.0, duration: float | None = None
) -> NDArray[np.float32]:
    """Decode, mix down and resample in one go; `(samples,)` at `sample_rate` Hz."""
    waveform, rate = decode(path, start, duration)
    return resample(waveform, rate, sample_rate)


def window_starts(samples: int, window: int, hop: int) -> NDArray[np.int64]:
    """First samples of the windows that cover a waveform; the last may reach past its end (zero-padded)."""
    count = 1 + max(0, -(-(samples - window) // hop))
    return np.arange(count, dtype=np.int64) * hop


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

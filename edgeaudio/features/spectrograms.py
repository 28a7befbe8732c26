"""Waveform → spectrograms in dB, cut into chunks, each scaled to [-1, 1]: auDeep's preprocessing.

In this order: fixed length, one channel, pre-emphasis, power spectrum, mel bands, decibels under the loudest
value, clipping, chunks, scaling. The numbers are auDeep's to about 1e-15, rounding of its window lengths and
mel edges included, so features learnt there and here may be mixed.

Source: Freitag et al., auDeep: Unsupervised Learning of Representations from Audio with Deep Recurrent Neural
Networks (2017); github.com/auDeep/auDeep, `audeep/backend/preprocessing.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import AudioError, DataError, RecipeError, did_you_mean
from edgeaudio.features.sounds import CHANNELS, of_length

Array = NDArray[np.float64]

PRE_EMPHASIS = 0.95
_FLAT_DB = 1e-4  # a chunk that spans less is silence or one tone, and isn't blown up


@dataclass(frozen=True)
class SpectrogramSettings:
    """How spectrograms are made of sounds."""

    window_width: float = 0.04
    """Seconds of an FFT window."""
    window_overlap: float = 0.02
    """Seconds that neighbouring windows share."""
    mel: int | None = None
    """Mel bands; the linear power spectrum where None."""
    fixed_length: float | None = None
    """Seconds that each sound is cut or padded to, at its end."""
    center_fixed: bool = False
    """Cut or pad on both sides instead."""
    chunk_length: float | None = None
    """Seconds of a chunk; the whole sound is one where None."""
    chunk_count: int | None = None
    """Chunks of each sound; more are dropped."""
    channels: str = "mean"
    """What is made of two channels: ``mean``, ``left``, ``right`` or ``diff``."""
    clip_above: float | None = None
    """dB under the loudest value of the sound; what is above becomes this."""
    clip_below: float | None = None
    """dB; what is below becomes this."""
    scaled: bool = True
    """Bring each chunk to [-1, 1]; decibels where not."""

    def __post_init__(self) -> None:
        if not 0 <= self.window_overlap < self.window_width:
            raise RecipeError(
                f"windows of {self.window_width:g} s can't overlap by {self.window_overlap:g} s; "
                "the overlap must be shorter than the window and not negative"
            )
        if self.channels not in CHANNELS:
            raise RecipeError(f"unknown channels {self.channels!r}; {did_you_mean(self.channels, CHANNELS)}")
        if (self.chunk_length is None) != (self.chunk_count is None):
            raise RecipeError("--chunk-length and --chunk-count belong together; give both or neither")
        for name in ("mel", "fixed_length", "chunk_length", "chunk_count"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise RecipeError(f"--{name.replace('_', '-')} is {value:g}; it must be above 0")
        if self.center_fixed and self.fixed_length is None:
            raise RecipeError("--center-fixed belongs to --fixed-length; give that too")
        self._check_clipping()

    def _check_clipping(self) -> None:
        above, below = self.clip_above, self.clip_below
        for name, value in (("above", above), ("below", below)):
            if value is not None and value > 0:
                raise RecipeError(
                    f"--clip-{name} is {value:g} dB; the loudest value is 0 dB, so give 0 or less"
                )
        if above is not None and below is not None and below >= above:
            raise RecipeError(f"--clip-below {below:g} dB must be under --clip-above {above:g} dB")


@dataclass(frozen=True)
class Spectrogram:
    """The spectrograms of one sound."""

    chunks: tuple[Array, ...]
    """Each `(time, freq)`."""
    times: Array
    """Seconds of the windows' middles, through all chunks."""
    frequencies: Array
    """Hz of the bands' middles."""
    empty_bands: int
    """Mel bands that no FFT bin falls into."""
    silent: bool
    """Whether all samples are zero."""


def spectrogram(samples: Array, rate: int, settings: SpectrogramSettings, where: str) -> Spectrogram:
    """Make the spectrograms of one sound.

    Args:
        samples: waveform `(samples,)`, of one channel.
        rate: its sample rate in Hz.
        settings: how.
        where: the sound's name, for errors.

    Returns:
        One spectrogram for each chunk.

    Raises:
        AudioError: the sound is shorter than a window.
        DataError: it is too short for the chunks that are wanted, or the windows are for its rate.
    """
    if settings.fixed_length is not None:
        samples = of_length(samples, int(settings.fixed_length * rate), settings.center_fixed)
    width, overlap = _window(len(samples), rate, settings, where)
    frequencies, times, power = power_spectrum(pre_emphasised(samples), rate, width, overlap)
    empty = 0
    if settings.mel is not None:
        frequencies, bank = mel_bank(rate, width, settings.mel)
        power = bank @ power
        empty = int((~bank.any(axis=1)).sum())
    levels = decibels(power)
    levels = np.clip(levels, settings.clip_below, settings.clip_above) if _clips(settings) else levels
    size, count = _chunks(levels.shape[1], rate, width - overlap, settings, where)
    chunks = [levels[:, i * size : (i + 1) * size].T for i in range(count)]
    if settings.scaled:
        chunks = [scaled(chunk) for chunk in chunks]
    return Spectrogram(tuple(chunks), times[: size * count], frequencies, empty, not samples.any())


# ── one step each ────────────────────────────────────────────────────────────────────────────────


def pre_emphasised(samples: Array) -> Array:
    """`y[n] = x[n] - 0.95 x[n-1]`; the first sample is kept."""
    return np.append(samples[:1], samples[1:] - samples[:-1] * PRE_EMPHASIS)


def power_spectrum(samples: Array, rate: int, width: int, overlap: int) -> tuple[Array, Array, Array]:
    """Power spectrum under periodic Hann windows without their means.

    Args:
        samples: waveform `(samples,)`.
        rate: Hz.
        width: samples of a window.
        overlap: samples that neighbours share.

    Returns:
        Frequencies in Hz, times in seconds, and the power `(freq, time)`: the magnitude of SciPy's
        spectrogram (a density), squared, by the window's length.
    """
    from scipy import signal

    window = signal.get_window("hann", width)
    frequencies, times, magnitude = signal.spectrogram(
        samples, rate, window=window, noverlap=overlap, mode="magnitude"
    )
    return frequencies, times, magnitude**2 / width


@lru_cache(maxsize=16)
def mel_bank(rate: int, width: int, bands: int) -> tuple[Array, Array]:
    """Triangles on the HTK mel scale from 0 Hz to half the rate, with their edges on FFT bins.

    Args:
        rate: Hz.
        width: samples of the FFT window.
        bands: triangles.

    Returns:
        Their middles in Hz, and the bank `(bands, bins)`; a band whose edges fall on one bin is empty.
    """
    mels = np.linspace(0, 2595 * np.log10(1 + (rate / 2) / 700), bands + 2)
    hz = 700 * (10 ** (mels / 2595) - 1)
    # the edges are rounded down to bins, as auDeep does; textbook triangles would lie between them
    left, middle, right = (np.floor((width + 1) * hz / rate)[i : i + bands, None] for i in range(3))
    k = np.arange(width // 2 + 1)[None]
    rising, falling = (left <= k) & (k < middle), (middle <= k) & (k < right)
    bank = np.zeros((bands, k.shape[1]))
    np.divide(k - left, middle - left, out=bank, where=rising)
    np.divide(right - k, right - middle, out=bank, where=falling)
    bank.flags.writeable = False
    return hz[1:-1], bank


def decibels(power: Array) -> Array:
    """Power → dB under its maximum; zeros are lifted to the smallest other value, silence is 0 dB."""
    found = power[power > 0]
    if not found.size:
        return np.zeros_like(power)
    return np.asarray(10 * np.log10(np.maximum(power, found.min()) / found.max()))


def scaled(chunk: Array) -> Array:
    """Bring values to [-1, 1]; those of a flat chunk are set to 0 at its lowest."""
    chunk = chunk - chunk.mean()
    low, high = float(chunk.min()), float(chunk.max())
    return 2 * (chunk - low) / (high - low) - 1 if high - low > _FLAT_DB else chunk - low


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────


def _clips(settings: SpectrogramSettings) -> bool:
    return settings.clip_above is not None or settings.clip_below is not None


def _window(samples: int, rate: int, settings: SpectrogramSettings, where: str) -> tuple[int, int]:
    """Samples of a window and of the overlap."""
    width, overlap = int(rate * settings.window_width), int(rate * settings.window_overlap)
    if width < 2 or overlap >= width:
        raise DataError(
            f"{where}: at {rate} Hz a window of {settings.window_width:g} s is {width} samples and overlaps "
            f"by {overlap}; use longer windows"
        )
    if settings.fixed_length is not None:
        # sample rates that don't divide evenly give a frame more or less; then the overlap moves by a sample
        step = settings.window_width - settings.window_overlap
        expected = int((settings.fixed_length - settings.window_overlap) / step)
        actual = (samples - overlap) // (width - overlap)
        overlap -= (actual > expected) - (actual < expected)
    if samples < width:
        raise AudioError(
            f"{where} has {samples} samples, fewer than the {width} of a window (--fixed-length would pad it)"
        )
    return width, overlap


def _chunks(windows: int, rate: int, step: int, settings: SpectrogramSettings, where: str) -> tuple[int, int]:
    """Windows of a chunk, and chunks."""
    if settings.chunk_length is None or settings.chunk_count is None:
        return windows, 1
    size = int(rate * settings.chunk_length) // step
    if size < 1:
        raise DataError(
            f"{where}: at {rate} Hz a chunk of {settings.chunk_length:g} s holds no window; lengthen it"
        )
    if windows < size * settings.chunk_count:
        raise DataError(
            f"{where} has {windows} windows, so {windows // size} whole chunks of {settings.chunk_length:g} "
            f"s ({size} windows), fewer than --chunk-count {settings.chunk_count}; ask for fewer, or pass "
            "--fixed-length"
        )
    return size, settings.chunk_count

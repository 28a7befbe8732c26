"""Waveform → hand-crafted features of its frames → their mean, deviation and percentiles: one vector.

Source: McFee et al., librosa: Audio and Music Signal Analysis in Python (2015), which computes the frames;
Tzanetakis, Cook, Musical genre classification of audio signals (2002), for statistics of them as features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import AudioError, DataError, RecipeError, did_you_mean
from edgeaudio.features.sounds import CHANNELS

Array = NDArray[np.float32]

_LOWEST_CONTRAST = 200.0
"""Hz where the octaves of the spectral contrast begin."""
_LOWEST_RATE = 2 * _LOWEST_CONTRAST
"""Hz; a sound at this rate or a lower one has no such octave."""
_MEL_BANDS = 40
_DELTA_FRAMES = 9


@dataclass(frozen=True)
class StatisticsSettings:
    """How statistics are made of sounds."""

    window_width: float = 0.05
    """Seconds of a frame."""
    window_overlap: float = 0.025
    """Seconds that neighbouring frames share."""
    mfcc: int = 20
    """Mel-frequency cepstral coefficients, from 40 mel bands."""
    percentiles: tuple[float, ...] = (10.0, 50.0, 90.0)
    """Percentiles over the frames, beside mean and standard deviation."""
    tempo: bool = False
    """Add the tempo, in beats per minute; it says little of sounds under some 5 s."""
    rate: int | None = None
    """Hz that all sounds are brought to; each file's own where None."""
    chunk_length: float | None = None
    """Seconds of a chunk; the whole sound is one where None. A rest shorter than a chunk is left out."""
    chunk_count: int | None = None
    """Chunks of each sound; more are dropped. All there are where None."""
    channels: str = "mean"
    """What is made of two channels: ``mean``, ``left``, ``right`` or ``diff``."""

    def __post_init__(self) -> None:
        if not 0 <= self.window_overlap < self.window_width:
            raise RecipeError(
                f"windows of {self.window_width:g} s can't overlap by {self.window_overlap:g} s; "
                "the overlap must be shorter than the window and not negative"
            )
        if self.channels not in CHANNELS:
            raise RecipeError(f"unknown channels {self.channels!r}; {did_you_mean(self.channels, CHANNELS)}")
        if not 1 <= self.mfcc <= _MEL_BANDS:
            raise RecipeError(f"--mfcc is {self.mfcc}; {_MEL_BANDS} mel bands give 1 to {_MEL_BANDS} of them")
        if self.chunk_count is not None and self.chunk_length is None:
            raise RecipeError("--chunk-count belongs to --chunk-length; give that too")
        for name in ("rate", "chunk_length", "chunk_count"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise RecipeError(f"--{name.replace('_', '-')} is {value:g}; it must be above 0")
        if self.rate is not None and self.rate <= _LOWEST_RATE:
            raise RecipeError(f"--rate is {self.rate}; it must be above {_LOWEST_RATE:g} Hz")
        for value in self.percentiles:
            if not 0 <= value <= 100:
                raise RecipeError(f"--percentiles has {value:g}; each must be between 0 and 100")


def chunks_of(samples: Array, rate: int, settings: StatisticsSettings, where: str) -> list[Array]:
    """Cut a waveform `(samples,)` into the chunks that each give a vector.

    Raises:
        AudioError: it is shorter than a window, or its rate is too low; `where` is said.
        DataError: it is too short for the chunks that are wanted.
    """
    if len(samples) < round(settings.window_width * rate):
        raise AudioError(
            f"{where} has {len(samples)} samples, less than one window of {settings.window_width:g} s"
        )
    if rate <= _LOWEST_RATE:
        raise AudioError(
            f"{where} is at {rate} Hz; statistics need more than {_LOWEST_RATE:g} Hz, so pass a --rate"
        )
    if settings.chunk_length is None:
        return [samples]
    size = round(settings.chunk_length * rate)
    if settings.chunk_length < settings.window_width:
        raise DataError(
            f"a chunk of {settings.chunk_length:g} s holds no window of {settings.window_width:g} s; "
            "lengthen it"
        )
    count = len(samples) // size
    if count < (settings.chunk_count or 1):
        raise DataError(
            f"{where} gives {count} chunks of {settings.chunk_length:g} s, fewer than "
            f"{settings.chunk_count or 1}; ask for fewer or shorter ones"
        )
    return [samples[i * size : (i + 1) * size] for i in range(settings.chunk_count or count)]


def statistics(samples: Array, rate: int, settings: StatisticsSettings) -> dict[str, float]:
    """Make the features of one waveform.

    Args:
        samples: `(samples,)`, full scale at ±1, at least one window long.
        rate: its sample rate in Hz.
        settings: how.

    Returns:
        Name, such as ``centroid_mean`` or ``mfcc_3_delta_p90``, → value; frequencies are in Hz.
    """
    found: dict[str, float] = {}
    for name, values in frames_of(samples, rate, settings).items():
        found[f"{name}_mean"] = float(values.mean())
        found[f"{name}_std"] = float(values.std())
        marks = np.percentile(values, settings.percentiles)
        for percent, mark in zip(settings.percentiles, marks, strict=True):
            found[f"{name}_p{percent:g}"] = float(mark)
    if settings.tempo:
        found["tempo"] = _tempo(samples, rate, settings)
    return found


def frames_of(samples: Array, rate: int, settings: StatisticsSettings) -> dict[str, Array]:
    """Name → its value in each frame, `(frames,)`; arguments as in `statistics`."""
    import librosa
    from librosa import feature

    width, hop = _frame(rate, settings)
    frame: dict[str, Any] = {"frame_length": width, "hop_length": hop}
    magnitude = np.abs(librosa.stft(samples, n_fft=width, hop_length=hop))
    power = magnitude**2
    spectral = {"S": magnitude, "sr": rate, "n_fft": width, "hop_length": hop}
    mels = feature.melspectrogram(S=power, sr=rate, n_fft=width, n_mels=_MEL_BANDS)
    mfcc = feature.mfcc(S=librosa.power_to_db(mels), sr=rate, n_mfcc=settings.mfcc)
    # without a fixed tuning it would be guessed for every sound anew
    chroma = feature.chroma_stft(S=power, sr=rate, n_fft=width, hop_length=hop, tuning=0.0)
    found = {
        "centroid": feature.spectral_centroid(**spectral),
        "bandwidth": feature.spectral_bandwidth(**spectral),
        "rolloff": feature.spectral_rolloff(**spectral),
        "flatness": feature.spectral_flatness(S=magnitude),
        "zero_crossings": feature.zero_crossing_rate(samples, **frame),
        "rms": feature.rms(y=samples, **frame),
        "mfcc": mfcc,
        "mfcc_delta": feature.delta(mfcc, width=_DELTA_FRAMES, order=1, mode="nearest"),
        "mfcc_delta2": feature.delta(mfcc, width=_DELTA_FRAMES, order=2, mode="nearest"),
        "chroma": chroma,
        "contrast": feature.spectral_contrast(**spectral, fmin=_LOWEST_CONTRAST, n_bands=_octaves(rate)),
    }
    return {name: row for name, rows in found.items() for name, row in _named(name, rows)}


def _named(name: str, rows: Array) -> list[tuple[str, Array]]:
    """`mfcc_delta` of several rows → `mfcc_0_delta`, `mfcc_1_delta`, …."""
    if len(rows) == 1:
        return [(name, rows[0])]
    base, _, order = name.partition("_")
    return [("_".join(filter(None, (base, str(i), order))), row) for i, row in enumerate(rows)]


def _frame(rate: int, settings: StatisticsSettings) -> tuple[int, int]:
    """Samples of a frame, an even number, and from one to the next."""
    width = 2 * max(1, round(settings.window_width * rate / 2))
    return width, max(1, round((settings.window_width - settings.window_overlap) * rate))


def _octaves(rate: int) -> int:
    """Octaves of the spectral contrast that begin below half the rate, at most six."""
    return max(1, min(6, int(np.ceil(np.log2(rate / 2 / _LOWEST_CONTRAST)))))


def _tempo(samples: Array, rate: int, settings: StatisticsSettings) -> float:
    from librosa import feature

    _, hop = _frame(rate, settings)
    return float(feature.tempo(y=samples, sr=rate, hop_length=hop)[0])

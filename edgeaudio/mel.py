"""Windows, their edges and mel filter banks in float64 NumPy, from a `FrontEndSpec`; no torch.

Three conventions are in use and differ in the third digit of a log-mel:

- ``htk``: mel = 2595·log10(1 + f/700), triangles linear in Hz (torchaudio's default).
- ``slaney``: linear below 1 kHz, logarithmic above; triangles linear in Hz (librosa, PANNs).
- ``kaldi``: mel = 1127·ln(1 + f/700), triangles linear in *mel* (Kaldi, PaSST, CP-Mobile).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeaudio.config import FrontEndSpec
from edgeaudio.errors import AudioError

Array = NDArray[np.float64]

# Slaney's Auditory Toolbox: 200/3 Hz a mel up to 1 kHz, then 27 mels for each factor of 6.4.
_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_KNEE_MEL = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL  # 15
_SLANEY_LOG_STEP = np.log(6.4) / 27


PER_LN = {"ln": 1.0, "log10": 1 / math.log(10), "db": 10 / math.log(10), "none": 1.0}
"""What one unit of the natural logarithm is on each scale of `FrontEndSpec.log`."""


class Band(NamedTuple):
    """A run of mels and the run of columns outside which all of their weights are zero."""

    mel_start: int
    mel_stop: int
    start: int
    stop: int


def analysis_window(spec: FrontEndSpec) -> Array:
    """The analysis window.

    Args:
        spec: Front end; ``window`` and ``win_length`` are read.

    Returns:
        ``(win_length,)``; without the zeros that fill it up to ``n_fft``.
    """
    n = np.arange(spec.win_length)
    periodic = 2 * np.pi * n / spec.win_length
    symmetric = 2 * np.pi * n / max(1, spec.win_length - 1)
    if spec.win_length == 1:
        return np.ones(1)
    if spec.window == "hann":
        return np.asarray(0.5 - 0.5 * np.cos(periodic))
    if spec.window == "hann_symmetric":
        return np.asarray(0.5 - 0.5 * np.cos(symmetric))
    if spec.window == "hamming":
        return np.asarray(0.54 - 0.46 * np.cos(periodic))
    assert spec.window == "povey", spec.window
    return np.asarray((0.5 - 0.5 * np.cos(symmetric)) ** 0.85)


def edges(spec: FrontEndSpec, samples: int) -> tuple[int, int]:
    """Samples to add by reflection before and after the (pre-emphasised) waveform.

    Only what lies under the window is added: half a window, not half a DFT.

    Args:
        spec: The front end.
        samples: Length of the waveform.

    Raises:
        AudioError: The waveform is too short for one frame, or to be reflected that far.
    """
    lost = 1 if spec.pre_emphasis else 0
    left = spec.n_fft // 2 - (spec.n_fft - spec.win_length) // 2 if spec.center else 0
    right = spec.win_length - left
    needed = lost + (max(left, right) + 1 if spec.center else spec.win_length)
    if samples < needed:
        why = "reflect padding" if spec.center else "one window"
        raise AudioError(
            f"the waveform has {samples} samples and {why} needs at least {needed} "
            f"({needed / spec.sample_rate:.3g} s); pass a longer waveform or lower win_length"
        )
    if not spec.center:
        return 0, 0
    end_of_last_frame = (spec.frames(samples) - 1) * spec.hop_length + right
    return left, max(0, end_of_last_frame - (samples - lost))


def hz_to_mel(hz: Array, scale: str) -> Array:
    """Frequencies in Hz on one of the scales ``htk``, ``slaney`` and ``kaldi``."""
    if scale == "htk":
        return np.asarray(2595 * np.log10(1 + hz / 700))
    if scale == "kaldi":
        return np.asarray(1127 * np.log1p(hz / 700))
    assert scale == "slaney", scale
    above = _SLANEY_KNEE_MEL + np.log(np.maximum(hz, _SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return np.where(hz < _SLANEY_KNEE_HZ, hz / _SLANEY_HZ_PER_MEL, above)


def mel_to_hz(mel: Array, scale: str) -> Array:
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return np.asarray(700 * (10 ** (mel / 2595) - 1))
    if scale == "kaldi":
        return np.asarray(700 * np.expm1(mel / 1127))
    assert scale == "slaney", scale
    above = _SLANEY_KNEE_HZ * np.exp(
        (np.maximum(mel, _SLANEY_KNEE_MEL) - _SLANEY_KNEE_MEL) * _SLANEY_LOG_STEP
    )
    return np.where(mel < _SLANEY_KNEE_MEL, mel * _SLANEY_HZ_PER_MEL, above)


def mel_edges(spec: FrontEndSpec) -> Array:
    """Edges of the triangles in Hz, ``(n_mels + 2,)``: band m rises from m to m + 1 and falls to m + 2."""
    lowest, highest = hz_to_mel(np.array([spec.fmin, spec.fmax], dtype=np.float64), spec.mel_scale)
    return mel_to_hz(np.linspace(lowest, highest, spec.n_mels + 2), spec.mel_scale)


def mel_bank(spec: FrontEndSpec) -> Array:
    """Mel filter bank, applied to a power spectrum.

    A band narrower than the distance between two bins may be empty; no preset has one.

    Args:
        spec: Front end; the sample rate, ``n_fft`` and the mel fields are read.

    Returns:
        Weights ``(n_mels, n_fft // 2 + 1)``.

    Source:
        torchaudio's ``melscale_fbanks`` (``htk``, ``slaney``) and ``compliance.kaldi.get_mel_banks``
        (``kaldi``), whose arrays it reproduces.
    """
    edges = mel_edges(spec)
    bins: Array = np.arange(spec.n_fft // 2 + 1) * np.float64(spec.sample_rate / spec.n_fft)
    if spec.mel_scale == "kaldi":
        triangles = _triangles(hz_to_mel(edges, "kaldi"), hz_to_mel(bins, "kaldi"))
    else:
        triangles = _triangles(edges, bins)
    if spec.mel_norm == "slaney":
        triangles *= 2 / (edges[2:] - edges[:-2])[:, None]
    return triangles


def _triangles(edges: Array, points: Array) -> Array:
    left, peak, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (points - left) / (peak - left)
    falling = (right - points) / (right - peak)
    return np.maximum(0.0, np.minimum(rising, falling))


def bands(weights: Array, groups: int) -> list[Band]:
    """Cut a bank into runs of neighbouring mels, each with the columns that it touches.

    A bank is nearly diagonal: as one dense product it costs about 130 times its non-zero entries.

    Args:
        weights: ``(mels, columns)``.
        groups: How many runs at most.

    Returns:
        Bands in rising order that cover every mel; none has an empty run of columns.
    """
    mels = weights.shape[0]
    cuts = np.unique(np.linspace(0, mels, min(groups, mels) + 1).round().astype(int))
    return [_band(weights, a, b) for a, b in pairwise(cuts.tolist())]


def _band(weights: Array, mel_start: int, mel_stop: int) -> Band:
    touched = np.flatnonzero(weights[mel_start:mel_stop].any(axis=0))
    if len(touched) == 0:
        return Band(mel_start, mel_stop, 0, 1)
    return Band(mel_start, mel_stop, int(touched[0]), int(touched[-1]) + 1)

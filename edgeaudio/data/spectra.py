"""Spectra of synthetic sounds: random bins, colours, levels."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Signal: TypeAlias = npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def octaves_of(samples: int, sample_rate: int) -> Signal:
    """Frequency of each DFT bin `(samples // 2 + 1,)` in octaves above 1 kHz, from 20 Hz up."""
    return np.asarray(np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / sample_rate), 20) / 1000))


def amplitude(decibels: Signal) -> Signal:
    """Decibels as factors of amplitude."""
    return np.asarray(np.exp(np.log(10) / 20 * decibels))


def white(rng: np.random.Generator, bins: int) -> npt.NDArray[np.complex128]:
    """Complex normal DFT bins of variance 2."""
    return rng.standard_normal(2 * bins).view(np.complex128)


def unit(x: Signal) -> Signal:
    """Scale to an RMS of 1."""
    return np.asarray(x / np.sqrt(np.mean(x * x) + 1e-12))

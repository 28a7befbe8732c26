"""Digital silence filled with faint noise: a classifier must not live on how recordings were padded.

In some data sets the share of exact zeros betrays the class. Accuracy on filled clips, beside the plain one,
tells whether a model has learnt that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeaudio.data.waveforms import Waveforms

LEVEL = 1e-4
"""RMS of the noise: 80 dB below full scale, near the floor of a good microphone."""
SHORTEST = 1e-3
"""Seconds of exact zeros in a row that count as digital silence; single zeros are zero crossings."""


def fill(waveform: NDArray[np.float32], rate: int, seed: int) -> NDArray[np.float32]:
    """The waveform `(samples,)` with white noise in place of its runs of zeros; itself where it has none."""
    inside = silent(waveform, max(1, round(SHORTEST * rate)))
    if not inside.any():
        return waveform
    noise = np.random.default_rng(seed).normal(0, LEVEL, len(waveform))
    return np.where(inside, noise, waveform).astype(np.float32)


def silent(waveform: NDArray[np.float32], shortest: int) -> NDArray[np.bool_]:
    """Which samples `(samples,)` lie in a run of at least `shortest` exact zeros."""
    edges = np.diff(np.concatenate([[0], (waveform == 0).astype(np.int8), [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    inside = np.zeros(len(waveform), dtype=bool)
    for begin, end in zip(begins, ends, strict=True):
        inside[begin:end] = end - begin >= shortest
    return inside


class FilledWaveforms(Waveforms):
    """The waveforms of a table with their digital silence filled; the same noise every time."""

    def __init__(self, inner: Waveforms) -> None:
        """Wrap the waveforms; nothing is copied or stored."""
        self._inner = inner
        self.sample_rate, self.stats, self.key = inner.sample_rate, inner.stats, f"{inner.key}-filled"

    def __getitem__(self, i: int) -> NDArray[np.float32]:
        return fill(self._inner[i], self.sample_rate, i)

    @property
    def affected(self) -> list[int]:
        """Clips with any digital silence."""
        shortest = max(1, round(SHORTEST * self.sample_rate))
        return [i for i in range(len(self)) if silent(self._inner[i], shortest).any()]

"""Longer windows around the student's: what a teacher that wants more sound is shown."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeaudio.config import FrontEndSpec
from edgeaudio.training.views import Draws
from edgeaudio.training.windows import MelSource, WindowGrid, Windows, WindowSet


def widened(windows: WindowSet, seconds: float | None) -> Windows:
    """The same windows with more sound around them; the set itself where no more is wanted."""
    if seconds is None or round(seconds * windows.waveforms.sample_rate) <= windows.window:
        return windows
    return _Widened(windows, round(seconds * windows.waveforms.sample_rate))


class _Widened:
    """Windows of a set, each in the middle of a longer stretch, or where the clip's ends allow.

    Many windows of a clip share their stretch, so each is computed and kept once.
    """

    def __init__(self, windows: WindowSet, window: int) -> None:
        grid = windows.grid
        lengths = np.asarray([len(windows.waveforms[p]) for p in windows.positions])[grid.clip]
        middle = grid.start - (window - windows.window) // 2
        # a quarter of the window as a step: stretches that nearly agree are one
        step = max(1, window // 4)
        start = np.clip(np.rint(middle / step).astype(np.int64) * step, 0, np.maximum(lengths - window, 0))
        stretches, self._of = np.unique(np.stack([grid.clip, start], 1), axis=0, return_inverse=True)
        self._of = self._of.reshape(-1)
        self._inner = windows.along(WindowGrid(stretches[:, 0], stretches[:, 1], grid.clips), window)
        self._count = len(windows)

    def __len__(self) -> int:
        return self._count

    def blocks(self, size: int) -> list[NDArray[np.int64]]:
        """As in `WindowSet`."""
        return np.split(np.arange(len(self)), range(size, len(self), size))

    def mel_source(self, spec: FrontEndSpec, device: torch.device) -> MelSource:
        """As in `WindowSet`, by the numbers of the shorter windows."""
        source, of = self._inner.mel_source(spec, device), self._of

        def give(index: NDArray[np.int64], draws: Draws | None = None) -> Tensor:
            return source(of[index], draws)

        return give

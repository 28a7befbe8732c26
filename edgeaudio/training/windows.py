"""Clips → the windows that a network sees, as log-mels kept in memory where they fit.

Training draws from a fine grid of windows (a quarter of a window apart); validation and test hear exactly
the windows that the shipped predictor will cut. Silent windows of a clip that sounds elsewhere are left
out of both by the same rule (`audio.audible`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeaudio.audio import audible, window_power, window_starts
from edgeaudio.config import FrontEndSpec
from edgeaudio.console import Console
from edgeaudio.data.waveforms import Waveforms
from edgeaudio.frontend import build_front_end

CACHE_BYTES = 4 * 2**30
"""Log-mels are kept in memory up to this; beyond it they are computed for each batch anew."""

_BLOCK = (
    64  # windows a forward pass of the front end: enough to feed the cores, small enough for their caches
)


@dataclass(frozen=True)
class WindowGrid:
    """Where the windows of some clips lie."""

    clip: NDArray[np.int64]
    """`(windows,)` position of the window's clip among `clips`."""
    start: NDArray[np.int64]
    """`(windows,)` first sample."""
    clips: int
    """Number of clips."""

    def __len__(self) -> int:
        return len(self.clip)

    def of_clip(self) -> list[NDArray[np.int64]]:
        """The windows of each clip."""
        return np.split(np.arange(len(self.clip)), np.searchsorted(self.clip, np.arange(1, self.clips)))


def lay_grid(waveforms: Waveforms, positions: Sequence[int], window: int, hop: int) -> WindowGrid:
    """All audible windows of the clips at `positions`, `hop` samples apart."""
    clip, start = [], []
    for k, i in enumerate(positions):
        starts = window_starts(len(waveforms[i]), window, hop)
        starts = starts[audible(window_power(waveforms[i], starts, window))]
        clip.append(np.full(len(starts), k))
        start.append(starts)
    return WindowGrid(np.concatenate(clip), np.concatenate(start), len(positions))


class WindowSet:
    """Windows of some clips with their targets; `log_mel(index)` gives any of them."""

    def __init__(
        self,
        waveforms: Waveforms,
        positions: Sequence[int],
        targets: Sequence[int],
        window: int,
        hop: int,
        console: Console | None = None,
        others: Sequence[Waveforms] = (),
    ) -> None:
        """Lay the windows.

        Args:
            waveforms: of the whole table; their rate is the one in which windows are counted.
            positions: the set's clips in the table.
            targets: class index of every clip in the table.
            window: samples in a window.
            hop: samples between windows.
            console: shows progress.
            others: the same clips at other rates, for networks that hear those.
        """
        self.waveforms = waveforms
        self._at_rate = {w.sample_rate: w for w in (*others, waveforms)}
        self.positions = list(positions)
        self.window = window
        self.grid = lay_grid(waveforms, positions, window, hop)
        self.targets = torch.as_tensor([targets[i] for i in positions])
        """`(clips,)` class index of each clip."""
        self._console = console or Console(quiet=True)
        self._mels: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.grid)

    def waveform(self, index: Sequence[int] | NDArray[np.int64], rate: int | None = None) -> Tensor:
        """Waveforms `(len(index), samples)` of windows, at another rate on request."""
        waveforms = self._at_rate[rate or self.waveforms.sample_rate]
        scale = waveforms.sample_rate / self.waveforms.sample_rate
        window = round(self.window * scale)
        out = torch.zeros(len(index), window)
        for row, i in enumerate(index):
            start = round(self.grid.start[i] * scale)
            piece = waveforms[self.positions[self.grid.clip[i]]][start : start + window]
            out[row, : len(piece)] = torch.from_numpy(piece.copy())
        return out

    def blocks(self, size: int) -> list[NDArray[np.int64]]:
        """Indices of all windows in runs of at most `size`."""
        return np.split(np.arange(len(self)), range(size, len(self), size))

    def mel_source(self, spec: FrontEndSpec, device: torch.device) -> Callable[[NDArray[np.int64]], Tensor]:
        """A function from window indices to log-mels `(len(index), 1, mels, frames)` on `device`.

        The log-mels are computed once and kept where they fit into `CACHE_BYTES`.
        """
        front_end = build_front_end(spec).to(device)

        @torch.no_grad()
        def compute(index: NDArray[np.int64]) -> Tensor:
            mels: Tensor = front_end(self.waveform(index, spec.sample_rate).to(device))
            return mels

        frames = spec.frames(round(self.window * spec.sample_rate / self.waveforms.sample_rate))
        if len(self) * spec.n_mels * frames * 4 > CACHE_BYTES:
            return compute
        if spec.hash not in self._mels:
            self._mels.clear()  # one front end's at a time: teachers come first, then the student
            mels = torch.empty(len(self), 1, spec.n_mels, frames)
            for block in self._console.track(self.blocks(_BLOCK), "log-mels"):
                mels[torch.from_numpy(block)] = compute(block).cpu()
            self._mels[spec.hash] = mels
        mels = self._mels[spec.hash]
        return lambda index: mels[torch.from_numpy(np.asarray(index))].to(device)


@torch.no_grad()
def window_logits(
    model: torch.nn.Module,
    windows: WindowSet,
    spec: FrontEndSpec,
    device: torch.device,
    batch: int = 128,
) -> Tensor:
    """Logits `(windows, classes)` of a model for every window, on the CPU."""
    source = windows.mel_source(spec, device)
    was_training = model.training
    model.eval()
    logits = [model(source(block)).float().cpu() for block in windows.blocks(batch)]
    model.train(was_training)
    return torch.cat(logits)


def vote(scores: Tensor, grid: WindowGrid) -> Tensor:
    """Mean of the windows' scores `(windows, classes)` for each clip, `(clips, classes)`."""
    total = torch.zeros(grid.clips, scores.shape[1], dtype=scores.dtype)
    clip = torch.from_numpy(grid.clip)
    total.index_add_(0, clip, scores)
    return total / torch.bincount(clip, minlength=grid.clips)[:, None]

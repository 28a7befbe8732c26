"""Clips → the windows that a network sees, as log-mels kept in memory where they fit.

Training draws from a fine grid of windows (a quarter of a window apart); validation and test hear exactly
the windows that the shipped predictor will cut. Silent windows of a clip that sounds elsewhere are left
out of both by the same rule (`audio.audible`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeaudio.audio import audible, window_power, window_starts
from edgeaudio.config import FrontEndSpec
from edgeaudio.console import Console
from edgeaudio.data.impulses import Responses
from edgeaudio.data.waveforms import Waveforms
from edgeaudio.export.activation import to_scores
from edgeaudio.frontend import LogMel, Waveform, build_front_end
from edgeaudio.training.draws import Draws
from edgeaudio.training.heard import Rows, jittered, moved, noisy, touched

CACHE_BYTES = 4 * 2**30
"""Log-mels are kept in memory up to this; beyond it they are computed for each batch anew."""

_BLOCK = (
    64  # windows a forward pass of the front end: enough to feed the cores, small enough for their caches
)


_SAMPLES = 2**21
"""Samples whose sound is changed in one go (64 windows of a second at 32 kHz): bounds the memory."""

FrontEnd = LogMel | Waveform


class Windows(Protocol):
    """What a model can be asked about: numbered windows and their log-mels."""

    def __len__(self) -> int: ...

    def blocks(self, size: int) -> list[NDArray[np.int64]]:
        """Indices of all windows in runs of at most `size`."""

    def mel_source(self, spec: FrontEndSpec, device: torch.device) -> MelSource:
        """A function from window indices to log-mels."""


class MelSource(Protocol):
    """Gives the log-mels of windows."""

    def __call__(self, index: NDArray[np.int64], draws: Draws | None = None) -> Tensor:
        """Log-mels `(len(index), 1, mels, frames)`, with the draws that act on the waveform if given."""


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
        devices: Sequence[str] | None = None,
        labels: NDArray[np.float32] | None = None,
        responses: Responses | None = None,
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
            devices: name of the device of every clip in the table; empty where it isn't known.
            labels: `(table, classes)` a 1 for every label of every clip, where clips have several.
            responses: impulse responses, where the augmentation draws any.
        """
        self.waveforms = waveforms
        self._at_rate = {w.sample_rate: w for w in (*others, waveforms)}
        self.positions = list(positions)
        self.window = window
        self.grid = lay_grid(waveforms, positions, window, hop)
        self.targets = torch.as_tensor([targets[i] for i in positions])
        """`(clips,)` class index of each clip."""
        self._labels = None if labels is None else torch.from_numpy(labels[self.positions])
        self._devices = [devices[i] if devices else "" for i in positions]
        self.device_names = sorted({name for name in self._devices if name})
        """Known devices of the set's clips."""
        self.responses = responses
        self._console = console or Console(quiet=True)
        self._mels: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.grid)

    def along(self, grid: WindowGrid, window: int) -> WindowSet:
        """The same clips, cut into windows of another length that lie on a grid of their own."""
        other = copy.copy(self)
        other.window, other.grid, other._mels = window, grid, {}
        return other

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.window / self.waveforms.sample_rate

    @property
    def several(self) -> bool:
        """Whether a clip may have several labels; its scores are then each class's own (sigmoids)."""
        return self._labels is not None

    @property
    def truth(self) -> NDArray[Any]:
        """What is right, as metrics take it: `(clips,)` class indices, or with several labels a clip
        `(clips, classes)` a 1 for each."""
        return self.targets.numpy() if self._labels is None else self._labels.numpy()

    def device_of(self, index: NDArray[np.int64]) -> list[str]:
        """Name of each window's device; empty where it isn't known."""
        return [self._devices[clip] for clip in self.grid.clip[index]]

    @property
    def device_matrix(self) -> Tensor:
        """`(clips, devices)` a 1 for each clip's device, in the order of `device_names`; else zeros."""
        return torch.tensor([[float(name == mine) for name in self.device_names] for mine in self._devices])

    def label_matrix(self, classes: int) -> Tensor:
        """`(clips, classes)` a 1 for every label of each clip."""
        if self._labels is not None:
            return self._labels
        return torch.nn.functional.one_hot(self.targets, classes).float()

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

    def mel_source(self, spec: FrontEndSpec, device: torch.device) -> MelSource:
        """A function from window indices to log-mels `(len(index), 1, mels, frames)` on `device`.

        The log-mels are computed once and kept where they fit into `CACHE_BYTES`. Windows whose waveforms a
        batch's draws change are computed anew.
        """
        return _Source(self, spec, device, self._kept(spec, device))

    def _kept(self, spec: FrontEndSpec, device: torch.device) -> Tensor | None:
        """All log-mels of a front end; None where they are too many."""
        frames = spec.frames(round(self.window * spec.sample_rate / self.waveforms.sample_rate))
        if len(self) * spec.n_mels * frames * 4 > CACHE_BYTES:
            return None
        if spec.hash not in self._mels:
            self._mels.clear()  # one front end's at a time: teachers come first, then the student
            compute = _Source(self, spec, device)
            mels = torch.empty(len(self), 1, spec.n_mels, frames)
            for block in self._console.track(self.blocks(_BLOCK), "log-mels"):
                mels[torch.from_numpy(block)] = compute(block).cpu()
            self._mels[spec.hash] = mels
        return self._mels[spec.hash]


class _Source:
    """Log-mels of windows for one front end, kept or computed."""

    def __init__(
        self, windows: WindowSet, spec: FrontEndSpec, device: torch.device, kept: Tensor | None = None
    ) -> None:
        self._windows, self._spec, self._device, self._kept = windows, spec, device, kept
        self._front_end = build_front_end(spec).to(device)

    @torch.no_grad()
    def __call__(self, index: NDArray[np.int64], draws: Draws | None = None) -> Tensor:
        index = np.asarray(index)
        draws = draws or Draws()
        spec = jittered(self._spec, draws)
        if self._kept is None or spec is not self._spec:
            front_end = self._front_end if spec is self._spec else build_front_end(spec).to(self._device)
            return self._computed(index, np.arange(len(index)), draws, front_end)
        mels = self._kept[torch.from_numpy(index)].to(self._device)
        if len(rows := touched(draws, len(index))):
            mels[torch.from_numpy(rows)] = self._computed(index, rows, draws, self._front_end)
        return mels

    def _computed(self, index: NDArray[np.int64], rows: Rows, draws: Draws, front_end: FrontEnd) -> Tensor:
        block = max(1, _SAMPLES // self._windows.window)
        parts = [rows[i : i + block] for i in range(0, max(1, len(rows)), block)]
        return torch.cat([front_end(self._sound(index, part, draws)) for part in parts])

    def _sound(self, index: NDArray[np.int64], rows: Rows, draws: Draws) -> Tensor:
        """Waveforms `(len(rows), samples)` at the front end's rate, as the draws change them."""

        def at(rate: int) -> Tensor:
            waveform = self._windows.waveform(index[rows], rate).to(self._device)
            return moved(waveform, draws, rows, rate, self._windows.responses)

        own, counted = self._spec.sample_rate, self._windows.waveforms.sample_rate
        waveform = at(own)
        if draws.snr is None or not np.isfinite(draws.snr[rows]).any():
            return waveform
        return noisy(waveform, draws, rows, waveform if own == counted else at(counted))


@torch.no_grad()
def window_logits(
    model: torch.nn.Module,
    windows: Windows,
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


def clip_scores(logits: Tensor, windows: WindowSet) -> NDArray[np.float32]:
    """Scores `(clips, classes)` from logits `(windows, classes)`, as the shipped predictor gives them."""
    scores: NDArray[np.float32] = vote(to_scores(logits, windows.several), windows.grid).numpy()
    return scores


def vote(scores: Tensor, grid: WindowGrid) -> Tensor:
    """Mean of the windows' scores `(windows, classes)` for each clip, `(clips, classes)`."""
    total = torch.zeros(grid.clips, scores.shape[1], dtype=scores.dtype)
    clip = torch.from_numpy(grid.clip)
    total.index_add_(0, clip, scores)
    return total / torch.bincount(clip, minlength=grid.clips)[:, None]

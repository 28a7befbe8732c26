"""Impulse responses of microphones: a folder of sound files, at any sample rate.

A response is used as it lies in its file: its delay is kept, its level is not normalised. Resampling keeps
the frequency response, so that one which changes nothing changes nothing at any rate, and networks at several
rates hear the same. (A plain resampler keeps the samples' height instead: a filter of 44.1 kHz is then weaker
by 2.8 dB at 32 kHz.) The responses of MicIRP, which this is made for, mostly peak at 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeaudio.audio import SUFFIXES, decode, resample
from edgeaudio.config import content_hash
from edgeaudio.errors import AudioError, DataError

Signal = NDArray[np.float32]

_LEAD = 0.005
"""Seconds of room before a resampled response: a band-limited one begins before its first sample."""


class Responses:
    """Impulse responses in a fixed order."""

    def __init__(self, names: Sequence[str], signals: Sequence[tuple[Signal, int]]) -> None:
        """Keep them.

        Args:
            names: of each.
            signals: samples `(taps,)` of each, and their rate in Hz.
        """
        self.names = list(names)
        self._signals = list(signals)
        self._at: dict[int, tuple[Tensor, int]] = {}
        self.hash = content_hash([[rate, signal.tobytes().hex()] for signal, rate in self._signals])
        """Of all samples and rates, in order; not of the names."""

    def __len__(self) -> int:
        return len(self._signals)

    def at(self, rate: int) -> tuple[Tensor, int]:
        """All responses at a sample rate.

        Args:
            rate: Hz.

        Returns:
            `(responses, taps)`, the shorter ones filled up with zeros, and the taps before time zero.
        """
        if rate not in self._at:
            each = [_resampled(signal, own, rate) for signal, own in self._signals]
            lead = max(before for _, before in each)
            taps = lead + max(len(signal) - before for signal, before in each)
            table = torch.zeros(len(each), taps)
            for row, (signal, before) in zip(table, each, strict=True):
                row[lead - before : lead - before + len(signal)] = torch.from_numpy(signal)
            self._at[rate] = table, lead
        return self._at[rate]


def read(folder: str | Path) -> Responses:
    """Read all sound files of a folder and its subfolders, in the order of their names.

    Args:
        folder: where they lie; hidden files are passed over.

    Raises:
        DataError: there is no such folder, it holds no sound file, or one that can't be read or is silent.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"impulse responses: {folder} is no folder; name one of sound files")
    paths = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    if not paths:
        raise DataError(f"impulse responses: {folder} holds no sound file (.wav, .flac …); name another")
    return Responses([path.relative_to(folder).with_suffix("").as_posix() for path in paths], _signals(paths))


def _signals(paths: Sequence[Path]) -> list[tuple[Signal, int]]:
    signals = []
    for path in paths:
        try:
            signal, rate = decode(path)
        except AudioError as error:
            raise DataError(f"impulse response {error}; mend or remove it") from error
        if not signal.any():
            raise DataError(f"impulse response {path} is silent, so nothing would be heard; remove it")
        signals.append((signal, rate))
    return signals


def _resampled(signal: Signal, rate: int, target: int) -> tuple[Signal, int]:
    """A response at another rate with the same frequency response, and its taps before time zero."""
    if rate == target:
        return signal, 0
    # room whose length is a whole number of samples at both rates
    step = rate // math.gcd(rate, target)
    room = math.ceil(_LEAD * rate / step) * step
    padded = np.concatenate([np.zeros(room, np.float32), signal, np.zeros(room, np.float32)])
    # a sum over samples stands for an integral: more samples a second, each weighs less
    return resample(padded, rate, target) * np.float32(rate / target), room * target // rate

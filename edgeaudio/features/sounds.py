"""A clip's sound as one channel of float64 at the file's own rate, padded or cut to a length where wanted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeaudio.audio import read_channels
from edgeaudio.data.clips import Clip
from edgeaudio.errors import DataError

CHANNELS = ("mean", "left", "right", "diff")
"""What is made of two channels: their mean, one of them, or left minus right."""


def load(clip: Clip, channels: str = "mean") -> tuple[NDArray[np.float64], int]:
    """Decode a clip.

    Args:
        clip: the stretch to read.
        channels: one of `CHANNELS`; a sound of one channel is taken as it is.

    Returns:
        The waveform `(samples,)`, and its sample rate in Hz.

    Raises:
        AudioError: the file can't be read as sound, or holds no samples there.
        DataError: the channels can't be told apart as wanted.
    """
    blocks, rates = zip(*read_channels(clip.path, clip.start, clip.duration), strict=True)
    return one_channel(np.concatenate(blocks).astype(np.float64), channels, str(clip.path)), rates[0]


def one_channel(samples: NDArray[np.float64], channels: str, where: str) -> NDArray[np.float64]:
    """`(samples, channels)` → `(samples,)`.

    Raises:
        DataError: more than two channels and not their mean is wanted; `where` is said.
    """
    assert channels in CHANNELS
    count = samples.shape[1]
    if count > 2 and channels != "mean":
        raise DataError(f"{where} has {count} channels, so {channels} isn't told; use --channels mean")
    if count == 1:
        return samples[:, 0]
    if channels == "mean":
        return np.asarray(samples.mean(axis=1))
    left, right = samples[:, 0], samples[:, 1]
    return {"left": left, "right": right, "diff": left - right}[channels]


def of_length(samples: NDArray[np.float64], length: int, center: bool) -> NDArray[np.float64]:
    """Cut or pad with zeros to `length` samples: at the end, or on both sides with `center`."""
    surplus = len(samples) - length
    # of an odd number, the smaller half goes before
    before = abs(surplus) // 2 if center else 0
    if surplus > 0:
        return samples[before : before + length]
    return np.pad(samples, (before, -surplus - before))

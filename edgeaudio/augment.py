"""What is done to a batch of log-mels while training: plain functions of tensors and explicit draws.

Every function takes the random draws as arguments, so that a test can fix them and a job can repeat them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeaudio.config import FrontEndSpec
from edgeaudio.models.domain import freq_mixstyle

__all__ = ["change_level", "freq_mixstyle", "mask_mels", "mixup", "roll_frames"]


def mixup(x: Tensor, lam: Tensor, permutation: Tensor) -> Tensor:
    """Mix each item with another: `λ·x + (1 − λ)·x[permutation]`.

    Args:
        x: `(batch, …)`; log-mels, label distributions and teacher distributions are mixed alike.
        lam: `(batch,)` in [0, 1].
        permutation: `(batch,)` partner of each item.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    lam = lam.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)
    return x * lam + x[permutation] * (1 - lam)


def roll_frames(mel: Tensor, shifts: Tensor) -> Tensor:
    """Shift each log-mel `(batch, 1, mels, frames)` circularly by its own number of frames `(batch,)`."""
    frames = mel.shape[-1]
    index = (torch.arange(frames, device=mel.device) - shifts.to(mel.device)[:, None]) % frames
    return mel.gather(3, index[:, None, None, :].expand(mel.shape))


def mask_mels(mel: Tensor, first: Tensor, width: Tensor) -> Tensor:
    """Blank a band of mels in each clip with the clip's own mean.

    Args:
        mel: log-mel `(batch, channels, mels, frames)`.
        first: `(batch,)` lowest mel of the band.
        width: `(batch,)` number of mels.

    Source: Park et al., SpecAugment, Interspeech 2019.
    """
    index = torch.arange(mel.shape[2], device=mel.device)
    first, width = first.to(mel.device)[:, None], width.to(mel.device)[:, None]
    inside = (index >= first) & (index < first + width)
    # the clip's mean, not zero: zero is a loud sound in a log-mel
    return torch.where(inside[:, None, :, None], mel.mean(dim=(1, 2, 3), keepdim=True), mel)


def change_level(mel: Tensor, decibels: Tensor, spec: FrontEndSpec) -> Tensor:
    """The log-mel `(batch, 1, mels, frames)` of the same sound `decibels` `(batch,)` louder.

    Exact for a logarithm with an offset: the power is taken out of the logarithm, scaled and put back, so
    silence stays silence. Only for front ends that do neither square nor floor their power. A waveform
    `(batch, 1, 1, samples)` is scaled.
    """
    if spec.kind == "waveform":
        return mel * (10 ** (decibels.to(mel) / 20)).view(-1, 1, 1, 1)
    decibels = decibels * spec.power / 2  # of the power; a magnitude has half of them
    unit = {"ln": 1.0, "log10": math.log(10), "db": math.log(10) / 10}[spec.log]
    power = ((mel / spec.scale - spec.shift) * unit).exp() - spec.log_offset
    power = power.clamp_min(0) * (10 ** (decibels.to(mel) / 10)).view(-1, 1, 1, 1)
    return ((power + spec.log_offset).log() / unit + spec.shift) * spec.scale

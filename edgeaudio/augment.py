"""What is done to a batch of log-mels while training: plain functions of tensors and explicit draws.

Every function takes the random draws as arguments, so that a test can fix them and a job can repeat them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeaudio.config import FrontEndSpec


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


def freq_mixstyle(mel: Tensor, lam: Tensor, permutation: Tensor, eps: float = 1e-6) -> Tensor:
    """Exchange frequency-wise statistics between clips, which hides the recording device.

    Args:
        mel: log-mel `(batch, channels, mels, frames)`.
        lam: `(batch,)` share of the clip's own statistics.
        permutation: `(batch,)` whose statistics are mixed in.
        eps: added to the (unbiased) variance.

    Source: Zhou et al., Domain Generalization with MixStyle, ICLR 2021; frequency-wise form of Schmid et al.,
    CP-JKU submission to DCASE 2022 Task 1.
    """
    variance, mean = torch.var_mean(mel, dim=(1, 3), keepdim=True)
    # statistics are constants: no gradient flows through them
    mean, std = mean.detach(), (variance + eps).sqrt().detach()
    lam = lam.view(-1, 1, 1, 1).to(mel.dtype)
    mixed_std = lam * std + (1 - lam) * std[permutation]
    mixed_mean = lam * mean + (1 - lam) * mean[permutation]
    # (mel − mean)/std·mixed_std + mixed_mean as one multiplication and one addition over the large tensor
    gain = mixed_std / std
    return mel * gain + (mixed_mean - mean * gain)


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
    silence stays silence. Only for front ends that do neither square nor floor their power.
    """
    unit = {"ln": 1.0, "log10": math.log(10), "db": math.log(10) / 10}[spec.log]
    power = ((mel / spec.scale - spec.shift) * unit).exp() - spec.log_offset
    power = power.clamp_min(0) * (10 ** (decibels.to(mel) / 10)).view(-1, 1, 1, 1)
    return ((power + spec.log_offset).log() / unit + spec.shift) * spec.scale

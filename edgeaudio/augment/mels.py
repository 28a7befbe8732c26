"""What is done to log-mels: moved, made louder or duller, mixed, cut and blanked.

A network that hears the waveform has it in the place of the log-mel, as `(batch, 1, 1, samples)`; what is
said of frames then holds for samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeaudio.config import FrontEndSpec
from edgeaudio.mel import PER_LN

# ── mixing ───────────────────────────────────────────────────────────────────────────────────────


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


def cutmix(mel: Tensor, permutation: Tensor, mels: slice, frames: slice) -> Tensor:
    """Put a rectangle of the partner's log-mel in the place of the own one.

    Args:
        mel: `(batch, 1, mels, frames)`.
        permutation: `(batch,)` partner of each item.
        mels: the rectangle's rows.
        frames: its columns.

    Source: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers, ICCV 2019.
    """
    out = mel.clone()
    out[:, :, mels, frames] = mel[permutation, :, mels, frames]
    return out


# ── time and bands ───────────────────────────────────────────────────────────────────────────────


def roll_frames(mel: Tensor, shifts: Tensor) -> Tensor:
    """Shift each log-mel `(batch, 1, mels, frames)` circularly by its own number of frames `(batch,)`."""
    frames = mel.shape[-1]
    index = (torch.arange(frames, device=mel.device) - shifts.to(mel.device)[:, None]) % frames
    return mel.gather(3, index[:, None, None, :].expand(mel.shape))


def stretch_frames(mel: Tensor, factor: Tensor, place: Tensor) -> Tensor:
    """Play each log-mel slower or faster at the same pitch, by interpolation between its frames.

    Args:
        mel: log-mel `(batch, channels, mels, frames)`.
        factor: `(batch,)` times as long, at least 0.5. Of a longer one as many frames are kept as there were;
            a shorter one goes on backwards where it ends.
        place: `(batch,)` in [0, 1], where the frames that are kept begin: 0 is the earliest, 1 the latest.
    """
    last = mel.shape[3] - 1
    factor, place = factor.to(mel.device)[:, None], place.to(mel.device)[:, None]
    begin = place * (last - last / factor).clamp_min(0)
    frame = begin + torch.arange(last + 1, device=mel.device) / factor
    return _between(mel, (last - (last - frame).abs()).clamp(0, last), 3)


def shift_mels(mel: Tensor, source: Tensor) -> Tensor:
    """Move each log-mel's spectrum, by interpolation between its bands.

    Args:
        mel: log-mel `(batch, channels, mels, frames)`.
        source: `(batch, mels)` the band, in general between two, that is heard in each band afterwards; from
            0 to `mels` − 1.
    """
    return _between(mel, source.to(mel.device), 2)


def _between(mel: Tensor, position: Tensor, axis: int) -> Tensor:
    """Values at positions `(batch, size)` between the places of an axis, on the straight line between two."""
    low = position.floor().long()
    high = (low + 1).clamp_max(mel.shape[axis] - 1)
    shape = (len(mel), 1, -1, 1) if axis == 2 else (len(mel), 1, 1, -1)
    share = (position - low).to(mel.dtype).view(shape)
    below, above = (mel.gather(axis, index.view(shape).expand_as(mel)) for index in (low, high))
    return torch.lerp(below, above, share)


def mask_mels(mel: Tensor, first: Tensor, width: Tensor, fill: Tensor | None = None) -> Tensor:
    """Blank a band of mels in each clip.

    Args:
        mel: log-mel `(batch, channels, mels, frames)`.
        first: `(batch,)` lowest mel of the band.
        width: `(batch,)` number of mels.
        fill: `(batch, 1, 1, 1)` what comes in its place; the clip's own mean if not given, since zero is a
            loud sound in a log-mel.

    Source: Park et al., SpecAugment, Interspeech 2019.
    """
    inside = _inside(mel.shape[2], first, width, mel.device)
    return _blanked(mel, inside[:, None, :, None], fill)


def mask_frames(mel: Tensor, first: Tensor, width: Tensor, fill: Tensor | None = None) -> Tensor:
    """Blank a stretch of frames in each clip; arguments as in `mask_mels`, of frames instead of mels."""
    inside = _inside(mel.shape[3], first, width, mel.device)
    return _blanked(mel, inside[:, None, None, :], fill)


def _inside(count: int, first: Tensor, width: Tensor, device: torch.device) -> Tensor:
    index = torch.arange(count, device=device)
    first, width = first.to(device)[:, None], width.to(device)[:, None]
    return (index >= first) & (index < first + width)


def _blanked(mel: Tensor, inside: Tensor, fill: Tensor | None) -> Tensor:
    return torch.where(inside, mel.mean(dim=(1, 2, 3), keepdim=True) if fill is None else fill, mel)


# ── level ────────────────────────────────────────────────────────────────────────────────────────


def change_level(mel: Tensor, decibels: Tensor, spec: FrontEndSpec) -> Tensor:
    """The log-mel `(batch, 1, mels, frames)` of the same sound `decibels` `(batch,)` louder.

    Exact for a logarithm with an offset: the power is taken out of the logarithm, scaled and put back, so
    silence stays silence. What lies at the floor of a front end that has one stays there. Not for front ends
    that square. A waveform `(batch, 1, 1, samples)` is scaled.
    """
    gain = (10 ** (decibels.to(mel) / 20)).view(-1, 1, 1, 1)
    if spec.kind == "waveform":
        return ((mel / spec.scale - spec.shift) * gain + spec.shift) * spec.scale
    return _scaled(mel, gain**spec.power, spec)


def low_pass_envelope(place: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """A smooth edge over the mels: 1 − ½·(tanh(slope·(place − ½) − offset) + 1).

    Args:
        place: `(mels,)` of each band: 0 is the lowest, 1 the highest.
        slope: `(batch,)` steepness.
        offset: `(batch,)` how far up the edge lies; the half is at place ½ + offset / slope.

    Returns:
        `(batch, mels)` factors between 0 and 1.

    Source: the augmentation of a public sound classification toolkit (hirune924/cvkit).
    """
    return 0.5 - 0.5 * torch.tanh(slope[:, None] * (place - 0.5) - offset[:, None])


def low_pass(mel: Tensor, envelope: Tensor, spec: FrontEndSpec) -> Tensor:
    """Weaken each band of a log-mel `(batch, 1, mels, frames)` by its factor.

    Args:
        mel: the log-mels.
        envelope: `(batch, mels)` factors of the mel power. Where there is no plain logarithm (a squared front
            end, or one without logarithm) they multiply the value itself, as in the source.
        spec: the front end.

    Source: as `low_pass_envelope`.
    """
    factors = envelope.to(mel)[:, None, :, None]
    if spec.log == "none" or spec.squared:
        return mel * factors
    return _scaled(mel, factors ** (spec.power / 2), spec)  # a magnitude has the root of it


def _scaled(mel: Tensor, factor: Tensor, spec: FrontEndSpec) -> Tensor:
    """The log-mel of a mel power (or magnitude) times `factor`."""
    unit = PER_LN[spec.log]
    power = ((mel / spec.scale - spec.shift) / unit).exp() - spec.log_offset
    scaled = power.clamp_min(0) * factor
    if spec.log_floor:
        # what was lifted to the floor is silence as far as anybody knows: it is not made louder
        silent = power <= spec.log_floor * (1 + 1e-4)
        scaled = scaled.masked_fill(silent, 0).clamp_min(spec.log_floor)
    return ((scaled + spec.log_offset).log() * unit + spec.shift) * spec.scale

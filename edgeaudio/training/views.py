"""What a training batch looks like to a network: the draws as they act on log-mels and on labels.

`draws` says what is drawn, `heard` what is done to the waveform before the front end.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeaudio import augment
from edgeaudio.config import FrontEndSpec
from edgeaudio.training.draws import Cut, Draws, Edge, Mix, Pitch, check_devices, draw

__all__ = ["Draws", "Mix", "check_devices", "draw", "labels", "view"]


def view(mel: Tensor, draws: Draws, spec: FrontEndSpec) -> Tensor:
    """A batch of log-mels `(batch, 1, mels, frames)` of one front end as the draws change it.

    What acts on mels leaves waveforms `(batch, 1, 1, samples)` be: time stretch, pitch shift, low-pass,
    freq-MixStyle and blanked bands; CutMix takes a stretch of time.

    Args:
        mel: as the front end gives it, for sounds that the waveform's draws have been applied to.
        draws: of the batch.
        spec: the front end.
    """
    if draws.tempo is not None and spec.kind != "waveform":
        factor, place = (torch.from_numpy(values) for values in (draws.tempo.factor, draws.tempo.place))
        mel = augment.stretch_frames(mel, factor, place)
    if draws.pitch is not None and spec.kind != "waveform":
        mel = augment.shift_mels(mel, _from_where(draws.pitch, spec))
    if draws.roll is not None:
        frames = np.rint(draws.roll * spec.sample_rate / spec.hop_length).astype(np.int64)
        mel = augment.roll_frames(mel, torch.from_numpy(frames))
    if draws.decibels is not None:
        mel = augment.change_level(mel, torch.from_numpy(draws.decibels), spec)
    if draws.edge is not None and spec.kind != "waveform":
        mel = _duller(mel, draws.edge, spec)
    if draws.cut is not None:
        mel = _cut(mel, draws.cut)
    for mix in draws.mixup:
        mel = augment.mixup(mel, *_on(mix, mel.device))
    if draws.style is not None and spec.kind != "waveform":
        mel = augment.freq_mixstyle(mel, *_on(draws.style, mel.device))
    if draws.channel_style is not None:
        mel = augment.mixstyle(mel, *_on(draws.channel_style, mel.device))
    return _masked(mel, draws, spec)


def labels(values: Tensor, draws: Draws) -> Tensor:
    """Label distributions or teachers' answers `(batch, classes)`, mixed as the windows are."""
    for mix in (*([draws.cut.mix] if draws.cut else []), *draws.mixup):
        values = augment.mixup(values, *_on(mix, values.device))
    return values


def _from_where(pitch: Pitch, spec: FrontEndSpec) -> Tensor:
    """`(batch, mels)` which band of the front end is heard in each band after the move."""
    place = pitch.axis.place(spec)
    bands = np.arange(len(place), dtype=np.float64)
    return torch.from_numpy(np.stack([np.interp(place - rise, place, bands) for rise in pitch.rise]))


def _duller(mel: Tensor, edge: Edge, spec: FrontEndSpec) -> Tensor:
    rows = np.flatnonzero(np.isfinite(edge.offset))
    if not len(rows):
        return mel
    slope, offset = torch.from_numpy(edge.slope[rows]), torch.from_numpy(edge.offset[rows])
    envelope = augment.low_pass_envelope(torch.from_numpy(edge.axis.place(spec)), slope, offset)
    out = mel.clone()
    where = torch.from_numpy(rows).to(mel.device)
    out[where] = augment.low_pass(mel[where], envelope, spec)
    return out


def _cut(mel: Tensor, cut: Cut) -> Tensor:
    _, _, mels, frames = mel.shape
    rows = slice(round(cut.mels[0] * mels), round(cut.mels[1] * mels)) if mels > 1 else slice(0, 1)
    columns = slice(round(cut.time[0] * frames), round(cut.time[1] * frames))
    return augment.cutmix(mel, torch.from_numpy(cut.partner).to(mel.device), rows, columns)


def _masked(mel: Tensor, draws: Draws, spec: FrontEndSpec) -> Tensor:
    bands = () if spec.kind == "waveform" else draws.bands
    if not bands and not draws.stretches:
        return mel
    # of the whole window, before anything is blanked: the order of the masks must not matter
    fill = mel.mean(dim=(1, 2, 3), keepdim=True)
    for first, width in bands:
        mel = augment.mask_mels(mel, _whole(first * mel.shape[2]), _whole(width * mel.shape[2]), fill)
    for place, seconds in draws.stretches:
        frames = np.minimum(np.rint(seconds * spec.sample_rate / spec.hop_length), mel.shape[3])
        first = np.floor(place * (mel.shape[3] - frames + 1))
        mel = augment.mask_frames(mel, _whole(first), _whole(frames), fill)
    return mel


def _whole(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.rint(values)).long()


def _on(mix: Mix, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(mix.lam).to(device), torch.from_numpy(mix.partner).to(device)

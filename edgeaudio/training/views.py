"""What a training batch looks like to a network: the epoch's draws, apart from the tensors they act on.

The draws are in seconds, decibels and shares, so they hold for every front end: a teacher with other mels
can be shown the very view that the student learns from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeaudio import augment
from edgeaudio.config import FrontEndSpec, Recipe

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Mix:
    """Which partner each item is mixed with."""

    lam: NDArray[np.float32]
    """`(batch,)` share of the item itself."""
    partner: NDArray[np.int64]
    """`(batch,)` the other's place in the batch."""


@dataclass(frozen=True)
class Draws:
    """All that was drawn for one batch."""

    shift: Floats | None
    """`(batch,)` circular shift in seconds."""
    decibels: Floats | None
    """`(batch,)` change of level."""
    mixup: Mix | None
    style: Mix | None
    """Of freq-MixStyle."""
    mask: tuple[Floats, Floats] | None
    """`(batch,)` lower edge and width of the blanked band, as shares of the mels."""


def draw(recipe: Recipe, size: int, rng: np.random.Generator) -> Draws:
    """Draw everything that a recipe's augmentation needs for a batch of `size` windows."""
    spec, front_end = recipe.augment, recipe.frontend
    frames_per_second = front_end.sample_rate / front_end.hop_length
    reach = round(spec.roll_seconds * frames_per_second)
    shift = rng.integers(-reach, reach + 1, size) / frames_per_second if reach else None
    decibels = rng.uniform(-spec.gain_db, spec.gain_db, size) if spec.gain_db else None
    mixup = style = mask = None
    if spec.mixup_alpha and rng.random() < spec.mixup_p:
        mixup = _draw_mix(spec.mixup_alpha, size, rng)
    if spec.freq_mixstyle_p and rng.random() < spec.freq_mixstyle_p:
        style = _draw_mix(spec.freq_mixstyle_alpha, size, rng)
    if spec.freq_mask:
        width = rng.integers(0, spec.freq_mask + 1, size)
        first = rng.integers(0, front_end.n_mels - width + 1)
        mask = first / front_end.n_mels, width / front_end.n_mels
    return Draws(shift, decibels, mixup, style, mask)


def view(mel: Tensor, draws: Draws, spec: FrontEndSpec) -> Tensor:
    """A batch of log-mels `(batch, 1, mels, frames)` of one front end as the draws change it."""
    if draws.shift is not None:
        frames = np.rint(draws.shift * spec.sample_rate / spec.hop_length).astype(np.int64)
        mel = augment.roll_frames(mel, torch.from_numpy(frames))
    if draws.decibels is not None:
        mel = augment.change_level(mel, torch.from_numpy(draws.decibels), spec)
    if draws.mixup:
        mel = mixed(mel, draws.mixup)
    if draws.style:
        lam, partner = _on(draws.style, mel.device)
        mel = augment.freq_mixstyle(mel, lam, partner)
    if draws.mask:
        first, width = (torch.from_numpy(np.rint(share * spec.n_mels)).long() for share in draws.mask)
        mel = augment.mask_mels(mel, first, width)
    return mel


def mixed(values: Tensor, mix: Mix | None) -> Tensor:
    """Log-mels or label distributions `(batch, …)` mixed by mixup's draws; unchanged without."""
    if mix is None:
        return values
    lam, partner = _on(mix, values.device)
    return augment.mixup(values, lam, partner)


def _draw_mix(alpha: float, size: int, rng: np.random.Generator) -> Mix:
    return Mix(rng.beta(alpha, alpha, size).astype(np.float32), rng.permutation(size))


def _on(mix: Mix, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(mix.lam).to(device), torch.from_numpy(mix.partner).to(device)

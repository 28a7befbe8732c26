"""The draws that act on the sound itself: through an impulse response, shifted, noisy, on jittered mels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeaudio import augment
from edgeaudio.config import FrontEndSpec
from edgeaudio.data.impulses import Responses
from edgeaudio.errors import DataError
from edgeaudio.training.draws import Draws

Rows = NDArray[np.int64]


def touched(draws: Draws, size: int) -> Rows:
    """Which of a batch's `size` windows have another waveform than the stored one."""
    rows = np.zeros(size, dtype=bool)
    if draws.response is not None:
        rows |= ~np.isnan(draws.response)
    if draws.shift is not None:
        rows |= draws.shift != 0
    if draws.snr is not None:
        rows |= np.isfinite(draws.snr)
    return np.flatnonzero(rows)


def jittered(spec: FrontEndSpec, draws: Draws) -> FrontEndSpec:
    """The front end with the batch's mel edges, never beyond half the sample rate; itself where they stay.

    Raises:
        RecipeError: so narrow a front end that the edges would meet.
    """
    if draws.jitter is None or draws.jitter == (0, 0) or spec.kind == "waveform":
        return spec
    low, high = draws.jitter
    return replace(spec, fmin=spec.fmin + low, fmax=min(spec.fmax + high, spec.sample_rate / 2))


def moved(waveform: Tensor, draws: Draws, rows: Rows, rate: int, responses: Responses | None) -> Tensor:
    """Waveforms heard through their impulse responses, then shifted.

    Args:
        waveform: `(len(rows), samples)`.
        draws: of the whole batch.
        rows: the waveforms' places in the batch.
        rate: sample rate in Hz.
        responses: what `draws.response` chooses from.

    Raises:
        DataError: there are no responses to choose from.
    """
    if draws.response is not None and len(chosen := np.flatnonzero(~np.isnan(draws.response[rows]))):
        if responses is None:
            raise DataError(
                "impulse responses are drawn but none were read; pass responses to the windows, "
                "or set augment.impulse_response_p to 0"
            )
        which = (draws.response[rows[chosen]] * len(responses)).astype(np.int64)
        at_rate, lead = responses.at(rate)
        where = torch.from_numpy(chosen).to(waveform.device)
        response = at_rate[torch.from_numpy(which)].to(waveform.device)
        waveform = waveform.clone()
        waveform[where] = augment.convolve(waveform[where], response, lead)
    if draws.shift is not None:
        samples = np.rint(draws.shift[rows] * rate).astype(np.int64)
        waveform = augment.shift(waveform, torch.from_numpy(samples))
    return waveform


def noisy(waveform: Tensor, draws: Draws, rows: Rows, reference: Tensor) -> Tensor:
    """Waveforms with their white noise.

    Args:
        waveform: `(len(rows), samples)`.
        draws: of the whole batch.
        rows: the waveforms' places in the batch.
        reference: `(len(rows), samples)` the same sounds at the sample rate in which windows are counted.
            Their power sets the noise's level, so that a network at another rate hears the same noise.
    """
    if draws.snr is None or not len(chosen := np.flatnonzero(np.isfinite(draws.snr[rows]))):
        return waveform
    where = torch.from_numpy(chosen).to(waveform.device)
    seeds = [(draws.seed, int(row)) for row in rows[chosen]]
    noise = augment.white_noise(seeds, waveform.shape[1], reference.shape[1]).to(waveform.device)
    power = reference[where].square().mean(1)
    snr = torch.from_numpy(draws.snr[rows[chosen]])
    out = waveform.clone()
    out[where] = augment.add_noise(waveform[where], noise, power, snr)
    return out

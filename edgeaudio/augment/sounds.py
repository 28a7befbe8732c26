"""What is done to waveforms: a microphone's response, a shift that leaves silence behind, white noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor


def convolve(waveform: Tensor, response: Tensor, lead: int = 0) -> Tensor:
    """Hear each waveform through an impulse response: the full convolution, cut to the waveform's length.

    Neither level nor delay are changed beyond what the response does.

    Args:
        waveform: `(batch, samples)`.
        response: `(batch, taps)` at the same sample rate.
        lead: taps before time zero.

    Returns:
        `(batch, samples)`.
    """
    samples = waveform.shape[1]
    response = response[:, : samples + lead]  # what comes later falls behind the end
    # as long as the full convolution, so that nothing wraps round to the beginning
    length = int(next_fast_len(samples + response.shape[1] - 1, real=True))
    spectrum = torch.fft.rfft(waveform, length).mul_(torch.fft.rfft(response, length))
    heard: Tensor = torch.fft.irfft(spectrum, length)
    return heard[:, lead : lead + samples]


def shift(waveform: Tensor, samples: Tensor) -> Tensor:
    """Move each waveform in time; what is moved over an edge is lost and silence comes in.

    Args:
        waveform: `(batch, samples)`.
        samples: `(batch,)` whole samples; positive is later.

    Returns:
        `(batch, samples)`.
    """
    length = waveform.shape[1]
    source = torch.arange(length, device=waveform.device) - samples.to(waveform.device)[:, None]
    moved = waveform.gather(1, source.clamp(0, length - 1))
    return moved.masked_fill_((source < 0) | (source >= length), 0)


def white_noise(seeds: Sequence[Sequence[int]], samples: int, reference: int | None = None) -> Tensor:
    """Gaussian white noise, the same from a seed at every sample rate.

    Its DFT bins are drawn from the lowest up. A stretch of d seconds has a bin every 1/d Hz at any rate, so
    at a lower rate the first of the same bins are there: the same noise without its upper end.

        x[n] = c · irfft(a + jb) with a, b ~ N(0, 1). Each of the N/2 bins adds (2c/N)² to the power, together
        2c²/N; so c = √(N/2) at the reference, and N'/N of it where N' samples share its bins.

    Args:
        seeds: of each row.
        samples: length.
        reference: length of the same stretch at the rate where its mean power is 1; this one if not given.

    Returns:
        `(rows, samples)`, float32.
    """
    values = 2 * (samples // 2 + 1)
    rows = [np.random.default_rng(list(seed)).standard_normal(values, dtype=np.float32) for seed in seeds]
    spectrum = torch.from_numpy(np.stack(rows)).view(torch.complex64)
    noise: Tensor = torch.fft.irfft(spectrum, samples)
    return noise * (samples / math.sqrt(2 * (reference or samples)))


def add_noise(waveform: Tensor, noise: Tensor, power: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise at a signal-to-noise ratio.

    Args:
        waveform: `(batch, samples)`.
        noise: `(batch, samples)`, of power 1.
        power: `(batch,)` mean square of the signal that the ratio is held against; 0 adds nothing.
        snr_db: `(batch,)` ratio of the powers in decibels.

    Returns:
        `(batch, samples)`.
    """
    level = (power * 10 ** (-snr_db.to(power) / 10)).sqrt()
    return waveform + level[:, None] * noise

"""Simulated recording devices: a filter, a noise floor and soft clipping each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgeaudio.data.spectra import Signal, amplitude, octaves_of, white


@dataclass(frozen=True)
class Device:
    """A microphone and its amplifier."""

    response: tuple[tuple[float, float], ...]
    """Corners `(Hz, dB)` of the frequency response, joined by lines over log-frequency."""
    gain_db: float
    """Amplification after the filter."""
    floor_db: float
    """Level of the device's own noise in dB below full scale (RMS)."""
    floor_tilt: float
    """Colour of that noise in dB per octave."""
    drive: float
    """Strength of the soft clipping: levels near ``1 / drive`` are squeezed."""


MICROPHONES = {
    # a studio recorder: nearly flat
    "a": Device(((40, -2), (100, 0), (10000, 0), (16000, -3)), 0, -66, -3, 1.0),
    # a telephone: thin bass, lifted presence
    "b": Device(((60, -16), (250, -4), (700, 0), (3000, 5), (8000, 0), (16000, -10)), 3, -58, 0, 1.6),
    # a recorder in a pocket: thick bass, dull treble
    "c": Device(((40, 1), (150, 5), (600, 2), (2000, -3), (6000, -8), (16000, -20)), 5, -60, -5, 1.3),
    # a camera, unseen in training: a box resonance near 1 kHz and a dip behind it
    "d": Device(
        ((60, -6), (200, -2), (600, 0), (1000, 4), (1700, 0), (2600, -4), (5000, 1), (16000, -12)),
        -3, -60, -2, 2.0,
    ),
    # the harsh ones, unseen too. An intercom: a narrow band with a loud resonance, driven hard
    "e": Device(
        ((60, -40), (300, -18), (700, -2), (1300, 10), (2200, 0), (3400, -16), (6000, -34), (16000, -50)),
        6, -52, 0, 3.0,
    ),
    # a telephone in a bag: next to nothing above 1 kHz
    "f": Device(
        ((60, 6), (300, 8), (800, 0), (1500, -14), (3000, -24), (8000, -34), (16000, -44)), 4, -60, -4, 1.2
    ),
    # a plastic toy: a comb of resonances
    "g": Device(
        ((80, -20), (250, 8), (450, -12), (800, 9), (1200, -13), (1900, 8), (2800, -12), (4200, 7),
         (6500, -14), (9000, 2), (16000, -24)),
        0, -56, 0, 2.0,
    ),
}  # fmt: skip

SEEN_DEVICES = ("a", "b", "c")
UNSEEN_DEVICES = ("d",)
DEVICES = SEEN_DEVICES + UNSEEN_DEVICES
HARSH_DEVICES = ("e", "f", "g")
"""Far from all that is trained on: what robustness to devices is measured with."""


@lru_cache(maxsize=32)
def _curves(device: str, samples: int, sample_rate: int) -> tuple[Signal, Signal]:
    """Frequency response and noise spectrum of a device, as amplitudes `(samples // 2 + 1,)`."""
    spec = MICROPHONES[device]
    octaves = octaves_of(samples, sample_rate)
    corners = np.array(spec.response)
    response_db = np.interp(octaves, np.log2(corners[:, 0] / 1000), corners[:, 1])
    floor = amplitude(spec.floor_tilt * octaves)
    floor[0] = 0  # no direct current
    # white complex bins of variance 2 give an irfft of power sum(floor²) · 4 / samples²
    power = 4 * np.sum(floor**2) / samples**2
    return amplitude(response_db), floor * 10 ** (spec.floor_db / 20) / np.sqrt(power)


def record(sound: Signal, device: str, rng: np.random.Generator, sample_rate: int) -> Signal:
    """What a device makes of a sound `(samples,)`: filtered, with its own noise, softly clipped."""
    response, floor = _curves(device, len(sound), sample_rate)
    spectrum = np.fft.rfft(sound) * response * 10 ** (MICROPHONES[device].gain_db / 20)
    spectrum += floor * white(rng, len(floor))
    drive = MICROPHONES[device].drive
    return np.tanh(drive * np.fft.irfft(spectrum, len(sound))) / drive

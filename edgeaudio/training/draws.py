"""All that is drawn for a training batch, in units that hold for every front end.

Times are in seconds, levels in decibels, places in shares of the mels or of the window: a teacher at another
sample rate, with other mels, can be shown the very sound that the student learns from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeaudio.config import AugmentSpec, FrontEndSpec, Recipe
from edgeaudio.errors import DataError, did_you_mean
from edgeaudio.mel import hz_to_mel, mel_edges

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Mix:
    """Which partner each item is mixed with."""

    lam: NDArray[np.float32]
    """`(batch,)` share of the item itself."""
    partner: NDArray[np.int64]
    """`(batch,)` the other's place in the batch."""


@dataclass(frozen=True)
class Cut:
    """A rectangle that comes from a partner, the same for the whole batch; edges lie between 0 and 1."""

    mels: tuple[float, float]
    """Lower and upper edge as shares of the mels."""
    time: tuple[float, float]
    """First and last edge as shares of the window."""
    partner: NDArray[np.int64]
    """`(batch,)` the other's place in the batch."""

    @property
    def area(self) -> float:
        """Share of the log-mel that is the partner's."""
        return (self.mels[1] - self.mels[0]) * (self.time[1] - self.time[0])

    @property
    def mix(self) -> Mix:
        """How the labels are mixed: by the area."""
        return Mix(np.full(len(self.partner), 1 - self.area, np.float32), self.partner)


@dataclass(frozen=True)
class Axis:
    """Places on the student's mels, from 0 at its lowest band to 1 at its highest."""

    scale: str
    """Mel scale."""
    ends: tuple[float, float]
    """Places 0 and 1 on that scale."""

    @classmethod
    def of(cls, spec: FrontEndSpec) -> Axis:
        """The axis of a student's front end."""
        lowest, highest = hz_to_mel(mel_edges(spec)[[1, -2]], spec.mel_scale)
        return cls(spec.mel_scale, (float(lowest), float(highest)))

    def place(self, spec: FrontEndSpec) -> Floats:
        """`(mels,)` where the bands of a front end lie on the axis."""
        lowest, highest = self.ends
        centres = hz_to_mel(mel_edges(spec)[1:-1], self.scale)
        return (centres - lowest) / max(highest - lowest, 1e-9)


@dataclass(frozen=True)
class Edge:
    """The smooth upper edge of each window's spectrum."""

    slope: Floats
    """`(batch,)` steepness over the student's mels."""
    offset: Floats
    """`(batch,)` how far up the edge lies; infinite where all is let through."""
    axis: Axis
    """What slope and offset are measured on."""


@dataclass(frozen=True)
class Pitch:
    """How far each window's spectrum is moved."""

    rise: Floats
    """`(batch,)` distance on the axis; negative is down."""
    axis: Axis
    """What it is measured on."""


@dataclass(frozen=True)
class Tempo:
    """How each window is stretched in time."""

    factor: Floats
    """`(batch,)` times as long."""
    place: Floats
    """`(batch,)` where in [0, 1] that begins which is still heard of a longer one."""


@dataclass(frozen=True)
class Draws:
    """All that was drawn for one batch; what is None is off. Without anything, windows stay untouched."""

    # on the waveform, in this order
    response: Floats | None = None
    """`(batch,)` which impulse response, as a place in [0, 1) among all; NaN is none."""
    shift: Floats | None = None
    """`(batch,)` shift in seconds that leaves silence behind; positive is later."""
    snr: Floats | None = None
    """`(batch,)` signal-to-noise ratio in decibels; infinite is no noise."""
    seed: int = 0
    """Of the noise."""
    jitter: tuple[float, float] | None = None
    """Rise of the lowest and of the highest mel edge in Hz."""

    # on the log-mel, in this order
    tempo: Tempo | None = None
    """Of the time stretch."""
    pitch: Pitch | None = None
    """Of the pitch shift."""
    roll: Floats | None = None
    """`(batch,)` circular shift in seconds."""
    decibels: Floats | None = None
    """`(batch,)` change of level."""
    edge: Edge | None = None
    """Of the low-pass."""
    cut: Cut | None = None
    """Of CutMix."""
    mixup: tuple[Mix, ...] = ()
    """Rounds of mixup, one after the other."""
    style: Mix | None = None
    """Of freq-MixStyle."""
    channel_style: Mix | None = None
    """Of channel-wise MixStyle."""
    bands: tuple[tuple[Floats, Floats], ...] = ()
    """Blanked bands: `(batch,)` lower edge and `(batch,)` width, as shares of the mels."""
    stretches: tuple[tuple[Floats, Floats], ...] = ()
    """Blanked stretches of time: `(batch,)` place in [0, 1) among those that fit, `(batch,)` seconds."""


def draw(recipe: Recipe, size: int, rng: np.random.Generator, devices: Sequence[str] | None = None) -> Draws:
    """Draw everything that a recipe's augmentation needs for a batch.

    What is off draws nothing. Where CutMix and mixup are both on, CutMix's coin falls first, and mixup's for
    the batches that aren't cut.

    Args:
        recipe: its augmentation.
        size: windows in the batch.
        rng: where the draws come from.
        devices: device of each window, where they are known; an empty name is an unknown device.

    Raises:
        DataError: the augmentation depends on devices, and none is known.
    """
    spec, front_end = recipe.augment, recipe.frontend
    check_devices(spec, devices)
    fps = front_end.sample_rate / front_end.hop_length
    # the order of the draws is part of what a seed means: new ones come last
    reach = round(spec.roll_seconds * fps)
    roll = rng.integers(-reach, reach + 1, size) / fps if reach else None
    decibels = rng.uniform(-spec.gain_db, spec.gain_db, size) if spec.gain_db else None
    cut = _cut(recipe, size, rng) if spec.cutmix_alpha and _coin(spec.cutmix_p, rng) else None
    mixup = _mixup(spec, size, rng) if spec.mixup_alpha and cut is None else ()
    style = channel_style = None
    if _coin(spec.freq_mixstyle_p, rng):
        style = _style(spec.freq_mixstyle_alpha, spec, size, rng, devices)
    bands = tuple(_band(spec, front_end, size, rng) for _ in range(spec.freq_masks) if spec.freq_mask)
    if not spec.mixstyle_layers and _coin(spec.mixstyle_p, rng):
        channel_style = _style(spec.mixstyle_alpha, spec, size, rng, devices)
    stretches = tuple(
        (rng.random(size), rng.integers(0, spec.time_mask + 1, size) / fps)
        for _ in range(spec.time_masks)
        if spec.time_mask
    )
    edge = _edge(spec, front_end, size, rng) if spec.low_pass_p else None
    response = _response(spec, size, rng, devices) if spec.impulse_response_p else None
    shift = _shift(spec, size, rng) if spec.shift_seconds and spec.shift_p else None
    snr, seed = None, 0
    if spec.noise_p:
        snr = np.where(rng.random(size) < spec.noise_p, rng.uniform(*spec.noise_snr_db, size), np.inf)
        seed = int(rng.integers(2**62))
    jitter = _jitter(spec, rng) if spec.mel_jitter_low or spec.mel_jitter_high else None
    tempo = pitch = None
    if spec.time_stretch:
        tempo = Tempo(rng.uniform(1 - spec.time_stretch, 1 + spec.time_stretch, size), rng.random(size))
    if spec.pitch_shift:
        bands_up = rng.uniform(-spec.pitch_shift, spec.pitch_shift, size)
        pitch = Pitch(bands_up / max(front_end.n_mels - 1, 1), Axis.of(front_end))
    return Draws(
        response, shift, snr, seed, jitter, tempo, pitch,
        roll, decibels, edge, cut, mixup, style, channel_style, bands, stretches,
    )  # fmt: skip


def check_devices(
    spec: AugmentSpec, devices: Sequence[str] | None, known: Sequence[str] | None = None
) -> None:
    """Refuse augmentation that depends on devices where they aren't known.

    Args:
        spec: the augmentation.
        devices: of some windows or clips.
        known: all devices that training clips have; given, `impulse_response_devices` must be among them.

    Raises:
        DataError: no device is known, or one that is named doesn't exist.
    """
    named = spec.impulse_response_devices if spec.impulse_response_p else ()
    styles = spec.freq_mixstyle_p or (spec.mixstyle_p and not spec.mixstyle_layers)
    setting = "impulse_response_devices" if named else "mixstyle_partner"
    if not named and not (styles and spec.mixstyle_partner == "crossdomain"):
        return
    if not any(devices or ()):
        raise DataError(
            f"augment.{setting} depends on the device of each clip, and none is known; "
            "give the data a column device, or leave the setting out"
        )
    for name in named:
        if known is not None and name not in known:
            raise DataError(
                f"augment.impulse_response_devices names {name!r}, a device that no training clip has; "
                + did_you_mean(name, known)
            )


def _coin(p: float, rng: np.random.Generator) -> bool:
    """True with probability `p`; where that is 0, nothing is drawn."""
    return bool(p) and rng.random() < p


def _mixup(spec: AugmentSpec, size: int, rng: np.random.Generator) -> tuple[Mix, ...]:
    rounds = []
    for _ in range(spec.mixup_rounds):
        if rng.random() < spec.mixup_p:
            lam = rng.beta(spec.mixup_alpha, spec.mixup_alpha, None if spec.mixup_shared else size)
            lam = np.maximum(lam, 1 - lam) if spec.mixup_larger else lam
            rounds.append(Mix(np.broadcast_to(lam, size).astype(np.float32), rng.permutation(size)))
    return tuple(rounds)


def _cut(recipe: Recipe, size: int, rng: np.random.Generator) -> Cut:
    """A rectangle of the area 1 − λ around a uniform centre; what lies outside the log-mel is lost.

    Its edges lie on the student's mels and frames, so that its area is exactly what is cut there. A waveform
    is cut over its full height.

    Source: Yun et al., CutMix, ICCV 2019.
    """
    spec = recipe.augment
    lam = rng.beta(spec.cutmix_alpha, spec.cutmix_alpha)
    lam = max(lam, 1 - lam) if spec.mixup_larger else lam
    _, _, mels, frames = recipe.training_shape
    waveform = recipe.frontend.kind == "waveform"
    side = 1 - lam if waveform else np.sqrt(1 - lam)
    high, wide = rng.random(2)
    vertical = (0.0, 1.0) if waveform else _clipped(high, side, mels)
    return Cut(vertical, _clipped(wide, side, frames), rng.permutation(size))


def _clipped(centre: float, side: float, count: int) -> tuple[float, float]:
    low, high = np.rint(np.clip([centre - side / 2, centre + side / 2], 0, 1) * count) / count
    return float(low), float(high)


def _style(
    alpha: float, spec: AugmentSpec, size: int, rng: np.random.Generator, devices: Sequence[str] | None
) -> Mix:
    lam = rng.beta(alpha, alpha, size).astype(np.float32)
    if spec.mixstyle_partner == "random":
        return Mix(lam, rng.permutation(size))
    assert devices is not None, "check_devices has asked for them"
    _, code = np.unique(np.asarray(devices), return_inverse=True)
    # the best of random scores among those of another device; where there is none, among all
    scores = rng.random((size, size)) - (code[:, None] == code)
    return Mix(lam, scores.argmax(1))


def _band(
    spec: AugmentSpec, front_end: FrontEndSpec, size: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    width = rng.integers(0, spec.freq_mask + 1, size)
    first = rng.integers(0, front_end.n_mels - width + 1)
    return first / front_end.n_mels, width / front_end.n_mels


def _edge(spec: AugmentSpec, front_end: FrontEndSpec, size: int, rng: np.random.Generator) -> Edge:
    chosen = rng.random(size) < spec.low_pass_p
    slope, offset = rng.uniform(2, 8, size), rng.uniform(0, 5, size)
    return Edge(slope, np.where(chosen, offset, np.inf), Axis.of(front_end))


def _response(
    spec: AugmentSpec, size: int, rng: np.random.Generator, devices: Sequence[str] | None
) -> Floats:
    chosen, which = rng.random(size) < spec.impulse_response_p, rng.random(size)
    if spec.impulse_response_devices:
        chosen &= np.isin(np.asarray(devices), spec.impulse_response_devices)
    return np.where(chosen, which, np.nan)


def _shift(spec: AugmentSpec, size: int, rng: np.random.Generator) -> Floats:
    chosen = rng.random(size) < spec.shift_p
    return np.where(chosen, rng.uniform(-spec.shift_seconds, spec.shift_seconds, size), 0.0)


def _jitter(spec: AugmentSpec, rng: np.random.Generator) -> tuple[float, float]:
    """Whole Hz: up to `mel_jitter_low` up; `mel_jitter_high` // 2 up, less up to the whole of it."""
    low, high = int(spec.mel_jitter_low), int(spec.mel_jitter_high)
    rise = rng.integers(0, low + 1) if low else 0
    change = high // 2 - rng.integers(0, high + 1) if high else 0
    return float(rise), float(change)

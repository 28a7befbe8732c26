"""A recipe: one model, its front end and its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgeaudio.config.augment import AugmentSpec
from edgeaudio.config.canonical import require
from edgeaudio.config.distill import DistillSpec
from edgeaudio.config.front_end import FrontEndSpec
from edgeaudio.config.train import TrainSpec


@dataclass(frozen=True)
class ModelSpec:
    """An architecture by name, with the options of its constructor."""

    name: str
    """A name that ``edgeaudio.models.build`` knows."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the architecture; checked when it is built."""


@dataclass(frozen=True)
class Recipe:
    """One model, its front end and its training: what a file under `teachers/` or `students/` holds."""

    name: str
    """The file's name without its ending."""
    model: ModelSpec
    """The architecture."""
    summary: str = ""
    """One line for tables."""
    source: str = ""
    """The paper or report behind it."""
    licence: str = ""
    """Of the weights that its authors publish; empty where there are none."""
    frontend: FrontEndSpec = field(default_factory=FrontEndSpec)
    """What the model hears."""
    window_seconds: float = 1.0
    """Length of one inference."""
    hop_seconds: float = 0.0
    """From one window to the next where a held-out clip is scored, and by the bundle; 0 is half a window. All
    windows of a clip vote. A student's counts; its teachers are scored by the same windows."""
    weights: str = ""
    """Checkpoint that training starts from: a name of the catalogue or a path; empty is a fresh start."""
    train: TrainSpec = field(default_factory=TrainSpec)
    augment: AugmentSpec = field(default_factory=AugmentSpec)
    distill: DistillSpec = field(default_factory=DistillSpec)

    def __post_init__(self) -> None:
        require(
            self.window_seconds > 0,
            f"{self.name}: window_seconds is {self.window_seconds}; it must be positive",
        )
        require(
            0 <= self.hop_seconds <= self.window_seconds,
            f"{self.name}: hop_seconds is {self.hop_seconds:g}; it must lie between 0 (half a window) and "
            f"window_seconds ({self.window_seconds:g}), or sounds would go unheard",
        )
        _check_augment(self)

    @property
    def window_samples(self) -> int:
        """Samples in one inference."""
        return round(self.window_seconds * self.frontend.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one window to the next where a clip is scored."""
        return max(1, round(self.hop_seconds * self.frontend.sample_rate) or self.window_samples // 2)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one log-mel, `(1, 1, mels, frames)`."""
        return self._shape(self.window_seconds)

    @property
    def counted_shape(self) -> tuple[int, int, int, int]:
        """The log-mel that limits are held against: one second of sound, or the window where it is longer.

        The rules mean one second, so a shorter window must not look cheaper.
        """
        return self._shape(max(1.0, self.window_seconds))

    @property
    def training_shape(self) -> tuple[int, int, int, int]:
        """Shape of one log-mel of a training window, which may be longer than an inference."""
        return self._shape(max(self.train.train_seconds, self.window_seconds))

    def _shape(self, seconds: float) -> tuple[int, int, int, int]:
        samples = round(seconds * self.frontend.sample_rate)
        return (1, 1, self.frontend.n_mels, self.frontend.frames(samples))


_OF_MELS = (
    "freq_mixstyle_p", "freq_mask", "low_pass_p", "mel_jitter_low", "mel_jitter_high", "time_stretch",
    "pitch_shift",
)  # fmt: skip


def _check_augment(recipe: Recipe) -> None:
    """Refuse augmentation that the front end, the window or another setting would make nothing of."""
    name, spec, augment = recipe.name, recipe.frontend, recipe.augment
    if spec.kind == "waveform":
        for setting in _OF_MELS:
            require(
                not getattr(augment, setting),
                f"{name}: augment.{setting} is {getattr(augment, setting):g}, but the network hears the "
                "waveform, which has no mels; set it to 0",
            )
    has_level = spec.kind == "waveform" or (spec.log != "none" and not spec.squared)
    require(
        has_level or not augment.gain_db,
        f"{name}: augment.gain_db needs a plain logarithm or the waveform; set it to 0",
    )
    hop = spec.hop_length / spec.sample_rate
    require(
        not augment.roll_seconds or round(augment.roll_seconds / hop) > 0,
        f"{name}: augment.roll_seconds {augment.roll_seconds:g} is less than half a hop of the front end "
        f"({hop:g} s), so nothing would move; raise it, or set it to 0",
    )
    _, _, mels, frames = recipe.training_shape
    require(
        augment.freq_mask <= mels,
        f"{name}: augment.freq_mask {augment.freq_mask} is wider than the {mels} mels of the front end",
    )
    require(
        augment.time_mask <= frames,
        f"{name}: augment.time_mask {augment.time_mask} is wider than the {frames} frames of a window",
    )
    require(
        augment.pitch_shift < mels,
        f"{name}: augment.pitch_shift {augment.pitch_shift:g} moves all of the {mels} mels away; lower it",
    )
    low, high = augment.mel_jitter_low, augment.mel_jitter_high
    require(
        low == int(low) and high == int(high),
        f"{name}: augment.mel_jitter_low {low:g} and mel_jitter_high {high:g} must be whole Hz",
    )
    lowest, highest = spec.fmin + low, spec.fmax + high // 2 - high
    require(
        lowest < highest or not (low or high),
        f"{name}: augment.mel_jitter_low {low:g} and mel_jitter_high {high:g} may bring the mel edges to "
        f"{lowest:g}–{highest:g} Hz, which must rise; lower them",
    )
    require(
        not (augment.mixstyle_layers and augment.mixstyle_p and augment.mixstyle_partner == "crossdomain"),
        f"{name}: augment.mixstyle_layers knows no devices; leave it out, or set mixstyle_partner to random",
    )

"""What is done to the sounds while a model learns."""

from __future__ import annotations

from dataclasses import dataclass

from edgeaudio.config.canonical import choice, require

_SHARES = (
    "mixup_p", "cutmix_p", "freq_mixstyle_p", "mixstyle_p", "impulse_response_p", "noise_p", "low_pass_p",
    "shift_p",
)  # fmt: skip
_SIZES = (
    "mixup_alpha", "cutmix_alpha", "freq_mixstyle_alpha", "mixstyle_alpha", "roll_seconds", "shift_seconds",
    "gain_db", "freq_mask", "time_mask", "mel_jitter_low", "mel_jitter_high", "time_stretch", "pitch_shift",
)  # fmt: skip

_MAX_STRETCH = 0.5  # a window played in half the time is heard once forwards and once backwards


@dataclass(frozen=True)
class AugmentSpec:
    """What is done to a training batch; every draw comes from the job's seed.

    On the waveform, in this order: impulse response, time shift, noise; then the front end, with its mel
    range jittered; then, on the log-mel: time stretch, pitch shift, roll, gain, low-pass, mixup or CutMix,
    MixStyle, masks.
    """

    mixup_alpha: float = 0.3
    """Beta parameter of mixup; 0 is off."""
    mixup_p: float = 1.0
    """Share of batches that are mixed."""
    mixup_shared: bool = False
    """One λ for the whole batch; else one for each window."""
    mixup_larger: bool = False
    """λ becomes max(λ, 1 − λ): a window stays the larger part of its mixture."""
    mixup_rounds: int = 1
    """Times that a batch is mixed, each with its own coin and draws."""
    cutmix_alpha: float = 0.0
    """Beta parameter of CutMix, which puts a rectangle of the partner's log-mel in place; 0 is off. A batch
    is cut or mixed up, never both."""
    cutmix_p: float = 0.5
    """Share of batches that are cut."""
    freq_mixstyle_p: float = 0.4
    """Share of batches whose frequency-wise statistics are mixed."""
    freq_mixstyle_alpha: float = 0.3
    """Beta parameter of freq-MixStyle."""
    mixstyle_p: float = 0.0
    """Share of batches whose channel-wise statistics are mixed."""
    mixstyle_alpha: float = 0.3
    """Beta parameter of that MixStyle."""
    mixstyle_layers: tuple[str, ...] = ()
    """Layers of the network after which channel-wise MixStyle acts; empty is on the log-mel."""
    mixstyle_partner: str = "random"
    """Whose statistics are mixed in, by either MixStyle: ``random``, or ``crossdomain`` for a window of
    another device."""
    time_stretch: float = 0.0
    """Largest change of each window's length, as a share of it: 0.1 plays between 0.9 and 1.1 times as long.
    The pitch stays. 0 is off."""
    pitch_shift: float = 0.0
    """Largest move of each window's spectrum up or down, in mel bands; the tempo stays. 0 is off."""
    roll_seconds: float = 0.125
    """Largest circular shift in time, either way."""
    shift_seconds: float = 0.0
    """Largest shift in time, either way, that leaves silence behind; 0 is off."""
    shift_p: float = 1.0
    """Share of windows that are so shifted."""
    gain_db: float = 0.0
    """Largest change of level, either way."""
    freq_mask: int = 0
    """Widest band of mels that is blanked in each window; 0 is off."""
    freq_masks: int = 1
    """Number of such bands."""
    time_mask: int = 0
    """Widest stretch of frames that is blanked in each window; 0 is off."""
    time_masks: int = 1
    """Number of such stretches."""
    impulse_responses: str = ""
    """Folder of impulse responses of microphones."""
    impulse_response_p: float = 0.0
    """Share of windows that are heard through one of them."""
    impulse_response_devices: tuple[str, ...] = ()
    """Devices whose clips are so filtered; empty is all of them."""
    noise_p: float = 0.0
    """Share of windows that white noise is added to."""
    noise_snr_db: tuple[float, float] = (5.0, 20.0)
    """Lowest and highest signal-to-noise ratio."""
    low_pass_p: float = 0.0
    """Share of windows whose treble is taken away by a random smooth edge."""
    mel_jitter_low: float = 0.0
    """Largest rise of the lowest mel edge in Hz, drawn for each batch; 0 is off."""
    mel_jitter_high: float = 0.0
    """Range of the highest mel edge in Hz, half of it either way, drawn for each batch; 0 is off."""

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            require(0 <= value <= 1, f"augment: {name} is {value}; it must lie between 0 and 1")
        for name in _SIZES:
            value = getattr(self, name)
            require(value >= 0, f"augment: {name} is {value}; it must not be negative")
        require(
            self.time_stretch <= _MAX_STRETCH,
            f"augment: time_stretch is {self.time_stretch}; beyond {_MAX_STRETCH} too little would be left",
        )
        for name in ("mixup_rounds", "freq_masks", "time_masks"):
            require(getattr(self, name) > 0, f"augment: {name} is {getattr(self, name)}; use 1 or more")
        for name in ("freq_mixstyle", "mixstyle"):
            require(
                getattr(self, f"{name}_alpha") > 0 or not getattr(self, f"{name}_p"),
                f"augment: {name}_alpha is 0; set {name}_p to 0 to turn it off",
            )
        choice(self.mixstyle_partner, ("random", "crossdomain"), "augment: mixstyle_partner")
        require(
            bool(self.impulse_responses) or not self.impulse_response_p,
            "augment: impulse_response_p needs a folder: set impulse_responses too",
        )
        snr = self.noise_snr_db
        require(
            len(snr) == 2 and snr[0] <= snr[1],
            f"augment: noise_snr_db is {list(snr)}; give the lowest and the highest ratio, e.g. [5, 20]",
        )

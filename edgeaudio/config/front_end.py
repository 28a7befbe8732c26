"""What a network hears: every number of the front end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from edgeaudio.config.canonical import choice, content_hash, require

_FRONT_END_CHOICES = {
    "kind": ("log_mel", "waveform"),
    "window": ("hann", "hann_symmetric", "hamming", "povey"),
    "mel_scale": ("htk", "slaney", "kaldi"),
    "mel_norm": ("none", "slaney"),
    "log": ("ln", "log10", "db", "none"),
}


@dataclass(frozen=True)
class FrontEndSpec:
    """Waveform `(batch, samples)` → log-mel `(batch, 1, mels, frames)`, fully described.

    The log-mel is ``(log(power-mel with offset or floor) + shift) * scale``, squared on request. For networks
    that hear the waveform itself, ``kind = "waveform"`` passes it on as `(batch, 1, 1, samples)`.
    """

    sample_rate: int = 32000
    """Hz."""
    n_fft: int = 4096
    """DFT length in samples."""
    win_length: int = 3072
    """Window length in samples; centred in the DFT and zero-padded to ``n_fft``."""
    hop_length: int = 500
    """Samples between frames."""
    n_mels: int = 256
    """Mel bands."""
    fmin: float = 0.0
    """Lowest mel edge in Hz."""
    fmax: float = 16000.0
    """Highest mel edge in Hz."""
    window: str = "hann"
    """``hann`` (periodic), ``hann_symmetric``, ``hamming`` (periodic) or ``povey`` (Kaldi's)."""
    mel_scale: str = "htk"
    """``htk`` or ``slaney`` (triangles linear in Hz), or ``kaldi`` (triangles linear in mel)."""
    mel_norm: str = "none"
    """``none``, or ``slaney`` for triangles of equal area."""
    log: str = "ln"
    """``ln``, ``log10``, ``db`` (10·log10) or ``none`` (the mel power itself)."""
    log_offset: float = 1e-5
    """Added to the mel power before the logarithm."""
    log_floor: float = 0.0
    """The mel power is lifted to at least this before the logarithm."""
    shift: float = 0.0
    """Added after the logarithm."""
    scale: float = 1.0
    """Multiplied after the shift."""
    squared: bool = False
    """Square the result (the BirdCLEF front end)."""
    pre_emphasis: float = 0.0
    """Coefficient a of y[n] = x[n+1] − a·x[n] over the whole signal (one sample shorter); 0 is off."""
    center: bool = True
    """Reflect-pad by half a DFT so that frame t is centred on sample t·hop; else only whole windows."""
    frame_pre_emphasis: float = 0.0
    """Kaldi's pre-emphasis inside each frame, y[n] = x[n] − a·x[max(n−1, 0)]; 0 is off."""
    remove_dc: bool = False
    """Subtract each frame's mean before anything else (Kaldi)."""
    power: float = 2.0
    """Exponent of the magnitude spectrum: 2 is the power, 1 the magnitude (YAMNet)."""
    kind: str = "log_mel"
    """``log_mel``, or ``waveform``: no transform at all."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if item.type == "float":  # 8000 and 8000.0 are one front end and must have one hash
                object.__setattr__(self, item.name, float(getattr(self, item.name)))
        for name, known in _FRONT_END_CHOICES.items():
            choice(getattr(self, name), known, f"front end: {name}")
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            require(
                getattr(self, name) > 0, f"front end: {name} is {getattr(self, name)}; it must be positive"
            )
        if self.kind == "waveform":
            require(
                (self.n_mels, self.hop_length, self.win_length, self.center) == (1, 1, 1, False),
                'front end: a waveform has no mels, hops or windows; start from preset = "waveform"',
            )
            return
        require(self.power in (1, 2), f"front end: power is {self.power:g}; use 2 (power) or 1 (magnitude)")
        require(
            self.win_length <= self.n_fft,
            f"front end: win_length {self.win_length} is longer than n_fft {self.n_fft}; raise n_fft",
        )
        require(
            0 <= self.fmin < self.fmax <= self.sample_rate / 2,
            f"front end: mel edges {self.fmin}–{self.fmax} Hz must rise and stay below "
            f"half the sample rate ({self.sample_rate / 2:g} Hz)",
        )
        require(
            self.log == "none" or self.log_offset > 0 or self.log_floor > 0,
            "front end: log_offset and log_floor are both 0: silence would be minus infinity; set one",
        )

    def frames(self, samples: int) -> int:
        """Number of frames for a waveform of that many samples."""
        samples -= 1 if self.pre_emphasis else 0
        if self.center:
            return samples // self.hop_length + 1
        return max(0, (samples - self.win_length) // self.hop_length + 1)

    @property
    def sentence(self) -> str:
        """What it does, in a few words for cards and tables."""
        if self.kind == "waveform":
            return "none: the network hears the waveform"
        return (
            f"{self.n_mels} {self.mel_scale} mels, {self.fmin:g}–{self.fmax:g} Hz, DFT {self.n_fft}, "
            f"window {self.win_length}, hop {self.hop_length}"
        )

    @property
    def hash(self) -> str:
        """Twelve hex digits that name this front end; stored in every bundle."""
        # A field at its default is left out: a later field then leaves the hashes of older bundles alone.
        # So a default must never change.
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return content_hash({k: v for k, v in told.items() if v != getattr(type(self), k)})[:12]

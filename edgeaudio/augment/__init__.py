"""What is done to a training batch: plain functions of tensors and explicit draws.

Every function takes the random draws as arguments, so that a test can fix them and a job can repeat them.
`sounds` acts on waveforms, `mels` on log-mels; style mixing is shared with the architectures.
"""

from edgeaudio.augment.mels import (
    change_level,
    cutmix,
    low_pass,
    low_pass_envelope,
    mask_frames,
    mask_mels,
    mixup,
    roll_frames,
    shift_mels,
    stretch_frames,
)
from edgeaudio.augment.sounds import add_noise, convolve, shift, white_noise
from edgeaudio.models.domain import freq_mixstyle, mixstyle

__all__ = [
    "add_noise", "change_level", "convolve", "cutmix", "freq_mixstyle", "low_pass", "low_pass_envelope",
    "mask_frames", "mask_mels", "mixstyle", "mixup", "roll_frames", "shift", "shift_mels",
    "stretch_frames", "white_noise",
]  # fmt: skip

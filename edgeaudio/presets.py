"""Front ends by name: the ones that published networks were trained with."""

from __future__ import annotations

import dataclasses

from edgeaudio.config import FrontEndSpec

_AUGMENT_MEL = FrontEndSpec(
    n_fft=1024, win_length=800, hop_length=320, n_mels=128, fmax=15000, window="hann_symmetric",
    mel_scale="kaldi", log_offset=1e-5, shift=4.5, scale=0.2, pre_emphasis=0.97,
)  # fmt: skip

PRESETS: dict[str, FrontEndSpec] = {
    # DCASE 2024/25 Task 1 baseline
    "dcase2024": FrontEndSpec(),
    # PaSST, EfficientAT
    "passt": _AUGMENT_MEL,
    # CP-Mobile and CP-ResNet of the DCASE 2023 and 2022 submissions
    "cp_mobile": dataclasses.replace(
        _AUGMENT_MEL, n_fft=4096, win_length=3072, hop_length=500, n_mels=256, fmax=15500
    ),
    "cp_resnet_2023": dataclasses.replace(
        _AUGMENT_MEL, n_fft=4096, win_length=3072, hop_length=750, n_mels=256, fmax=15500
    ),
    "cp_resnet_2022": dataclasses.replace(
        _AUGMENT_MEL, n_fft=2048, win_length=2048, hop_length=744, n_mels=256, fmax=16000
    ),
    # the DCASE 2023 toolkit's spectrum configuration
    "dcase2023_toolkit": dataclasses.replace(
        _AUGMENT_MEL, n_fft=2048, win_length=2000, hop_length=500, n_mels=256, fmax=16000
    ),
    # PANNs and PaddleSpeech
    "panns": FrontEndSpec(
        n_fft=1024, win_length=1024, hop_length=320, n_mels=64, fmin=50, fmax=14000,
        mel_scale="slaney", mel_norm="slaney", log="db", log_offset=0.0, log_floor=1e-10,
    ),
    # BC-ResNet on Speech Commands
    "bc_resnet": FrontEndSpec(
        sample_rate=16000, n_fft=512, win_length=480, hop_length=160, n_mels=40, fmax=8000, log_offset=1e-6
    ),
    # BirdCLEF 2021, second place
    "birdclef2021": FrontEndSpec(
        n_fft=1024, win_length=1024, hop_length=320, n_mels=128, fmax=14000, log="db",
        log_offset=0.0, log_floor=1e-10, shift=80.0, scale=1 / 80, squared=True,
    ),
    # DCASE 2022 Task 1 baseline: 40 ms windows, 20 ms hop
    "dcase2022": FrontEndSpec(
        sample_rate=44100, n_fft=2048, win_length=1764, hop_length=882, n_mels=40, fmax=22050
    ),
    # YAMNet: mel bands of the magnitude; TensorFlow's triangles are linear in mel
    "yamnet": FrontEndSpec(
        sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=64, fmin=125, fmax=7500,
        mel_scale="kaldi", log_offset=1e-3, center=False, power=1,
    ),
    # the waveform itself, for ACDNet
    "waveform": FrontEndSpec(
        n_fft=1, win_length=1, hop_length=1, n_mels=1, log="none", center=False, kind="waveform"
    ),
    # Kaldi's fbank features at 16 kHz
    "kaldi": FrontEndSpec(
        sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=20, fmax=8000,
        window="povey", mel_scale="kaldi", log_offset=0.0, log_floor=1.1920928955078125e-07,
        center=False, frame_pre_emphasis=0.97, remove_dc=True,
    ),
}  # fmt: skip

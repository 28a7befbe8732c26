"""Briefly trained networks and real-like clips for the tests of runtimes that are fed from torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgeaudio.config import FrontEndSpec
from edgeaudio.data.synth import SCENES, render
from edgeaudio.export.targets import Pieces
from edgeaudio.frontend import LogMel
from edgeaudio.models import Model, build
from edgeaudio.presets import PRESETS

SPEC = PRESETS["bc_resnet"]
SMALL = {
    "base_channels": 8, "channels_multiplier": 1.5, "expansion_rate": 2.0, "n_blocks": (2, 1),
    "strides": {"b2": (2, 2), "b3": (2, 1)},
}  # fmt: skip
TAKES, ROUNDS = 4, 15


def clips(device: str, takes: range, spec: FrontEndSpec = SPEC) -> npt.NDArray[np.float32]:
    """Waveforms `(scenes · takes, second)` of every scene."""
    return np.stack(
        [render(scene, device, (5, take), spec.sample_rate) for take in takes for scene in SCENES]
    )


def trained_pieces(name: str, **options: Any) -> Pieces:
    """A network that tells apart the clips it was trained with: its answers, and their margins, are real."""
    torch.manual_seed(0)
    windows = clips("a", range(TAKES))
    log_mels, labels = LogMel(SPEC)(torch.from_numpy(windows)), torch.arange(len(SCENES)).repeat(TAKES)
    model = build(name, len(SCENES), **options).train()
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(ROUNDS):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(log_mels), labels).backward()
        optimiser.step()
    return pieces_of(_settled(model, log_mels), windows)


def pieces_of(model: Model, calibration: npt.NDArray[np.float32]) -> Pieces:
    """Pieces without the ONNX graphs, which these runtimes don't read."""
    none = onnx.ModelProto()
    return Pieces(SPEC, SPEC.sample_rate, model.eval(), none, none, calibration)


def torch_logits(pieces: Pieces, waveforms: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the network says in torch, behind the training front end."""
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = pieces.model(LogMel(SPEC)(torch.from_numpy(waveforms))).numpy()
    return logits


def signal_to_noise(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float:
    """Decibels; the signal is what differs between clips, since a constant tells no class."""
    return float(10 * np.log10(((before - before.mean(axis=0)) ** 2).sum() / ((after - before) ** 2).sum()))


def _settled(model: Model, log_mels: torch.Tensor) -> Model:
    """With batch norms that know the statistics: a few rounds leave their running means behind."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    with torch.no_grad():
        model(log_mels)
    return model.eval()

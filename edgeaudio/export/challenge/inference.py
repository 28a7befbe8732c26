"""The half of a DCASE 2025 submission that runs at the organisers': sound files → logits, in torch.

This file travels. `carry.py` copies it, and what it imports, into the package that is submitted; so it must
import nothing but torch and those modules of edgeaudio that a device has anyway.

A clip is heard exactly as the shipped predictor hears it: mixed down, resampled with soxr, cut into windows,
those 60 dB below the loudest one left out, and the mean of the windows' probabilities is the answer.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeaudio.audio import audible, cut_windows, load_mono, window_power, window_starts
from edgeaudio.config import FrontEndSpec
from edgeaudio.frontend import build_front_end
from edgeaudio.models.shapes import fit_shapes

StateDict = Mapping[str, Tensor]
GENERAL = "general"
"""Name of the model for devices that have none of their own."""
TYPES = {16: torch.float16, 32: torch.float32}
"""Bits of a weight → type of the parameters."""
_BATCH = 64  # windows in one forward pass
_FILES = 256  # files whose log-mels are held at once


@dataclass(frozen=True)
class Settings:
    """All that a system is built from, beside its weights."""

    labels: tuple[str, ...]
    """Class names in the order of the logits."""
    window: int
    """Samples in one inference."""
    hop: int
    """Samples between the windows of a longer clip."""
    frontend: FrontEndSpec
    module: str
    """File of the architecture under ``models``."""
    architecture: str
    """Name of its class."""
    options: dict[str, Any]
    """Keyword arguments of the architecture."""
    bits: int
    """Bits of a weight: 16 or 32."""
    pruned: bool = False
    """Whether the weights are narrower than the options say."""

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> Settings:
        """What `to_json` gave."""
        frontend = FrontEndSpec(**table["frontend"])
        return cls(**{**table, "labels": tuple(table["labels"]), "frontend": frontend})

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for `json.dumps`."""
        return {**vars(self), "labels": list(self.labels), "frontend": vars(self.frontend)}

    def network(self, weights: StateDict) -> nn.Module:
        """The architecture with these weights, in the type of the settings, ready to infer."""
        root = __name__.removesuffix(".export.challenge.inference")  # edgeaudio, or where this was carried to
        module = importlib.import_module(f"{root}.models.{self.module}")
        network: nn.Module = getattr(module, self.architecture)(len(self.labels), **self.options)
        if self.pruned:
            fit_shapes(network, weights)
        network.load_state_dict(dict(weights))
        return network.eval().requires_grad_(False).to(TYPES[self.bits])


class DeviceModels(nn.Module):
    """One network for all devices, and one for each device that has its own.

    Args:
        networks: by device; `GENERAL` must be among them.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)

    def for_device(self, device_id: str) -> nn.Module:
        """The network of a device, the general one where it has none."""
        return self.networks[device_id if device_id in self.networks else GENERAL]


class System(nn.Module):
    """Front end and networks.

    Args:
        settings: what it is built from.
        weights: state dict of the network of each device and of `GENERAL`.
    """

    def __init__(self, settings: Settings, weights: Mapping[str, StateDict]) -> None:
        super().__init__()
        self.settings = settings
        self.front_end = build_front_end(settings.frontend)
        self.model = DeviceModels({name: settings.network(each) for name, each in weights.items()})

    def log_mel(self, windows: Tensor) -> Tensor:
        """Waveforms ``(windows, samples)`` → ``(windows, 1, mels, frames)`` in the networks' type."""
        mel: Tensor = self.front_end(windows)
        return mel.to(TYPES[self.settings.bits])


def load_system(settings: Path, checkpoint: Path) -> System:
    """A system from its settings and from a checkpoint: state dicts by device."""
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    table = json.loads(settings.read_text(encoding="utf-8"))
    return System(Settings.from_json(table), weights).eval()


def load_inputs(file_paths: Sequence[str], device_ids: Sequence[str], system: System) -> list[Tensor]:
    """Sound files → what the networks take, one tensor ``(windows, 1, mels, frames)`` a file, on the CPU.

    Raises:
        AudioError: a file can't be read as sound.
        ValueError: there are not as many devices as files.
    """
    _check(file_paths, device_ids)
    with torch.no_grad():
        return [_input(Path(path), system) for path in file_paths]


def predict(
    file_paths: Sequence[str], device_ids: Sequence[str], system: System, device: str | torch.device = "cpu"
) -> list[Tensor]:
    """Sound files → the logarithms of their class probabilities, float32 ``(classes,)`` each, in order.

    Args:
        file_paths: sound files.
        device_ids: what each was recorded with; an unknown one gets the general network.
        system: what `load_system` gave.
        device: of torch.

    Raises:
        AudioError: a file can't be read as sound.
        ValueError: there are not as many devices as files.
    """
    _check(file_paths, device_ids)
    system = system.to(device)
    answers: list[Tensor] = []
    for start in range(0, len(file_paths), _FILES):
        part = slice(start, start + _FILES)
        inputs = load_inputs(file_paths[part], device_ids[part], system)
        answers += _answers(inputs, device_ids[part], system, device)
    return answers


def _answers(
    inputs: Sequence[Tensor], device_ids: Sequence[str], system: System, device: str | torch.device
) -> list[Tensor]:
    answers: dict[int, Tensor] = {}
    for name in dict.fromkeys(device_ids):
        members = [i for i, each in enumerate(device_ids) if each == name]
        network = system.model.for_device(name)
        windows = torch.cat([inputs[i] for i in members])
        with torch.no_grad():
            logits = torch.cat(
                [network(part.to(device)).float().cpu() for part in torch.split(windows, _BATCH)]
            )
        votes = torch.split(logits.log_softmax(1), [len(inputs[i]) for i in members])
        # the logarithm of the windows' mean probability; softmax gives that mean back
        answers |= {
            i: vote.logsumexp(0) - math.log(len(vote)) for i, vote in zip(members, votes, strict=True)
        }
    return [answers[i] for i in range(len(inputs))]


def _input(path: Path, system: System) -> Tensor:
    settings = system.settings
    samples = load_mono(path, settings.frontend.sample_rate)
    starts = window_starts(len(samples), settings.window, settings.hop)
    heard = starts[audible(window_power(samples, starts, settings.window))]
    windows = torch.from_numpy(cut_windows(samples, heard, settings.window))
    return system.log_mel(windows.to(next(system.parameters()).device)).cpu()


def _check(file_paths: Sequence[str], device_ids: Sequence[str]) -> None:
    if len(file_paths) != len(device_ids):
        raise ValueError(f"{len(file_paths)} files but {len(device_ids)} devices; give one for each file")

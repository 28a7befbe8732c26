"""The network that a run shipped, found again by what its bundle answers, and what it costs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from edgeaudio import models
from edgeaudio.audio import window_starts
from edgeaudio.bundle import GOLDEN, Bundle, read_bundle
from edgeaudio.complexity import Count, official
from edgeaudio.errors import BundleError, EdgeAudioError
from edgeaudio.export.activation import to_scores
from edgeaudio.export.challenge.inference import GENERAL, Settings, StateDict, System
from edgeaudio.frontend import build_front_end
from edgeaudio.training.job import Job, load_job
from edgeaudio.training.stored import shipped_weights

_SAME = 1e-3
"""Scores of the stored network and of the bundle's float graph differ by less."""


@dataclass(frozen=True)
class Finished:
    """A finished run."""

    folder: Path
    job: Job
    bundle: Bundle

    @classmethod
    def read(cls, folder: Path) -> Finished:
        """Read a run that has a bundle.

        Raises:
            EdgeAudioError: the folder is not a run.
            BundleError: it has no bundle, or a damaged one.
        """
        job = load_job(folder)
        if not (folder / "bundle").is_dir():
            raise BundleError(f"{folder} has no bundle yet; finish the run with: edgeaudio export {folder}")
        return cls(folder, job, read_bundle(folder / "bundle"))

    def settings(self, bits: int) -> Settings:
        """What a `System` of this network is built from."""
        spec, bundle = self.job.student.model, self.bundle
        cls = models.MODELS[spec.name]
        return Settings(
            labels=bundle.labels, window=bundle.window_samples, hop=bundle.hop_samples,
            frontend=bundle.frontend, module=cls.__module__.removeprefix("edgeaudio.models."),
            architecture=cls.__name__, options=dict(spec.options), bits=bits,
            pruned=self._pruned,
        )  # fmt: skip

    @property
    def _pruned(self) -> bool:
        return self.job.prune.limits is not None

    @functools.cached_property
    def network(self) -> nn.Module:
        """The network in float32: untrained, so that it can be counted before the weights are looked for, or
        with its weights where pruning left it narrower than its recipe says."""
        if self._pruned:
            return self.settings(32).network(self.weights())
        spec = self.job.student.model
        return models.build(spec.name, len(self.bundle.labels), **spec.options)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """The log-mels of one second of sound, `(windows, 1, mels, frames)`; a longer window is filled up."""
        bundle = self.bundle
        windows = len(window_starts(bundle.sample_rate, bundle.window_samples, bundle.hop_samples))
        return (windows, 1, bundle.frontend.n_mels, bundle.frontend.frames(bundle.window_samples))

    def count(self) -> Count:
        """Cost of the network for one second of sound, by the official counter."""
        return official(self.network, self.input_shape)

    def weights(self) -> StateDict:
        """State dict of the student whose answers are those of the bundle.

        A run keeps the students of other settings too; the golden scores tell which one was shipped.

        Raises:
            EdgeAudioError: none of them answers as the bundle does.
        """
        golden = np.load(self.bundle.folder / GOLDEN)
        mel = build_front_end(self.bundle.frontend)(torch.from_numpy(golden["waveforms"]))
        distances = {}
        for path in shipped_weights(self.folder, self.job):
            with contextlib.suppress(RuntimeError), torch.no_grad():  # entries of another architecture
                logits = self.settings(32).network(load_file(path))(mel)
                scores = to_scores(logits, self.bundle.several).numpy()
                distances[path] = float(np.abs(scores - golden["scores_fp32"]).max())
        nearest = min(distances, key=distances.__getitem__, default=None)
        if nearest and distances[nearest] < _SAME:
            return load_file(nearest)
        raise EdgeAudioError(
            f"{self.folder} keeps no student that answers as its bundle does; "
            f"make both anew with: edgeaudio export {self.folder} --force student"
        )


def build_system(general: Finished, devices: Mapping[str, Finished], bits: int) -> System:
    """The networks of a run, and of the runs that fine-tuned it for single devices, in one system.

    Raises:
        EdgeAudioError: a device's run hears or answers differently, or its weights can't be told or stored.
    """
    settings = general.settings(bits)
    weights = {GENERAL: general.weights()}
    for device, run in devices.items():
        if run.settings(bits) != settings:
            raise EdgeAudioError(
                f"{run.folder}, for device {device}, has other classes, windows, front end or network than "
                f"{general.folder}; fine-tune the general student with the same recipe"
            )
        weights[device] = run.weights()
    system = System(settings, weights).eval()
    for name, value in system.state_dict().items():
        if not torch.isfinite(value).all():
            raise EdgeAudioError(f"{name} doesn't fit into {bits} bits (it would be infinite); store 32 bits")
    return system


def stored(system: System) -> dict[str, StateDict]:
    """State dicts by device, in the type of the system: what `load_system` reads."""
    return {name: dict(network.state_dict()) for name, network in system.model.networks.items()}


def parameter_bytes(network: nn.Module) -> int:
    """Bytes of all parameters in the types they have, as the organisers add them up."""
    return sum(p.numel() * p.element_size() for p in network.parameters())

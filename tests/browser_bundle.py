"""A bundle that tells four scenes apart, trained in seconds: what the browser's tests listen with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from make_bundle import OPTIONS, SPEC

from edgeaudio.audio import cut_windows
from edgeaudio.bundle import Bundle
from edgeaudio.data.synth import render
from edgeaudio.export import onnx as graphs
from edgeaudio.export.package import write_bundle
from edgeaudio.frontend import LogMel
from edgeaudio.models import Model, build
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_target

LABELS = ("bell", "engine", "rain", "siren")
RATE = SPEC.sample_rate


def make_trained_bundle(folder: Path) -> Bundle:
    """A bundle with both graphs in a new folder; its scores are far from even."""
    scratch = folder.with_name(folder.name + "-graphs")
    for path in (folder, scratch):
        path.mkdir(parents=True)
    sounds, answers = _windows()
    log_mels = LogMel(SPEC)(torch.from_numpy(sounds))
    model = _fitted(log_mels, answers)
    front_end = graphs.export_front_end(SPEC, RATE)
    network = graphs.export_model(model, (1, 1, SPEC.n_mels, SPEC.frames(RATE)))
    integer = quantize(network, log_mels[::4].numpy(), load_target("browser")).model
    files = {"fp32": scratch / "fp32.onnx", "int8": scratch / "int8.onnx"}
    graphs.save(graphs.join(front_end, network, {}), files["fp32"])
    graphs.save(graphs.join(front_end, integer, {}), files["int8"])
    draft = Bundle(
        folder=folder, name="four-scenes", labels=LABELS, sample_rate=RATE, window_samples=RATE,
        hop_samples=RATE // 2, frontend=SPEC, graphs={}, default_graph="int8",
    )  # fmt: skip
    return write_bundle(draft, files, sounds[:: len(sounds) // 4], "# four scenes, for tests\n")


def _windows() -> tuple[np.ndarray, torch.Tensor]:
    """Windows of many performances, from anywhere in them: `(windows, samples)`, and their labels."""
    windows, answers = [], []
    for label, scene in enumerate(LABELS):
        for seed in range(12):
            clip = render(scene, "abc"[seed % 3], seed, RATE, 3.0)
            starts = np.arange(0, 2 * RATE + 1, RATE // 3)
            windows.append(cut_windows(clip, starts, RATE))
            answers += [label] * len(starts)
    return np.concatenate(windows), torch.tensor(answers)


def _fitted(log_mels: torch.Tensor, answers: torch.Tensor) -> Model:
    torch.manual_seed(0)
    model = build("cp_mobile", len(LABELS), **OPTIONS)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(8):
        for batch in torch.randperm(len(answers)).split(32):
            loss = torch.nn.functional.cross_entropy(model(log_mels[batch]), answers[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()

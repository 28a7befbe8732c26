"""Throughput of the distillation step on the CPU, against a plain one, in one run.

    python benchmarks/distillation_step.py [--rounds 3] [--json]

Reference: batch 256, default memory layout, log-mel computed in every step by `torch.stft` and a dense mel
product, forward, distillation loss, backward, AdamW. Ours: the very loop of `edgeaudio distill`
(`training.loop.fit`), with its augmentation, weight averaging and logging, on the built-in scenes.
The two take turns; the figure is the ratio of their medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeaudio import losses
from edgeaudio.config import FrontEndSpec, Recipe
from edgeaudio.data import readers, synth, waveforms
from edgeaudio.mel import mel_bank
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe
from edgeaudio.training.loop import fit
from edgeaudio.training.stages import make_fabric
from edgeaudio.training.teaching import CachedTeacher
from edgeaudio.training.windows import WindowSet

REFERENCE_BATCH = 256


class PlainLogMel(nn.Module):
    """The usual front end: `torch.stft`, power, one dense mel product, logarithm."""

    window: Tensor
    bank: Tensor

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.hann_window(spec.win_length))
        self.register_buffer("bank", torch.from_numpy(mel_bank(spec)).float())

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform `(batch, samples)` → log-mel `(batch, 1, mels, frames)`."""
        spec = self.spec
        spectrum = torch.stft(
            waveform, spec.n_fft, spec.hop_length, spec.win_length, self.window, return_complex=True
        )
        return (self.bank @ spectrum.abs().square() + spec.log_offset).log().unsqueeze(1)


def reference_rate(recipe: Recipe, waveform: Tensor, classes: int, steps: int) -> float:
    """Clips a second of the plain step."""
    model = build(recipe.model.name, classes, **recipe.model.options).train()
    front_end = PlainLogMel(recipe.frontend)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.train.learning_rate)
    targets = nn.functional.one_hot(torch.arange(len(waveform)) % classes, classes).float()
    teacher = torch.rand(len(waveform), classes).softmax(1)

    def step() -> None:
        logits = model(front_end(waveform))
        torch.autograd.backward(losses.hard_and_soft(logits, targets, teacher, 2.0, 0.1))
        optimizer.step()
        optimizer.zero_grad()

    step()  # warm up
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * len(waveform) / (time.perf_counter() - began)


def our_rate(recipe: Recipe, train: WindowSet, val: WindowSet, classes: int) -> float:
    """Clips a second of the product's loop: the median of the epochs after the first."""
    model = build(recipe.model.name, classes, **recipe.model.options)
    teacher = CachedTeacher(torch.randn(len(train), classes), recipe.distill.temperature, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        fabric = make_fabric("cpu", recipe.train.precision)
        history = fit(model, recipe, train, val, classes, Path(folder), fabric, 0, teacher)
    return float(statistics.median(row["clips_per_second"] for row in history[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    recipe = load_recipe("dcase2024_baseline")
    recipe = replace(recipe, train=replace(recipe.train, epochs=4))
    with tempfile.TemporaryDirectory() as folder:
        manifest = synth.write(Path(folder) / "scenes", clips_per_class=52, val_clips_per_class=3)
        clips, waves = waveforms.prepare(readers.read(manifest.parent), recipe.frontend.sample_rate)
        hop, targets, classes = recipe.window_samples // 4, clips.targets, len(clips.classes)
        train = WindowSet(waves, clips.split_indices("train"), targets, recipe.window_samples, hop)
        val = WindowSet(waves, clips.split_indices("val"), targets, recipe.window_samples, hop)
        waveform = train.waveform(range(REFERENCE_BATCH))
        pairs = [
            (reference_rate(recipe, waveform, classes, 2), our_rate(recipe, train, val, classes))
            for _ in range(args.rounds)
        ]
    plain, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    result = {
        "threads": torch.get_num_threads(),
        "reference_clips_per_second": round(plain, 1),
        "clips_per_second": round(ours, 1),
        "ratio": round(ours / plain, 2),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"distillation step, {recipe.name}, {result['threads']} threads")
        print(f"  reference  {plain:7.1f} clips/s")
        print(f"  edgeaudio  {ours:7.1f} clips/s   {ours / plain:.1f}×")


if __name__ == "__main__":
    main()

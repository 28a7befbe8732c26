"""Throughput of the distillation step on the CPU, against a plain one, in one run.

    python benchmarks/distillation_step.py [--rounds 3] [--json]

Reference: batch 256, default memory layout, log-mel computed in every step by `torch.stft` and a dense mel
product, forward, distillation loss, backward, AdamW. Ours: the very loop of `edgeaudio distill`
(`training.supervised.fit`), with weight averaging and logging, on the built-in scenes; once with the recipe's
own augmentation, which acts on log-mels kept in memory, and once with everything live: impulse responses
(p 0.6), noise (p 0.5), shifts (p 0.5), then level, low-pass, mixup, freq-MixStyle and masks.
All take turns; the figures are ratios of their medians. *Waited* is the share of the time that goes into
making batches (on a CPU one after the other with the step, on whose cores nothing else could run), *memory*
the process' resident size after the second and after the last epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeaudio import losses
from edgeaudio.config import FrontEndSpec, Recipe
from edgeaudio.data import readers, synth, waveforms
from edgeaudio.data.impulses import Responses
from edgeaudio.mel import mel_bank
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.supervised import fit
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
        hard, soft = losses.cross_entropy(logits, targets), losses.distillation(logits, teacher, 2.0)
        torch.autograd.backward(0.1 * hard + 0.9 * soft)
        optimizer.step()
        optimizer.zero_grad()

    step()  # warm up
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * len(waveform) / (time.perf_counter() - began)


@dataclass(frozen=True)
class Ours:
    """What the product's loop came to."""

    rate: float
    """Clips a second: the median of the epochs after the first."""
    waited: float
    """Share of the time, likewise."""
    memory: tuple[float, float]
    """MiB after the second and after the last epoch."""


def our_rate(recipe: Recipe, train: WindowSet, val: WindowSet, classes: int) -> Ours:
    """Run the product's loop."""
    model = build(recipe.model.name, classes, **recipe.model.options)
    teacher = CachedTeacher(torch.randn(len(train), classes), recipe, torch.device("cpu"))
    sizes: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        fabric = make_fabric("cpu", recipe.train.precision)
        history = fit(
            model, recipe, train, val, classes, Path(folder), fabric, 0, teacher,
            logs=[lambda _: sizes.append(resident())],
        )  # fmt: skip
    rate, waited = (
        statistics.median(row[key] for row in history[1:]) for key in ("clips_per_second", "waited")
    )
    return Ours(float(rate), float(waited), (sizes[1], sizes[-1]))


def resident() -> float:
    """MiB of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def live(recipe: Recipe) -> Recipe:
    """The recipe with augmentation of everything that it can be done to."""
    spec = replace(
        recipe.augment, impulse_responses="made up", impulse_response_p=0.6, noise_p=0.5, shift_seconds=0.2,
        shift_p=0.5, gain_db=10.0, low_pass_p=0.5, mixup_alpha=0.3, freq_mixstyle_p=0.4, freq_mask=48,
        time_mask=10,
    )  # fmt: skip
    return replace(recipe, augment=spec)


def made_up_responses(count: int = 60, taps: int = 2048) -> Responses:
    """Impulse responses as long as those of microphones: decaying noise behind a click."""
    rng = np.random.default_rng(0)
    fade = np.exp(-np.arange(taps) / 50)
    signals = [(0.3 * rng.normal(size=taps) * fade).astype(np.float32) for _ in range(count)]
    for signal in signals:
        signal[0] = 1.0
    return Responses([str(k) for k in range(count)], [(signal, 32000) for signal in signals])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    recipe = load_recipe("dcase2024_baseline")
    recipe = replace(recipe, train=replace(recipe.train, epochs=args.epochs))
    recipes = {"log-mels in memory": recipe, "everything live": live(recipe)}
    with tempfile.TemporaryDirectory() as folder:
        manifest = synth.write(Path(folder) / "scenes", clips_per_class=52, val_clips_per_class=3)
        clips, waves = waveforms.prepare(readers.read(manifest.parent), recipe.frontend.sample_rate)
        hop, targets, classes = recipe.window_samples // 4, clips.targets, len(clips.classes)
        train = WindowSet(
            waves, clips.split_indices("train"), targets, recipe.window_samples, hop,
            responses=made_up_responses(),
        )  # fmt: skip
        val = WindowSet(waves, clips.split_indices("val"), targets, recipe.window_samples, hop)
        waveform = train.waveform(range(REFERENCE_BATCH))
        plain, ours = [], defaultdict(list)
        for _ in range(args.rounds):
            plain.append(reference_rate(recipe, waveform, classes, 2))
            for name, each in recipes.items():
                ours[name].append(our_rate(each, train, val, classes))
    reference = statistics.median(plain)
    rows: dict[str, dict[str, Any]] = {
        name: {
            "clips_per_second": round(statistics.median(each.rate for each in found), 1),
            "ratio": round(statistics.median(each.rate for each in found) / reference, 2),
            "waited": round(statistics.median(each.waited for each in found), 3),
            "memory_mib": [round(size) for size in found[-1].memory],
        }
        for name, found in ours.items()
    }
    result = {
        "threads": torch.get_num_threads(), "reference_clips_per_second": round(reference, 1), "ours": rows
    }  # fmt: skip
    if args.json:
        print(json.dumps(result))
        return
    print(f"distillation step, {recipe.name}, {result['threads']} threads")
    print(f"  {'reference':20} {reference:7.1f} clips/s")
    for name, row in rows.items():
        low, high = row["memory_mib"]
        print(
            f"  {name:20} {row['clips_per_second']:7.1f} clips/s   {row['ratio']:.1f}×   "
            f"waited {100 * row['waited']:.1f} %   memory {low} → {high} MiB"
        )


if __name__ == "__main__":
    main()

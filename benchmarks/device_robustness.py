"""What each remedy against unknown recording devices is worth, on the built-in scenes with harsh devices.

    python benchmarks/device_robustness.py [--seeds 3] [--epochs 80] [--student cp_mobile_8]
        [--impulse-responses FOLDER] [--write docs/devices.md]

One student without a teacher is trained on devices a, b and c, with the same seeds and epochs each time:
plain; with freq-MixStyle; heard through the impulse responses of other microphones; with both; with both and
freq-MixStyle in fewer batches; with a device adversary. Test performances are recorded on the seen devices,
on d (unseen, mild) and on e, f and g (unseen, harsh). Validation clips of seen devices choose the epoch.
Without a folder of impulse responses (such as MicIRP), random ones are made: smooth minimum-phase filters,
from a seed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from pages import fill

from edgeaudio.config import AugmentSpec, Recipe
from edgeaudio.console import Console
from edgeaudio.data import synth
from edgeaudio.data.devices import HARSH_DEVICES, SEEN_DEVICES, UNSEEN_DEVICES
from edgeaudio.recipes import load_recipe, load_target
from edgeaudio.training.distill import Outcome, run
from edgeaudio.training.job import Job
from edgeaudio.training.metrics import quality_by
from edgeaudio.training.windows import vote, window_logits

RATE, TAPS = 32000, 512
FEW = "both, freq-MixStyle in a tenth"


def random_responses(folder: Path, count: int = 40, seed: int = 0) -> Path:
    """Write made-up microphones: minimum-phase filters through random gains at octave corners."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    hertz = np.fft.rfftfreq(TAPS, 1 / RATE)
    corners = 1000 * 2.0 ** np.arange(-4, 4.5, 0.5)
    for k in range(count):
        decibels = np.interp(np.log2(np.maximum(hertz, 20)), np.log2(corners), rng.normal(0, 8, len(corners)))
        # the cepstrum folded onto positive times gives the phase that belongs to these gains
        cepstrum = np.fft.irfft(decibels * np.log(10) / 20)
        cepstrum[1 : TAPS // 2] *= 2
        cepstrum[TAPS // 2 + 1 :] = 0
        response = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))
        soundfile.write(folder / f"made-{k:02}.wav", 0.5 * response / np.abs(response).max(), RATE, "FLOAT")
    return folder


def variants(recipe: Recipe, responses: Path) -> Iterator[tuple[str, Recipe]]:
    """Name of each remedy, and the recipe with it."""
    none = replace(
        recipe.augment, freq_mixstyle_p=0.0, mixup_alpha=0.0, impulse_response_p=0.0, impulse_responses=""
    )
    style = {"freq_mixstyle_p": 0.4, "freq_mixstyle_alpha": 0.3}
    heard = {"impulse_responses": str(responses), "impulse_response_p": 0.6}

    def with_augment(spec: AugmentSpec) -> Recipe:
        return replace(recipe, augment=spec)

    yield "none", with_augment(none)
    yield "freq-MixStyle", with_augment(replace(none, **style))  # type: ignore[arg-type]
    yield "impulse responses", with_augment(replace(none, **heard))  # type: ignore[arg-type]
    both = replace(none, **style, **heard)  # type: ignore[arg-type]
    yield "both", with_augment(both)
    yield FEW, with_augment(replace(both, freq_mixstyle_p=0.1))
    adversary = replace(with_augment(none), train=replace(recipe.train, device_adversary=0.3))
    yield "device adversary", adversary


def groups(outcome: Outcome, recipe: Recipe) -> dict[str, float]:
    """Accuracy of the trained student on held-out clips, by group of devices."""
    import torch

    test = outcome.sets["test"]
    logits = window_logits(outcome.network, test, recipe.frontend, torch.device("cpu"))
    scores = vote(logits.softmax(1), test.grid).numpy()
    names = [outcome.clips[i].device for i in test.positions]
    by_device = quality_by(names, scores, test.targets.numpy())
    each = {name: share for name, (_, share) in by_device.items()}
    return {
        "seen": statistics.mean(each[name] for name in SEEN_DEVICES),
        **{name: each[name] for name in (*UNSEEN_DEVICES, *HARSH_DEVICES)},
        "unseen": statistics.mean(each[name] for name in (*UNSEEN_DEVICES, *HARSH_DEVICES)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--student", default="cp_mobile_8")
    parser.add_argument("--impulse-responses", type=Path)
    parser.add_argument("--runs", type=Path, help="where the runs lie; they go on after an interruption")
    parser.add_argument("--write", type=Path, help="a Markdown file that has the two marks of the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = args.runs or Path(passing)
        scenes = synth.write(folder / "scenes", test_clips_per_class_per_device=24, harsh=True).parent
        responses = args.impulse_responses or random_responses(folder / "responses")
        recipe = load_recipe(args.student)
        recipe = replace(
            recipe, train=replace(recipe.train, epochs=args.epochs, batch_size=32, learning_rate=3e-3)
        )
        rows = []
        for name, variant in variants(recipe, responses):
            figures = []
            for seed in range(args.seeds):
                job = Job(scenes, variant, (), load_target("x86"), limits=None, seed=seed)
                place = folder / f"{name.replace(',', '').replace(' ', '-')}-{seed}"
                figures.append(groups(run(job, place, "cpu", Console(quiet=True), "student"), variant))
            rows.append((name, figures))
            print(line(name, figures), flush=True)
    source = args.impulse_responses.name if args.impulse_responses else "made up by the script"
    table = as_table(rows, args, source)
    print(table)
    if args.write:
        fill(args.write, "devices", table)


def line(name: str, figures: list[dict[str, float]]) -> str:
    """A row of the table: means over the seeds, and the spread of the two that count."""
    cells = []
    for key in figures[0]:
        values = [100 * each[key] for each in figures]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 and key in ("seen", "unseen") else ""
        cells.append(f"{statistics.mean(values):.1f}{spread}")
    return f"| {name} | " + " | ".join(cells) + " |"


def as_table(rows: list[tuple[str, list[dict[str, float]]]], args: argparse.Namespace, source: str) -> str:
    """The table with the words that belong to it."""
    keys = list(rows[0][1][0])
    head = "| remedy | " + " | ".join(keys) + " |\n| --- | " + " | ".join("---:" for _ in keys) + " |\n"
    body = "\n".join(line(name, figures) for name, figures in rows)
    found = dict(rows)
    gains = "; ".join(_gain(name, found[name], found["none"]) for name in ("both", FEW))
    return (
        f"{args.student}, {args.epochs} epochs, {args.seeds} seeds (mean ± standard deviation), no teacher; "
        f"impulse responses: {source}. 240 test performances on every device, in %.\n\n{head}{body}\n\n"
        f"Against none: {gains}."
    )


def _gain(name: str, with_it: list[dict[str, float]], without: list[dict[str, float]]) -> str:
    """What a remedy changes, in words."""
    unseen, seen = (
        100 * (statistics.mean(f[key] for f in with_it) - statistics.mean(f[key] for f in without))
        for key in ("unseen", "seen")
    )
    return f"{name} {unseen:+.1f} points on unseen devices, {seen:+.1f} on seen ones"


if __name__ == "__main__":
    main()

"""Write the tables in the READMEs of students and teachers: costs, published trainings, scores.

    edgeaudio distill ESC10_FOLDER --folds all … -o runs/esc10
    python benchmarks/tables.py runs/esc10

The whole of the first command stands above the table of scores in the README of students.
Costs are counted here and now. Accuracies are copied from the run's `report.json`; without a run the ones
that stand in the file are kept.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from pages import fill
from torch.utils.flop_counter import FlopCounterMode

from edgeaudio.complexity import check, official
from edgeaudio.complexity.receptive import receptive_field
from edgeaudio.config import AugmentSpec, DistillSpec, Recipe, TrainSpec
from edgeaudio.models import Model, build
from edgeaudio.recipes import load_recipe, recipe_folders

CLASSES = 10
PUBLISHED = {
    "acdnet_esc50": "ESC-50",
    "bc_resnet_gsc": "Speech Commands, 12 classes",
    "cnn14_audioset": "AudioSet",
    "cnn14_esc50": "ESC-50",
    "cp_mobile_2023": "TAU 2022",
    "cp_resnet_2022": "TAU 2022, 10 s",
    "cp_resnet_2023": "TAU 2022",
    "cp_resnet_damped_toolkit": "TAU 2022, 10 s",
    "dcase2024_baseline_published": "TAU 2022",
    "micro_acdnet_esc50": "ESC-50",
    "mn10_esc50": "ESC-50",
    "mobileast_toolkit": "TAU 2022, 10 s",
    "passt_s_10s_2022": "TAU 2022, 10 s; its training is not published",
    "passt_s_2023": "TAU 2022",
    "passt_s_esc50": "ESC-50",
    "passt_s_toolkit": "TAU 2022, 10 s",
    "seresnext26t_birdclef": "BirdCLEF",
}
"""Recipes that state a published training → the data that it is for."""


def costs(kind: str) -> str:
    """A row for each recipe of a kind: parameters, bytes, MACs, what it hears, verdict."""
    lines = [
        "| recipe | parameters | bytes int8 / fp16 | MACs, official | MACs, true | input "
        "| receptive field | dcase2024, int8 | weights | source |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- | --- | --- | --- |",
    ]
    for path in sorted(recipe_folders(kind)[0].glob("*.toml")):
        recipe = load_recipe(path.stem, kind)
        model = build(recipe.model.name, CLASSES, **recipe.model.options).eval()
        count = official(model, recipe.input_shape)
        verdict = "fits" if check(official(model, recipe.counted_shape), "dcase2024", bits=8).ok else "over"
        heard = receptive_field(model, recipe.input_shape)
        lines.append(
            f"| [`{path.stem}`]({path.name}) | {count.params:,} | {count.bytes(8):,} / {count.bytes(16):,} "
            f"| {count.macs:,} | {true_macs(model, recipe.input_shape):,} "
            f"| {_sides(recipe.input_shape[2:])} | {_sides(heard)} | {verdict} "
            f"| {recipe.licence or 'none published'} | {recipe.source} |"
        )
    return "\n".join(lines)


def true_macs(model: Model, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates that really run: convolutions, matrix products and attention at every position."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(shape))
    return int(counter.get_total_flops() // 2)


def _sides(sides: tuple[int, ...]) -> str:
    return f"{sides[1]:,} samples" if sides[0] == 1 else "×".join(map(str, sides))


def trainings(kind: str) -> str:
    """A row for each recipe of a kind that states a published training."""
    lines = [
        "| recipe | data | optimiser, peak rate, decay | epochs × batch | rate | augmentation | loss |",
        "| --- | --- | --- | ---: | --- | --- | --- |",
    ]
    for path in sorted(recipe_folders(kind)[0].glob("*.toml")):
        if path.stem not in PUBLISHED:
            continue
        recipe = load_recipe(path.stem, kind)
        train, name = recipe.train, recipe.train.optimizer + " amsgrad" * recipe.train.amsgrad
        lines.append(
            f"| [`{path.stem}`]({path.name}) | {PUBLISHED[path.stem]} "
            f"| {name}, {train.learning_rate:g}, {train.weight_decay:g} "
            f"| {train.epochs:,} × {train.batch_size} | {_schedule(train)} "
            f"| {_augmentation(recipe.augment)} | {_loss(recipe)} |"
        )
    return "\n".join(lines)


def _schedule(spec: TrainSpec) -> str:
    """The learning rate in a few words."""
    rise = {"linear": "linear", "exponential": "exponential", "constant": "a tenth"}[spec.warmup]
    words = [f"{rise} for {spec.warmup_epochs:g}"] if spec.warmup_epochs else []
    if spec.schedule == "steps":
        words.append("÷ 10 at " + ", ".join(f"{100 * share:g}" for share in spec.steps) + " %")
    elif spec.schedule == "constant" or spec.hold_epochs >= spec.epochs:
        words.append("constant")
    else:
        begin = max(spec.hold_epochs, spec.warmup_epochs)
        held = f"held to {begin:g}" if begin > spec.warmup_epochs else ""
        over = f" over {spec.decay_epochs:g}" if spec.decay_epochs else ""
        words += [held, f"{spec.schedule}{over} to {100 * spec.final_lr_ratio:g} %"]
    return ", ".join(word for word in words if word)


def _augmentation(spec: AugmentSpec) -> str:
    """What acts on the sounds, in the order in which it does."""
    mixup = [
        f"mixup {spec.mixup_alpha:g}", f"p {spec.mixup_p:g}" * (spec.mixup_p < 1),
        f"{spec.mixup_rounds} times" * (spec.mixup_rounds > 1), "one λ" * spec.mixup_shared,
        "larger λ" * spec.mixup_larger,
    ]  # fmt: skip
    parts = {
        f"impulse responses p {spec.impulse_response_p:g}": spec.impulse_response_p,
        f"shift {spec.shift_seconds:g} s p {spec.shift_p:g}": spec.shift_seconds,
        f"noise p {spec.noise_p:g}": spec.noise_p,
        f"mel edges +{spec.mel_jitter_low:g}, ±{spec.mel_jitter_high / 2:g} Hz": spec.mel_jitter_high,
        f"stretch ±{100 * spec.time_stretch:g} %": spec.time_stretch,
        f"pitch ±{spec.pitch_shift:g} mels": spec.pitch_shift,
        f"roll {spec.roll_seconds:g} s": spec.roll_seconds,
        f"gain {spec.gain_db:g} dB": spec.gain_db,
        f"low-pass p {spec.low_pass_p:g}": spec.low_pass_p,
        " ".join(word for word in mixup if word): spec.mixup_alpha,
        f"freq-MixStyle {spec.freq_mixstyle_p:g} / {spec.freq_mixstyle_alpha:g}": spec.freq_mixstyle_p,
        f"MixStyle {spec.mixstyle_p:g} / {spec.mixstyle_alpha:g}": spec.mixstyle_p,
        f"{spec.freq_masks} × {spec.freq_mask} mels": spec.freq_mask,
        f"{spec.time_masks} × {spec.time_mask} frames": spec.time_mask,
    }
    return "; ".join(text for text, on in parts.items() if on) or "none"


def _loss(recipe: Recipe) -> str:
    hard, spec = {"cross_entropy": "CE", "bce": "BCE", "focal": "focal"}[recipe.train.loss], recipe.distill
    if spec == DistillSpec():
        return hard
    kind = f"DKD α {spec.dkd_alpha:g} β {spec.dkd_beta:g}" if spec.loss == "dkd" else "KL"
    square = "T²·" * (spec.temperature_squared and spec.loss == "kl")
    over = " over elements" * (spec.normalisation == "elements")
    return f"{spec.hard_label_weight:g}·{hard} + {spec.soft:g}·{square}{kind}{over}, T {spec.temperature:g}"


def scores(run: Path) -> str:
    """Accuracy of each fold, with mean and spread, and how it was measured."""
    report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    roles = list(report["folds_summary"])
    lines = [
        f"{report['title']}; `{_command(report)}`, edgeaudio {report['edgeaudio']}.",
        "",
        "| fold held out | clips | " + " | ".join(roles) + " |",
        "| --- | ---: |" + " ---: |" * len(roles),
    ]
    for row in report["folds"]:
        shares = " | ".join(f"{100 * row[role]:.2f} %" for role in roles)
        lines.append(f"| {row['fold']} | {row['clips']} | {shares} |")
    summary = report["folds_summary"]
    means = (
        f"**{100 * summary[role]['mean']:.2f} % ± {100 * summary[role]['spread']:.2f}**" for role in roles
    )
    lines.append(f"| mean ± s.d. | | {' | '.join(means)} |")
    if "teaching" in report:
        lines += ["", f"{report['teaching']['sentence']}."]
    return "\n".join(lines)


def _command(report: dict[str, Any]) -> str:
    """The command that repeats the run, with the data by name: where they lay is nobody else's business."""
    words = shlex.split(report["reproduce"]["command"])

    def short(word: str) -> str:
        name, equals, path = word.rpartition("=")
        return f"{name}{equals}{Path(path).name}" if path.startswith("/") else word

    return shlex.join(map(short, words))


def main() -> None:
    """Write the tables."""
    root = Path(__file__).resolve().parents[1]
    for kind in ("students", "teachers"):
        fill(root / kind / "README.md", "costs", costs(kind))
        fill(root / kind / "README.md", "published", trainings(kind))
    if len(sys.argv) > 1:
        fill(root / "students" / "README.md", "esc10", scores(Path(sys.argv[1])))


if __name__ == "__main__":
    main()

"""Recipes that state a published training: their numbers, their learning rates, and one epoch of each."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from edgeaudio.audio import window_starts
from edgeaudio.config import DistillSpec, Recipe
from edgeaudio.data import impulses, readers, waveforms
from edgeaudio.losses import cross_entropy
from edgeaudio.models import build
from edgeaudio.presets import PRESETS
from edgeaudio.recipes import load_recipe, recipe_folders
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.epochs import hearings
from edgeaudio.training.schedule import learning_rate
from edgeaudio.training.supervised import fit
from edgeaudio.training.teaching import CachedTeacher, Listener, LiveTeacher, Teacher
from edgeaudio.training.views import Draws
from edgeaudio.training.windows import WindowSet

# ── what was published, written out by hand from the papers and repositories ─────────────────────────

ADAM = {"train.optimizer": "adam", "train.amsgrad": False}
SGD = {"train.optimizer": "sgd", "train.momentum": 0.9}
KEPT_LAST = {"train.keep": "last"}
NO_MIXUP = {"augment.mixup_alpha": 0.0}
NO_STYLE = {"augment.freq_mixstyle_p": 0.0, "augment.mixstyle_p": 0.0}
NO_MASKS = {"augment.freq_mask": 0, "augment.time_mask": 0}
NO_JITTER = {"augment.mel_jitter_low": 0.0, "augment.mel_jitter_high": 0.0}
NO_LEVELS = {"augment.gain_db": 0.0, "augment.noise_p": 0.0, "augment.low_pass_p": 0.0}
NO_SHIFTS = {"augment.roll_seconds": 0.0, "augment.shift_seconds": 0.0}
NO_RESPONSES = {"augment.impulse_response_p": 0.0, "augment.impulse_response_devices": ()}
PLAIN = {**NO_LEVELS, **NO_RESPONSES, "augment.cutmix_alpha": 0.0, "augment.shift_seconds": 0.0}


def ramps(warmup: int, hold: int, decay: int, last: float) -> dict[str, Any]:
    """sched(w, L, s, v) of the JKU repositories: exponential rise, plateau, linear fall, rest."""
    return {
        "train.warmup": "exponential", "train.warmup_epochs": warmup, "train.schedule": "linear",
        "train.hold_epochs": hold, "train.decay_epochs": decay, "train.final_lr_ratio": last,
        "train.rate_per_epoch": True,
    }  # fmt: skip


def training(epochs: int, batch: int, rate: float, decay: float) -> dict[str, Any]:
    return {
        "train.epochs": epochs, "train.batch_size": batch, "train.learning_rate": rate,
        "train.weight_decay": decay,
    }  # fmt: skip


def mel(n_fft: int, window: int, hop: int, mels: int, highest: float, lowest: float = 0) -> dict[str, Any]:
    return {
        "frontend.n_fft": n_fft, "frontend.win_length": window, "frontend.hop_length": hop,
        "frontend.n_mels": mels, "frontend.fmax": highest, "frontend.fmin": lowest,
    }  # fmt: skip


def microphones(share: float) -> dict[str, Any]:
    return {"augment.impulse_response_p": share, "augment.impulse_response_devices": ("a",)}


def style(share: float, alpha: float) -> dict[str, Any]:
    return {"augment.freq_mixstyle_p": share, "augment.freq_mixstyle_alpha": alpha}


CPR_128K = {
    "model.name": "cp_resnet", "model.rho": 8, "model.blocks": [2, 1, 1], "model.stage2_groups": 2,
    "model.cut_channels_s3": 36, "model.base_channels": 32,
}  # fmt: skip
BETWEEN_CLASS = {
    **training(2000, 64, 0.1, 5e-4), **SGD, "train.schedule": "steps", "train.steps": (0.3, 0.6, 0.9),
    "train.warmup": "constant", "train.warmup_epochs": 10, "augment.mixup_alpha": 1.0,
    "augment.mixup_p": 1.0, "augment.mixup_shared": False, "augment.mixup_larger": False,
    "augment.gain_db": 6.0, "frontend.sample_rate": 20000, "model.input_samples": 30225,
    "train.loss": "cross_entropy", **NO_STYLE, **NO_SHIFTS, "hop_seconds": 0.3877,
}  # fmt: skip

PUBLISHED: dict[str, dict[str, Any]] = {
    "cp_resnet_2022": {
        **CPR_128K, **mel(2048, 2048, 744, 256, 16000), **training(750, 64, 1e-3, 1e-3), **ADAM, **KEPT_LAST,
        **ramps(100, 250, 400, 0.005), "train.windows_per_clip": 1, **style(0.6, 0.3), **NO_MIXUP,
        "augment.mixup_larger": True, **NO_MASKS, **NO_JITTER, **PLAIN, "augment.roll_seconds": 0.0,
        "distill.temperature": 1.0, "distill.hard_label_weight": 1.0, "distill.soft": 50.0,
        "distill.temperature_squared": False, "distill.normalisation": "elements",
        "distill.teacher_mode": "live",
    },
    "cp_mobile_2023": {
        **mel(4096, 3072, 500, 256, 15500), **training(150, 256, 9e-4, 1e-4), **ADAM, **KEPT_LAST,
        **ramps(14, 50, 84, 0.005), **style(0.4, 0.3), **NO_MIXUP, "augment.roll_seconds": 4000 / 32000,
        **microphones(0.6), **NO_LEVELS, "augment.freq_mask": 48, "augment.time_mask": 0,
        "augment.mel_jitter_low": 0.0, "augment.mel_jitter_high": 1000.0, "distill.temperature": 2.0,
        "distill.hard_label_weight": 0.02, "distill.soft": 0.98, "distill.normalisation": "elements",
        "distill.temperature_squared": True, "distill.teacher_mode": "cached", "distill.views": 0,
    },
    "dcase2024_baseline_published": {
        **mel(4096, 3072, 500, 256, 16000), **training(150, 256, 5e-3, 1e-4), "train.optimizer": "adamw",
        **KEPT_LAST, "train.schedule": "cosine", "train.warmup": "linear", "train.final_lr_ratio": 0.0,
        "train.rate_per_epoch": False, **style(0.4, 0.3), **NO_MIXUP, "augment.roll_seconds": 0.1,
        "augment.freq_mask": 48, "augment.time_mask": 0, **NO_JITTER, **PLAIN, "model.grn": False,
        "model.channels_multiplier": 1.8, "model.expansion_rate": 2.1,
    },
    "mobileast_toolkit": {
        **mel(2048, 2000, 500, 256, 16000), **training(600, 64, 1e-3, 1e-3), **ADAM,
        **ramps(30, 30, 400, 0.01), "train.windows_per_clip": 1, "augment.mixup_alpha": 0.3,
        "augment.mixup_p": 1.0, "augment.mixup_shared": True, "augment.mixup_larger": False,
        **style(0.6, 0.3), "augment.roll_seconds": 16000 / 32000, **NO_MASKS, **NO_JITTER, **PLAIN,
        "distill.loss": "dkd", "distill.temperature": 2.0, "distill.dkd_alpha": 1.0,
        "distill.dkd_beta": 8.0, "distill.hard_label_weight": 1.0, "distill.soft": 1.0,
    },
    "bc_resnet_gsc": {
        "frontend.sample_rate": 16000, **mel(512, 480, 160, 40, 8000), **training(200, 100, 0.1, 1e-3),
        **SGD, **KEPT_LAST, "train.schedule": "cosine", "train.warmup": "linear", "train.warmup_epochs": 5,
        "train.final_lr_ratio": 0.0, "train.rate_per_epoch": False, **NO_MIXUP, **NO_STYLE, **NO_MASKS,
        "augment.freq_masks": 2, "augment.time_masks": 2, "augment.noise_p": 0.8, "augment.shift_p": 0.8,
        "augment.shift_seconds": 0.1, "augment.roll_seconds": 0.0, "model.tau": 1.0,
    },
    "micro_acdnet_esc50": {
        **BETWEEN_CLASS, "model.channels": [7, 20, 10, 14, 22, 31, 35, 41, 51, 67, 69, 48],
    },
    "acdnet_esc50": BETWEEN_CLASS,
    "cp_resnet_2023": {
        **CPR_128K, **mel(4096, 3072, 750, 256, 15500), **training(150, 256, 1e-3, 1e-3), **ADAM, **KEPT_LAST,
        **ramps(15, 50, 85, 0.005), **style(0.8, 0.4), **NO_MIXUP, "augment.roll_seconds": 4000 / 32000,
        **microphones(0.4), **NO_LEVELS, "augment.freq_mask": 48, "augment.time_mask": 0,
        "augment.mel_jitter_low": 0.0, "augment.mel_jitter_high": 1000.0,
    },
    "passt_s_2023": {
        **mel(1024, 800, 320, 128, 15500), **training(25, 80, 1e-5, 1e-3), **ADAM, **KEPT_LAST,
        **ramps(3, 3, 10, 0.01), **style(0.4, 0.4), **NO_MIXUP, "augment.roll_seconds": 10000 / 32000,
        **microphones(0.6), **NO_LEVELS, "augment.freq_mask": 48, "augment.time_mask": 20,
        "augment.mel_jitter_low": 0.0, "augment.mel_jitter_high": 1000.0, "model.s_patchout_f": 6,
        "model.input_frames": 998,
    },
    "passt_s_10s_2022": {"window_seconds": 10.0, **mel(1024, 800, 320, 128, 16000), **NO_MASKS, **NO_JITTER},
    "cp_resnet_damped_toolkit": {
        **mel(2048, 2000, 500, 256, 16000), **training(500, 64, 1e-3, 1e-3), **ADAM,
        **ramps(30, 30, 100, 0.01), "train.windows_per_clip": 1, "augment.mixup_alpha": 0.3,
        "augment.mixup_shared": True, **NO_STYLE, "augment.roll_seconds": 16000 / 32000, **NO_MASKS,
        **NO_JITTER, **PLAIN, "model.rho": 7, "model.blocks": [3, 3, 3], "model.base_channels": 128,
        "model.damped": True, "model.min_damping": 0.01,
    },
    "passt_s_toolkit": {
        **mel(1024, 800, 320, 128, 16000), **training(250, 64, 1e-5, 1e-3), "train.optimizer": "adamw",
        "train.warmup": "linear", "train.warmup_epochs": 30, "train.schedule": "cosine",
        "train.final_lr_ratio": 1e-7 / 1e-5, "train.rate_per_epoch": True, "augment.mixup_alpha": 0.3,
        "augment.mixup_shared": True, "augment.mixup_p": 1.0, "augment.mixstyle_p": 0.6,
        "augment.mixstyle_alpha": 0.3, "augment.freq_mixstyle_p": 0.0, "augment.freq_mask": 48,
        "augment.time_mask": 20, **NO_JITTER, **PLAIN, **NO_SHIFTS, "model.s_patchout_f": 6,
    },
    "passt_s_esc50": {
        "window_seconds": 5.0, **mel(1024, 800, 320, 128, 15000), **training(10, 12, 1e-5, 1e-4),
        "train.optimizer": "adamw", **ramps(5, 50, 50, 0.01), "train.keep": "average",
        "augment.mixup_alpha": 0.3, "augment.mixup_larger": True, "augment.mixup_shared": False,
        **NO_STYLE, "augment.gain_db": 7.0, "augment.freq_mask": 48, "augment.time_mask": 80,
        "augment.mel_jitter_low": 9.0, "augment.mel_jitter_high": 2000.0, "model.s_patchout_t": 10,
        "model.s_patchout_f": 5,
    },
    "cnn14_esc50": {
        "window_seconds": 5.0, **mel(1024, 1024, 320, 64, 14000, 50), **training(50, 16, 5e-5, 0.0), **ADAM,
        **KEPT_LAST, "train.schedule": "constant", "train.warmup_epochs": 0.0, **NO_MIXUP, **NO_STYLE,
        **NO_MASKS, **NO_JITTER, **PLAIN, **NO_SHIFTS,
    },
    "cnn14_audioset": {
        "window_seconds": 10.0, **mel(1024, 1024, 320, 64, 14000, 50), **training(17, 32, 1e-3, 0.0),
        "train.optimizer": "adam", "train.amsgrad": True, "train.loss": "bce", "train.schedule": "constant",
        "train.warmup_epochs": 0.0, "augment.mixup_alpha": 1.0, "augment.mixup_p": 1.0, **NO_STYLE,
        "augment.freq_mask": 8, "augment.freq_masks": 2, "augment.time_mask": 64, "augment.time_masks": 2,
        **NO_JITTER, **PLAIN, **NO_SHIFTS,
    },
    "mn10_esc50": {
        "window_seconds": 5.0, **mel(1024, 800, 320, 128, 15000), **training(80, 128, 6e-5, 0.0), **ADAM,
        **KEPT_LAST, **ramps(10, 10, 65, 0.01), "augment.mixup_alpha": 0.3, "augment.mixup_larger": True,
        **NO_STYLE, **NO_MASKS, "augment.roll_seconds": 4000 / 32000, "augment.gain_db": 12.0,
        "augment.mel_jitter_low": 9.0, "augment.mel_jitter_high": 2000.0, "model.width": 1.0,
    },
    "seresnext26t_birdclef": {
        "window_seconds": 5.0, "train.train_seconds": 30.0, **mel(1024, 1024, 320, 128, 14000),
        **training(30, 32, 3e-4, 0.0), **ADAM, "train.schedule": "cosine", "train.warmup_epochs": 0.0,
        "train.final_lr_ratio": 0.0, "train.rate_per_epoch": True, "train.loss": "bce",
        "augment.mixup_alpha": 1.0, "augment.mixup_p": 0.5, "augment.mixup_rounds": 2,
        "augment.mixup_shared": False, **NO_STYLE, "augment.noise_p": 0.5,
        "augment.noise_snr_db": (5.0, 20.0), "augment.low_pass_p": 0.5, "augment.freq_mask": 24,
        "augment.time_mask": 64, "augment.roll_seconds": 15.0, "frontend.squared": True,
        "model.pooling": "gem", "model.drop_rate": 0.5, "model.drop_path_rate": 0.5,
        "model.backbone": "seresnext26t_32x4d",
    },
}  # fmt: skip


def kind_of(name: str) -> str:
    return next(k for k in ("students", "teachers") if (recipe_folders(k)[0] / f"{name}.toml").is_file())


def load(name: str, *settings: str) -> Recipe:
    return load_recipe(name, kind_of(name), list(settings))


def value(recipe: Recipe, key: str) -> Any:
    section, _, option = key.partition(".")
    if section == "model" and option != "name":
        return recipe.model.options[option]
    return reduce(getattr, key.split("."), recipe)


def equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_the_published_ones(name: str) -> None:
    recipe, wanted = load(name), PUBLISHED[name]
    found = {key: value(recipe, key) for key in wanted}
    wrong = {key: (found[key], wanted[key]) for key in wanted if not equal(found[key], wanted[key])}
    assert not wrong


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_their_frameworks_do_unasked(name: str) -> None:
    recipe = load(name)
    assert recipe.summary
    assert "github.com/" in recipe.source
    assert not recipe.train.weight_decay or recipe.train.decay_all, "torch decays biases and norms too"
    assert (recipe.train.ema_decay, recipe.train.label_smoothing, recipe.train.gradient_clip) == (0, 0, 0)
    if recipe.model.name == "timm" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    with torch.device("meta"):
        model = build(recipe.model.name, 10, **recipe.model.options)
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        assert recipe.train.micro_batch == recipe.train.batch_size, "batch norm must see the whole batch"


def test_every_recipe_that_names_a_repository_is_held_against_it_and_listed() -> None:
    folders = [recipe_folders(kind)[0] for kind in ("students", "teachers")]
    files = [path for folder in folders for path in folder.glob("*.toml")]
    assert {path.stem for path in files if "github.com/" in path.read_text()} == set(PUBLISHED)
    tables = [(folder / "README.md").read_text().split("<!-- published")[1] for folder in folders]
    assert {name for table in tables for name in re.findall(r"^\| \[`(\w+)`\]", table, re.M)} == set(
        PUBLISHED
    )


# ── learning rates ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        # schedules of the JKU repositories, run there: peak times factor
        ("cp_mobile_2023", {0: 8.6121e-6, 13: 8.773308e-4, 14: 9e-4, 51: 8.893395e-4, 92: 4.5225e-4}),
        ("mobileast_toolkit", {0: 7.949e-6, 15: 2.86505e-4, 30: 1e-3, 429: 1.2475e-5, 599: 1e-5}),
        # and by hand: .005 + .995 · 200/400; .01 + .99 · 5/10; .005 + .995 · 84/85; .01 + .99 · 50/100
        ("cp_resnet_2022", {100: 1e-3, 250: 1e-3, 450: 5.025e-4, 650: 5e-6, 749: 5e-6}),
        ("passt_s_2023", {3: 1e-5, 8: 5.05e-6, 13: 1e-7, 24: 1e-7}),
        ("cp_resnet_2023", {15: 1e-3, 50: 1e-3, 51: 9.882941e-4, 135: 5e-6}),
        ("cp_resnet_damped_toolkit", {30: 1e-3, 80: 5.05e-4, 130: 1e-5, 499: 1e-5}),
        ("mn10_esc50", {10: 6e-5, 75: 6e-7, 79: 6e-7}),
        ("passt_s_esc50", {0: 1.7422e-7, 5: 1e-5, 9: 1e-5}),
        # warm-ups, halves of cosines, steps, constants
        ("passt_s_toolkit", {15: 5e-6, 30: 1e-5, 140: 5.05e-6}),
        ("dcase2024_baseline_published", {1.83: 2.5e-3, 3.66: 5e-3, 76.83: 2.5e-3, 150: 0}),
        ("bc_resnet_gsc", {2.5: 0.05, 5: 0.1, 102.5: 0.05, 200: 0}),
        ("acdnet_esc50", {0: 0.01, 9: 0.01, 10: 0.1, 599: 0.1, 600: 0.01, 1200: 1e-3, 1800: 1e-4}),
        ("micro_acdnet_esc50", {0: 0.01, 10: 0.1, 1999: 1e-4}),
        ("seresnext26t_birdclef", {0: 3e-4, 15: 1.5e-4, 30: 0}),
        ("cnn14_esc50", {0: 5e-5, 49: 5e-5}),
        ("cnn14_audioset", {0: 1e-3, 16: 1e-3}),
    ],
)  # fmt: skip
def test_rates_at_known_epochs(name: str, rates: dict[float, float]) -> None:
    spec = load(name).train
    assert [learning_rate(spec, e) for e in rates] == pytest.approx(list(rates.values()), rel=1e-4, abs=1e-12)


# ── what is said in comments ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["micro_acdnet_esc50", "acdnet_esc50"])
def test_ten_windows_of_a_clip_vote(name: str) -> None:
    recipe = load(name)
    assert len(window_starts(5 * 20_000, recipe.window_samples, recipe.hop_samples)) == 10


@pytest.mark.parametrize(("tau", "mels", "params"), [(2, 3, 27_284), (3, 5, 54_168), (8, 7, 321_068)])
def test_wider_bc_resnets_mask_more(tau: int, mels: int, params: int) -> None:
    recipe = load("bc_resnet_gsc", f"model.tau={tau}", "augment.time_mask=20", f"augment.freq_mask={mels}")
    model = build("bc_resnet", 12, **recipe.model.options)
    assert sum(p.numel() for p in model.parameters()) == params
    assert (recipe.augment.freq_mask, recipe.augment.time_mask) == (mels, 20)


def test_divergence_and_cross_entropy_have_the_same_gradients() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)).softmax(1)
    divergence = torch.nn.KLDivLoss(reduction="batchmean")(logits.softmax(1).log(), targets)
    (theirs,) = torch.autograd.grad(divergence, logits)
    (ours,) = torch.autograd.grad(cross_entropy(logits, targets), logits)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("network", ["cnn14", "cnn10", "cnn6"])
def test_paddles_two_dropouts_are_one(network: str) -> None:
    recipe = load("cnn14_esc50", f"model.name={network}", "model.width=0.03")
    model = build(recipe.model.name, 50, **recipe.model.options)
    assert model.get_submodule("head_dropout").p == pytest.approx(1 - (1 - 0.5) * (1 - 0.1))
    x = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    embedding = model.eval().embed(x)
    torch.testing.assert_close(model(x), model.get_submodule("fc_audioset")(embedding))
    with pytest.raises(ValueError, match="head_dropout is 1; it must lie between 0 and 1"):
        build(network, 50, head_dropout=1)


# ── one epoch of each ────────────────────────────────────────────────────────────────────────────────

SMALL = {
    "passt": ("model.depth=1", "model.embed_dim=48", "model.heads=3"),
    "cnn14": ("model.width=0.05",),
    "mobilenet": ("model.width=0.1",),
    "timm": ("model.backbone=test_resnet",),
}
"""Architecture → settings that make the network small; the training is not touched."""
SMALLER = {
    "cp_resnet_damped_toolkit": ("model.base_channels=8",),
    "acdnet_esc50": ("model.channels=[4,8,8,8,8,8,8,8,8,8,8,8]",),
}
TINY = ("train.batch_size=4", "train.micro_batch=4", "train.epochs=1")

HEARD: dict[str, set[str]] = {
    "cp_resnet_2022": {"style"},
    "cp_mobile_2023": {"style", "roll", "bands", "response", "jitter"},
    "dcase2024_baseline_published": {"style", "roll", "bands"},
    "mobileast_toolkit": {"style", "roll", "mixup"},
    "bc_resnet_gsc": {"snr", "shift"},
    "micro_acdnet_esc50": {"mixup", "decibels"},
    "acdnet_esc50": {"mixup", "decibels"},
    "cp_resnet_2023": {"style", "roll", "bands", "response", "jitter"},
    "passt_s_2023": {"style", "roll", "bands", "stretches", "response", "jitter"},
    "passt_s_10s_2022": {"style", "roll"},
    "cp_resnet_damped_toolkit": {"mixup", "roll"},
    "passt_s_toolkit": {"mixup", "channel_style", "bands", "stretches"},
    "passt_s_esc50": {"mixup", "decibels", "bands", "stretches", "jitter"},
    "cnn14_esc50": set(),
    "cnn14_audioset": {"mixup", "bands", "stretches"},
    "mn10_esc50": {"mixup", "roll", "decibels", "jitter"},
    "seresnext26t_birdclef": {"mixup", "roll", "snr", "edge", "bands", "stretches"},
}
"""What acts on a batch when all coins fall well."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of a bit more than a second, of two classes and two devices, and two impulse responses."""
    root = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(0)
    rows = ["path,label,split,device"]
    for k, (split, label) in enumerate(
        [("train", "hum"), ("train", "hiss")] * 2 + [("val", "hum"), ("val", "hiss")]
    ):
        t = np.arange(int(1.2 * 32000)) / 32000
        sound = (
            0.2 * np.sin(2 * np.pi * (200 + 50 * k) * t) if label == "hum" else 0.1 * rng.normal(size=len(t))
        )
        soundfile.write(root / f"{k}.wav", sound + 1e-3 * rng.normal(size=len(t)), 32000)
        rows.append(f"{k}.wav,{label},{split},{'ab'[k // 2 % 2]}")
    (root / "clips.csv").write_text("\n".join(rows))
    (root / "micirp").mkdir()
    for name, taps in (("dull", [0.5, 0.3, 0.2]), ("thin", [1.0, -0.7])):
        soundfile.write(root / "micirp" / f"{name}.wav", np.array(taps), 44100, subtype="FLOAT")
    return root


def windows(folder: Path, recipe: Recipe, split: str) -> WindowSet:
    clips, waves = waveforms.prepare(readers.read(folder / "clips.csv"), recipe.frontend.sample_rate)
    seconds = (
        max(recipe.train.train_seconds, recipe.window_seconds) if split == "train" else recipe.window_seconds
    )
    window = round(seconds * recipe.frontend.sample_rate)
    return WindowSet(
        waves, clips.split_indices(split), clips.targets, window, window // 4,
        devices=[clip.device for clip in clips], responses=impulses.read(folder / "micirp"),
    )  # fmt: skip


def teacher_of(recipe: Recipe, train: WindowSet) -> Teacher | None:
    """What the published student is taught by: answers to the untouched windows, or to its own views."""
    if recipe.distill == DistillSpec():
        return None
    torch.manual_seed(1)
    if recipe.distill.teacher_mode == "cached":
        return CachedTeacher(torch.randn(len(train), 2), recipe, torch.device("cpu"))
    model = build("cp_mobile", 2, base_channels=8).eval()
    return LiveTeacher([Listener(model, PRESETS["passt"], 1.0)], train, recipe, torch.device("cpu"), [1.0])


def acting(draws: Draws, recipe: Recipe) -> set[str]:
    """The names of what changes at least one window of a batch."""
    found = {
        "response": draws.response is not None and not np.isnan(draws.response).all(),
        "shift": draws.shift is not None and draws.shift.any(),
        "snr": draws.snr is not None and np.isfinite(draws.snr).any(),
        "jitter": draws.jitter is not None and any(draws.jitter),
        "roll": draws.roll is not None and draws.roll.any(),
        "decibels": draws.decibels is not None and draws.decibels.any(),
        "edge": draws.edge is not None and np.isfinite(draws.edge.offset).any(),
        "cut": draws.cut is not None,
        "mixup": len(draws.mixup) == recipe.augment.mixup_rounds,
        "style": draws.style is not None,
        "channel_style": draws.channel_style is not None,
        "bands": bool(draws.bands) and all(width.any() for _, width in draws.bands),
        "stretches": bool(draws.stretches) and all(width.any() for _, width in draws.stretches),
    }
    return {name for name, acts in found.items() if acts}


def lucky_seed(recipe: Recipe, train: WindowSet, wanted: set[str]) -> int:
    """A seed of whose first epoch every batch is changed by all that the recipe has."""
    for seed in range(3000):
        if all(acting(h.draws, recipe) == wanted for h in hearings(recipe, train, seed, 0)):
            return seed
    raise AssertionError(f"no epoch of {recipe.name} is changed by {wanted} and nothing else")


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_epoch_with_all_its_augmentation(name: str, folder: Path, tmp_path: Path) -> None:
    published = load(name)
    if published.model.name == "timm" and importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    small = SMALLER.get(name, SMALL.get(published.model.name, ()))
    recipe = load(name, *small, *TINY, f"augment.impulse_responses={folder / 'micirp'}")
    assert recipe.augment == dataclasses.replace(
        published.augment, impulse_responses=recipe.augment.impulse_responses
    )
    train, val = windows(folder, recipe, "train"), windows(folder, recipe, "val")
    seed = lucky_seed(recipe, train, HEARD[name])
    torch.manual_seed(0)
    model = build(recipe.model.name, 2, **recipe.model.options)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    (row,) = fit(
        model, recipe, train, val, 2, tmp_path, make_fabric("cpu", "32"), seed, teacher_of(recipe, train)
    )
    assert math.isfinite(row["train_loss"])
    assert row["train_loss"] > 0
    learnt = dict(model.named_parameters())
    moved = [key for key in learnt if not torch.equal(learnt[key], before[key])]
    unused = [key for key in learnt if key.startswith("head_dist.")]  # PaSST's second head takes no part
    assert len(moved) >= 0.5 * (len(learnt) - len(unused)), sorted(set(learnt) - set(moved))
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_impulse_responses_are_for_device_a_alone(folder: Path) -> None:
    recipe = load("cp_mobile_2023", *TINY, f"augment.impulse_responses={folder / 'micirp'}")
    train = windows(folder, recipe, "train")
    filtered = {"a": 0, "b": 0}
    for seed in range(200):
        for hearing in hearings(recipe, train, seed, 0):
            assert hearing.draws.response is not None
            for device, place in zip(train.device_of(hearing.index), hearing.draws.response, strict=True):
                filtered[device] += not np.isnan(place)
    assert filtered["b"] == 0
    assert filtered["a"] / 400 == pytest.approx(0.6, abs=0.1)

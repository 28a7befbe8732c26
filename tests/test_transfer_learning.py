"""What stays frozen, what the device adversary does, which weights are kept, when a training stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeaudio.config import AugmentSpec, DistillSpec, FrontEndSpec, ModelSpec, Recipe, TrainSpec
from edgeaudio.data import readers, waveforms
from edgeaudio.errors import RecipeError
from edgeaudio.models import Model, build
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.averaging import mean_of
from edgeaudio.training.epochs import draw_windows
from edgeaudio.training.freezing import blocks, freeze
from edgeaudio.training.fusion import learned_weights
from edgeaudio.training.learner import Learner, Tap
from edgeaudio.training.optimizers import build_optimizer
from edgeaudio.training.progress import Progress
from edgeaudio.training.supervised import fit
from edgeaudio.training.teaching import Listener, LiveTeacher
from edgeaudio.training.windows import WindowGrid, WindowSet, window_logits

CPU = torch.device("cpu")
MEL = FrontEndSpec(sample_rate=16000, n_fft=512, win_length=512, hop_length=250, n_mels=32, fmax=8000)
OPTIONS: dict[str, Any] = {"base_channels": 8, "n_blocks": [2, 1], "strides": {}}


def small(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return build("cp_mobile", 10, **OPTIONS)


def recipe(distill: DistillSpec | None = None, **train: Any) -> Recipe:
    settings = {"epochs": 2, "batch_size": 16, "warmup_epochs": 0.0, **train}
    return Recipe(
        "small", ModelSpec("cp_mobile", OPTIONS), frontend=MEL, train=TrainSpec(**settings),
        augment=AugmentSpec(freq_mixstyle_p=0.0), distill=distill or DistillSpec(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def windows(scenes: Path) -> WindowSet:
    clips = readers.read(scenes)
    chosen = clips.split_indices("train")[::2]
    waves = waveforms.prepare(clips, 16000)[1]
    return WindowSet(waves, chosen, clips.targets, 16000, 4000, devices=[clip.device for clip in clips])


def trained(
    windows: WindowSet, folder: Path, settings: Recipe, model: Model | None = None, **more: Any
) -> Any:
    model = model or small()
    history = fit(model, settings, windows, windows, 10, folder, make_fabric("cpu", "32"), 1, **more)
    return model, history


# ── freezing ─────────────────────────────────────────────────────────────────────────────────────


def test_frozen_blocks_keep_weights_and_statistics(windows: WindowSet, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in small().state_dict().items()}
    model, _ = trained(windows, tmp_path, recipe(freeze="2"))
    names = [name for name, _ in blocks(small())]
    assert len(names) > 2
    for key, value in model.state_dict().items():
        frozen = key.startswith(tuple(f"{name}." for name in names[:2]))
        assert torch.equal(value, before[key]) == frozen, key
    assert all(parameter.requires_grad for parameter in model.parameters())  # a plain model again


@pytest.mark.parametrize("name", ["cp_mobile", "yamnet", "daf_cnn", "mobilenet"])
def test_convs_leaves_the_head_to_learn(name: str) -> None:
    model = build(name, 5)
    freeze(model, "convs")
    learning = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    heads = tuple(model.head)
    assert any(key.startswith(heads) for key in learning)
    rest = [key for key in learning if not key.startswith(heads)]
    linear = {n for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert all(key.rpartition(".")[0] in linear for key in rest)


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(RecipeError, match=r"has .* blocks before its head"):
        freeze(small(), "99")


# ── optimisers, sampling, what is kept ───────────────────────────────────────────────────────────


def test_optimisers_are_the_ones_asked_for() -> None:
    sgd = build_optimizer(small(), TrainSpec(optimizer="sgd", momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["nesterov"]
    assert sgd.defaults["momentum"] == 0.8
    adam = build_optimizer(small(), TrainSpec(optimizer="adam", amsgrad=True, decay_all=True))
    assert type(adam) is torch.optim.Adam
    assert len(adam.param_groups) == 1
    assert len(build_optimizer(small(), TrainSpec()).param_groups) == 2


def test_oversampling_draws_every_class_as_often_as_the_largest(scenes: Path) -> None:
    clips = readers.read(scenes)
    first = clips.targets[0]
    train = clips.split_indices("train")
    few = [i for i in train if clips.targets[i] == first][:2] + [
        i for i in train if clips.targets[i] != first
    ]
    waves = waveforms.prepare(clips, 16000)[1]
    lopsided = WindowSet(waves, few, clips.targets, 16000, 4000)
    drawn = draw_windows(lopsided, TrainSpec(oversample=True), np.random.default_rng(0))
    counts = np.bincount(lopsided.targets.numpy()[lopsided.grid.clip[drawn]], minlength=10)
    assert len(set(counts)) == 1
    plain = draw_windows(lopsided, TrainSpec(), np.random.default_rng(0))
    assert np.bincount(lopsided.targets.numpy()[lopsided.grid.clip[plain]])[first] == 2


def test_average_of_the_best_epochs_is_kept() -> None:
    spec, progress = TrainSpec(keep="average", average_epochs=2), Progress()
    model = torch.nn.Linear(1, 1)
    for loss, weight in ((3.0, 5.0), (1.0, 1.0), (2.0, 3.0)):
        torch.nn.init.constant_(model.weight, weight)
        progress.take({"val_loss": loss}, model, spec)
    assert progress.kept(spec)["weight"].item() == 2.0
    assert mean_of([{"n": torch.tensor(3)}, {"n": torch.tensor(4)}])["n"] == 3


def test_the_last_epoch_is_kept_on_request(windows: WindowSet, tmp_path: Path) -> None:
    model, history = trained(windows, tmp_path, recipe(keep="last", learning_rate=0.05, epochs=3))
    from edgeaudio.training.supervised import val_figures

    figures = val_figures(window_logits(model, windows, MEL, CPU), windows)
    assert figures["val_loss"] == pytest.approx(history[-1]["val_loss"], rel=1e-5)


def test_a_training_that_gains_nothing_stops_and_stays_stopped(windows: WindowSet, tmp_path: Path) -> None:
    # a rate of almost nothing: the loss hardly moves, then rises or falls by chance
    hopeless = recipe(epochs=30, patience=2, learning_rate=0.3)
    _, history = trained(windows, tmp_path, hopeless)
    losses = [row["val_loss"] for row in history]
    assert len(losses) < 30
    assert len(losses) - 1 - losses.index(min(losses)) == 2
    assert trained(windows, tmp_path, hopeless)[1] == history


def test_gradients_are_clipped(windows: WindowSet, tmp_path: Path) -> None:
    sgd = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0}
    free = trained(windows, tmp_path / "a", recipe(**sgd))[0]
    tight = trained(windows, tmp_path / "b", recipe(**sgd, gradient_clip=1e-6))[0]
    start = small().state_dict()["feed_forward.0.weight"]
    moved = [(m.state_dict()["feed_forward.0.weight"] - start).norm() for m in (free, tight)]
    assert moved[1] < 1e-2 * moved[0]


# ── features and devices ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "has_map"), [("cp_mobile", True), ("mobileast", True), ("passt", False)])
def test_the_tap_finds_the_last_map(name: str, has_map: bool) -> None:
    shape = (1, 1, 128, 100) if name == "passt" else (1, 1, 256, 64)
    options = {"input_frames": 100, "depth": 1} if name == "passt" else {}
    model = build(name, 3, **options).eval()
    tap = Tap(model, shape)
    model(torch.zeros(2, *shape[1:]))
    assert (tap.feature_map is not None) == has_map
    if has_map:
        assert tap.feature_map is not None
        assert tap.feature_map.shape[:2] == (2, tap.channels)
        assert tap.feature_map[0, 0].numel() > 1


@pytest.mark.parametrize("features", ["attention", "relational"])
def test_features_are_learnt_from_a_teacher(windows: WindowSet, tmp_path: Path, features: str) -> None:
    spec = DistillSpec(teacher_mode="live", features=features, feature_weight=10.0)
    settings = recipe(spec)
    torch.manual_seed(3)
    wide = build("cp_resnet", 10, rho=5, base_channels=8, cut_channels_s3=0)
    teacher = LiveTeacher([Listener(wide, MEL)], windows, settings, CPU)
    _, history = trained(windows, tmp_path / "with", settings, teacher=teacher)
    without = replace(settings, distill=replace(spec, feature_weight=0.0))
    _, plain = trained(windows, tmp_path / "without", without, teacher=teacher)
    assert np.isfinite(history[-1]["train_loss"])
    assert history[0]["train_loss"] > plain[0]["train_loss"]  # the same start, one term more


def test_the_adversary_needs_devices_and_unlearns_them(windows: WindowSet, tmp_path: Path) -> None:
    learner = Learner(small(), recipe(device_adversary=1.0), len(windows.device_names))
    mel = windows.mel_source(MEL, CPU)(np.arange(4))
    heard = learner.train()(mel)
    assert heard.device is not None
    assert heard.device.shape == (4, len(windows.device_names))
    # what precedes the reversal is pushed the other way than the head itself
    first, head = learner.model.get_parameter("in_c.0.0.weight"), learner.adversary
    assert head is not None
    torch.autograd.backward(heard.device[:, 0].sum())
    pushed = first.grad
    learner.zero_grad()
    head[0].alpha = -1.0  # a plain identity
    torch.autograd.backward(learner(mel).device[:, 0].sum())
    assert pushed is not None
    torch.testing.assert_close(first.grad, -pushed)
    _, history = trained(windows, tmp_path, recipe(device_adversary=0.5))
    assert np.isfinite(history[-1]["train_loss"])
    with pytest.raises(RecipeError, match="two or more devices, here are 0"):
        Learner(small(), recipe(device_adversary=1.0), 0)


def test_clips_of_an_unknown_device_teach_the_adversary_nothing(scenes: Path, tmp_path: Path) -> None:
    clips = readers.read(scenes)
    chosen = clips.split_indices("train")[::2]
    waves = waveforms.prepare(clips, 16000)[1]
    known = ["" if k % 3 else clip.device for k, clip in enumerate(clips)]
    some = WindowSet(waves, chosen, clips.targets, 16000, 4000, devices=known)
    told = some.device_matrix.sum(1)
    assert set(told.tolist()) == {0.0, 1.0}
    assert [bool(n) for n in told] == [bool(known[i]) for i in chosen]
    _, history = trained(some, tmp_path, recipe(device_adversary=0.5))
    assert np.isfinite(history[-1]["train_loss"])


# ── fusion ───────────────────────────────────────────────────────────────────────────────────────


def test_learned_weights_prefer_the_teacher_that_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.nn.functional.one_hot(torch.arange(40) % 4, 4).float()
    good = 4 * targets + 0.5 * torch.randn(40, 4, generator=generator)
    noise = 4 * torch.randn(40, 4, generator=generator)
    grid = WindowGrid(np.arange(40), np.zeros(40, dtype=np.int64), 40)
    weights = learned_weights([noise, good], targets, grid)
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > 0.9
    alike = learned_weights([good, good], targets, grid)
    assert alike == pytest.approx([0.5, 0.5], abs=1e-3)


def test_learned_weights_reach_the_best_of_a_fine_search() -> None:
    generator = torch.Generator().manual_seed(1)
    targets = torch.nn.functional.one_hot(torch.arange(60) % 3, 3).float()
    each = [targets * scale + torch.randn(60, 3, generator=generator) for scale in (1.0, 2.0)]
    grid = WindowGrid(np.arange(60), np.zeros(60, dtype=np.int64), 60)

    def loss(share: float) -> float:
        fused = share * each[0] + (1 - share) * each[1]
        return float(-(targets * fused.log_softmax(1)).sum(1).mean())

    best = min(np.linspace(0, 1, 201), key=loss)
    assert learned_weights(each, targets, grid)[0] == pytest.approx(best, abs=0.08)

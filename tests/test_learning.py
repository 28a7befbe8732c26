"""Augmentation, losses, schedule and loop against published numbers, by hand, and against themselves."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import STUDENT

from edgeaudio import augment, losses
from edgeaudio.config import TrainSpec
from edgeaudio.data import readers, waveforms
from edgeaudio.errors import RecipeError
from edgeaudio.models import build
from edgeaudio.presets import PRESETS
from edgeaudio.recipes import load_recipe
from edgeaudio.training import loop, supervised
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.epochs import Hearing
from edgeaudio.training.metrics import clip_metrics, quality_by
from edgeaudio.training.objective import Batch
from edgeaudio.training.schedule import learning_rate
from edgeaudio.training.supervised import fit
from edgeaudio.training.teaching import CachedTeacher
from edgeaudio.training.views import draw
from edgeaudio.training.windows import WindowSet, vote, window_logits

GOLDEN = torch.arange(24, dtype=torch.float32).reshape(2, 1, 3, 4) ** 1.5 / 10


def test_freq_mixstyle_equals_the_published_numbers() -> None:
    out = augment.freq_mixstyle(GOLDEN, torch.tensor([0.7, 0.2]), torch.tensor([1, 0]))
    expected = torch.tensor([1.281044, 1.444500, 1.743368, 2.130388])
    torch.testing.assert_close(out.flatten()[:4], expected, atol=2e-6, rtol=0)
    assert float(out.sum()) == pytest.approx(71.441719, abs=1e-4)


def test_freq_mixstyle_with_itself_changes_nothing() -> None:
    mel = torch.randn(3, 1, 8, 20)
    out = augment.freq_mixstyle(mel, torch.tensor([0.3, 0.5, 0.9]), torch.arange(3))
    torch.testing.assert_close(out, mel, atol=1e-5, rtol=0)


def test_mixup_is_the_weighted_sum() -> None:
    x, lam = torch.randn(4, 1, 3, 5), torch.tensor([1.0, 0.0, 0.25, 0.5])
    out = augment.mixup(x, lam, torch.tensor([3, 2, 1, 0]))
    torch.testing.assert_close(out[0], x[0])
    torch.testing.assert_close(out[1], x[2])
    torch.testing.assert_close(out[2], 0.25 * x[2] + 0.75 * x[1])


def test_roll_moves_every_clip_by_its_own_shift() -> None:
    mel = torch.randn(3, 1, 4, 10)
    out = augment.roll_frames(mel, torch.tensor([0, 3, -2]))
    for i, shift in enumerate([0, 3, -2]):
        torch.testing.assert_close(out[i], mel[i].roll(shift, dims=2))


def test_mask_blanks_the_band_and_nothing_else() -> None:
    mel = torch.randn(2, 1, 10, 6)
    out = augment.mask_mels(mel, torch.tensor([2, 0]), torch.tensor([3, 0]))
    torch.testing.assert_close(out[1], mel[1])
    torch.testing.assert_close(out[0, :, [0, 1, 5, 6, 7, 8, 9]], mel[0, :, [0, 1, 5, 6, 7, 8, 9]])
    assert torch.all(out[0, :, 2:5] == mel[0].mean())


@pytest.mark.parametrize("name", ["dcase2024", "passt", "panns", "bc_resnet"])
def test_change_of_level_is_that_of_the_waveform(name: str) -> None:
    from edgeaudio.frontend import LogMel

    spec = PRESETS[name]
    sound = torch.from_numpy(np.random.default_rng(0).normal(0, 0.05, (2, spec.sample_rate))).float()
    decibels = torch.tensor([-9.0, 6.0])
    louder = sound * (10 ** (decibels / 20))[:, None]
    front_end = LogMel(spec)
    out = augment.change_level(front_end(sound), decibels, spec)
    torch.testing.assert_close(out, front_end(louder), atol=2e-3, rtol=1e-3)


def test_a_student_that_equals_its_teacher_has_no_soft_loss() -> None:
    logits = torch.randn(5, 7)
    assert float(losses.distillation(logits, (logits / 3).softmax(1), 3.0)) == pytest.approx(0, abs=1e-6)


def test_schedule() -> None:
    spec = TrainSpec(epochs=10, learning_rate=1.0, warmup_epochs=2, final_lr_ratio=0.1)
    assert learning_rate(spec, 1.0) == pytest.approx(0.5)
    assert learning_rate(spec, 2.0) == pytest.approx(1.0)
    assert learning_rate(spec, 6.0) == pytest.approx(0.55)  # half way down the cosine
    assert learning_rate(spec, 10.0) == pytest.approx(0.1)
    assert 0 < learning_rate(spec, 0.0) < 0.05


def test_metrics_by_hand() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    metrics = clip_metrics(scores, np.array([0, 1, 1, 2]))
    assert metrics.accuracy == 0.75
    assert metrics.macro_accuracy == pytest.approx((1 + 0.5 + 1) / 3)
    assert metrics.log_loss == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.6]).mean())
    assert metrics.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 1))
    assert quality_by(["a", "b", "b", "a"], scores, np.array([0, 1, 1, 2])) == {"a": (2, 1.0), "b": (2, 0.5)}


def test_a_class_without_clips_counts_for_nothing() -> None:
    metrics = clip_metrics(np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), np.array([0, 1]))
    assert metrics.macro_accuracy == 1.0
    assert metrics.per_class == [1.0, 1.0, None]


@pytest.fixture(scope="module")
def sets(scenes: Path) -> dict[str, WindowSet]:
    clips, waves = waveforms.prepare(readers.read(scenes), 16000)
    return {
        split: WindowSet(waves, clips.split_indices(split), clips.targets, 16000, hop)
        for split, hop in (("train", 4000), ("val", 8000))
    }


@pytest.fixture
def recipe(tmp_path: Path):  # type: ignore[no-untyped-def]
    path = tmp_path / "small.toml"
    path.write_text(STUDENT.format(epochs=4))
    return load_recipe(path, overrides=["train.ema_decay=0.9", "augment.gain_db=6.0", "augment.freq_mask=4"])


def train(recipe, sets, folder: Path, seed: int = 3, **options):  # type: ignore[no-untyped-def]
    torch.manual_seed(seed)
    model = build(recipe.model.name, 10, **recipe.model.options)
    history = fit(
        model, recipe, sets["train"], sets["val"], 10, folder, make_fabric("cpu", "32"), seed, **options
    )
    losses_ = [row["train_loss"] for row in history]
    return losses_, {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def test_same_seed_same_losses_and_other_seed_others(recipe, sets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first, second = (train(recipe, sets, tmp_path / name) for name in "ab")
    assert first[0] == second[0]
    assert same(first[1], second[1])
    assert train(recipe, sets, tmp_path / "c", seed=4)[0] != first[0]
    assert first[0][-1] < first[0][0]


def test_resumed_training_ends_bit_for_bit_where_the_whole_one_does(
    recipe, sets, tmp_path, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    whole = train(recipe, sets, tmp_path / "whole")
    save = loop.save

    def stop_after_two(folder: Path, state, *rest) -> None:  # type: ignore[no-untyped-def]
        save(folder, state, *rest)
        if state.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, sets, tmp_path / "parts")
    monkeypatch.setattr(loop, "save", save)
    parts = train(recipe, sets, tmp_path / "parts")
    assert parts[0] == whole[0]
    assert same(parts[1], whole[1])
    rows = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]


def test_the_best_epoch_by_validation_is_kept(recipe, sets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, learning_rate=0.5))
    model = build(recipe.model.name, 10, **recipe.model.options)
    fabric = make_fabric("cpu", "32")
    history = fit(model, recipe, sets["train"], sets["val"], 10, tmp_path, fabric, 0)
    logits = window_logits(model, sets["val"], recipe.frontend, torch.device("cpu"))
    metrics = clip_metrics(vote(logits.softmax(1), sets["val"].grid).numpy(), sets["val"].targets.numpy())
    best = min(history, key=lambda row: row["val_loss"])
    assert metrics.accuracy == best["val_accuracy"]
    assert metrics.log_loss == pytest.approx(best["val_loss"], abs=1e-6)


def test_micro_batches_accumulate_to_the_batch_gradient() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 3)  # no batch statistics: the split must not matter at all
    mel, targets = torch.randn(10, 6), torch.randn(10, 3).softmax(1)
    losses.cross_entropy(model(mel), targets).backward()
    whole = model.weight.grad.clone()
    model.zero_grad()
    for share, _, micro in loop._micro_batches(Batch(mel, targets), 4, 10, make_fabric("cpu", "32")):
        (losses.cross_entropy(model(micro.mel), micro.targets) * share).backward()
    torch.testing.assert_close(model.weight.grad, whole)


def test_teacher_and_labels_are_mixed_alike(recipe, sets) -> None:  # type: ignore[no-untyped-def]
    train_set = sets["train"]
    one_hot = torch.nn.functional.one_hot(
        train_set.targets[torch.from_numpy(train_set.grid.clip)], 10
    ).float()
    source = train_set.mel_source(recipe.frontend, torch.device("cpu"))
    hearing = Hearing(np.arange(16), draw(recipe, 16, np.random.default_rng(0)), 0.0)
    teacher = CachedTeacher(1e4 * one_hot, recipe, torch.device("cpu"))
    truth = train_set.label_matrix(10)
    batch = supervised._make_batch(
        recipe, train_set, source, truth, None, teacher, hearing, make_fabric("cpu", "32")
    )
    assert batch.answer is not None
    torch.testing.assert_close(batch.answer.probabilities, batch.targets)
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(16))


def test_a_diverging_loss_is_told(recipe, sets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, learning_rate=math.inf))
    with pytest.raises(RecipeError, match=r"lower train\.learning_rate"):
        train(recipe, sets, tmp_path)


def test_windows_are_those_of_the_predictor(sets) -> None:  # type: ignore[no-untyped-def]
    grid = sets["train"].grid
    assert [len(windows) for windows in grid.of_clip()] == [1] * grid.clips  # 1 s clips, 1 s windows
    scores = torch.tensor([[1.0, 0.0]]).repeat(len(grid), 1)
    torch.testing.assert_close(vote(scores, grid), torch.tensor([[1.0, 0.0]]).repeat(grid.clips, 1))

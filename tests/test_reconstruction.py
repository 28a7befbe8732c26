"""Learning to give back spectrograms: batches, loss and silence by hand, and what is held out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tones import BANDS, FRAMES, TINY, make_set, spec, spectrograms

from edgeaudio.config import ModelSpec
from edgeaudio.errors import DataError, RecipeError
from edgeaudio.features.autoencoders import build
from edgeaudio.features.fit_data import gather
from edgeaudio.training import reconstruction
from edgeaudio.training.accelerators import make_fabric

# ── the task ─────────────────────────────────────────────────────────────────────────────────────


def test_an_epoch_is_every_sound_once_by_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [i for batch in reconstruction.batches(21, 8, seed, epoch) for i in batch.index.tolist()]

    assert sorted(order(0, 0)) == list(range(21))
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)
    sizes = [(len(b.index), b.at) for b in reconstruction.batches(21, 8, 0, 0)]
    assert sizes == [(8, 0.0), (8, 1 / 3), (5, 2 / 3)]


def test_the_loss_is_the_root_over_all_and_silence_may_be_masked() -> None:
    given = torch.tensor([[[0.5, 0.0], [1.0, -0.5]]])
    target = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
    assert reconstruction.squared_error(given, target).tolist() == [[[0.25, 1.0], [0.0, 0.25]]]
    assert reconstruction.squared_error(given, target, True).tolist() == [[[0.25, 0.0], [0.0, 0.0]]]


def test_masked_silence_teaches_nothing() -> None:
    target = torch.full((1, 3, 4), -1.0)
    given = torch.zeros(1, 3, 4, requires_grad=True)
    reconstruction.squared_error(given, target, True).sum().backward()
    assert given.grad is not None
    assert not given.grad.any()


def test_rmse_is_that_of_all_spectrograms_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(TINY, FRAMES, BANDS), spectrograms(10)
    with torch.no_grad():
        given, target = (out.double().numpy() for out in model.eval()(torch.from_numpy(x)))
    expected = math.sqrt(np.square(given - target).mean())
    monkeypatch.setattr(reconstruction, "VALIDATED", 3)  # batches of 3, 3, 3 and 1
    assert reconstruction.rmse(model, x, np.arange(len(x)), torch.device("cpu")) == pytest.approx(
        expected, rel=1e-6
    )


def test_the_training_loss_is_that_of_whole_batches(tmp_path: Path) -> None:
    """A mean of the roots of pieces would be smaller."""
    x = spectrograms(12)
    x[:6] *= 0.01  # pieces that differ
    torch.manual_seed(0)
    model = build(ModelSpec("t-rae", {**TINY.options, "keep_prob": 1.0}), FRAMES, BANDS)
    before = reconstruction.rmse(model, x, np.arange(len(x)), torch.device("cpu"))
    settings = spec(epochs=1, batch_size=12, micro_batch=2, learning_rate=1e-9)
    rows = reconstruction.fit(
        model, settings, x, np.arange(len(x)), np.arange(len(x)), tmp_path, make_fabric("cpu", "32"), 0
    )
    assert rows[0]["train_loss"] == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("name", ["t-rae", "f-rae", "ft-rae", "conv-ae"])
def test_it_learns_a_few_sounds_by_heart(name: str, tmp_path: Path) -> None:
    small: dict[str, dict[str, Any]] = {
        "t-rae": {"layers": 1, "units": 24, "feed_previous_prob": 1.0},  # the code alone can tell it
        "f-rae": {"units": 16, "window_width": 8, "window_overlap": 4, "feed_previous_prob": 1.0},
        "ft-rae": {"f_units": 16, "t_units": 24, "t_layers": 1, "window_width": 8, "window_overlap": 4},
        "conv-ae": {"first_channels": 8},
    }
    model_spec = ModelSpec(name, {**small[name], **({} if name == "conv-ae" else {"keep_prob": 1.0})})
    torch.manual_seed(1)
    x = spectrograms(4)
    model = build(model_spec, FRAMES, BANDS)
    settings = spec(name, epochs=80, batch_size=4, learning_rate=1e-2, keep="last")
    reconstruction.fit(
        model, settings, x, np.arange(len(x)), np.arange(len(x)), tmp_path, make_fabric("cpu", "32"), 0
    )
    constant = float(np.sqrt(np.square(x - x.mean(axis=(0, 1))).mean()))
    assert reconstruction.rmse(model, x, np.arange(len(x)), torch.device("cpu")) < 0.5 * constant, (
        reconstruction.rmse(model, x, np.arange(len(x)), torch.device("cpu")),
        constant,
    )


# ── what is learnt from ──────────────────────────────────────────────────────────────────────────


def test_a_share_of_the_sounds_is_held_out_with_all_their_chunks() -> None:
    features = make_set(40)
    material = gather([features, features], [Path("a"), Path("b")], (), "0.2", 3)
    train = {material.names[row] for row in material.train}
    val = {material.names[row] for row in material.val}
    assert len(val) == 4  # a fifth of 20 sounds
    assert not train & val
    assert len(material.val) == 4 * 2 * 2  # chunks and sets
    assert len(material.train) + len(material.val) == 80
    other = gather([features], [Path("a")], (), "0.2", 4)
    assert {other.names[row] for row in other.val} != val


def test_a_devel_partition_is_held_out_and_the_test_partition_left_alone() -> None:
    features = make_set(30, partitions=True)
    material = gather([features], [Path("a")], (), "auto", 0)
    assert material.train.tolist() == list(range(10))
    assert material.val.tolist() == list(range(10, 20))
    both = gather([features], [Path("a")], ("train", "test"), "devel", 0)
    assert both.train.tolist() == [*range(10), *range(20, 30)]
    shared = gather([features], [Path("a")], ("train", "devel"), "auto", 0)
    assert {*shared.train.tolist(), *shared.val.tolist()} == set(range(20))


def test_without_anything_held_out_the_training_s_own_are_looked_at() -> None:
    material = gather([make_set(24)], [Path("a")], (), "none", 0)
    assert not material.held_out
    assert material.train.tolist() == material.val.tolist() == list(range(24))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dims": ("freq", "time")}, "has the axes freq, time"),
        ({"features": np.zeros((24, FRAMES, 5), np.float32)}, "of 20 × 5 .time × freq., first.nc of 20 × 16"),
        ({"features": np.full((24, FRAMES, BANDS), np.nan, np.float32)}, "sound0.wav holds values"),
    ],
)
def test_sets_that_do_not_fit(change: dict[str, Any], said: str) -> None:
    wrong = replace(make_set(), **change)
    with pytest.raises(DataError, match=said):
        gather([make_set(), wrong], [Path("first.nc"), Path("second.nc")], (), "none", 0)


@pytest.mark.parametrize(
    ("partitions", "validation", "said"),
    [
        (("devel",), "none", "there is no partition 'devel'"),
        ((), "test", "there is no partition 'test'"),
        ((), "1.0", "'1.0'; give a share"),
        ((), "a tenth", "give a share"),
    ],
)
def test_what_cannot_be_held_out(partitions: tuple[str, ...], validation: str, said: str) -> None:
    features = replace(make_set(), partitions=np.zeros(24, np.int8))
    with pytest.raises(RecipeError, match=said):
        gather([features], [Path("a.nc")], partitions, validation, 0)
    with pytest.raises(
        RecipeError, match="has no partitions" if partitions or validation == "test" else said
    ):
        gather([make_set()], [Path("a.nc")], partitions, validation, 0)

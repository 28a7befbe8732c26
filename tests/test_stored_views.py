"""Recurring views: what is stored equals what live teachers answer, whoever stores it and however often."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeaudio.config import AugmentSpec, DistillSpec, FrontEndSpec, ModelSpec, Recipe, TrainSpec
from edgeaudio.data import readers, waveforms
from edgeaudio.models import Model, build
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.epochs import hearings
from edgeaudio.training.supervised import fit
from edgeaudio.training.teaching import Listener, LiveTeacher, ViewedTeacher, store_views, view_file
from edgeaudio.training.windows import WindowSet

CPU = torch.device("cpu")
MEL = FrontEndSpec(sample_rate=16000, n_fft=512, win_length=512, hop_length=250, n_mels=32, fmax=8000)
OTHER = FrontEndSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=24, fmax=4000)
SEED = 5
RECIPE = Recipe(
    "small", ModelSpec("cp_mobile"), frontend=MEL,
    train=TrainSpec(epochs=4, batch_size=6, micro_batch=4),
    augment=AugmentSpec(
        mixup_alpha=1.0, gain_db=6.0, freq_mask=4, time_mask=5, noise_p=0.5, freq_mixstyle_p=0.5
    ),
    distill=DistillSpec(views=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def windows(scenes: Path) -> WindowSet:
    clips = readers.read(scenes)
    high, low = (waveforms.prepare(clips, rate)[1] for rate in (16000, 8000))
    return WindowSet(high, range(0, 100, 10), clips.targets, 16000, 4000, others=[low])


@pytest.fixture(scope="module")
def teachers() -> list[Listener]:
    return [Listener(small(seed), spec) for seed, spec in ((0, MEL), (1, OTHER))]


@pytest.fixture(scope="module")
def live(windows: WindowSet, teachers: list[Listener]) -> LiveTeacher:
    return LiveTeacher(teachers, windows, RECIPE, CPU, [0.7, 0.3])


@pytest.fixture(scope="module")
def stored(live: LiveTeacher, windows: WindowSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    assert list(store_views(live, RECIPE, windows, SEED, folder)) == [0, 1]
    return folder


def small(seed: int) -> Model:
    torch.manual_seed(seed)
    return build("cp_mobile", 10, base_channels=8, n_blocks=[1], strides={})


def test_every_stored_answer_is_the_live_one(windows: WindowSet, live: LiveTeacher, stored: Path) -> None:
    viewed = ViewedTeacher(stored, RECIPE, CPU)
    seen = set()
    for epoch in range(3):
        for batch in hearings(RECIPE, windows, SEED, epoch):
            torch.testing.assert_close(viewed(batch).probabilities, live(batch).probabilities)
            rows = slice(1, 3)
            torch.testing.assert_close(viewed(batch, rows).probabilities, live(batch).probabilities[rows])
            seen.add(batch.view)
    assert seen == {0, 1}


def test_training_by_stored_answers_is_training_by_live_ones(
    windows: WindowSet, live: LiveTeacher, stored: Path, tmp_path: Path
) -> None:
    def train(name: str, teacher: LiveTeacher | ViewedTeacher) -> list[float]:
        fabric = make_fabric("cpu", "32")
        history = fit(small(2), RECIPE, windows, windows, 10, tmp_path / name, fabric, SEED, teacher)
        return [row["train_loss"] for row in history]

    assert train("live", live) == pytest.approx(train("stored", ViewedTeacher(stored, RECIPE, CPU)), rel=1e-5)


def test_views_differ_and_recur(windows: WindowSet) -> None:
    def heard(epoch: int) -> dict[int, list[int]]:
        return {batch.first: batch.index.tolist() for batch in hearings(RECIPE, windows, SEED, epoch)}

    def order(epoch: int) -> tuple[int, ...]:
        return tuple(batch.first for batch in hearings(RECIPE, windows, SEED, epoch))

    assert heard(0) == heard(2) != heard(1)
    assert len({order(epoch) for epoch in range(0, 16, 2)}) > 1  # the batches come in other orders


def test_a_killed_store_goes_on_and_two_processes_share_it(
    live: LiveTeacher, windows: WindowSet, stored: Path, tmp_path: Path
) -> None:
    three = replace(RECIPE, distill=DistillSpec(views=3))
    shutil.copy(view_file(stored, 0), tmp_path)
    before = view_file(tmp_path, 0).stat().st_mtime_ns
    assert list(store_views(live, three, windows, SEED, tmp_path, (1, 2))) == [1]
    assert list(store_views(live, three, windows, SEED, tmp_path, (0, 2))) == [2]
    assert view_file(tmp_path, 0).stat().st_mtime_ns == before
    assert view_file(tmp_path, 1).read_bytes() == view_file(stored, 1).read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_a_teacher_that_hears_more_is_shown_what_lies_around(scenes: Path) -> None:
    from edgeaudio.training.context import widened

    clips = readers.read(scenes)
    waves = waveforms.prepare(clips, 16000)[1]
    short = WindowSet(waves, range(3), clips.targets, 4000, 1000)
    longer = widened(short, 0.5)
    source = longer.mel_source(MEL, CPU)
    mel = source(np.arange(len(short)))
    assert mel.shape == (len(short), 1, 32, MEL.frames(8000))
    whole = WindowSet(waves, range(3), clips.targets, 8000, 1000)
    for i in range(len(short)):
        clip, start = short.grid.clip[i], short.grid.start[i]
        around = [
            k for k in range(len(whole))
            if whole.grid.clip[k] == clip and whole.grid.start[k] <= start <= whole.grid.start[k] + 4000
        ]  # fmt: skip
        candidates = whole.mel_source(MEL, CPU)(np.asarray(around))
        # the very stretch, with the short window inside it
        assert min(float((mel[i] - c).abs().max()) for c in candidates) < 1e-5
    assert widened(short, 0.25) is short
    assert widened(short, None) is short

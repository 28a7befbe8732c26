"""Teachers that answer from stored logits and teachers that answer live; windows at several sample rates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeaudio.config import AugmentSpec, FrontEndSpec, ModelSpec, Recipe, TrainSpec
from edgeaudio.data import readers, waveforms
from edgeaudio.models import Model, build
from edgeaudio.presets import PRESETS
from edgeaudio.training import loop
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.epochs import Hearing
from edgeaudio.training.progress import Progress
from edgeaudio.training.supervised import fit
from edgeaudio.training.teaching import CachedTeacher, Listener, LiveTeacher
from edgeaudio.training.views import Draws, draw, labels, view
from edgeaudio.training.windows import WindowSet, window_logits

CPU = torch.device("cpu")
MEL = FrontEndSpec(sample_rate=16000, n_fft=512, win_length=512, hop_length=250, n_mels=32, fmax=8000)
OTHER_MEL = FrontEndSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=24, fmax=4000)
UNCHANGED = Draws()
INDEX = np.array([3, 0, 2, 1])


@pytest.fixture(scope="module")
def windows(scenes: Path) -> WindowSet:
    clips = readers.read(scenes)
    high, low = (waveforms.prepare(clips, rate)[1] for rate in (16000, 8000))
    return WindowSet(high, range(4), clips.targets, 16000, 4000, others=[low])


@pytest.fixture(scope="module")
def teacher() -> Model:
    torch.manual_seed(0)
    return build("cp_mobile", 4, base_channels=8, n_blocks=[1], strides={}).eval()


def recipe(**augment: float) -> Recipe:
    spec = replace(AugmentSpec(mixup_alpha=0, freq_mixstyle_p=0, roll_seconds=0), **augment)  # type: ignore[arg-type]
    return Recipe("small", ModelSpec("cp_mobile"), frontend=MEL, augment=spec)


def test_live_equals_cached_where_nothing_is_changed(windows: WindowSet, teacher: Model) -> None:
    batch = Hearing(INDEX, UNCHANGED, 0.0)
    cached = CachedTeacher(window_logits(teacher, windows, MEL, CPU), recipe(), CPU)(batch)
    live = LiveTeacher([Listener(teacher, MEL)], windows, recipe(), CPU)(batch)
    torch.testing.assert_close(live.probabilities, cached.probabilities, atol=1e-5, rtol=0)


def test_live_answers_the_view_and_cached_the_mixture_of_answers(windows: WindowSet, teacher: Model) -> None:
    draws = draw(recipe(mixup_alpha=1.0, gain_db=20.0), len(INDEX), np.random.default_rng(1))
    batch = Hearing(INDEX, draws, 0.0)
    live = LiveTeacher([Listener(teacher, MEL)], windows, recipe(), CPU, micro_batch=3)(batch).probabilities
    with torch.no_grad():
        heard = view(windows.mel_source(MEL, CPU)(INDEX), draws, MEL)
        torch.testing.assert_close(live, (teacher(heard) / 2).softmax(1), atol=1e-5, rtol=0)
    stored = window_logits(teacher, windows, MEL, CPU)
    cached = CachedTeacher(stored, recipe(), CPU)(batch).probabilities
    own = (stored[torch.from_numpy(INDEX)] / 2).softmax(1)
    torch.testing.assert_close(cached, labels(own, draws))
    assert (live - cached).abs().max() > 1e-3


@pytest.mark.parametrize("weights", [None, [0.8, 0.2]])
def test_two_live_teachers_answer_with_their_weighted_logits(
    windows: WindowSet, teacher: Model, weights: list[float] | None
) -> None:
    torch.manual_seed(1)
    other = build("cp_mobile", 4, base_channels=8, n_blocks=[1], strides={})
    both = [Listener(teacher, MEL), Listener(other, OTHER_MEL)]
    batch = Hearing(INDEX, UNCHANGED, 0.0)
    live = LiveTeacher(both, windows, recipe(), CPU, weights)(batch).probabilities
    with torch.no_grad():
        each = [m(windows.mel_source(s, CPU)(INDEX)) for m, s in ((teacher, MEL), (other.eval(), OTHER_MEL))]
    share = weights[0] if weights else 0.5
    fused = share * each[0] + (1 - share) * each[1]
    torch.testing.assert_close(live, (fused / 2).softmax(1), atol=1e-5, rtol=0)


def test_windows_at_another_rate_are_the_same_stretch_of_sound(windows: WindowSet) -> None:
    low, high = windows.waveform(INDEX, 8000), windows.waveform(INDEX)
    assert low.shape == (4, 8000)
    assert high.shape == (4, 16000)
    # below the lower rate's Nyquist frequency the spectra agree; the edges of a window ring a little
    spectra = [torch.fft.rfft(x, n=x.shape[1])[:, 50:3000].abs() / x.shape[1] for x in (low, high)]
    error = (spectra[0] - spectra[1]).norm() / spectra[1].norm()
    assert error < 0.02


def test_a_view_moves_every_front_end_alike() -> None:
    draws = draw(recipe(roll_seconds=0.25), 5, np.random.default_rng(0))
    assert draws.roll is not None
    for spec in (MEL, OTHER_MEL):
        x = torch.randn(5, 1, spec.n_mels, spec.frames(spec.sample_rate))
        moved = view(x, draws, spec)
        for i, seconds in enumerate(draws.roll):
            frames = round(seconds * spec.sample_rate / spec.hop_length)
            assert torch.equal(moved[i], x[i].roll(frames, dims=2))


def test_level_of_a_waveform_and_of_a_magnitude_mel_is_exact() -> None:
    from edgeaudio.augment import change_level
    from edgeaudio.frontend import build_front_end

    x = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    decibels = torch.tensor([6.0, -12.0])
    louder = x * (10 ** (decibels / 20))[:, None]
    for spec in (PRESETS["yamnet"], MEL, replace(PRESETS["waveform"], sample_rate=16000)):
        front_end = build_front_end(spec)
        torch.testing.assert_close(
            change_level(front_end(x), decibels, spec), front_end(louder), atol=2e-3, rtol=1e-4
        )


def test_a_job_that_is_taught_live_resumes_bit_for_bit(
    windows: WindowSet, teacher: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = replace(recipe(mixup_alpha=1.0, gain_db=6.0), train=TrainSpec(epochs=3, batch_size=4))
    save = loop.save

    def train(folder: Path) -> dict[str, torch.Tensor]:
        torch.manual_seed(2)
        model = build("cp_mobile", 10, base_channels=8, n_blocks=[1], strides={})
        live = LiveTeacher([Listener(wide, MEL)], windows, learner, CPU)
        fit(model, learner, windows, windows, 10, folder, make_fabric("cpu", "32"), 5, live)
        return {key: value.clone() for key, value in model.state_dict().items()}

    def stop_after_one(folder: Path, state: Progress, *rest: Any) -> None:
        save(folder, state, *rest)
        if state.epoch == 1:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    wide = build("cp_mobile", 10, base_channels=8, n_blocks=[1], strides={})
    whole = train(tmp_path / "whole")
    monkeypatch.setattr(loop, "save", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts")
    monkeypatch.setattr(loop, "save", save)
    resumed = train(tmp_path / "parts")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)

"""The draws of a batch: what is drawn, on whom it acts, and that every front end is shown the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from numpy.typing import NDArray

from edgeaudio.config import AugmentSpec, FrontEndSpec, ModelSpec, Recipe, TrainSpec
from edgeaudio.data import waveforms
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.impulses import Responses
from edgeaudio.errors import DataError, RecipeError
from edgeaudio.frontend import build_front_end
from edgeaudio.mel import hz_to_mel, mel_edges, mel_to_hz
from edgeaudio.presets import PRESETS
from edgeaudio.training import windows as windows_module
from edgeaudio.training.draws import Cut, Draws, Mix, check_devices, draw
from edgeaudio.training.epochs import hearings
from edgeaudio.training.heard import jittered
from edgeaudio.training.views import labels, view
from edgeaudio.training.windows import WindowSet

CPU = torch.device("cpu")
RATE = 16000
MEL = FrontEndSpec(sample_rate=RATE, n_fft=512, win_length=512, hop_length=250, n_mels=32, fmax=8000)
OTHER_MEL = FrontEndSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=24, fmax=4000)
SOUND = replace(PRESETS["waveform"], sample_rate=RATE)
OTHER_SOUND = replace(PRESETS["waveform"], sample_rate=8000)
OFF = AugmentSpec(mixup_alpha=0, freq_mixstyle_p=0, roll_seconds=0)
CLIPS = 6


def recipe(front_end: FrontEndSpec = MEL, train: TrainSpec | None = None, **augment: Any) -> Recipe:
    spec = replace(OFF, **augment)
    return Recipe(
        "some", ModelSpec("cp_mobile"), frontend=front_end, augment=spec, train=train or TrainSpec()
    )


def drawn(seed: int = 0, size: int = 8, devices: Sequence[str] | None = None, **augment: Any) -> Draws:
    return draw(recipe(**augment), size, np.random.default_rng(seed), devices)


def response(seed: int) -> NDArray[np.float32]:
    """Noise that dies away within 20 ms, without its upper end, so that half the rate holds all of it."""
    taps = np.random.default_rng(seed).standard_normal(320) * np.exp(-np.arange(320) / 60)
    return scipy.signal.sosfilt(scipy.signal.butter(8, 2500, fs=RATE, output="sos"), taps).astype(np.float32)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> WindowSet:
    """One window of each of six clips at 16 kHz, the last one silent; the same at 8 kHz."""
    folder = tmp_path_factory.mktemp("sounds")
    for i in range(CLIPS):
        x = 0.1 * np.random.default_rng(i).standard_normal(RATE) * (i < CLIPS - 1)
        soundfile.write(folder / f"{i}.wav", x, RATE, subtype="FLOAT")
    clips = Clips(
        folder, tuple(Clip(folder / f"{i}.wav", "xy"[i % 2], device="abc"[i % 3]) for i in range(CLIPS))
    )
    high, low = (waveforms.prepare(clips, rate)[1] for rate in (RATE, 8000))
    devices = [clip.device for clip in clips]
    responses = Responses("pqr", [(response(i), RATE) for i in range(3)])
    return WindowSet(
        high, range(CLIPS), clips.targets, RATE, RATE, others=[low], devices=devices, responses=responses
    )


INDEX = np.array([4, 0, 5, 2, 1, 3])


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────


def test_equal_seeds_give_equal_draws_and_what_is_off_draws_nothing() -> None:
    settings = {"noise_p": 0.5, "mixup_alpha": 0.3, "shift_seconds": 0.1, "low_pass_p": 0.5, "time_mask": 5}
    one, two, other = drawn(1, **settings), drawn(1, **settings), drawn(2, **settings)
    assert str(one) == str(two) != str(other)
    rng = np.random.default_rng(0)
    assert draw(recipe(), 8, rng) == Draws()
    assert rng.random() == np.random.default_rng(0).random()


def test_old_settings_draw_what_they_always_drew() -> None:
    draws = drawn(3, 5, mixup_alpha=0.3, freq_mixstyle_p=0.9, roll_seconds=0.125, gain_db=6.0, freq_mask=4)
    rng = np.random.default_rng(3)
    assert draws.roll is not None
    assert draws.decibels is not None
    assert draws.style is not None
    np.testing.assert_array_equal(draws.roll, rng.integers(-8, 9, 5) * 250 / RATE)
    np.testing.assert_array_equal(draws.decibels, rng.uniform(-6, 6, 5))
    assert rng.random() < 1
    np.testing.assert_array_equal(draws.mixup[0].lam, rng.beta(0.3, 0.3, 5).astype(np.float32))
    np.testing.assert_array_equal(draws.mixup[0].partner, rng.permutation(5))
    assert rng.random() < 0.9
    np.testing.assert_array_equal(draws.style.lam, rng.beta(0.3, 0.3, 5).astype(np.float32))
    np.testing.assert_array_equal(draws.style.partner, rng.permutation(5))
    width = rng.integers(0, 5, 5)
    np.testing.assert_array_equal(draws.bands[0][1] * 32, width)
    np.testing.assert_array_equal(draws.bands[0][0] * 32, rng.integers(0, 33 - width))


def test_shares_are_those_asked_for() -> None:
    draws = drawn(
        0, 4000, noise_p=0.3, shift_seconds=0.1, shift_p=0.6, low_pass_p=0.8, noise_snr_db=(5.0, 20.0),
        impulse_responses="x", impulse_response_p=0.4,
    )  # fmt: skip
    assert draws.snr is not None
    assert draws.shift is not None
    assert draws.edge is not None
    assert draws.response is not None
    noisy = np.isfinite(draws.snr)
    assert noisy.mean() == pytest.approx(0.3, abs=0.03)
    assert 5 <= draws.snr[noisy].min() < 5.1
    assert 19.9 < draws.snr[noisy].max() <= 20
    assert (draws.shift != 0).mean() == pytest.approx(0.6, abs=0.03)
    assert 0.099 < np.abs(draws.shift).max() <= 0.1
    chosen = np.isfinite(draws.edge.offset)
    assert chosen.mean() == pytest.approx(0.8, abs=0.03)
    for values, low, high in ((draws.edge.slope, 2, 8), (draws.edge.offset[chosen], 0, 5)):
        assert low <= values.min() < low + 0.05
        assert high - 0.05 < values.max() <= high
    assert np.isnan(draws.response).mean() == pytest.approx(0.6, abs=0.03)


def test_shares_of_batches_and_rounds() -> None:
    batches = [drawn(s, 2, mixup_alpha=1.0, mixup_p=0.5, mixup_rounds=2) for s in range(600)]
    counts = np.bincount([len(draws.mixup) for draws in batches], minlength=3) / 600
    np.testing.assert_allclose(counts, [0.25, 0.5, 0.25], atol=0.07)
    batches = [drawn(s, 2, mixup_alpha=1.0, cutmix_alpha=1.0, cutmix_p=0.3) for s in range(600)]
    assert np.mean([draws.cut is not None for draws in batches]) == pytest.approx(0.3, abs=0.07)
    assert all((draws.cut is None) == bool(draws.mixup) for draws in batches)  # never both


def test_one_share_for_the_batch_and_the_larger_one() -> None:
    assert len(set(drawn(mixup_alpha=0.3).mixup[0].lam)) == 8
    (shared,) = set(drawn(mixup_alpha=0.3, mixup_shared=True).mixup[0].lam)
    (larger,) = set(drawn(mixup_alpha=0.3, mixup_shared=True, mixup_larger=True).mixup[0].lam)
    assert larger == max(shared, 1 - shared)
    assert min(drawn(size=500, mixup_alpha=0.3, mixup_larger=True).mixup[0].lam) >= 0.5
    assert all(
        drawn(s, cutmix_alpha=1.0, cutmix_p=1.0, mixup_larger=True).cut.area <= 0.52 for s in range(50)
    )


def test_partners_come_from_another_device() -> None:
    devices = ["a", "b", "a", "c", "a", "b"] * 20
    settings = {"freq_mixstyle_p": 1.0, "mixstyle_p": 1.0, "mixstyle_partner": "crossdomain"}
    draws = drawn(0, 120, devices, **settings)
    for mix in (draws.style, draws.channel_style):
        assert mix is not None
        assert all(devices[i] != devices[j] for i, j in enumerate(mix.partner))
        assert len(set(mix.partner)) > 60
    alone = drawn(0, 50, ["a"] * 50, **settings).style
    assert alone is not None
    assert len(set(alone.partner)) > 20  # where there is no other device: any


def test_only_the_named_devices_are_filtered() -> None:
    draws = drawn(
        0,
        400,
        ["a", "b"] * 200,
        impulse_responses="x",
        impulse_response_p=0.5,
        impulse_response_devices=("a",),
    )
    assert draws.response is not None
    assert np.isnan(draws.response[1::2]).all()
    assert np.isnan(draws.response[::2]).mean() == pytest.approx(0.5, abs=0.1)


def test_unknown_devices_are_told() -> None:
    for devices in (None, [""] * 8):
        with pytest.raises(DataError, match=r"augment\.mixstyle_partner depends on the device"):
            drawn(0, 8, devices, freq_mixstyle_p=1.0, mixstyle_partner="crossdomain")
    spec = replace(OFF, impulse_responses="x", impulse_response_p=0.5, impulse_response_devices=("s11",))
    with pytest.raises(DataError, match=r"impulse_response_devices depends on the device"):
        check_devices(spec, None)
    with pytest.raises(
        DataError, match=r"names 's11', a device that no training clip has; did you mean 's1'"
    ):
        check_devices(spec, ["a", "s1"], ["a", "s1"])


def test_mel_edges_move_by_whole_hertz_within_their_range() -> None:
    both = [drawn(s, mel_jitter_low=3.0, mel_jitter_high=1000.0).jitter for s in range(300)]
    rises, changes = (np.array(x) for x in zip(*(pair for pair in both if pair), strict=True))
    assert set(rises) == {0, 1, 2, 3}
    assert -500 <= changes.min() < -480
    assert 480 < changes.max() <= 500
    assert np.all(changes == np.rint(changes))


# ── labels and mixtures ──────────────────────────────────────────────────────────────────────────


def test_a_label_is_the_share_that_is_seen() -> None:
    own = torch.arange(4.0)
    for seed in range(30):
        for front_end in (MEL, SOUND):
            draws = draw(recipe(front_end, cutmix_alpha=1.0, cutmix_p=1.0), 4, np.random.default_rng(seed))
            shape = (4, 1, front_end.n_mels, front_end.frames(RATE))
            seen = view(own[:, None, None, None].expand(shape).contiguous(), draws, front_end)
            shares = torch.stack([(seen == k).float().mean((1, 2, 3)) for k in range(4)], 1)
            torch.testing.assert_close(labels(torch.eye(4), draws), shares, atol=2e-6, rtol=0)


def test_a_rectangle_that_fits_has_the_area_that_was_drawn() -> None:
    fitting = 0
    for seed in range(60):
        for front_end, of_side in ((MEL, 2), (SOUND, 1)):
            rng = np.random.default_rng(seed)
            cut = draw(recipe(front_end, cutmix_alpha=1.0, cutmix_p=1.0), 2, np.random.default_rng(seed)).cut
            assert rng.random() < 1  # the coin
            area = 1 - rng.beta(1.0, 1.0)
            assert cut is not None
            assert cut.area <= area + 0.06
            edges = (*cut.mels, *cut.time) if of_side == 2 else cut.time
            if min(edges) > 0 and max(edges) < 1:
                fitting += of_side == 2
                assert (cut.time[1] - cut.time[0]) ** of_side == pytest.approx(area, abs=0.04)
                assert cut.area == pytest.approx(area, abs=0.06)
    assert fitting > 5


def test_two_rounds_mix_windows_and_labels_alike() -> None:
    draws = drawn(0, 5, mixup_alpha=1.0, mixup_rounds=2)
    lam = [torch.diag(torch.from_numpy(m.lam)) for m in draws.mixup]
    swap = [torch.eye(5)[m.partner] for m in draws.mixup]
    both = [one + (torch.eye(5) - one) @ p for one, p in zip(lam, swap, strict=True)]
    torch.testing.assert_close(labels(torch.eye(5), draws), both[1] @ both[0])
    mel = torch.randn(5, 1, 4, 6)
    torch.testing.assert_close(view(mel, draws, MEL), torch.einsum("ij,jcmt->icmt", both[1] @ both[0], mel))


def test_a_rectangle_cuts_every_front_end_at_the_same_place() -> None:
    cut = Cut((0.25, 0.75), (0.5, 1.0), np.array([1, 0]))
    for mels, frames in ((32, 64), (24, 100), (8, 8)):
        mel = torch.stack([torch.zeros(1, mels, frames), torch.ones(1, mels, frames)])
        out = view(mel, Draws(cut=cut), MEL)
        assert out[0, 0, mels // 4 : mels * 3 // 4, frames // 2 :].min() == 1
        assert out[0].mean() == pytest.approx(cut.area)


# ── on the log-mel ───────────────────────────────────────────────────────────────────────────────


def test_blanked_time_is_the_same_seconds_on_every_front_end() -> None:
    draws = drawn(4, 6, time_mask=20, time_masks=2)
    spans = []
    for spec in (MEL, OTHER_MEL):
        x = torch.randn(6, 1, spec.n_mels, spec.frames(spec.sample_rate))
        blank = (view(x, draws, spec) == x.mean((1, 2, 3), keepdim=True)).all(2)[:, 0]
        edges = [np.flatnonzero(row) * spec.hop_length / spec.sample_rate for row in blank.numpy()]
        spans.append([(row.min(), row.max(), len(row) * spec.hop_length / spec.sample_rate) for row in edges])
    np.testing.assert_allclose(*spans, atol=0.04)


def test_masks_of_frames_keep_within_their_width() -> None:
    x = torch.randn(200, 1, 32, 65)
    blanked = (view(x, drawn(0, 200, time_mask=10), MEL) != x).any(2).sum(2)
    assert set(blanked.flatten().tolist()) == set(range(11))
    bands = (view(x, drawn(0, 200, freq_mask=6), MEL) != x).any(3).sum(2)
    assert set(bands.flatten().tolist()) == set(range(7))


def test_several_masks_share_the_mean_of_the_untouched_window() -> None:
    x = torch.randn(3, 1, 32, 65)
    out = view(x, drawn(2, 3, freq_mask=8, freq_masks=3, time_mask=20, time_masks=2), MEL)
    for before, after in zip(x, out, strict=True):
        assert set(after[after != before].tolist()) == {float(before.mean())}


def test_low_pass_weakens_the_same_frequencies_on_every_front_end() -> None:
    draws = drawn(1, 4, low_pass_p=1.0)
    attenuation = []
    hz = np.array([500.0, 1000, 2000, 3000])
    for spec in (MEL, OTHER_MEL, replace(OTHER_MEL, mel_scale="slaney", n_mels=40)):
        mel = torch.zeros(4, 1, spec.n_mels, 3)  # far above the offset: differences are those of ln
        decay = view(mel, draws, spec)[:, 0, :, 0].double().numpy()
        centres = mel_edges(spec)[1:-1]
        attenuation.append([np.interp(hz, centres, row) for row in decay])
    for other in attenuation[1:]:
        np.testing.assert_allclose(other, attenuation[0], atol=0.02)
    assert np.min(attenuation[0]) < -0.1


def test_low_pass_follows_the_published_formula_on_its_own_front_end() -> None:
    draws = drawn(1, 3, low_pass_p=1.0)
    assert draws.edge is not None
    f = np.linspace(0, 1, MEL.n_mels)
    for row in range(3):
        slope, offset = draws.edge.slope[row], draws.edge.offset[row]
        assert 2 <= slope <= 8
        assert 0 <= offset <= 5
        envelope = 1 - 0.5 * (np.tanh(slope * (f - 0.5) - offset) + 1)
        out = view(torch.zeros(3, 1, MEL.n_mels, 2), draws, MEL)[row, 0, :, 0]
        np.testing.assert_allclose(out, np.log(envelope * (1 - 1e-5) + 1e-5), atol=1e-5)


def test_a_tone_rises_by_the_same_on_every_front_end() -> None:
    draws = drawn(1, 6, pitch_shift=4.0)
    assert draws.pitch is not None
    assert 2 < np.abs(draws.pitch.rise * 31).max() <= 4
    mel = hz_to_mel(np.array([1500.0]), MEL.mel_scale)
    steps = np.diff(hz_to_mel(mel_edges(MEL)[1:-1], MEL.mel_scale))
    wanted = mel_to_hz(mel + draws.pitch.rise * 31 * steps[0], MEL.mel_scale)
    for spec in (MEL, OTHER_MEL, replace(OTHER_MEL, mel_scale="slaney", n_mels=80)):
        t = np.arange(spec.sample_rate) / spec.sample_rate
        tone = torch.from_numpy(np.sin(2 * np.pi * 1500 * t).astype(np.float32)).expand(6, -1)
        heard = view(build_front_end(spec)(tone), draws, spec)[:, 0].mean(2)
        edges = mel_edges(spec)
        for hz, loudest in zip(wanted, heard.argmax(1).tolist(), strict=True):
            # of two neighbours that share the tone either may be the louder
            assert edges[max(loudest - 1, 0)] < hz < edges[min(loudest + 3, spec.n_mels + 1)]
    waveform = torch.randn(6, 1, 1, RATE)
    assert view(waveform, drawn(1, 6, pitch_shift=4.0, time_stretch=0.2), SOUND) is waveform


def test_two_clicks_are_as_far_apart_on_every_front_end_as_the_stretch_says() -> None:
    draws = drawn(2, 8, time_stretch=0.2)
    assert draws.tempo is not None
    for spec in (MEL, OTHER_MEL):
        fps = spec.sample_rate / spec.hop_length
        clicks = torch.full((8, 1, spec.n_mels, spec.frames(spec.sample_rate)), -10.0)
        for seconds in (0.45, 0.65):
            clicks[..., round(seconds * fps)] = 0.0
        heard = view(clicks, draws, spec)[:, 0, 0]
        for row, factor in zip(heard, draws.tempo.factor, strict=True):
            frames = np.flatnonzero(row.numpy() > -10)
            split = int(np.diff(frames).argmax()) + 1
            first, second = frames[:split], frames[split:]
            apart = (second.mean() - first.mean()) / fps
            assert apart == pytest.approx(0.2 * factor, abs=1.5 / fps)
    assert draws.tempo.factor.min() < 0.9
    assert draws.tempo.factor.max() > 1.1


# ── on the waveform ──────────────────────────────────────────────────────────────────────────────


def test_untouched_windows_come_from_memory_and_touched_ones_are_right(windows: WindowSet) -> None:
    nan, inf = np.nan, np.inf
    draws = Draws(
        response=np.array([nan, 0.5, nan, nan, 0.99, nan]),
        shift=np.array([0, 0, 0, 0.25, -0.1, 0]),
        snr=np.array([inf, inf, inf, inf, inf, 10]),
    )
    plain, heard = windows.mel_source(MEL, CPU)(INDEX), windows.mel_source(MEL, CPU)(INDEX, draws)
    for row in (0, 2):
        assert torch.equal(heard[row], plain[row])
    expected = windows.waveform(INDEX).double().numpy()
    for row, which in ((1, 1), (4, 2)):
        expected[row] = scipy.signal.convolve(expected[row], response(which).astype(np.float64))[:RATE]
    expected[3] = np.concatenate([np.zeros(4000), expected[3, :-4000]])
    expected[4] = np.concatenate([expected[4, 1600:], np.zeros(1600)])
    truth = build_front_end(MEL)(torch.from_numpy(expected.astype(np.float32)))
    torch.testing.assert_close(heard[:5], truth[:5], atol=5e-3, rtol=0)
    assert (heard[5] - truth[5]).abs().mean() > 0.1  # the noise


def test_noise_has_the_ratio_that_was_drawn(windows: WindowSet) -> None:
    source = windows.mel_source(SOUND, CPU)
    snr = np.array([5.0, 8, 11, 14, 17, 20])
    x, out = (source(INDEX, draws)[:, 0, 0].double() for draws in (None, Draws(snr=snr, seed=7)))
    for row in (0, 1, 3, 4, 5):
        ratio = x[row].square().mean() / (out[row] - x[row]).square().mean()
        assert 10 * float(ratio.log10()) == pytest.approx(snr[row], abs=0.3)
    assert not out[2].any()  # clip 5 is silent
    assert torch.equal(source(INDEX, Draws(snr=snr, seed=7))[:, 0, 0].double(), out)
    assert not torch.equal(source(INDEX, Draws(snr=snr, seed=8))[:, 0, 0].double(), out)


def test_a_network_at_another_rate_hears_the_very_same(windows: WindowSet) -> None:
    draws = drawn(
        5, 6, impulse_responses="x", impulse_response_p=0.7, shift_seconds=0.2, noise_p=0.7,
        noise_snr_db=(-5.0, 5.0),
    )  # fmt: skip
    assert draws.shift is not None
    draws = replace(draws, shift=draws.shift.round(2))  # else the two may be half a sample of 8 kHz apart
    high = windows.mel_source(SOUND, CPU)(INDEX, draws)[:, 0, 0].double().numpy()
    low = windows.mel_source(OTHER_SOUND, CPU)(INDEX, draws)[:, 0, 0].double().numpy()
    spectra = [np.fft.rfft(x)[:, 100:3500] / x.shape[1] for x in (high, low)]
    plain = np.fft.rfft(windows.waveform(INDEX).double().numpy())[:, 100:3500] / RATE
    for row in (0, 1, 3, 4, 5):
        size = np.linalg.norm(spectra[0][row])
        assert np.linalg.norm(spectra[0][row] - spectra[1][row]) < 0.03 * size
        assert np.linalg.norm(spectra[0][row] - plain[row]) > 0.3 * size


def test_what_does_not_fit_into_memory_is_computed_alike(
    windows: WindowSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = drawn(5, 6, impulse_responses="x", impulse_response_p=0.5, shift_seconds=0.2, noise_p=0.5)
    kept = windows.mel_source(MEL, CPU)(INDEX, draws)
    monkeypatch.setattr(windows_module, "CACHE_BYTES", 0)
    monkeypatch.setattr(windows_module, "_SAMPLES", 2 * RATE)  # in blocks of two
    computed = windows.mel_source(MEL, CPU)(INDEX, draws)
    torch.testing.assert_close(computed, kept, atol=1e-4, rtol=0)


def test_an_epoch_sounds_the_same_whenever_it_is_begun(windows: WindowSet) -> None:
    learner = recipe(
        MEL, TrainSpec(batch_size=4), impulse_responses="x", impulse_response_p=0.5, shift_seconds=0.2,
        noise_p=0.5, mel_jitter_high=500.0, low_pass_p=0.5, time_mask=9, mixup_alpha=0.3, cutmix_alpha=1.0,
        time_stretch=0.2, pitch_shift=3.0,
    )  # fmt: skip

    def epoch(number: int) -> torch.Tensor:
        source = windows.mel_source(MEL, CPU)
        batches = hearings(learner, windows, 3, number)
        return torch.cat([view(source(b.index, b.draws), b.draws, MEL) for b in batches])

    everything = [epoch(number) for number in range(3)]
    assert torch.equal(epoch(2), everything[2])  # as a job that was killed goes on
    assert not torch.equal(everything[1], everything[2])


def test_a_tone_moves_by_the_jitter_of_the_mel_edges(windows: WindowSet) -> None:
    t = np.arange(RATE) / RATE
    tone = torch.from_numpy(np.sin(2 * np.pi * 3000 * t).astype(np.float32))[None]
    for jitter in ((0.0, -2000.0), (300.0, 0.0), (100.0, 900.0)):
        spec = jittered(MEL, Draws(jitter=jitter))
        assert spec.fmax == min(8000 + jitter[1], RATE / 2)
        loudest = int(build_front_end(spec)(tone)[0, 0].mean(1).argmax())
        edges = mel_edges(replace(MEL, fmin=jitter[0], fmax=min(8000 + jitter[1], 8000)))
        assert edges[loudest] < 3000 < edges[loudest + 2]
    draws = Draws(jitter=(0.0, -2000.0))
    heard = windows.mel_source(MEL, CPU)(INDEX, draws)
    torch.testing.assert_close(heard, build_front_end(replace(MEL, fmax=6000))(windows.waveform(INDEX)))


def test_responses_that_were_not_read_are_told(windows: WindowSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "responses", None)
    with pytest.raises(DataError, match="none were read"):
        windows.mel_source(MEL, CPU)(INDEX, Draws(response=np.full(6, 0.5)))


# ── waveforms as input, windows of any length, recipes ───────────────────────────────────────────


def test_a_waveform_is_changed_in_time_and_level() -> None:
    x = torch.randn(4, 1, 1, RATE)
    draws = draw(
        recipe(SOUND, roll_seconds=0.1, gain_db=6.0, mixup_alpha=1.0, time_mask=800, mixstyle_p=1.0),
        4, np.random.default_rng(0),
    )  # fmt: skip
    out = view(x, draws, SOUND)
    assert out.shape == x.shape
    assert draws.roll is not None
    assert draws.decibels is not None
    gain = torch.from_numpy(10 ** (draws.decibels / 20)).float()
    rolled = view(x, replace(draws, mixup=(), channel_style=None, stretches=()), SOUND)
    for i in range(4):
        expected = x[i].roll(round(draws.roll[i] * RATE), dims=2) * gain[i]
        torch.testing.assert_close(rolled[i], expected)


@pytest.mark.parametrize("seconds", [0.37, 4.0])
def test_windows_of_any_length_are_changed(seconds: float) -> None:
    learner = recipe(
        MEL, TrainSpec(train_seconds=seconds), cutmix_alpha=1.0, cutmix_p=1.0, time_mask=9, roll_seconds=0.1,
        low_pass_p=0.5,
    )  # fmt: skip
    frames = MEL.frames(round(max(seconds, 1) * RATE))
    draws = draw(learner, 3, np.random.default_rng(1))
    own = torch.arange(3.0)[:, None, None, None].expand(3, 1, 32, frames).contiguous()
    assert draws.cut is not None
    seen = view(own, Draws(cut=draws.cut), MEL)
    assert float((seen[0] != 0).float().mean()) == pytest.approx(draws.cut.area, abs=1e-6)
    assert view(torch.randn(3, 1, 32, MEL.frames(round(seconds * RATE))), draws, MEL).isfinite().all()


@pytest.mark.parametrize(
    ("front_end", "augment", "sentence"),
    [
        (SOUND, {"freq_mixstyle_p": 0.4}, "freq_mixstyle_p is 0.4, but the network hears the waveform"),
        (SOUND, {"freq_mask": 1}, "freq_mask is 1, but the network hears the waveform"),
        (SOUND, {"low_pass_p": 0.5}, "low_pass_p is 0.5, but the network hears the waveform"),
        (SOUND, {"mel_jitter_high": 100.0}, "mel_jitter_high is 100, but the network hears the waveform"),
        (SOUND, {"time_stretch": 0.1}, "time_stretch is 0.1, but the network hears the waveform"),
        (SOUND, {"pitch_shift": 2.0}, "pitch_shift is 2, but the network hears the waveform"),
        (MEL, {"pitch_shift": 32.0}, "pitch_shift 32 moves all of the 32 mels away"),
        (MEL, {"time_stretch": 0.6}, "time_stretch is 0.6; beyond 0.5"),
        (MEL, {"freq_mask": 33}, "freq_mask 33 is wider than the 32 mels"),
        (MEL, {"time_mask": 66}, "time_mask 66 is wider than the 65 frames"),
        (MEL, {"roll_seconds": 0.005}, "less than half a hop of the front end .0.015625 s."),
        (MEL, {"mel_jitter_low": 0.5}, "must be whole Hz"),
        (MEL, {"mel_jitter_low": 6000.0, "mel_jitter_high": 5000.0}, "6000–5500 Hz, which must rise"),
        (
            MEL,
            {"mixstyle_p": 0.5, "mixstyle_layers": ("x",), "mixstyle_partner": "crossdomain"},
            "mixstyle_layers knows no devices",
        ),
    ],
)
def test_what_nothing_would_come_of_is_refused(
    front_end: FrontEndSpec, augment: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        recipe(front_end, **augment)


def test_a_mixture_of_one_with_itself_is_itself() -> None:
    mix = Mix(np.full(3, 0.3, np.float32), np.arange(3))
    mel = torch.randn(3, 1, 8, 9)
    draws = Draws(mixup=(mix,), style=mix, channel_style=mix)
    torch.testing.assert_close(view(mel, draws, MEL), mel, atol=1e-5, rtol=0)


# ── between layers ───────────────────────────────────────────────────────────────────────────────


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2)
    )


def test_mixstyle_acts_after_its_layer_in_training_only() -> None:
    from edgeaudio.models.domain import MixStyle
    from edgeaudio.training.inside import mixstyle_inside

    model, x = network(), torch.randn(4, 1, 8, 8)
    plain = model(x)
    handles = mixstyle_inside(model, replace(OFF, mixstyle_p=1.0, mixstyle_layers=("0",)))
    torch.manual_seed(5)
    mixed = model(x)
    torch.manual_seed(5)
    expected = model[1:](MixStyle(1.0, 0.3)(torch.nn.functional.conv2d(x, model[0].weight, model[0].bias)))
    torch.testing.assert_close(mixed, expected)
    assert not torch.equal(mixed, plain)
    assert torch.equal(model.eval()(x), plain)
    for handle in handles:
        handle.remove()
    assert torch.equal(model.train()(x), plain)


def test_wrong_layers_of_mixstyle_are_told(tmp_path: Path) -> None:
    from edgeaudio.training.inside import mixstyle_inside

    model = network()
    assert mixstyle_inside(model, replace(OFF, mixstyle_layers=("0",))) == []
    with pytest.raises(
        RecipeError, match=r"names '00', a layer that Sequential doesn't have; did you mean '0'"
    ):
        mixstyle_inside(model, replace(OFF, mixstyle_p=1.0, mixstyle_layers=("00",)))
    mixstyle_inside(model, replace(OFF, mixstyle_p=1.0, mixstyle_layers=("2",)))
    with pytest.raises(RecipeError, match=r"2 gives \(4, 108\), not a feature map"):
        model(torch.randn(4, 1, 8, 8))

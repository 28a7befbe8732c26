"""Augmentation's plain functions, against float64 references, pure tones and figures made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
import torch

from edgeaudio import augment
from edgeaudio.frontend import build_front_end
from edgeaudio.presets import PRESETS


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# ── waveforms ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("samples", "taps", "lead"), [(1000, 37, 0), (999, 400, 21), (50, 333, 7), (8, 1, 0)]
)
def test_convolution_is_scipys_full_one_cut_to_the_waveform(samples: int, taps: int, lead: int) -> None:
    x, h = normal(3, samples), normal(3, taps, seed=1)
    heard = augment.convolve(x, h, lead)
    for out, signal, response in zip(heard, x.double().numpy(), h.double().numpy(), strict=True):
        full = scipy.signal.convolve(signal, response, mode="full", method="direct")
        expected = full[lead : lead + samples]
        np.testing.assert_allclose(out[: len(expected)], expected, atol=2e-5 * np.sqrt(taps))


def test_shift_loses_what_goes_over_the_edge_and_brings_silence() -> None:
    x = normal(4, 10)
    moved = augment.shift(x, torch.tensor([0, 3, -4, 25]))
    assert torch.equal(moved[0], x[0])
    assert torch.equal(moved[1], torch.cat([torch.zeros(3), x[1, :7]]))
    assert torch.equal(moved[2], torch.cat([x[2, 4:], torch.zeros(4)]))
    assert not moved[3].any()


def test_noise_is_white_and_of_power_one() -> None:
    noise = augment.white_noise([(5, row) for row in range(40)], 4001).double().numpy()
    assert np.mean(noise**2) == pytest.approx(1, abs=0.02)
    power = (np.abs(np.fft.rfft(noise)) ** 2).mean(0)
    bands = [part.mean() for part in np.array_split(power[1:], 10)]
    np.testing.assert_allclose(bands, 4001, rtol=0.06)
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.06  # rows have noises of their own


def test_noise_is_the_same_sound_at_a_lower_rate() -> None:
    high = augment.white_noise([(1, 2)], 3200)[0].double().numpy()
    low = augment.white_noise([(1, 2)], 1600, reference=3200)[0]
    np.testing.assert_allclose(low[3:-3], scipy.signal.resample(high, 1600)[3:-3], atol=0.05)
    assert float(low.square().mean()) == pytest.approx(0.5, abs=0.05)  # half the band, half the power


def test_noise_has_the_ratio_asked_for_and_silence_stays_silent() -> None:
    x = 0.01 * normal(3, 50_000)
    x[2] = 0
    noise = augment.white_noise([(0, row) for row in range(3)], 50_000)
    out = augment.add_noise(x, noise, x.square().mean(1), torch.tensor([5.0, 20.0, 5.0]))
    for row, snr in enumerate([5.0, 20.0]):
        signal, added = x[row].double().numpy(), (out[row] - x[row]).double().numpy()
        assert 10 * np.log10(np.mean(signal**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.15)
    assert not out[2].any()


# ── log-mels ─────────────────────────────────────────────────────────────────────────────────────


def test_cutmix_puts_the_partners_rectangle_in_place() -> None:
    mel = torch.arange(3.0)[:, None, None, None].expand(3, 1, 6, 8).contiguous()
    out = augment.cutmix(mel, torch.tensor([1, 2, 0]), slice(1, 3), slice(4, 8))
    for own, partner in ((0, 1), (1, 2), (2, 0)):
        expected = torch.full((6, 8), float(own))
        expected[1:3, 4:8] = partner
        assert torch.equal(out[own, 0], expected)
    assert torch.equal(mel[0], torch.zeros(1, 6, 8))  # the given one is left alone


def test_mask_of_frames_blanks_the_stretch_and_nothing_else() -> None:
    mel = normal(2, 1, 5, 12)
    out = augment.mask_frames(mel, torch.tensor([3, 0]), torch.tensor([4, 0]))
    assert torch.equal(out[1], mel[1])
    assert torch.all(out[0, :, :, 3:7] == mel[0].mean())
    assert torch.equal(out[0, :, :, :3], mel[0, :, :, :3])
    assert torch.equal(out[0, :, :, 7:], mel[0, :, :, 7:])
    filled = augment.mask_frames(
        mel, torch.tensor([3, 0]), torch.tensor([4, 0]), torch.full((2, 1, 1, 1), 9.0)
    )
    assert torch.all(filled[0, :, :, 3:7] == 9)


def test_silence_at_the_floor_of_a_front_end_is_not_made_louder() -> None:
    for name in ("panns", "kaldi"):
        spec = PRESETS[name]
        front_end = build_front_end(spec)
        sound = torch.zeros(1, spec.sample_rate)
        sound[0, spec.sample_rate // 2 :] = 0.1 * normal(1, spec.sample_rate // 2)[0]
        louder = augment.change_level(front_end(sound), torch.tensor([10.0]), spec)
        torch.testing.assert_close(louder, front_end(sound * 10**0.5), atol=2e-3, rtol=1e-4)


def test_level_of_a_shifted_and_scaled_waveform_is_exact() -> None:
    spec = replace(PRESETS["waveform"], shift=0.5, scale=2.0)
    front_end, x = build_front_end(spec), normal(2, 100)
    louder = augment.change_level(front_end(x), torch.tensor([6.0, -3.0]), spec)
    expected = front_end(x * (10 ** (torch.tensor([6.0, -3.0]) / 20))[:, None])
    torch.testing.assert_close(louder, expected)


def test_a_stretched_log_mel_is_numpys_interpolation() -> None:
    mel = normal(5, 1, 4, 33)
    factor = np.array([1.0, 1.6, 0.8, 0.5, 1.2])
    place = np.array([0.3, 0.5, 0.9, 0.1, 1.0])
    out = augment.stretch_frames(mel, torch.from_numpy(factor), torch.from_numpy(place))
    assert torch.equal(out[0], mel[0])
    there_and_back = np.concatenate([mel.numpy(), mel.numpy()[..., -2::-1]], axis=3)
    for row in range(1, 5):
        begin = place[row] * max(0, 32 - 32 / factor[row])
        at = begin + np.arange(33) / factor[row]
        for band in range(4):
            expected = np.interp(at, np.arange(65), there_and_back[row, 0, band])
            np.testing.assert_allclose(out[row, 0, band], expected, atol=1e-5)
    assert torch.equal(out[4, ..., -1], mel[4, ..., -1])  # the latest place ends where the window ends


def test_a_moved_spectrum_is_numpys_interpolation() -> None:
    mel = normal(3, 2, 12, 5)
    source = np.clip(np.arange(12) + np.array([[0.0], [2.25], [-3.5]]), 0, 11)
    out = augment.shift_mels(mel, torch.from_numpy(source))
    assert torch.equal(out[0], mel[0])
    for row in (1, 2):
        for frame in range(5):
            expected = np.interp(source[row], np.arange(12), mel[row, 1, :, frame])
            np.testing.assert_allclose(out[row, 1, :, frame], expected, atol=1e-6)


def test_envelope_of_the_low_pass_by_hand() -> None:
    envelope = augment.low_pass_envelope(
        torch.tensor([0.0, 0.5, 1.0]), torch.tensor([2.0, 8.0]), torch.tensor([0.0, 4.0])
    )
    # 1 − ½(tanh(∓1) + 1), and with the half at the very top
    expected = [[0.880797, 0.5, 0.119203], [1.0, 0.999665, 0.5]]
    torch.testing.assert_close(envelope, torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["dcase2024", "passt", "panns", "yamnet", "dcase2022"])
def test_low_pass_multiplies_the_mel_power(name: str) -> None:
    spec = PRESETS[name]
    bare = build_front_end(replace(spec, log="none", shift=0.0, scale=1.0, power=2.0))
    t = np.arange(spec.sample_rate) / spec.sample_rate
    tones = sum(0.2 * np.sin(2 * np.pi * hz * t) for hz in (300, 1500, 6000))
    sound = torch.from_numpy(tones.astype(np.float32))[None] + 1e-3 * normal(1, spec.sample_rate)
    envelope = augment.low_pass_envelope(
        torch.linspace(0, 1, spec.n_mels), torch.tensor([6.0]), torch.tensor([0.5])
    )
    out = augment.low_pass(build_front_end(spec)(sound), envelope, spec)
    if spec.power == 2:
        power = bare(sound).double().numpy() * envelope.double().numpy()[:, None, :, None]
    else:  # the magnitude has the root of the factor
        magnitude = build_front_end(replace(spec, log="none", shift=0.0, scale=1.0))(sound).double().numpy()
        power = magnitude * np.sqrt(envelope.double().numpy())[:, None, :, None]
    unit = {"ln": 1.0, "db": 10 / np.log(10)}[spec.log]
    expected = np.log(np.maximum(power, spec.log_floor) + spec.log_offset) * unit
    # where next to nothing is above the offset, float32 keeps three digits of it
    np.testing.assert_allclose(out, (expected + spec.shift) * spec.scale, atol=0.02 * unit, rtol=1e-3)


def test_low_pass_multiplies_the_value_where_there_is_no_plain_logarithm() -> None:
    mel, envelope = normal(2, 1, 4, 3).abs(), torch.rand(2, 4)
    for spec in (PRESETS["birdclef2021"], replace(PRESETS["dcase2024"], log="none")):
        out = augment.low_pass(mel, envelope, spec)
        torch.testing.assert_close(out, mel * envelope[:, None, :, None])

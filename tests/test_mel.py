"""Mel scales, banks in bands, and the DFT as two matrix products: NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest

from edgeaudio.dft import factors, fold_bank, inner_matrix, outer_matrices
from edgeaudio.mel import bands, hz_to_mel, mel_bank, mel_to_hz
from edgeaudio.presets import PRESETS


@pytest.mark.parametrize(("n", "window"), [(1024, 800), (60, 41), (45, 45), (31, 20)])
def test_two_products_are_the_dft(n, window):
    frame = np.random.default_rng(0).standard_normal(window)
    n1, n2 = factors(n, window)
    rows = -(-window // n1)
    partial = inner_matrix(n2, rows) @ np.pad(frame, (0, rows * n1 - window)).reshape(rows, n1)
    spectrum = (partial.reshape(n2 // 2 + 1, 1, 2 * n1) @ outer_matrices(n1, n2))[:, 0]
    power = (spectrum[:, :n1] ** 2 + spectrum[:, n1:] ** 2).T.reshape(-1)
    every_bin = fold_bank(np.eye(n // 2 + 1), n1, n2)
    assert (every_bin.sum(axis=1) == 1).all()
    np.testing.assert_allclose(every_bin @ power, np.abs(np.fft.rfft(frame, n)) ** 2, atol=1e-9)


def test_factors_are_cheap_and_a_prime_has_none():
    assert factors(4096, 3072) == (32, 128)
    assert factors(1024, 800) == (16, 64)
    assert factors(509, 509) == (1, 509)


@pytest.mark.parametrize("groups", [1, 8, 1000])
def test_bands_cover_the_bank(groups):
    bank = mel_bank(PRESETS["passt"])
    rebuilt = np.zeros_like(bank)
    for m0, m1, c0, c1 in bands(bank, groups):
        rebuilt[m0:m1, c0:c1] += bank[m0:m1, c0:c1]
    np.testing.assert_array_equal(rebuilt, bank)


@pytest.mark.parametrize("scale", ["htk", "slaney", "kaldi"])
def test_mel_scales_invert(scale):
    hz = np.linspace(0, 16000, 100)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz, scale), scale), hz, atol=1e-8)
    assert hz_to_mel(np.array([1000.0]), scale)[0] == pytest.approx(
        15 if scale == "slaney" else 1000, rel=1e-4
    )

"""Normalisations against published numbers, and against their formulas in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from zoo import assert_exports, seeded_input

from edgeaudio.models.layers import GeM
from edgeaudio.models.norms import RelaxedFrequencyNorm, ResNorm, SubSpectralNorm

GOLDEN = torch.arange(24, dtype=torch.float32).reshape(2, 1, 3, 4) ** 1.5 / 10


def standardised(x: Tensor, axes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    a = x.double().numpy()
    mean, variance = a.mean(axis=axes, keepdims=True), a.var(axis=axes, keepdims=True)
    return np.asarray((a - mean) / np.sqrt(variance + 1e-5))


@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        (0.0, [-1.140863, -0.635194, 0.289386, 1.486672]),
        (0.5, [-1.201079, -0.906003, -0.366478, 0.332181]),
        (1.0, [-1.261294, -1.176812, -1.022341, -0.822309]),
    ],
)
def test_relaxed_frequency_norm_equals_the_published_numbers(lam: float, expected: list[float]) -> None:
    out = RelaxedFrequencyNorm(lam)(GOLDEN)
    torch.testing.assert_close(out.flatten()[:4], torch.tensor(expected), atol=2e-6, rtol=0)


def test_relaxed_frequency_norm_of_several_channels_is_its_formula() -> None:
    x = 3 * seeded_input((2, 3, 5, 7)) + 1
    expected = 0.3 * standardised(x, (1, 2, 3)) + 0.7 * standardised(x, (1, 3))
    np.testing.assert_allclose(RelaxedFrequencyNorm(0.3)(x).numpy(), expected, atol=1e-5)


def test_residual_norm_is_its_formula() -> None:
    x = 3 * seeded_input((2, 3, 5, 7)) + 1
    expected = 0.1 * x.numpy() + standardised(x, (1, 3))
    np.testing.assert_allclose(ResNorm()(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("layer", [RelaxedFrequencyNorm(), ResNorm(), GeM()])
def test_silence_is_finite_with_its_gradient(layer: nn.Module) -> None:
    x = torch.zeros(1, 3, 4, 5, requires_grad=True)
    out = layer(x)
    torch.autograd.backward(out.sum())
    assert torch.isfinite(out).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("training", [True, False])
def test_sub_spectral_norm_is_a_batch_norm_for_each_band(training: bool) -> None:
    channels, bands, height = 3, 2, 4
    layer = SubSpectralNorm(channels, bands).train(training)
    for value in layer.state_dict().values():
        if value.is_floating_point():
            value.copy_(
                1 + 0.3 * torch.rand(value.shape, generator=torch.Generator().manual_seed(value.numel()))
            )
    x = 2 * seeded_input((4, channels, bands * height, 6)) + 1
    single = nn.BatchNorm2d(channels).train(training)
    for band in range(bands):
        single.load_state_dict(
            {
                name.removeprefix("ssnorm."): value[band::bands] if value.dim() else value
                for name, value in layer.state_dict().items()
            }
        )
        part = slice(band * height, (band + 1) * height)
        torch.testing.assert_close(layer(x)[:, :, part], single(x[:, :, part]), rtol=1e-5, atol=1e-5)


def test_sub_spectral_norm_has_a_scale_and_a_shift_for_each_band() -> None:
    layer = SubSpectralNorm(8, 5)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 8 * 5
    assert [name for name, _ in layer.named_parameters()] == ["ssnorm.weight", "ssnorm.bias"]


def test_gem_lies_between_average_and_maximum() -> None:
    x = seeded_input((2, 3, 4, 5)).abs() + 0.1
    torch.testing.assert_close(GeM(1.0)(x), x.mean(dim=(2, 3)))
    torch.testing.assert_close(GeM(80.0)(x / 4), x.amax(dim=(2, 3)) / 4, rtol=0.05, atol=0)
    a = x.double().numpy()
    np.testing.assert_allclose(GeM()(x).detach().numpy(), (a**3).mean(axis=(2, 3)) ** (1 / 3), rtol=1e-5)


def test_gem_learns_its_exponent() -> None:
    layer = GeM(2.0)
    torch.autograd.backward(layer(seeded_input((2, 3, 4, 5)).abs()).sum())
    assert layer.p.grad is not None
    assert layer.p.grad.item() > 0  # a larger exponent means a larger mean


@pytest.mark.parametrize("layer", [RelaxedFrequencyNorm(), ResNorm(), SubSpectralNorm(1, 2), GeM()])
def test_every_norm_exports(layer: nn.Module, tmp_path: Path) -> None:
    assert_exports(layer, seeded_input((2, 1, 8, 5)), tmp_path / "norm.onnx")


def test_wrong_settings_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"lam is 1.5; it must lie between 0 and 1"):
        RelaxedFrequencyNorm(1.5)
    with pytest.raises(ValueError, match=r"lam is -1; it must be 0 or more"):
        ResNorm(-1)
    with pytest.raises(ValueError, match="bands is 0; it must be at least 1"):
        SubSpectralNorm(4, 0)
    with pytest.raises(ValueError, match="p is 0; it must be positive"):
        GeM(0)
    with pytest.raises(ValueError, match="64 frequencies can't be cut into the 5 bands"):
        SubSpectralNorm(1, 5)(torch.zeros(1, 1, 64, 3))

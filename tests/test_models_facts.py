"""What the papers say about the architectures: normalisation, initialisation, receptive fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeaudio.models import build
from edgeaudio.models.cp_resnet import kernels
from edgeaudio.models.layers import GlobalResponseNorm, make_divisible


def test_grn_is_its_formula() -> None:
    layer = GlobalResponseNorm()
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), x)  # a fresh layer is the identity
    nn.init.constant_(layer.gamma, 0.7)
    nn.init.constant_(layer.beta, -0.2)
    a = x.double().numpy()
    norm = np.sqrt((a**2).sum(axis=(2, 3), keepdims=True))
    expected = 0.7 * a * norm / (norm.mean(axis=1, keepdims=True) + 1e-6) - 0.2 + a
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_grn_of_silence_is_finite() -> None:
    layer = GlobalResponseNorm()
    x = torch.zeros(1, 3, 4, 5, requires_grad=True)
    torch.autograd.backward(layer(x).sum())
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("width", "rounded"),
    [(57.6, 56), (103.68, 104), (73.6, 72), (169.28, 168), (67.2, 64), (117.6, 120), (9.6, 16), (25.6, 24)],
)
def test_make_divisible(width: float, rounded: int) -> None:
    assert make_divisible(width) == rounded


def deviation(model: nn.Module, name: str) -> float:
    return model.get_parameter(name).std().item()


def test_cp_mobile_starts_with_he_normal_over_outputs() -> None:
    torch.manual_seed(0)
    model = build("cp_mobile", 10)
    assert deviation(model, "stages.s2.b5.block.1.0.weight") == pytest.approx((2 / (216 * 9)) ** 0.5, rel=0.1)
    assert deviation(model, "stages.s3.b6.block.2.0.weight") == pytest.approx((2 / 168) ** 0.5, rel=0.05)
    assert deviation(model, "in_c.1.0.weight") == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)


def test_cp_resnet_starts_with_silent_residuals_and_classifier() -> None:
    torch.manual_seed(0)
    model = build("cp_resnet", 10).eval()
    blocks = 4
    assert deviation(model, "in_c.0.weight") == pytest.approx((2 / 25) ** 0.5, rel=0.1)
    first = (2 / (3 * 3 * 64)) ** 0.5 * blocks**-0.5
    assert deviation(model, "stage2.block1.conv1.weight") == pytest.approx(first, rel=0.05)
    assert deviation(model, "stage3.block1.shortcut.conv.weight") == pytest.approx((2 / 92) ** 0.5, rel=0.05)
    assert not model.get_parameter("stage1.block2.conv2.weight").any()
    assert not model(torch.randn(2, 1, 256, 44)).any()


@pytest.mark.parametrize(
    ("rho", "expected"),
    [
        (0, [[(3, 1), (1, 1)], [(1, 1), (1, 1)], [(1, 1), (1, 1)]]),
        (4, [[(3, 1), (3, 3)], [(3, 1), (1, 1)], [(1, 1), (1, 1)]]),
        (8, [[(3, 1), (3, 3)], [(3, 3), (3, 3)], [(3, 1), (1, 1)]]),
        (11, [[(3, 1), (3, 3)], [(3, 3), (3, 3)], [(3, 3), (3, 3)]]),
    ],
)
def test_kernels_by_rho(rho: int, expected: list[list[tuple[int, int]]]) -> None:
    assert kernels(rho) == expected


def test_kernels_by_the_published_rule() -> None:
    for rho in range(16):
        e = rho - 4
        early = [3 - 2 * (-e > place) for place in (2, 1, 0)]
        late = [1 + 2 * (e > place) for place in range(7)]
        sides = [3, 1, *early, *late]
        assert [side for stage in kernels(rho) for block in stage for side in block] == sides


@pytest.mark.parametrize(
    ("rho", "field"), [(4, (91, 39)), (5, (123, 47)), (7, (123, 47)), (8, (155, 55)), (9, (187, 63))]
)
def test_receptive_field(rho: int, field: tuple[int, int]) -> None:
    """The extent of one position's gradient, with positive weights and averages in place of maxima."""
    model: Any = build("cp_resnet", 10, base_channels=4, cut_channels_s3=0, rho=rho).eval().double()
    for stage in (model.stage1, model.stage2, model.stage3):
        for name, module in stage.named_children():
            if isinstance(module, nn.MaxPool2d):
                stage.add_module(name, nn.AvgPool2d(module.kernel_size))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.constant_(parameter, 0.01)
    x = torch.ones(1, 1, 512, 160, dtype=torch.double, requires_grad=True)
    features = model.features(x)
    features[0, 0, features.shape[2] // 2, features.shape[3] // 2].backward()
    assert x.grad is not None
    touched = x.grad[0, 0] != 0
    assert (int(touched.any(dim=1).sum()), int(touched.any(dim=0).sum())) == field

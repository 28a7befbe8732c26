"""Style mixing and adversarial heads against published numbers and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from zoo import assert_exports, seeded_input

from edgeaudio import augment
from edgeaudio.models.domain import (
    DeviceHead,
    FreqMixStyle,
    GradientReversal,
    MixStyle,
    cross_permutation,
    freq_mixstyle,
    mixstyle,
)

GOLDEN = torch.arange(24, dtype=torch.float32).reshape(2, 1, 3, 4) ** 1.5 / 10


def test_freq_mixstyle_equals_the_published_numbers() -> None:
    out = freq_mixstyle(GOLDEN, torch.tensor([0.7, 0.2]), torch.tensor([1, 0]))
    expected = torch.tensor([1.281044, 1.444500, 1.743368, 2.130388])
    torch.testing.assert_close(out.flatten()[:4], expected, atol=2e-6, rtol=0)
    assert float(out.sum()) == pytest.approx(71.441719, abs=1e-4)


def test_augmentation_uses_the_same_formula() -> None:
    assert augment.freq_mixstyle is freq_mixstyle


def test_mixstyle_is_its_formula() -> None:
    x = 2 * seeded_input((3, 4, 5, 6)) + 1
    lam, partner = [0.7, 0.2, 1.0], [2, 0, 1]
    a = x.double().numpy()
    mean = a.mean(axis=(2, 3), keepdims=True)
    std = np.sqrt(a.var(axis=(2, 3), ddof=1, keepdims=True) + 1e-6)
    share = np.reshape(lam, (-1, 1, 1, 1))
    expected = (a - mean) / std * (share * std + (1 - share) * std[partner])
    expected += share * mean + (1 - share) * mean[partner]
    out = mixstyle(x, torch.tensor(lam), torch.tensor(partner))
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(out[2], x[2], atol=1e-5, rtol=0)  # nothing of the partner


@pytest.mark.parametrize(("layer", "dims"), [(MixStyle, (2, 3)), (FreqMixStyle, (1, 3))])
@pytest.mark.parametrize("shuffle", ["random", "crossdomain"])
def test_layer_gives_clips_a_mixture_of_two_styles(
    layer: type[MixStyle], dims: tuple[int, int], shuffle: str
) -> None:
    torch.manual_seed(0)
    x = torch.arange(1.0, 9).view(8, 1, 1, 1) * seeded_input((8, 3, 4, 50))  # every clip has its own spread
    spread, mixed = x.std(dim=dims), layer(1.0, 0.3, shuffle=shuffle)(x).std(dim=dims)
    assert (mixed >= spread.amin(dim=0) - 1e-4).all()
    assert (mixed <= spread.amax(dim=0) + 1e-4).all()
    assert ((mixed - spread).abs() > 1e-3).any(dim=1).sum() >= 4


@pytest.mark.parametrize("layer", [MixStyle(1.0), FreqMixStyle(1.0)])
def test_layer_rests_in_use(layer: MixStyle) -> None:
    x = seeded_input((4, 2, 3, 5))
    assert layer.eval()(x) is x
    assert layer.train()(x) is not x


def test_one_coin_for_each_batch() -> None:
    torch.manual_seed(1)
    layer, x = FreqMixStyle(0.25), seeded_input((4, 1, 3, 5))
    mixed = sum(layer(x) is not x for _ in range(400))
    assert mixed == pytest.approx(100, abs=30)
    assert all(FreqMixStyle(0.0)(x) is x for _ in range(20))


def test_same_seed_same_mixture() -> None:
    layer, x = MixStyle(1.0), seeded_input((4, 2, 3, 5))
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        outputs.append(layer(x))
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], layer(x))


@pytest.mark.parametrize("clips", [1, 2, 7, 8])
def test_cross_permutation_pairs_the_halves(clips: int) -> None:
    permutation = cross_permutation(clips).tolist()
    assert sorted(permutation) == list(range(clips))
    assert all(partner >= clips // 2 for partner in permutation[: clips - clips // 2])
    assert all(partner < clips // 2 for partner in permutation[clips - clips // 2 :])


def test_statistics_are_constants_for_the_gradient() -> None:
    x = seeded_input((2, 1, 3, 4)).requires_grad_()
    torch.autograd.backward(freq_mixstyle(x, torch.tensor([0.4, 0.9]), torch.tensor([1, 0])).sum())
    assert x.grad is not None
    # only the gain is left: the same for all frames of a clip's band
    torch.testing.assert_close(x.grad, x.grad[..., :1].expand(x.shape))


def test_reversal_passes_forwards_and_turns_backwards() -> None:
    x = seeded_input((2, 3)).requires_grad_()
    y = GradientReversal(0.5)(x)
    assert torch.equal(y, x)
    torch.autograd.backward((y * torch.tensor([1.0, 2.0, 3.0])).sum())
    assert x.grad is not None
    assert x.grad.tolist() == [[-0.5, -1.0, -1.5]] * 2


def test_device_head_turns_the_gradient_of_the_features_only() -> None:
    torch.manual_seed(0)
    head = DeviceHead(6, 3, alpha=2.0)
    plain = nn.Sequential(*list(head)[1:])
    features, labels = seeded_input((4, 6, 5, 7)), torch.tensor([0, 1, 2, 0])
    gradients = []
    for net in (head, plain):
        net.zero_grad()
        x = features.clone().requires_grad_()
        torch.autograd.backward(nn.functional.cross_entropy(net(x), labels))
        assert x.grad is not None
        gradients.append((x.grad, [p.grad for p in net.parameters()]))
    (reversed_x, own), (plain_x, same) = gradients
    torch.testing.assert_close(reversed_x, -2 * plain_x)
    torch.testing.assert_close(own, same)
    assert reversed_x.abs().max() > 0


def test_device_head_has_the_published_entries() -> None:
    shapes = {name: tuple(value.shape) for name, value in DeviceHead(64).named_parameters()}
    assert shapes == {"1.weight": (64, 64, 1, 1), "2.weight": (2, 64, 1, 1), "3.weight": (2,), "3.bias": (2,)}
    assert DeviceHead(64).eval()(seeded_input((3, 64, 4, 2))).shape == (3, 2)


def test_a_network_with_all_of_it_exports_without_a_trace(tmp_path: Path) -> None:
    net = nn.Sequential(FreqMixStyle(1.0), nn.Conv2d(1, 4, 3), MixStyle(1.0), DeviceHead(4))
    assert_exports(net, seeded_input((2, 1, 8, 9)), tmp_path / "net.onnx")


def test_wrong_settings_are_sentences() -> None:
    with pytest.raises(ValueError, match="p is 2; it must lie between 0 and 1"):
        MixStyle(2)
    with pytest.raises(ValueError, match="alpha is 0; it must be positive"):
        FreqMixStyle(0.5, 0)
    with pytest.raises(ValueError, match="shuffle is 'half'; it must be one of random, crossdomain"):
        MixStyle(shuffle="half")
    with pytest.raises(ValueError, match="alpha is -1; it must be 0 or more"):
        GradientReversal(-1)
    with pytest.raises(ValueError, match="devices is 0; it must be at least 1"):
        DeviceHead(8, 0)

"""DyMN against published sizes, published names and a slow float64 computation of each dynamic part.

``python tests/test_dymn.py`` rewrites the fixture; do that only while those agree.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from zoo import FIXTURES, assert_exports, assert_fixture, seeded_array, seeded_input

from edgeaudio.complexity import official
from edgeaudio.models.dymn import DyMN, DynamicBlock, DynamicConv, Dynamics

FIXTURE = FIXTURES / "dymn.json"
TINY: dict[str, dict[str, Any]] = {
    "all dynamic": {},
    "in place of SE": {"blocks": "replace_se", "strides": [2, 1, 2, 2]},
    "three lines, two channels": {"mappings": 3, "kernels": 2, "temperature": 4.0, "in_channels": 2},
}
Array = npt.NDArray[np.float64]


def tiny(case: str) -> DyMN:
    return with_seeded_weights(DyMN(5, width=0.1, **TINY[case]))


def with_seeded_weights(module: Any) -> Any:
    """A made-up checkpoint; but the constants of the dynamic ReLUs stay, as no training moves them."""
    dynamic = {f"{name}.weight": m.shape for name, m in module.named_modules() if isinstance(m, DynamicConv)}
    entries = {}
    for key, value in module.state_dict().items():
        if key in dynamic:
            array = seeded_array(key, (math.prod(dynamic[key][:2]), math.prod(dynamic[key][2:])))
            entries[key] = torch.from_numpy(array).view(value.shape)
        elif key.endswith(("lambdas", "init_v")):
            entries[key] = value
        else:
            entries[key] = torch.from_numpy(seeded_array(key, tuple(value.shape)))
    module.load_state_dict(entries, strict=True)
    return module.eval()


def settled(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Logits once the batch norms have adapted to such input; else fifteen blocks fade it out."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(seeded_input((16, *x.shape[1:])).to(x.dtype))
        logits: torch.Tensor = model.eval()(x)
    return logits


def exact(case: str) -> torch.Tensor:
    """Logits in float64, as batch norms of batch norms magnify what float32 rounds."""
    return settled(tiny(case).double(), tiny_input(case).double())


def tiny_input(case: str) -> torch.Tensor:
    return seeded_input((2, TINY[case].get("in_channels", 1), 64, 40))


@pytest.mark.parametrize(
    ("width", "params", "macs"),
    [(0.4, 1_961_239, 117_432_704), (1.0, 10_548_479, 581_672_832), (2.0, 39_966_143, 2_220_951_552)],
)
def test_published_sizes(width: float, params: int, macs: int) -> None:
    with torch.device("meta"):
        model = DyMN(527, width=width).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, 128, 1000, device="meta"))
    assert sum(p.numel() for p in model.parameters()) == params
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize(("width", "macs"), [(0.4, 12_177_935), (1.0, 63_521_375)])
def test_official_count_does_not_see_the_dynamic_convolutions(width: float, macs: int) -> None:
    assert official(DyMN(527, width=width), (1, 1, 128, 1000)).macs == macs


def test_entries_of_a_block_are_the_published_ones() -> None:
    with torch.device("meta"):
        entries = DyMN(527).state_dict()
    ours = {
        key.removeprefix("layers.3."): list(value.shape)
        for key, value in entries.items()
        if key.startswith("layers.3.") and "norm" not in key
    }
    context = 32  # 72 inner channels / 4 = 18, raised to the least
    assert ours == {
        "exp_conv.residuals.0.weight": [4, context],
        "exp_conv.residuals.0.bias": [4],
        "exp_conv.weight": [1, 1, 4, 72 * 24],
        "depth_conv.residuals.0.weight": [4, context],
        "depth_conv.residuals.0.bias": [4],
        "depth_conv.weight": [1, 1, 4, 72 * 25],
        "depth_act.coef_net.0.weight": [4 * 72, context],
        "depth_act.coef_net.0.bias": [4 * 72],
        "depth_act.lambdas": [4],
        "depth_act.init_v": [4],
        "proj_conv.residuals.0.weight": [4, context],
        "proj_conv.residuals.0.bias": [4],
        "proj_conv.weight": [1, 1, 4, 40 * 72],
        "context_gen.joint_conv.weight": [context, 24, 1, 1],
        "context_gen.conv_f.weight": [72, context, 1, 1],
        "context_gen.conv_f.bias": [72],
        "context_gen.conv_t.weight": [72, context, 1, 1],
        "context_gen.conv_t.bias": [72],
    }
    norms = {key.split(".")[-2] for key in entries if key.startswith("layers.3.") and "norm" in key}
    assert norms == {"exp_norm", "depth_norm", "proj_norm", "joint_norm"}
    assert {key.split(".")[0] for key in entries} == {"in_c", "layers", "out_c", "classifier"}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hardswish(x: Array) -> Array:
    return x * np.clip(x + 3, 0, 6) / 6


class Slow:
    """One block for one clip in float64, position by position as the paper has it."""

    def __init__(self, block: DynamicBlock, stride: int, hard: bool) -> None:
        self.entries = {key: value.double().numpy() for key, value in block.state_dict().items()}
        self.stride = stride
        self.activation = hardswish if hard else lambda x: np.maximum(x, 0)

    def norm(self, name: str, x: Array) -> Array:
        names = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, var = (self.entries[f"{name}.{n}"][:, None, None] for n in names)
        return (x - mean) / np.sqrt(var + 1e-3) * scale + shift

    def mixture(self, name: str, context: Array) -> Array:
        """The flat kernel of this clip."""
        scores = self.entries[f"{name}.residuals.0.weight"] @ context
        odds = np.exp(scores + self.entries[f"{name}.residuals.0.bias"])
        kernels = self.entries[f"{name}.weight"][0, 0]
        return sum(a * kernel for a, kernel in zip(odds / odds.sum(), kernels, strict=True))

    def pointwise(self, name: str, x: Array, context: Array) -> Array:
        kernel = self.mixture(name, context).reshape(-1, len(x))
        return np.einsum("oi,ift->oft", kernel, x)

    def depthwise(self, x: Array, context: Array) -> Array:
        kernels = self.mixture("depth_conv", context).reshape(len(x), -1)
        side = math.isqrt(kernels.shape[1])
        padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        rows, columns = (range(0, n, self.stride) for n in x.shape[1:])
        patches = [[padded[:, i : i + side, j : j + side] for j in columns] for i in rows]
        flat = np.array(patches).reshape(len(rows), len(columns), len(x), -1)
        return np.einsum("ftck,ck->cft", flat, kernels)

    def relu(self, x: Array, context: Array) -> Array:
        net = (self.entries[f"depth_act.coef_net.0.{n}"] for n in ("weight", "bias"))
        weight, bias = net
        theta = (2 * sigmoid(weight @ context + bias) - 1).reshape(len(x), -1)
        lines = len(theta[0]) // 2
        y = np.empty_like(x)
        for channel, coefficients in enumerate(theta):
            slopes, offsets = coefficients[:lines].copy(), 0.5 * coefficients[lines:]
            slopes[0] += 1
            y[channel] = np.max([a * x[channel] + b for a, b in zip(slopes, offsets, strict=True)], axis=0)
        return y

    def shrunk(self, sequence: Array) -> Array:
        """Mean of three neighbours, zeros beyond the ends, at every other position."""
        if self.stride == 1:
            return sequence
        padded = np.pad(sequence, ((0, 0), (1, 1)))
        return np.stack([padded[:, i : i + 3].mean(axis=1) for i in range(0, sequence.shape[1], 2)], axis=1)

    def context(self, x: Array) -> tuple[Array, Array, Array]:
        def joint(sequence: Array) -> Array:
            y = self.entries["context_gen.joint_conv.weight"][:, :, 0, 0] @ sequence
            return hardswish(self.norm("context_gen.joint_norm", y[:, :, None]))[:, :, 0]

        def weights(name: str, sequence: Array) -> Array:
            weight = self.entries[f"context_gen.{name}.weight"][:, :, 0, 0]
            bias = self.entries[f"context_gen.{name}.bias"]
            return sigmoid(weight @ self.shrunk(sequence) + bias[:, None])

        along_f, along_t = joint(x.mean(axis=2)), joint(x.mean(axis=1))
        vector = np.concatenate([along_f, along_t], axis=1).mean(axis=1)
        return vector, weights("conv_f", along_f), weights("conv_t", along_t)

    def __call__(self, x: Array) -> Array:
        vector, frequencies, times = self.context(x)
        y = x
        if "exp_conv.weight" in self.entries:
            y = self.activation(self.norm("exp_norm", self.pointwise("exp_conv", x, vector)))
        y = self.relu(self.norm("depth_norm", self.depthwise(y, vector)), vector)
        y = y * frequencies[:, :, None] * times[:, None, :]
        y = self.norm("proj_norm", self.pointwise("proj_conv", y, vector))
        return y + x if y.shape == x.shape else y


@pytest.mark.parametrize(
    ("widths", "side", "stride", "mappings"),
    [((8, 24, 8), 3, 1, 2), ((8, 24, 16), 5, 2, 2), ((8, 8, 8), 3, 1, 3), ((8, 16, 8), 5, 2, 1)],
)
def test_a_block_is_what_the_paper_says(
    widths: tuple[int, int, int], side: int, stride: int, mappings: int
) -> None:
    activation = torch.nn.Hardswish if side == 5 else torch.nn.ReLU
    dynamics = Dynamics((2, 8, 16), 3, mappings, 1.0)
    block = with_seeded_weights(DynamicBlock(widths, side, stride, activation, dynamics))
    slow = Slow(block, stride, hard=side == 5)
    x = seeded_input((3, widths[0], 11, 14)).double()
    with torch.no_grad():
        ours = block.double()(x)
    expected = np.stack([slow(clip) for clip in x.numpy()])
    assert ours.shape == expected.shape
    assert np.abs(ours.numpy() - expected).max() <= 1e-10 * expected.std()


def test_both_forms_of_the_depthwise_convolution_agree() -> None:
    conv = with_seeded_weights(DynamicConv(8, 8, 5, 2, 8, 4, Dynamics((4, 8, 8), 3, 2, 1.0))).double()
    x, attention = seeded_input((3, 8, 9, 12)).double(), seeded_input((3, 3)).double()
    torch.testing.assert_close(conv._sum(x, attention), conv._grouped(x, attention))


def test_a_hot_softmax_mixes_evenly() -> None:
    hot = with_seeded_weights(DynamicConv(8, 16, 1, 1, 1, 4, Dynamics((4, 8, 8), 3, 2, 1e9)))
    x = seeded_input((2, 8, 5, 6))
    kernel = hot.weight[0, 0].mean(dim=0).view(16, 8, 1, 1)
    torch.testing.assert_close(hot(x, seeded_input((2, 4))), torch.nn.functional.conv2d(x, kernel))


@pytest.mark.parametrize("case", TINY)
def test_recorded_outputs_of_tiny_models(case: str) -> None:
    assert_fixture(case, exact(case), FIXTURE)


def test_clips_of_a_batch_do_not_hear_each_other() -> None:
    model, x = tiny("all dynamic"), seeded_input((3, 1, 64, 40))
    settled(model, x)
    with torch.no_grad():
        alone = torch.cat([model(clip[None]) for clip in x])
        torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)
        assert model.embed(x).shape == (3, 96)


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = tiny("all dynamic").train()
    x = seeded_input((4, 1, 64, 40))
    loss: Any = torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert 0 < parameter.grad.abs().max() < torch.inf, name


def test_what_depends_on_classes_and_channels_is_named() -> None:
    three, five = (DyMN(n, width=0.1, in_channels=2).state_dict() for n in (3, 5))
    differing = {key for key in three if three[key].shape != five[key].shape}
    assert differing == {"classifier.5.weight", "classifier.5.bias"}
    assert all(key.startswith(DyMN.head) for key in differing)
    assert [five[name].shape[1] for name in DyMN.first_weights] == [2]


def test_exports(tmp_path: Path) -> None:
    # at this width all blocks take and give 8 channels, so three of them make a network
    model, x = with_seeded_weights(DyMN(5, width=0.05)), seeded_input((2, 1, 32, 24))
    model.layers = torch.nn.ModuleList(model.layers[i] for i in (0, 3, 13))
    settled(model, x)
    assert_exports(model, x, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 0}, "width is 0; it must be positive"),
        ({"kernels": 0}, "kernels is 0; it must be positive"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be positive"),
        ({"in_channels": 0}, "in_channels is 0; it must be positive"),
        ({"strides": [2, 2, 2, 3]}, r"strides is \[2, 2, 2, 3\]; write 4 numbers, each 1 or 2"),
        ({"blocks": "some"}, "blocks is 'some'; it must be one of all, replace_se"),
        ({"min_context": 64, "max_context": 32}, "min_context is 64 and max_context 32"),
        ({"dropout": -0.1}, "dropout is -0.1; it must be at least 0 and below 1"),
    ],
)
def test_wrong_settings_are_sentences(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DyMN(10, **options)


if __name__ == "__main__":
    answers = {case: exact(case).tolist() for case in TINY}
    FIXTURE.write_text(json.dumps(answers, indent=1) + "\n")

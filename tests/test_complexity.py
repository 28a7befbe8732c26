"""The official counter against published counts."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgeaudio.complexity import check, official
from edgeaudio.errors import RecipeError
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe

BASELINE = {
    "channels_multiplier": 1.8,
    "expansion_rate": 2.1,
    "strides": {"b2": [1, 1], "b3": [1, 2], "b4": [2, 1]},
    "grn": False,
}
SMALL = {"channels_multiplier": 1.5, "expansion_rate": 2.0}

# model, options, frames, parameters, MACs; 256 mels and 10 classes throughout
ANCHORS: list[tuple[str, dict[str, Any], int, int, int]] = [
    ("cp_mobile", BASELINE, 65, 61148, 29419156),
    ("cp_mobile", {}, 64, 126952, 28893268),
    ("cp_mobile", {}, 65, 126952, 31684180),
    ("cp_mobile", {"strides": BASELINE["strides"], "grn": False}, 65, 126940, 53174356),
    ("cp_mobile", {"expansion_rate": 2.0}, 64, 86296, 20218900),
    ("cp_mobile", {"base_channels": 24}, 64, 77314, 17139840),
    ("cp_mobile", {"base_channels": 16}, 64, 39868, 8433836),
    ("cp_mobile", {"base_channels": 8}, 64, 13942, 2691272),
    ("cp_mobile", {"base_channels": 16, **SMALL}, 64, 13996, 4263116),
    ("cp_mobile", {"base_channels": 8, **SMALL}, 64, 5734, 1417928),
    ("cp_resnet", {}, 43, 127684, 28840396),
    ("cp_resnet", {}, 44, 127684, 28840396),
    ("cp_resnet", {}, 64, 127684, 43209156),
    ("cp_resnet", {}, 65, 127684, 45981308),
    ("cp_resnet", {"rho": 3}, 44, 56004, 18088396),
    ("cp_resnet", {"rho": 4}, 44, 64196, 19317196),
    ("cp_resnet", {"rho": 5}, 44, 80580, 21774796),
    ("cp_resnet", {"rho": 7}, 44, 80580, 21774796),
    ("cp_resnet", {"rho": 9}, 44, 195396, 38997196),
    ("cp_resnet", {"rho": 12}, 44, 195396, 38997196),
    (
        "cp_resnet",
        {"rho": 4, "blocks": [2, 2, 2], "stage2_groups": 1, "cut_channels_s3": 0},
        44,
        131316,
        29238580,
    ),
    ("cp_resnet", {"rho": 7, "cut_channels_s3": 24}, 64, 84660, 33512628),
    ("cp_resnet", {"base_channels": 64}, 43, 565924, 119963628),
]
FOLDED: list[tuple[str, dict[str, Any], int, int, int]] = [
    ("cp_resnet", {}, 44, 127046, 29056324),
    ("cp_mobile", {}, 64, 124862, 29561088),
    ("cp_mobile", {}, 65, 124862, 32410400),
    ("cp_mobile", {"expansion_rate": 2.0}, 64, 84750, 20715776),
    ("cp_mobile", {"base_channels": 24}, 64, 75714, 17644800),
    ("cp_mobile", {"base_channels": 16}, 64, 38758, 8775936),
    ("cp_mobile", {"base_channels": 8}, 64, 13330, 2869504),
    ("cp_mobile", {"base_channels": 16, **SMALL}, 64, 13382, 4491520),
    ("cp_mobile", {"base_channels": 8, **SMALL}, 64, 5378, 1538304),
]


def fold(model: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution that stands before it."""
    for parent in model.eval().modules():
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return model


@pytest.mark.parametrize(("name", "options", "frames", "params", "macs"), ANCHORS)
def test_published_counts(name: str, options: dict[str, Any], frames: int, params: int, macs: int) -> None:
    counted = official(build(name, 10, **options), (1, 1, 256, frames))
    assert (counted.params, counted.macs) == (params, macs)


@pytest.mark.parametrize(("name", "options", "frames", "params", "macs"), FOLDED)
def test_published_counts_with_folded_batch_norm(
    name: str, options: dict[str, Any], frames: int, params: int, macs: int
) -> None:
    counted = official(fold(build(name, 10, **options)), (1, 1, 256, frames))
    assert (counted.params, counted.macs) == (params, macs)


def test_baseline_recipe() -> None:
    recipe = load_recipe("dcase2024_baseline")
    counted = official(build(recipe.model.name, 10, **recipe.model.options), recipe.input_shape)
    assert recipe.input_shape == (1, 1, 256, 65)
    assert (counted.params, counted.macs, counted.bytes(16)) == (61148, 29419156, 122296)
    assert counted.layers[0].macs + counted.layers[1].macs == 304144  # the first row of the published table


def test_teacher_recipe() -> None:
    recipe = load_recipe("cp_resnet_128k", "teachers")
    counted = official(build(recipe.model.name, 10, **recipe.model.options), recipe.input_shape)
    assert (counted.params, counted.macs) == (127684, 45981308)


def test_depthwise_example() -> None:
    layers = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.BatchNorm2d(64))
    counted = official(layers, (1, 64, 64, 9))
    assert counted.params == 704
    assert [layer.macs for layer in counted.layers] == [331776, 128]


def test_linear_over_tokens_counts_once_per_sample() -> None:
    assert official(nn.Linear(3, 8), (5, 10, 3)).macs == 160


def test_batch_multiplies_the_macs_and_bias_counts_at_every_position() -> None:
    conv = nn.Conv2d(2, 3, 3)  # (2·9 + 1)·3 numbers, 4 × 6 positions
    assert official(conv, (1, 2, 6, 8)).macs == 57 * 24
    assert official(conv, (5, 2, 6, 8)).macs == 5 * 57 * 24


def test_recurrent_weights_count_over_batch_and_time() -> None:
    lstm = nn.LSTM(4, 5, batch_first=True)
    numel = 4 * 5 * (4 + 5 + 2)
    assert official(lstm, (2, 7, 4)).macs == 2 * 7 * numel


class Odd(nn.Module):
    """A shared layer, an unused one, a loose parameter and a functional product."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 9)
        self.loose = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.shared(x))
        return torch.matmul(x, x.T) + self.loose.sum()


def test_shared_unused_and_loose_parameters() -> None:
    counted = official(Odd(), (3, 4))
    assert counted.params == 20 + 45 + 6
    assert counted.macs == 2 * 3 * 20
    assert counted.nonzero == counted.params - 6


@pytest.mark.parametrize("model", [Odd(), build("cp_mobile", 10, base_channels=8)])
def test_rows_add_up(model: nn.Module) -> None:
    counted = official(model, (3, 4) if isinstance(model, Odd) else (1, 1, 64, 31))
    assert sum(layer.params for layer in counted.layers) == counted.params
    assert sum(layer.macs for layer in counted.layers) == counted.macs


def test_model_without_parameters() -> None:
    counted = official(nn.ReLU(), (1, 7))
    assert (counted.params, counted.macs, counted.bytes(32)) == (0, 0, 0)
    verdict = check(counted, "dcase2024", bits=32)
    assert (verdict.ok, verdict.allowed_bits) == (True, 32)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = build("cp_resnet", 10, base_channels=8, cut_channels_s3=0)
    model.train()
    norm = model.get_submodule("stage1.block1.bn1")
    norm.eval()  # a frozen batch norm must stay frozen
    before = {key: value.clone() for key, value in model.state_dict().items()}
    official(model, (1, 1, 64, 31))
    assert model.training
    assert not norm.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_failed_count_leaves_the_model_as_it_was_too() -> None:
    model = build("cp_resnet", 10).train()
    with pytest.raises(RecipeError, match=r"CPResNet can't take an input of shape \(1, 1, 4, 4\)"):
        official(model, (1, 1, 4, 4))
    assert model.training
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("shape", [(), (1, 0, 4), (1, 1.5)])
def test_wrong_shapes_are_sentences(shape: Any) -> None:
    with pytest.raises(RecipeError, match="must hold positive sizes"):
        official(nn.ReLU(), shape)


def test_precision_of_the_model_does_not_change_the_count() -> None:
    model = build("cp_mobile", 10, base_channels=8)
    assert official(model.double(), (1, 1, 256, 64)) == official(model.bfloat16(), (1, 1, 256, 64))


def test_count_as_text_json_and_table() -> None:
    counted = official(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 1, 5, 5))
    assert repr(counted) == "Count(20 parameters, 180 MACs at input (1, 1, 5, 5))"
    assert json.loads(json.dumps(counted.to_json())) == counted.to_json()
    assert counted.to_markdown().splitlines()[2:] == [
        "| 0 | Conv2d | 1 × 2 × 3 × 3 | 20 | 180 |",
        "| **total** | | | **20** | **180** |",
    ]

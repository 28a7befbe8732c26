"""The true counter: published counts, agreement with torch's own counter, rows, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from edgeaudio.complexity.official import official
from edgeaudio.complexity.true import true
from edgeaudio.errors import RecipeError
from edgeaudio.models import Model, build
from edgeaudio.recipes import load_recipe

BASELINE = load_recipe("dcase2024_baseline").model.options


def hollow(name: str, classes: int, **options: Any) -> Model:
    """A model whose weights were never drawn, which takes seconds for the large ones."""
    with torch.device("meta"):
        model = build(name, classes, **options)
    return model.to_empty(device="cpu")


# model, classes, options, input, true MACs, official MACs
ANCHORS: list[tuple[str, int, dict[str, Any], tuple[int, ...], int, int]] = [
    ("cp_mobile", 10, BASELINE, (1, 1, 256, 65), 29_416_448, 29_419_156),
    ("mobileast", 10, {}, (1, 1, 256, 64), 40_216_688, 23_506_976),
    ("passt", 10, {"input_frames": 100}, (1, 1, 128, 100), 9_587_080_704, 106_381_834),
    ("mobilenet", 527, {"width": 0.4}, (1, 1, 128, 1000), 110_643_072, 110_656_007),
    ("dymn", 527, {"width": 0.4}, (1, 1, 128, 1000), 117_432_704, 12_177_935),
    ("cnn14", 527, {}, (1, 1, 64, 1001), 20_041_926_656, 20_041_945_487),
]


@pytest.mark.parametrize(("name", "classes", "options", "shape", "macs", "official_macs"), ANCHORS)
def test_anchors(
    name: str, classes: int, options: dict[str, Any], shape: tuple[int, ...], macs: int, official_macs: int
) -> None:
    model = hollow(name, classes, **options)
    counted = true(model, shape)
    assert (counted.macs, counted.uncounted) == (macs, ())
    assert official(model, shape).macs == official_macs
    assert counted.params == sum(parameter.numel() for parameter in model.parameters())


ZOO: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("acdnet", {"input_samples": 4100, "sample_rate": 4000}, (2, 1, 1, 4100)),
    ("bc_resnet", {}, (2, 1, 40, 101)),
    ("cnn6", {}, (1, 1, 64, 100)),
    ("cp_mobile", {"base_channels": 8}, (2, 1, 256, 64)),
    ("cp_resnet", {}, (1, 1, 256, 44)),
    ("daf_cnn", {}, (1, 1, 128, 51)),
    ("dymn", {"width": 0.1}, (2, 1, 128, 100)),
    ("mobilenet", {"width": 0.1}, (2, 1, 128, 100)),
    ("yamnet", {}, (1, 1, 64, 96)),
]


def flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """What torch's counter sees in a real pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(shape))
    return int(counter.get_total_flops())


@pytest.mark.parametrize(("name", "options", "shape"), ZOO)
def test_agrees_with_torch_where_torch_is_right(
    name: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    model = build(name, 10, **options)
    counted = true(model, shape)
    assert (2 * counted.macs, counted.uncounted) == (flops(model, shape), ())


class Dynamic(nn.Module):
    """A convolution whose kernel is mixed from several, by what the input says, for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Linear(4, 2)
        self.kernels = nn.Parameter(torch.ones(2, 8 * 4 * 9))

    def forward(self, x: Tensor) -> Tensor:
        B, C, *size = x.shape
        kernel = self.attention(x.mean((2, 3))).softmax(1) @ self.kernels
        x = F.conv2d(x.reshape(1, B * C, *size), kernel.view(B * 8, 4, 3, 3), padding=1, groups=B)
        return x.view(B, 8, *size)


def test_dynamic_convolution() -> None:
    counted = true(nn.Sequential(Dynamic(), nn.Identity()), (3, 4, 5, 6))
    mix, convolve = 3 * 2 * 288, 3 * 8 * 30 * 36
    assert [(layer.name, layer.kind, layer.params, layer.macs) for layer in counted.layers] == [
        ("0.attention", "addmm", 10, 3 * 8),
        ("0", "mm", 576, mix),
        ("0", "convolution", 0, convolve),
    ]
    assert official(nn.Sequential(Dynamic(), nn.Identity()), (3, 4, 5, 6)).macs == 3 * 10


class Shared(nn.Module):
    """One layer called three times, one that idles, and one parameter that two modules hold."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.idle = nn.Linear(4, 9)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.shared.weight
        self.norm = nn.LayerNorm(4).half()

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.shared(x))
        answer: Tensor = self.norm(self.tied(self.shared(x[:1])).half())
        return answer


def test_rows_of_shared_idle_and_tied_layers() -> None:
    counted = true(Shared(), (3, 4))
    rows = [(layer.name, layer.kind, layer.params, layer.macs, layer.bytes) for layer in counted.layers]
    assert rows == [
        ("shared", "addmm", 20, 2 * 3 * 16, 80),
        ("shared", "addmm", 0, 16, 0),
        ("tied", "mm", 0, 16, 0),
        ("norm", "LayerNorm", 8, 0, 16),
        ("idle", "Linear", 45, 0, 180),
    ]
    assert (counted.params, counted.stored_bytes) == (73, 276)
    assert counted.layers[1].output_shape == (1, 4)


def test_rows_add_up_and_the_batch_multiplies() -> None:
    model = build("mobileast", 10)
    one, three = true(model, (1, 1, 256, 64)), true(model, (3, 1, 256, 64))
    assert three.macs == 3 * one.macs
    assert sum(layer.macs for layer in one.layers) == one.macs
    assert sum(layer.params for layer in one.layers) == one.params
    assert sum(layer.bytes or 0 for layer in one.layers) == one.stored_bytes == 4 * one.params
    assert one.buffers == sum(buffer.numel() for buffer in model.buffers()) > 0


def test_zeros_and_precisions() -> None:
    first = nn.Linear(4, 5)
    first.weight.data[:2] = 0
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(5, 3)).bfloat16()
    counted = true(model, (1, 4))
    assert (counted.stored_bytes, counted.params - (counted.nonzero or 0), counted.macs) == (86, 8, 35)


class Picky(nn.Module):
    """What runs depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        nn.init.ones_(self.layer.bias)
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        self.seen.append(x.sum().item())
        answer: Tensor = self.layer(x[x > 0].view(-1, 4))
        return answer


def test_products_are_left_out_unless_values_decide() -> None:
    model = Picky()
    assert true(model, (1, 4)).macs == 16  # nothing is positive: the second product is empty
    assert model.seen == [0.0]


class Strict(Picky):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        if not len(x):
            raise RuntimeError("nothing is positive")
        return x


def test_falls_back_on_a_real_pass() -> None:
    model = Strict()
    assert true(model, (1, 4)).macs == 2 * 16
    assert model.seen == [0.0, 4.0]
    assert official(model, (1, 4)).macs == 2 * 20


@pytest.mark.parametrize("count", [true, official])
def test_what_does_not_fit_is_a_sentence(count: Callable[[nn.Module, tuple[int, ...]], Any]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)).train()
    for shape, reason in [((1, 1, 2, 2), "Kernel size"), ((1, 2, 4, 4), "channels"), ((1, 1, 9, 9), "mat1")]:
        with pytest.raises(RecipeError, match=rf"Sequential can't take an input of shape .*{reason}"):
            count(model, shape)
    with pytest.raises(RecipeError, match="must hold positive sizes"):
        count(model, (1, 0))
    assert model.training
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(build("cp_resnet", 10), nn.TransformerEncoderLayer(10, 2, 16)).train()
    model[0].get_submodule("stage1.block1.bn1").eval()
    flags = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    true(model, (1, 1, 64, 31))
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_scripted_parts_count_for_their_caller() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))
    counted = true(nn.Sequential(scripted, nn.Conv2d(4, 2, 1)), (2, 1, 5, 5))
    assert (counted.macs, counted.params) == (2 * 4 * 9 * 9 + 2 * 9 * 8, 50)
    assert counted.layers[0].name == ""


TIMES = """
import json, time
from edgeaudio.complexity.official import official
from edgeaudio.complexity.true import true
from edgeaudio.models import build
from edgeaudio.recipes import load_recipe
times = {}
for name, model, shape in (
    ("baseline", build("cp_mobile", 10, **load_recipe("dcase2024_baseline").model.options), (1, 1, 256, 65)),
    ("cnn14", build("cnn14", 527), (1, 1, 64, 1001)),
):
    for count in (true, official):
        start = time.process_time()
        count(model, shape)
        times[f"{count.__name__} {name}"] = time.process_time() - start
print(json.dumps(times))
"""


def test_counting_is_quick_from_the_first_call() -> None:
    """Seconds of work, in a fresh process; the clock on the wall would also time the neighbours."""
    done = subprocess.run(
        [sys.executable, "-c", TIMES], capture_output=True, text=True, timeout=300, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    times = json.loads(done.stdout)
    assert max(times["true baseline"], times["official baseline"]) < 0.3, times
    assert max(times["true cnn14"], times["official cnn14"]) < 1, times

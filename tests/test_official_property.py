"""The official counter against the library that it reproduces, on random networks and on odd ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from edgeaudio.complexity.official import official
from edgeaudio.models import build

torchinfo = pytest.importorskip("torchinfo", reason="torchinfo isn't installed; pip install torchinfo==1.8.0")
if torchinfo.__version__ != "1.8.0":
    pytest.skip(
        f"torchinfo is {torchinfo.__version__}; the rules are those of 1.8.0", allow_module_level=True
    )

CHANNELS = (2, 4, 6, 12)


class Residual(nn.Module):
    """A branch around what keeps the shape."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = x + self.body(x)
        return answer


class Again(nn.Module):
    """Modules in a list, called in turns; the first is in it twice."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.steps = nn.ModuleList([*modules, modules[0]])

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            for step in self.steps:
                x = step(x)
        return x


class Recurrent(nn.Module):
    """A recurrent layer of which only the sequence goes on, and a scale that no layer holds."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layer(x)[0]
        return answer * self.scale[0]


class Tokens(nn.Module):
    """`(batch, channels, *positions)` → `(batch, positions, channels)`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Draw:
    """Draws networks, block by block."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.axes = self.rng.choice((1, 2))

    def network(self) -> tuple[nn.Module, tuple[int, ...]]:
        """A network and the shape of its input."""
        channels = self.rng.choice(CHANNELS)
        shape = (self.rng.randint(1, 3), channels, *(self.rng.randint(9, 14) for _ in range(self.axes)))
        blocks: list[nn.Module] = []
        for _ in range(self.rng.randint(2, 5)):
            block, channels = self.block(channels)
            blocks.append(block)
        blocks.append(Tokens())
        for _ in range(self.rng.randint(1, 3)):
            block, channels = self.token_block(channels)
            blocks.append(block)
        return nn.Sequential(*blocks), shape

    def block(self, channels: int, depth: int = 0) -> tuple[nn.Module, int]:
        """A layer, or several, over channels and positions, and the channels after it."""
        kind = self.rng.randrange(4 if depth < 2 else 2)
        if kind == 0:
            outputs = self.rng.choice(CHANNELS)
            return self.convolution(channels, outputs, stride=self.rng.choice((1, 1, 2))), outputs
        if kind == 1:
            return self.same_shape(channels), channels
        if kind == 2:
            wrap = self.rng.choice((Again, lambda *inner: Residual(nn.Sequential(*inner))))
            return wrap(self.same_shape(channels), self.same_shape(channels)), channels
        first, between = self.block(channels, depth + 1)
        second, outputs = self.block(between, depth + 1)
        return nn.Sequential(first, second), outputs

    def same_shape(self, channels: int) -> nn.Module:
        """A layer that keeps channels and positions."""
        norm = (nn.BatchNorm1d, nn.BatchNorm2d)[self.axes - 1]
        choices: list[Callable[[], nn.Module]] = [
            lambda: self.convolution(channels, channels),
            lambda: norm(channels, affine=self.rng.random() < 0.8),
            lambda: nn.GroupNorm(2, channels),
            lambda: nn.PReLU(self.rng.choice((1, channels))),
            nn.ReLU,
        ]
        return self.rng.choice(choices)()

    def convolution(self, channels: int, outputs: int, stride: int = 1) -> nn.Module:
        """A convolution that keeps the positions but for its stride, with groups or bias or neither."""
        groups = self.rng.choice([g for g in range(1, channels + 1) if not channels % g and not outputs % g])
        kernel, dilation = self.rng.choice((1, 3)), self.rng.choice((1, 2))
        return (nn.Conv1d, nn.Conv2d)[self.axes - 1](
            channels, outputs, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation,
            groups=groups, bias=self.rng.random() < 0.5,
        )  # fmt: skip

    def token_block(self, width: int) -> tuple[nn.Module, int]:
        """A layer over tokens, and their width after it."""
        outputs, kind = self.rng.choice(CHANNELS), self.rng.randrange(3)
        if kind == 0:
            return nn.Sequential(nn.Linear(width, outputs, bias=self.rng.random() < 0.5), nn.ReLU()), outputs
        if kind == 1:
            return nn.LayerNorm(width), width
        both, layers = self.rng.random() < 0.5, self.rng.randint(1, 2)
        layer = self.rng.choice((nn.LSTM, nn.GRU))
        bias, batch_first = self.rng.random() < 0.5, self.rng.random() < 0.5
        return Recurrent(layer(width, outputs, layers, bias, batch_first, 0.0, both)), outputs * (1 + both)


def assert_the_same(model: nn.Module, shape: tuple[int, ...]) -> None:
    expected = torchinfo.summary(model, input_size=shape, verbose=0)
    counted = official(model, shape)
    assert counted.macs == expected.total_mult_adds
    assert counted.params == expected.total_params


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    assert_the_same(*Draw(seed).network())


def test_the_draws_hold_every_kind_of_layer() -> None:
    drawn = {type(module) for seed in range(40) for module in Draw(seed).network()[0].modules()}
    assert drawn >= {
        nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.PReLU, nn.Linear, nn.LayerNorm,
        nn.LSTM, nn.GRU, nn.ModuleList, Residual, Again,
    }  # fmt: skip


class Answers(nn.Module):
    """A convolution that answers with something around its tensor."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2, 3))
        self.bias = nn.Parameter(torch.ones(4))
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(nn.functional.conv1d(x, self.weight, self.bias))


class ConvAnswers(Answers):
    """The same, named like a convolution."""


ANSWERS: list[Callable[[Tensor], Any]] = [
    lambda x: x,
    lambda x: (x, x[:1]),
    lambda x: [x[:, :, :3], x],
    lambda x: ((x[..., :2], x), x),
    lambda x: {"first": x[:1], "last": x[..., :5]},
    lambda x: {"first": x[:1], "last": {"a": x[..., :5], "b": x[..., :4]}},
    lambda x: [{"a": x[..., :5], "b": x[..., :4]}, x],
]


@pytest.mark.parametrize("wrap", ANSWERS)
@pytest.mark.parametrize("layer", [Answers, ConvAnswers])
def test_answers_in_all_shapes(layer: type[Answers], wrap: Callable[[Tensor], Any]) -> None:
    assert_the_same(layer(wrap), (3, 2, 9))


class Packed(nn.Module):
    """A recurrent layer over clips of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.arange(x.shape[0], 0, -1)
        sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        answer: Tensor = self.lstm(sequence)[0].data
        return answer


class Roomy(nn.Linear):
    """A layer with an empty list of modules, which leaves it a layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.extras = nn.ModuleList()


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(28, 3))
    prune.l1_unstructured(model[0], "weight", amount=0.5)  # type: ignore[no-untyped-call]
    prune.l1_unstructured(model[2], "bias", amount=1)  # type: ignore[no-untyped-call]
    return model


ODD: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (Packed, (3, 7, 4)),
    (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (3, 7, 8)),
    (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), (3, 7, 8)),
    (lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv1d(2, 4, 3)), nn.ReLU()), (3, 2, 9)),
    (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv1d(2, 4, 3)), nn.ReLU()), (3, 2, 9)),
    (lambda: nn.Sequential(nn.ConvTranspose1d(2, 4, 3, 2), nn.InstanceNorm1d(4, affine=True)), (3, 2, 9)),
    (lambda: nn.Sequential(nn.Sequential(), Roomy(2, 3)), (3, 2)),
    (lambda: nn.RNN(4, 5), (3, 7, 4)),
    (lambda: nn.GRUCell(4, 5), (3, 4)),
    (nn.ReLU, (3, 4)),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "shape"), ODD)
def test_odd_networks(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    assert_the_same(make(), shape)


@pytest.mark.filterwarnings("ignore")
def test_what_is_pruned_or_scripted_costs_nothing() -> None:
    for model, shape in [
        (pruned(), (3, 2, 9)),
        (nn.Sequential(torch.jit.script(nn.Conv1d(2, 4, 3)), nn.Conv1d(4, 2, 1)), (3, 2, 9)),
    ]:
        expected = torchinfo.summary(model, input_size=shape, verbose=0)
        assert official(model, shape).macs == expected.total_mult_adds
        # the challenge's size is that of all parameters, whatever the library makes of these two
        assert official(model, shape).params == sum(parameter.numel() for parameter in model.parameters())


MODELS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("bc_resnet", {}, (2, 1, 40, 51)),
    ("cp_mobile", {"base_channels": 8}, (1, 1, 256, 64)),
    ("dymn", {"width": 0.1}, (1, 1, 128, 100)),
    ("mobileast", {}, (1, 1, 256, 64)),
    ("mobilenet", {"width": 0.1}, (2, 1, 128, 100)),
    ("passt", {"embed_dim": 48, "heads": 3, "depth": 2}, (1, 1, 128, 100)),
]


@pytest.mark.parametrize(("name", "options", "shape"), MODELS)
def test_architectures(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    assert_the_same(build(name, 10, **options), shape)

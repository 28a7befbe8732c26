"""EfficientAT's dynamic MobileNet (dymn): its filters, ReLUs and attention adapt to each input.

Each block squeezes its input into a context: one vector, and a sequence along each axis. The vector mixes
the kernels of the dynamic convolutions and shapes the dynamic ReLU, the sequences weigh frequencies and
times (coordinate attention).

Source: Schmid et al., "Dynamic Convolutional Neural Networks as Efficient Pre-Trained Audio Models",
TASLP 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgeaudio.models.layers import Model, counts, global_average, initialise, make_divisible

# kernel, inner and outer channels at width 1, of MobileNetV3-Large
ROWS = (
    (3, 16, 16), (3, 64, 24), (3, 72, 24), (5, 72, 40), (5, 120, 40), (5, 120, 40), (3, 240, 80),
    (3, 200, 80), (3, 184, 80), (3, 184, 80), (3, 480, 112), (3, 672, 112), (5, 672, 160), (5, 960, 160),
    (5, 960, 160),
)  # fmt: skip
STRIDED = (1, 3, 6, 12)  # rows whose stride is an option
HARD_FROM = 6  # Hardswish from this row on, ReLU before
HAD_SE = (3, 4, 5, 10, 11, 12, 13, 14)  # rows with squeeze-and-excitation in MobileNetV3

Widths = tuple[int, int, int]
"""Channels that enter a block, inside, and that leave it."""
Context = tuple[Tensor, Tensor, Tensor]
"""Vector `(batch, H)`, frequencies `(batch, channels, F, 1)` and times `(batch, channels, 1, T)`."""


class Dynamics(NamedTuple):
    """How much is dynamic in a block; see the options of `DyMN`."""

    context: tuple[int, int, int]
    """Inner channels per context feature, then the least and the most context features."""
    kernels: int
    mappings: int
    temperature: float


class DyMN(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    The published dymn04, dymn10 and dymn20 are ``width`` 0.4, 1.0 and 2.0; module names are those of
    their checkpoints.
    """

    head = ("classifier.5.",)
    first_weights = ("in_c.0.weight",)

    def __init__(
        self,
        classes: int,
        *,
        width: float = 1.0,
        strides: Sequence[int] = (2, 2, 2, 2),
        blocks: str = "all",
        context_ratio: int = 4,
        min_context: int = 32,
        max_context: int = 128,
        kernels: int = 4,
        mappings: int = 2,
        temperature: float = 1.0,
        dropout: float = 0.2,
        in_channels: int = 1,
    ) -> None:
        """Build the network; the defaults are dymn10.

        Args:
            classes: number of logits.
            width: factor on the number of channels of every layer, each rounded to a multiple of 8.
            strides: 1 or 2 for rows 2, 4, 7 and 13, which are strided by 2 as published.
            blocks: ``all`` blocks are dynamic, or ``replace_se``: those where MobileNetV3 has
                squeeze-and-excitation.
            context_ratio: inner channels of a block per feature of its context.
            min_context: least features of a context at width 1.
            max_context: most features of a context at width 1.
            kernels: kernels that a dynamic convolution mixes.
            mappings: lines of which a dynamic ReLU takes the largest.
            temperature: of the softmax over kernels. Published checkpoints want 1; the published training
                begins at 30 and cools down to 1 over 30 epochs. No checkpoint stores it.
            dropout: probability before the last layer.
            in_channels: channels of the log-mel.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        _check(
            blocks, dropout, min_context, max_context, width=width, context_ratio=context_ratio,
            kernels=kernels, mappings=mappings, temperature=temperature, in_channels=in_channels,
        )  # fmt: skip
        steps = dict(zip(STRIDED, _strides(strides), strict=True))

        def channels(at_width_1: int) -> int:
            return make_divisible(at_width_1 * width)

        context = (context_ratio, channels(min_context), channels(max_context))
        dynamics = Dynamics(context, kernels, mappings, temperature)
        outputs = channels(16)
        self.in_c = _conv(in_channels, outputs, 3, nn.Hardswish(), stride=2)
        self.layers = nn.ModuleList()
        for number, (kernel, inner, outer) in enumerate(ROWS):
            inputs, outputs = outputs, channels(outer)
            activation = nn.Hardswish if number >= HARD_FROM else nn.ReLU
            block = ((inputs, channels(inner), outputs), kernel, steps.get(number, 1), activation)
            dynamic = blocks == "all" or number in HAD_SE
            self.layers.append(DynamicBlock(*block, dynamics) if dynamic else Block(*block))
        self.out_c = _conv(outputs, 6 * outputs, 1, nn.Hardswish())
        hidden = channels(1280)
        score = (nn.Hardswish(), nn.Dropout(dropout), nn.Linear(hidden, classes))
        average = (nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.classifier = nn.Sequential(*average, nn.Linear(6 * outputs, hidden), *score)
        _initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, frequency, time)`."""
        x = self.in_c(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.out_c(x)
        return out

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean feature map `(batch, features)`."""
        return global_average(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


class Block(nn.Module):
    """Ordinary inverted residual: widen 1×1, filter each channel, narrow 1×1, add the input."""

    def __init__(self, widths: Widths, kernel: int, stride: int, activation: type[nn.Module]) -> None:
        super().__init__()
        inputs, inner, outputs = widths
        self.residual = stride == 1 and inputs == outputs
        widen = [_conv(inputs, inner, 1, activation())] if inner != inputs else []
        filters = _conv(inner, inner, kernel, activation(), stride=stride, groups=inner)
        self.block = nn.Sequential(*widen, filters, _conv(inner, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency, time)`, each axis strided."""
        y: Tensor = self.block(x)
        return y + x if self.residual else y


class DynamicBlock(nn.Module):
    """Inverted residual whose convolutions and second activation depend on the context of its input."""

    def __init__(
        self, widths: Widths, kernel: int, stride: int, activation: type[nn.Module], dynamics: Dynamics
    ) -> None:
        super().__init__()
        inputs, inner, outputs = widths
        ratio, least, most = dynamics.context
        context = min(max(make_divisible(inner // ratio), least), most)
        self.residual = stride == 1 and inputs == outputs
        self.widened = inner != inputs
        if self.widened:
            self.exp_conv = DynamicConv(inputs, inner, 1, 1, 1, context, dynamics)
            self.exp_norm = _norm(inner)
            self.exp_act = activation()
        self.depth_conv = DynamicConv(inner, inner, kernel, stride, inner, context, dynamics)
        self.depth_norm = _norm(inner)
        self.depth_act = DynamicReLU(inner, context, dynamics.mappings)
        self.proj_conv = DynamicConv(inner, outputs, 1, 1, 1, context, dynamics)
        self.proj_norm = _norm(outputs)
        self.context_gen = ContextGenerator(inputs, context, inner, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency, time)`, each axis strided."""
        vector, frequencies, times = self.context_gen(x)
        y = self.exp_act(self.exp_norm(self.exp_conv(x, vector))) if self.widened else x
        y = self.depth_act(self.depth_norm(self.depth_conv(y, vector)), vector)
        y = y * frequencies.sigmoid() * times.sigmoid()  # coordinate attention
        y = self.proj_norm(self.proj_conv(y, vector))
        out: Tensor = y + x if self.residual else y
        return out


class ContextGenerator(nn.Module):
    """What a block needs to know about its input: see `Context`."""

    def __init__(self, inputs: int, context: int, inner: int, stride: int) -> None:
        super().__init__()
        self.joint_conv = nn.Conv2d(inputs, context, 1, bias=False)
        self.joint_norm = _norm(context)
        self.joint_act = nn.Hardswish()
        self.conv_f, self.conv_t = nn.Conv2d(context, inner, 1), nn.Conv2d(context, inner, 1)
        # the sequences shrink as the strided convolution shrinks the map
        strided = stride > 1
        self.pool_f = nn.AvgPool2d((3, 1), (stride, 1), (1, 0)) if strided else nn.Identity()
        self.pool_t = nn.AvgPool2d((1, 3), (1, stride), (0, 1)) if strided else nn.Identity()

    def forward(self, x: Tensor) -> Context:
        """`(batch, inputs, frequency, time)` → `Context`, with the block's inner channels."""
        both = torch.cat([x.mean(dim=3), x.mean(dim=2)], dim=2)[..., None]  # batch, inputs, F + T, 1
        both = self.joint_act(self.joint_norm(self.joint_conv(both)))
        along_frequency, along_time = both.split([x.shape[2], x.shape[3]], dim=2)
        frequencies = self.conv_f(self.pool_f(along_frequency))
        times = self.conv_t(self.pool_t(along_time.transpose(2, 3)))
        return global_average(both), frequencies, times


class DynamicConv(nn.Module):
    """A convolution without bias whose kernel is a mixture: ``W = Σ aᵢ Wᵢ``, a = softmax of the context.

    Each clip has its own kernel. A 1×1 one is a product of matrices, for all clips at once. A depthwise one
    takes the clips as groups of channels. That fixes the batch, so exported graphs have
    ``W ∗ x = Σ aᵢ (Wᵢ ∗ x)``, the same by linearity: several ordinary convolutions, but of the cheap sort.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int, groups: int, context: int, dynamics: Dynamics
    ) -> None:
        """`groups` is 1 where `side` is 1, else the number of channels."""
        super().__init__()
        self.shape = (dynamics.kernels, outputs, inputs // groups, side, side)
        self.stride, self.padding, self.temperature = stride, side // 2, dynamics.temperature
        self.residuals = nn.Sequential(nn.Linear(context, dynamics.kernels))
        self.weight = nn.Parameter(torch.empty(1, 1, dynamics.kernels, math.prod(self.shape[1:])))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (outputs * side**2)))  # he-normal over fan_out

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` and context `(batch, H)` → `(batch, outputs, …)`."""
        attention = (self.residuals(context) / self.temperature).softmax(dim=1)
        if self.shape[-1] == 1:
            B, _, F, T = x.shape  # batch, frequencies, times
            kernels = (attention @ self.weight[0, 0]).view(B, *self.shape[1:3])
            y: Tensor = kernels @ x.flatten(2)
            return y.view(B, -1, F, T)
        return self._sum(x, attention) if torch.compiler.is_compiling() else self._grouped(x, attention)

    def _grouped(self, x: Tensor, attention: Tensor) -> Tensor:
        """Depthwise: one convolution over batch · channels groups."""
        B, C = x.shape[:2]  # batch, channels
        kernels = (attention @ self.weight[0, 0]).view(B * C, *self.shape[2:])
        y = nn.functional.conv2d(
            x.flatten(0, 1)[None], kernels, None, self.stride, self.padding, groups=B * C
        )
        return y.view(B, C, *y.shape[2:])

    def _sum(self, x: Tensor, attention: Tensor) -> Tensor:
        """Depthwise: one convolution for each kernel of the mixture."""
        shares = attention[:, :, None, None, None].unbind(1)
        parts = [
            share * nn.functional.conv2d(x, kernel, None, self.stride, self.padding, groups=x.shape[1])
            for share, kernel in zip(shares, self.weight.view(self.shape), strict=True)
        ]
        out: Tensor = reduce(torch.add, parts)
        return out


class DynamicReLU(nn.Module):
    """The largest of several lines, whose slopes and offsets each channel draws from the context.

    With coefficients at zero it is the ReLU of the first line, ``max(x, 0)``.

    Source: Chen et al., "Dynamic ReLU", ECCV 2020, type B.
    """

    lambdas: Tensor
    init_v: Tensor

    def __init__(self, channels: int, context: int, mappings: int) -> None:
        super().__init__()
        self.coef_net = nn.Sequential(nn.Linear(context, 2 * mappings * channels))
        self.register_buffer("lambdas", torch.tensor([1.0] * mappings + [0.5] * mappings))
        self.register_buffer("init_v", torch.tensor([1.0] + [0.0] * (2 * mappings - 1)))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` and context `(batch, H)` → the shape of the first."""
        theta = 2 * self.coef_net(context).sigmoid() - 1
        lines = theta.view(*x.shape[:2], 1, 1, -1) * self.lambdas + self.init_v
        slopes, offsets = lines.chunk(2, dim=-1)
        pairs = zip(slopes.unbind(-1), offsets.unbind(-1), strict=True)
        out: Tensor = reduce(torch.maximum, [x * slope + offset for slope, offset in pairs])
        return out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _conv(
    inputs: int, outputs: int, side: int, *after: nn.Module, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution (``0``), batch norm (``1``) and what comes after (``2``)."""
    conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(conv, _norm(outputs), *after)


def _initialise(model: nn.Module) -> None:
    initialise(model, "fan_out")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def _strides(strides: Sequence[int]) -> tuple[int, ...]:
    strides = counts(strides, "strides")
    if len(strides) != len(STRIDED) or max(strides) > 2:
        raise ValueError(f"strides is {list(strides)}; write {len(STRIDED)} numbers, each 1 or 2")
    return strides


def _check(blocks: str, dropout: float, least: int, most: int, **positive: float) -> None:
    for name, value in positive.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}; it must be positive")
    if blocks not in ("all", "replace_se"):
        raise ValueError(f"blocks is {blocks!r}; it must be one of all, replace_se")
    if not 0 < least <= most:
        raise ValueError(
            f"min_context is {least} and max_context {most}; write 0 < min_context <= max_context"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; it must be at least 0 and below 1")

"""EfficientAT's MobileNetV3 for audio (mn): inverted residuals with squeeze-and-excitation, of any width.

Source: Schmid et al., "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation",
ICASSP 2023; after Howard et al., "Searching for MobileNetV3", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgeaudio.models.layers import Model, counts, global_average, initialise, make_divisible, pair

HEADS = ("mlp", "fully_convolutional", "multihead_attention_pooling")
FUSIONS = ("max", "avg", "add", "min")
DIMS = {"c": 1, "f": 2, "t": 3}  # letter of squeeze-and-excitation → axis that it weighs
STRIDED = 4  # rows whose stride is an option

Widths = tuple[int, int, int]
"""Channels that enter a block, inside, and that leave it."""


class Row(NamedTuple):
    """One inverted residual of MobileNetV3-Large at width 1."""

    inputs: int
    kernel: int
    inner: int
    outputs: int
    se: bool
    hard: bool  # Hardswish, else ReLU
    strided: bool = False
    tail: bool = False  # one of those that `dilated` dilates


ROWS = (
    Row(16, 3, 16, 16, False, False),
    Row(16, 3, 64, 24, False, False, strided=True),
    Row(24, 3, 72, 24, False, False),
    Row(24, 5, 72, 40, True, False, strided=True),
    Row(40, 5, 120, 40, True, False),
    Row(40, 5, 120, 40, True, False),
    Row(40, 3, 240, 80, False, True, strided=True),
    Row(80, 3, 200, 80, False, True),
    Row(80, 3, 184, 80, False, True),
    Row(80, 3, 184, 80, False, True),
    Row(80, 3, 480, 112, True, True),
    Row(112, 3, 672, 112, True, True),
    Row(112, 5, 672, 160, True, True, strided=True, tail=True),
    Row(160, 5, 960, 160, True, True, tail=True),
    Row(160, 5, 960, 160, True, True, tail=True),
)


class Squeeze(NamedTuple):
    """How blocks with squeeze-and-excitation weigh their input: `se_dims`, `se_agg` and `se_r`."""

    dims: str
    fusion: str
    reduction: int


class MobileNet(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    The published mn04, mn10, … are ``width`` 0.4, 1.0, …; module names are those of their checkpoints.
    """

    head = ("classifier.5.", "classifier.0.", "classifier.1.", "classifier.subspace_proj.")
    first_weights = ("features.0.0.weight",)

    def __init__(
        self,
        classes: int,
        *,
        width: float = 1.0,
        strides: Sequence[int] = (2, 2, 2, 2),
        reduced_tail: bool = False,
        dilated: bool = False,
        head_type: str = "mlp",
        attention_heads: int = 4,
        se_dims: str = "c",
        se_agg: str = "max",
        se_r: int = 4,
        input_size: Sequence[int] = (128, 1000),
        dropout: float = 0.2,
        in_channels: int = 1,
    ) -> None:
        """Build the network; the defaults are mn10.

        Args:
            classes: number of logits.
            width: factor on the number of channels of every layer, each rounded to a multiple of 8.
            strides: 1 or 2 for rows 2, 4, 7 and 13, which are strided by 2 as published.
            reduced_tail: half as many channels in the last three rows and the classifier.
            dilated: dilation 2 in the last three rows, and no stride there.
            head_type: ``mlp`` averages and scores; ``fully_convolutional`` scores, then averages;
                ``multihead_attention_pooling`` scores each frame and averages by attention.
            attention_heads: heads of the attention pooling.
            se_dims: what squeeze-and-excitation weighs: any of ``c`` channels, ``f`` frequencies and ``t``
                frames, or ``none``. With ``f`` or ``t`` the input size is fixed.
            se_agg: how several of them are fused: ``max``, ``avg``, ``add`` or ``min``.
            se_r: reduction inside squeeze-and-excitation.
            input_size: [mels, frames] of the log-mel; only ``f`` and ``t`` in `se_dims` need it.
            dropout: probability before the last layer of the ``mlp`` head.
            in_channels: channels of the log-mel.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        _check(width, head_type, attention_heads, se_r, dropout, in_channels)
        steps = list(_strides(strides))
        se = _squeeze_options(se_dims, se_agg, se_r)

        def channels(at_width_1: int) -> int:
            return make_divisible(at_width_1 * width)

        tail = {960: 480, 160: 80, 1280: 640} if reduced_tail else {}  # widths that occur nowhere else
        size = tuple((n + 1) // 2 for n in pair(input_size, "input_size"))  # after the first convolution
        outputs = channels(ROWS[0].inputs)
        layers: list[nn.Module] = [_conv(in_channels, outputs, 3, nn.Hardswish(), stride=2)]
        for row in ROWS:
            inputs, inner = outputs, channels(tail.get(row.inner, row.inner))
            outputs = channels(tail.get(row.outputs, row.outputs))
            stride = steps.pop(0) if row.strided else 1
            dilation = 2 if dilated and row.tail else 1
            if dilation == 1:
                size = tuple((n - 1) // stride + 1 for n in size)
            layers.append(Block(row, (inputs, inner, outputs), stride, dilation, se, size))
        layers.append(_conv(outputs, 6 * outputs, 1, nn.Hardswish()))
        self.features = nn.Sequential(*layers)  # log-mel → feature map (batch, channels, frequency, time)
        hidden = channels(tail.get(1280, 1280))
        self.classifier = _head(head_type, 6 * outputs, hidden, classes, attention_heads, dropout)
        _initialise(self)

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean feature map `(batch, features)`."""
        return global_average(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        scores: Tensor = self.classifier(self.features(x))
        return scores.flatten(1)


class Block(nn.Module):
    """Inverted residual: widen 1×1, filter each channel, squeeze-and-excite, narrow 1×1, add the input."""

    def __init__(
        self,
        row: Row,
        channels: Widths,
        stride: int,
        dilation: int,
        se: Squeeze | None,
        size: tuple[int, ...],
    ) -> None:
        """`size` is (frequency, time) after the stride."""
        super().__init__()
        inputs, inner, outputs = channels
        self.residual = stride == 1 and inputs == outputs
        activation = nn.Hardswish if row.hard else nn.ReLU
        step = {"stride": 1 if dilation > 1 else stride, "dilation": dilation}
        layers: list[nn.Module] = []
        if inner != inputs:
            layers.append(_conv(inputs, inner, 1, activation()))
        layers.append(_conv(inner, inner, row.kernel, activation(), groups=inner, **step))
        if row.se and se is not None:
            layers.append(ConcurrentSE((inner, *size), se))
        layers.append(_conv(inner, outputs, 1))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency, time)`, each axis strided."""
        y: Tensor = self.block(x)
        return y + x if self.residual else y


class ConcurrentSE(nn.Module):
    """Squeeze-and-excitation over one axis or several at once, fused into one map of the same shape."""

    def __init__(self, sizes: tuple[int, ...], options: Squeeze) -> None:
        super().__init__()
        self.fusion = options.fusion
        self.conc_se_layers = nn.ModuleList(
            SqueezeExcitation(sizes[DIMS[letter] - 1], options.reduction, DIMS[letter])
            for letter in options.dims
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape."""
        weighed = [layer(x) for layer in self.conc_se_layers]
        if self.fusion in ("max", "min"):
            extreme: Tensor = reduce(torch.maximum if self.fusion == "max" else torch.minimum, weighed)
            return extreme
        total: Tensor = reduce(torch.add, weighed)
        return total / len(weighed) if self.fusion == "avg" else total


class SqueezeExcitation(nn.Module):
    """Weighs one axis by what its own mean says: ``x · σ(fc2(relu(fc1(mean x))))``.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018.
    """

    def __init__(self, size: int, reduction: int, dim: int) -> None:
        """`dim` is the axis of the input that is weighed, `size` its length."""
        super().__init__()
        squeezed = make_divisible(size // reduction)
        self.others = tuple(d for d in (1, 2, 3) if d != dim)
        self.fc1 = nn.Linear(size, squeezed)
        self.fc2 = nn.Linear(squeezed, size)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape."""
        scale = self.fc2(self.fc1(x.mean(dim=self.others)).relu()).sigmoid()
        for dim in self.others:
            scale = scale.unsqueeze(dim)
        out: Tensor = x * scale
        return out


class AttentionPooling(nn.Module):
    """Each frame is scored and weighed, by several heads that are averaged with learned weights.

    Source: Gong et al., "PSLA", TASLP 2021.
    """

    def __init__(self, features: int, classes: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.subspace_proj = nn.Linear(features, classes * 2 * heads)
        self.head_weight = nn.Parameter(torch.full((1, heads, 1), 1 / heads))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, features, frequency, time)` → `(batch, classes)`."""
        frames = x.mean(dim=2).transpose(1, 2)
        both = self.subspace_proj(frames).unflatten(2, (2, self.heads, -1))  # batch, time, 2, heads, classes
        attention, scores = both[:, :, 0].sigmoid().clamp(1e-7, 1 - 1e-7), both[:, :, 1]
        pooled = (attention / attention.sum(dim=1, keepdim=True) * scores).sum(dim=1)
        out: Tensor = (pooled * self.head_weight).sum(dim=1)
        return out


def _conv(
    inputs: int,
    outputs: int,
    side: int,
    *after: nn.Module,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution (``0``), batch norm (``1``) with the published constants, what comes after (``2``)."""
    padding = side // 2 * dilation
    conv = nn.Conv2d(inputs, outputs, side, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01), *after)


def _head(kind: str, features: int, hidden: int, classes: int, heads: int, dropout: float) -> nn.Module:
    if kind == "multihead_attention_pooling":
        return AttentionPooling(features, classes, heads)
    if kind == "fully_convolutional":
        score = nn.Conv2d(features, classes, 1, bias=False)
        return nn.Sequential(score, nn.BatchNorm2d(classes), nn.AdaptiveAvgPool2d(1))
    mlp = (nn.Linear(features, hidden), nn.Hardswish(), nn.Dropout(dropout), nn.Linear(hidden, classes))
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), *mlp)


def _initialise(model: nn.Module) -> None:
    initialise(model, "fan_out")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def _squeeze_options(dims: str, fusion: str, reduction: int) -> Squeeze | None:
    if fusion not in FUSIONS:
        raise ValueError(f"se_agg is {fusion!r}; it must be one of {', '.join(FUSIONS)}")
    if dims == "none":
        return None
    if not dims or len(set(dims)) != len(dims) or not set(dims) <= set(DIMS):
        raise ValueError(f"se_dims is {dims!r}; write some of the letters c, f and t, each once, or 'none'")
    return Squeeze(dims, fusion, reduction)


def _strides(strides: Sequence[int]) -> tuple[int, ...]:
    strides = counts(strides, "strides")
    if len(strides) != STRIDED or max(strides) > 2:
        raise ValueError(f"strides is {list(strides)}; write {STRIDED} numbers, each 1 or 2")
    return strides


def _check(width: float, head: str, heads: int, reduction: int, dropout: float, in_channels: int) -> None:
    if width <= 0:
        raise ValueError(f"width is {width}; it must be positive")
    if head not in HEADS:
        raise ValueError(f"head_type is {head!r}; it must be one of {', '.join(HEADS)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; it must be at least 0 and below 1")
    for name, number in (("attention_heads", heads), ("se_r", reduction), ("in_channels", in_channels)):
        if number < 1:
            raise ValueError(f"{name} is {number}; it must be at least 1")

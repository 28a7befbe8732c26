"""CP-Mobile: inverted residuals with global response norm, regularised in their receptive field.

Source: Schmid et al., "Distilling the Knowledge of Transformers and CNNs with CP-Mobile", DCASE 2023
Workshop; without GRN and with other strides it is the DCASE 2024/25 Task 1 baseline network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from edgeaudio.models.layers import (
    GlobalResponseNorm,
    Model,
    conv_bn,
    counts,
    global_average,
    initialise,
    make_divisible,
    pair,
)

PUBLISHED_STRIDES = {"b2": (2, 2), "b4": (2, 1)}


class CPMobile(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    Two strided convolutions, then stages of inverted residuals, then a classifier that scores every
    position before it averages. Module names are those of the published checkpoints.
    """

    head = ("feed_forward.",)
    first_weights = ("in_c.0.0.weight",)

    def __init__(
        self,
        classes: int,
        *,
        base_channels: int = 32,
        channels_multiplier: float = 2.3,
        expansion_rate: float = 3.0,
        n_blocks: Sequence[int] = (3, 2, 1),
        strides: Mapping[str, Sequence[int]] | None = None,
        grn: bool = True,
        in_channels: int = 1,
    ) -> None:
        """Build the network; the defaults are CP-Mobile 32 / 2.3 / 3.0.

        Args:
            classes: number of logits.
            base_channels: width of the first stage; at least 4.
            channels_multiplier: stage i is about ``base_channels · channels_multiplier**i`` wide.
            expansion_rate: inner over outer width of a block.
            n_blocks: blocks in each stage.
            strides: (frequency, time) stride of single blocks, which are counted ``b1``, ``b2``, … over
                all stages; None is the published ``{"b2": (2, 2), "b4": (2, 1)}``.
            grn: whether global response norm closes each block.
            in_channels: channels of the log-mel.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        if base_channels < 4:
            raise ValueError(f"base_channels is {base_channels}; it must be at least 4")
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}; it must be at least 1")
        for name, value in (("channels_multiplier", channels_multiplier), ("expansion_rate", expansion_rate)):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        n_blocks = counts(n_blocks, "n_blocks")
        steps = _strides(PUBLISHED_STRIDES if strides is None else strides, sum(n_blocks))

        self.in_c = nn.Sequential(
            conv_bn(in_channels, base_channels // 4, 3, stride=2),
            conv_bn(base_channels // 4, base_channels, 3, stride=2),
        )
        self.stages = nn.Sequential()
        width, number = base_channels, 0
        for stage, blocks in enumerate(n_blocks):
            outputs = make_divisible(base_channels * channels_multiplier**stage)
            layers = nn.Sequential()
            for _ in range(blocks):
                number += 1
                step = steps.get(f"b{number}", (1, 1))
                layers.add_module(f"b{number}", Block(width, outputs, expansion_rate, step, grn))
                width = outputs
            self.stages.add_module(f"s{stage + 1}", layers)
        self.feed_forward = conv_bn(width, classes, 1, relu=False)
        initialise(self, "fan_out")

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, frequency, time)`."""
        features: Tensor = self.stages(self.in_c(x))
        return features

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean feature `(batch, channels)`."""
        return global_average(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        return global_average(self.feed_forward(self.features(x)))


class Block(nn.Module):
    """Inverted residual: widen 1×1, filter each channel 3×3, narrow 1×1, add, normalise, ReLU.

    The ReLU comes after the sum. The shortcut exists where the width stays; where the block is strided
    an average pool shrinks it, which costs no parameters.
    """

    def __init__(
        self, inputs: int, outputs: int, expansion_rate: float, stride: tuple[int, int], grn: bool
    ) -> None:
        super().__init__()
        inner = make_divisible(inputs * expansion_rate)
        self.residual = inputs == outputs
        self.after_block_norm = GlobalResponseNorm() if grn else nn.Identity()
        pooled = self.residual and stride != (1, 1)
        self.shortcut = nn.AvgPool2d(3, stride, padding=1) if pooled else nn.Identity()
        self.block = nn.Sequential(
            conv_bn(inputs, inner, 1),
            conv_bn(inner, inner, 3, stride=stride, groups=inner),
            conv_bn(inner, outputs, 1, relu=False),
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency, time)`, each axis strided."""
        y = self.block(x)
        if self.residual:
            y = y + self.shortcut(x)
        out: Tensor = self.relu(self.after_block_norm(y))
        return out


def _strides(strides: Mapping[str, Sequence[int]], blocks: int) -> dict[str, tuple[int, int]]:
    known = [f"b{i + 1}" for i in range(blocks)]
    if not isinstance(strides, Mapping):
        raise ValueError(f"strides is {strides!r}; write a table, e.g. {{ b2 = [2, 2], b4 = [2, 1] }}")
    for name in strides:
        if name not in known:
            raise ValueError(f"strides names block {name!r}, but n_blocks makes {known[0]} … {known[-1]}")
    return {name: pair(stride, f"strides.{name}") for name, stride in strides.items()}

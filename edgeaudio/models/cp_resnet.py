"""CP-ResNet: a residual network whose receptive field is set by one number, rho.

Source: Koutini et al., "Receptive Field Regularization Techniques for Audio Classification and Tagging
with Deep CNNs", TASLP 2021; the small grouped form is the CPJKU submission to DCASE 2022 Task 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from edgeaudio.models.layers import Model, conv_bn, counts, global_average, initialise

STAGES = 3
DEPTH = 2  # blocks that a stage can hold in the DCASE 2022/23 convention

Kernels = list[list[tuple[int, int]]]
"""For each stage, for each block: the sides of its two kernels."""


def kernels(rho: int) -> Kernels:
    """Kernels of all blocks in the DCASE 2022/23 convention, `DEPTH` blocks a stage.

    The first block is (3, 1). Walking on from there, front to back, kernel k (from 1) is 3×3 while
    k < rho and 1×1 after: each step of rho widens the receptive field by one convolution, until at rho 11
    all are wide. Shorter stages drop their last blocks without moving the others.

    (The DCASE 2019/20 convention has four blocks a stage and widens while k ≤ rho: the same rho is
    another network there.)
    """
    walk = [3 if k < rho else 1 for k in range(1, 2 * STAGES * DEPTH - 1)]
    sides = [3, 1, *walk]
    blocks = list(zip(sides[::2], sides[1::2], strict=True))
    return [blocks[stage * DEPTH : (stage + 1) * DEPTH] for stage in range(STAGES)]


class CPResNet(Model):
    """Log-mel `(batch, 1, mels, frames)` → logits `(batch, classes)`.

    A strided 5×5 convolution, three stages of residual blocks (pooling happens in the first), then a
    classifier that scores every position before it averages. Module names are those of the published
    checkpoints.
    """

    def __init__(
        self,
        classes: int,
        *,
        rho: int = 8,
        blocks: Sequence[int] = (2, 1, 1),
        base_channels: int = 32,
        cut_channels_s2: int = 0,
        cut_channels_s3: int = 36,
        stage1_groups: int = 1,
        stage2_groups: int = 2,
        stage3_groups: int = 1,
    ) -> None:
        """Build the network; the defaults are CP-ResNet 128K.

        Args:
            classes: number of logits.
            rho: receptive field, 0 or more; see `kernels`.
            blocks: blocks in each of the three stages, one or two.
            base_channels: width c of the first stage; the others have 2c and 4c channels less their cut.
            cut_channels_s2: channels taken from the second stage.
            cut_channels_s3: channels taken from the third stage.
            stage1_groups: groups of all convolutions in the first stage.
            stage2_groups: groups of all convolutions in the second stage.
            stage3_groups: groups of all convolutions in the third stage.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        blocks = counts(blocks, "blocks")
        if len(blocks) != STAGES or max(blocks) > DEPTH:
            raise ValueError(f"blocks is {list(blocks)}; write {STAGES} numbers from 1 to {DEPTH}")
        if rho < 0:
            raise ValueError(f"rho is {rho}; it must be 0 or more")
        widths = (base_channels, 2 * base_channels - cut_channels_s2, 4 * base_channels - cut_channels_s3)
        groups = (stage1_groups, stage2_groups, stage3_groups)
        _check_widths(widths, groups)

        self.in_c = conv_bn(1, widths[0], 5, stride=2, padding=1)
        inputs = widths[0]
        for i, (sides, width, group) in enumerate(zip(kernels(rho), widths, groups, strict=True)):
            stage = _stage(inputs, width, sides[: blocks[i]], group, pooled=i == 0)
            self.add_module(f"stage{i + 1}", stage)
            inputs = width
        self.feed_forward = conv_bn(inputs, classes, 1, relu=False)
        self._initialise()

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, 1, mels, frames)` → feature map `(batch, channels, frequency, time)`."""
        x = self.in_c(x)
        for i in range(STAGES):
            x = self.get_submodule(f"stage{i + 1}")(x)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, 1, mels, frames)` → mean feature before the classifier `(batch, channels)`."""
        return global_average(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, 1, mels, frames)` → logits `(batch, classes)`."""
        return global_average(self.feed_forward(self.features(x)))

    def _initialise(self) -> None:
        """Fixup: every residual branch starts at zero, so that depth does not amplify the signal.

        Source: Zhang et al., "Fixup Initialization", ICLR 2019, without its removal of batch norm.
        """
        initialise(self, "fan_in")
        for conv in self.feed_forward.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.zeros_(conv.weight)
        residuals = [module for module in self.modules() if isinstance(module, Block)]
        for block in residuals:
            _normal(block.conv1, gain=len(residuals) ** -0.5)
            nn.init.zeros_(block.conv2.weight)
            for conv in block.shortcut.modules():
                if isinstance(conv, nn.Conv2d):
                    _normal(conv, gain=1.0)


class Block(nn.Module):
    """Two convolutions with batch norm, the input added (through a 1×1 if the width changes), ReLU."""

    def __init__(self, inputs: int, outputs: int, sides: tuple[int, int], groups: int) -> None:
        super().__init__()
        first, second = sides
        self.conv1 = nn.Conv2d(inputs, outputs, first, padding=first // 2, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, second, padding=second // 2, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency, time)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
        return out


def _stage(
    inputs: int, outputs: int, sides: list[tuple[int, int]], groups: int, *, pooled: bool
) -> nn.Sequential:
    """Blocks in a row; the pooled stage halves both axes at its start and frequency after each block."""
    stage = nn.Sequential()
    if pooled:
        stage.add_module("maxpool0", nn.MaxPool2d((2, 2)))
    for number, pair in enumerate(sides, start=1):
        stage.add_module(f"block{number}", Block(inputs, outputs, pair, groups))
        if pooled:
            stage.add_module(f"maxpool{number}", nn.MaxPool2d((2, 1)))
        inputs = outputs
    return stage


def _normal(conv: nn.Conv2d, gain: float) -> None:
    """Normal weights with a deviation of gain·√(2/n), n the outputs times the kernel's area."""
    n = conv.out_channels * math.prod(conv.kernel_size)
    nn.init.normal_(conv.weight, std=gain * math.sqrt(2 / n))


def _check_widths(widths: tuple[int, ...], groups: tuple[int, ...]) -> None:
    inputs = widths[0]
    for stage, (width, group) in enumerate(zip(widths, groups, strict=True), start=1):
        if width < 1:
            raise ValueError(f"stage {stage} would have {width} channels; raise base_channels or cut fewer")
        if group < 1 or width % group or inputs % group:
            raise ValueError(
                f"stage{stage}_groups is {group}; it must divide the {inputs} channels that enter "
                f"stage {stage} and the {width} that leave it"
            )
        inputs = width

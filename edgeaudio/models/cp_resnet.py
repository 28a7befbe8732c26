"""CP-ResNet: a residual network whose receptive field is set by one number, rho.

Source: Koutini et al., "Receptive Field Regularization Techniques for Audio Classification and Tagging
with Deep CNNs", TASLP 2021; the small grouped form is the CPJKU submission to DCASE 2022 Task 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from edgeaudio.models.layers import Model, conv_bn, counts, global_average, initialise, pair

STAGES = 3

Kernels = list[list[tuple[int, int]]]
"""For each stage, for each block: the sides of its two kernels."""
Pools = dict[int, tuple[int, int]]
"""Max pools of the first stage: number of the block that one follows (0: before them) → its sides."""
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Convention(NamedTuple):
    """What the years disagree on: the same rho is another network in each."""

    depth: int
    """Blocks that a stage can hold."""
    shift: int
    """Kernel k is wide while k < rho + shift."""
    blocks: tuple[int, ...]
    """Blocks in each stage unless told."""
    pools: Pools
    """Pools unless told; those behind blocks that are not there are left out."""


CONVENTIONS = {
    "2022": Convention(2, 0, (2, 1, 1), {0: (2, 2), 1: (2, 1), 2: (2, 1)}),
    "2020": Convention(4, 1, (4, 4, 4), {1: (2, 2), 2: (2, 2), 4: (2, 2)}),
}
"""By the DCASE years in which they were used: 2022 and 2023, and 2019 and 2020."""


def kernels(rho: int, convention: str = "2022") -> Kernels:
    """Kernels of all blocks that a network can have.

    The first block is (3, 1). Walking on from there, front to back, kernel k (from 1) is 3×3 and then 1×1:
    each step of rho widens the receptive field by one convolution, until all are wide. With the convention
    of 2022 kernel k is wide while k < rho and a stage holds two blocks; with that of 2020 it is wide while
    k ≤ rho and a stage holds four. Shorter stages drop their last blocks without moving the others.
    """
    depth, shift = CONVENTIONS[convention][:2]
    walk = [3 if k < rho + shift else 1 for k in range(1, 2 * STAGES * depth - 1)]
    sides = [3, 1, *walk]
    blocks = list(zip(sides[::2], sides[1::2], strict=True))
    return [blocks[stage * depth : (stage + 1) * depth] for stage in range(STAGES)]


class CPResNet(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    A strided 5×5 convolution, three stages of residual blocks (pooling happens in the first), then a
    classifier that scores every position before it averages. Module names are those of the published
    checkpoints.
    """

    head = ("feed_forward.",)
    first_weights = ("in_c.0.weight",)

    def __init__(
        self,
        classes: int,
        *,
        rho: int = 8,
        convention: str = "2022",
        blocks: Sequence[int] | None = None,
        base_channels: int = 32,
        cut_channels_s2: int = 0,
        cut_channels_s3: int = 36,
        stage1_groups: int = 1,
        stage2_groups: int = 2,
        stage3_groups: int = 1,
        pools: Mapping[str, Sequence[int]] | None = None,
        damped: bool = False,
        min_damping: float = 0.01,
        in_channels: int = 1,
    ) -> None:
        """Build the network; the defaults are CP-ResNet 128K.

        The network of DCASE 2020 has convention 2020, base_channels 128, nothing cut, no groups and two
        input channels.

        Args:
            classes: number of logits.
            rho: receptive field, 0 or more; see `kernels`.
            convention: ``2022`` or ``2020``, what rho means and how deep a stage can be; see `kernels`.
            blocks: blocks in each of the three stages; None is [2, 1, 1] in 2022, [4, 4, 4] in 2020.
            base_channels: width c of the first stage; the others have 2c and 4c channels less their cut.
            cut_channels_s2: channels taken from the second stage.
            cut_channels_s3: channels taken from the third stage.
            stage1_groups: groups of all convolutions in the first stage.
            stage2_groups: groups of all convolutions in the second stage.
            stage3_groups: groups of all convolutions in the third stage.
            pools: (frequency, time) sides of the first stage's max pools, by the block that they follow
                (``"0"``: before the first), e.g. ``{"0": [2, 2], "2": [2, 1]}``; None is the convention's.
            damped: whether kernels are damped in frequency; see `DampedConv2d`.
            min_damping: what is left of a damped kernel at its edges, in [0, 1].
            in_channels: channels of the log-mel.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        if convention not in CONVENTIONS:
            raise ValueError(f"convention is {convention!r}; it must be one of {', '.join(CONVENTIONS)}")
        if rho < 0:
            raise ValueError(f"rho is {rho}; it must be 0 or more")
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}; it must be at least 1")
        blocks = _blocks(blocks, CONVENTIONS[convention])
        pooling = _pools(pools, CONVENTIONS[convention].pools, blocks[0])
        widths = (base_channels, 2 * base_channels - cut_channels_s2, 4 * base_channels - cut_channels_s3)
        groups = (stage1_groups, stage2_groups, stage3_groups)
        _check_widths(widths, groups)

        self.in_c = conv_bn(in_channels, widths[0], 5, stride=2, padding=1)
        inputs = widths[0]
        for i, (sides, width, group) in enumerate(zip(kernels(rho, convention), widths, groups, strict=True)):
            stage = _stage(inputs, width, sides[: blocks[i]], group, pooling if i == 0 else {})
            self.add_module(f"stage{i + 1}", stage)
            inputs = width
        self.feed_forward = conv_bn(inputs, classes, 1, relu=False)
        self._initialise()
        if damped:
            damp(self, min_damping)

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, frequency, time)`."""
        x = self.in_c(x)
        for i in range(STAGES):
            x = self.get_submodule(f"stage{i + 1}")(x)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean feature `(batch, channels)`."""
        return global_average(self.features(x))

    def folded(self) -> CPResNet:
        """A copy whose damping is in its weights; itself where there is none."""
        damped = any(isinstance(module, DampedConv2d) for module in self.modules())
        return fold_damping(copy.deepcopy(self)) if damped else self

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        return global_average(self.feed_forward(self.features(x)))

    def _initialise(self) -> None:
        """Fixup: every residual branch starts at zero, so that depth does not amplify the signal.

        Source: Zhang et al., "Fixup Initialization", ICLR 2019, without its removal of batch norm.
        """
        initialise(self, "fan_in")
        nn.init.zeros_(self.get_parameter("feed_forward.0.weight"))
        residuals = [module for module in self.modules() if isinstance(module, Block)]
        for block in residuals:
            _normal(block.conv1, gain=len(residuals) ** -0.5)
            nn.init.zeros_(block.conv2.weight)
            for conv in block.shortcut.modules():
                if isinstance(conv, nn.Conv2d):
                    _normal(conv, gain=1.0)


class DampedConv2d(nn.Conv2d):
    """A convolution whose kernel fades towards its edges in frequency, which narrows what it sees.

    The effective weight is W ⊙ D, where D depends on the frequency index i alone:
    D_i = 1 − (1 − m)·|i − c| / c with the centre c = (K − 1)/2; a kernel of 5 and m = 0.01 has
    .01, .505, 1, .505, .01. D is a constant: it is not in the state dict, so damped and plain checkpoints
    hold the same entries, and a checkpoint saved after `fold_damping` belongs into a plain network.
    Made by `damp`.

    Source: Koutini et al., "Low-Complexity Models for Acoustic Scene Classification Based on Receptive Field
    Regularization and Frequency Damping", DCASE 2020 Workshop.
    """

    damping: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency', time')`."""
        out: Tensor = self._conv_forward(x, self.weight * self.damping, self.bias)
        return out


def damp(model: AnyModule, min_damping: float) -> AnyModule:
    """Damp every convolution three or more frequencies high, in place; answers the model.

    Raises:
        ValueError: `min_damping` lies outside [0, 1].
    """
    if not 0 <= min_damping <= 1:
        raise ValueError(f"min_damping is {min_damping}; it must lie between 0 and 1")
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size[0] >= 3:
            centre = (conv.kernel_size[0] - 1) / 2
            away = (torch.arange(conv.kernel_size[0]).to(conv.weight) - centre).abs() / centre
            damping = (1 - (1 - min_damping) * away).view(1, 1, -1, 1)
            conv.register_buffer("damping", damping, persistent=False)
            conv.__class__ = DampedConv2d  # as torch's parametrisations do: optimisers keep the weight
    return model


def fold_damping(model: AnyModule) -> AnyModule:
    """Multiply the damping into the weights for good, in place; answers the model, all plain convolutions.

    The outputs stay the same. Do this before a network is quantised or given away.
    """
    for conv in model.modules():
        if isinstance(conv, DampedConv2d):
            with torch.no_grad():
                conv.weight.mul_(conv.damping)
            del conv.damping
            conv.__class__ = nn.Conv2d  # type: ignore[assignment]
    return model


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
    inputs: int, outputs: int, sides: list[tuple[int, int]], groups: int, pools: Pools
) -> nn.Sequential:
    """Blocks in a row, with max pools before and between them."""
    stage = nn.Sequential()
    if 0 in pools:
        stage.add_module("maxpool0", nn.MaxPool2d(pools[0]))
    for number, block in enumerate(sides, start=1):
        stage.add_module(f"block{number}", Block(inputs, outputs, block, groups))
        if number in pools:
            stage.add_module(f"maxpool{number}", nn.MaxPool2d(pools[number]))
        inputs = outputs
    return stage


def _normal(conv: nn.Conv2d, gain: float) -> None:
    """Normal weights with a deviation of gain·√(2/n), n the outputs times the kernel's area."""
    n = conv.out_channels * math.prod(conv.kernel_size)
    nn.init.normal_(conv.weight, std=gain * math.sqrt(2 / n))


def _blocks(blocks: Sequence[int] | None, convention: Convention) -> tuple[int, ...]:
    blocks = convention.blocks if blocks is None else counts(blocks, "blocks")
    if len(blocks) != STAGES or max(blocks) > convention.depth:
        raise ValueError(f"blocks is {list(blocks)}; write {STAGES} numbers from 1 to {convention.depth}")
    return blocks


def _pools(pools: Mapping[str, Sequence[int]] | None, usual: Pools, blocks: int) -> Pools:
    if pools is None:
        return {position: sides for position, sides in usual.items() if position <= blocks}
    if not isinstance(pools, Mapping):
        raise ValueError(f'pools is {pools!r}; write a table, e.g. {{ "0" = [2, 2], "2" = [2, 1] }}')
    known = {str(position): position for position in range(blocks + 1)}
    for position in pools:
        if str(position) not in known:
            raise ValueError(f"pools names position {position!r}, but the first stage has 0 … {blocks}")
    return {known[str(position)]: pair(sides, f"pools.{position}") for position, sides in pools.items()}


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

"""YAMNet: a MobileNet on the log-mel, pre-trained on AudioSet; whole, or cut where it is still narrow.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
2017; Plakal and Ellis, "YAMNet", 2020. The cut to 256 channels is STMicroelectronics' model zoo's.
"""

from __future__ import annotations

import re
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeaudio.models.layers import Model, global_average, initialise

FIRST = 32  # channels of the first convolution
SEPARABLE = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024))
"""Stride and channels of the thirteen separable convolutions, layers 2 to 14."""

_KERAS_ENTRY = re.compile(r"(?:^|/)(layer\d+/\w*conv/(?:bn/)?|logits/)(\w+):0$")
_KERAS_WORDS = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class YAMNet(Model):
    """Log-mel `(batch, 1, mels, frames)` → logits `(batch, classes)`; published for 64 mels × 96 frames.

    A strided convolution and separable convolutions, the mean over all positions, a linear layer. Padding is
    TensorFlow's: an axis of even length gets its zero at the far end when it is strided. In the published
    network the logits pass through a sigmoid.

    The published batch norms only shift; here they scale, too, and a published checkpoint sets that to 1.
    """

    head: ClassVar[tuple[str, ...]] = ("logits.",)
    first_weights: ClassVar[tuple[str, ...]] = ("layer1.conv.conv.weight",)

    def __init__(self, classes: int, *, width: int = 1024, in_channels: int = 1) -> None:
        """Build the network; the defaults are YAMNet.

        Args:
            classes: number of logits; 521 in the published network.
            width: channels of the embedding, 64, 128, 256, 512 or 1024; the network ends behind the last
                layer that has as many.
            in_channels: channels of the input.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        widths = [outputs for _, outputs in SEPARABLE]
        if width not in widths:
            raise ValueError(f"width is {width}; it must be one of {', '.join(map(str, sorted({*widths})))}")
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}; it must be 1 or more")
        self.depth = len(widths) - widths[::-1].index(width) + 1  # layers, the first one included
        self.layer1 = nn.Sequential()
        self.layer1.add_module("conv", Layer(in_channels, FIRST, 3, stride=2))
        inputs = FIRST
        for number, (stride, outputs) in enumerate(SEPARABLE[: self.depth - 1], start=2):
            self.add_module(f"layer{number}", _separable(inputs, outputs, stride))
            inputs = outputs
        self.logits = nn.Linear(width, classes)
        initialise(self, "fan_in")

    @classmethod
    def renamed(cls, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Entries of a Keras file, by their paths in it, under our names and with our order of axes.

        Keras has ``layer3/pointwise_conv/bn/beta:0`` with anything before it; what has no such name stays
        as it is. Its kernels are `(frames, mels, in, out)`, depthwise `(frames, mels, channels, 1)`, and ours
        `(out, in, mels, frames)`: both are Keras' axes backwards, but for the depthwise last two.
        """
        ours: dict[str, Tensor] = {}
        for name, value in entries.items():
            match = _KERAS_ENTRY.search(name)
            if match is None:
                ours[name] = value
                continue
            module, word = match[1].rstrip("/").replace("/", "."), match[2]
            part = "" if module == "logits" or module.endswith(".bn") else ".conv"
            ours[f"{module}{part}.{_KERAS_WORDS[word]}"] = _axes(torch.as_tensor(value), word)
        for name in [name for name in ours if name.endswith(".bn.running_var")]:
            norm = name.removesuffix("running_var")
            ours.setdefault(f"{norm}weight", torch.ones_like(ours[name]))
            ours.setdefault(f"{norm}num_batches_tracked", torch.tensor(0))
        return ours

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, width, frequency, time)`."""
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean feature `(batch, width)`."""
        return global_average(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.logits(self.embed(x))
        return logits


class Layer(nn.Module):
    """Convolution without bias, batch norm, ReLU, padded as TensorFlow's ``SAME``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.strided = stride == 2
        padding = 0 if self.strided else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-4, momentum=0.01)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency, time)`, each axis strided."""
        if self.strided:
            # SAME wants ⌈n/2⌉ positions of a kernel of 3: 2·(⌈n/2⌉ − 1) + 3 − n zeros, which is 1 for an even
            # length and 2 for an odd one; TensorFlow puts the odd zero behind.
            frequency, time = x.shape[2:]
            x = F.pad(x, (time % 2, 1, frequency % 2, 1))
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Each channel filtered 3×3, then all mixed 1×1."""
    layer = nn.Sequential()
    layer.add_module("depthwise_conv", Layer(inputs, inputs, 3, stride=stride, groups=inputs))
    layer.add_module("pointwise_conv", Layer(inputs, outputs, 1))
    return layer


def _axes(value: Tensor, word: str) -> Tensor:
    """A Keras array with the axes in our order; vectors stay."""
    if word == "depthwise_kernel":
        return value.permute(2, 3, 1, 0).contiguous()
    return value.permute(*range(value.ndim - 1, -1, -1)).contiguous()

"""PANNs: plain convolutional networks pre-trained on AudioSet, with 14, 10 and 6 layers.

Source: Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition",
TASLP 2020.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from edgeaudio.models.layers import Model


class Panns(Model):
    """What the three networks share: log-mel in dB `(batch, 1, mels, frames)` → logits `(batch, classes)`.

    Batch norm over the mel bins, blocks of convolutions that halve both axes, the mean over frequency, the
    sum of mean and maximum over time, and two linear layers. Module names are those of the published
    checkpoints; there the logits pass through a sigmoid, since AudioSet's clips bear several labels.
    """

    head: ClassVar[tuple[str, ...]] = ("fc_audioset.",)
    first_weights: ClassVar[tuple[str, ...]] = ("conv_block1.conv1.weight",)
    foreign: ClassVar[tuple[str, ...]] = ("spectrogram_extractor.", "logmel_extractor.")

    channels: ClassVar[tuple[int, ...]]
    """Channels that leave each block."""
    kernels: ClassVar[tuple[int, ...]]
    """Sides of the square kernels in each block."""
    pools: ClassVar[int]
    """Blocks that halve both axes; the sixth of Cnn14 doesn't."""

    def __init__(
        self,
        classes: int,
        *,
        mels: int = 64,
        in_channels: int = 1,
        width: float = 1.0,
        head_dropout: float = 0.5,
    ) -> None:
        """Build the network; the defaults are the published one.

        Args:
            classes: number of logits; 527 in the published checkpoints.
            mels: mel bins of the input, of which each has its own normalisation.
            in_channels: channels of the input.
            width: factor on the channels of all blocks.
            head_dropout: share of the embedding that is dropped before the last layer.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        if mels < self.shrinkage:
            raise ValueError(f"mels is {mels}; the pooling needs at least {self.shrinkage}")
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}; it must be 1 or more")
        if not 0 <= head_dropout < 1:
            raise ValueError(f"head_dropout is {head_dropout}; it must lie between 0 and 1, without the 1")
        widths = [round(c * width) for c in self.channels]
        if min(widths) < 1:
            raise ValueError(f"width is {width:g}; it must leave at least one of {self.channels[0]} channels")
        self.bn0 = nn.BatchNorm2d(mels)
        inputs = in_channels
        for number, outputs in enumerate(widths, start=1):
            block = Block(inputs, outputs, self.kernels, pooled=number <= self.pools)
            self.add_module(f"conv_block{number}", block)
            inputs = outputs
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(widths[-1], widths[-1])
        self.relu = nn.ReLU()
        self.head_dropout = nn.Dropout(head_dropout)
        self.fc_audioset = nn.Linear(widths[-1], classes)
        self._initialise()

    @property
    def shrinkage(self) -> int:
        """Mels, or frames, that become one position."""
        return 1 << self.pools

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, frequency, time)`.

        Inside, time comes before frequency, since the published kernels lie that way.
        """
        x = self.bn0(x.transpose(1, 2)).permute(0, 2, 3, 1)  # batch, in_channels, frames, mels
        for number in range(1, len(self.channels) + 1):
            x = self.get_submodule(f"conv_block{number}")(x)
        return x.transpose(2, 3)

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → the last layer but one `(batch, features)`."""
        x = self.features(x).mean(dim=2)  # batch, channels, time
        x = x.amax(dim=2) + x.mean(dim=2)
        embedding: Tensor = self.relu(self.fc1(self.dropout(x)))
        return embedding

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.fc_audioset(self.head_dropout(self.embed(x)))
        return logits

    def _initialise(self) -> None:
        """Glorot's uniform weights and no biases; batch norms start as the identity anyway."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class Cnn14(Panns):
    """Six blocks of two 3×3 convolutions; 80.8 million parameters with AudioSet's 527 classes."""

    channels = (64, 128, 256, 512, 1024, 2048)
    kernels = (3, 3)
    pools = 5


class Cnn10(Panns):
    """Four blocks of two 3×3 convolutions; 5.2 million parameters with AudioSet's 527 classes."""

    channels = (64, 128, 256, 512)
    kernels = (3, 3)
    pools = 4


class Cnn6(Panns):
    """Four blocks of one 5×5 convolution; 4.8 million parameters with AudioSet's 527 classes."""

    channels = (64, 128, 256, 512)
    kernels = (5,)
    pools = 4


class Block(nn.Module):
    """Convolutions, each with batch norm and ReLU, then an average pool and dropout."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, ...], *, pooled: bool) -> None:
        super().__init__()
        for number, side in enumerate(kernels, start=1):
            conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            inputs = outputs
        for number in range(1, len(kernels) + 1):
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
        self.depth = len(kernels)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(2) if pooled else nn.Identity()
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, time, frequency)` → `(batch, outputs, time, frequency)`, both halved if pooled."""
        for number in range(1, self.depth + 1):
            conv, norm = self.get_submodule(f"conv{number}"), self.get_submodule(f"bn{number}")
            x = self.relu(norm(conv(x)))
        out: Tensor = self.dropout(self.pool(x))
        return out

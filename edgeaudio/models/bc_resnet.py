"""BC-ResNet: residual blocks that filter time once for all frequencies and broadcast the result back.

Source: Kim et al., "Broadcasted Residual Learning for Efficient Keyword Spotting", Interspeech 2021.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeaudio.models.layers import Model
from edgeaudio.models.norms import SubSpectralNorm

BLOCKS = (2, 2, 4, 4)  # blocks a stage
STRIDED = (1, 2)  # stages that halve the frequencies at their start


class BCResNet(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    A 5×5 convolution that halves the frequencies, four stages of broadcasted residual blocks, and a
    classifier that takes five frequencies at a time. Time is never strided. Module names are those of the
    published checkpoints.
    """

    head = ("classifier.5.",)
    first_weights = ("cnn_head.0.weight",)

    def __init__(
        self, classes: int, *, tau: float = 1.0, in_channels: int = 1, bands: int = 5, dropout: float = 0.1
    ) -> None:
        """Build the network; the published ones have `tau` 1, 1.5, 2, 3, 6 and 8.

        Args:
            classes: number of logits.
            tau: width; the first stage has c = 8·tau channels (rounded down), the last 2.5·c.
            in_channels: channels of the log-mel.
            bands: frequency bands that are normalised apart; an eighth of the mels must split into them.
            dropout: share of the feature channels that a block drops while training.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        base = int(8 * tau)
        if (
            base < 2
        ):  # below, two stages would be equally wide, and a block that strides must change the width
            raise ValueError(f"tau is {tau}; it must be at least 0.25")
        if in_channels < 1:
            raise ValueError(f"in_channels is {in_channels}; it must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must lie between 0 and 1, without the 1")
        widths = (2 * base, base, int(1.5 * base), 2 * base, int(2.5 * base))

        self.cnn_head = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 5, stride=(2, 1), padding=2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        self.BCBlocks = nn.Sequential()
        for stage, blocks in enumerate(BLOCKS):
            inputs, outputs = widths[stage], widths[stage + 1]
            layers = [Block(inputs, outputs, stage, bands, dropout)]
            layers += [Block(outputs, outputs, stage, bands, dropout) for _ in range(blocks - 1)]
            self.BCBlocks.append(nn.Sequential(*layers))
        self.classifier = nn.Sequential(
            nn.Conv2d(outputs, outputs, 5, padding=(0, 2), groups=outputs, bias=False),
            nn.Conv2d(outputs, 4 * base, 1, bias=False),
            nn.BatchNorm2d(4 * base),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(4 * base, classes, 1),
        )

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, mels/8, frames)`."""
        features: Tensor = self.BCBlocks(self.cnn_head(x))
        return features

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → mean before the last layer `(batch, features)`."""
        return self._pooled(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.classifier[-1](self._pooled(x))
        return logits.flatten(1)

    def _pooled(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.classifier[:-1](self.features(x))
        return pooled


class Block(nn.Module):
    """Broadcasted residual: filter frequency (f2), average it away, filter time (f1), add to every band.

    The shortcut exists where the width stays; where it changes, a 1×1 convolution comes first. In stage i
    the temporal filter is dilated 2^i.
    """

    def __init__(self, inputs: int, outputs: int, stage: int, bands: int, dropout: float) -> None:
        super().__init__()
        self.residual = inputs == outputs
        strided = stage in STRIDED and not self.residual
        widen = [] if self.residual else [_layer(nn.Conv2d(inputs, outputs, 1, bias=False), nn.ReLU())]
        over_frequency = nn.Conv2d(
            outputs, outputs, (3, 1), (2 if strided else 1, 1), (1, 0), groups=outputs, bias=False
        )
        self.f2 = nn.Sequential(*widen, _layer(over_frequency, norm=SubSpectralNorm(outputs, bands)))
        reach = 2**stage
        over_time = nn.Conv2d(
            outputs, outputs, (1, 3), padding=(0, reach), dilation=(1, reach), groups=outputs, bias=False
        )
        self.f1 = nn.Sequential(
            _layer(over_time, nn.SiLU()), nn.Conv2d(outputs, outputs, 1, bias=False), nn.Dropout2d(dropout)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, frequency, time)` → `(batch, outputs, frequency or half of it, time)`."""
        auxiliary = self.f2(x)
        y = self.f1(auxiliary.mean(dim=2, keepdim=True)) + auxiliary
        out: Tensor = self.relu(y + x if self.residual else y)
        return out


def _layer(conv: nn.Conv2d, *activation: nn.Module, norm: nn.Module | None = None) -> nn.Module:
    """Convolution, norm (batch norm unless told) and activation, under the published name ``block``."""
    layer = nn.Sequential()
    norm = nn.BatchNorm2d(conv.out_channels) if norm is None else norm
    layer.add_module("block", nn.Sequential(conv, norm, *activation))
    return layer

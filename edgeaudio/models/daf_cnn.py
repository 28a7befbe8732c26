"""The CNN of deep_audio_features: four 5×5 convolutions, then three dense layers on the whole map.

The dense layers see every position, so the network is built for one size of log-mel.

Source: https://github.com/tyiannak/deep_audio_features, its class CNN1.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeaudio.models.layers import Model

CONVOLUTIONS = 4
SHRINKS = 2**CONVOLUTIONS  # each convolution is followed by a pool of 2×2
HIDDEN = (1024, 256)
DROPOUT = (0.75, 0.5)


class DafCNN(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    Inside, time runs down and frequency across, as the published weights want it; module names are those
    of the published checkpoints.
    """

    head = ("linear_layer3.",)
    first_weights = ("conv_layer1.0.weight",)

    def __init__(
        self,
        classes: int,
        *,
        mels: int = 128,
        frames: int = 51,
        first_channels: int = 32,
        leaky_logits: bool = True,
        in_channels: int = 1,
    ) -> None:
        """Build the network; the defaults are the published ones, for 2.5 s in frames of 50 ms.

        Args:
            classes: number of logits.
            mels: bands of the log-mel; at least 16.
            frames: frames of the log-mel; at least 16.
            first_channels: width of the first convolution; each next one is twice as wide.
            leaky_logits: whether the logits pass through a leaky ReLU (slope 0.01), as the published ones
                do. It doesn't change which class wins, but it flattens the scores of the losers.
            in_channels: channels of the log-mel.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        _check(mels, frames, first_channels, in_channels)
        self.size = (mels, frames)
        inputs = in_channels
        for i in range(CONVOLUTIONS):
            outputs = first_channels * 2**i
            self.add_module(f"conv_layer{i + 1}", _convolution(inputs, outputs))
            inputs = outputs
        positions = (frames // SHRINKS) * (mels // SHRINKS)
        wide, narrow = HIDDEN
        self.linear_layer1 = _dense(inputs * positions, wide, DROPOUT[0])
        self.linear_layer2 = _dense(wide, narrow, DROPOUT[1])
        score = nn.Linear(narrow, classes)
        self.linear_layer3 = nn.Sequential(score, nn.LeakyReLU()) if leaky_logits else nn.Sequential(score)

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, time, frequency)`.

        Raises:
            ValueError: the log-mel has another size than the network was built for.
        """
        if tuple(x.shape[2:]) != self.size:
            wanted, given = (" × ".join(map(str, size)) for size in (self.size, x.shape[2:]))
            raise ValueError(
                f"the log-mel is {given} (mels × frames), but the network was built for {wanted}"
            )
        x = x.transpose(2, 3)
        for i in range(CONVOLUTIONS):
            x = self.get_submodule(f"conv_layer{i + 1}")(x)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → last hidden layer `(batch, 256)`."""
        embedding: Tensor = self.linear_layer2(self.linear_layer1(self.features(x).flatten(1)))
        return embedding

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.linear_layer3(self.embed(x))
        return logits


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    """The entries are those of a convolution (``0``) and its batch norm (``1``)."""
    conv = nn.Conv2d(inputs, outputs, 5, padding=2)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(), nn.MaxPool2d(2))


def _dense(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, outputs), nn.LeakyReLU())


def _check(mels: int, frames: int, first_channels: int, in_channels: int) -> None:
    for name, value in (("mels", mels), ("frames", frames)):
        if value < SHRINKS:
            raise ValueError(f"{name} is {value}; it must be at least {SHRINKS}, four pools halve it")
    for name, value in (("first_channels", first_channels), ("in_channels", in_channels)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")

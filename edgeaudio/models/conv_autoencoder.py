"""Convolutional autoencoder with the places of its maxima handed to the decoder.

Source: deep_audio_features (github.com/tyiannak/deep_audio_features), whose module names and shapes it has.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from edgeaudio.models.layers import Autoencoder

HALVINGS = 4
"""Times that both axes are halved."""


class ConvAutoencoder(Autoencoder):
    """Spectrograms `(batch, time, bands)` → codes `(batch, channels · time//16 · bands//16)`.

    Four convolutions, each followed by a maximum over 2×2; the decoder puts the values back where the maxima
    stood. So it is told more than the code, and its error is smaller than the code alone would allow.
    """

    def __init__(
        self,
        frames: int,
        bands: int,
        *,
        first_channels: int = 64,
        representation_channels: int = 10,
        kernel: int = 5,
    ) -> None:
        """Build the network; the defaults are the published ones.

        Args:
            frames: of a spectrogram, at least 16.
            bands: of a spectrogram, at least 16.
            first_channels: of the first convolution; the next ones have twice and four times as many.
            representation_channels: of the last convolution, which makes the code.
            kernel: side of the square kernels; odd.

        Raises:
            ValueError: an option has an impossible value, or the spectrograms are too small.
        """
        super().__init__()
        for name, value in (
            ("first_channels", first_channels),
            ("representation_channels", representation_channels),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be a whole number from 1")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; it must be odd")
        least = 2**HALVINGS
        if min(frames, bands) < least:
            raise ValueError(
                f"spectrograms of {frames} × {bands} (time × bands) are too small; both must be at least "
                f"{least}"
            )
        widths = [1, first_channels, 2 * first_channels, 4 * first_channels, representation_channels]
        self.encoder = _Encoder(widths, kernel)
        self.decoder = _Decoder(widths[::-1], kernel)

    def encode(self, x: Tensor) -> Tensor:
        """Spectrograms `(batch, time, bands)` → codes `(batch, features)`, channel by channel."""
        code: Tensor = self.encoder(x[:, None])[0]
        return code.flatten(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrograms `(batch, time, bands)` → what is given back, and the spectrograms themselves."""
        code, places, sizes = self.encoder(x[:, None])
        return self.decoder(code, places, sizes)[:, 0], x


class _Encoder(nn.Module):
    def __init__(self, widths: list[int], kernel: int) -> None:
        super().__init__()
        one, two, three, four = (nn.Conv2d(a, b, kernel, padding=kernel // 2) for a, b in pairwise(widths))
        self.conv1, self.conv2, self.conv3 = _activated(one), _activated(two), _activated(three)
        self.conv4 = four
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[list[int]]]:
        places: list[Tensor] = []
        sizes: list[list[int]] = []
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = conv(x)
            sizes.append(list(x.shape))
            x, place = self.pool(x)
            places.append(place)
        return x, places, sizes


class _Decoder(nn.Module):
    def __init__(self, widths: list[int], kernel: int) -> None:
        super().__init__()
        one, two, three, four = (
            nn.ConvTranspose2d(a, b, kernel, padding=kernel // 2) for a, b in pairwise(widths)
        )
        self.unconv1, self.unconv2, self.unconv3 = _activated(one), _activated(two), _activated(three)
        self.unconv4 = four
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x: Tensor, places: list[Tensor], sizes: list[list[int]]) -> Tensor:
        for conv in (self.unconv1, self.unconv2, self.unconv3, self.unconv4):
            x = conv(self.unpool(x, places.pop(), sizes.pop()))
        return x


def _activated(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.LeakyReLU())

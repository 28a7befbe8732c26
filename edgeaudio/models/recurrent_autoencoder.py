"""Recurrent autoencoders over time (t-RAE) and over frequency (f-RAE).

An encoder reads a sequence; the code is the hyperbolic tangent of a linear layer on its last state, of the
size of the decoder's state. The decoder starts from the code and gives the sequence back from its end to its
beginning, led at each step by what it should have given at the step before.

Source: Amiriparian et al., "Sequence to Sequence Autoencoders for Unsupervised Representation Learning from
Audio", DCASE 2017; auDeep, JMLR 2018. auDeep's own decoders in one direction are led by the step before the
last one, and here, as it documents, by the last one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeaudio.models.layers import Autoencoder
from edgeaudio.models.recurrent import (
    Bands,
    Cells,
    FeedingRecurrent,
    Recurrent,
    check_noise,
    linear,
    shifted,
    without_steps,
)


class TimeAutoencoder(Autoencoder):
    """t-RAE: spectrograms `(batch, time, bands)` → codes `(batch, units × layers × directions)`.

    The target is the input, backwards in time. A decoder in two directions hears the whole shifted target, so
    its backward half has heard each step before it gives it; that is the published setting, and its
    error says little of the code. One that feeds itself (`feed_previous_prob`) has the code alone.
    """

    def __init__(
        self,
        frames: int,
        bands: int,
        *,
        layers: int = 2,
        units: int = 256,
        cell: str = "gru",
        bidirectional_encoder: bool = False,
        bidirectional_decoder: bool = False,
        keep_prob: float = 0.8,
        encoder_noise: float = 0.0,
        feed_previous_prob: float = 0.0,
    ) -> None:
        """Build the network.

        Args:
            frames: of a spectrogram; any number will do.
            bands: of a spectrogram.
            layers: of cells, in the encoder and in the decoder.
            units: of each layer.
            cell: ``gru`` or ``lstm``.
            bidirectional_encoder: the encoder reads backwards, too.
            bidirectional_decoder: the decoder reads backwards, too; it doubles the code.
            keep_prob: of each value that goes into or comes out of a layer, while training.
            encoder_noise: probability of a step to be zeroed before the encoder hears it, while training.
            feed_previous_prob: probability of a decoder's step to hear its own last answer instead of the
                target's last step; in use it then hears its own answers throughout.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        check_noise(encoder_noise)
        reading = Cells(cell, layers, units, bidirectional_encoder)
        giving = Cells(cell, layers, units, bidirectional_decoder)
        if bidirectional_decoder and feed_previous_prob:
            raise ValueError(
                f"feed_previous_prob is {feed_previous_prob}, but a decoder in two directions can't feed "
                "itself; leave one of them out"
            )
        self.noise = encoder_noise
        self.encoder = Recurrent(bands, reading, keep_prob)
        self.code = linear(reading.state_size, giving.state_size)
        if bidirectional_decoder:
            self.decoder = Recurrent(bands, giving, keep_prob)
        else:
            self.decoder = FeedingRecurrent(bands, giving, keep_prob, feed_previous_prob)
        self.output = linear(giving.output_size if bidirectional_decoder else bands, bands)

    def encode(self, x: Tensor) -> Tensor:
        """Spectrograms `(batch, time, bands)` → codes `(batch, features)` in (−1, 1)."""
        return self._code(x.transpose(0, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrograms `(batch, time, bands)` → what is given back and what should be, backwards in time."""
        x = x.transpose(0, 1)
        target = x.flip(0)
        given, _ = self.decoder(shifted(target), self._code(x))
        return torch.tanh(self.output(given)).transpose(0, 1), target.transpose(0, 1)

    def _code(self, x: Tensor) -> Tensor:
        _, state = self.encoder(without_steps(x, self.noise, self.training))
        return torch.tanh(self.code(state))


class FrequencyAutoencoder(Autoencoder):
    """f-RAE: spectrograms `(batch, time, bands)` → codes `(batch, time, features)`, one for each frame.

    Each frame is a sequence of overlapping windows along the frequency axis. The target is the input with its
    bands from the highest to the lowest.
    """

    def __init__(
        self,
        frames: int,
        bands: int,
        *,
        layers: int = 1,
        units: int = 64,
        cell: str = "gru",
        bidirectional_encoder: bool = False,
        bidirectional_decoder: bool = False,
        keep_prob: float = 0.8,
        encoder_noise: float = 0.0,
        feed_previous_prob: float = 0.0,
        window_width: int = 32,
        window_overlap: int = 24,
    ) -> None:
        """Build the network.

        Args:
            frames: of a spectrogram; any number will do.
            bands: of a spectrogram.
            layers: of cells, in the encoder and in the decoder.
            units: of each layer.
            cell: ``gru`` or ``lstm``.
            bidirectional_encoder: the encoder reads downwards, too.
            bidirectional_decoder: the decoder reads upwards, too; it doubles the code.
            keep_prob: of each value that goes into or comes out of a layer, while training.
            encoder_noise: probability of a window to be zeroed before the encoder hears it, while training.
            feed_previous_prob: probability of a decoder's step to hear its own last answer instead of the
                target's last window; in use it then hears its own answers throughout.
            window_width: bands in a window.
            window_overlap: bands that a window shares with the one before.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        check_noise(encoder_noise)
        reading = Cells(cell, layers, units, bidirectional_encoder)
        giving = Cells(cell, layers, units, bidirectional_decoder)
        self.noise = encoder_noise
        self.windows = Bands(window_width, window_overlap, bands)
        self.encoder = Recurrent(window_width, reading, keep_prob)
        self.code = linear(reading.state_size, giving.state_size)
        self.decoder = FeedingRecurrent(window_width, giving, keep_prob, feed_previous_prob)
        self.output = linear(self.windows.count * self.decoder.output_size, bands)

    def encode(self, x: Tensor) -> Tensor:
        """Spectrograms `(batch, time, bands)` → codes `(batch, time, features)` in (−1, 1)."""
        return self._code(self.windows.cut(x)).reshape(*x.shape[:2], -1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrograms `(batch, time, bands)` → what is given back and what should be, bands turned over."""
        heard = self.windows.cut(x)
        given, _ = self.decoder(shifted(heard.flip(0)), self._code(heard))
        # all windows of a frame side by side
        frames = torch.tanh(self.output(given.transpose(0, 1).flatten(1)))
        return frames.reshape(x.shape), x.flip(2)

    def _code(self, heard: Tensor) -> Tensor:
        _, state = self.encoder(without_steps(heard, self.noise, self.training))
        return torch.tanh(self.code(state))

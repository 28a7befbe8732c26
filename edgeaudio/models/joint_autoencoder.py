"""Joint recurrent autoencoder (ft-RAE): over frequency within each frame, then over time.

Source: Freitag et al., "auDeep: Unsupervised Learning of Representations from Audio with Deep Recurrent
Neural Networks", JMLR 2018. auDeep's own decoders are led by the step before the last one, and a decoder in
two directions leaves its backward half turned round; here, as it documents, steps are led by the last one and
both halves speak of the same step.
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


class JointAutoencoder(Autoencoder):
    """ft-RAE: spectrograms `(batch, time, bands)` → codes `(batch, t_units × t_layers × directions)`.

    One encoder reads each frame as overlapping windows along the frequency axis; its last states, frame after
    frame, are what a second one reads along time, and the code comes from that one's last state. The decoders
    go the way back: the first gives, for each frame, what the second starts from. The target is the input
    backwards in time with its bands from the highest to the lowest.
    """

    def __init__(
        self,
        frames: int,
        bands: int,
        *,
        f_layers: int = 1,
        f_units: int = 64,
        t_layers: int = 2,
        t_units: int = 128,
        cell: str = "gru",
        f_bidirectional_encoder: bool = False,
        f_bidirectional_decoder: bool = False,
        t_bidirectional_encoder: bool = False,
        t_bidirectional_decoder: bool = False,
        keep_prob: float = 0.8,
        f_encoder_noise: float = 0.0,
        t_encoder_noise: float = 0.0,
        f_feed_previous_prob: float = 0.0,
        t_feed_previous_prob: float = 0.0,
        window_width: int = 32,
        window_overlap: int = 24,
    ) -> None:
        """Build the network.

        Args:
            frames: of a spectrogram; any number will do.
            bands: of a spectrogram.
            f_layers: of the cells that read along frequency; `t_layers` of those along time.
            f_units: of each layer along frequency.
            t_layers: of the cells that read along time.
            t_units: of each layer along time.
            cell: ``gru`` or ``lstm``.
            f_bidirectional_encoder: the encoder along frequency reads downwards, too.
            f_bidirectional_decoder: the decoder along frequency reads upwards, too.
            t_bidirectional_encoder: the encoder along time reads backwards, too.
            t_bidirectional_decoder: the decoder along time reads backwards, too; it doubles the code.
            keep_prob: of each value that goes into or comes out of a layer, while training.
            f_encoder_noise: probability of a window to be zeroed before it is heard, while training.
            t_encoder_noise: the same of a whole frame's state before the encoder along time.
            f_feed_previous_prob: probability of a step of the decoder along frequency to hear its own last
                answer instead of the target's; in use it then hears its own answers throughout.
            t_feed_previous_prob: the same of the decoder along time.
            window_width: bands in a window.
            window_overlap: bands that a window shares with the one before.

        Raises:
            ValueError: an option has an impossible value.
        """
        super().__init__()
        check_noise(f_encoder_noise, "f_encoder_noise")
        check_noise(t_encoder_noise, "t_encoder_noise")
        self.f_noise, self.t_noise = f_encoder_noise, t_encoder_noise
        self.windows = Bands(window_width, window_overlap, bands)
        f_reading = Cells(cell, f_layers, f_units, f_bidirectional_encoder)
        f_giving = Cells(cell, f_layers, f_units, f_bidirectional_decoder)
        t_reading = Cells(cell, t_layers, t_units, t_bidirectional_encoder)
        t_giving = Cells(cell, t_layers, t_units, t_bidirectional_decoder)
        self.f_encoder = Recurrent(window_width, f_reading, keep_prob)
        self.t_encoder = Recurrent(f_reading.state_size, t_reading, keep_prob)
        self.code = linear(t_reading.state_size, t_giving.state_size)
        self.t_decoder = FeedingRecurrent(f_reading.state_size, t_giving, keep_prob, t_feed_previous_prob)
        self.start = linear(self.t_decoder.output_size, f_giving.state_size)
        self.f_decoder = FeedingRecurrent(window_width, f_giving, keep_prob, f_feed_previous_prob)
        self.output = linear(self.windows.count * self.f_decoder.output_size, bands)

    def encode(self, x: Tensor) -> Tensor:
        """Spectrograms `(batch, time, bands)` → codes `(batch, features)` in (−1, 1)."""
        return self._code(self._frames(x.transpose(0, 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrograms `(batch, time, bands)` → what is given back and what should be, backwards in time and
        with the bands turned over."""
        x = x.transpose(0, 1)
        target = x.flip(0, 2)
        frames = self._frames(x)
        along_time, _ = self.t_decoder(shifted(frames.flip(0)), self._code(frames))
        starts = torch.tanh(self.start(along_time)).flatten(0, 1)
        given, _ = self.f_decoder(shifted(self.windows.cut(target)), starts)
        # all windows of a frame side by side
        frames = torch.tanh(self.output(given.transpose(0, 1).flatten(1)))
        return frames.reshape(x.shape).transpose(0, 1), target.transpose(0, 1)

    def _frames(self, x: Tensor) -> Tensor:
        """`(time, batch, bands)` → last states of the encoder along frequency `(time, batch, f_state)`."""
        state: Tensor = self.f_encoder(without_steps(self.windows.cut(x), self.f_noise, self.training))[1]
        return state.reshape(*x.shape[:2], -1)

    def _code(self, frames: Tensor) -> Tensor:
        _, state = self.t_encoder(without_steps(frames, self.t_noise, self.training))
        return torch.tanh(self.code(state))

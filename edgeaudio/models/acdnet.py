"""ACDNet: from the waveform to classes; its first layers learn the filter bank.

Source: Mohaimenuzzaman et al., "Environmental Sound Classification on the Edge: A Pipeline for Deep
Acoustic Networks on Extremely Resource-Constrained Devices", Pattern Recognition 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from edgeaudio.models.layers import Model, counts, global_average, initialise

CONVOLUTIONS = 12
POOLS = 6
STAGES = ((3,), (4, 5), (6, 7), (8, 9), (10, 11))
"""Convolutions (from 1) in each stage behind the filter bank."""


class ACDNet(Model):
    """Waveform `(batch, 1, 1, samples)` → logits `(batch, classes)`.

    Two strided convolutions along time and a maximum over 10 ms make a filter bank (`sfeb`), whose channels
    become the frequency axis of an image; ten convolutions read it (`tfeb`). The network takes one length.
    Module names are those of the published checkpoints; there the logits pass through a softmax.
    """

    # without a list of channels the last convolution, too, has one channel a class
    head: ClassVar[tuple[str, ...]] = ("tfeb.33.", "tfeb.34.", "tfeb.38.")

    def __init__(
        self,
        classes: int,
        *,
        input_samples: int = 30225,
        sample_rate: int = 20000,
        channels: Sequence[int] | None = None,
    ) -> None:
        """Build the network; the defaults are ACDNet, and `channels` makes Micro-ACDNet of it.

        Args:
            classes: number of logits.
            input_samples: length of the waveform.
            sample_rate: in Hz; it sets the length of the pool that makes frames of 10 ms.
            channels: channels of the twelve convolutions; None for 8, 64, 32, 64, 64, 128, 128, 256, 256,
                512, 512 and one a class. Micro-ACDNet: 7, 20, 10, 14, 22, 31, 35, 41, 51, 67, 69, 48.

        Raises:
            ValueError: an option has an impossible value, or the waveform is too short for one frame.
        """
        super().__init__()
        widths = _widths(channels, classes)
        self.input_samples = input_samples
        pool = sample_rate // 400  # 10 ms after two strides of 2
        frames = _frames(input_samples, sample_rate, pool)
        self.sfeb = nn.Sequential(
            *_conv(1, widths[0], (1, 9), stride=2),
            *_conv(widths[0], widths[1], (1, 5), stride=2),
            nn.MaxPool2d((1, pool)),
        )
        pools = list(zip(_pools(widths[1]), _pools(frames), strict=True))
        self.tfeb = nn.Sequential()
        inputs = 1
        for stage, size in zip(STAGES, pools, strict=False):
            for number in stage:
                self._extend(*_conv(inputs, widths[number - 1], (3, 3)))
                inputs = widths[number - 1]
            self._extend(nn.MaxPool2d(size) if size != (1, 1) else nn.Identity())
        self._extend(nn.Dropout(0.2), *_conv(inputs, widths[-1], (1, 1)))
        scores = nn.Linear(widths[-1], classes)
        self._extend(nn.AvgPool2d(pools[-1]), nn.Flatten(), scores)
        initialise(self, "fan_in")
        nn.init.kaiming_normal_(scores.weight, nonlinearity="sigmoid")

    def features(self, x: Tensor) -> Tensor:
        """Waveform `(batch, 1, 1, samples)` → feature map `(batch, channels, frequency, time)`.

        Raises:
            ValueError: the waveform isn't of the length for which the network was built.
        """
        if x.shape[-1] != self.input_samples:
            raise ValueError(
                f"the waveform has {x.shape[-1]} samples; this ACDNet takes {self.input_samples}"
            )
        image = self.sfeb(x).transpose(1, 2)  # batch, 1, filters, frames
        features: Tensor = self.tfeb[: self._scoring](image)
        return features

    def embed(self, x: Tensor) -> Tensor:
        """Waveform `(batch, 1, 1, samples)` → mean feature before the scoring layers `(batch, channels)`."""
        return global_average(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """Waveform `(batch, 1, 1, samples)` → logits `(batch, classes)`."""
        logits: Tensor = self.tfeb[self._scoring :](self.features(x))
        return logits

    @property
    def _scoring(self) -> int:
        """Place of the 1×1 convolution, from where on the classes are scored."""
        return len(self.tfeb) - CONVOLUTIONS // 2

    def _extend(self, *modules: nn.Module) -> None:
        for module in modules:
            self.tfeb.append(module)


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1) -> list[nn.Module]:
    """Convolution without bias, batch norm, ReLU; the square kernels keep the size, the others don't."""
    padding = kernel[0] // 2
    conv = nn.Conv2d(inputs, outputs, kernel, (1, stride), padding, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def _pools(length: int) -> list[int]:
    """Sides of the six pools along one axis: it is halved five times, while it can be, then averaged."""
    sizes = []
    for _ in range(POOLS - 1):
        sizes.append(2 if length >= 2 else 1)
        length //= sizes[-1]
    return [*sizes, length]


def _frames(samples: int, sample_rate: int, pool: int) -> int:
    """Frames that the filter bank makes of a waveform."""
    if pool < 1:
        raise ValueError(f"sample_rate is {sample_rate} Hz; frames of 10 ms need at least 400 Hz")
    strided = ((samples - 9) // 2 + 1 - 5) // 2 + 1
    if strided < pool:
        least = ((pool - 1) * 2 + 5 - 1) * 2 + 9
        raise ValueError(f"input_samples is {samples}; one frame at {sample_rate} Hz needs {least}")
    return strided // pool


def _widths(channels: Sequence[int] | None, classes: int) -> tuple[int, ...]:
    if channels is None:
        return (8, 64, 32, 64, 64, 128, 128, 256, 256, 512, 512, classes)
    widths = counts(channels, "channels")
    if len(widths) != CONVOLUTIONS:
        raise ValueError(f"channels holds {len(widths)} numbers; write one for each of {CONVOLUTIONS} layers")
    return widths

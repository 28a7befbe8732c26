"""Small parts that several architectures share; imports only torch.

Convolutions pad explicitly and symmetrically: ``padding="same"`` with even kernels or strides is lowered
differently by different runtimes.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


def make_divisible(width: float, divisor: int = 8) -> int:
    """The multiple of `divisor` next to `width`, never below nine tenths of it.

    Source: MobileNetV2, Sandler et al., CVPR 2018.
    """
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def pair(value: Sequence[int], what: str) -> tuple[int, int]:
    """A (frequency, time) pair of positive integers; raises ValueError with `what` in the sentence."""
    pair_of_ints = (
        isinstance(value, Sequence) and len(value) == 2 and all(type(v) is int and v > 0 for v in value)
    )
    if not pair_of_ints:
        raise ValueError(f"{what} is {value!r}; write [frequency, time], e.g. [2, 1]")
    return value[0], value[1]


def counts(value: Sequence[int], what: str) -> tuple[int, ...]:
    """Positive integers, such as blocks a stage; raises ValueError with `what` in the sentence."""
    if not isinstance(value, Sequence) or not value or not all(type(v) is int and v > 0 for v in value):
        raise ValueError(f"{what} is {value!r}; write positive whole numbers, e.g. [2, 1, 1]")
    return tuple(value)


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | None = None,
    groups: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Convolution without bias (``0``), batch norm (``1``) and, if wanted, ReLU (``2``).

    In this order the three fold into one convolution when a model is quantised.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: side of the square kernel; odd.
        stride: step in (frequency, time).
        padding: zeros on every side; half the kernel unless told.
        groups: independent groups of channels; `inputs` makes it depthwise.
        relu: whether a ReLU follows.
    """
    padding = kernel // 2 if padding is None else padding
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class Model(nn.Module, abc.ABC):
    """What every architecture answers to: a log-mel gives logits, and ``embed`` stops before them.

    A network that hears the waveform takes it as `(batch, 1, 1, samples)`. The constants below tell
    `models.load_published` how a published checkpoint of the architecture is fitted to another task.
    """

    head: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the entries that score classes; they are started anew when the classes change."""
    first_weights: ClassVar[tuple[str, ...]] = ()
    """Weights whose second axis counts the input channels."""
    positions: ClassVar[tuple[str, ...]] = ()
    """Position embeddings; each is resized along the one axis in which it differs."""
    foreign: ClassVar[tuple[str, ...]] = ()
    """Prefixes of published entries that aren't the network's, such as a front end's constants."""

    @classmethod
    def renamed(cls, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published entries under our names; the same unless an architecture says otherwise."""
        return entries

    def folded(self) -> Model:
        """The network as it is shipped: a copy without what only training needs, or itself where all is."""
        return self

    @abc.abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, 1, mels, frames)` → mean feature before the classifier `(batch, features)`."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, 1, mels, frames)` → logits `(batch, classes)`."""


class Autoencoder(nn.Module, abc.ABC):
    """What learns from spectrograms without labels: to give back what it heard, through a small code."""

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Spectrograms `(batch, time, bands)` → codes `(batch, features)`, or `(batch, time, features)` of
        one that keeps the time."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrograms `(batch, time, bands)` → what is given back and what should be, each of that shape."""


class GlobalResponseNorm(nn.Module):
    """Channels compete by their energy: ``x + γ·x·n + β`` with ``n = ‖x‖ / mean of ‖x‖ over channels``.

    ``(batch, channels, frequency, time)`` → the same; ‖x‖ is taken over frequency and time. γ and β are
    scalars that start at 0, so a fresh layer passes its input unchanged.

    Source: ConvNeXt V2, Woo et al., CVPR 2023; with scalars as in CP-Mobile, Schmid et al., 2023.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → the same shape."""
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        response = norm / (norm.mean(dim=1, keepdim=True) + 1e-6)
        out: Tensor = self.gamma * (x * response) + self.beta + x
        return out


class GeM(nn.Module):
    """Generalised mean, `(mean of xᵖ)^(1/p)` over frequency and time: p = 1 averages, p → ∞ is the maximum.

    ``(batch, channels, frequency, time)`` → ``(batch, channels)``. What lies below `eps` counts as `eps`.

    Source: Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019.
    """

    def __init__(self, p: float = 3.0, *, eps: float = 1e-6) -> None:
        """Start the learnt exponent at `p`; ValueError unless `p` and `eps` are positive."""
        super().__init__()
        for name, value in (("p", p), ("eps", eps)):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        self.p = nn.Parameter(torch.full((1,), float(p)))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frequency, time)` → `(batch, channels)`."""
        return x.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)


def global_average(x: Tensor) -> Tensor:
    """`(batch, channels, frequency, time)` → `(batch, channels)`."""
    if x.is_mkldnn:  # trained in oneDNN's layout, which has no mean
        x = x.to_dense()
    return x.mean(dim=(2, 3))


def initialise(model: nn.Module, mode: str) -> None:
    """He's normal initialisation of all convolutions; batch norms start as the identity.

    Args:
        model: changed in place.
        mode: ``fan_in`` or ``fan_out``; for a grouped convolution torch's fan_out counts all its
            channels, as the published models do.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            fan = fan_in if mode == "fan_in" else fan_out
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan))
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

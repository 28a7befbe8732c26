"""Integer grids: which whole numbers a tensor may take, and what each of them stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.config import Target

Floats = NDArray[np.float32]
INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Grid:
    """The whole numbers of a type, all of them or a symmetric part."""

    bits: int
    signed: bool
    symmetric: bool
    """Real zero lies in the middle, and as many steps lie above it as below."""

    @property
    def low(self) -> int:
        """Smallest number."""
        if self.symmetric:
            return 1 - 2 ** (self.bits - 1) if self.signed else 1
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest number."""
        return int(2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type that holds it."""
        return np.dtype("int8" if self.signed else "uint8")

    def fit(self, low: Any, high: Any, axis: int | None = None) -> Quantiser:
        """The quantiser that covers `low` … `high` and zero.

        Args:
            low: smallest value, a number or one for each channel, `(channels,)`.
            high: largest value, likewise.
            axis: of the channels; None for one range over all.
        """
        low, high = np.minimum(np.float64(low), 0.0), np.maximum(np.float64(high), 0.0)
        if self.symmetric:
            middle = 0 if self.signed else 2 ** (self.bits - 1)
            scale = np.maximum(-low, high) / (self.high - middle)
            zero = np.full(np.shape(scale), middle)
        else:
            scale = (high - low) / (self.high - self.low)
            zero = np.round(self.low - low / np.where(scale > 0, scale, 1.0))
        # a tensor that is zero throughout: any step will do
        scale = np.where(scale > np.finfo(np.float32).tiny, scale, 1.0)
        return Quantiser(self, scale.astype(np.float32), zero.astype(self.dtype), axis)


@dataclass(frozen=True)
class Quantiser:
    """A grid with its scale: ``real = (integer − zero_point) · scale``."""

    grid: Grid
    scale: Floats
    """`()` or `(channels,)`."""
    zero_point: NDArray[Any]
    """Of the same shape, in the grid's type."""
    axis: int | None = None
    """Axis of the channels."""

    def integers(self, values: Floats) -> NDArray[Any]:
        """The nearest integers, saturated at the ends; ties go to the even one, as in every runtime."""
        scale, zero = self._spread(self.scale, values.ndim), self._spread(self.zero_point, values.ndim)
        steps = np.round(values / scale) + zero.astype(np.float32)
        integers: NDArray[Any] = np.clip(steps, self.grid.low, self.grid.high).astype(self.grid.dtype)
        return integers

    def rounded(self, values: Floats) -> Floats:
        """What the integers stand for."""
        scale, zero = self._spread(self.scale, values.ndim), self._spread(self.zero_point, values.ndim)
        steps = self.integers(values).astype(np.float32) - zero.astype(np.float32)
        values = steps * scale
        return values.astype(np.float32)

    def _spread(self, per_channel: NDArray[Any], dimensions: int) -> NDArray[Any]:
        if self.axis is None:
            return per_channel
        shape = [1] * dimensions
        shape[self.axis] = -1
        return per_channel.reshape(shape)


def activation_grid(target: Target) -> Grid:
    """The grid of a target's activations."""
    return Grid(8, target.activation_type == "int8", target.activation_symmetric)


def weight_grid(target: Target, bits: int = 8) -> Grid:
    """The grid of a target's weights."""
    return Grid(bits, target.weight_type == "int8", target.weight_symmetric)


def fit_weight(
    weight: Floats, axis: int, grid: Grid, *, per_channel: bool, search: bool = False
) -> Quantiser:
    """The quantiser of a weight.

    Args:
        weight: any shape.
        axis: of its output channels.
        grid: the integers.
        per_channel: a scale for each output channel, else one for all.
        search: try narrower ranges too and take the one with the least squared error: a few large weights are
            clipped so that all others are rounded more finely. Worth it at 4 bits.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    rows = rows if per_channel else rows.reshape(1, -1)
    low, high = rows.min(axis=1, initial=0.0), rows.max(axis=1, initial=0.0)
    best = grid.fit(low, high, 0)
    if search:
        error = np.square(best.rounded(rows) - rows).sum(axis=1)
        shares = np.ones(len(rows))
        for share in np.linspace(0.95, 0.4, 23):
            tried = np.square(grid.fit(low * share, high * share, 0).rounded(rows) - rows).sum(axis=1)
            shares = np.where(tried < error, share, shares)
            error = np.minimum(error, tried)
        best = grid.fit(low * shares, high * shares, 0)
    if per_channel:
        return Quantiser(grid, best.scale, best.zero_point, axis)
    return Quantiser(grid, best.scale[0], best.zero_point[0])


def with_room_for_bias(weight: Quantiser, bias: Floats, input_scale: float) -> Quantiser:
    """A quantiser of the weight under which the bias fits into 32 bits.

    A bias is stored in steps of ``input scale · weight scale``. Where a channel's weights are tiny beside its
    bias, that step is so fine that the bias overflows; the channel's scale is then made coarser.
    """
    least = np.abs(bias.astype(np.float64)) / (INT32_MAX // 2) / input_scale
    if weight.axis is None:
        least = least.max(initial=0.0)
    scale = np.maximum(weight.scale, least.astype(np.float32)).astype(np.float32)
    return Quantiser(weight.grid, scale, weight.zero_point, weight.axis)


def bias_integers(bias: Floats, input_scale: float, weight_scale: Floats) -> NDArray[np.int32]:
    """A bias in steps of ``input_scale · weight_scale``, `(channels,)`."""
    steps = np.round(bias.astype(np.float64) / (np.float64(input_scale) * weight_scale.astype(np.float64)))
    return np.clip(steps, -INT32_MAX - 1, INT32_MAX).astype(np.int32)


def snr_db(exact: Sequence[float] | NDArray[Any], rounded: Sequence[float] | NDArray[Any]) -> float:
    """Power of the exact values over that of the error, in dB."""
    a, b = np.asarray(exact, np.float64), np.asarray(rounded, np.float64)
    return decibels(float(np.vdot(a, a)), float(np.vdot(a - b, a - b)))


def decibels(signal: float, noise: float) -> float:
    """Ratio of two powers in dB."""
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")

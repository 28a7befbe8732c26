"""The range of every tensor on calibration windows, in flat memory however many there are.

Two passes: the first finds the ends and what is wrong, the second counts a histogram between them, from which
the range is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeaudio.errors import DataError
from edgeaudio.quantization.grids import Floats, Grid, Quantiser
from edgeaudio.quantization.running import tensors_of

BINS = 2048
SAMPLES = 2**16
"""Values of one tensor that a run of windows adds to its histogram; more don't change it."""


@dataclass
class Observed:
    """One tensor's values over all calibration windows."""

    low: float = np.inf
    high: float = -np.inf
    finite: bool = True
    counts: NDArray[np.int64] | None = None
    """`(BINS,)` values in equal steps from `low` to `high`."""

    @property
    def silent(self) -> bool:
        """It was zero throughout."""
        return self.low == self.high == 0

    def ends(self, values: Floats) -> None:
        """First pass."""
        low, high = float(values.min()), float(values.max())
        self.finite &= bool(np.isfinite(low) and np.isfinite(high))
        self.low, self.high = min(self.low, low), max(self.high, high)

    def count(self, values: Floats) -> None:
        """Second pass."""
        flat = values.reshape(-1)
        flat = flat[:: max(1, len(flat) // SAMPLES)]
        if self.counts is None:
            self.counts = np.zeros(BINS, np.int64)
        width = self.high - self.low
        if width > 0:
            places = ((flat - self.low) * (BINS / width)).astype(np.int64).clip(0, BINS - 1)
            self.counts += np.bincount(places, minlength=BINS)

    @property
    def centres(self) -> NDArray[np.float64]:
        """`(BINS,)` middle of each step."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS

    def fit(self, grid: Grid, observer: str, percentile: float = 99.99) -> Quantiser:
        """The quantiser of this tensor.

        Args:
            grid: its integers.
            observer: ``minmax`` covers all that was seen; ``percentile`` leaves out the outermost values;
                ``mse`` takes the range with the least squared error, rounding and clipping together.
            percentile: share of the values inside the range, in percent.
        """
        if observer == "minmax" or self.counts is None or self.high <= self.low:
            return grid.fit(self.low, self.high)
        if observer == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            outside = (1 - percentile / 100) / (1 if self.low >= 0 or self.high <= 0 else 2)
            low = self.centres[np.searchsorted(share, outside)] if self.low < 0 else 0.0
            high = self.centres[np.searchsorted(share, 1 - outside)] if self.high > 0 else 0.0
            return grid.fit(low, high)
        return self._least_squares(grid)

    def _least_squares(self, grid: Grid) -> Quantiser:
        assert self.counts is not None
        filled = np.flatnonzero(self.counts)
        values, weight = self.centres[filled], self.counts[filled].astype(np.float64)
        shares = np.linspace(1.0, 0.2, 41)

        def error(low: float, high: float) -> float:
            quantiser = grid.fit(low, high)
            scale, zero = float(quantiser.scale), float(quantiser.zero_point)
            steps = np.clip(np.round(values / scale) + zero, grid.low, grid.high)
            return float(np.vdot(weight, np.square((steps - zero) * scale - values)))

        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if grid.symmetric or low == 0 or high == 0:
            best = min(shares, key=lambda share: error(low * share, high * share))
            return grid.fit(low * best, high * best)
        lows, highs = low * shares, high * shares
        for _ in range(2):  # one end at a time
            high = min(highs, key=lambda end: error(low, end))
            low = min(lows, key=lambda end: error(end, high))
        return grid.fit(low, high)

    def histogram(self, bins: int = 64) -> dict[str, Any]:
        """Ends and counts in coarse steps, for a picture."""
        counts = np.zeros(BINS, np.int64) if self.counts is None else self.counts
        return {
            "low": self.low,
            "high": self.high,
            "counts": counts.reshape(bins, -1).sum(axis=1).tolist(),
        }


def observe(model: onnx.ModelProto, tensors: Sequence[str], inputs: Floats) -> dict[str, Observed]:
    """Watch tensors on calibration windows.

    Args:
        model: the float network.
        tensors: their names.
        inputs: `(windows, 1, mels, frames)`, of training clips only.

    Raises:
        DataError: there is no window, or a tensor holds NaN or infinity.
    """
    if not len(inputs):
        raise DataError("there is no clip to calibrate with; ranges are never made up")
    if not np.isfinite(inputs).all():
        raise DataError(
            "the calibration clips give NaN or infinite log-mels; look at them with: edgeaudio data inspect"
        )
    seen = {name: Observed() for name in tensors}
    if not seen:
        return seen
    for values in tensors_of(model, tensors, inputs):
        for name, observed in seen.items():
            observed.ends(values[name])
    broken = [name for name, observed in seen.items() if not observed.finite]
    if broken:
        raise DataError(
            f"the network gives NaN or infinity at {broken[0]} on the calibration clips; "
            "its weights are broken, so train it anew"
        )
    for values in tensors_of(model, tensors, inputs):
        for name, observed in seen.items():
            observed.count(values[name])
    return seen

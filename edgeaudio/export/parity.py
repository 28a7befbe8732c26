"""Parity: each hop's answers held against those of the hop before it, on the same held-out clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Parity:
    """One hop against the one before it."""

    hop: str
    """Such as ``torch → ONNX fp32``."""
    tensor: str
    """What is compared: ``log_mel`` or ``logits``."""
    clips: int
    max_abs: float
    """Largest absolute difference."""
    rms: float
    """Root mean square of the differences."""
    snr_db: float
    """Power of the earlier hop's values over that of the differences, in dB."""
    cosine: float
    """Cosine similarity of all values."""
    top1_agreement: float | None = None
    """Share of windows with the same winner; None for a log-mel."""
    quality: float | None = None
    """The later hop's clip accuracy, or what `figure` names."""
    change: float | None = None
    """Of that against the earlier hop, in shares of 1."""
    bound: str = ""
    """What had to hold."""
    ok: bool = True
    """Whether it did."""
    broke_at: str = ""
    """Where it didn't: the first node that goes wrong, if the hop can be followed node by node."""
    figure: str = "accuracy"
    """What the quality is: ``accuracy``, or ``mAP`` with several labels a clip."""

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON values; the quality under its own name, such as ``accuracy``."""
        named = {"quality": self.figure, "change": f"{self.figure}_change"}
        return {named.get(key, key): value for key, value in asdict(self).items() if key != "figure"}


def compare(
    hop: str,
    tensor: str,
    pairs: Iterable[tuple[Array, Array]],
    clips: int,
    *,
    qualities: tuple[float, float] | None = None,
    figure: str = "accuracy",
    max_abs: float | None = None,
    max_rms: float | None = None,
    max_drop: float | None = None,
) -> Parity:
    """Compare two hops.

    Args:
        hop: its name.
        tensor: what the arrays hold.
        pairs: values of the earlier and of the later hop, both `(windows, …)`, in as many parts as wanted;
            one part at a time is held in memory.
        clips: number of held-out clips behind them.
        qualities: clip accuracy before and after, or another figure of the clips.
        figure: its name.
        max_abs: bound on the largest absolute difference.
        max_rms: bound on the root mean square of the differences.
        max_drop: bound on the fall of that figure, as a share of 1; one clip's share is always allowed.
    """
    sums = _Sums()
    for before, after in pairs:
        sums.add(np.asarray(before, np.float64), np.asarray(after, np.float64))
    rms = float(np.sqrt(sums.noise / sums.values))
    norm = float(np.sqrt(sums.signal * sums.power))
    bounds, ok = [], sums.finite
    change = qualities[1] - qualities[0] if qualities else None
    if max_abs is not None:
        bounds.append(f"max abs ≤ {max_abs:g}")
        ok &= sums.largest <= max_abs
    if max_rms is not None:
        bounds.append(f"RMS ≤ {max_rms:g}")
        ok &= rms <= max_rms
    if max_drop is not None and change is not None:
        allowed = max(max_drop, 1 / clips)
        bounds.append(f"{figure} falls ≤ {100 * allowed:.3g} points")
        ok &= change >= -allowed - 1e-9
    return Parity(
        hop=hop,
        tensor=tensor,
        clips=clips,
        max_abs=sums.largest,
        rms=rms,
        snr_db=float(10 * np.log10(sums.signal / sums.noise)) if sums.noise > 0 else float("inf"),
        cosine=sums.product / norm if norm > 0 else 1.0,
        top1_agreement=sums.same_winner / sums.windows if tensor == "logits" else None,
        quality=qualities[1] if qualities else None,
        change=change,
        bound=", ".join(bounds),
        ok=ok,
        figure=figure,
    )


@dataclass
class _Sums:
    """What is added up over the parts."""

    windows: int = 0
    values: int = 0
    signal: float = 0.0
    power: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    same_winner: int = 0
    finite: bool = True

    def add(self, before: Array, after: Array) -> None:
        assert before.shape == after.shape, f"{before.shape} against {after.shape}"
        error = after - before
        self.windows += len(before)
        self.values += before.size
        self.signal += float(np.vdot(before, before))
        self.power += float(np.vdot(after, after))
        self.noise += float(np.vdot(error, error))
        self.product += float(np.vdot(before, after))
        self.largest = max(self.largest, float(np.abs(error).max()))
        self.same_winner += int(np.sum(before.argmax(1) == after.argmax(1)))
        self.finite &= bool(np.isfinite(after).all())

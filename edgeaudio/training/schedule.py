"""The learning rate over a training, and its picture."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeaudio.config import TrainSpec


def learning_rate(spec: TrainSpec, epoch: float) -> float:
    """The rate at a time: warm-up, hold, decay, rest.

    Args:
        spec: the schedule.
        epoch: epochs since the start; fractions count unless `rate_per_epoch`.
    """
    if spec.rate_per_epoch:
        epoch = math.floor(epoch)
    return spec.learning_rate * _warmup(spec, epoch) * _decay(spec, epoch)


def curve(spec: TrainSpec, points: int = 200) -> tuple[list[float], list[float]]:
    """The whole schedule for a picture: epochs, and the rate at each."""
    epochs = [spec.epochs * k / points for k in range(points)]
    return epochs, [learning_rate(spec, epoch) for epoch in epochs]


def _warmup(spec: TrainSpec, epoch: float) -> float:
    if epoch >= spec.warmup_epochs:
        return 1.0
    if spec.warmup == "constant":
        return 0.1
    if spec.warmup == "exponential":
        # Laine & Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017
        return math.exp(-5 * (1 - max(epoch, 0.5) / spec.warmup_epochs) ** 2)
    # never quite zero, so that the very first step already learns
    return max(epoch / spec.warmup_epochs, 0.02)


def _decay(spec: TrainSpec, epoch: float) -> float:
    begin = max(spec.hold_epochs, spec.warmup_epochs)
    if spec.schedule == "constant":
        return 1.0
    if spec.schedule == "steps":
        return float(0.1 ** sum(epoch >= share * spec.epochs for share in spec.steps))
    length = spec.decay_epochs or spec.epochs - begin
    done = min(max(epoch - begin, 0.0) / max(length, 1e-9), 1.0)
    return _SHAPES[spec.schedule](done, spec)


def _cosine(done: float, spec: TrainSpec) -> float:
    return spec.final_lr_ratio + (1 - spec.final_lr_ratio) * (1 + math.cos(math.pi * done)) / 2


def _linear(done: float, spec: TrainSpec) -> float:
    return spec.final_lr_ratio + (1 - spec.final_lr_ratio) * (1 - done)


def _exponential(done: float, spec: TrainSpec) -> float:
    return float(max(spec.final_lr_ratio, 1e-12) ** done)


def _restarts(done: float, spec: TrainSpec) -> float:
    """Loshchilov & Hutter, "SGDR", ICLR 2017, with cycles of one length."""
    return _cosine(done * spec.restarts % 1.0 if done < 1 else 1.0, spec)


_SHAPES: dict[str, Callable[[float, TrainSpec], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "exponential": _exponential,
    "restarts": _restarts,
}

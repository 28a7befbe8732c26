"""Spectrograms of made-up tones, as small sets for the tests of autoencoders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.config import ModelSpec, TrainSpec
from edgeaudio.features.autoencoders import train_defaults
from edgeaudio.features.featureset import FeatureSet

FRAMES, BANDS = 20, 16
TINY = ModelSpec("t-rae", {"layers": 1, "units": 8})


def spectrograms(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Moving tones on a silent ground, each spanning [−1, 1]."""
    rng = np.random.default_rng(seed)
    time, band = np.arange(FRAMES)[:, None], np.arange(BANDS)
    out = []
    for _ in range(count):
        place = rng.uniform(2, BANDS - 2) + rng.uniform(-0.4, 0.4) * time
        tone = np.exp(-(((band - place) / 1.5) ** 2))
        out.append(np.maximum(2 * tone / tone.max() - 1, -1 + 1e-7).round(3))
    return np.asarray(out, np.float32)


def make_set(count: int = 24, *, chunks: int = 2, partitions: bool = False, seed: int = 0) -> FeatureSet:
    ids = np.arange(count) // chunks % 2
    part = np.asarray(np.arange(count) * 3 // count, np.int8) if partitions else None
    return FeatureSet(
        spectrograms(count, seed), ("time", "freq"),
        tuple(f"sound{k // chunks}.wav" for k in range(count)), np.arange(count) % chunks,
        tuple("ab"[k] for k in ids), ids, {"a": 0, "b": 1},
        np.asarray(np.arange(count * 2).reshape(count, 2) % 2, np.int8), part,
        {"kind": "spectrograms", "clip_below": -60.0},
    )  # fmt: skip


def spec(name: str = "t-rae", **changes: Any) -> TrainSpec:
    return TrainSpec(**{**train_defaults(name), "batch_size": 8, **changes})

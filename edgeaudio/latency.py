"""How long one inference takes: waveform in, scores out, one window at a time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgeaudio.predictor import Predictor

WARM_UP, RUNS = 10, 200
PROTOCOL = f"batch 1, waveform → scores, {WARM_UP} runs to warm up, then {RUNS} timed"


def measure(predictor: Predictor, graph: str, threads: int, runs: int = RUNS) -> dict[str, Any]:
    """Time a predictor on one window of faint noise.

    Returns:
        ``p50_ms``, ``p95_ms`` and ``p99_ms`` of `runs` single inferences, and ``real_time_factor``: the
        median over the length of the sound (below 1 is faster than real time).
    """
    samples = predictor.bundle.window_samples
    window = np.random.default_rng(0).normal(0, 0.05, (1, samples)).astype(np.float32)
    for _ in range(WARM_UP):
        predictor.score_windows(window)
    milliseconds = np.empty(runs)
    for i in range(runs):
        began = time.perf_counter()
        predictor.score_windows(window)
        milliseconds[i] = 1000 * (time.perf_counter() - began)
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return {
        "graph": graph,
        "threads": threads,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "runs": runs,
        "real_time_factor": float(p50 / 1000 * predictor.sample_rate / samples),
    }

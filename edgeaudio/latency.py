"""How long a call takes on this machine: waveform in, scores out."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeaudio.predictor import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

Call = Callable[[], object]

WARM_UP, RUNS = 10, 200
PROTOCOL = f"batch 1, waveform → scores, {WARM_UP} runs to warm up, then {RUNS} timed"
_BLOCK = 10
"""Timed calls of one kind in a row. One goes before them untimed: it finds its rival's data in the caches."""


def measure(predictor: Predictor, graph: str, threads: int, runs: int = RUNS) -> dict[str, Any]:
    """Time a predictor on one window of faint noise.

    Returns:
        ``p50_ms``, ``p95_ms`` and ``p99_ms`` of `runs` single inferences, and ``real_time_factor``: the
        median over the length of the sound (below 1 is faster than real time).
    """
    samples = predictor.bundle.window_samples
    window = noise(1, samples)
    times = interleaved({graph: lambda: predictor.score_windows(window)}, runs)[graph]
    return {
        "graph": graph,
        "threads": threads,
        **percentiles(times),
        "runs": runs,
        "real_time_factor": float(np.median(times) / 1000 * predictor.sample_rate / samples),
    }


def noise(windows: int, samples: int) -> NDArray[np.float32]:
    """Faint noise `(windows, samples)`, the same in every process."""
    return np.random.default_rng(0).normal(0, 0.05, (windows, samples)).astype(np.float32)


def interleaved(calls: dict[str, Call], runs: int = RUNS) -> dict[str, NDArray[np.float64]]:
    """Time calls in turns, so that whatever else the machine does hits all of them alike.

    Args:
        calls: name → what is timed.
        runs: timed calls of each.

    Returns:
        name → milliseconds `(runs,)`, in the order of the calls.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(0, runs, _BLOCK):
        for name, call in calls.items():
            call()
            times[name] += [_milliseconds(call) for _ in range(min(_BLOCK, runs - done))]
    return {name: np.array(values) for name, values in times.items()}


def percentiles(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    """``p50_ms``, ``p95_ms`` and ``p99_ms`` of times `(runs,)`."""
    points = np.percentile(milliseconds, [50, 95, 99])
    return {f"p{share}_ms": float(point) for share, point in zip((50, 95, 99), points, strict=True)}


def throughput(call: Call, seconds: float) -> float:
    """Calls a second, over at least that many seconds and ten calls."""
    began = time.perf_counter()
    for done in itertools.count(1):
        call()
        passed = time.perf_counter() - began
        if passed >= seconds and done >= 10:
            break
    return done / passed


def cpu_name() -> str:
    """The processor as the system calls it, with the number of cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def _milliseconds(call: Call) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)

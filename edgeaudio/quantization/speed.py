"""How fast a network is in floats and in integers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx

from edgeaudio.latency import Call, interleaved
from edgeaudio.quantization.grids import Floats
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner

SLOWER = 1.25
"""Integers that take this many times as long as floats aren't worth having."""
WORTH_TIMING_MS = 0.2
"""Below it nothing is gained, and the clock decides nothing."""
RUNS = 100


def model_speed(network: onnx.ModelProto, integer: onnx.ModelProto, one: Floats) -> dict[str, Any]:
    """Both networks, without a front end, in ONNX Runtime: one core, one window, timed in turns.

    Args:
        network: in floats.
        integer: in integers.
        one: an input `(1, …)`.

    Returns:
        ``fp32_ms`` and ``int8_ms`` (medians), and ``keep_float``: the integers are so much slower that floats
        are the better choice.
    """
    calls: dict[str, Call] = {}
    for name, model in (("fp32", network), ("int8", integer)):
        runner = OnnxRuntimeRunner(model.SerializeToString(), 1, f"the {name} network")
        calls[name] = partial(runner.run, model.graph.output[-1].name, one)
    times = interleaved(calls, RUNS)
    best = {name: float(values.min()) for name, values in times.items()}
    return {
        "fp32_ms": float(np.median(times["fp32"])),
        "int8_ms": float(np.median(times["int8"])),
        "keep_float": best["int8"] > SLOWER * best["fp32"] and best["int8"] > WORTH_TIMING_MS,
    }

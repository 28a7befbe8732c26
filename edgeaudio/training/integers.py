"""The integers of a trained network: found on training windows, held against validation windows.

The test windows play no part here: which layers stay in float, which epoch of quantisation-aware training is
kept, all is decided on windows that the network may see. What the integers cost on unseen clips is measured
afterwards (`measure.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from edgeaudio.config import Target
from edgeaudio.console import Console
from edgeaudio.export.onnx import LOG_MEL, LOGITS
from edgeaudio.frontend import build_front_end
from edgeaudio.quantization import Quantised, quantize
from edgeaudio.quantization.layers import layer_rows
from edgeaudio.quantization.optimised import optimised
from edgeaudio.quantization.sensitivity import mixed, sensitivity
from edgeaudio.quantization.speed import model_speed
from edgeaudio.training.job import Job
from edgeaudio.training.windows import WindowSet

SHOWN = 64  # windows that the layers' figures come from
BATCH = 32


def find_integers(
    network: onnx.ModelProto,
    calibration: NDArray[np.int64],
    train: WindowSet,
    val: WindowSet,
    job: Job,
    target: Target,
    console: Console,
) -> tuple[Quantised, dict[str, Any]]:
    """Quantise a network, let layers go back to float where too much is lost, and say what it came to.

    Args:
        network: ``log_mel`` → ``logits``, in float.
        calibration: indices of the training windows that ranges are taken from.
        train: training windows; quantisation-aware training hears them all.
        val: validation windows, which decide.
        job: the student's recipe, the techniques, the allowed drop.
        target: the integers.
        console: shows progress.
    """
    spec = job.quantisation
    log_mels = build_front_end(job.student.frontend)(train.waveform(calibration)).numpy()
    lost = _Lost(network, val, job)
    quantised = quantize(network, log_mels, target, spec)
    if spec.method == "qat":
        from edgeaudio.training.qat import train_integers

        quantised = train_integers(
            quantised, target, spec, train, val, job.student, job.seed, console, network
        )
    drop = lost(quantised)
    steps: list[dict[str, Any]] = []
    allowed = max(job.max_drop, 1 / len(val))
    if drop > allowed:
        quantised, steps = mixed(network, log_mels, target, spec, lost, allowed)
    shown = log_mels[np.linspace(0, len(log_mels) - 1, min(SHOWN, len(log_mels))).astype(int)]
    floats = [*spec.float_layers, *(step["layer"] for step in steps)]
    if spec.weight_bits < 8:  # weights alone are in integers, and nothing is computed in them
        floats += [layer.node for layer in quantised.placement.layers]
    runs = optimised(quantised.model, target, tuple(floats))
    return quantised, {
        "method": spec.method,
        "observer": spec.observer,
        "rounding": spec.rounding,
        "bias_correction": spec.bias_correction,
        "equalised": spec.equalise,
        "weight_bits": spec.weight_bits,
        "validation": {"windows": len(val), "lost": lost(quantised), "allowed": allowed, "at_first": drop},
        "steps": steps,
        "layers": layer_rows(quantised, shown, quantised.original),
        "sensitivity": sensitivity(network, shown, target, spec) if spec.scan else [],
        "runs_as": runs.to_json(),
        "speed": model_speed(network, quantised.model, shown[:1]),
        "warnings": list(quantised.warnings),
    }


def in_words(found: dict[str, Any]) -> str:
    """What was found, in half a line."""
    text = f"{found['calibration']['windows']} calibration windows"
    floats = [step["layer"] for step in found["steps"]]
    if floats:
        text += f", {len(floats)} layer(s) back in float: {', '.join(floats)}"
    return text


class _Lost:
    """Share of the validation windows that a network in integers gets wrong and the float one right, net."""

    def __init__(self, network: onnx.ModelProto, val: WindowSet, job: Job) -> None:
        self._source = val.mel_source(job.student.frontend, torch.device("cpu"))
        self._blocks = val.blocks(BATCH)
        self._targets = val.targets.numpy()[val.grid.clip]
        self._float = self._right(network)

    def __call__(self, quantised: Quantised) -> float:
        return self._float - self._right(quantised.model)

    def _right(self, model: onnx.ModelProto) -> float:
        winners = np.concatenate([logits.argmax(axis=1) for logits in self._logits(model)])
        return float(np.mean(winners == self._targets))

    def _logits(self, model: onnx.ModelProto) -> Iterator[NDArray[np.float32]]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for block in self._blocks:
            yield session.run([LOGITS], {LOG_MEL: self._source(block).numpy()})[0]

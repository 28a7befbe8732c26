"""The integers of a trained network: found on training windows, held against validation windows.

The test windows play no part here: which layers stay in float, which epoch of quantisation-aware training is
kept, all is decided on windows that the network may see. What the integers cost on unseen clips is measured
afterwards (`measure.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeaudio.config import Target
from edgeaudio.console import Console
from edgeaudio.frontend import build_front_end
from edgeaudio.quantization import Quantised, QuantSpec
from edgeaudio.quantization.layers import layer_rows
from edgeaudio.quantization.optimised import optimised
from edgeaudio.quantization.running import spread
from edgeaudio.quantization.sensitivity import mixed, sensitivity
from edgeaudio.quantization.speed import model_speed
from edgeaudio.training.job import Job
from edgeaudio.training.metrics import ACCURACY, MEAN_AP, quality
from edgeaudio.training.qat import network_logits, train_integers
from edgeaudio.training.windows import WindowSet

SHOWN = 64
"""Windows that the layers' figures come from."""


@dataclass(frozen=True)
class Found:
    """The integers of a network, and how they were found."""

    network: onnx.ModelProto
    """In float, as it came."""
    log_mels: NDArray[np.float32]
    """What ranges were taken from, `(windows, 1, mels, frames)`."""
    quantised: Quantised
    target: Target
    spec: QuantSpec
    validation: dict[str, Any]
    """Windows, and what of their accuracy (with several labels mAP) is lost, was lost at first, may be."""
    steps: list[dict[str, Any]]
    """A row for each layer that went back to float."""

    def to_json(self) -> dict[str, Any]:
        """What a report shows: every layer is measured, and both networks are timed."""
        spec, model = self.spec, self.quantised.model
        shown = spread(self.log_mels, SHOWN)
        floats = [*spec.float_layers, *(step["layer"] for step in self.steps)]
        if spec.weight_bits < 8:  # weights alone are in integers, and nothing is computed in them
            floats += [layer.node for layer in self.quantised.placement.layers]
        return {
            "method": spec.method,
            "observer": spec.observer,
            "rounding": spec.rounding,
            "bias_correction": spec.bias_correction and spec.rounding == "nearest",
            "equalised": spec.equalise,
            "weight_bits": spec.weight_bits,
            "validation": self.validation,
            "steps": self.steps,
            "layers": layer_rows(self.quantised, shown),
            "sensitivity": sensitivity(self.network, shown, self.target, spec) if spec.scan else [],
            "runs_as": optimised(model, self.target, tuple(floats)).to_json(),
            "speed": model_speed(self.network, model, shown[:1]),
            "warnings": list(self.quantised.warnings),
        }


def find_integers(
    network: onnx.ModelProto,
    calibration: NDArray[np.int64],
    train: WindowSet,
    val: WindowSet,
    job: Job,
    target: Target,
    console: Console,
) -> Found:
    """Quantise a network, and let layers go back to float where too much is lost.

    Args:
        network: ``log_mel`` → ``logits``, in float.
        calibration: indices of the training windows that ranges are taken from.
        train: training windows; quantisation-aware training hears them all.
        val: validation windows, which decide.
        job: the student's recipe, the techniques, the allowed drop.
        target: the integers.
        console: shows progress.
    """
    spec, recipe = job.quantisation, job.student
    log_mels = build_front_end(recipe.frontend)(train.waveform(calibration)).numpy()
    truth, figure = val.truth[val.grid.clip], MEAN_AP if val.several else ACCURACY

    def right(model: onnx.ModelProto) -> float:
        return quality(network_logits(model, val, recipe.frontend), truth)

    exact = right(network)

    def lost(quantised: Quantised) -> float:
        return exact - right(quantised.model)

    def trained(quantised: Quantised) -> Quantised:
        if spec.method == "ptq":
            return quantised
        return train_integers(quantised, target, spec, train, val, recipe, job.seed, console, network)

    allowed = max(job.max_drop, 1 / len(val))
    quantised, steps = mixed(network, log_mels, target, spec, lost, allowed, trained, figure)
    drop = lost(quantised)
    at_first = steps[0]["drop"] + steps[0]["gained"] if steps else drop
    validation = {"windows": len(val), "lost": drop, "allowed": allowed, "at_first": at_first}
    return Found(network, log_mels, quantised, target, spec, validation, steps)


def in_words(found: dict[str, Any]) -> str:
    """What was found, in half a line."""
    text = f"{found['calibration']['windows']} calibration windows"
    floats = [step["layer"] for step in found["steps"]]
    if floats:
        text += f", {len(floats)} layer(s) back in float: {', '.join(floats)}"
    return text

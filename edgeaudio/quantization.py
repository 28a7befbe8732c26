"""Post-training quantisation: a float network → one in the integers of a target.

Ranges are taken from real training clips and nothing else. Batch normalisation is folded beforehand; the
softmax and the front end stay in float32.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeaudio.config import Target
from edgeaudio.errors import DataError
from edgeaudio.export.onnx import LOG_MEL


def quantize(model: onnx.ModelProto, log_mels: NDArray[np.float32], target: Target) -> onnx.ModelProto:
    """Insert QuantizeLinear / DequantizeLinear pairs with ranges seen on real clips.

    Args:
        model: float graph from `log_mel`.
        log_mels: calibration inputs `(windows, 1, mels, frames)`, of training clips only.
        target: the integer grid.

    Raises:
        DataError: no calibration data, or it holds NaN.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not len(log_mels):
        raise DataError("there is no clip to calibrate with; ranges are never made up")
    if not np.isfinite(log_mels).all():
        raise DataError(
            "the calibration clips give NaN or infinite log-mels; look at them with: edgeaudio data inspect"
        )
    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    with tempfile.TemporaryDirectory() as scratch:
        # the library only takes files
        source, result = Path(scratch, "float.onnx"), Path(scratch, "integer.onnx")
        source.write_bytes(model.SerializeToString())
        with _without_advice():
            quantize_static(
                source, result, _Calibration(log_mels), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(target.quantised_ops),
                nodes_to_exclude=_readers(model) if target.float_input_layer else [],
                per_channel=target.per_channel,
                activation_type=types[target.activation_type], weight_type=types[target.weight_type],
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": target.activation_symmetric,
                    "WeightSymmetric": target.weight_symmetric,
                    "QuantizeBias": target.quantised_bias,
                },
            )  # fmt: skip
        return onnx.load(result)


def _readers(model: onnx.ModelProto) -> list[str]:
    """The nodes that read the log-mel, through whatever only turns its axes."""
    names, tensors = [], {LOG_MEL}
    for node in model.graph.node:  # in order of execution
        if tensors & set(node.input):
            names.append(node.name)
            if node.op_type in ("Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze"):
                tensors |= set(node.output)
    return names


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the library's advice to clean the graph up first: the exporter has done that."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Calibration:
    """Feeds log-mels in small batches, as the quantiser asks for them."""

    def __init__(self, log_mels: NDArray[np.float32], batch: int = 16) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(
            [log_mels[i : i + batch] for i in range(0, len(log_mels), batch)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next input, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {LOG_MEL: batch}

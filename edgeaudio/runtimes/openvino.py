"""OpenVINO on the CPU, in float32: its default would compute in bf16 where the processor can."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from edgeaudio.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenVinoRunner:
    """One compiled model with its request."""

    def __init__(self, path: Path, threads: int) -> None:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",  # bf16 puts the log-mel off by 0.1
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            model = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise BundleError(f"{path} can't be opened by OpenVINO: {error}") from error
        self._request = model.create_infer_request()

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgeaudio.runtimes.Runner`."""
        self._request.infer({0: waveform}, share_inputs=True)
        return np.array(self._request.get_tensor(output).data)  # the request's own memory is written anew


def open_graph(path: Path, threads: int) -> OpenVinoRunner:
    """Open an ONNX file."""
    return OpenVinoRunner(path, threads)

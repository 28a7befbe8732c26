"""OpenVINO on the CPU, in float32: its default would compute in bf16 where the processor can.

The graph is compiled for one window, and several go through it one after another: with an open batch the
front end alone takes a fifth longer, and a batch of 32 is no faster for each of its windows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from edgeaudio.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenVinoRunner:
    """One compiled model with its request.

    Args:
        path: an ONNX file; its batch may be open.
        threads: cores that one inference may use.
    """

    def __init__(self, path: Path, threads: int) -> None:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",  # bf16 puts the log-mel off by 0.1
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        # asked for by name, since a damaged file would be shown to all of OpenVINO's readers, which chatter
        reader = FrontEndManager().load_by_framework("onnx")
        try:
            model = reader.convert(reader.load(str(path)))
            if not model.inputs:  # what it makes of an empty file
                raise ValueError("it holds no graph")
            shape = model.input(0).partial_shape
            shape[0] = 1
            model.reshape(shape)
            self.compiled = openvino.Core().compile_model(model, "CPU", settings)
        except Exception as error:  # its errors share no base but this
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            raise BundleError(
                f"{path} can't be read by OpenVINO ({reason}); copy the bundle again"
            ) from error
        self._request = self.compiled.create_infer_request()
        self._outputs = {name: port for port in self.compiled.outputs for name in port.names}

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgeaudio.runtimes.Runner`."""
        parts = []
        for i in range(len(waveform)):
            self._request.infer({0: waveform[i : i + 1]}, share_inputs=True)
            # a copy, since the request writes into its own memory anew
            parts.append(np.array(self._request.get_tensor(self._outputs[output]).data))
        return np.concatenate(parts)


def open_graph(path: Path, threads: int) -> OpenVinoRunner:
    """Open an ONNX file."""
    return OpenVinoRunner(path, threads)

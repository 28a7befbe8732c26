"""ONNX Runtime on the CPU: the runtime that every installation has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from edgeaudio.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OnnxRuntimeRunner:
    """One session.

    Args:
        source: the graph's file, or its bytes.
        threads: cores that one inference may use.
        name: what an error calls the graph.
    """

    def __init__(self, source: Path | bytes, threads: int, name: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                source, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises classes of its own, without a common base
            raise BundleError(f"{name} can't be opened by ONNX Runtime: {error}") from error
        entry = self._session.get_inputs()[0]
        self._input = entry.name
        self._batch = entry.shape[0] if isinstance(entry.shape[0], int) else 0  # 0: any number at once

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgeaudio.runtimes.Runner`."""
        step = self._batch or len(waveform)
        parts = [
            self._session.run([output], {self._input: waveform[i : i + step]})[0]
            for i in range(0, len(waveform), step)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def open_graph(path: Path, threads: int) -> OnnxRuntimeRunner:
    """Open an ONNX file."""
    return OnnxRuntimeRunner(path, threads, str(path))

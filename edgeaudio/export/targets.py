"""What a target's graphs are made from, and who makes them.

A target is data (`export/*.toml`). Its runtime names the module that writes its files; each such module has
one function ``write(pieces, target, folder) -> {precision: file}``, and none knows another.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeaudio.config import FrontEndSpec, Target
from edgeaudio.errors import MissingExtraError
from edgeaudio.models import Model

WRITERS = {
    "onnxruntime": "onnx_graphs",
    "openvino": "onnx_graphs",
    "onnxruntime-web": "onnx_graphs",
    "tensorrt": "tensorrt",
    "litert": "litert",
    "executorch": "executorch",
}
"""Runtime → module of this package that writes its files."""
ONNX_RUNTIMES = tuple(name for name, writer in WRITERS.items() if writer in ("onnx_graphs", "tensorrt"))
"""Their files are ONNX graphs, with integers of our own quantiser."""
EXTRAS = {
    "litert_torch": "litert-export",
    "ai_edge_quantizer": "litert-export",
    "executorch": "executorch",
    "torchao": "executorch",
    "tensorrt": "tensorrt",
}
"""Package that a writer needs → the extra that brings it."""


@dataclass(frozen=True)
class Pieces:
    """A trained network and all that an export needs beside it."""

    spec: FrontEndSpec
    window: int
    """Samples in one inference, at ``spec.sample_rate``."""
    model: Model
    """Log-mel → logits, trained, in evaluation mode, on the CPU."""
    front_end: onnx.ModelProto
    """Waveform `(batch, window)` → ``log_mel``."""
    network: onnx.ModelProto
    """``log_mel`` → ``scores`` and ``logits``, in float32, batch norms folded."""
    calibration: NDArray[np.float32]
    """Training windows `(windows, samples)` that integer ranges are taken from."""
    integers: onnx.ModelProto | None = None
    """The network in the target's integers, for the runtimes that read ONNX files; None lets the writer find
    them from the calibration windows."""
    metadata: dict[str, object] = field(default_factory=dict)
    """Written into the graph where its format has a place for it."""
    several: bool = False
    """Whether a clip may have several labels: scores are then sigmoids, else a softmax."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one log-mel, `(1, 1, mels, frames)`."""
        return (1, 1, self.spec.n_mels, self.spec.frames(self.window))


def write_graphs(pieces: Pieces, target: Target, folder: Path) -> dict[str, Path]:
    """Write a target's graphs into a folder.

    Returns:
        precision → file, for each of ``target.precisions``.

    Raises:
        MissingExtraError: the tools of that runtime aren't installed.
        BoundError: the network holds something that the runtime can't run.
    """
    try:
        module = importlib.import_module(f"edgeaudio.export.{WRITERS[target.runtime]}")
        files: dict[str, Path] = module.write(pieces, target, folder)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtraError(
            f"target {target.name} needs {package}, which isn't installed; "
            f"pip install 'edgeaudio[{EXTRAS[package]}]'"
        ) from error
    return files

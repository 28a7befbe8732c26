"""What runs a graph of a bundle: one file a runtime, each imported only when a bundle asks for it.

A runtime is chosen by the name that the bundle's manifest holds. Each module has one function
``open_graph(path, threads) -> Runner``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeaudio.errors import BundleError, MissingExtraError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RUNTIMES = {
    "onnxruntime": "onnx_runtime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "litert": "litert",
    "executorch": "executorch",
    "onnxruntime-web": "onnx_runtime",  # the same files; here they are run natively
}
"""Name in a manifest → module of this package."""
EXTRAS = {
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "ai_edge_litert": "litert",
    "executorch": "executorch",
    "torch": "executorch",  # its Python runtime answers in torch tensors
}
"""Package that a runtime needs → the extra that brings it."""
SUFFIXES = {"litert": ".tflite", "executorch": ".pte"}
"""Endings of graph files; ``.onnx`` where nothing is said."""


class Runner(Protocol):
    """An opened graph."""

    def run(self, output: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the graph gives.

        Args:
            output: ``scores``, ``logits`` or another output of the graph.
            waveform: windows `(n, samples)`; any number, also where the graph was made for one at a time.

        Returns:
            `(n, …)`.
        """


def open_graph(runtime: str, path: Path, threads: int = 1) -> Runner:
    """Open a graph.

    Args:
        runtime: one of `RUNTIMES`.
        path: the graph's file.
        threads: cores that one inference may use.

    Raises:
        BundleError: an unknown runtime, or one that can't read the file.
        MissingExtraError: the runtime isn't installed.
    """
    if runtime not in RUNTIMES:
        raise BundleError(
            f"{path} is for the runtime {runtime!r}, which this edgeaudio doesn't know; "
            f"{did_you_mean(runtime, RUNTIMES)}"
        )
    try:
        module = importlib.import_module(f"edgeaudio.runtimes.{RUNTIMES[runtime]}")
        runner: Runner = module.open_graph(path, threads)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtraError(
            f"{path} needs {package}, which isn't installed; pip install 'edgeaudio[{EXTRAS[package]}]'"
        ) from error
    return runner

"""The layers of a bundle's graph: what its weighted operators read, and what that is for some sounds.

The shipped file is opened with one more output, the tensor that is listened to; nothing else is changed. The
last weighted operator is the classifier, and what it reads is the embedding; a graph that gives its embedding
itself is taken at its word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio.bundle import Bundle
from edgeaudio.config import file_hash
from edgeaudio.errors import BundleError, RecipeError, did_you_mean
from edgeaudio.features.layers import EMBEDDING, LOGITS, Layer, averaged, chosen
from edgeaudio.onnx_split import FRONT_END, LOG_MEL
from edgeaudio.runtimes.onnx_runtime import OnnxRuntimeRunner

_WEIGHTED = ("Conv", "Gemm", "MatMul")


class GraphLayers:
    """A bundle's float graph for ONNX Runtime.

    Args:
        bundle: read and checked.

    Raises:
        BundleError: it is for another runtime, or has no float graph.
    """

    def __init__(self, bundle: Bundle) -> None:
        import onnx

        if bundle.runtime != "onnxruntime" or "fp32" not in bundle.graphs:
            raise BundleError(
                f"{bundle.folder} holds no float graph for ONNX Runtime, which embeddings are taken from; "
                "name the run that made it, or export it with --target x86"
            )
        path = bundle.graph_path("fp32")
        self.sha256 = file_hash(path)
        self._bundle, self._model = bundle, onnx.load(path)
        self._runner: tuple[str, OnnxRuntimeRunner] | None = None
        self._table: list[Layer] = []

    def table(self) -> list[Layer]:
        """The layers, the first one first: what weighted operators read, the embedding, logits."""
        if not self._table:
            names = [*self._inputs(), LOGITS]
            outputs = [output.name for output in self._model.graph.output]
            if EMBEDDING in outputs:
                names[-2] = EMBEDDING
            shapes = self._shapes(names)
            last = len(names) - 1
            self._table = [
                Layer(name, shape, last - i, name if len(shape) == 1 else "")
                for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
            ]
        return self._table

    def choose(self, name: str, drop: int) -> Layer:
        """The layer of a tensor's name, or the one that is left when `drop` are left out.

        Raises:
            RecipeError: there is none.
        """
        if not name:
            return chosen(self.table(), drop)
        found = next((layer for layer in self.table() if layer.name == name), None)
        if found is None:
            known = [layer.name for layer in self.table()]
            raise RecipeError(f"{self._bundle.folder} has no layer {name!r}; {did_you_mean(name, known)}")
        return found

    def embed(self, waveforms: NDArray[np.float32], layer: Layer) -> NDArray[np.float32]:
        """Waveforms `(windows, samples)` → what the tensor holds, averaged, `(windows, features)`."""
        if self._runner is None or self._runner[0] != layer.name:
            self._runner = (layer.name, self._opened([layer.name]))
        # a window at a time, as the shipped predictor does: batches change the last bits
        rows = [averaged(self._runner[1].run(layer.name, row[None])) for row in waveforms]
        return np.concatenate(rows).astype(np.float32, copy=False)

    def _inputs(self) -> list[str]:
        """Tensors that weighted operators of the network read, in order, without the log-mel itself."""
        graph = self._model.graph
        weights = {tensor.name for tensor in graph.initializer}
        front = FRONT_END.decode()
        nodes = [node for node in graph.node if not node.name.startswith(front) and node.op_type in _WEIGHTED]
        read = [node.input[0] for node in nodes if node.input[1] in weights]
        return [name for name in dict.fromkeys(read) if name != LOG_MEL.decode()]

    def _shapes(self, names: list[str]) -> list[tuple[int, ...]]:
        runner = self._opened(names)
        silence = np.zeros((1, self._bundle.window_samples), np.float32)
        return [tuple(runner.run(name, silence).shape[1:]) for name in names]

    def _opened(self, names: list[str]) -> OnnxRuntimeRunner:
        import onnx

        model: Any = onnx.ModelProto()
        model.CopyFrom(self._model)
        given = {output.name for output in model.graph.output}
        model.graph.output.extend(_open_output(onnx, name) for name in names if name not in given)
        return OnnxRuntimeRunner(model.SerializeToString(), 0, str(self._bundle.folder))


def _open_output(onnx: Any, name: str) -> Any:
    """An output whose shape is left to the runtime."""
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

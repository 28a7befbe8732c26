"""A network in integers, run layer after layer, so that a layer can be changed by what its input really is.

Each layer is computed once: what lies between it and the layers before it is a small graph of its own, fed
with the outputs that are held. An output is let go when no later layer needs it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgeaudio.quantization.grids import Floats
from edgeaudio.quantization.kept_float import keep_float
from edgeaudio.quantization.placement import Layer
from edgeaudio.quantization.running import batch_of

Runs = list[Floats]
"""One tensor for all windows, a few windows at a time."""


@dataclass(frozen=True)
class _Piece:
    """Nodes that lead from tensors that are held to one tensor."""

    graph: onnx.ModelProto
    inputs: tuple[str, ...]
    output: str


class Stepwise:
    """Runs the layers of a network in order of execution.

    For each layer in turn: `given` is what it reads, `answer` what it makes of that, and `hold` says what the
    layers behind it are to see of it.
    """

    def __init__(self, model: onnx.ModelProto, layers: tuple[Layer, ...], inputs: Floats) -> None:
        """Cut the network at its layers.

        Args:
            model: the network, rounded or not; its nodes are named.
            layers: in order of execution.
            inputs: `(windows, …)`.
        """
        self._model = model = keep_float(model)
        self._nodes = {node.name: node for node in model.graph.node}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        start = model.graph.input[0].name
        size = batch_of(model)
        self._held: dict[str, Runs] = {
            start: [np.ascontiguousarray(inputs[i : i + size]) for i in range(0, len(inputs), size)]
        }
        self._pieces: dict[str, _Piece] = {}
        known = {start}
        for layer in layers:
            node = self._nodes[layer.node]
            self._pieces[layer.node] = self._piece(node.input[0], known)
            known.add(node.output[0])
        self._wanted = Counter(name for piece in self._pieces.values() for name in piece.inputs)

    def given(self, layer: Layer) -> Runs:
        """What the layer reads, rounded as it reads it."""
        piece = self._pieces[layer.node]
        found = self._run(piece, {name: self._held[name] for name in piece.inputs})
        for name in piece.inputs:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._held[name]
        return found

    def answer(self, layer: Layer, given: Runs, weight: Floats | None = None) -> Runs:
        """What the layer gives for that, before its activation; with another weight on request."""
        node = self._nodes[layer.node]
        alone = self._piece(node.output[0], {node.input[0]})
        if weight is not None:
            for tensor in alone.graph.graph.node:
                if tensor.name == layer.node:
                    tensor.input[1] = "weight/tried"
            alone.graph.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight/tried"))
        return self._run(alone, {node.input[0]: given})

    def hold(self, layer: Layer, values: Runs) -> None:
        """Let the layers behind it see these values of its output."""
        name = self._nodes[layer.node].output[0]
        if self._wanted[name]:
            self._held[name] = values

    def _piece(self, output: str, known: set[str]) -> _Piece:
        makers = {name: node for node in self._model.graph.node for name in node.output}
        inputs, constants, kept, waiting = set(), set(), set(), [output]
        while waiting:
            name = waiting.pop()
            if name in known:
                inputs.add(name)
            elif name in self._constants:
                constants.add(name)
            elif name and makers[name].name not in kept:
                kept.add(makers[name].name)
                waiting.extend(makers[name].input)
        graph = helper.make_graph(
            [node for node in self._model.graph.node if node.name in kept],
            "piece",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(inputs)],
            [helper.make_empty_tensor_value_info(output)],
            [self._constants[name] for name in sorted(constants)],
        )
        model = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        return _Piece(model, tuple(sorted(inputs)), output)

    def _run(self, piece: _Piece, values: dict[str, Runs]) -> Runs:
        if piece.output in values:
            return values[piece.output]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            piece.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        runs = zip(*(values[name] for name in piece.inputs), strict=True)
        return [session.run([piece.output], dict(zip(piece.inputs, run, strict=True)))[0] for run in runs]

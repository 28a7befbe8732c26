"""ONNX files that a TensorRT builder takes as they are: static shapes, every type written in the graph.

float32: the joined graph. float16: the front end stays in float32, the network is float16 between a Cast
behind `log_mel` and one before the outputs, and what sums many values (norms, means, softmax) is cast to
float32 and back. int8: explicit symmetric Q/DQ around the weighted operators, nothing else.

Where a builder and a GPU are there, an engine is built beside each file (see `tensorrt_build`). What has been
run: the files, in ONNX Runtime, and `tensorrt_check`. What hasn't: a builder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeaudio.bundle import graph_file
from edgeaudio.config import Target
from edgeaudio.errors import BoundError
from edgeaudio.export import onnx as graphs
from edgeaudio.export.onnx_graphs import integers
from edgeaudio.export.targets import Pieces
from edgeaudio.export.tensorrt_build import build_engine, can_build
from edgeaudio.export.tensorrt_check import SUMMING, check

HALF_MAX = float(np.finfo(np.float16).max)


def write(pieces: Pieces, target: Target, folder: Path) -> dict[str, Path]:
    """Write the graphs, waveform in, scores and logits out in float32; see `edgeaudio.export.targets`.

    Raises:
        BoundError: a builder would refuse a graph, or a weight leaves float16's range.
    """
    files = {}
    for precision in target.precisions:
        network = pieces.network
        if precision == "fp16":
            network = half(network)
        elif precision == "int8":
            network = integers(pieces, target)
        joined = graphs.join(pieces.front_end, network, pieces.metadata)
        model = fixed(joined, target.batch or 1)
        refusals = [finding.sentence for finding in check(model) if finding.refusal]
        if refusals:
            raise BoundError(f"TensorRT would refuse the {precision} graph: {' '.join(refusals)}")
        files[precision] = folder / graph_file(precision, target.runtime)
        graphs.save(model, files[precision])
        if can_build():
            build_engine(files[precision], files[precision].with_suffix(".engine"))
    return files


def fixed(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The model with its batch fixed, and with that of its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opsets = {opset.domain: opset.version for opset in copy.opset_import}  # joining lists them twice
    del copy.opset_import[:]
    copy.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in opsets.items())
    for value in copy.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    del copy.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(copy, check_type=True, strict_mode=True, data_prop=True)
    del inferred.graph.value_info[:]  # each follows from the inputs
    return inferred


def half(network: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in float16, with every Cast in the graph; its input and outputs stay float32.

    Raises:
        BoundError: a weight is too large for float16.
    """
    network = onnx.shape_inference.infer_shapes(network, check_type=True, strict_mode=True, data_prop=True)
    return _Halved(network).model


class _Halved:
    """Walks a graph in the order of execution and casts what stands between two types."""

    def __init__(self, network: onnx.ModelProto) -> None:
        graph = network.graph
        self.opset = next(opset.version for opset in network.opset_import if opset.domain == "")
        values = (*graph.input, *graph.output, *graph.value_info)
        kinds = {value.name: value.type.tensor_type.elem_type for value in values}
        kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        self.floats = {name for name, kind in kinds.items() if kind == TensorProto.FLOAT}
        self.outputs = {value.name for value in graph.output}
        self.now = dict.fromkeys(self.floats, TensorProto.FLOAT)
        self.casts: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            self._visit(node)
        self.model = onnx.ModelProto()
        self.model.CopyFrom(network)
        del self.model.graph.node[:], self.model.graph.initializer[:], self.model.graph.value_info[:]
        self.model.graph.node.extend(self.nodes)
        self.model.graph.initializer.extend(self.weights.values())
        _drop_unread(self.model.graph)

    def _visit(self, source: onnx.NodeProto) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        wide = node.op_type in SUMMING or not self.floats & set(node.input)
        schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        for place, name in enumerate(node.input):
            if name in self.floats:
                formal = schema.inputs[min(place, len(schema.inputs) - 1)]
                narrow = not wide and "tensor(float16)" in formal.types
                node.input[place] = self._as(name, TensorProto.FLOAT16 if narrow else TensorProto.FLOAT)
        self.nodes.append(node)
        for place, name in enumerate(node.output):
            if name in self.floats and not wide:
                self.now[name] = TensorProto.FLOAT16
                if name in self.outputs:
                    node.output[place] = f"{name}/half"
                    self.casts[name, TensorProto.FLOAT16] = node.output[place]
                    self._cast(node.output[place], name, TensorProto.FLOAT)

    def _as(self, name: str, kind: int) -> str:
        """The name under which a tensor is there in the wanted type."""
        if name in self.outputs:  # there in float32 under its own name, and perhaps in float16 too
            if kind == TensorProto.FLOAT or (name, kind) in self.casts:
                return self.casts.get((name, kind), name)
        elif self.now[name] == kind:
            return name
        if (name, kind) not in self.casts:
            self.casts[name, kind] = other = f"{name}/{'half' if kind == TensorProto.FLOAT16 else 'float'}"
            if name in self.weights:
                self.weights[other] = _halved_weight(self.weights[name], other)
            else:
                self._cast(name, other, kind)
        return self.casts[name, kind]

    def _cast(self, source: str, name: str, kind: int) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [name], name=f"cast/{name}", to=kind))


def _halved_weight(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0.0) > HALF_MAX:
        raise BoundError(
            f"weight {tensor.name} reaches {np.abs(values).max():g}, but float16 ends at {HALF_MAX:g}; "
            "leave fp16 out of the target's precisions"
        )
    return numpy_helper.from_array(values.astype(np.float16), name)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that nothing reads, until none is left."""
    while True:
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        kept = [node for node in graph.node if read & set(node.output)]
        weights = [tensor for tensor in graph.initializer if tensor.name in read]
        if len(kept) == len(graph.node) and len(weights) == len(graph.initializer):
            return
        del graph.node[:], graph.initializer[:]
        graph.node.extend(kept)
        graph.initializer.extend(weights)

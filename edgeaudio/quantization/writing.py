"""A float network, the places where it is rounded, and the quantisers there → the graph with Q/DQ pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeaudio.config import Target
from edgeaudio.quantization.grids import (
    Floats,
    Grid,
    Quantiser,
    bias_integers,
    fit_weight,
    weight_grid,
    with_room_for_bias,
)
from edgeaudio.quantization.kept_float import keep_float
from edgeaudio.quantization.placement import Placement

OPSET_OF_4_BITS = 21


def constants(model: onnx.ModelProto) -> dict[str, Floats]:
    """The constant tensors of a graph that are float32, by name."""
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }


def with_constants(model: onnx.ModelProto, values: dict[str, Floats]) -> onnx.ModelProto:
    """A copy with other values for some of its constant tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))
    return copy


def fit_weights(
    model: onnx.ModelProto,
    placement: Placement,
    activations: dict[str, Quantiser],
    target: Target,
    bits: int = 8,
) -> dict[str, Quantiser]:
    """A quantiser for every weight, under which its bias fits into 32 bits.

    Args:
        model: the float network.
        placement: its layers.
        activations: tensor → quantiser.
        target: per channel or not, symmetric or not.
        bits: 8 or 4.
    """
    values, found = constants(model), {}
    for layer in placement.layers:
        quantiser = fit_weight(
            values[layer.weight], layer.axis, weight_grid(target, bits),
            per_channel=target.per_channel, search=bits < 8,
        )  # fmt: skip
        if layer.bias and placement.integer_biases:
            scale = float(activations[layer.input].scale)
            quantiser = with_room_for_bias(quantiser, values[layer.bias], scale)
        found[layer.weight] = quantiser
    return found


def write(
    model: onnx.ModelProto,
    placement: Placement,
    activations: dict[str, Quantiser],
    weights: dict[str, Quantiser],
) -> onnx.ModelProto:
    """Insert the pairs.

    Args:
        model: the float network; its nodes have names.
        placement: where it is rounded.
        activations: tensor → quantiser, for every tensor of the placement.
        weights: weight → quantiser, for every layer.

    Returns:
        The network with QuantizeLinear and DequantizeLinear, integers for weights and, where the placement
        says so, for biases. Inputs and outputs keep their names and types.
    """
    return keep_float(_Writing(model, placement, activations, weights).model)


class _Writing:
    """Writes node after node."""

    def __init__(
        self,
        model: onnx.ModelProto,
        placement: Placement,
        activations: dict[str, Quantiser],
        weights: dict[str, Quantiser],
    ) -> None:
        self.values = constants(model)
        self.placement = placement
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        self.new: list[TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.renamed: dict[tuple[str, str], str] = {}  # (node, tensor) → under what name it reads it
        self.outputs = {value.name for value in graph.output}
        pending = placement.readers.keys() - self.outputs
        given_exactly = placement.readers.keys() & self.outputs

        for name in dict.fromkeys(layer.weight for layer in placement.layers):  # layers may share one
            self._weight(name, weights[name])
        for layer in placement.layers:
            self.renamed[layer.node, layer.weight] = f"{layer.weight}/rounded"
            if layer.bias and placement.integer_biases:
                self.renamed[layer.node, layer.bias] = self._bias(
                    layer.bias, layer.node, activations[layer.input], weights[layer.weight]
                )
        for value in graph.input:
            if value.name in pending:
                self._pair(value.name, value.name, f"{value.name}/rounded", activations[value.name])
        for source in model.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(source)
            node.input[:] = [self._name_for(source.name, name) for name in source.input]
            self.nodes.append(node)
            for place, name in enumerate(source.output):
                if name in pending:
                    self._pair(name, name, f"{name}/rounded", activations[name])
                elif name in given_exactly:  # the graph's own output: it keeps its name behind the pair
                    node.output[place] = f"{name}/exact"
                    self._pair(name, node.output[place], name, activations[name])
        graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
        graph.initializer.extend([*kept, *self.new])
        self._check_opset()

    def _name_for(self, node: str, tensor: str) -> str:
        if (node, tensor) in self.renamed:
            return self.renamed[node, tensor]
        if node in self.placement.readers.get(tensor, ()) and tensor not in self.outputs:
            return f"{tensor}/rounded"
        return tensor

    def _pair(self, name: str, source: str, result: str, quantiser: Quantiser) -> None:
        scale, zero = self._grid(name, quantiser)
        self._node("QuantizeLinear", [source, scale, zero], f"{name}/integer", quantiser)
        self._node("DequantizeLinear", [f"{name}/integer", scale, zero], result, quantiser)

    def _weight(self, name: str, quantiser: Quantiser) -> None:
        integers = quantiser.integers(self.values[name])
        scale, zero = self._grid(name, quantiser)
        self._constant(f"{name}/integer", integers, quantiser.grid)
        self._node("DequantizeLinear", [f"{name}/integer", scale, zero], f"{name}/rounded", quantiser)

    def _bias(self, name: str, node: str, given: Quantiser, weight: Quantiser) -> str:
        values = self.values[name]
        scale = (given.scale.astype(np.float64) * weight.scale.astype(np.float64)).astype(np.float32)
        per_channel = scale.ndim > 0
        integers = bias_integers(values, float(given.scale), weight.scale)
        stem = f"{name}/of/{node}"
        self._constant(f"{stem}/integer", integers)
        self._constant(f"{stem}/scale", scale)
        self._constant(f"{stem}/zero_point", np.zeros(scale.shape, np.int32))
        inputs = [f"{stem}/{part}" for part in ("integer", "scale", "zero_point")]
        attributes: dict[str, Any] = {"axis": 0} if per_channel else {}
        result, name = f"{stem}/rounded", f"{stem}/dequantise"
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [result], name, **attributes))
        return result

    def _grid(self, name: str, quantiser: Quantiser) -> tuple[str, str]:
        names = (f"{name}/scale", f"{name}/zero_point")
        self._constant(names[0], quantiser.scale)
        self._constant(names[1], quantiser.zero_point, quantiser.grid)
        return names

    def _node(self, op: str, inputs: list[str], output: str, quantiser: Quantiser) -> None:
        verb = "quantise" if op == "QuantizeLinear" else "dequantise"
        attributes: dict[str, Any] = {} if quantiser.axis is None else {"axis": quantiser.axis}
        self.nodes.append(helper.make_node(op, inputs, [output], f"{output}/{verb}", **attributes))

    def _constant(self, name: str, values: NDArray[np.generic], grid: Grid | None = None) -> None:
        if grid is not None and grid.bits == 4:
            kind = TensorProto.INT4 if grid.signed else TensorProto.UINT4
            self.new.append(helper.make_tensor(name, kind, values.shape, values.astype(np.int8).flatten()))
        else:
            self.new.append(numpy_helper.from_array(np.asarray(values), name))

    def _check_opset(self) -> None:
        """Integers of 4 bits came with opset 21, which left the operators that we use as they were."""
        if any(tensor.data_type in (TensorProto.INT4, TensorProto.UINT4) for tensor in self.new):
            for opset in self.model.opset_import:
                if opset.domain == "":
                    opset.version = max(opset.version, OPSET_OF_4_BITS)
            self.model.ir_version = max(self.model.ir_version, 10)

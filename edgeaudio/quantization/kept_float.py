"""Layers that are to stay in float, kept from ONNX Runtime's own quantisation.

Where a convolution with float weights stands between DequantizeLinear and QuantizeLinear, with nothing but a
ReLU on the way, ONNX Runtime rounds its weights to int8 when it loads the file, with one scale for all
channels: it takes the pairs for a wish. A maximum in between stops it, at the cost of one cheap pass.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper

WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
FLOOR = "kept_float/floor"
LOWEST = "kept_float/lowest"


def keep_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put a maximum behind every float layer that ONNX Runtime would round.

    It stands in for the ReLU where there is one, with 0, and is with the lowest float where there is none. A
    graph without such layers comes back as it is, and one that was treated already too.

    Args:
        model: a network with Q/DQ pairs.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    floats = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {value.name for value in graph.output}
    nodes, floors = [], set()
    for node in graph.node:
        nodes.append(node)
        if node.op_type not in WEIGHTED or node.input[1] not in floats:
            continue
        if made_by.get(node.input[0]) != "DequantizeLinear" or node.output[0] in outputs:
            continue
        behind = readers[node.output[0]]
        if len(behind) != 1 or behind[0].op_type not in ("Clip", "QuantizeLinear", "Relu"):
            continue
        if behind[0].op_type == "Relu":
            behind[0].op_type = "Max"
            behind[0].input.append(FLOOR)
            floors.add(FLOOR)
        else:
            result = node.output[0]
            node.output[0] = f"{result}/unbounded"
            name = f"{node.name}/kept_float"
            nodes.append(helper.make_node("Max", [node.output[0], LOWEST], [result], name))
            floors.add(LOWEST)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)
    values = {FLOOR: np.float32(0), LOWEST: np.finfo(np.float32).min}
    present = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(values[name]), name) for name in sorted(floors - present)
    )
    return copy

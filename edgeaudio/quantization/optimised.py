"""What ONNX Runtime makes of a graph in integers: a file may say int8 and the runtime compute in float."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from edgeaudio.config import Target
from edgeaudio.export.onnx import LOG_MEL
from edgeaudio.quantization.placement import readers_of

FLOAT_CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv", "NhwcFusedConv")
BLOCKED = "_nchwc"
"""What follows a tensor's name in that of a convolution with its channels in blocks."""
DYNAMIC = ("ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger")
"""Operators that work out their inputs' ranges at every inference."""


@dataclass(frozen=True)
class Optimised:
    """The graph that really runs."""

    integer_convolutions: int
    """QLinearConv nodes."""
    float_convolutions: tuple[str, ...]
    """Names of those that compute in float, as they are called in the file."""
    idle_pairs: tuple[str, ...]
    """Tensors that are dequantised only to be quantised again."""
    transposes: int
    conversions: int
    """QuantizeLinear and DequantizeLinear nodes that run."""
    operators: dict[str, int]
    """All nodes, by operator."""
    findings: tuple[str, ...]
    """A sentence for whatever the target and the recipe don't explain."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists."""
        return asdict(self)


def optimised(
    model: onnx.ModelProto, target: Target | None = None, float_layers: tuple[str, ...] = ()
) -> Optimised:
    """Let ONNX Runtime optimise a graph for this processor, and read it back.

    Args:
        model: a graph in integers, the network alone or with its front end.
        target: explains why the convolution that reads the log-mel is in float; without one, whatever is in
            float in the file is taken to be so on purpose.
        float_layers: nodes that are in float on purpose.
    """
    graph = _read_back(model).graph
    kinds = Counter(node.op_type for node in graph.node)
    in_file = {node.name: node for node in model.graph.node}
    floats = tuple(_float_convolutions(graph, model.graph))
    idle = tuple(_idle_pairs(graph))
    asked_for = set(float_layers)
    if target is not None and target.float_input_layer:
        made = {name for node in model.graph.node for name in node.output}
        given = model.graph.input[0].name
        asked_for |= set(readers_of(model, LOG_MEL if LOG_MEL in made else given))
    findings = [
        f"{name} computes in float although its weights are integers; ONNX Runtime has no integer kernel for "
        "it on this processor, so look at the types and at what lies between it and its rounding"
        if _is_quantised(in_file.get(name), model.graph)
        else f"{name} stayed in float, and neither the target nor the recipe asks for it"
        for name in floats
        if not _is_named(name, asked_for)
        and (target is not None or _is_quantised(in_file.get(name), model.graph))
    ]
    findings += [
        f"{node.name} is in float in the file, but ONNX Runtime rounds its weights when it loads it"
        for node in model.graph.node
        if node.op_type in FLOAT_CONVOLUTIONS
        and node.name not in floats
        and not _is_quantised(node, model.graph)
    ]
    findings += [
        f"{name} is dequantised only to be quantised again, at the cost of two passes" for name in idle
    ]
    findings += [
        f"{kinds[kind]} × {kind}: ranges are worked out at every inference, which calibration should spare"
        for kind in DYNAMIC
        if kinds[kind]
    ]
    return Optimised(
        integer_convolutions=kinds["QLinearConv"],
        float_convolutions=floats,
        idle_pairs=idle,
        transposes=kinds["Transpose"],
        conversions=kinds["QuantizeLinear"] + kinds["DequantizeLinear"],
        operators=dict(sorted(kinds.items())),
        findings=tuple(findings),
    )


def _read_back(model: onnx.ModelProto) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(scratch, "optimised.onnx"))
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _float_convolutions(graph: onnx.GraphProto, before: onnx.GraphProto) -> Iterator[str]:
    """Found by what they write: the runtime renames nodes, and tensors only by what it appends."""
    makers = {name: node.name for node in before.node for name in node.output}
    sources = {node.output[0]: node for node in before.node}
    for node in graph.node:
        if node.op_type not in FLOAT_CONVOLUTIONS:
            continue
        result = node.output[0]
        if node.name.endswith(BLOCKED):
            result = node.name.removesuffix(BLOCKED)
        while result in sources and sources[result].op_type not in FLOAT_CONVOLUTIONS:
            result = sources[result].input[0]  # the runtime put the activation behind it inside
        yield makers.get(result, node.name)


def _idle_pairs(graph: onnx.GraphProto) -> Iterator[str]:
    """DequantizeLinear whose only readers are QuantizeLinear."""
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] not in outputs:
            readers = [reader.op_type for reader in graph.node if node.output[0] in reader.input]
            if readers and set(readers) == {"QuantizeLinear"}:
                yield node.output[0]


def _is_quantised(node: onnx.NodeProto | None, graph: onnx.GraphProto) -> bool:
    """Whether its weight comes from integers."""
    makers = {name: maker.op_type for maker in graph.node for name in maker.output}
    return node is not None and len(node.input) > 1 and makers.get(node.input[1]) == "DequantizeLinear"


def _is_named(name: str, asked_for: set[str]) -> bool:
    """Joined behind a front end, the network's nodes have a prefix."""
    return name in asked_for or name.removeprefix("model/") in asked_for

"""What a TensorRT builder would refuse or run badly, found in the ONNX file without a builder.

The rules are those of explicitly quantised, strongly typed networks, which TensorRT 11 takes alone and
TensorRT 10.12 takes on request. No rule here has been held against a builder: each follows the vendor's
documents, which the constants below name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeaudio.export.onnx import LOG_MEL

# Operators of the default domain that the parser takes, from `docs/operators.md` of onnx-tensorrt at its
# release 10.1, and the parser's entries in TensorRT's change log up to 11.2: windows 10.4, Attention 10.14,
# RMSNormalization, RotaryEmbedding and TensorScatter 10.15, Swish 11.0. STFT and DFT: see SLOW.
_SUPPORTED = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
BlackmanWindow Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh
CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten
Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity
If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
Loop LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg
NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization RNN RandomNormal
RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
ReverseSequence RoiAlign RotaryEmbedding Round Scan ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign
Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
SUPPORTED = frozenset(_SUPPORTED.split())
SLOW = {
    "STFT": "TensorRT refuses it before 10.5 and lowers it to convolutions since",
    "DFT": "TensorRT refuses it before 11.2 and needs a plugin since",
}
"""Operators that keep a graph from running well, and why; from the change log, 10.5 and 11.2."""
OLDEST_OPSET, NEWEST_OPSET = 9, 20
"""What TensorRT 10.0 takes; 11 goes up to 25 (its opset guide)."""

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
KINDS = FLOATS | {TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}
"""Element types that a tensor between two layers may have; int8 only between Q and DQ."""
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
"""Operators that compute in integers where both their inputs are dequantised."""
NORMALISING = {
    "BatchNormalization", "Div", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
    "LpNormalization", "RMSNormalization", "ReduceL2", "ReduceMean", "ReduceSumSquare", "Softmax",
}  # fmt: skip
SUMMING = {
    "GlobalAveragePool", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "RMSNormalization",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceSum", "ReduceSumSquare",
    "Softmax",
}  # fmt: skip
"""Operators that add up many values: some thousand squares already pass float16's 65504."""


@dataclass(frozen=True)
class Finding:
    """One thing that stands in the way."""

    rule: str
    """``operator``, ``opset``, ``shape``, ``type``, ``half``, ``zero point``, ``scale``, ``axis`` or
    ``placement``."""
    node: str
    """The node or constant that it is about."""
    sentence: str
    refusal: bool = True
    """False: it builds, but is worth knowing."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


class _Graph:
    """A model with what the rules look up: constants, makers and readers of tensors, types and shapes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        inferred, self.contradiction = _inferred(model)
        graph = inferred.graph
        self.nodes = list(graph.node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        self.inputs = [value for value in graph.input if value.name not in self.constants]
        self.outputs = list(graph.output)
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for place, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, place))
        values = (*self.inputs, *self.outputs, *graph.value_info)
        self.kinds = {value.name: value.type.tensor_type.elem_type for value in values}
        self.kinds |= {name: tensor.data_type for name, tensor in self.constants.items()}
        self.fixed = {value.name for value in values if _is_fixed(value)} | set(self.constants)

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant's values; None where the name is no constant."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def check(model: onnx.ModelProto) -> list[Finding]:
    """Everything in a model that a TensorRT builder would refuse or run badly.

    Args:
        model: the whole graph with its weights, waveform in, scores out.

    Returns:
        findings in the order of the graph; empty where nothing stands in the way.
    """
    graph = _Graph(model)
    rules = (_operators, _opset, _shapes, _types, _halves, _quantisers, _placement)
    return [finding for rule in rules for finding in rule(graph)]


def _operators(graph: _Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield _about(
                "operator",
                node,
                f"is of the domain {node.domain}, which only a plugin brings; export without it",
            )
        elif node.op_type in SLOW:
            yield _about(
                "operator", node, f"would run badly: {SLOW[node.op_type]}; export the factored DFT instead"
            )
        elif node.op_type not in SUPPORTED:
            yield _about(
                "operator", node, "is not among the operators that TensorRT's parser takes; replace it"
            )
        elif any(attribute.HasField("g") for attribute in node.attribute):
            yield _about("operator", node, "holds a graph of its own, which this check can't see; flatten it")


def _opset(graph: _Graph) -> Iterator[Finding]:
    version = graph.opsets.get("", graph.opsets.get("ai.onnx", 0))
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        yield Finding(
            "opset", "", f"The graph has opset {version}, but TensorRT 10 takes {OLDEST_OPSET} to "
            f"{NEWEST_OPSET}; export it with one of these.", refusal=version < OLDEST_OPSET or version > 25,
        )  # fmt: skip


def _shapes(graph: _Graph) -> Iterator[Finding]:
    loose = [value.name for value in graph.inputs if value.name not in graph.fixed]
    for name in loose:
        yield Finding(
            "shape", name, f"Input {name!r} has an open dimension; fix the batch and the window in the graph."
        )
    if loose:
        return  # everything behind it is open too, for no reason of its own
    for node in graph.nodes:
        if set(filter(None, node.output)) - graph.fixed and not set(filter(None, node.input)) - graph.fixed:
            yield _about(
                "shape", node, "has an output whose shape isn't known before the run; make it static"
            )


def _types(graph: _Graph) -> Iterator[Finding]:
    for name, tensor in graph.constants.items():
        if tensor.data_type == TensorProto.DOUBLE:
            readers = ", ".join(_title(node) for node, _ in graph.readers.get(name, [])) or "nothing"
            yield Finding(
                "type", name, f"Constant {name!r}, read by {readers}, is float64, which no layer computes "
                "in; store it as float32.",
            )  # fmt: skip
    for value in graph.inputs:
        yield from _kind(graph, value.name, f"Input {value.name!r}", value.name)
    for node in graph.nodes:
        if node.op_type != "Constant":
            for name in filter(None, node.output):
                yield from _kind(graph, name, _title(node), node.name or node.output[0])
        yield from _mixed(graph, node)
    if graph.contradiction:
        yield Finding("type", "", f"Shapes and types contradict each other: {graph.contradiction}.")
    for value in graph.outputs:
        if graph.kinds[value.name] in HALVES:
            yield Finding("type", value.name, f"Output {value.name!r} is float16; cast it to float32 before.")


def _kind(graph: _Graph, name: str, title: str, node: str) -> Iterator[Finding]:
    kind = graph.kinds.get(name, TensorProto.UNDEFINED)
    if kind == TensorProto.UNDEFINED or kind in KINDS:
        return  # of an unknown type only where the shape rule already speaks
    word = TensorProto.DataType.Name(kind).lower()
    yield Finding(
        "type", node, f"{title} gives {word} as {name!r}, but TensorRT computes in float32, float16 and "
        "symmetric int8; choose one of these.",
    )  # fmt: skip


def _mixed(graph: _Graph, node: onnx.NodeProto) -> Iterator[Finding]:
    """Inputs that the operator's own schema binds to one type must have one: nothing is cast on the way."""
    if not onnx.defs.has(node.op_type, node.domain):
        return
    schema = onnx.defs.get_schema(node.op_type, graph.opsets.get(node.domain, 1), node.domain)
    bound: dict[str, dict[int, str]] = {}
    for place, name in enumerate(node.input):
        formal = schema.inputs[min(place, len(schema.inputs) - 1)]
        if kind := graph.kinds.get(name, TensorProto.UNDEFINED):
            bound.setdefault(formal.type_str, {}).setdefault(kind, name)
    for kinds in bound.values():
        if len(kinds) > 1:
            words = " and ".join(f"{TensorProto.DataType.Name(k).lower()} {n!r}" for k, n in kinds.items())
            yield _about("type", node, f"mixes {words}; a strongly typed network needs a Cast before it")


def _halves(graph: _Graph) -> Iterator[Finding]:
    front_end = _before(graph, LOG_MEL)
    for node in graph.nodes:
        if not any(graph.kinds.get(name) in HALVES for name in (*node.input, *node.output)):
            continue
        if node.output[0] in front_end:
            yield _about("half", node, "is part of the front end and in float16, whose range a spectrum "
                         "leaves; keep the front end in float32")  # fmt: skip
        elif node.op_type in SUMMING:
            yield _about(
                "half", node, "sums in float16, whose range ends at 65504; cast to float32 around it"
            )


def _before(graph: _Graph, name: str) -> set[str]:
    """All tensors that a tensor is made from, itself included."""
    found, waiting = set(), [name]
    while waiting:
        tensor = waiting.pop()
        if tensor in graph.makers and tensor not in found:
            found.add(tensor)
            waiting += graph.makers[tensor].input
    return found


def _quantisers(graph: _Graph) -> Iterator[Finding]:
    """Every Q and DQ by itself: int8, zero point 0, positive scales, one for an activation."""
    for node in graph.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        point = node.input[2] if len(node.input) > 2 else ""
        integer = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        if (kind := graph.kinds.get(integer)) != TensorProto.INT8:
            word = TensorProto.DataType.Name(kind or 0).lower()
            yield _about("type", node, f"works on {word}; TensorRT takes int8 with the zero point 0")
        if point:
            zeros = graph.array(point)
            if zeros is None or np.any(zeros):
                yield _about(
                    "zero point", node, "has a zero point that isn't a constant 0; quantise symmetrically"
                )
        yield from _scale(graph, node)


def _scale(graph: _Graph, node: onnx.NodeProto) -> Iterator[Finding]:
    scale = graph.array(node.input[1])
    if scale is None:
        yield _about("scale", node, "has a scale that is computed at run time; make it a constant")
        return
    if not (np.isfinite(scale) & (scale > 0)).all():
        yield _about("scale", node, "has a scale that isn't positive and finite; calibrate again")
    weight = _weight_of(graph, node)
    if weight is None:
        if scale.size != 1:
            yield _about("scale", node, "has several scales for an activation; give it one")
        return
    for reader, place in graph.readers.get(node.output[0], []):
        if reader.op_type in WEIGHTED and place < 2:
            yield from _channels(node, reader, scale, weight)


def _channels(
    node: onnx.NodeProto, reader: onnx.NodeProto, scale: NDArray[Any], weight: onnx.TensorProto
) -> Iterator[Finding]:
    """A scale a channel must run along the output channels of the operator that reads the weight."""
    rank = len(weight.dims)
    right = {"Conv": 0, "ConvTranspose": 1, "MatMul": rank - 1}.get(reader.op_type)
    if right is None:  # Gemm, whose weight is turned or not
        right = 0 if _attribute(reader, "transB", 0) else 1
    if scale.ndim == 0 or scale.size == 1 != weight.dims[right]:
        if reader.op_type == "Conv" and _attribute(reader, "group", 1) > 1:
            yield _about("scale", node, "has one scale for all channels of a depthwise convolution, which "
                         "costs much accuracy; quantise per channel", refusal=False)  # fmt: skip
        return
    axis = _attribute(node, "axis", 1) % rank
    if axis != right or scale.size != weight.dims[right]:
        yield _about(
            "axis", node, f"has {scale.size} scales along axis {axis} of the weight of {_title(reader)}, "
            f"whose output channels lie on axis {right} ({weight.dims[right]}); quantise along that one",
        )  # fmt: skip


def _placement(graph: _Graph) -> Iterator[Finding]:
    """Q leads to DQ, and DQ to an operator that computes in integers, on both its sides."""
    outputs = {value.name for value in graph.outputs}
    for node in graph.nodes:
        readers = graph.readers.get(node.output[0], []) if node.output else []
        if node.op_type == "QuantizeLinear":
            for reader, _ in readers:
                if reader.op_type != "DequantizeLinear":
                    yield _about(
                        "placement", node, f"is read by {_title(reader)}; put a DequantizeLinear between"
                    )
        elif node.op_type == "DequantizeLinear":
            if node.output[0] in outputs:
                yield _about("placement", node, "gives an output of the graph; leave outputs in float")
            for reader, place in readers:
                if reason := _misplaced(graph, reader, place):
                    yield _about("placement", node, f"feeds {reason} {_title(reader)}; leave that in float")
        elif node.op_type in WEIGHTED and len(node.input) > 1:
            sides = [_is_dequantised(graph, name) for name in node.input[:2]]
            if sides[0] != sides[1]:
                yield _about(
                    "placement", node, "has one side in integers and one in float; quantise both or none"
                )


def _misplaced(graph: _Graph, reader: onnx.NodeProto, place: int) -> str:
    """What a DQ must not feed there; empty where it may."""
    if reader.op_type in WEIGHTED:
        return "the bias of" if place == 2 else ""
    if reader.op_type in NORMALISING:
        return "the normalisation"
    if reader.op_type in ("Add", "Sum") and not any(name in graph.constants for name in reader.input):
        return "the residual add"
    return "the float operator"


def _weight_of(graph: _Graph, node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The constant that a Q or DQ works on, through the Q before a DQ; None for an activation."""
    name = node.input[0]
    maker = graph.makers.get(name)
    if maker is not None and maker.op_type == "QuantizeLinear":
        name = maker.input[0]
    return graph.constants.get(name)


def _is_dequantised(graph: _Graph, name: str) -> bool:
    maker = graph.makers.get(name)
    return maker is not None and maker.op_type == "DequantizeLinear"


def _about(rule: str, node: onnx.NodeProto, what: str, *, refusal: bool = True) -> Finding:
    return Finding(rule, node.name or node.output[0], f"{_title(node)} {what}.", refusal)


def _title(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]!r}"


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    for attribute in node.attribute:
        if attribute.name == name:
            return int(helper.get_attribute_value(attribute))
    return default


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)


def _inferred(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model with all types and shapes that follow, and what contradicts itself where something does."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]  # what the file says of its tensors may be stale
    try:
        return onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True), ""
    except Exception as error:  # the library's error has no public class of its own in all versions
        reason = " ".join(str(error).split()).rstrip(".")
        return onnx.shape_inference.infer_shapes(bare, data_prop=True), reason

"""Ways to break a graph that TensorRT takes: each changes one thing, and returns what a finding must name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def named(model: onnx.ModelProto, kind: str, place: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == kind][place]


def replace(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def _asymmetric(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[2], np.int8(3))
    return node.name


def _uint8(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[2], np.uint8(0))
    return node.name


def _no_zero_point(model: onnx.ModelProto) -> str:
    """Without one, ONNX quantises to uint8."""
    node = named(model, "QuantizeLinear")
    del node.input[2]
    return node.name


def _negative_scale(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[1], np.float32(-0.1))
    return node.name


def _scales_for_an_activation(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[1], np.full(12, 0.1, np.float32))
    replace(model, node.input[2], np.zeros(12, np.int8))
    return node.name


def _weight_dequantiser(model: onnx.ModelProto) -> onnx.NodeProto:
    weights = {
        t.name for t in model.graph.initializer if len(t.dims) == 4 and t.data_type == TensorProto.INT8
    }
    return next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights)


def _wrong_axis(model: onnx.ModelProto) -> str:
    node = _weight_dequantiser(model)
    inputs = constant(model, node.input[0]).shape[1]
    replace(model, node.input[1], np.full(inputs, 0.1, np.float32))
    replace(model, node.input[2], np.zeros(inputs, np.int8))
    node.attribute[0].i = 1
    return node.name


def _bias(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.op_type == "Conv" and len(n.input) == 3)
    size = constant(model, node.input[2]).shape[0]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.int8), "bias_q"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "bias_scale"))
    made = helper.make_node("DequantizeLinear", ["bias_q", "bias_scale"], ["bias_dq"], name="rounded_bias")
    model.graph.node.insert(0, made)
    node.input[2] = "bias_dq"
    return "rounded_bias"


def _rounded(model: onnx.ModelProto, kind: str, activations: int) -> str:
    """Put a Q/DQ pair before an operator of a kind that reads so many activations."""
    constants = {t.name for t in model.graph.initializer}
    place, node = next(
        (i, n)
        for i, n in enumerate(model.graph.node)
        if n.op_type == kind and n.name.startswith("model/") and len(set(n.input) - constants) == activations
    )
    source = next(name for name in node.input if name not in constants)
    like = named(model, "QuantizeLinear")
    pair = [
        helper.make_node("QuantizeLinear", [source, *like.input[1:]], ["added_q"], name="added_q"),
        helper.make_node("DequantizeLinear", ["added_q", *like.input[1:]], ["added_dq"], name="added_dq"),
    ]
    for made in reversed(pair):
        model.graph.node.insert(place, made)
    named_node = model.graph.node[place + 2]
    named_node.input[list(named_node.input).index(source)] = "added_dq"
    return "added_dq"


def _residual(model: onnx.ModelProto) -> str:
    return _rounded(model, "Add", 2)


def _norm(model: onnx.ModelProto) -> str:
    return _rounded(model, "ReduceL2", 1)


def _pool(model: onnx.ModelProto) -> str:
    return _rounded(model, "AveragePool", 1)


def _one_side(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.op_type == "Conv" and n.input[0].endswith("/rounded"))
    makers = {name: n for n in model.graph.node for name in n.output}
    node.input[0] = makers[makers[node.input[0]].input[0]].input[0]
    return node.name


def _open_batch(model: onnx.ModelProto) -> str:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return "waveform"


def _stft(model: onnx.ModelProto) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.int64(320), "step"))
    model.graph.initializer.append(numpy_helper.from_array(np.int64(512), "length"))
    shape = numpy_helper.from_array(np.array([1, 16000, 1], np.int64), "column")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["waveform", "column"], ["signal"], name="reshape"))
    inputs = ["signal", "step", "", "length"]
    model.graph.node.append(helper.make_node("STFT", inputs, ["spectrum"], name="spectrum"))
    return "spectrum"


def _unknown(model: onnx.ModelProto) -> str:
    model.graph.node.append(helper.make_node("Det", ["model/square"], ["det"], name="det"))
    model.graph.initializer.append(numpy_helper.from_array(np.eye(3, dtype=np.float32), "model/square"))
    return "det"


def _plugin(model: onnx.ModelProto) -> str:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Odd", ["logits"], ["odd"], name="odd", domain="com.example"))
    return "odd"


def _double(model: onnx.ModelProto) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.float64(2.0), "double"))
    model.graph.node.append(helper.make_node("Sqrt", ["double"], ["root"], name="root"))
    return "double"


def _mixed(model: onnx.ModelProto) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.float16(2.0), "small"))
    model.graph.node.append(helper.make_node("Mul", ["logits", "small"], ["mixed"], name="mixing"))
    return "mixing"


def _half_front_end(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.name.startswith("frontend/") and n.op_type == "Log")
    place = list(model.graph.node).index(node)
    source, result = node.input[0], node.output[0]
    node.input[0], node.output[0] = "narrow", "narrow_log"
    casts = [
        helper.make_node("Cast", ["narrow_log"], [result], name="widen", to=TensorProto.FLOAT),
        helper.make_node("Cast", [source], ["narrow"], name="narrow", to=TensorProto.FLOAT16),
    ]
    model.graph.node.insert(place + 1, casts[0])
    model.graph.node.insert(place, casts[1])
    return node.name


def _half_sum(model: onnx.ModelProto) -> str:
    model.graph.node.append(
        helper.make_node("Cast", ["logits"], ["small"], name="small", to=TensorProto.FLOAT16)
    )
    model.graph.node.append(helper.make_node("ReduceSum", ["small"], ["sum"], name="sum", keepdims=0))
    return "sum"


BREAKAGES: dict[str, tuple[Callable[[onnx.ModelProto], str], str, str]] = {
    "asymmetric zero point": (_asymmetric, "zero point", "quantise symmetrically"),
    "uint8": (_uint8, "type", "uint8"),
    "no zero point": (_no_zero_point, "type", "uint8"),
    "negative scale": (_negative_scale, "scale", "positive and finite"),
    "scales for an activation": (_scales_for_an_activation, "scale", "several scales for an activation"),
    "wrong axis": (_wrong_axis, "axis", "output channels lie on axis 0"),
    "Q/DQ on a bias": (_bias, "placement", "feeds the bias of Conv"),
    "Q/DQ on a residual add": (_residual, "placement", "feeds the residual add Add"),
    "Q/DQ on a norm": (_norm, "placement", "feeds the normalisation ReduceL2"),
    "Q/DQ on a pool": (_pool, "placement", "feeds the float operator AveragePool"),
    "integers on one side": (_one_side, "placement", "one side in integers"),
    "dynamic batch": (_open_batch, "shape", "open dimension"),
    "STFT": (_stft, "operator", "export the factored DFT"),
    "unknown operator": (_unknown, "operator", "not among the operators"),
    "foreign domain": (_plugin, "operator", "com.example"),
    "double constant": (_double, "type", "read by Sqrt 'root', is float64"),
    "mixed types": (_mixed, "type", "mixes float 'logits' and float16 'small'"),
    "front end in half": (_half_front_end, "half", "keep the front end in float32"),
    "sum in half": (_half_sum, "half", "65504"),
}

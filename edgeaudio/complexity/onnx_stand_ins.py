"""ONNX Runtime's own operators as standard ones that answer the same shape.

onnx knows nothing of them, so every shape behind one would be unknown. The stand-ins are for shape inference
alone: what is counted are the nodes themselves.
"""

from __future__ import annotations

from typing import Any

from edgeaudio.complexity.graph import words

MICROSOFT = "com.microsoft"
_LIKE_FIRST = words(
    "BiasGelu BiasSoftmax FastGelu Gelu MultiHeadAttention QLinearLeakyRelu QLinearSigmoid QLinearSoftmax "
    "QuickGelu SkipLayerNormalization SkipSimplifiedLayerNormalization"
)
# operator → the standard one, and which inputs that takes
_STAND_INS: dict[str, tuple[str, tuple[int, ...]]] = {
    **dict.fromkeys(_LIKE_FIRST, ("Identity", (0,))),
    "DequantizeLinear": ("DequantizeLinear", (0, 1, 2)),
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "FusedMatMul": ("Einsum", (0, 1)),
    "MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "QGemm": ("Gemm", (0, 3)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearConcat": ("Concat", ()),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearReduceMean": ("ReduceMean", (0,)),
    "QuantizeLinear": ("QuantizeLinear", (0, 1, 2)),
}


def stand_in(node: Any) -> Any:
    """The node itself, or one of the standard for what only ONNX Runtime has."""
    from onnx import defs, helper

    if node.domain != MICROSOFT or node.op_type not in _STAND_INS:
        return node
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if attributes.get("channels_last") or attributes.get("transBatchA") or attributes.get("transBatchB"):
        return node
    kind, slots = _STAND_INS[node.op_type]
    read = [node.input[slot] for slot in slots if slot < len(node.input)]
    if node.op_type == "QLinearConcat":  # scale and zero point of the output, then three for each input
        read = list(node.input[2::3])
    if kind == "Einsum":
        left = "...ki" if attributes.get("transA") else "...ik"
        right = "...jk" if attributes.get("transB") else "...kj"
        attributes = {"equation": f"{left},{right}->...ij"}
    known = defs.get_schema(kind).attributes
    kept = {name: value for name, value in attributes.items() if name in known}
    return helper.make_node(kind, read, node.output[:1], node.name, **kept)

"""What one ONNX operator multiplies and accumulates, and which operators do so at all.

Three kinds of operators: those with a formula here, those known not to multiply matrices (`FREE`), and the
rest, whose cost nobody here knows and which a count has to name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeaudio.complexity.graph import words

Shape = tuple[int, ...]

ELEMENTWISE = words(
    # of ONNX
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast "
    "CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual "
    "HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or "
    "PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum SwiGLU "
    "Swish Tan Tanh ThresholdedRelu Where Xor "
    # of ONNX Runtime
    "BiasGelu FastGelu QuickGelu QLinearAdd QLinearLeakyRelu QLinearMul QLinearSigmoid"
)
VIEWS = words("BitCast Flatten Identity Reshape Squeeze Unsqueeze")  # same bytes, another shape
_MOVES = words(
    "CenterCropPad Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Expand "
    "EyeLike Gather GatherElements GatherND NonZero OneHot Optional OptionalGetElement OptionalHasElement "
    "Pad Range ReverseSequence Scatter ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty "
    "SequenceErase SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence "
    "TensorScatter Tile TopK Transpose Trilu Unique QLinearConcat"
)
_REDUCES = words(
    "ArgMax ArgMin CumProd CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum ReduceSumSquare QLinearReduceMean"
)
_POOLS = words(
    "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool MaxUnpool "
    "NhwcMaxPool QLinearAveragePool QLinearGlobalAveragePool"
)
_NORMALISES = words(
    "BatchNormalization BiasSoftmax GroupNormalization Hardmax InstanceNormalization LRN LayerNormalization "
    "LogSoftmax LpNormalization MeanVarianceNormalization QLinearSoftmax RMSNormalization "
    "SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization Softmax"
)
_GENERATES = words(
    "Bernoulli BlackmanWindow HammingWindow HannWindow Multinomial RandomNormal RandomNormalLike "
    "RandomUniform RandomUniformLike"
)
_CONVERTS = words("DequantizeLinear DynamicQuantizeLinear QuantizeLinear")
FREE = ELEMENTWISE | VIEWS | _MOVES | _REDUCES | _POOLS | _NORMALISES | _GENERATES | _CONVERTS

INTEGER = words(
    "ConvInteger DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulInteger MatMulIntegerToFloat QGemm "
    "QLinearConv QLinearMatMul"
)


class UnknownCost(Exception):
    """The cost of a call can't be told: its operator or one of its shapes is not known."""


@dataclass(frozen=True)
class Call:
    """One node with the shapes of what it reads and writes; None where they are not known."""

    kind: str
    inputs: tuple[Shape | None, ...]
    outputs: tuple[Shape | None, ...]
    attributes: dict[str, Any]

    def read(self, index: int) -> Shape:
        """Shape of an input."""
        return self._get(self.inputs, index)

    def written(self) -> Shape:
        """Shape of the first output."""
        return self._get(self.outputs, 0)

    def _get(self, shapes: tuple[Shape | None, ...], index: int) -> Shape:
        shape = shapes[index] if index < len(shapes) else None
        if shape is None:
            raise UnknownCost(self.kind)
        return shape


def macs_of(call: Call) -> int:
    """Multiply-accumulates of one call, biases left out.

    Raises:
        UnknownCost: no formula for the operator, or a shape that the formula needs is not known.
    """
    copies = call.kind in ("Resize", "Upsample") and call.attributes.get("mode", b"nearest") == b"nearest"
    if call.kind in FREE or copies:
        return 0
    if call.kind not in FORMULAS:
        raise UnknownCost(call.kind)
    return FORMULAS[call.kind](call)


def _conv(weight: int) -> Callable[[Call], int]:
    """Each output is a sum over input channels of its group × kernel: weight (out, in / groups, *kernel)."""
    return lambda call: math.prod(call.written()) * math.prod(call.read(weight)[1:])


def _conv_transpose(call: Call) -> int:
    """Each input is spread over output channels of its group × kernel: weight (in, out / groups, *kernel)."""
    return math.prod(call.read(0)) * math.prod(call.read(1)[1:])


def _matmul(left: int, right: int) -> Callable[[Call], int]:
    """(…, rows, inner) × (…, inner, columns), whose leading axes are broadcast; 1-D counts as one row."""

    def macs(call: Call) -> int:
        a, b = call.read(left), call.read(right)
        rows, columns = a[-2] if len(a) > 1 else 1, b[-1] if len(b) > 1 else 1
        return _broadcast(a[:-2], b[:-2]) * rows * a[-1] * columns

    return macs


def _broadcast(a: Shape, b: Shape) -> int:
    """How many matrices there are when leading axes `a` and `b` are broadcast."""
    length = max(len(a), len(b))
    long_a, long_b = (1,) * (length - len(a)) + a, (1,) * (length - len(b)) + b
    return math.prod(y if x == 1 else x for x, y in zip(long_a, long_b, strict=True))


def _fused_matmul(call: Call) -> int:
    """ONNX Runtime's matrix product, either side of which may be transposed."""
    a, b = call.read(0), call.read(1)
    if len(a) < 2 or len(b) < 2 or call.attributes.get("transBatchA") or call.attributes.get("transBatchB"):
        raise UnknownCost(call.kind)
    columns = b[-2] if call.attributes.get("transB") else b[-1]
    return _broadcast(a[:-2], b[:-2]) * a[-2] * a[-1] * columns


def _gemm(right: int) -> Callable[[Call], int]:
    """(rows, inner) × (inner, columns), either of them transposed."""

    def macs(call: Call) -> int:
        columns = call.read(right)[0 if call.attributes.get("transB") else 1]
        return math.prod(call.read(0)) * columns

    return macs


def _matmul_nbits(call: Call) -> int:
    return math.prod(call.read(0)) * int(call.attributes["N"])


def _einsum(call: Call) -> int:
    """All letters of two operands run against each other; one operand is only summed or turned."""
    equation = call.attributes["equation"].decode().replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if len(terms) == 1:
        return 0
    if len(terms) > 2 or "." in equation:  # the order of pairwise products is the runtime's choice
        raise UnknownCost(call.kind)
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        for letter, size in zip(term, call.read(index), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values())


def _recurrent(call: Call) -> int:
    """Steps × batch × all weights, which hold gates and directions; W (dirs, gates · hidden, inputs)."""
    steps_and_batch = call.read(0)[:2]
    return math.prod(steps_and_batch) * (math.prod(call.read(1)) + math.prod(call.read(2)))


def _attention(call: Call) -> int:
    """Scores and their weighted sum: batch · heads · queries · keys · (key size + value size)."""
    q, k, v = call.read(0), call.read(1), call.read(2)
    if len(q) == 3:
        heads, kv_heads = call.attributes["q_num_heads"], call.attributes["kv_num_heads"]
        q, k, v = ((x[0], n, x[1], x[2] // n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    past = call.read(4)[2] if len(call.inputs) > 4 and call.inputs[4] is not None else 0
    return math.prod(q[:3]) * (k[2] + past) * (q[3] + v[3])


def _multi_head_attention(call: Call) -> int:
    """ONNX Runtime's: query (batch, queries, size), key and value (batch, keys, size), nothing packed."""
    query, key, value = call.read(0), call.read(1), call.read(2)
    if not len(query) == len(key) == len(value) == 3 or any(call.inputs[6:8]):
        raise UnknownCost(call.kind)
    return query[0] * query[1] * key[1] * (query[2] + value[2])


def _projected_attention(call: Call) -> int:
    """ONNX Runtime's ``Attention``: one projection to queries, keys and values, then self-attention."""
    batch, tokens, size = call.read(0)
    width = call.read(1)[1]
    if len(call.inputs) > 4 and call.inputs[4] is not None:  # keys of earlier calls
        raise UnknownCost(call.kind)
    query, _, value = map(int, call.attributes.get("qkv_hidden_sizes") or [width // 3] * 3)
    return batch * tokens * (size * width + tokens * (query + value))


FORMULAS: dict[str, Callable[[Call], int]] = {
    "Attention": _attention,
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _gemm(1),
    "LSTM": _recurrent,
    "MatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1),
    "QLinearConv": _conv(3),
    "QLinearMatMul": _matmul(0, 3),
    "RNN": _recurrent,
    # of ONNX Runtime
    "DynamicQuantizeLSTM": _recurrent,
    "DynamicQuantizeMatMul": _matmul(0, 1),
    "FusedConv": _conv(1),
    "FusedGemm": _gemm(1),
    "FusedMatMul": _fused_matmul,
    "MatMulIntegerToFloat": _matmul(0, 1),
    "MatMulNBits": _matmul_nbits,
    "MultiHeadAttention": _multi_head_attention,
    "QGemm": _gemm(3),
    "com.microsoft.Attention": _projected_attention,
}

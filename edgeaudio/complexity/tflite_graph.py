"""A TFLite file → its operators and tensors, counted by the rules of the DCASE challenge.

Those rules, for Keras and TFLite systems of 2022 and 2023, count one multiply-accumulate for

* each product of a convolution, a depthwise convolution or a dense layer, biases left out; a dense layer's
  inputs are those of the last axis alone, even where it reads a feature map as one vector;
* each input of a MEAN, each value under the window of a pooling, padding included, each output of an ADD;

and the bytes of every constant that an operator reads: weights, biases (four bytes each in an int8
network), and also shapes and axes.
"""

from __future__ import annotations

import importlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeaudio.complexity.count import Count, LayerCount
from edgeaudio.complexity.graph import INDICES, Graph, Op, Tensor, words
from edgeaudio.errors import CheckpointError, MissingExtraError

IDENTIFIER = b"TFL3"  # at bytes 4–8 of the file
BIASED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")
# Operators that the rules take for free and that indeed multiply no matrices
FREE = words(
    "ABS ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE ATAN2 BATCH_TO_SPACE_ND BITCAST BITWISE_XOR BROADCAST_ARGS "
    "BROADCAST_TO BUCKETIZE CALL_ONCE CAST CEIL COMPLEX_ABS CONCATENATION COS CUMSUM DENSIFY DEPTH_TO_SPACE "
    "DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FAKE_QUANT FILL FLOOR "
    "FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH IMAG L2_NORMALIZATION "
    "L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT "
    "LOGICAL_OR LOGISTIC LOG_SOFTMAX MATRIX_DIAG MATRIX_SET_DIAG MAXIMUM MINIMUM MIRROR_PAD MUL MULTINOMIAL "
    "NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANGE "
    "RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1 "
    "RELU_N1_TO_1 RESHAPE RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RIGHT_SHIFT ROUND RSQRT "
    "SCATTER_ND SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH "
    "SPARSE_TO_DENSE SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE "
    "TOPK_V2 TRANSPOSE UNIQUE UNPACK VAR_HANDLE WHERE ZEROS_LIKE"
)


@dataclass(frozen=True)
class _Node:
    """One operator with the indices of its tensors, -1 for those left out."""

    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    window: int
    """Values under the window of a pooling, else 0."""


@dataclass(frozen=True)
class _Model:
    """What a file holds; tensors by their index."""

    nodes: tuple[_Node, ...]
    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    constants: frozenset[int]
    variables: tuple[int, ...]
    """State that lasts from one inference to the next."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    file_bytes: int


def count_tflite(path: Path | str) -> Count:
    """Count a TFLite file by the rules of the DCASE challenge.

    `stored_bytes` holds the bytes that those rules call the size; `params` the weights and biases in it,
    `buffers` the shapes and axes. A constant that several operators read is counted with the first. What
    the rules pass over although it multiplies (transposed convolutions, recurrent layers, …) is named in
    `uncounted`.

    Args:
        path: a ``.tflite`` file, in float or in integers.

    Raises:
        CheckpointError: no TFLite file, or a damaged one.
        MissingExtraError: the package that describes the format is not installed.

    Source: rules of the complexity tool of DCASE Task 1, 2022 and 2023.
    """
    model = _read(Path(path))
    uncounted = [n for n in model.nodes if n.kind not in FREE and n.kind not in RULES]
    seen: set[int] = set()
    rows, buffers = [], 0
    for node in model.nodes:
        fresh = [i for i in dict.fromkeys(node.inputs) if i in model.constants and i not in seen]
        seen.update(fresh)
        weights = [i for i in fresh if _is_weight(model, node, i)]
        buffers += sum(model.tensors[i].values for i in fresh if i not in weights)
        rows.append(_row(model, node, fresh, weights))
    return Count(
        params=sum(row.params for row in rows),
        macs=sum(row.macs for row in rows),
        layers=tuple(rows),
        input_shape=(model.tensors[model.inputs[0]].shape or ()) if model.inputs else (),
        rules="tflite",
        stored_bytes=sum(row.bytes or 0 for row in rows),
        buffers=buffers,
        uncounted=tuple(f"{node.kind} ({node.name})" for node in uncounted),
    )


def tflite_graph(path: Path | str) -> Graph:
    """The tensors and operators of a TFLite file, for `peak_memory`.

    Args and errors as those of `count_tflite`.
    """
    model = _read(Path(path))
    labels = [f"{index}:{name}" for index, name in enumerate(model.names)]  # names need not be unique

    def moving(indices: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(labels[index] for index in indices if index >= 0 and index not in model.constants)

    ops = tuple(Op(node.name, node.kind, moving(node.inputs), moving(node.outputs)) for node in model.nodes)
    state = moving(model.variables)  # there from beginning to end, as an input and an output at once
    return Graph(
        ops=ops,
        tensors=dict(zip(labels, model.tensors, strict=True)),
        inputs=(*moving(model.inputs), *state),
        outputs=(*moving(model.outputs), *state),
        flash_bytes=model.file_bytes,
    )


def _row(model: _Model, node: _Node, constants: list[int], weights: list[int]) -> LayerCount:
    rule = RULES.get(node.kind)
    output = model.tensors[node.outputs[0]] if node.outputs else Tensor((), "float32")
    macs = rule([model.tensors[i] for i in node.inputs if i >= 0], output, node) if rule else 0
    data = model.tensors[node.inputs[0]] if node.inputs else output
    return LayerCount(
        name=node.name,
        kind=node.kind,
        output_shape=output.shape or (),
        params=sum(model.tensors[i].values for i in weights),
        macs=macs,
        bytes=sum(model.tensors[i].bytes() for i in constants),
        integer=macs > 0 and "int" in data.dtype,
    )


def _is_weight(model: _Model, node: _Node, index: int) -> bool:
    """Integers of 32 bits are biases there where one may stand, and otherwise shapes and axes."""
    if model.tensors[index].dtype in INDICES:
        return node.kind in BIASED and node.inputs.index(index) >= 2
    return True


def _product(inputs: list[Tensor], output: Tensor, node: _Node) -> int:
    """Weight (out, rows, columns, in): each output is a sum over all but the first."""
    return output.values * math.prod((inputs[1].shape or ())[1:])


def _depthwise(inputs: list[Tensor], output: Tensor, node: _Node) -> int:
    """Weight (1, rows, columns, out): each output is a sum over the window."""
    return output.values * math.prod((inputs[1].shape or ())[1:3])


def _dense(inputs: list[Tensor], output: Tensor, node: _Node) -> int:
    return output.values * (inputs[0].shape or (0,))[-1]


RULES: dict[str, Callable[[list[Tensor], Tensor, _Node], int]] = {
    "ADD": lambda inputs, output, node: output.values,
    "AVERAGE_POOL_2D": lambda inputs, output, node: output.values * node.window,
    "CONV_2D": _product,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": lambda inputs, output, node: output.values * node.window,
    "MEAN": lambda inputs, output, node: inputs[0].values,
}


def _read(path: Path) -> _Model:
    if not path.is_file():
        what = "is a folder; pass the .tflite file in it" if path.is_dir() else "is not there; check the path"
        raise CheckpointError(f"{path} {what}")
    data = path.read_bytes()
    if data[4:8] != IDENTIFIER:
        raise CheckpointError(f"{path} is not a TFLite model; pass a file that a TFLite converter wrote")
    schema = _schema()
    try:
        return _parse(schema, data)
    except (
        struct.error,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        OverflowError,
    ) as error:
        raise CheckpointError(f"{path} was cut off or damaged; convert or copy it again") from error


def _schema() -> Any:
    try:
        return importlib.import_module("tflite")
    except ImportError as error:
        raise MissingExtraError(
            "reading .tflite files needs tflite; pip install 'edgeaudio[tflite]'"
        ) from error


def _parse(schema: Any, data: bytes) -> _Model:
    """All that counts, from the first subgraph; the others are bodies of control flow."""
    model = schema.Model.GetRootAs(data, 0)
    stored = [_stored_bytes(model.Buffers(i)) for i in _items(model.BuffersLength(), data)]
    graph = model.Subgraphs(0)
    found = [graph.Tensors(i) for i in _items(graph.TensorsLength(), data)]
    kinds = _kinds(schema, model)
    nodes = [_node(schema, graph.Operators(i), kinds, i) for i in _items(graph.OperatorsLength(), data)]
    inputs = tuple(graph.Inputs(i) for i in range(graph.InputsLength()))
    outputs = tuple(graph.Outputs(i) for i in range(graph.OutputsLength()))
    if not all(0 <= index < len(found) for index in (*inputs, *outputs)):
        raise ValueError("inputs or outputs that are not there")
    _check(nodes, len(found))
    variables = tuple(i for i, tensor in enumerate(found) if tensor.IsVariable())
    computed = {*inputs, *variables, *(index for node in nodes for index in node.outputs)}
    return _Model(
        nodes=tuple(nodes),
        tensors=tuple(_tensor(schema, tensor) for tensor in found),
        names=tuple((tensor.Name() or b"").decode(errors="replace") for tensor in found),
        # an empty constant (the shape of a single number, say) has nothing stored
        constants=frozenset(i for i, t in enumerate(found) if stored[t.Buffer()] or i not in computed),
        variables=variables,
        inputs=inputs,
        outputs=outputs,
        file_bytes=len(data),
    )


def _check(nodes: list[_Node], tensors: int) -> None:
    """Raise where an operator reads what is not there, or only later."""
    unwritten = {index for node in nodes for index in node.outputs}
    for node in nodes:
        least = 2 if node.kind in BIASED else 1 if node.kind in RULES else 0
        indices = (*node.inputs[:least], *node.outputs[:1])
        if len(indices) < least + bool(least) or min(indices, default=0) < 0:
            raise ValueError(f"{node.name} lacks tensors")
        in_range = all(-1 <= index < tensors for index in (*node.inputs, *node.outputs))
        if not in_range or not unwritten.isdisjoint(node.inputs) or not unwritten.issuperset(node.outputs):
            raise ValueError(f"{node.name} reads or writes what it can't")
        unwritten.difference_update(node.outputs)


def _items(length: int, data: bytes) -> range:
    """Indices of a list, which can't be longer than the file: a damaged length must not keep us busy."""
    if length > len(data):
        raise ValueError(f"{length} items in {len(data)} bytes")
    return range(length)


def _stored_bytes(buffer: Any) -> int:
    """Bytes of one constant, 0 for a tensor that is computed; fails if they reach beyond the file."""
    values = buffer.DataAsNumpy()
    return int(buffer.Size()) if isinstance(values, int) else int(values.size)


def _tensor(schema: Any, tensor: Any) -> Tensor:
    types = {code: name.lower() for name, code in vars(schema.TensorType).items() if name.isupper()}
    return Tensor(tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength())), types[tensor.Type()])


def _kinds(schema: Any, model: Any) -> list[str]:
    """Operator names; codes up to 127 stand in a field of their own in old files."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    numbers = [max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes]
    return [
        (code.CustomCode() or b"CUSTOM").decode() if names[number] == "CUSTOM" else names[number]
        for code, number in zip(codes, numbers, strict=True)
    ]


def _node(schema: Any, operator: Any, kinds: list[str], index: int) -> _Node:
    kind = kinds[operator.OpcodeIndex()]
    window = 0
    if kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        options, table = schema.Pool2DOptions(), operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        window = options.FilterHeight() * options.FilterWidth()
    return _Node(
        name=f"{index}:{kind.lower()}",
        kind=kind,
        inputs=tuple(operator.Inputs(i) for i in range(operator.InputsLength())),
        outputs=tuple(operator.Outputs(i) for i in range(operator.OutputsLength())),
        window=window,
    )

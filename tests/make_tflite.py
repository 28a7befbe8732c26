"""Writes .tflite files with the schema's own builders: small networks that real interpreters run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import pytest

tflite: Any = pytest.importorskip("tflite")

SCALE = 0.05  # of every int8 activation
DTYPES = {"int8": "INT8", "int32": "INT32", "float32": "FLOAT32", "float16": "FLOAT16"}


@dataclass
class TFLiteFile:
    """Collects tensors and operators; `build` writes them."""

    tensors: list[tuple[str, tuple[int, ...], str, npt.NDArray[Any] | None, list[float] | None]] = field(
        default_factory=list
    )
    ops: list[tuple[str, list[int], list[int], dict[str, int]]] = field(default_factory=list)
    variables: list[int] = field(default_factory=list)

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str,
        values: npt.NDArray[Any] | None = None,
        scales: list[float] | None = None,
    ) -> int:
        """Add a tensor and return its index; a constant where it has values."""
        self.tensors.append((f"t{len(self.tensors)}", shape, dtype, values, scales))
        return len(self.tensors) - 1

    def activation(self, *shape: int, dtype: str = "int8", scale: float = SCALE) -> int:
        """Add a tensor that is computed."""
        return self.tensor(shape, dtype, scales=[scale] if dtype == "int8" else None)

    def weight(self, *shape: int, dtype: str = "int8", channels: int = 1) -> int:
        """Add a constant of random numbers; a bias where it has one axis."""
        rng = np.random.default_rng(len(self.tensors))
        if dtype == "float32":
            return self.tensor(shape, dtype, rng.standard_normal(shape).astype(np.float32))
        bias = len(shape) == 1
        kind, bound = ("int32", 50) if bias else ("int8", 127)
        values = rng.integers(-bound, bound, shape).astype(kind)
        return self.tensor(shape, kind, values, [0.01 * (SCALE if bias else 1)] * channels)

    def op(self, kind: str, inputs: list[int], outputs: list[int], **options: int) -> int:
        """Add an operator and return its output."""
        self.ops.append((kind, inputs, outputs, options))
        return outputs[0]

    def build(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        b = flatbuffers.Builder(1024)
        buffers = [_buffer(b, None)] + [_buffer(b, values) for _, _, _, values, _ in self.tensors]
        tensors = [
            _tensor(b, index + 1, tensor, index in self.variables)
            for index, tensor in enumerate(self.tensors)
        ]
        kinds = list(dict.fromkeys(kind for kind, *_ in self.ops))
        codes = [_code(b, kind) for kind in kinds]
        ops = [_op(b, kinds.index(kind), kind, *rest) for kind, *rest in self.ops]
        parts = [_offsets(b, tensors), _ints(b, inputs), _ints(b, outputs), _offsets(b, ops)]
        tflite.SubGraphStart(b)
        for add, part in zip(("Tensors", "Inputs", "Outputs", "Operators"), parts, strict=True):
            getattr(tflite, f"SubGraphAdd{add}")(b, part)
        graph = _offsets(b, [tflite.SubGraphEnd(b)])
        all_codes, all_buffers = _offsets(b, codes), _offsets(b, buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, all_codes)
        tflite.ModelAddSubgraphs(b, graph)
        tflite.ModelAddBuffers(b, all_buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())


def _ints(b: Any, values: list[int] | tuple[int, ...]) -> int:
    return int(b.CreateNumpyVector(np.array(values, np.int32)))


def _offsets(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _buffer(b: Any, values: npt.NDArray[Any] | None) -> int:
    data = None
    if values is not None:
        raw = values.tobytes()
        b.StartVector(1, len(raw), 16)  # weights are read in place, so they are aligned
        b.head -= len(raw)
        b.Bytes[b.head : b.head + len(raw)] = raw
        data = b.EndVector()
    tflite.BufferStart(b)
    if data is not None:
        tflite.BufferAddData(b, data)
    return int(tflite.BufferEnd(b))


def _tensor(b: Any, buffer: int, tensor: tuple[Any, ...], variable: bool) -> int:
    name, shape, dtype, _, scales = tensor
    label, axes = b.CreateString(name), _ints(b, shape)
    grid = None
    if scales is not None:
        scale = b.CreateNumpyVector(np.array(scales, np.float32))
        zero = b.CreateNumpyVector(np.zeros(len(scales), np.int64))
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scale)
        tflite.QuantizationParametersAddZeroPoint(b, zero)
        grid = tflite.QuantizationParametersEnd(b)
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, axes)
    tflite.TensorAddType(b, getattr(tflite.TensorType, DTYPES[dtype]))
    tflite.TensorAddBuffer(b, buffer)
    tflite.TensorAddName(b, label)
    tflite.TensorAddIsVariable(b, variable)
    if grid is not None:
        tflite.TensorAddQuantization(b, grid)
    return int(tflite.TensorEnd(b))


def _code(b: Any, kind: str) -> int:
    number = getattr(tflite.BuiltinOperator, kind)
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(b, number)
    tflite.OperatorCodeAddVersion(b, 1)
    return int(tflite.OperatorCodeEnd(b))


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MEAN": "ReducerOptions",
    "ADD": "AddOptions",
    "SOFTMAX": "SoftmaxOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}


def _op(b: Any, code: int, kind: str, inputs: list[int], outputs: list[int], options: dict[str, int]) -> int:
    name = OPTIONS.get(kind)
    table = None
    if name:
        getattr(tflite, f"{name}Start")(b)
        for key, value in options.items():
            getattr(tflite, f"{name}Add{key}")(b, value)
        table = getattr(tflite, f"{name}End")(b)
    read, written = _ints(b, inputs), _ints(b, outputs)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, code)
    tflite.OperatorAddInputs(b, read)
    tflite.OperatorAddOutputs(b, written)
    if name:
        tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, name))
        tflite.OperatorAddBuiltinOptions(b, table)
    return int(tflite.OperatorEnd(b))


SAME, VALID, RELU = 0, 1, 1  # of the schema's enumerations


def conv(
    f: TFLiteFile, x: int, out: tuple[int, int, int], inputs: int, kernel: int = 7, dtype: str = "int8"
) -> int:
    """A square convolution with bias and ReLU that keeps the size."""
    channels = out[2]
    weight = f.weight(channels, kernel, kernel, inputs, dtype=dtype, channels=channels)
    bias = f.weight(channels, dtype=dtype, channels=channels)
    y = f.activation(1, *out, dtype=dtype)
    return f.op(
        "CONV_2D", [x, weight, bias], [y],
        Padding=SAME, StrideH=1, StrideW=1, DilationHFactor=1, DilationWFactor=1,
        FusedActivationFunction=RELU,
    )  # fmt: skip


def pool(
    f: TFLiteFile,
    x: int,
    out: tuple[int, int, int],
    size: tuple[int, int],
    dtype: str = "int8",
    kind: str = "MAX",
) -> int:
    """Pooling whose windows touch."""
    y = f.activation(1, *out, dtype=dtype)
    high, wide = size
    return f.op(
        f"{kind}_POOL_2D", [x], [y],
        Padding=VALID, StrideH=high, StrideW=wide, FilterHeight=high, FilterWidth=wide,
    )  # fmt: skip


def dense(f: TFLiteFile, x: int, inputs: int, outputs: int, dtype: str = "int8") -> int:
    """A dense layer with bias."""
    weight, bias = f.weight(outputs, inputs, dtype=dtype), f.weight(outputs, dtype=dtype)
    return f.op("FULLY_CONNECTED", [x, weight, bias], [f.activation(1, outputs, dtype=dtype)])


def baseline(dtype: str = "int8") -> bytes:
    """The network of the DCASE baseline of 2022 and 2023, as its converter writes it."""
    f = TFLiteFile()
    x = f.activation(1, 40, 51, 1, dtype=dtype)
    y = conv(f, x, (40, 51, 16), 1, dtype=dtype)
    y = conv(f, y, (40, 51, 16), 16, dtype=dtype)
    y = pool(f, y, (8, 10, 16), (5, 5), dtype=dtype)
    y = conv(f, y, (8, 10, 32), 16, dtype=dtype)
    y = pool(f, y, (2, 1, 32), (4, 10), dtype=dtype)
    y = dense(f, y, 64, 100, dtype=dtype)  # reads the (2, 1, 32) map as one vector
    y = dense(f, y, 100, 10, dtype=dtype)
    return f.build([x], [y])


def residual(dtype: str = "int8") -> bytes:
    """Two branches that are added, an average over time and frequency, and a dense layer."""
    f = TFLiteFile()
    x = f.activation(1, 16, 20, 4, dtype=dtype)
    wide = conv(f, x, (16, 20, 24), 4, 3, dtype=dtype)
    left = conv(f, wide, (16, 20, 24), 24, 3, dtype=dtype)
    right = conv(f, wide, (16, 20, 24), 24, 1, dtype=dtype)
    y = f.op("ADD", [left, right], [f.activation(1, 16, 20, 24, dtype=dtype)])
    y = pool(f, y, (8, 10, 24), (2, 2), dtype=dtype, kind="AVERAGE")
    axes = f.tensor((2,), "int32", np.array([1, 2], np.int32))
    y = f.op("MEAN", [y, axes], [f.activation(1, 24, dtype=dtype)], KeepDims=0)
    y = dense(f, y, 24, 10, dtype=dtype)
    return f.build([x], [y])

"""LiteRT (TFLite) files: the whole graph in float32 and int8, and the bare network for microcontrollers.

The integers come from the float file: every operator carries the name of the torch module it was made from,
so the front end and what makes scores of the logits are left in float32 by name.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer import quantizer
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.bundle import graph_file
from edgeaudio.complexity.tflite_graph import tflite_graph
from edgeaudio.config import Target
from edgeaudio.errors import BoundError
from edgeaudio.export.activation import to_scores
from edgeaudio.export.c_header import write_c_header
from edgeaudio.export.targets import Pieces
from edgeaudio.export.torch_graph import OUTPUTS, calibration_log_mels, waveform_graph
from edgeaudio.runtimes.quiet import quiet

TENSOR_INDEX = 6  # where the format keeps that field of an entry of a signature
GOLDEN_INPUTS = 4  # in the C header
MICROCONTROLLER_FILE = "network.int8.tflite"
KINDS = {
    "Add": ("ADD",),
    "AveragePool": ("AVERAGE_POOL_2D",),
    "Conv": ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE"),
    "Gemm": ("FULLY_CONNECTED",),
    "GlobalAveragePool": ("MEAN",),
    "HardSwish": ("HARD_SWISH",),
    "MatMul": ("BATCH_MATMUL",),
    "MaxPool": ("MAX_POOL_2D",),
    "Mul": ("MUL",),
    "ReduceMean": ("MEAN",),
    "Relu": ("RELU",),
    "Sigmoid": ("LOGISTIC",),
}
"""ONNX operator, as a target names it → the operators of LiteRT that do the same."""
MOVES = ("CONCATENATION", "PAD", "PADV2", "RESHAPE", "SLICE", "SPLIT", "STRIDED_SLICE", "TRANSPOSE")
"""They compute nothing: in float they would cost a pair of conversions between two integer operators."""
NETWORK, FRONT_END, LOGITS = "_network[/;]", "_front_end[/;]", "logits_output"
"""Where an operator belongs, as its name tells: `WaveformGraph` calls its two children so."""
NORMS = "GlobalResponseNorm|LayerNorm|RelaxedFrequencyNorm|ResNorm|GeM"
"""Modules that square, divide and take roots: 256 steps are too coarse for that, so they stay in float."""


class _Named(nn.Module):
    """A module whose outputs have names, which the file then keeps in its signature."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.names, self.module(*inputs.values()), strict=True))


class _Scores(nn.Module):
    """Log-mel → scores alone."""

    def __init__(self, network: nn.Module, several: bool) -> None:
        super().__init__()
        self.network, self.several = network, several

    def forward(self, log_mel: Tensor) -> tuple[Tensor]:
        return (to_scores(self.network(log_mel), self.several),)


def write(pieces: Pieces, target: Target, folder: Path) -> dict[str, Path]:
    """Write the graphs, waveform in, scores and logits out; see `edgeaudio.export.targets`.

    Raises:
        BoundError: the network holds something that LiteRT has no operator for.
        DataError: int8 is wanted, and the calibration clips are missing or broken.
    """
    if "int8" in target.precisions:
        calibration_log_mels(pieces)  # raises where they can't be calibrated with
    example = {"waveform": torch.zeros(1, pieces.window)}
    floats = _convert(_Named(waveform_graph(pieces), OUTPUTS), example)
    files = {}
    for precision in target.precisions:
        graph = floats
        if precision == "int8":
            graph = _quantised(floats, _rules(target, floats), pieces.calibration[:, None])
        files[precision] = folder / graph_file(precision, target.runtime)
        files[precision].write_bytes(graph)
    if target.microcontroller:
        network = write_microcontroller(pieces, target, folder)
        labels = tuple(map(str, cast("list[str]", pieces.metadata["labels"])))
        golden = calibration_log_mels(pieces).numpy()[:GOLDEN_INPUTS]
        write_c_header(
            network, network.with_suffix(".h"), labels, pieces.spec, pieces.window,
            golden.reshape(-1, *pieces.input_shape[1:]),
        )  # fmt: skip
    return files


def write_microcontroller(pieces: Pieces, target: Target, folder: Path) -> Path:
    """Write the bare network in integers alone: int8 log-mel `(1, 1, mels, frames)` → int8 scores.

    For devices that compute the log-mel themselves and run TFLite Micro. Scale and zero point of input and
    output are in the file; `edgeaudio.export.c_header` writes all of it as a C header.

    Raises:
        BoundError: something in the network has no integer form in LiteRT.
        DataError: the calibration clips are missing or broken.
    """
    log_mels = calibration_log_mels(pieces)
    module = _Named(_Scores(pieces.model.folded().eval(), pieces.several), ("scores",))
    floats = _convert(module, {"log_mel": torch.zeros(pieces.input_shape)})
    path = folder / MICROCONTROLLER_FILE
    path.write_bytes(_quantised(floats, [(".*", "*")], log_mels[:, None].numpy()))
    graph = tflite_graph(path)
    moving = [(op.kind, graph.tensors[name].dtype) for op in graph.ops for name in (*op.inputs, *op.outputs)]
    if kinds := sorted({kind for kind, dtype in moving if dtype != "int8"}):
        path.unlink()
        raise BoundError(
            f"{', '.join(kinds)} can't run in integers alone, so a microcontroller can't run this network; "
            "take one without them, e.g. cp_mobile with grn = false"
        )
    return path


def _convert(module: nn.Module, example: dict[str, Tensor]) -> bytes:
    with quiet():
        import litert_torch

        try:
            return bytes(litert_torch.convert(module.eval(), sample_kwargs=example).model_content())
        except Exception as error:  # the converter raises classes of its own, without a common base
            raise BoundError(
                f"LiteRT can't take {_operator(error)} of this network; choose another model or target"
            ) from error


def _operator(error: Exception) -> str:
    """The operator that an error of the converter is about, as far as it says so."""
    named = re.search(r"aten[.:]+\w+(\.\w+)?", str(error))
    return f"the operator {named[0]}" if named else f"an operator ({str(error).strip().splitlines()[-1]})"


def _rules(target: Target, graph: bytes) -> list[tuple[str, str | None]]:
    """Which operators compute in integers: (expression on the name, kind), None for none; the last counts."""
    kinds = [kind for name in target.quantised_ops for kind in KINDS.get(name, ())]
    rules: list[tuple[str, str | None]] = [(NETWORK, kind) for kind in dict.fromkeys((*kinds, *MOVES))]
    # an operator that writes an output is named after that instead of its module
    rules += [
        (LOGITS, kind) for kind in ("CONV_2D", "FULLY_CONNECTED", "RESHAPE") if kind in (*kinds, *MOVES)
    ]
    kept = [f"^{re.escape(name)};$" for name in _input_layer(graph)] if target.float_input_layer else []
    return [*rules, *((expression, None) for expression in (NORMS, FRONT_END, *kept))]


def _input_layer(graph: bytes) -> list[str]:
    """Names of the operators from the log-mel to the first that multiplies, which is included."""
    names = []
    for kind, name in _operators(graph):
        if re.search(NETWORK, name):
            names.append(name)
            if kind in (*KINDS["Conv"], *KINDS["Gemm"], *KINDS["MatMul"]):
                break
    return names


def _operators(graph: bytes) -> list[tuple[str, str]]:
    """Kind and name, which is that of the first output, of all operators in order of execution."""
    kinds = {code: kind for kind, code in vars(schema.BuiltinOperator).items() if kind.isupper()}
    model = schema.Model.GetRootAs(graph)
    subgraph, found = model.Subgraphs(0), []
    for operator in map(subgraph.Operators, range(subgraph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        found.append((kinds[code], subgraph.Tensors(operator.Outputs(0)).Name().decode()))
    return found


def _quantised(graph: bytes, rules: list[tuple[str, str | None]], inputs: NDArray[np.float32]) -> bytes:
    """The graph in integers, with the ranges that the inputs `(n, …)` give."""
    with quiet():
        job = quantizer.Quantizer(bytearray(graph))
        for expression, kind in rules:
            if kind is None:
                job.update_quantization_recipe(expression, "*", algorithm_key="no_quantize")
            else:
                job.add_static_config(expression, kind, activation_num_bits=8, weight_num_bits=8)
        return _with_float_outputs(job.quantize(_ranges(graph, inputs)).quantized_model)


def _with_float_outputs(graph: bytes) -> bytes:
    """The graph with a signature that names its outputs after they were made float again.

    Where an output also feeds another operator, the quantiser appends the conversion to float as an output
    of its own but leaves the name with the integers before it.
    """
    data = bytearray(graph)
    model = schema.Model.GetRootAs(data)
    subgraph, signature = model.Subgraphs(0), model.SignatureDefs(0)
    names = {subgraph.Tensors(index).Name(): index for index in subgraph.OutputsAsNumpy()}
    for entry in map(signature.Outputs, range(signature.OutputsLength())):
        before = subgraph.Tensors(entry.TensorIndex()).Name()
        index = names.get(before + b"_dequant", entry.TensorIndex())
        place = entry._tab.Pos + entry._tab.Offset(TENSOR_INDEX)
        struct.pack_into("<I", data, place, index)
    return bytes(data)


def _ranges(graph: bytes, inputs: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
    """Smallest and largest value of each tensor over all inputs.

    The library's own loop takes a moving average that forgets all but the last clips, and so cuts off what
    the loudest ones need: a small network kept 17 dB of signal to noise where the true range gives 39.
    """
    interpreter = Interpreter(
        model_content=graph, num_threads=1, experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    interpreter.allocate_tensors()
    (place,) = (item["index"] for item in interpreter.get_input_details())
    moving = _moving(graph)
    ranges = {tensor: {"min": np.float32(np.inf), "max": np.float32(-np.inf)} for tensor in moving}
    for item in inputs:
        interpreter.set_tensor(place, item)
        interpreter.invoke()
        for tensor, index in moving.items():
            values, known = interpreter.get_tensor(index), ranges[tensor]
            known["min"] = np.minimum(known["min"], values.min(keepdims=True))
            known["max"] = np.maximum(known["max"], values.max(keepdims=True))
    return ranges


def _moving(graph: bytes) -> dict[str, int]:
    """Name → index of every tensor that an inference computes, inputs included."""
    subgraph = schema.Model.GetRootAs(graph).Subgraphs(0)
    operators = map(subgraph.Operators, range(subgraph.OperatorsLength()))
    indices = [*subgraph.InputsAsNumpy(), *(i for operator in operators for i in operator.OutputsAsNumpy())]
    return {subgraph.Tensors(index).Name().decode(): int(index) for index in indices}

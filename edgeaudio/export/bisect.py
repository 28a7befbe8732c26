"""Where two forms of one network part: node by node, from the input on.

Tensors are matched by name: the exporter keeps torch's names, and the quantiser keeps the float graph's.
A node is where a hop breaks if what it reads is still right and what it writes is not.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.export.onnx import WAVEFORM
from edgeaudio.models import Model

Values = Mapping[str, NDArray[Any]]

FLOAT_FLOOR_DB = 60.0
"""A float tensor that agrees less than this with the step before has gone wrong."""
INTEGER_FLOOR_DB = 10.0
"""The same for integers, which lose some of the signal everywhere."""
MODEL = "model/"  # what joining front end and network writes before the network's names


@dataclass(frozen=True)
class Break:
    """The first node that goes wrong."""

    node: str
    kind: str
    """Its operator."""
    read_db: float
    """Signal to difference, in dB, of the worst tensor that it reads; infinite for the graph's input."""
    written_db: float
    """The same of what it writes."""

    def __str__(self) -> str:
        return (
            f"it first goes wrong at {self.node} ({self.kind}): "
            f"{self.read_db:.0f} dB before it, {self.written_db:.0f} dB behind it"
        )


def first_break(graph: onnx.ModelProto, truth: Values, found: Values, floor_db: float) -> Break | None:
    """The first node, in order of execution, that writes worse than the floor from inputs above it.

    Args:
        graph: whose nodes are walked, the later form of the two.
        truth: tensors of the earlier form by name.
        found: tensors of the later form by name.
        floor_db: least ratio of signal to difference of a tensor that counts as right.

    Returns:
        None where every tensor that both forms have is right.
    """
    quality: dict[str, float] = {}
    for node in graph.graph.node:
        read = min((quality.get(name, np.inf) for name in node.input), default=np.inf)
        for name in node.output:
            same = name in truth and name in found and truth[name].shape == found[name].shape
            # a tensor that only one form has is as good as what it was made from
            quality[name] = snr_db(truth[name], found[name]) if same else read
            if same and quality[name] < floor_db <= read:
                return Break(node.name or name, node.op_type, float(read), quality[name])
    return None


def explain(
    before: Model | onnx.ModelProto, after: onnx.ModelProto, waveform: NDArray[np.float32], log_mel: Tensor
) -> str:
    """A half-sentence on where a hop broke; empty where no single node is to blame.

    Args:
        before: torch's network, or the float graph.
        after: the whole graph that answers otherwise, waveform in.
        waveform: windows `(n ≥ 2, samples)`.
        log_mel: torch's log-mels of them.
    """
    feeds = {WAVEFORM: waveform}
    if isinstance(before, onnx.ModelProto):
        found = first_break(after, onnx_values(before, feeds), onnx_values(after, feeds), INTEGER_FLOOR_DB)
    else:
        truth = torch_values(before, log_mel)
        found = first_break(after, truth, onnx_values(after, feeds), FLOAT_FLOOR_DB)
    return str(found) if found else ""


def snr_db(truth: NDArray[Any], found: NDArray[Any]) -> float:
    """Power of the truth over that of the difference, in dB; minus infinity where one is not finite."""
    a, b = np.asarray(truth, np.float64), np.asarray(found, np.float64)
    if not np.isfinite(b).all():
        return float("-inf")
    noise = float(np.sum((a - b) ** 2))
    signal = float(np.sum(a**2))
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def torch_values(model: Model, log_mel: Tensor) -> dict[str, NDArray[Any]]:
    """Every tensor that torch computes from log-mels `(n ≥ 2, 1, mels, frames)`, under the exported names."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # about the exporter's own deprecations
        # an open batch, as the exporter has it: the names of sums count the sizes that were worked out
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(model.folded().eval(), (log_mel,), dynamic_shapes=shapes)
        program = program.run_decompositions({})
    recorder = _Recorder(program.module())
    with torch.no_grad():
        recorder.run(log_mel)
    return {MODEL + name: value.numpy() for name, value in recorder.values.items()}


class _Recorder(torch.fx.Interpreter):
    """Runs a program and keeps what each of its nodes gave."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        """See `torch.fx.Interpreter`."""
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point():
            self.values[n.name] = value.detach()
        return value


def onnx_values(graph: onnx.ModelProto, feeds: Values) -> dict[str, NDArray[Any]]:
    """Every float tensor of a graph, as ONNX Runtime computes it without fusing anything."""
    inferred = onnx.shape_inference.infer_shapes(graph)
    known = {item.name: item for item in inferred.graph.value_info}
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    kept = {item.name for item in copy.graph.output}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for node in graph.graph.node:
        for name in node.output:
            item = known.get(name)
            if name not in kept and item is not None and item.type.tensor_type.elem_type in floats:
                copy.graph.output.append(item)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in session.get_outputs()]
    values = dict(zip(names, session.run(names, dict(feeds)), strict=True))
    return values | {name: values[seen] for name, seen in _rounded(graph).items() if seen in values}


def _rounded(graph: onnx.ModelProto) -> dict[str, str]:
    """Tensor → what its readers see of it behind QuantizeLinear and DequantizeLinear.

    That is the value to judge by: the range may also do the work of an activation that was left out.
    """
    integers = {
        node.input[0]: node.output[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"
    }
    back = {node.input[0]: node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    return {name: back[made] for name, made in integers.items() if made in back}

"""Every multiply-accumulate that an ONNX graph really runs, and the weights that it stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeaudio.complexity.count import Count, LayerCount
from edgeaudio.complexity.graph import INDICES, Graph, Op, Tensor
from edgeaudio.complexity.onnx_macs import INTEGER, Call, UnknownCost, macs_of
from edgeaudio.complexity.onnx_read import STANDARD, Network, read_network
from edgeaudio.complexity.onnx_stand_ins import MICROSOFT

if TYPE_CHECKING:
    import onnx

FRONT_END = "frontend/"  # what the exporter writes before the names of the front end's nodes
# Inputs that hold weights of any type; the others of these operators are scales and zero points
_QUANTISED_SLOTS: dict[str, tuple[int, ...]] = {
    "ConvInteger": (0, 1),
    "DequantizeLinear": (0,),
    "DynamicQuantizeLSTM": (1, 2, 3),
    "DynamicQuantizeMatMul": (0, 1, 4),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1, 6),
    "MatMulNBits": (0, 1, 5),
    "QGemm": (0, 3, 6),
    "QLinearAdd": (0, 3),
    "QLinearConv": (0, 3, 8),
    "QLinearMatMul": (0, 3),
    "QLinearMul": (0, 3),
    "QuantizeLinear": (0,),
}
# Inputs that hold settings or running statistics although they are of a weight's type
_SETTINGS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "Dropout": (1, 2),
    "OneHot": (0, 1, 2),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}


@dataclass(frozen=True)
class _Step:
    """A node that runs, with the constants that it is the first to use."""

    node: Any
    name: str
    weights: tuple[str, ...]
    front_end: bool


def count_onnx(path: Path | str | onnx.ModelProto, input_shape: tuple[int, ...] | None = None) -> Count:
    """Count an ONNX graph, of any exporter, in float or in integers, without running it.

    Multiply-accumulates are those of convolutions, matrix products, recurrent layers and attention, without
    biases; an open batch axis counts as 1. A product whose data comes from DequantizeLinear on both sides
    is one in integers. Parameters are the constants that enter such operators, normalisations, embeddings
    and arithmetic, in the types that they are stored in; single numbers, scales, zero points, shapes and
    running statistics are `buffers`. Nodes that are named ``frontend/…`` stand apart.

    Args:
        path: an ``.onnx`` file, or a model in memory.
        input_shape: of the first input; needed where more than the batch is open.

    Raises:
        CheckpointError: no ONNX model, a damaged one, or one whose external data is missing.
        RecipeError: the input shape is needed and missing, or contradicts the file.
        MissingExtraError: onnx is not installed.
    """
    network = read_network(path, input_shape)
    makers = {output: node for node in network.nodes for output in node.output}
    rows, uncounted = [], []
    used: set[str] = set()
    buffers = sum(tensor.values for tensor in network.constants.values())
    for step, constants in _steps(network):
        try:
            macs = macs_of(_call(step.node, network.tensors))
        except UnknownCost:
            macs = 0
            uncounted.append(f"{_kind(step.node)} ({step.name})")
        rows.append(_row(step, macs, network, makers))
        apart = constants if step.front_end else step.weights
        buffers -= sum(network.constants[name].values for name in apart if name not in used)
        used.update(apart)
    model = [row for row in rows if not row.front_end]
    return Count(
        params=sum(row.params for row in model),
        macs=sum(row.macs for row in model),
        layers=tuple(rows),
        input_shape=network.tensors[network.inputs[0]].shape or () if network.inputs else (),
        rules="onnx",
        stored_bytes=sum(row.bytes or 0 for row in model),
        buffers=buffers,
        uncounted=tuple(uncounted),
    )


def onnx_graph(path: Path | str | onnx.ModelProto, input_shape: tuple[int, ...] | None = None) -> Graph:
    """The tensors and operators of an ONNX file, for `peak_memory`.

    Args and errors as those of `count_onnx`.
    """
    network = read_network(path, input_shape)
    steps = [step for step, _ in _steps(network)]
    runs = {id(step.node) for step in steps}
    fixed = set(network.constants)
    fixed.update(name for node in network.nodes if id(node) not in runs for name in node.output)
    ops = tuple(_op(step, fixed) for step in steps)
    names = {name for op in ops for name in (*op.inputs, *op.outputs)} | set(network.inputs)
    unknown = Tensor(None, "undefined")
    return Graph(
        ops=ops,
        tensors={name: network.tensors.get(name, unknown) for name in names},
        inputs=network.inputs,
        outputs=tuple(name for name in network.outputs if name not in fixed),
        flash_bytes=network.file_bytes,
    )


def _op(step: _Step, fixed: set[str]) -> Op:
    node = step.node
    inputs, outputs = _present(node.input, fixed), _present(node.output, fixed)
    return Op(step.name, _kind(node), inputs, outputs, step.front_end)


def _present(names: Any, fixed: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name and name not in fixed)


def _steps(network: Network) -> Iterator[tuple[_Step, tuple[str, ...]]]:
    """Nodes that run, in order, each with the weights it uses first and all constants behind its inputs.

    What depends on constants alone (weights being dequantised or turned) does not run: its constants are
    passed on to the node that reads the result.
    """
    sources: dict[str, tuple[str, ...]] = {name: (name,) for name in network.constants}
    weights = dict(sources)  # of the constants behind a tensor, those that may be weights
    taken: set[str] = set()
    for node in network.nodes:
        read = [(slot, name) for slot, name in enumerate(node.input) if name in sources]
        mine = [w for slot, name in read for w in weights[name] if _may_be_weight(node, slot, name, network)]
        behind = tuple(source for _, name in read for source in sources[name])
        if read and len(read) == sum(map(bool, node.input)):
            for output in node.output:
                weights[output], sources[output] = tuple(mine), behind
            continue
        mine = [name for name in dict.fromkeys(mine) if name not in taken]
        taken.update(mine)
        name = node.name or (node.output[0] if node.output else node.op_type)
        yield _Step(node, name, tuple(mine), node.name.startswith(FRONT_END)), behind


def _may_be_weight(node: Any, slot: int, name: str, network: Network) -> bool:
    """Whether a constant at that input is a weight; what was made from weights is one."""
    if node.op_type in _QUANTISED_SLOTS:
        return slot in _QUANTISED_SLOTS[node.op_type]
    if slot in _SETTINGS.get(node.op_type, ()):
        return False
    tensor = network.constants.get(name)
    return tensor is None or (tensor.shape != () and tensor.dtype not in INDICES)


def _row(step: _Step, macs: int, network: Network, makers: dict[str, Any]) -> LayerCount:
    tensors = [network.constants[name] for name in step.weights]
    output = network.tensors.get(step.node.output[0]) if step.node.output else None
    return LayerCount(
        name=step.name,
        kind=_kind(step.node),
        output_shape=output.shape or () if output else (),
        params=sum(tensor.values for tensor in tensors),
        macs=macs,
        bytes=sum(tensor.bytes() for tensor in tensors),
        integer=macs > 0 and _is_integer(step.node, makers),
        front_end=step.front_end,
    )


def _is_integer(node: Any, makers: dict[str, Any]) -> bool:
    """Made of integers itself, or what a runtime turns into that: both sides are dequantised integers."""
    if node.op_type in INTEGER:
        return True
    sides = [makers.get(name) for name in node.input[:2]]
    return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in sides)


def _kind(node: Any) -> str:
    return str(node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}")


def _call(node: Any, tensors: dict[str, Tensor]) -> Call:
    """The node's shapes and attributes; ONNX Runtime's operators go by their short names."""
    from onnx import helper

    kind = _kind(node)
    if node.domain == MICROSOFT and node.op_type != "Attention":
        kind = node.op_type
    unknown = Tensor(None, "undefined")

    def shapes(names: Any) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(tensors.get(name, unknown).shape for name in names)

    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return Call(kind, shapes(node.input), shapes(node.output), attributes)

"""Where a network is rounded: which tensors, read by which nodes, which weights, which biases.

It depends on what a target's runtime can compute in integers, and on nothing that is learnt. ONNX Runtime
makes one integer operator of ``Q/DQ → Conv → ReLU → Q/DQ``, so a tensor is rounded behind its ReLU, and a sum
is computed in integers only where all that it adds comes from integers. TensorRT wants Q/DQ before its
weighted operators and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import onnx

from edgeaudio.config import Target
from edgeaudio.export.onnx import LOG_MEL

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
JOINING = ("Add", "AveragePool", "GlobalAveragePool", "Mul", "Sigmoid")
"""Computed in integers where all inputs come from integers."""
PASSING = (
    "Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""They only move values, so that what they give lies on the grid of what they take."""
FUSED = ("Clip", "Relu")
"""Activations that become the ends of the range behind them."""


@dataclass(frozen=True)
class Layer:
    """A node with weights that computes in integers."""

    node: str
    op: str
    input: str
    """Tensor that it reads rounded."""
    weight: str
    axis: int
    """Of the weight's output channels."""
    bias: str | None
    output: str
    """What it gives, before an activation."""
    rounded_output: str | None
    """Tensor behind it that is rounded, after the activation; None where nothing is."""


@dataclass(frozen=True)
class Placement:
    """All places where a network is rounded."""

    readers: dict[str, frozenset[str]]
    """Tensor → names of the nodes that read it rounded; all others read it exactly."""
    layers: tuple[Layer, ...]
    """In order of execution."""
    integer_biases: bool = True
    """Biases are stored as 32-bit integers, else they stay in float."""
    same: dict[str, str] = field(default_factory=dict)
    """Tensor → the one whose grid it shares."""


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken: set[str] = set()
    for number, node in enumerate(copy.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)
    return copy


def readers_of(model: onnx.ModelProto, tensor: str = LOG_MEL) -> list[str]:
    """The nodes that read a tensor, through whatever only turns its axes."""
    names, tensors = [], {tensor}
    for node in model.graph.node:  # in order of execution
        if tensors & set(node.input):
            names.append(node.name)
            if node.op_type in ("Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze"):
                tensors |= set(node.output)
    return names


def place(model: onnx.ModelProto, target: Target, in_float: Collection[str] = ()) -> Placement:
    """Find the places.

    Args:
        model: a float network whose nodes have names (see `named`).
        target: what its runtime computes in integers.
        in_float: names of nodes that stay in float whatever the target says.
    """
    return _Placing(model, target, frozenset(in_float)).placement


class _Placing:
    """One walk forward for what comes from integers, one backward for what leads to them."""

    def __init__(self, model: onnx.ModelProto, target: Target, in_float: frozenset[str]) -> None:
        graph = model.graph
        self.nodes = list(graph.node)
        self.constants = {tensor.name for tensor in graph.initializer}
        self.rank = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.target = target
        first = set(readers_of(model, graph.input[0].name)) if target.float_input_layer else set()
        weighted = [n for n in self.nodes if self._is_weighted(n) and n.name not in in_float | first]
        self.integer = {node.name for node in weighted}
        self.ends: dict[str, str] = {}  # integer node → the tensor behind it that is rounded
        rounded = {node.input[0] for node in weighted}
        joins = set(target.quantised_ops) & set(JOINING)
        if joins:
            self._forward(rounded, joins, in_float | first)
        self.placement = self._placed(weighted, rounded, bool(joins))

    def _is_weighted(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in WEIGHTED or node.op_type not in self.target.quantised_ops:
            return False
        if node.input[1] not in self.constants or node.input[0] in self.constants:
            return False  # a product of two activations, as in attention
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        return all(
            onnx.helper.get_attribute_value(attribute) == plain.get(attribute.name)
            for attribute in node.attribute
            if attribute.name in plain
        )

    def _forward(self, rounded: set[str], joins: set[str], in_float: Collection[str]) -> None:
        """Mark what comes from integers: `rounded` grows by the tensors behind integer nodes."""
        for node in self.nodes:
            moving = [name for name in node.input if name and name not in self.constants]
            from_integers = bool(moving) and all(name in rounded for name in moving)
            if node.name in in_float:
                continue
            if node.op_type in PASSING and from_integers and self._leads_to_integers(node.output[0], joins):
                self.integer.add(node.name)
                rounded.add(node.output[0])
            elif node.name in self.integer or (
                node.op_type in joins
                and from_integers
                and len(moving) == len([name for name in node.input if name])
                and (node.op_type == "Add" or self._leads_to_integers(node.output[0], joins))
            ):
                self.integer.add(node.name)
                end = self._behind_activation(node.output[0])
                # a product may give floats, to a bias or as the network's answer; a convolution that isn't
                # rounded behind it is computed in float
                if node.op_type in ("Gemm", "MatMul") and not self._leads_to_integers(end, set()):
                    continue
                self.ends[node.name] = end
                rounded.add(end)

    def _behind_activation(self, tensor: str) -> str:
        readers = self.readers.get(tensor, [])
        if len(readers) == 1 and readers[0].op_type in FUSED and tensor not in self.outputs:
            self.integer.add(readers[0].name)
            return str(readers[0].output[0])
        return tensor

    def _leads_to_integers(self, tensor: str, joins: set[str]) -> bool:
        for node in self.readers.get(tensor, []):
            if node.name in self.integer or node.op_type in joins - {"Mul", "Sigmoid"}:
                return True
            if node.op_type in (*PASSING, *FUSED) and self._leads_to_integers(node.output[0], joins):
                return True
        return False

    def _placed(self, weighted: list[onnx.NodeProto], rounded: set[str], joined: bool) -> Placement:
        # a tensor that an integer operator made is there as integers only, so that all read it rounded
        made = {name for node in self.nodes if node.name in self.integer for name in node.output}
        readers, same = {}, {}
        for tensor in sorted(rounded):
            nodes = {node.name for node in self.readers.get(tensor, [])}
            everyone = joined and tensor in made
            readers[tensor] = frozenset(nodes if everyone else nodes & self.integer)
        for node in self.nodes:
            if node.name in self.integer and node.op_type in PASSING and node.output[0] in rounded:
                same[node.output[0]] = node.input[0]
        layers = tuple(
            Layer(
                node=node.name,
                op=node.op_type,
                input=node.input[0],
                weight=node.input[1],
                axis=self._channel_axis(node),
                bias=node.input[2] if len(node.input) > 2 and node.input[2] in self.constants else None,
                output=node.output[0],
                rounded_output=self.ends.get(node.name),
            )
            for node in weighted
        )
        return Placement(readers, layers, self.target.quantised_bias, same)

    def _channel_axis(self, node: onnx.NodeProto) -> int:
        if node.op_type == "Conv":
            return 0
        if node.op_type == "ConvTranspose":
            return 1
        if node.op_type == "Gemm":
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            return 0 if turned else 1
        return self.rank[node.input[1]] - 1

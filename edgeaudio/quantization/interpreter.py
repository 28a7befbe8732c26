"""A float ONNX network as a torch module, rounded on request where its integers will be rounded.

So the very graph that is shipped can be trained on: its constants are the parameters, its nodes the forward
pass, and a placement with its quantisers tells what each node reads.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; Jain et al., "Trained Quantization Thresholds", MLSys 2020, for ranges that learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgeaudio.export.onnx import LOGITS
from edgeaudio.quantization.grids import INT32_MAX, Floats, Quantiser
from edgeaudio.quantization.placement import WEIGHTED, Layer, Placement
from edgeaudio.quantization.torch_operators import check_node, run_node

_LEARNT = dict.fromkeys((*WEIGHTED, "BatchNormalization", "LayerNormalization"), (1, 2))
"""Inputs that are weights and biases, by operator; running means and variances are not learnt."""


@dataclass(frozen=True)
class _Step:
    """A node, with the names under which it reads its inputs."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    spent: tuple[str, ...]
    """Tensors that no later node reads."""


class Interpreter(nn.Module):
    """Runs a float ONNX network in torch: log-mel `(batch, 1, mels, frames)` → logits `(batch, classes)`.

    Weights and biases of its layers are parameters, all other constants stay. Where it is rounded, a weight's
    scale follows the weight at each pass, by the rule of `fit_weight`. An activation's step is a parameter
    too, as its logarithm relative to the quantiser given; the zero point stays, so both ends of the range
    move alike.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        placement: Placement | None = None,
        activations: dict[str, Quantiser] | None = None,
        weights: dict[str, Quantiser] | None = None,
    ) -> None:
        """Read a network.

        Args:
            model: in float; its nodes have names where there is a placement.
            placement: where it is rounded; nowhere if None.
            activations: tensor → quantiser, for every tensor of the placement.
            weights: weight → quantiser, whose grid and axis count.

        Raises:
            BoundError: the network holds an operator that isn't known here.
        """
        super().__init__()
        graph = model.graph
        self._placement = placement or Placement({}, ())
        self._layers = {layer.node: layer for layer in self._placement.layers}
        self._activations, self._weights = activations or {}, weights or {}
        self._input = graph.input[0].name
        self._outputs = tuple(value.name for value in graph.output)
        self._learnt: dict[str, str] = {}  # name in the graph → attribute
        self._kept: dict[str, str] = {}
        self._integers: dict[str, Tensor] = {}
        self._read_constants(graph)
        self._roots = {name: _root(name, self._placement) for name in self._placement.readers}
        self._place_of_step = {name: i for i, name in enumerate(dict.fromkeys(self._roots.values()))}
        self.log_steps = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in self._place_of_step)
        self._steps = tuple(self._read_nodes(graph))
        self._read = {name for step in self._steps for name in step.inputs} | set(self._outputs)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Logits `(batch, classes)`."""
        return self.answers(log_mel)[LOGITS]

    def answers(self, log_mel: Tensor) -> dict[str, Tensor]:
        """All outputs of the graph by name."""
        values: dict[str, Tensor] = dict(self._integers)
        for names in (self._learnt, self._kept):
            values |= {name: getattr(self, attribute) for name, attribute in names.items()}
        for layer in self._layers.values():
            self._round_layer(layer, values)
        self._put(values, self._input, log_mel)
        for step in self._steps:
            given = [values[name] if name else None for name in step.inputs]
            for name, value in zip(step.outputs, run_node(step.op, given, step.attributes), strict=False):
                self._put(values, name, value)
            for name in step.spent:
                del values[name]
        return {name: values[name] for name in self._outputs}

    def learnt(self) -> dict[str, nn.Parameter]:
        """Weights and biases by their name in the graph."""
        return {name: getattr(self, attribute) for name, attribute in self._learnt.items()}

    def constants(self) -> dict[str, Floats]:
        """The same as arrays."""
        return {
            name: value.detach().cpu().contiguous().numpy().copy() for name, value in self.learnt().items()
        }

    def quantisers(self) -> dict[str, Quantiser]:
        """Tensor → quantiser with the step that was learnt."""
        return {
            name: replace(quantiser, scale=np.asarray(self._scale(name).item(), np.float32))
            for name, quantiser in self._activations.items()
        }

    def _read_constants(self, graph: onnx.GraphProto) -> None:
        floats = {}
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        tensors |= {
            node.output[0]: attribute.t
            for node in graph.node if node.op_type == "Constant"
            for attribute in node.attribute if attribute.name == "value"
        }  # fmt: skip
        for name, tensor in tensors.items():
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if value.is_floating_point():
                floats[name] = value
            else:
                self._integers[name] = value  # sizes and axes: read by Python, so they stay on the CPU
        wanted = _learnt_names(graph)
        for i, (name, value) in enumerate(floats.items()):
            attribute = _attribute("constant", i)
            if name in wanted:
                self._learnt[name] = attribute
                self.register_parameter(attribute, nn.Parameter(value))
            else:
                self._kept[name] = attribute
                self.register_buffer(attribute, value)

    def _read_nodes(self, graph: onnx.GraphProto) -> Iterator[_Step]:
        nodes = [node for node in graph.node if node.op_type != "Constant"]
        inputs = [tuple(self._name_for(node, name) for name in node.input) for node in nodes]
        last = {name: i for i, names in enumerate(inputs) for name in names}
        for i, node in enumerate(nodes):
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            check_node(node.op_type, node.name, attributes)
            spent = {n for n in inputs[i] if n and last[n] == i and n not in self._outputs}
            yield _Step(node.op_type, inputs[i], tuple(node.output), attributes, tuple(sorted(spent)))

    def _name_for(self, node: onnx.NodeProto, tensor: str) -> str:
        layer = self._layers.get(node.name)
        if layer and (tensor == layer.weight or (tensor == layer.bias and self._placement.integer_biases)):
            return f"{tensor}/of/{layer.node}"
        if node.name in self._placement.readers.get(tensor, ()) and tensor not in self._outputs:
            return f"{tensor}/rounded"
        return tensor

    def _put(self, values: dict[str, Tensor], name: str, value: Tensor) -> None:
        if name in self._read:
            values[name] = value
        if name in self._activations:
            # the graph's own output is given rounded, as `write` has it
            rounded = name if name in self._outputs else f"{name}/rounded"
            values[rounded] = self._rounded(name, value)

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        quantiser = self._activations[name]
        # QuantizeLinear saturates at the ends of the type, even where the grid is a symmetric part of it
        ends = np.iinfo(quantiser.grid.dtype)
        zero = float(quantiser.zero_point)
        round_to: Any = _Rounding.apply
        result: Tensor = round_to(
            value, self._log_step(name), float(quantiser.scale), zero, ends.min, ends.max
        )
        return result

    def _scale(self, name: str) -> Tensor:
        return float(self._activations[name].scale) * self._log_step(name).detach().exp()

    def _log_step(self, name: str) -> Tensor:
        """Tensors that share a grid share its step."""
        step: Tensor = self.log_steps[self._place_of_step[self._roots[name]]]
        return step

    def _round_layer(self, layer: Layer, values: dict[str, Tensor]) -> None:
        weight, bias = values[layer.weight], values[layer.bias] if layer.bias else None
        if not self._placement.integer_biases:
            bias = None
        step = self._scale(layer.input) if bias is not None else None
        scale, zero = weight_scale(weight.detach(), self._weights[layer.weight], bias, step)
        values[f"{layer.weight}/of/{layer.node}"] = _rounded_weight(
            weight, scale, zero, self._weights[layer.weight]
        )
        if bias is not None and step is not None:
            exact, steps = bias.detach().double(), step.double() * scale.double()
            error = (torch.round(exact / steps) * steps - exact).float()
            values[f"{layer.bias}/of/{layer.node}"] = bias + error


def weight_scale(
    weight: Tensor, quantiser: Quantiser, bias: Tensor | None = None, input_scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scale and zero point, `()` or `(channels,)`, by the rule of `fit_weight`: the weight's whole range.

    Args:
        weight: any shape.
        quantiser: whose grid and axis count.
        bias: `(channels,)`, where it is stored in steps of ``input scale · weight scale`` and must fit.
        input_scale: `()`.
    """
    grid = quantiser.grid
    rows = weight.reshape(1, -1) if quantiser.axis is None else weight.movedim(quantiser.axis, 0).flatten(1)
    rows = rows.double()
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    if grid.symmetric:
        middle = 0 if grid.signed else 2 ** (grid.bits - 1)
        scale = torch.maximum(-low, high) / (grid.high - middle)
        zero = torch.full_like(scale, middle)
    else:
        scale = (high - low) / (grid.high - grid.low)
        zero = torch.round(grid.low - low / torch.where(scale > 0, scale, 1.0))
    tiny = torch.finfo(torch.float32).tiny
    scale = torch.where(scale > tiny, scale, 1.0).float()
    if bias is not None and input_scale is not None:
        least = bias.detach().double().abs() / (INT32_MAX // 2) / input_scale.double()
        scale = torch.maximum(scale, (least if quantiser.axis is not None else least.amax()).float())
    return (scale, zero) if quantiser.axis is not None else (scale[0], zero[0])


def _rounded_weight(weight: Tensor, scale: Tensor, zero: Tensor, quantiser: Quantiser) -> Tensor:
    """Straight through; nothing is outside, since the range is that of the weight itself."""
    grid = quantiser.grid
    if quantiser.axis is not None:
        shape = [1] * weight.ndim
        shape[quantiser.axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    exact = weight.detach()
    steps = (torch.round(exact / scale) + zero.float()).clamp(grid.low, grid.high)
    return weight + ((steps - zero.float()) * scale - exact)


class _Rounding(torch.autograd.Function):
    """Rounding to a grid, with gradients as if it were none inside the range.

    With q = clip(round(x / s) + z, n, p) and x̂ = (q − z) · s, round's derivative taken as 1:
    ∂x̂/∂x is 1 inside and 0 outside; ∂x̂/∂ln s = s · ∂x̂/∂s is x̂ − x inside and x̂ outside.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, log_step: Tensor, scale: float, zero: float, low: int, high: int
    ) -> Tensor:
        """`scale` is the step at ``log_step = 0``."""
        step = (scale * log_step.exp()).to(x.dtype)
        steps = torch.round(x / step).add_(zero)
        inside = (steps >= low) & (steps <= high)
        result = steps.clamp_(low, high).sub_(zero).mul_(step)
        ctx.save_for_backward(inside, torch.where(inside, result - x, result))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `x` and `log_step`."""
        inside, slope = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * inside, (gradient * slope).sum(), None, None, None, None


def _root(tensor: str, placement: Placement) -> str:
    while tensor in placement.same:
        tensor = placement.same[tensor]
    return tensor


def _learnt_names(graph: onnx.GraphProto) -> set[str]:
    """Constants that layers learn, and vectors that are added to a product: MatMul's biases."""
    products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
    vectors = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 1}
    learnt: set[str] = set()
    other: set[str] = set()
    for node in graph.node:
        places = _LEARNT.get(node.op_type, ())
        is_bias = node.op_type == "Add" and products & set(node.input)
        for place, name in enumerate(node.input):
            (learnt if place in places or (is_bias and name in vectors) else other).add(name)
    return learnt - other  # exporters store equal constants once, whatever they are for


def _attribute(kind: str, number: int) -> str:
    return f"{kind}_{number}"  # names in a graph hold dots, attributes can't

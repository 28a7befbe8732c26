"""Bias correction: each channel's mean error, seen on calibration windows, is taken out of its bias.

Rounding weights shifts the mean of a layer's output, because its inputs, behind a ReLU, don't average to
zero. The shift is the same for every window and so the easiest of all errors to remove.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019;
here the means are measured rather than derived from batch norms.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeaudio.quantization.grids import Floats, Quantiser
from edgeaudio.quantization.placement import Layer, Placement
from edgeaudio.quantization.running import spread, tensors_of
from edgeaudio.quantization.stepwise import Stepwise
from edgeaudio.quantization.writing import constants, with_constants, write

WINDOWS = 64
"""Calibration windows that the means are taken over; more change a mean by less than it is worth."""


def correct_biases(
    model: onnx.ModelProto,
    placement: Placement,
    activations: dict[str, Quantiser],
    weights: dict[str, Quantiser],
    inputs: Floats,
) -> tuple[onnx.ModelProto, Placement]:
    """Give every layer the bias with which its mean output is that of the float network.

    Layer after layer: the layers before it are already corrected when a layer's error is measured, so that no
    error is taken out twice.

    Args:
        model: the float network, whose means are to be met.
        placement: where it is rounded.
        activations: tensor → quantiser.
        weights: weight → quantiser.
        inputs: calibration windows `(windows, 1, mels, frames)`.

    Returns:
        The float network with other biases, and the placement, which names those that are new: a Conv or Gemm
        without one gets one. A product without a bias of its own (MatMul) is corrected in the sum behind it,
        or left as it is where there is none.
    """
    model, placement = with_biases(model, placement)
    inputs = spread(inputs, WINDOWS)
    exact = _exact_means(model, placement, inputs)
    integer = write(model, placement, activations, weights)
    step = Stepwise(integer, placement.layers, inputs)
    values, changed = constants(model), {}
    for layer in placement.layers:
        answer = step.answer(layer, step.given(layer))
        axis = channel_axis(layer)
        name = layer.bias or _sum_behind(model, layer)
        if name is not None:
            error = (exact[layer.output] - _mean(answer, axis)).astype(np.float32)
            changed[name] = values[name] + error
            answer = [np.moveaxis(np.moveaxis(run, axis, -1) + error, -1, axis) for run in answer]
        step.hold(layer, answer)
    return with_constants(model, changed), placement


def with_biases(model: onnx.ModelProto, placement: Placement) -> tuple[onnx.ModelProto, Placement]:
    """The same network; every Conv and Gemm of the placement has a bias of its own, zero where new."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    values, nodes = constants(model), {node.name: node for node in copy.graph.node}
    uses = Counter(name for node in model.graph.node for name in node.input)
    layers = []
    for layer in placement.layers:
        node = nodes[layer.node]
        computed = len(node.input) > 2 and node.input[2] and layer.bias is None
        shared = layer.bias is not None and uses[layer.bias] > 1
        if layer.op != "MatMul" and not computed and (layer.bias is None or shared):
            name = f"{layer.node}/bias"
            channels = values[layer.weight].shape[layer.axis] * _transposed_groups(node)
            bias = values[layer.bias] if layer.bias else np.zeros(channels, np.float32)
            copy.graph.initializer.append(numpy_helper.from_array(bias, name))
            node.input[:] = [*node.input[:2], name]
            layer = replace(layer, bias=name)
        layers.append(layer)
    return copy, replace(placement, layers=tuple(layers))


def channel_axis(layer: Layer) -> int:
    """Axis of the channels in what a layer gives."""
    return 1 if layer.op in ("Conv", "ConvTranspose") else -1


def _transposed_groups(node: onnx.NodeProto) -> int:
    """A ConvTranspose's weight is (inputs, outputs a group, …)."""
    if node.op_type != "ConvTranspose":
        return 1
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def _sum_behind(model: onnx.ModelProto, layer: Layer) -> str | None:
    """The constant that alone is added to a product, where it has one value a channel and one reader."""
    if layer.op != "MatMul":
        return None
    readers = [node for node in model.graph.node if layer.output in node.input]
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    (name,) = (name for name in readers[0].input if name != layer.output)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    alone = sum(name in node.input for node in model.graph.node) == 1
    return name if alone and len(shapes.get(name, ())) == 1 else None


def _exact_means(
    model: onnx.ModelProto, placement: Placement, inputs: Floats
) -> dict[str, NDArray[np.float64]]:
    """Mean of every channel of every layer's output in the float network."""
    axes = {layer.output: channel_axis(layer) for layer in placement.layers}
    total: dict[str, NDArray[np.float64]] = {}
    positions: Counter[str] = Counter()
    for found in tensors_of(model, list(axes), inputs):
        for name, axis in axes.items():
            rows = _rows(found[name], axis)
            total[name] = total.get(name, 0.0) + rows.sum(axis=0, dtype=np.float64)
            positions[name] += len(rows)
    return {name: total[name] / positions[name] for name in axes}


def _mean(runs: list[Floats], axis: int) -> NDArray[np.float64]:
    rows = [_rows(run, axis) for run in runs]
    total: NDArray[np.float64] = np.sum([r.sum(axis=0, dtype=np.float64) for r in rows], axis=0)
    return total / sum(len(r) for r in rows)


def _rows(values: Floats, axis: int) -> Floats:
    """`(positions, channels)`."""
    moved = np.moveaxis(values, axis, -1)
    return moved.reshape(-1, moved.shape[-1])

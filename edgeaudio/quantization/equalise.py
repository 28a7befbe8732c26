"""Cross-layer equalisation: neighbouring convolutions share the work of scaling, channel by channel.

A convolution's channel may be divided by a positive number, if the next convolution multiplies what it
reads of that channel by the same: a ReLU between them lets positive factors through. So the network computes
the same, and its weights can be chosen so that one scale suits all channels.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeaudio.quantization.writing import constants, with_constants

ROUNDS = 100
SETTLED = 1e-3
"""Largest relative change of a channel in a round after which nothing is gained by another."""

Weights = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class _Pair:
    """A convolution and the only one that reads it."""

    weight: str
    bias: str | None
    next_weight: str
    depthwise: bool
    """The second one reads each channel by filters of its own."""


def equalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Even out the ranges of channels between neighbouring convolutions; what the network computes stays.

    Each channel's factor makes its range in the first convolution, largest |weight| ``r₁``, equal to its
    range in the second, ``r₂``: with ``s = √(r₁ / r₂)`` both become ``√(r₁ r₂)``. A channel that is zero on
    either side is left alone. A convolution in the middle belongs to two pairs, so rounds are repeated until
    they change nothing.

    Args:
        model: a float network without batch norms.

    Returns:
        A copy with other weights and biases.
    """
    pairs = list(_pairs(model))
    values: Weights = {name: value.astype(np.float64) for name, value in constants(model).items()}
    for _ in range(ROUNDS):
        if max((_balance(pair, values) for pair in pairs), default=0.0) < SETTLED:
            break
    changed = {name for p in pairs for name in (p.weight, p.bias, p.next_weight) if name}
    return with_constants(model, {name: values[name].astype(np.float32) for name in changed})


def _balance(pair: _Pair, values: Weights) -> float:
    """Share one pair's ranges evenly; gives the largest relative change."""
    first, second = values[pair.weight], values[pair.next_weight]
    channels = len(first)
    mine = np.abs(first).reshape(channels, -1).max(axis=1)
    # a depthwise weight is (channels · multiplier, 1, …), any other (outputs, channels, …)
    by_channel = second.reshape(channels, -1) if pair.depthwise else np.moveaxis(second, 1, 0)
    theirs = np.abs(by_channel).reshape(channels, -1).max(axis=1)
    alive = (mine > 0) & (theirs > 0)
    factor = np.sqrt(np.where(alive, mine, 1.0) / np.where(alive, theirs, 1.0))
    values[pair.weight] = first / factor.reshape(-1, *[1] * (first.ndim - 1))
    if pair.bias:
        values[pair.bias] = values[pair.bias] / factor
    if pair.depthwise:
        values[pair.next_weight] = (by_channel * factor[:, None]).reshape(second.shape)
    else:
        values[pair.next_weight] = second * factor.reshape(1, -1, *[1] * (second.ndim - 2))
    return float(np.abs(factor - 1).max())


def _pairs(model: onnx.ModelProto) -> Iterator[_Pair]:
    """Conv → [Relu] → Conv, nothing else reading in between, with weights that belong to them alone."""
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    outputs = {value.name for value in graph.output}
    reader = {name: node for node in graph.node for name in node.input}

    def only_reader(node: onnx.NodeProto) -> onnx.NodeProto | None:
        result = node.output[0]
        return reader[result] if uses[result] == 1 and result not in outputs else None

    for node in graph.node:
        if node.op_type != "Conv":
            continue
        following = only_reader(node)
        if following is not None and following.op_type == "Relu":
            following = only_reader(following)
        if following is None or following.op_type != "Conv":
            continue
        own = [name for name in (*node.input[1:], *following.input[1:2]) if name]
        if any(name not in shapes or uses[name] != 1 for name in own):
            continue
        channels = shapes[node.input[1]][0]
        groups = next((a.i for a in following.attribute if a.name == "group"), 1)
        if groups not in (1, channels):
            continue
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        yield _Pair(node.input[1], bias, following.input[1], depthwise=groups == channels)

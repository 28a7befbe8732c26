"""AdaRound: which weights are rounded up and which down is learnt, so that a layer still gives what it gave.

To the nearest is the best rounding of a weight and not of a layer: errors of several weights can cancel. Each
weight's share between down (0) and up (1) is a rectified sigmoid ``h(v)``, and a growing penalty
``1 − |2h − 1|^β`` drives it to one of the ends.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from edgeaudio.quantization.bias import WINDOWS
from edgeaudio.quantization.grids import Floats, Quantiser
from edgeaudio.quantization.placement import Layer, Placement
from edgeaudio.quantization.running import spread
from edgeaudio.quantization.stepwise import Runs, Stepwise
from edgeaudio.quantization.writing import constants, write

POSITIONS = 4096
"""Places of a layer's output that are looked at, over all windows."""
JUDGED = 1024
"""Of those, how many are kept from the learning, to judge what was learnt."""
BATCH = 256
"""Places a step."""
STEPS = 300
LEARNING_RATE = 0.1
PENALTY = 1.0
"""Weight of the penalty, where the error of rounding to the nearest is 1."""
WARM_UP = 0.2
"""Share of the steps before the penalty sets in."""
BETA = (20.0, 2.0)
"""Exponent of the penalty, at its beginning and its end."""
STRETCH = (-0.1, 1.1)
"""The sigmoid's ends before it is clipped, so that 0 and 1 are reached."""


@dataclass(frozen=True)
class _Columns:
    """A layer as a product, at sampled places, group by group."""

    given: Tensor
    """What it reads, rounded, `(groups, positions, inputs)`."""
    wanted: Tensor
    """What the float network gives there, `(groups, positions, outputs)`."""
    bias: Tensor
    """`(groups, 1, outputs)`."""
    relu: bool


def adapt_rounding(
    model: onnx.ModelProto,
    placement: Placement,
    activations: dict[str, Quantiser],
    weights: dict[str, Quantiser],
    inputs: Floats,
    seed: int = 0,
) -> dict[str, Floats]:
    """Round the weights of every layer to what lets it answer as in the float network.

    Layer after layer, each with the inputs that the rounded layers before it give. An output channel keeps
    the nearest rounding where that turns out to be better. Transposed convolutions and weights that several
    layers share are rounded to the nearest.

    Args:
        model: the float network.
        placement: where it is rounded.
        activations: tensor → quantiser.
        weights: weight → quantiser.
        inputs: calibration windows `(windows, 1, mels, frames)`.
        seed: of the places and batches that are drawn; the same seed gives the same weights.

    Returns:
        weight → float values that lie on the grid of its quantiser, so that `write` with the same quantisers
        stores these very integers.
    """
    inputs = spread(inputs, WINDOWS)
    values, nodes = constants(model), {node.name: node for node in model.graph.node}
    relus = {node.input[0] for node in model.graph.node if node.op_type == "Relu"}
    uses = [name for node in model.graph.node for name in node.input]
    step = Stepwise(write(model, placement, activations, weights), placement.layers, inputs)
    exact = Stepwise(model, placement.layers, inputs)
    rng = np.random.default_rng(seed)
    found: dict[str, Floats] = {}
    for layer in placement.layers:
        given, wanted = step.given(layer), exact.answer(layer, exact.given(layer))
        exact.hold(layer, wanted)
        shared = uses.count(layer.weight) > 1
        if shared or not _is_plain_product(nodes[layer.node], values[layer.weight]):
            step.hold(layer, step.answer(layer, given))
            continue
        relu = layer.output in relus and uses.count(layer.output) == 1
        bias = values.get(layer.bias or "")
        columns = _columns(nodes[layer.node], values[layer.weight], bias, given, wanted, relu, rng)
        found[layer.weight] = _rounded(layer, values[layer.weight], weights[layer.weight], columns)
        step.hold(layer, step.answer(layer, given, found[layer.weight]))
    return found


def _rounded(layer: Layer, weight: Floats, quantiser: Quantiser, columns: _Columns) -> Floats:
    """One layer's weight on its grid."""
    grid = quantiser.grid
    moved = np.moveaxis(weight, layer.axis, 0)
    groups, positions, _ = columns.given.shape
    outputs = len(moved) // groups

    def rows(values: NDArray[np.generic]) -> Tensor:
        """`(groups, outputs, inputs)`; one column where there is one value a channel, one value for all."""
        flat = torch.tensor(np.ascontiguousarray(values, dtype=np.float32))
        return flat.reshape(groups, outputs, -1) if values.ndim else flat

    scale, zero = rows(quantiser.scale), rows(quantiser.zero_point)
    exact = rows(moved) / scale + zero
    nearest = rows(np.moveaxis(quantiser.integers(weight), layer.axis, 0))

    def error(integers: Tensor, at: slice) -> Tensor:
        """Mean squared error of every output channel at some places, `(groups, outputs)`."""
        answer = columns.given[:, at] @ ((integers - zero) * scale).transpose(1, 2) + columns.bias
        wanted = columns.wanted[:, at]
        if columns.relu:
            answer, wanted = answer.relu(), wanted.relu()
        return (answer - wanted).square().mean(dim=1)

    judging = slice(max(0, positions - JUDGED), None)
    unit = float(error(nearest, judging).sum())
    if positions <= JUDGED or unit == 0:  # too small to learn from, or nothing to gain
        return quantiser.rounded(weight)
    down = exact.floor()
    v = _opened(exact - down).requires_grad_()
    optimiser = torch.optim.Adam([v], LEARNING_RATE)
    for number in range(STEPS):
        start = number * BATCH % max(1, judging.start - BATCH)  # the places are in random order
        share = _share(v)
        integers = (down + share).clamp(grid.low, grid.high)
        loss = error(integers, slice(start, min(start + BATCH, judging.start))).sum() / unit
        done = (number / STEPS - WARM_UP) / (1 - WARM_UP)
        if done > 0:
            beta = BETA[1] + (BETA[0] - BETA[1]) * (1 - done)
            loss = loss + PENALTY * (1 - (2 * share - 1).abs().pow(beta)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        adapted = (down + (_share(v) > 0.5)).clamp(grid.low, grid.high)
        better = (error(adapted, judging) < error(nearest, judging))[..., None]
        real = ((torch.where(better, adapted, nearest) - zero) * scale).numpy().reshape(moved.shape)
    return np.ascontiguousarray(np.moveaxis(real, 0, layer.axis))


def _share(v: Tensor) -> Tensor:
    """Rectified sigmoid: between down, 0, and up, 1."""
    low, high = STRETCH
    return (v.sigmoid() * (high - low) + low).clamp(0, 1)


def _opened(share: Tensor) -> Tensor:
    """The inverse of `_share`."""
    low, high = STRETCH
    return ((share.clamp(0, 1) - low) / (high - low)).logit()


def _is_plain_product(node: onnx.NodeProto, weight: Floats) -> bool:
    """Whether `_columns` knows how the node reads its input."""
    if node.op_type == "MatMul":
        return weight.ndim == 2
    return node.op_type == "Gemm" or (node.op_type == "Conv" and _attributes(node)["auto_pad"] == b"NOTSET")


def _columns(
    node: onnx.NodeProto,
    weight: Floats,
    bias: Floats | None,
    given: Runs,
    wanted: Runs,
    relu: bool,
    rng: np.random.Generator,
) -> _Columns:
    """Draw places of a layer's output, and what it reads for each of them."""
    groups = _attributes(node)["group"] if node.op_type == "Conv" else 1
    read, gave = [], []
    for x, y in zip(given, wanted, strict=True):
        if node.op_type == "Conv":
            sizes = (len(y), *y.shape[2:])
            drawn = rng.integers(0, np.prod(sizes), -(-POSITIONS // len(given)))
            window, *place = np.unravel_index(drawn, sizes)
            read.append(_patches(node, x, weight.shape[2:], window, place))
            gave.append(np.moveaxis(y, 1, -1)[(window, *place)])
        else:
            drawn = rng.integers(0, y.size // y.shape[-1], -(-POSITIONS // len(given)))
            read.append(x.reshape(-1, x.shape[-1])[drawn])
            gave.append(y.reshape(-1, y.shape[-1])[drawn])
    order = rng.permutation(sum(map(len, read)))  # so that learning and judging see all windows

    def grouped(rows: Floats) -> Tensor:
        by_group = rows.reshape(len(rows), groups, -1).transpose(1, 0, 2)
        return torch.from_numpy(np.ascontiguousarray(by_group, dtype=np.float32))

    outputs = gave[0].shape[1]
    shift = np.zeros(outputs, np.float32)
    if bias is not None:
        shift += bias
    return _Columns(
        grouped(np.concatenate(read)[order]), grouped(np.concatenate(gave)[order]), grouped(shift[None]), relu
    )


def _patches(
    node: onnx.NodeProto,
    x: Floats,
    kernel: tuple[int, ...],
    window: NDArray[np.int64],
    place: list[NDArray[np.int64]],
) -> Floats:
    """What a convolution reads for given places of its output, `(places, channels · kernel)`."""
    settings, axes = _attributes(node), len(kernel)
    strides, dilations = (settings[key] or [1] * axes for key in ("strides", "dilations"))
    pads = settings["pads"] or [0] * 2 * axes
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])

    def along(values: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
        """Values `(places or 1, n)` as an index of `(places, channels, *kernel)`, n at `axis`."""
        shape = [len(values)] + [1] * (1 + axes)
        shape[axis] = values.shape[1]
        return values.reshape(shape)

    index = [along(window[:, None], 1), along(np.arange(x.shape[1])[None], 1)]
    for axis, size in enumerate(kernel):
        taps = np.arange(size) * dilations[axis]
        index.append(along((place[axis] * strides[axis])[:, None] + taps, 2 + axis))
    patches: Floats = padded[tuple(index)]
    return patches.reshape(len(window), -1)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A convolution's attributes, with the defaults of those that have one in a word."""
    defaults = {"auto_pad": b"NOTSET", "dilations": None, "group": 1, "pads": None, "strides": None}
    return defaults | {a.name: helper.get_attribute_value(a) for a in node.attribute}

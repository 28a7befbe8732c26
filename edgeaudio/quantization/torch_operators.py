"""ONNX operators as functions of torch tensors, by opset 20: those that exported networks are made of.

Every function takes a node's inputs, None where one is left out, and its attributes. Integers (sizes, axes)
are tensors too, on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeaudio.errors import BoundError

Inputs = Sequence[Tensor | None]
Attributes = dict[str, Any]
Operator = Callable[..., Tensor | tuple[Tensor, ...]]


def run_node(op: str, inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    """What a node of a known operator gives."""
    found = OPERATORS[op](*inputs, **attributes)
    return found if isinstance(found, tuple) else (found,)


def check_node(op: str, name: str, attributes: Attributes) -> None:
    """Raise a `BoundError` that names the node unless its operator is known."""
    way_out = "quantise it after training (--method ptq)"
    if op not in OPERATORS:
        raise BoundError(
            f"the network's node {name} is a {op}, which can't be run in torch, so it can't be trained on; "
            f"{way_out}"
        )
    padding = attributes.get("auto_pad", b"NOTSET")
    if padding != b"NOTSET":
        raise BoundError(
            f"the network's node {name} pads by itself ({padding.decode()}), which isn't known in torch, so "
            f"it can't be trained on; {way_out}"
        )


# ── convolutions and pools: x (batch, channels, …) ───────────────────────────────────────────────────


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """Give the functions below pads that are alike on both sides; the rest is padded here."""
    begin, end = list(pads[: len(pads) // 2]), list(pads[len(pads) // 2 :])
    if begin == end:
        return x, begin
    both = [size for pair in zip(reversed(begin), reversed(end), strict=True) for size in pair]
    return F.pad(x, both, value=value), [0] * len(begin)


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, group: int = 1, **attributes: Any
) -> Tensor:
    rank = weight.ndim - 2
    x, padding = _padded(x, attributes.get("pads", [0] * 2 * rank))
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    stride, dilation = attributes.get("strides", 1), attributes.get("dilations", 1)
    result: Tensor = convolve(x, weight, bias, stride, padding, dilation, group)
    return result


def _conv_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, group: int = 1, **attributes: Any
) -> Tensor:
    rank = weight.ndim - 2
    pads = attributes.get("pads", [0] * 2 * rank)
    convolve: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    whole: Tensor = convolve(
        x, weight, bias, attributes.get("strides", 1), 0,
        attributes.get("output_padding", 0), group, attributes.get("dilations", 1),
    )  # fmt: skip
    for axis in range(rank):
        size = whole.shape[axis + 2]
        whole = whole.narrow(axis + 2, pads[axis], size - pads[axis] - pads[axis + rank])
    return whole


def _average_pool(x: Tensor, *, kernel_shape: Sequence[int], **attributes: Any) -> Tensor:
    rank = len(kernel_shape)
    pads, counted = attributes.get("pads", [0] * 2 * rank), bool(attributes.get("count_include_pad", 0))
    if pads[:rank] != pads[rank:] and not counted:
        ones, padding = _padded(torch.ones_like(x), pads)  # the share of a window that isn't padding
        settings = {"pads": [0] * 2 * rank, **{k: v for k, v in attributes.items() if k != "pads"}}
        share = _average_pool(ones, kernel_shape=kernel_shape, **settings)
        return _average_pool(_padded(x, pads)[0], kernel_shape=kernel_shape, **settings) / share
    x, padding = _padded(x, pads)
    pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    stride = attributes.get("strides", [1] * rank)
    ceil = bool(attributes.get("ceil_mode", 0))
    result: Tensor = pool(x, kernel_shape, stride, padding, ceil, counted)
    return result


def _max_pool(x: Tensor, *, kernel_shape: Sequence[int], **attributes: Any) -> Tensor:
    rank = len(kernel_shape)
    x, padding = _padded(x, attributes.get("pads", [0] * 2 * rank), -math.inf)
    pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    stride, dilation = attributes.get("strides", [1] * rank), attributes.get("dilations", 1)
    result: Tensor = pool(x, kernel_shape, stride, padding, dilation, bool(attributes.get("ceil_mode", 0)))
    return result


def _batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, training=False, eps=epsilon)


def _layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return F.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def _gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, *,
    alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0,
) -> Tensor:  # fmt: skip
    product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return product if c is None else product + beta * c


# ── shapes and positions ─────────────────────────────────────────────────────────────────────────────


def _reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    sizes = shape.tolist()
    if not allowzero:
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(list(perm) if perm is not None else list(reversed(range(x.ndim))))


def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    rows = math.prod(x.shape[:axis])
    return x.reshape(rows, -1)


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes.tolist())


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, dim=axis)


def _slice(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    count = starts.numel()
    along = list(range(count)) if axes is None else axes.tolist()
    strides = [1] * count if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), along, strides, strict=True):
        kept = range(x.shape[axis])[slice(start, end, step)]
        x = x.index_select(axis, torch.tensor(list(kept), dtype=torch.long, device=x.device))
    return x


def _split(
    x: Tensor, sizes: Tensor | None = None, *, axis: int = 0, num_outputs: int = 0
) -> tuple[Tensor, ...]:
    if sizes is not None:
        return torch.split(x, sizes.tolist(), dim=axis)
    return torch.split(x, -(-x.shape[axis] // num_outputs), dim=axis)


def _pad(
    x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None, *,
    mode: bytes = b"constant",
) -> Tensor:  # fmt: skip
    along = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    begin, end = pads[: len(along)].tolist(), pads[len(along) :].tolist()
    both = [0] * 2 * x.ndim
    for place, axis in enumerate(along):
        from_last = 2 * (x.ndim - 1 - axis)
        both[from_last : from_last + 2] = begin[place], end[place]
    while mode != b"constant" and both[-2:] == [0, 0]:
        both = both[:-2]  # torch reflects the last axes only, so the others mustn't be named
    kind = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate", b"wrap": "circular"}[mode]
    return F.pad(x, both, mode=kind, **({"value": float(value)} if value is not None else {}))


def _gather(x: Tensor, index: Tensor, *, axis: int = 0) -> Tensor:
    flat = x.index_select(axis, index.reshape(-1).to(x.device) % x.shape[axis])
    axis %= x.ndim
    return flat.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(list(x.shape)[start:end], dtype=torch.long)


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(shape.tolist())))


# ── sums over axes, and functions of each value ──────────────────────────────────────────────────────

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _reducing(reduce: Reduction) -> Operator:
    def run(
        x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        named = [] if axes is None else axes.tolist()
        if not named and noop_with_empty_axes:
            return x
        return reduce(x, named or list(range(x.ndim)), bool(keepdims))

    return run


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def _global_average(x: Tensor) -> Tensor:
    return x.mean(dim=list(range(2, x.ndim)), keepdim=True)


def _gelu(x: Tensor, *, approximate: bytes = b"none") -> Tensor:
    return F.gelu(x, approximate=approximate.decode())


def _of_all(combine: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def run(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = combine(first, other)
        return first

    return run


OPERATORS: dict[str, Operator] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": torch.div,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": _of_all(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _of_all(torch.minimum),
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Pad": _pad,
    "Pow": torch.pow,
    "ReduceL2": _reducing(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMax": _reducing(torch.amax),
    "ReduceMean": _reducing(torch.mean),
    "ReduceMin": _reducing(torch.amin),
    "ReduceSum": _reducing(torch.sum),
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": lambda x, *, axis=-1: torch.softmax(x, axis),
    "Split": _split,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

"""How much working memory one inference needs: the tensors that are alive while each operator runs.

Weights stay in flash and cost no working memory. Scratch memory inside an operator (an unrolled
convolution, say) depends on the runtime's kernels and is not in these numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from edgeaudio.complexity.graph import Graph, Op, words
from edgeaudio.complexity.onnx_macs import ELEMENTWISE, VIEWS
from edgeaudio.complexity.qdq import fused

ALIGNMENT = 16  # bytes; what the planner of TFLite Micro rounds up to
OVERWRITES = (ELEMENTWISE | VIEWS) | words(
    # of TFLite
    "ABS ADD CEIL DIV ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MINIMUM MUL NEG POW "
    "PRELU RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE ROUND RSQRT SIN SQRT SQUARE SQUARED_DIFFERENCE "
    "SQUEEZE SUB TANH EXPAND_DIMS"
)


@dataclass(frozen=True)
class NodeMemory:
    """What is alive while one operator runs."""

    name: str
    kind: str
    live_bytes: int
    """Its inputs and outputs, and what later operators still need."""
    in_place_bytes: int
    """The same where it may overwrite an input that nobody needs any more."""
    front_end: bool = False
    """Whether it belongs to the front end."""


@dataclass(frozen=True, repr=False)
class Memory:
    """Memory of one inference, in bytes."""

    peak_bytes: int
    """Most that is alive at once, every tensor in a place of its own."""
    at: str
    """Name of the operator during which that is so."""
    arena_bytes: int
    """What a planner needs that gives each tensor one fixed place, the largest first."""
    in_place: int
    """Most that is alive at once where element-wise operators overwrite their input."""
    flash_bytes: int
    """Bytes of the file: weights and graph."""
    rows: tuple[NodeMemory, ...]
    """One for each operator, in order of execution."""
    unknown: tuple[str, ...] = ()
    """Tensors whose size is not known: the rest is then a lower bound."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for `json.dumps`."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "unknown": list(self.unknown)}

    def to_markdown(self) -> str:
        """A table of the totals."""
        rows = [
            ("peak", self.peak_bytes),
            ("peak, in place", self.in_place),
            ("arena", self.arena_bytes),
            ("flash", self.flash_bytes),
        ]
        lines = ["| memory | bytes |", "| --- | ---: |", *(f"| {what} | {size:,} |" for what, size in rows)]
        return "\n".join(lines) + f"\n\nThe peak is at {self.at}.\n"

    def __repr__(self) -> str:
        missing = f", {len(self.unknown)} tensors unknown" if self.unknown else ""
        return f"Memory(peak {self.peak_bytes:,} B at {self.at}, arena {self.arena_bytes:,} B{missing})"


@dataclass(frozen=True)
class _Life:
    """The operators, by number, during which a tensor has to be there, and its size."""

    first: int
    last: int
    bytes: int


def peak_memory(graph: Graph, bytes_per_value: int | None = None, *, keep_inputs: bool = False) -> Memory:
    """Peak activation memory of a graph that runs in its own order.

    Pairs of QuantizeLinear and DequantizeLinear around an operator are taken for what a runtime makes of
    them: an operator on integers.

    Args:
        graph: of `onnx_graph` or `tflite_graph`.
        bytes_per_value: width of activations on the target, e.g. 4 for float32 or 1 for int8; the types in
            the file where it is None. Indices and masks keep their own.
        keep_inputs: whether the graph's inputs are kept to the end, as TFLite does, rather than given up
            after their last use, as TFLite Micro does.
    """
    graph = fused(graph)
    lives = _lives(graph, bytes_per_value, keep_inputs)
    live = _live_bytes(lives.values(), len(graph.ops))
    rows = tuple(_row(op, now, live[now], lives) for now, op in enumerate(graph.ops))
    top = max(rows, key=lambda row: row.live_bytes, default=NodeMemory("", "", 0, 0))
    return Memory(
        peak_bytes=top.live_bytes,
        at=top.name,
        arena_bytes=_arena(list(lives.values())),
        in_place=max((row.in_place_bytes for row in rows), default=0),
        flash_bytes=graph.flash_bytes,
        rows=rows,
        unknown=tuple(name for name in lives if not graph.tensors[name].known),
    )


def _lives(graph: Graph, width: int | None, keep_inputs: bool) -> dict[str, _Life]:
    """From the operator that writes a tensor to the last one that reads it; outputs stay to the end."""
    end = len(graph.ops) - 1
    first = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys(graph.inputs, end if keep_inputs else 0)
    for now, op in enumerate(graph.ops):
        for name in op.outputs:
            first.setdefault(name, now)
        last.update(
            dict.fromkeys((*op.outputs, *(name for name in op.inputs if last.get(name, 0) < now)), now)
        )
    last.update({name: end for name in graph.outputs if name in first})
    return {name: _Life(first[name], last[name], graph.tensors[name].bytes(width)) for name in first}


def _live_bytes(lives: Iterable[_Life], ops: int) -> list[int]:
    """Bytes of all that is alive, operator by operator."""
    change = [0] * (ops + 2)
    for life in lives:
        change[life.first] += life.bytes
        change[life.last + 1] -= life.bytes
    return list(itertools.accumulate(change))


def _row(op: Op, now: int, live: int, lives: dict[str, _Life]) -> NodeMemory:
    saved = 0
    if op.kind in OVERWRITES and op.outputs:
        size = lives[op.outputs[0]].bytes
        spent = [lives[name].bytes for name in op.inputs if lives[name].last == now]
        saved = size if max(spent, default=0) >= size else 0
    return NodeMemory(op.name, op.kind, live, live - saved, op.front_end)


def _arena(lives: list[_Life]) -> int:
    """Size of the area where each tensor, from the largest on, lies in the first gap that is free.

    Of equal ones the last comes first, as in TFLite Micro.

    Source: greedy by size for offsets, Pisarchyk & Lee, 2020.
    """
    placed: list[tuple[int, int, _Life]] = []  # offset, end, life, in order of the offset
    rounded = [(-(-life.bytes // ALIGNMENT) * ALIGNMENT, life) for life in lives]
    for size, life in sorted(rounded, key=lambda item: (-item[0], -item[1].first)):
        offset = 0
        for start, end, other in placed:
            if other.last < life.first or life.last < other.first:
                continue
            if offset + size <= start:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, life))
        placed.sort(key=lambda place: place[0])
    return max((end for _, end, _ in placed), default=0)

"""How much working memory one inference needs: the tensors that are alive while each operator runs.

Weights stay in flash and cost no working memory. Scratch memory inside an operator (an unrolled
convolution, say) depends on the runtime's kernels and is not in these numbers.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgeaudio.complexity.graph import Graph, Op, words
from edgeaudio.complexity.onnx_macs import ELEMENTWISE, VIEWS
from edgeaudio.complexity.qdq import fused

# Operators that ONNX Runtime spells as several; the last one reads the input again and overwrites nothing
SPELLED = words("HardSwish Mish")
OVERWRITES = ((ELEMENTWISE | VIEWS) - SPELLED) | words(
    # of TFLite
    "ABS ADD CEIL DIV ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MINIMUM MUL NEG POW "
    "PRELU RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE ROUND RSQRT SIN SQRT SQUARE SQUARED_DIFFERENCE "
    "SQUEEZE SUB TANH EXPAND_DIMS"
)
# What the planners of TFLite's runtimes give one place: views and what they show, for TFLite also results and
# what they overwrite
SAME_BYTES = words("BITCAST EXPAND_DIMS RESHAPE SQUEEZE")
SAME_PLACE = words("ADD DIV DYNAMIC_UPDATE_SLICE MUL SOFTMAX SUB")
SINGLE_BYTES = 4  # of a tensor that is too small to be overwritten


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
    """What a planner needs that gives each tensor one fixed place, the largest first; views share theirs."""
    in_place: int
    """Most that is alive at once where element-wise operators overwrite their input."""
    flash_bytes: int
    """Bytes of the file: weights and graph."""
    onnx_runtime: int
    """Most that ONNX Runtime holds at once where it knows all shapes: it overwrites as above, and keeps what
    it needs no more for a later tensor of the same shape and type; the graph's inputs stay to the end."""
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


@dataclass(frozen=True)
class _Planner:
    """How a runtime lays tensors into its arena."""

    alignment: int
    """Bytes; sizes are rounded up to a multiple."""
    overwrites: bool
    """Whether results take the place of an input that nobody else reads, and the graph's inputs are kept."""
    tightest: bool
    """Whether a tensor goes into the smallest gap that holds it, rather than the first."""
    last_first: bool
    """Of equal sizes, whether the tensor that is written last is placed first."""


MICRO = _Planner(alignment=16, overwrites=False, tightest=False, last_first=True)
TFLITE = _Planner(alignment=64, overwrites=True, tightest=True, last_first=False)


def peak_memory(graph: Graph, bytes_per_value: int | None = None, *, keep_inputs: bool = False) -> Memory:
    """Peak activation memory of a graph that runs in its own order.

    Pairs of QuantizeLinear and DequantizeLinear around an operator are taken for what a runtime makes of
    them: an operator on integers.

    Args:
        graph: of `onnx_graph` or `tflite_graph`.
        bytes_per_value: width of activations on the target, e.g. 4 for float32 or 1 for int8; the types in
            the file where it is None. Indices and masks keep their own.
        keep_inputs: whether the graph's inputs are kept to the end and the arena is laid out as TFLite does,
            rather than inputs given up after their last use and the arena as TFLite Micro does.
    """
    graph = fused(graph)
    planner = TFLITE if keep_inputs else MICRO
    lives = _lives(graph, bytes_per_value, keep_inputs)
    live = _live_bytes(lives.values(), len(graph.ops))
    rows = tuple(_row(op, now, live[now], lives) for now, op in enumerate(graph.ops))
    top = max(rows, key=lambda row: row.live_bytes, default=NodeMemory("", "", 0, 0))
    return Memory(
        peak_bytes=top.live_bytes,
        at=top.name,
        arena_bytes=_arena(_places(graph, lives, planner), len(graph.ops) - 1, planner),
        in_place=max((row.in_place_bytes for row in rows), default=0),
        flash_bytes=graph.flash_bytes,
        onnx_runtime=_held(graph, bytes_per_value),
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


def _held(graph: Graph, width: int | None) -> int:
    """Most bytes in buffers, each there from its first tensor to the last one that was put into it."""
    lives = _lives(graph, width, keep_inputs=True)
    buffers: dict[str, _Life] = {}  # by their first tensor
    inside: dict[str, str] = {}  # tensor → the buffer it is in
    free: list[str] = []  # buffers that nobody needs, the latest first
    for now, op in enumerate(graph.ops):
        for name in op.outputs:
            life = lives[name]
            spent = (
                [n for n in op.inputs if n in inside and lives[n].last == now]
                if op.kind in OVERWRITES
                else []
            )
            fitting = (inside[n] for n in spent if lives[n].bytes == life.bytes)
            alike = (buffer for buffer in free if graph.tensors[buffer] == graph.tensors[name])
            # what leaves the graph belongs to the user
            home = name if name in graph.outputs else next(itertools.chain(fitting, alike), name)
            free = [buffer for buffer in free if buffer != home]
            inside[name] = home
            buffers[home] = replace(buffers.get(home, life), last=life.last)
        ended = dict.fromkeys(inside[n] for n in (*op.inputs, *op.outputs) if n in inside)
        free = [buffer for buffer in ended if buffers[buffer].last == now and buffer not in free] + free
    live = _live_bytes(buffers.values(), len(graph.ops))
    spelled = [lives[op.outputs[0]].bytes if op.kind in SPELLED else 0 for op in graph.ops]
    inputs = sum(lives[name].bytes for name in graph.inputs)
    return inputs + max((a + b for a, b in zip(live, spelled, strict=False)), default=0)


def _places(graph: Graph, lives: dict[str, _Life], planner: _Planner) -> list[_Life]:
    """One life for each place: those that share it are there from the first one's write to the last read."""
    reads = Counter([*graph.outputs, *(name for op in graph.ops for name in op.inputs)])
    fixed = {*graph.inputs, *graph.outputs}
    places = {name: name for name in lives}  # tensor → the first one in the same place
    for op in graph.ops:
        if op.kind in SAME_BYTES:
            shared = [
                n for n in op.inputs[:1] if not planner.overwrites or fixed.isdisjoint((n, *op.outputs))
            ]
        elif op.kind in SAME_PLACE and planner.overwrites and fixed.isdisjoint(op.outputs[:1]):
            spent = (n for n in op.inputs if n not in graph.inputs and reads[n] == reads[places[n]] == 1)
            shared = [n for n in spent if lives[n].bytes > SINGLE_BYTES]
        else:
            continue
        size = lives[op.outputs[0]].bytes
        first = next((name for name in shared if lives[name].bytes == size), None)
        if first is not None:
            places[op.outputs[0]] = places[first]
    together: dict[str, _Life] = {}
    for name, life in lives.items():
        place = together.setdefault(places[name], life)
        together[places[name]] = replace(
            place, first=min(place.first, life.first), last=max(place.last, life.last)
        )
    return list(together.values())


def _arena(lives: list[_Life], end: int, planner: _Planner) -> int:
    """Size of the area where each tensor, from the largest on, lies in a gap that is free.

    For TFLite those that stay from the first operator to the `end` come before all others.

    Source: greedy by size for offsets, Pisarchyk & Lee, 2020.
    """

    def order(item: tuple[int, _Life]) -> tuple[bool, int, int]:
        size, life = item
        stays = planner.overwrites and life.first == 0 and life.last == end
        return not stays, -size, -life.first if planner.last_first else life.first

    placed: list[tuple[int, int, _Life]] = []  # offset, end, life, in order of the offset
    rounded = [(-(-life.bytes // planner.alignment) * planner.alignment, life) for life in lives]
    for size, life in sorted(rounded, key=order):
        gaps, free = [], 0  # width and offset of each gap between those that are there at the same time
        for low, high, other in placed:
            if other.first <= life.last and life.first <= other.last:
                gaps.append((low - free, free))
                free = max(free, high)
        fitting = [gap for gap in gaps if gap[0] >= size]
        if fitting:
            _, free = min(fitting) if planner.tightest else fitting[0]
        placed.append((free, free + size, life))
        placed.sort(key=lambda place: place[0])
    return max((high for _, high, _ in placed), default=0)

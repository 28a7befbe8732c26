"""Quantised ONNX graphs as runtimes see them: DequantizeLinear → operator → QuantizeLinear is one operator.

The file spells an integer operator as a float one between conversions; the floats are never in memory.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from edgeaudio.complexity.graph import Graph, Op

TO_FLOAT, TO_INTEGER = "DequantizeLinear", "QuantizeLinear"
CLAMPS = ("Relu", "Clip")  # activations that are a limit of the integers that are written


def fused(graph: Graph) -> Graph:
    """The graph with its integer operators put together; one without any comes back as it is."""
    if not any(op.kind == TO_FLOAT for op in graph.ops):
        return graph
    graph = replace(graph, ops=_with_clamps(graph))
    makers, readers = _makers(graph.ops), _readers(graph)
    renamed = {name: op.inputs[0] for op in graph.ops if op.kind == TO_FLOAT for name in op.outputs}
    integer = {op for op in graph.ops if _is_integer(op, makers, readers)}
    results = {op: readers[op.outputs[0]][0].outputs for op in integer}
    conversions = set(results.values())  # what the operators before them write now
    ops: list[Op] = []
    for op in graph.ops:
        if op in integer:
            read = tuple(renamed.get(name, name) for name in op.inputs)
            ops.append(replace(op, inputs=read, outputs=results[op]))
        elif op.kind == TO_FLOAT and integer.issuperset(readers[op.outputs[0]]):
            continue
        elif op.outputs not in conversions:
            ops.append(op)
    return replace(graph, ops=tuple(ops))


def _with_clamps(graph: Graph) -> tuple[Op, ...]:
    """Operators with the clamp behind them taken in, where that is what is quantised."""
    readers = _readers(graph)
    ops: list[Op] = []
    taken: set[Op] = set()
    for op in graph.ops:
        if op in taken:
            continue
        after = readers[op.outputs[0]] if len(op.outputs) == 1 else []
        if len(after) == 1 and after[0].kind in CLAMPS and _is_quantised(after[0], readers):
            taken.add(after[0])
            op = replace(op, outputs=after[0].outputs)
        ops.append(op)
    return tuple(ops)


def _is_integer(op: Op, makers: dict[str, Op], readers: dict[str, list[Op]]) -> bool:
    """Everything it reads was dequantised, and what it writes is quantised and nothing else."""
    if op.kind in (TO_FLOAT, TO_INTEGER) or len(op.outputs) != 1 or not op.inputs:
        return False
    dequantised = all(name in makers and makers[name].kind == TO_FLOAT for name in op.inputs)
    return dequantised and _is_quantised(op, readers)


def _is_quantised(op: Op, readers: dict[str, list[Op]]) -> bool:
    return [reader.kind for reader in readers[op.outputs[0]]] == [TO_INTEGER]


def _makers(ops: tuple[Op, ...]) -> dict[str, Op]:
    return {name: op for op in ops for name in op.outputs}


def _readers(graph: Graph) -> dict[str, list[Op]]:
    """Operators that read a tensor; the graph's own outputs are read by its user."""
    readers: dict[str, list[Op]] = defaultdict(list)
    for op in graph.ops:
        for name in dict.fromkeys(op.inputs):
            readers[name].append(op)
    for name in graph.outputs:
        readers[name].append(Op("", "output", (name,), ()))
    return readers

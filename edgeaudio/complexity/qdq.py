"""Quantised ONNX graphs as ONNX Runtime runs them: what works on integers, and where floats are real.

The file spells an integer operator as a float one between conversions. The runtime puts DequantizeLinear →
operator → QuantizeLinear together where it has a kernel for that operator on integers; the floats are then
never in memory. Every other operator runs in float: what it reads is converted anew for each of its readers,
and what it writes stays in float until it has been quantised.

Source: graphs as ONNX Runtime 1.31 optimises them (level EXTENDED, CPU), one operator at a time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from edgeaudio.complexity.graph import Graph, Op, words

TO_FLOAT, TO_INTEGER = "DequantizeLinear", "QuantizeLinear"
USER = "output"  # kind of what stands for the user among the readers of a tensor
CLAMPS = words("Clip Relu")  # activations that are a limit of the integers that are written
INTEGER_KERNELS = CLAMPS | words(
    "Add AveragePool Concat Conv DepthToSpace Expand Flatten Gather Gemm GlobalAveragePool Identity "
    "LeakyRelu MatMul MaxPool Mul ReduceMax ReduceMin Reshape Resize Sigmoid Slice Softmax Squeeze Tile "
    "Transpose Unsqueeze"
)
PRODUCTS = words("Gemm MatMul")  # they may read integers and write floats


def fused(graph: Graph) -> Graph:
    """The graph with its integer operators put together; one without any comes back as it is.

    A constant that such an operator reads is taken for a quantised one: a graph doesn't tell.
    """
    if not any(op.kind == TO_FLOAT for op in graph.ops):
        return graph
    return _with_floats_for_each_reader(_with_integer_operators(_with_clamps(graph)))


def _with_clamps(graph: Graph) -> Graph:
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
    return replace(graph, ops=tuple(ops))


def _with_integer_operators(graph: Graph) -> Graph:
    """Conversions around operators with an integer kernel gone, where nobody else reads what they write."""
    makers, readers = _makers(graph.ops), _readers(graph)
    integers = {name: op.inputs[0] for op in graph.ops if op.kind == TO_FLOAT for name in op.outputs}
    integer = {op for op in graph.ops if _is_integer(op, makers, readers)}
    results = {op: readers[op.outputs[0]][0].outputs for op in integer}
    products = {op for op in graph.ops if op.kind in PRODUCTS and _reads_integers(op, makers)} - integer
    conversions = set(results.values())  # what the operators before them write now
    ops: list[Op] = []
    for op in graph.ops:
        if op in integer:
            read = tuple(integers.get(name, name) for name in op.inputs)
            ops.append(replace(op, inputs=read, outputs=results[op]))
        elif op in products:
            ops.append(replace(op, inputs=tuple(integers.get(name, name) for name in op.inputs)))
        elif op.kind == TO_FLOAT and (integer | products).issuperset(readers[op.outputs[0]]):
            continue
        elif op.outputs not in conversions:
            ops.append(op)
    return replace(graph, ops=tuple(ops))


def _with_floats_for_each_reader(graph: Graph) -> Graph:
    """Each operator that runs in float gets a conversion of its own, all of them where the first one is."""
    readers = _readers(graph)
    tensors = dict(graph.tensors)
    own: dict[tuple[str, Op], str] = {}  # tensor and its reader → the copy that is for this reader
    ops: list[Op] = []
    for op in graph.ops:
        ops.append(replace(op, inputs=tuple(own.get((name, op), name) for name in op.inputs)))
        if op.kind != TO_FLOAT:
            continue
        name = op.outputs[0]
        for number, reader in enumerate(readers[name][1:], 2):
            if reader.kind != USER:  # the graph's output keeps its name
                own[name, reader] = copy = f"{name}/{number}"
                tensors[copy] = graph.tensors[name]
                ops.append(replace(op, name=f"{op.name}/{number}", outputs=(copy,)))
    return replace(graph, ops=tuple(ops), tensors=tensors)


def _is_integer(op: Op, makers: dict[str, Op], readers: dict[str, list[Op]]) -> bool:
    """Everything it reads was dequantised, and what it writes is quantised and nothing else."""
    if op.kind not in INTEGER_KERNELS or len(op.outputs) != 1 or not op.inputs:
        return False
    return _reads_integers(op, makers) and _is_quantised(op, readers)


def _reads_integers(op: Op, makers: dict[str, Op]) -> bool:
    return all(name in makers and makers[name].kind == TO_FLOAT for name in op.inputs)


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
        readers[name].append(Op("", USER, (name,), ()))
    return readers

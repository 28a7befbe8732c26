"""Peak memory against a simulation, a brute-force search, and what three runtimes say they use."""

from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from make_bundle import OPTIONS, SPEC
from make_tflite import TFLiteFile, baseline, conv, residual

from edgeaudio.complexity.graph import Graph, Op, Tensor
from edgeaudio.complexity.memory import peak_memory
from edgeaudio.complexity.onnx_graph import onnx_graph
from edgeaudio.complexity.tflite_graph import tflite_graph
from edgeaudio.export import onnx as graphs
from edgeaudio.models import build
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_target

SHAPE = (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))
NETWORKS: list[tuple[str, dict[str, Any], tuple[int, int, int, int]]] = [
    ("cp_mobile", {}, (1, 1, 256, 64)),
    ("cp_resnet", {"base_channels": 8, "cut_channels_s3": 0}, (1, 1, 64, 44)),
    ("bc_resnet", {}, (1, 1, 40, 101)),
    ("mobilenet", {}, (1, 1, 64, 100)),
]


def make_graph(*ops: tuple[str, str, str], inputs: str = "x", **sizes: int) -> Graph:
    """Operators as (kind, read, written) with one letter a tensor; sizes in floats."""
    made = [Op(f"{kind}{i}", kind, tuple(r), tuple(w)) for i, (kind, r, w) in enumerate(ops)]
    tensors = {name: Tensor((size,), "float32") for name, size in sizes.items()}
    return Graph(tuple(made), tensors, tuple(inputs), (ops[-1][2],), 1000)


CHAIN = make_graph(("Conv", "x", "a"), ("Relu", "a", "b"), ("Conv", "b", "y"), x=10, a=100, b=100, y=5)


def test_a_chain_by_hand() -> None:
    memory = peak_memory(CHAIN)
    assert [row.live_bytes for row in memory.rows] == [440, 800, 420]
    assert (memory.peak_bytes, memory.at, memory.in_place) == (800, "Relu1", 440)
    assert (memory.flash_bytes, memory.unknown) == (1000, ())
    assert memory.arena_bytes == 800  # a and b; x and y lie in what the other one has left


def test_another_width_on_the_target() -> None:
    assert peak_memory(CHAIN, 1).peak_bytes == 200
    assert peak_memory(CHAIN, 2).peak_bytes == 400
    positions = replace(CHAIN, tensors={**CHAIN.tensors, "b": Tensor((100,), "int64")})
    assert peak_memory(positions, 1).peak_bytes == 100 + 800


def test_inputs_that_are_kept() -> None:
    kept = peak_memory(CHAIN, keep_inputs=True)
    assert [row.live_bytes for row in kept.rows] == [440, 840, 460]


def test_a_shortcut_stays_until_it_is_added() -> None:
    ops = [("Conv", "x", "a"), ("Conv", "a", "b"), ("Conv", "b", "c"), ("Add", "ca", "y")]
    graph = make_graph(*ops, x=1, a=50, b=80, c=50, y=50)
    memory = peak_memory(graph)
    assert [row.live_bytes for row in memory.rows] == [4 * 51, 4 * 130, 4 * 180, 4 * 150]
    assert [row.in_place_bytes for row in memory.rows] == [4 * 51, 4 * 130, 4 * 180, 4 * 100]


def test_unknown_sizes_are_named() -> None:
    graph = replace(CHAIN, tensors={**CHAIN.tensors, "a": Tensor(None, "float32")})
    assert peak_memory(graph).unknown == ("a",)


def random_graph(seed: int, ops: int) -> Graph:
    draw = random.Random(seed)
    sizes, made = {"x": draw.randint(1, 99)}, []
    for i in range(ops):
        names = list(sizes)
        read = draw.sample(names, min(len(names), draw.choice([1, 1, 2, 3])))
        sizes[f"t{i}"] = draw.randint(1, 99)
        made.append(Op(f"o{i}", draw.choice(["Conv", "Add"]), tuple(read), (f"t{i}",)))
    read_by_none = set(sizes) - {name for op in made for name in op.inputs}
    tensors = {name: Tensor((4 * size,), "float32") for name, size in sizes.items()}
    return Graph(tuple(made), tensors, ("x",), tuple(sorted(read_by_none)), 0)


def simulated(graph: Graph) -> int:
    """Runs the graph with a set of what is in memory, dropping what nobody will ask for again."""
    memory, peak = set(graph.inputs), 0
    for now, op in enumerate(graph.ops):
        memory |= set(op.outputs)
        peak = max(peak, sum(graph.tensors[name].bytes() for name in memory))
        wanted = {name for later in graph.ops[now + 1 :] for name in later.inputs}
        memory &= wanted | set(graph.outputs)
    return peak


@pytest.mark.parametrize("seed", range(20))
def test_peak_equals_a_simulation(seed: int) -> None:
    graph = random_graph(seed, 25)
    memory = peak_memory(graph)
    assert memory.peak_bytes == simulated(graph)
    assert memory.in_place <= memory.peak_bytes <= memory.arena_bytes


def best_arena(graph: Graph) -> int:
    """The best of all orders of placing tensors, each at the lowest free offset."""
    lives = dict.fromkeys(graph.inputs, (0, 0))
    for now, op in enumerate(graph.ops):
        lives.update({name: (lives[name][0], now) for name in op.inputs})
        lives.update(dict.fromkeys(op.outputs, (now, now)))
    lives.update({name: (lives[name][0], len(graph.ops)) for name in graph.outputs})
    best = sum(tensor.bytes() for tensor in graph.tensors.values())
    for order in itertools.permutations(lives):
        cells: dict[str, tuple[int, int]] = {}
        for name in order:
            size = graph.tensors[name].bytes()
            busy = [
                cells[other]
                for other in cells
                if lives[other][0] <= lives[name][1] and lives[name][0] <= lives[other][1]
            ]
            starts = [0, *(end for _, end in busy)]
            start = min(s for s in starts if all(s + size <= low or high <= s for low, high in busy))
            cells[name] = (start, start + size)
        best = min(best, max(end for _, end in cells.values()))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_arena_is_close_to_the_best_there_is(seed: int) -> None:
    graph = random_graph(seed, 5)
    arena = peak_memory(graph).arena_bytes
    assert best_arena(graph) <= arena <= 1.25 * best_arena(graph)


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return graphs.export_model(build("cp_mobile", 10, **OPTIONS).eval(), SHAPE)


def quantised(network: onnx.ModelProto, shape: tuple[int, ...], **changes: Any) -> onnx.ModelProto:
    noise = np.random.default_rng(0).standard_normal((4, *shape[1:])).astype(np.float32)
    return quantize(network, noise, replace(load_target("x86"), **changes)).model


def test_an_integer_operator_by_hand() -> None:
    graph = make_graph(
        ("QuantizeLinear", "x", "i"),
        ("DequantizeLinear", "i", "f"),
        ("Conv", "f", "c"),
        ("Relu", "c", "r"),
        ("QuantizeLinear", "r", "j"),
        ("DequantizeLinear", "j", "g"),
        ("Softmax", "g", "y"),
        x=10, i=10, f=10, c=60, r=60, j=60, g=60, y=60,
    )  # fmt: skip
    integers = {name: Tensor(graph.tensors[name].shape, "int8") for name in "ij"}
    memory = peak_memory(replace(graph, tensors={**graph.tensors, **integers}))
    rows = [(row.kind, row.live_bytes) for row in memory.rows]
    assert rows == [
        ("QuantizeLinear", 40 + 10),
        ("Conv", 10 + 60),  # with its clamp, from bytes to bytes
        ("DequantizeLinear", 60 + 240),
        ("Softmax", 240 + 240),
    ]


def quantised_by_hand(*ops: tuple[str, str, str]) -> Graph:
    """`x` of 10 floats, 10 bytes `i` of it, `f` and everything else of 10 floats, and `ops`; `j` is bytes."""
    sizes = dict.fromkeys("xif" + "".join(written for _, _, written in ops), 10)
    start = (("QuantizeLinear", "x", "i"), ("DequantizeLinear", "i", "f"))
    graph = make_graph(*start, *ops, inputs="x", **sizes)
    integers = {name: Tensor((10,), "int8") for name in "ij"}
    return replace(graph, tensors={**graph.tensors, **integers})


def test_an_operator_without_an_integer_kernel_runs_in_float() -> None:
    memory = peak_memory(
        quantised_by_hand(("Tanh", "f", "t"), ("QuantizeLinear", "t", "j"), ("Conv", "j", "y"))
    )
    rows = [(row.kind, row.live_bytes, row.in_place_bytes) for row in memory.rows]
    assert rows == [
        ("QuantizeLinear", 50, 50),
        ("DequantizeLinear", 50, 50),
        ("Tanh", 80, 40),
        ("QuantizeLinear", 50, 50),
        ("Conv", 50, 50),
    ]


def test_floats_are_made_for_each_reader() -> None:
    memory = peak_memory(quantised_by_hand(("ReduceL2", "f", "r"), ("Div", "fr", "y")))
    rows = [(row.kind, row.live_bytes) for row in memory.rows]
    assert rows == [
        ("QuantizeLinear", 50),
        ("DequantizeLinear", 50),
        ("DequantizeLinear", 90),
        ("ReduceL2", 120),
        ("Div", 120),
    ]


def test_onnx_runtime_keeps_a_buffer_for_a_like_tensor() -> None:
    ops = (("Conv", "x", "a"), ("Conv", "a", "b"), ("Conv", "b", "c"), ("Conv", "c", "d"), ("Conv", "d", "y"))
    kept = peak_memory(make_graph(*ops, x=1, a=50, b=1, c=80, d=50, y=1))
    assert kept.in_place == 4 * (80 + 50)
    assert kept.onnx_runtime == 4 * (1 + 50 + 1 + 80)  # a's place waits for d
    unlike = peak_memory(make_graph(*ops, x=1, a=50, b=1, c=80, d=2, y=1))
    assert unlike.onnx_runtime == 4 * (1 + 80 + 2)
    between = peak_memory(make_graph(*ops, x=1, a=50, b=80, c=80, d=50, y=1))
    assert between.in_place == 4 * (80 + 80)
    assert between.onnx_runtime == 4 * (1 + 50 + 80 + 80)  # a's place waits for d


def test_hard_swish_is_two_operators_for_onnx_runtime() -> None:
    ops = (("Conv", "x", "a"), ("HardSwish", "a", "b"), ("Conv", "b", "y"))
    memory = peak_memory(make_graph(*ops, x=1, a=50, b=50, y=1))
    assert memory.onnx_runtime == 4 * (1 + 3 * 50)


def test_integer_operators_hold_no_floats(network: onnx.ModelProto) -> None:
    integer = peak_memory(onnx_graph(quantised(network, SHAPE)))
    narrow = {row.name: row.live_bytes for row in peak_memory(onnx_graph(network), 1).rows}
    convolutions = [row for row in integer.rows if row.kind == "Conv"][1:]  # the first stays in float
    assert len(convolutions) > 10
    # the quantiser may have put an operator elsewhere, never to the worse
    assert all(row.live_bytes <= narrow[row.name] for row in convolutions)
    assert not any(row.kind == "Relu" for row in integer.rows[3:])


def test_the_part_behind_the_front_end(network: onnx.ModelProto) -> None:
    joined = onnx_graph(graphs.join(graphs.export_front_end(SPEC, SPEC.sample_rate), network, {}))
    alone = joined.without_front_end()
    assert alone.inputs == (graphs.LOG_MEL,)
    assert peak_memory(alone).peak_bytes == peak_memory(onnx_graph(network)).peak_bytes
    assert {row.front_end for row in peak_memory(joined).rows} == {True, False}


def test_answers_as_json_and_table() -> None:
    memory = peak_memory(CHAIN)
    assert json.loads(json.dumps(memory.to_json()))["rows"][1]["live_bytes"] == 800
    assert "| arena | 800 |" in memory.to_markdown()
    assert "peak 800 B at Relu1" in repr(memory)


def onnx_runtime_bytes(
    graph: onnx.ModelProto, shape: tuple[int, ...], folder: Path, level: str, fixed_batch: bool = False
) -> int:
    """The input, and the most that was handed out after any node: without what kernels give back."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    options.enable_mem_pattern = False  # otherwise one block for the whole run is all that is seen
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if fixed_batch:  # of shapes that it doesn't know it never says that two are equal
        options.add_free_dimension_override_by_name(
            graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param, 1
        )
    options.add_session_config_entry("session.disable_prepacking", "1")  # weights, not activations
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    session.run(None, {graphs.LOG_MEL: np.zeros(shape, np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event["args"] for event in events if event["name"].endswith("kernel_time")]
    if "mem_bytes_requested_in_use" not in nodes[0]:
        pytest.skip("this onnxruntime's profile says nothing about memory")
    return max(int(node["mem_bytes_requested_in_use"]) for node in nodes) + int(np.prod(shape)) * 4


@pytest.mark.parametrize(("name", "options", "shape"), NETWORKS)
def test_onnx_runtime_uses_what_is_said(
    name: str, options: dict[str, Any], shape: tuple[int, int, int, int], tmp_path: Path
) -> None:
    graph = graphs.export_model(build(name, 10, **options).eval(), shape)
    used = onnx_runtime_bytes(graph, shape, tmp_path, "ORT_DISABLE_ALL")
    assert peak_memory(onnx_graph(graph), keep_inputs=True).in_place == pytest.approx(used, rel=0.1)


# BC-ResNet is missing: ONNX Runtime holds 48 % more for it than is said (40 mels, 101 frames). It quantises
# before the reshapes around the norms rather than behind them, and so keeps other buffers. So is MobileAST,
# for which it holds a fifth less: it takes the scale of the attention into the product before it.
INTEGERS = [
    NETWORKS[1],
    NETWORKS[3],  # hard swish, which is two operators
    ("cp_mobile", {"base_channels": 16, "grn": False}, (1, 1, 256, 64)),
    (
        "cp_mobile",
        {"base_channels": 16, "grn": True},
        (1, 1, 256, 64),
    ),  # a map in float, once for each reader
]


@pytest.mark.parametrize(("name", "options", "shape"), INTEGERS)
def test_onnx_runtime_uses_what_is_said_in_integers(
    name: str, options: dict[str, Any], shape: tuple[int, int, int, int], tmp_path: Path
) -> None:
    network = graphs.export_model(build(name, 10, **options).eval(), shape)
    graph = quantised(network, shape, float_input_layer=False)  # or its floats would be the peak
    used = onnx_runtime_bytes(graph, shape, tmp_path, "ORT_ENABLE_EXTENDED", fixed_batch=True)
    assert peak_memory(onnx_graph(graph)).onnx_runtime == pytest.approx(used, rel=0.1)


def branches(seed: int) -> bytes:
    """Convolutions that read any of the last maps, and sums of equal ones, all of which are used."""
    draw = random.Random(seed)
    high, wide = draw.randint(4, 20), draw.randint(4, 20)
    f = TFLiteFile()
    x = f.activation(1, high, wide, 3)
    unread = [(conv(f, x, (high, wide, 8), 3, 3), 8)]
    for _ in range(draw.randint(4, 8)):
        source, channels = unread.pop(0)
        for _ in range(draw.choice([1, 2])):
            out = draw.choice([4, 12, 20, 33])
            unread.append((conv(f, source, (high, wide, out), channels, draw.choice([1, 3])), out))
    maps = [conv(f, source, (high, wide, 6), channels, 1) for source, channels in unread]
    y = maps[0]
    for other in maps[1:]:
        y = f.op("ADD", [y, other], [f.activation(1, high, wide, 6)])
    return f.build([x], [y])


FILES = {
    "baseline": baseline(),
    "baseline-float": baseline("float32"),
    "residual": residual(),
    **{f"branches-{seed}": branches(seed) for seed in range(6)},
}


def tflite_arena(path: Path) -> int:
    """From the first to the last byte of all tensors that are computed, in bytes."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    # reference kernels: the optimised ones unroll convolutions into scratch memory of the same arena
    kernels = litert.OpResolverType.BUILTIN_REF
    interpreter = litert.Interpreter(str(path), experimental_op_resolver_type=kernels, num_threads=1)
    interpreter.allocate_tensors()
    names = {name for op in tflite_graph(path).ops for name in (*op.inputs, *op.outputs)}
    views = [interpreter.tensor(int(label.split(":")[0]))() for label in names]
    start = min(view.ctypes.data for view in views)
    return int(max(view.ctypes.data + view.nbytes for view in views) - start)


@pytest.mark.parametrize("name", FILES)
def test_tflite_uses_what_is_said(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(FILES[name])
    memory = peak_memory(tflite_graph(path), keep_inputs=True)
    assert memory.arena_bytes == pytest.approx(tflite_arena(path), rel=0.1)


@pytest.mark.parametrize("name", FILES)
def test_tflite_micro_uses_what_is_said(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    micro = pytest.importorskip("tflite_micro", reason="needs tflite-micro")
    path = tmp_path / "model.tflite"
    path.write_bytes(FILES[name])
    interpreter = micro.runtime.Interpreter.from_bytes(FILES[name], arena_size=10_000_000)
    interpreter.print_allocations()
    used = re.search(r"Arena allocation head (\d+) bytes", "".join(capfd.readouterr()))
    assert used is not None
    assert peak_memory(tflite_graph(path)).arena_bytes == pytest.approx(int(used[1]), rel=0.01)

"""ONNX files as they come: open axes, large ones, optimised ones, weights beside them, damaged ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from test_count_onnx import dense, graph_of, trained

from edgeaudio.complexity.memory import peak_memory
from edgeaudio.complexity.onnx_graph import count_onnx, onnx_graph
from edgeaudio.errors import CheckpointError, RecipeError
from edgeaudio.export import onnx as graphs
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_target


def test_open_axes() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    weights = {"w": np.ones((2, 1, 3, 3), np.float32)}
    graph = graph_of([conv], {"x": ["batch", 1, "mels", 10]}, weights)
    with pytest.raises(RecipeError, match=r"'x' has the open shape batch × 1 × mels × 10; .*--input"):
        count_onnx(graph)
    assert count_onnx(graph, (1, 1, 20, 10)).macs == 2 * 18 * 8 * 9
    assert count_onnx(graph, (3, 1, 20, 10)).macs == 3 * 2 * 18 * 8 * 9
    for shape in ((1, 1, 20, 11), (1, 1, 20), (1, 1, 0, 10)):
        with pytest.raises(RecipeError, match="does not fit"):
            count_onnx(graph, shape)
    assert graph.graph.input[0].type.tensor_type.shape.dim[2].dim_param == "mels"  # left as it was


def test_a_lone_open_axis_is_no_batch() -> None:
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["samples"]}, {"w": dense()})
    with pytest.raises(RecipeError, match="--input"):
        count_onnx(graph)
    assert count_onnx(graph, (4,)).macs == 12


def test_a_large_file_takes_less_than_two_seconds(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = np.zeros((5000, 5000), np.float32)
    path = tmp_path / "large.onnx"
    path.write_bytes(graph_of([node], {"x": ["batch", 5000]}, {"w": weight}).SerializeToString())
    assert path.stat().st_size > 100e6 * 0.99
    start = time.perf_counter()
    counted = count_onnx(path)
    assert time.perf_counter() - start < 2
    assert counted.macs == counted.params == 25_000_000


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = graph_of([node], {"x": [1, 400]}, {"w": dense(400, 300)})
    path = tmp_path / "model.onnx"
    onnx.save(graph, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert count_onnx(path).stored_bytes == 480_000
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"weights\.bin, which is shorter"):
        count_onnx(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"weights\.bin, which is missing"):
        count_onnx(path)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "damage", [cut, lambda data: data[:-1], lambda data: b"", lambda data: b"hello, this is text"]
)
def test_what_is_no_model_is_one_sentence(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    graph = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 4]}, {"w": dense()})
    path = tmp_path / "model.onnx"
    path.write_bytes(damage(graph.SerializeToString()))
    with pytest.raises(CheckpointError, match=r"model\.onnx") as error:
        count_onnx(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="check the path"):
        count_onnx(tmp_path / "no.onnx")
    with pytest.raises(CheckpointError, match="is a folder"):
        count_onnx(tmp_path)


@pytest.mark.parametrize("integer", [False, True])
def test_a_graph_that_onnx_runtime_has_fused_costs_the_same(tmp_path: Path, integer: bool) -> None:
    shape = (1, 1, 256, 32)
    graph = graphs.export_model(trained("mobileast"), shape)
    if integer:
        noise = np.random.default_rng(0).standard_normal((4, *shape[1:])).astype(np.float32)
        graph = quantize(graph, noise, load_target("x86")).model
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    before, after = count_onnx(graph), count_onnx(tmp_path / "fused.onnx")
    assert (after.macs, after.integer_macs, after.params) == (before.macs, before.integer_macs, before.params)
    assert after.uncounted == ()
    assert any(row.kind.startswith("com.microsoft.") for row in after.layers)


def test_random_damage_never_ends_in_a_traceback(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    good = graph_of(nodes, {"x": ["batch", 4]}, {"w": dense()}).SerializeToString()
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = np.frombuffer(good, np.uint8).copy()
        data[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(data.tobytes())
        try:
            count_onnx(path)
            peak_memory(onnx_graph(path))
        except (CheckpointError, RecipeError):
            refused += 1
    assert 0 < refused < 300


def test_nodes_out_of_order_are_one_sentence() -> None:
    nodes = [helper.make_node("Relu", ["h"], ["y"], name="late"), helper.make_node("Abs", ["x"], ["h"])]
    with pytest.raises(CheckpointError, match="'late' reads or writes out of order"):
        count_onnx(graph_of(nodes, {"x": [1, 4]}))

"""Float ONNX classifiers made elsewhere: quantised from the command line, refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from conftest import here as edgeaudio
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeaudio.data.synth import render
from edgeaudio.quantization.foreign import prepared

SHAPE = (1, 24, 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with batch norms that nobody folded, as an older exporter leaves it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    net.train()
    for _ in range(20):
        net(torch.randn(16, *SHAPE))
    path = tmp_path_factory.mktemp("foreign") / "classifier.onnx"
    torch.onnx.export(
        net.eval(), (torch.zeros(2, *SHAPE),), path, dynamo=True, external_data=False, optimize=False,
        input_names=["features"], output_names=["class_logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "BatchNormalization" in kinds, "or there is nothing to fold"
    return path


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs as files: some hold one, some several."""
    folder = tmp_path_factory.mktemp("arrays")
    rng = np.random.default_rng(0)
    for i in range(10):
        np.save(folder / f"one-{i}.npy", rng.normal(size=SHAPE).astype(np.float32))
    np.save(folder / "many.npy", rng.normal(size=(14, *SHAPE)))
    return folder


def test_a_file_from_elsewhere(model: Path, arrays: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    arguments = ("quantize", model, "--calibration-data", arrays, "-o", out, "--json")
    told = json.loads(edgeaudio(*arguments).stdout)
    assert told["held_out"] == 6
    assert told["snr_db"] > 20
    assert told["same_answer"] > 0.8
    assert told["bytes"]["int8"] == out.stat().st_size
    integer = onnx.load(out)
    onnx.checker.check_model(integer, full_check=True)
    assert [value.name for value in integer.graph.input] == ["features"]
    assert [value.name for value in integer.graph.output] == ["class_logits"]
    weights = [t for t in integer.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    assert len(weights) == 4
    assert told["runs_as"]["integer_convolutions"] == 3
    assert told["runs_as"]["float_convolutions"] == []
    x = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"features": x})[0]
        for path in (model, out)
    ]
    assert np.abs(answers[0] - answers[1]).max() < 0.1 * np.abs(answers[0]).max()
    assert np.abs(answers[0] - answers[1]).max() > 0


def test_folding_changes_no_answer(model: Path) -> None:
    folded = prepared(model)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    x = np.random.default_rng(2).normal(size=(2, *SHAPE)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {"features": x})[0]
        for m in (model.read_bytes(), folded.SerializeToString())
    ]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_a_network_that_hears_waveforms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 4000)), nn.Conv1d(1, 8, 80, 20), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    path = tmp_path / "raw.onnx"
    torch.onnx.export(
        net.eval(), (torch.zeros(1, 4000),), path, dynamo=True, external_data=False, verbose=False
    )
    (tmp_path / "sounds").mkdir()
    for i, label in enumerate(("bell", "rain", "sawing")):
        soundfile.write(tmp_path / "sounds" / f"{label}.wav", render(label, "a", i, 16000), 16000)
    arguments = ("quantize", path, "--calibration-data", tmp_path / "sounds")
    assert "say at which rate with --sample-rate" in edgeaudio(*arguments, expect=2).stderr
    told = json.loads(edgeaudio(*arguments, "--sample-rate", 16000, "--json").stdout)
    assert told["file"].endswith("raw.int8.onnx")
    assert told["snr_db"] > 15


def test_refusals(model: Path, arrays: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        done = edgeaudio("quantize", *arguments, expect=2)
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "name a folder with --calibration-data" in refused(model)
    out = tmp_path / "int8.onnx"
    edgeaudio("quantize", model, "--calibration-data", arrays, "-o", out)
    assert "is in integers already" in refused(out, "--calibration-data", arrays)
    assert "--method qat goes with a run" in refused(model, "--calibration-data", arrays, "--method", "qat")
    (tmp_path / "torn.onnx").write_bytes(model.read_bytes()[:500])
    assert "not a whole ONNX file" in refused(tmp_path / "torn.onnx", "--calibration-data", arrays)
    (tmp_path / "wrong").mkdir()
    np.save(tmp_path / "wrong" / "a.npy", np.zeros((1, 7, 7), np.float32))
    assert "has shape (1, 1, 7, 7)" in refused(model, "--calibration-data", tmp_path / "wrong")
    (tmp_path / "nan").mkdir()
    np.save(tmp_path / "nan" / "a.npy", np.full((8, *SHAPE), np.nan, np.float32))
    assert "NaN" in refused(model, "--calibration-data", tmp_path / "nan")
    (tmp_path / "none").mkdir()
    assert "neither sounds nor .npy" in refused(model, "--calibration-data", tmp_path / "none")


def test_a_network_without_layers_is_told_so(arrays: Path, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *SHAPE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, 1, 20])
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"])]
    axes = numpy_helper.from_array(np.array([1, 2]), "axes")
    graph = helper.make_graph(nodes, "mean", [x], [y], [axes])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        tmp_path / "mean.onnx",
    )
    done = edgeaudio("quantize", tmp_path / "mean.onnx", "--calibration-data", arrays, expect=1)
    assert "no layer of this network can be in integers" in done.stderr

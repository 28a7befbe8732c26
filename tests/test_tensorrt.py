"""The files for TensorRT hold what a builder wants, and every way to break that is found and named.

No test here runs a builder: the machines this is tested on have none. The files are run in ONNX Runtime.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from make_bundle import OPTIONS, SPEC
from onnx import TensorProto, helper, numpy_helper
from tensorrt_breakages import BREAKAGES, constant, named, replace

from edgeaudio.data.synth import SCENES, render
from edgeaudio.errors import BoundError, BundleError, MissingExtraError, RecipeError
from edgeaudio.export import onnx as graphs
from edgeaudio.export import tensorrt_build
from edgeaudio.export.parity import compare
from edgeaudio.export.targets import Pieces, write_graphs
from edgeaudio.export.tensorrt import fixed, half, write
from edgeaudio.export.tensorrt_build import BuildOptions, build_command, build_plan
from edgeaudio.export.tensorrt_check import Finding, check
from edgeaudio.frontend import LogMel
from edgeaudio.models import build
from edgeaudio.recipes import load_target
from edgeaudio.runtimes import open_graph

TARGET = load_target("tensorrt")
SCRIPT = Path(__file__).parents[1] / "export" / "predict_tensorrt.py"
SHAPE = (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))
SOUNDS = np.stack([render(scene, device, 0, SPEC.sample_rate) for scene in SCENES for device in "ac"])
FAMILIES = {
    "cp_mobile": ("cp_mobile", OPTIONS),
    "cp_mobile with GRN": ("cp_mobile", OPTIONS | {"grn": True}),
    "bc_resnet": ("bc_resnet", {}),
    "cp_resnet": ("cp_resnet", {"rho": 5, "base_channels": 8, "cut_channels_s3": 0}),
    "mobilenet": ("mobilenet", {"width": 0.1}),
}
STEPS = {"bc_resnet": 2, "mobilenet": 2}
"""Steps of training; 20 where nothing is said. Large networks are slow and tell the scenes apart sooner."""
HAS_BUILDER = importlib.util.find_spec("tensorrt") is not None


@functools.cache
def make_front_end() -> onnx.ModelProto:
    return graphs.export_front_end(SPEC, SPEC.sample_rate)


@functools.cache
def make_pieces(family: str) -> Pieces:
    name, options = FAMILIES[family]
    torch.manual_seed(0)
    model = build(name, len(SCENES), **options)
    log_mels = LogMel(SPEC)(torch.from_numpy(SOUNDS))
    labels = torch.arange(len(SCENES)).repeat_interleave(2)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    # an untrained network's answers would prove little
    for _ in range(STEPS.get(name, 20)):
        loss = torch.nn.functional.cross_entropy(model.train()(log_mels), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    settle(model, log_mels)
    model.eval()
    return Pieces(
        spec=SPEC, window=SPEC.sample_rate, model=model, front_end=make_front_end(),
        network=graphs.export_model(model, SHAPE), calibration=SOUNDS,
        metadata={"labels": list(SCENES), "sample_rate": SPEC.sample_rate},
    )  # fmt: skip


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return make_pieces("cp_mobile with GRN")


@pytest.fixture(scope="module")
def files(pieces: Pieces, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(pieces, TARGET, tmp_path_factory.mktemp("tensorrt"))


@pytest.fixture
def models(files: dict[str, Path]) -> dict[str, onnx.ModelProto]:
    return {precision: onnx.load(path) for precision, path in files.items()}


def settle(model: torch.nn.Module, log_mels: torch.Tensor) -> None:
    """Give the batch norms the statistics of these very sounds: after few steps their averages lag behind."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        model.train()(log_mels)


def run(path: Path, output: str, windows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([output], {"waveform": window[np.newaxis]})[0] for window in windows])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_torchs_answers_in_every_precision(family: str, tmp_path: Path) -> None:
    pieces = make_pieces(family)
    paths = write_graphs(pieces, TARGET, tmp_path)
    assert {precision: path.name for precision, path in paths.items()} == {
        "fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx",
    }  # fmt: skip
    with torch.no_grad():
        expected = pieces.model(LogMel(SPEC)(torch.from_numpy(SOUNDS))).numpy()
    assert expected.std(axis=0).mean() > 0.05, "the network tells the scenes apart"
    rows = {
        p: compare(p, "logits", [(expected, run(path, "logits", SOUNDS))], len(SOUNDS))
        for p, path in paths.items()
    }
    assert rows["fp32"].max_abs < TARGET.logits_max_abs
    assert rows["fp16"].snr_db > 40
    assert rows["fp16"].max_abs < TARGET.fp16_max_abs
    assert rows["fp16"].top1_agreement == 1
    assert rows["int8"].snr_db > 15  # symmetric ranges leave half of their steps unused behind a ReLU
    assert rows["int8"].top1_agreement >= 0.8
    scores = run(paths["int8"], "scores", SOUNDS)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert check(onnx.load(paths["int8"])) == []


def test_all_shapes_are_fixed_and_all_is_said_in_the_file(models: dict[str, onnx.ModelProto]) -> None:
    for model in models.values():
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
                  for v in (*model.graph.input, *model.graph.output)}  # fmt: skip
        assert shapes == {"waveform": [1, 16000], "scores": [1, 10], "logits": [1, 10]}
        assert {p.key for p in model.metadata_props} == {"edgeaudio.labels", "edgeaudio.sample_rate"}


def test_half_is_typed_in_the_graph(models: dict[str, onnx.ModelProto], files: dict[str, Path]) -> None:
    model = onnx.shape_inference.infer_shapes(models["fp16"])
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    assert kinds["log_mel"] == kinds["logits"] == kinds["scores"] == TensorProto.FLOAT
    for node in model.graph.node:
        kind = kinds[node.output[0]]
        if node.name.startswith("frontend/") or node.op_type in ("ReduceL2", "ReduceMean", "Softmax"):
            assert kind == TensorProto.FLOAT, node.name
        elif node.op_type in ("Conv", "Relu", "AveragePool"):
            assert kind == TensorProto.FLOAT16, node.name
    network = sum(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer)
    assert network > 40, "weights are stored in float16"
    assert files["fp16"].stat().st_size < files["fp32"].stat().st_size


def test_half_survives_what_would_overflow_a_sum(pieces: Pieces) -> None:
    """A norm over 8,000 values of 20 is a sum of squares of 3 million, far past float16."""
    values = helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, [1, 1, 100, 80])
    norm = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, 1, 1])
    nodes = [
        helper.make_node("Mul", ["log_mel", "two"], ["x"], name="twice"),
        helper.make_node("ReduceL2", ["x", "axes"], ["logits"], name="norm"),
    ]
    weights = [
        numpy_helper.from_array(np.float32(2.0), "two"),
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
    ]
    graph = helper.make_graph(nodes, "norm", [values], [norm], weights)
    model = half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result = session.run(["logits"], {"log_mel": np.full((1, 1, 100, 80), 10, np.float32)})[0]
    np.testing.assert_allclose(result, 20 * np.sqrt(8000), rtol=1e-3)
    assert check(model) == []


def test_a_weight_past_the_range_of_half_is_refused(pieces: Pieces) -> None:
    network = onnx.ModelProto()
    network.CopyFrom(pieces.network)
    weight = named(network, "Conv").input[1]
    replace(network, weight, constant(network, weight) + np.float32(1e5))
    with pytest.raises(BoundError, match=r"reaches \d+, but float16 ends at 65504; leave fp16 out"):
        half(network)


def test_only_weighted_operators_read_rounded_values(models: dict[str, onnx.ModelProto]) -> None:
    nodes = models["int8"].graph.node
    rounded = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    readers = [node for node in nodes if rounded & set(node.input)]
    assert {node.op_type for node in readers} == {"Conv"}
    assert len(readers) == sum(node.op_type == "Conv" for node in nodes) - 1, "all but the one on the log-mel"
    assert all(len(rounded & set(node.input)) == 2 for node in readers), "data and weight, never the bias"


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_each_breakage_is_found_and_named(models: dict[str, onnx.ModelProto], breakage: str) -> None:
    model = models["int8"]
    assert check(model) == []
    damage, rule, words = BREAKAGES[breakage]
    name = damage(model)
    found = [f for f in check(model) if f.rule == rule and f.node == name]
    assert found, [f.sentence for f in check(model)]
    assert any(words in finding.sentence for finding in found)
    for finding in found:
        assert finding.refusal
        assert repr(name) in finding.sentence
        assert finding.sentence.endswith(".")
        assert "\n" not in finding.sentence


def test_one_scale_for_a_depthwise_convolution_is_told_but_not_refused(
    models: dict[str, onnx.ModelProto],
) -> None:
    model = models["int8"]
    depthwise = next(n for n in model.graph.node if n.op_type == "Conv" and any(
        a.name == "group" and a.i > 1 for a in n.attribute))  # fmt: skip
    node = next(n for n in model.graph.node if n.output[0] == depthwise.input[1])
    replace(model, node.input[1], np.float32(0.1))
    replace(model, node.input[2], np.int8(0))
    (finding,) = check(model)
    assert (finding.rule, finding.node, finding.refusal) == ("scale", node.name, False)
    assert json.loads(json.dumps(finding.to_json())) == dataclasses.asdict(finding)


def test_an_opset_that_only_newer_versions_take_is_told(models: dict[str, onnx.ModelProto]) -> None:
    model = models["fp32"]
    for version, refusal in ((22, False), (8, True)):
        next(opset for opset in model.opset_import if opset.domain == "").version = version
        found = [f for f in check(model) if f.rule == "opset"]
        assert [f.refusal for f in found] == [refusal]
        assert f"has opset {version}" in found[0].sentence


def test_a_graph_that_would_be_refused_is_not_written(pieces: Pieces, tmp_path: Path) -> None:
    """A target that quantises asymmetrically isn't one for TensorRT, whatever it calls itself."""
    wrong = dataclasses.replace(TARGET, activation_symmetric=False, precisions=("int8",))
    with pytest.raises(
        BoundError, match=r"TensorRT would refuse the int8 graph: .*zero point that isn't a constant 0"
    ):
        write(pieces, wrong, tmp_path)
    assert not list(tmp_path.iterdir())


def test_fixing_the_batch_leaves_the_answers(pieces: Pieces) -> None:
    joined = graphs.join(pieces.front_end, pieces.network, {})
    two = fixed(joined, 2)
    assert [d.dim_value for d in two.graph.output[0].type.tensor_type.shape.dim] == [2, 10]
    answers = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            ["logits"], {"waveform": SOUNDS[:2]}
        )[0]
        for m in (joined, two)
    ]
    np.testing.assert_array_equal(*answers)


def test_build_command_names_files_and_options() -> None:
    text = build_command(
        "a b/model.fp16.onnx",
        BuildOptions(version_compatible=True, hardware="ampere", timing_cache=Path("t.cache")),
    )
    lines = text.splitlines()
    assert lines[0].startswith("# TensorRT 10.12 or newer; from 11.0 on --stronglyTyped")
    for word in (
        "'--onnx=a b/model.fp16.onnx'", "'--saveEngine=a b/model.fp16.engine'", "--stronglyTyped",
        "--memPoolSize=workspace:1024M", "--versionCompatible", "--hardwareCompatibilityLevel=ampere+",
        "--timingCacheFile=t.cache",
    ):  # fmt: skip
        assert word in lines[1]
    assert not {"--fp16", "--int8", "--best"} & set(lines[1].split()), "precision is in the file"
    script = lines[3].partition(" -c ")[2]
    ast.parse(shlex.split(script)[0])
    with pytest.raises(RecipeError, match="hardware is 'amper'; did you mean 'ampere'"):
        BuildOptions(hardware="amper")


@pytest.mark.skipif(tensorrt_build.has_gpu(), reason="a GPU is here")
def test_without_a_gpu_there_is_a_sentence(files: dict[str, Path], tmp_path: Path) -> None:
    assert not tensorrt_build.can_build()
    expected = BundleError if HAS_BUILDER else MissingExtraError
    with pytest.raises(expected, match="no NVIDIA GPU" if HAS_BUILDER else "needs TensorRT with its builder"):
        build_plan(files["fp16"])
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"no engine")
    for path in (files["fp16"], engine):
        with pytest.raises(
            expected, match="NVIDIA GPU" if HAS_BUILDER else r"pip install 'edgeaudio\[tensorrt\]'"
        ):
            open_graph("tensorrt", path)


@pytest.mark.skipif(HAS_BUILDER, reason="TensorRT is installed")
def test_script_says_what_is_missing(untrained: Path, tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), str(untrained), str(tmp_path / "sound.wav")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""}, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "No module named 'tensorrt'; pip install tensorrt cuda-python, beside an NVIDIA GPU"
    )


def test_script_explains_itself_and_needs_no_edgeaudio() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--engine" in done.stdout
    text = SCRIPT.read_text(encoding="utf-8")
    names = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name
             for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)}  # fmt: skip
    assert "edgeaudio" not in {str(name).split(".")[0] for name in names}
    assert len(text.splitlines()) < 120


def test_finding_is_plain_data() -> None:
    finding = Finding("shape", "x", "Input 'x' has an open dimension.")
    assert finding.to_json() == {
        "rule": "shape", "node": "x", "sentence": "Input 'x' has an open dimension.", "refusal": True,
    }  # fmt: skip

"""The files for TensorRT hold what a builder wants, and every way to break that is found and named.

No test here runs a builder: the machines this is tested on have none. The files are run in ONNX Runtime.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from make_bundle import OPTIONS, SPEC
from onnx import TensorProto, helper, numpy_helper

from edgeaudio.data.synth import SCENES, render
from edgeaudio.errors import BoundError, BundleError, MissingExtraError, RecipeError
from edgeaudio.export import onnx as graphs
from edgeaudio.export import tensorrt_build
from edgeaudio.export.parity import compare
from edgeaudio.export.targets import Pieces, write_graphs
from edgeaudio.export.tensorrt import fixed, half, only_before, write
from edgeaudio.export.tensorrt_build import BuildOptions, build_command, build_plan
from edgeaudio.export.tensorrt_check import Finding, check
from edgeaudio.frontend import LogMel
from edgeaudio.models import build
from edgeaudio.recipes import load_target
from edgeaudio.runtimes import open_graph

TARGET = load_target("tensorrt")
SCRIPT = Path(__file__).parents[1] / "export" / "predict_tensorrt.py"
SHAPE = (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))
LEARNT = np.stack([render(scene, device, 0, SPEC.sample_rate) for scene in SCENES for device in "ac"])
HELD_OUT = np.stack([render(scene, "c", 9, SPEC.sample_rate) for scene in SCENES])
FAMILIES = {
    "cp_mobile": ("cp_mobile", OPTIONS),
    "cp_mobile with GRN": ("cp_mobile", OPTIONS | {"grn": True}),
    "bc_resnet": ("bc_resnet", {}),
    "cp_resnet": ("cp_resnet", {"rho": 5, "base_channels": 8, "cut_channels_s3": 0}),
    "mobilenet": ("mobilenet", {"width": 0.1}),
}
STEPS = 10
HAS_BUILDER = importlib.util.find_spec("tensorrt") is not None


def make_pieces(name: str, options: dict[str, object], front_end: onnx.ModelProto) -> Pieces:
    torch.manual_seed(0)
    model = build(name, len(SCENES), **options)
    log_mels = LogMel(SPEC)(torch.from_numpy(LEARNT))
    labels = torch.arange(len(SCENES)).repeat_interleave(2)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(
        STEPS
    ):  # enough to tell the scenes apart: the answers of an untrained network prove little
        loss = torch.nn.functional.cross_entropy(model.train()(log_mels), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    settle(model, log_mels)
    model.eval()
    return Pieces(
        spec=SPEC, window=SPEC.sample_rate, model=model, front_end=front_end,
        network=graphs.export_model(model, SHAPE), calibration=LEARNT,
        metadata={"labels": list(SCENES), "sample_rate": SPEC.sample_rate},
    )  # fmt: skip


@pytest.fixture(scope="module")
def front_end() -> onnx.ModelProto:
    return graphs.export_front_end(SPEC, SPEC.sample_rate)


@pytest.fixture(scope="module")
def pieces(front_end: onnx.ModelProto) -> Pieces:
    return make_pieces(*FAMILIES["cp_mobile with GRN"], front_end)


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


def named(model: onnx.ModelProto, kind: str, place: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == kind][place]


def replace(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_torchs_answers_in_every_precision(
    family: str, front_end: onnx.ModelProto, tmp_path: Path
) -> None:
    pieces = make_pieces(*FAMILIES[family], front_end)
    paths = write_graphs(pieces, TARGET, tmp_path)
    assert {precision: path.name for precision, path in paths.items()} == {
        "fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx",
    }  # fmt: skip
    sounds = np.concatenate([LEARNT, HELD_OUT])
    with torch.no_grad():
        expected = pieces.model(LogMel(SPEC)(torch.from_numpy(sounds))).numpy()
    assert expected.std(axis=0).min() > 0.05, "the network tells the scenes apart"
    rows = {
        p: compare(p, "logits", [(expected, run(path, "logits", sounds))], len(sounds))
        for p, path in paths.items()
    }
    assert rows["fp32"].max_abs < TARGET.logits_max_abs
    assert rows["fp16"].snr_db > 40
    assert rows["fp16"].max_abs < TARGET.fp16_max_abs
    assert rows["fp16"].top1_agreement == 1
    assert rows["int8"].snr_db > 10  # symmetric ranges leave half of their steps unused behind a ReLU
    assert rows["int8"].top1_agreement > 0.85
    scores = run(paths["int8"], "scores", HELD_OUT)
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


def test_an_output_of_the_graph_loses_its_rounding_and_keeps_its_name() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "logits"))
    nodes = [
        helper.make_node("Relu", ["x"], ["exact"], name="relu"),
        helper.make_node("QuantizeLinear", ["exact", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["logits"], name="dq"),
    ]
    weights = [
        numpy_helper.from_array(np.float32(0.5), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert [f.rule for f in check(model)] == ["placement"]
    clean = only_before(model, ("Conv",))
    assert [(n.op_type, list(n.output)) for n in clean.graph.node] == [("Relu", ["logits"])]
    assert not clean.graph.initializer
    onnx.checker.check_model(clean, full_check=True)


# Breakages: each changes one thing of a good graph, and returns what the finding must name.


def _asymmetric(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[2], np.int8(3))
    return node.name


def _uint8(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[2], np.uint8(0))
    return node.name


def _no_zero_point(model: onnx.ModelProto) -> str:
    """Without one, ONNX quantises to uint8."""
    node = named(model, "QuantizeLinear")
    del node.input[2]
    return node.name


def _negative_scale(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[1], np.float32(-0.1))
    return node.name


def _scales_for_an_activation(model: onnx.ModelProto) -> str:
    node = named(model, "QuantizeLinear")
    replace(model, node.input[1], np.full(12, 0.1, np.float32))
    replace(model, node.input[2], np.zeros(12, np.int8))
    return node.name


def _weight_dequantiser(model: onnx.ModelProto) -> onnx.NodeProto:
    weights = {
        t.name for t in model.graph.initializer if len(t.dims) == 4 and t.data_type == TensorProto.INT8
    }
    return next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights)


def _wrong_axis(model: onnx.ModelProto) -> str:
    node = _weight_dequantiser(model)
    inputs = constant(model, node.input[0]).shape[1]
    replace(model, node.input[1], np.full(inputs, 0.1, np.float32))
    replace(model, node.input[2], np.zeros(inputs, np.int8))
    node.attribute[0].i = 1
    return node.name


def _bias(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.op_type == "Conv" and len(n.input) == 3)
    size = constant(model, node.input[2]).shape[0]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.int8), "bias_q"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "bias_scale"))
    made = helper.make_node("DequantizeLinear", ["bias_q", "bias_scale"], ["bias_dq"], name="rounded_bias")
    model.graph.node.insert(0, made)
    node.input[2] = "bias_dq"
    return "rounded_bias"


def _rounded(model: onnx.ModelProto, kind: str, activations: int) -> str:
    """Put a Q/DQ pair before an operator of a kind that reads so many activations."""
    constants = {t.name for t in model.graph.initializer}
    place, node = next(
        (i, n)
        for i, n in enumerate(model.graph.node)
        if n.op_type == kind and n.name.startswith("model/") and len(set(n.input) - constants) == activations
    )
    source = next(name for name in node.input if name not in constants)
    like = named(model, "QuantizeLinear")
    pair = [
        helper.make_node("QuantizeLinear", [source, *like.input[1:]], ["added_q"], name="added_q"),
        helper.make_node("DequantizeLinear", ["added_q", *like.input[1:]], ["added_dq"], name="added_dq"),
    ]
    for made in reversed(pair):
        model.graph.node.insert(place, made)
    named_node = model.graph.node[place + 2]
    named_node.input[list(named_node.input).index(source)] = "added_dq"
    return "added_dq"


def _residual(model: onnx.ModelProto) -> str:
    return _rounded(model, "Add", 2)


def _norm(model: onnx.ModelProto) -> str:
    return _rounded(model, "ReduceL2", 1)


def _pool(model: onnx.ModelProto) -> str:
    return _rounded(model, "AveragePool", 1)


def _one_side(model: onnx.ModelProto) -> str:
    node = next(
        n for n in model.graph.node if n.op_type == "Conv" and n.input[0].endswith("DequantizeLinear_Output")
    )
    makers = {name: n for n in model.graph.node for name in n.output}
    node.input[0] = makers[makers[node.input[0]].input[0]].input[0]
    return node.name


def _open_batch(model: onnx.ModelProto) -> str:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return "waveform"


def _stft(model: onnx.ModelProto) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.int64(320), "step"))
    model.graph.initializer.append(numpy_helper.from_array(np.int64(512), "length"))
    shape = numpy_helper.from_array(np.array([1, 16000, 1], np.int64), "column")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["waveform", "column"], ["signal"], name="reshape"))
    inputs = ["signal", "step", "", "length"]
    model.graph.node.append(helper.make_node("STFT", inputs, ["spectrum"], name="spectrum"))
    return "spectrum"


def _unknown(model: onnx.ModelProto) -> str:
    model.graph.node.append(helper.make_node("Det", ["model/square"], ["det"], name="det"))
    model.graph.initializer.append(numpy_helper.from_array(np.eye(3, dtype=np.float32), "model/square"))
    return "det"


def _plugin(model: onnx.ModelProto) -> str:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Odd", ["logits"], ["odd"], name="odd", domain="com.example"))
    return "odd"


def _double(model: onnx.ModelProto) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.float64(2.0), "double"))
    model.graph.node.append(helper.make_node("Sqrt", ["double"], ["root"], name="root"))
    return "double"


def _mixed(model: onnx.ModelProto) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.float16(2.0), "small"))
    model.graph.node.append(helper.make_node("Mul", ["logits", "small"], ["mixed"], name="mixing"))
    return "mixing"


def _half_front_end(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.name.startswith("frontend/") and n.op_type == "Log")
    place = list(model.graph.node).index(node)
    source, result = node.input[0], node.output[0]
    node.input[0], node.output[0] = "narrow", "narrow_log"
    casts = [
        helper.make_node("Cast", ["narrow_log"], [result], name="widen", to=TensorProto.FLOAT),
        helper.make_node("Cast", [source], ["narrow"], name="narrow", to=TensorProto.FLOAT16),
    ]
    model.graph.node.insert(place + 1, casts[0])
    model.graph.node.insert(place, casts[1])
    return node.name


def _half_sum(model: onnx.ModelProto) -> str:
    model.graph.node.append(
        helper.make_node("Cast", ["logits"], ["small"], name="small", to=TensorProto.FLOAT16)
    )
    model.graph.node.append(helper.make_node("ReduceSum", ["small"], ["sum"], name="sum", keepdims=0))
    return "sum"


BREAKAGES: dict[str, tuple[Callable[[onnx.ModelProto], str], str, str]] = {
    "asymmetric zero point": (_asymmetric, "zero point", "quantise symmetrically"),
    "uint8": (_uint8, "type", "uint8"),
    "no zero point": (_no_zero_point, "type", "uint8"),
    "negative scale": (_negative_scale, "scale", "positive and finite"),
    "scales for an activation": (_scales_for_an_activation, "scale", "several scales for an activation"),
    "wrong axis": (_wrong_axis, "axis", "output channels lie on axis 0"),
    "Q/DQ on a bias": (_bias, "placement", "feeds the bias of Conv"),
    "Q/DQ on a residual add": (_residual, "placement", "feeds the residual add Add"),
    "Q/DQ on a norm": (_norm, "placement", "feeds the normalisation ReduceL2"),
    "Q/DQ on a pool": (_pool, "placement", "feeds the float operator AveragePool"),
    "integers on one side": (_one_side, "placement", "one side in integers"),
    "dynamic batch": (_open_batch, "shape", "open dimension"),
    "STFT": (_stft, "operator", "export the factored DFT"),
    "unknown operator": (_unknown, "operator", "not among the operators"),
    "foreign domain": (_plugin, "operator", "com.example"),
    "double constant": (_double, "type", "read by Sqrt 'root', is float64"),
    "mixed types": (_mixed, "type", "mixes float 'logits' and float16 'small'"),
    "front end in half": (_half_front_end, "half", "keep the front end in float32"),
    "sum in half": (_half_sum, "half", "65504"),
}


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
            ["logits"], {"waveform": HELD_OUT[:2]}
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
    ast.parse(next(iter(__import__("shlex").split(script))))
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

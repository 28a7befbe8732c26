"""Graphs, integers and parity: what leaves torch gives torch's answers, and lies about nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from make_bundle import OPTIONS, SPEC
from onnx import numpy_helper

from edgeaudio.data.synth import SCENES, render
from edgeaudio.errors import DataError
from edgeaudio.export import onnx as graphs
from edgeaudio.export.parity import compare
from edgeaudio.frontend import LogMel
from edgeaudio.models import build
from edgeaudio.quantization import quantize
from edgeaudio.recipes import load_target

SHAPE = (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build("cp_mobile", len(SCENES), **OPTIONS).eval()


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    return np.stack([render(scene, "c", 3, SPEC.sample_rate) for scene in SCENES])


@pytest.fixture(scope="module")
def front_end() -> onnx.ModelProto:
    return graphs.export_front_end(SPEC, SPEC.sample_rate)


@pytest.fixture(scope="module")
def network(model: torch.nn.Module) -> onnx.ModelProto:
    return graphs.export_model(model, SHAPE)


@pytest.fixture(scope="module")
def integer(network: onnx.ModelProto, sounds: np.ndarray) -> onnx.ModelProto:
    return quantize(network, LogMel(SPEC)(torch.from_numpy(sounds)).numpy(), load_target("x86")).model


def run(graph: onnx.ModelProto, output: str, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([output], inputs)[0]


@pytest.mark.parametrize("batch", [1, 3])
def test_joined_graph_equals_torch(
    model: torch.nn.Module,
    front_end: onnx.ModelProto,
    network: onnx.ModelProto,
    sounds: np.ndarray,
    batch: int,
) -> None:
    joined = graphs.join(front_end, network, {"labels": list(SCENES)})
    waveform = sounds[:batch]
    with torch.no_grad():
        log_mel = LogMel(SPEC)(torch.from_numpy(waveform))
        logits = model(log_mel)
    np.testing.assert_allclose(run(front_end, "log_mel", waveform=waveform), log_mel.numpy(), atol=1e-3)
    np.testing.assert_allclose(run(joined, "logits", waveform=waveform), logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(run(joined, "scores", waveform=waveform), logits.softmax(1).numpy(), atol=1e-5)


def test_graph_is_one_clean_file(front_end: onnx.ModelProto, network: onnx.ModelProto) -> None:
    joined = graphs.join(front_end, network, {"sample_rate": SPEC.sample_rate})
    kinds = {node.op_type for node in joined.graph.node}
    assert not kinds & {"BatchNormalization", "STFT", "DFT"}
    text = joined.SerializeToString()
    assert b"/site-packages/" not in text, "the exporter's file names must not travel"
    assert b".py" not in text
    names = {output for node in joined.graph.node for output in node.output}
    assert graphs.LOG_MEL in names, "the graph can be split at the log-mel"
    assert {p.key: p.value for p in joined.metadata_props} == {"edgeaudio.sample_rate": "16000"}


def test_export_is_repeatable(model: torch.nn.Module, network: onnx.ModelProto) -> None:
    again = graphs.export_model(model, SHAPE)
    assert again.SerializeToString(deterministic=True) == network.SerializeToString(deterministic=True)


def test_integers_are_where_the_target_says(integer: onnx.ModelProto) -> None:
    weights = {t.name: numpy_helper.to_array(t) for t in integer.graph.initializer}
    producers = {output: node for node in integer.graph.node for output in node.output}
    convolutions = [node for node in integer.graph.node if node.op_type == "Conv"]
    first = [node for node in convolutions if graphs.LOG_MEL in node.input]
    assert len(first) == 1, "the one that reads the log-mel stays in float"
    convolutions.remove(first[0])
    assert len(convolutions) > 10
    for node in convolutions:
        data, weight = (producers[name] for name in node.input[:2])
        assert {data.op_type, weight.op_type} == {"DequantizeLinear"}
        assert weights[weight.input[0]].dtype == np.int8
        assert weights[weight.input[1]].shape == (weights[weight.input[0]].shape[0],), "a scale a channel"
        assert not weights[weight.input[2]].any(), "weights are symmetric"
        assert weights[data.input[2]].dtype == np.uint8


def test_every_convolution_but_the_first_runs_in_integers(integer: onnx.ModelProto, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The file may say int8 and the runtime still compute in float: look at the graph that really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(integer.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert kinds.count("QLinearConv") > 10
    assert sum(kinds.count(kind) for kind in ("Conv", "FusedConv")) == 1
    assert "ConvInteger" not in kinds


def test_integer_graph_stays_near_the_float_one(
    network: onnx.ModelProto, integer: onnx.ModelProto, sounds: np.ndarray
) -> None:
    log_mel = LogMel(SPEC)(torch.from_numpy(sounds)).numpy()
    before, after = (run(graph, "logits", log_mel=log_mel) for graph in (network, integer))
    row = compare("fp32 → int8", "logits", [(before, after)], len(sounds))
    assert row.snr_db > 20
    assert row.cosine > 0.99
    assert row.max_abs > 0, "a graph that equals the float one was not quantised"


def test_a_float_input_layer_keeps_more_of_the_signal(network: onnx.ModelProto, sounds: np.ndarray) -> None:
    log_mel = LogMel(SPEC)(torch.from_numpy(sounds)).numpy()
    target = load_target("x86")
    before = run(network, "logits", log_mel=log_mel)
    snr = [
        compare(
            "hop", "logits",
            [(before, run(quantize(network, log_mel, t).model, "logits", log_mel=log_mel))], len(sounds),
        ).snr_db
        for t in (target, dataclasses.replace(target, float_input_layer=False))
    ]  # fmt: skip
    assert snr[0] > snr[1]


def test_the_input_layer_is_found_behind_a_transpose() -> None:
    torch.manual_seed(0)
    shape = (1, 1, 32, 20)
    graph = graphs.export_model(build("daf_cnn", 3, mels=32, frames=20, first_channels=4).eval(), shape)
    assert graph.graph.node[0].op_type == "Transpose"
    log_mel = torch.randn(8, *shape[1:], generator=torch.Generator().manual_seed(1)).numpy()
    nodes = quantize(graph, log_mel, load_target("x86")).model.graph.node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    fed_by = [made_by.get(node.input[0]) for node in nodes if node.op_type == "Conv"]
    assert fed_by[0] == "Transpose"
    assert set(fed_by[1:]) == {"DequantizeLinear"}


def test_damping_is_in_the_weights_that_are_shipped() -> None:
    torch.manual_seed(0)
    damped = build("cp_resnet", 3, base_channels=8, cut_channels_s3=0, stage2_groups=1, damped=True).eval()
    before = {key: value.clone() for key, value in damped.state_dict().items()}
    graph = graphs.export_model(damped, SHAPE)
    assert not any("damping" in tensor.name for tensor in graph.graph.initializer)
    assert all(torch.equal(before[key], value) for key, value in damped.state_dict().items())
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        np.testing.assert_allclose(run(graph, "logits", log_mel=x.numpy()), damped(x).numpy(), atol=1e-4)


def test_calibration_is_never_made_up(network: onnx.ModelProto) -> None:
    empty = np.zeros((0, *SHAPE[1:]), np.float32)
    with pytest.raises(DataError, match="no clip to calibrate with"):
        quantize(network, empty, load_target("x86"))
    with pytest.raises(DataError, match="NaN"):
        quantize(network, np.full(SHAPE, np.nan, np.float32), load_target("x86"))


def test_parity_figures_by_hand() -> None:
    before = np.array([[3.0, 4.0], [1.0, 0.0]])
    after = np.array([[3.0, 4.5], [0.0, 1.0]])
    row = compare("a → b", "logits", [(before, after)], 2, qualities=(1.0, 0.5), max_abs=2.0)
    assert row.max_abs == 1.0
    assert row.rms == pytest.approx(np.sqrt(2.25 / 4))
    assert row.snr_db == pytest.approx(10 * np.log10(26 / 2.25))
    assert row.cosine == pytest.approx(27 / np.sqrt(26 * (9 + 20.25 + 1)))
    assert (row.top1_agreement, row.change, row.ok) == (0.5, -0.5, True)


@pytest.mark.parametrize(
    ("bounds", "ok"),
    [
        ({"max_abs": 0.5}, True),
        ({"max_abs": 0.05}, False),
        ({"max_rms": 0.05}, False),
        ({"max_drop": 0.02}, False),
        ({"max_drop": 0.10}, True),
    ],
)
def test_parity_bounds(bounds: dict[str, float], ok: bool) -> None:
    before = np.eye(4)
    after = before + 0.1
    assert compare("hop", "logits", [(before, after)], 100, qualities=(0.9, 0.85), **bounds).ok is ok


def test_parity_in_parts_is_parity_of_the_whole() -> None:
    before, after = np.random.default_rng(0).normal(size=(2, 30, 5))
    parts = [(before[i : i + 7], after[i : i + 7]) for i in range(0, 30, 7)]
    whole, split = (compare("hop", "logits", pairs, 30).to_json() for pairs in ([(before, after)], parts))
    assert split == pytest.approx(whole)


def test_one_clip_may_always_fall() -> None:
    x = np.eye(4)
    assert compare("hop", "logits", [(x, x)], 80, qualities=(0.9, 0.9 - 1 / 80), max_drop=0.001).ok
    assert not compare("hop", "logits", [(x, x)], 80, qualities=(0.9, 0.9 - 2 / 80), max_drop=0.001).ok
    assert not compare("hop", "logits", [(x, np.full((4, 4), np.nan))], 80, max_abs=1).ok

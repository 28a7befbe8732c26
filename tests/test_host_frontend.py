"""The front end on the host against a float64 truth, and the graph's core that it feeds."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from make_bundle import SPEC
from test_frontend import reference_log_mel

from edgeaudio.bundle import read_bundle
from edgeaudio.errors import AudioError, BundleError, EdgeAudioError
from edgeaudio.host_frontend import HostLogMel
from edgeaudio.onnx_split import core_of
from edgeaudio.predictor import Predictor, load
from edgeaudio.presets import PRESETS

LOG_MELS = [name for name, spec in PRESETS.items() if spec.kind == "log_mel"]


@pytest.mark.parametrize("name", LOG_MELS)
def test_equals_the_definition(name: str) -> None:
    spec = PRESETS[name]
    samples = spec.sample_rate // 2 + 17
    waveform = np.random.default_rng(0).normal(0, 0.1, (2, samples)).astype(np.float32)
    found = HostLogMel(spec, samples)(waveform)
    truth = reference_log_mel(spec, waveform)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, atol=1e-4)


def test_numpy_alone_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PRESETS["bc_resnet"]
    waveform = np.random.default_rng(1).normal(0, 0.1, (1, 16000)).astype(np.float32)
    with_scipy = HostLogMel(spec, 16000)(waveform)
    monkeypatch.setitem(sys.modules, "scipy.fft", None)  # as if it weren't installed
    np.testing.assert_allclose(HostLogMel(spec, 16000)(waveform), with_scipy, atol=1e-4)


def test_one_object_keeps_nothing_from_call_to_call() -> None:
    front_end = HostLogMel(SPEC, 16000)
    rng = np.random.default_rng(2)
    loud, faint = (rng.normal(0, level, (1, 16000)).astype(np.float32) for level in (0.9, 1e-3))
    first = front_end(faint)
    front_end(loud)
    np.testing.assert_array_equal(front_end(faint), first)


def test_too_short_a_waveform() -> None:
    with pytest.raises(AudioError, match="needs at least"):
        HostLogMel(SPEC, 100)


@pytest.mark.parametrize("graph", ["fp32", "int8"])
def test_the_core_answers_as_the_whole_graph(untrained: Path, graph: str) -> None:
    bundle = read_bundle(untrained)
    whole = bundle.graph_path(graph).read_bytes()
    core = core_of(whole, SPEC.n_mels, SPEC.frames(bundle.window_samples))
    onnx.checker.check_model(onnx.load_from_string(core), full_check=True)
    assert not any(node.name.startswith("frontend/") for node in onnx.load_from_string(core).graph.node)
    waveform = np.load(untrained / "golden.npz")["waveforms"]
    log_mel = onnx_log_mel(whole, waveform)
    scores = run(core, "scores", log_mel=log_mel)
    np.testing.assert_array_equal(scores, run(whole, "scores", waveform=waveform))


@pytest.mark.parametrize("graph", ["fp32", "int8"])
def test_a_predictor_with_either_front_end(untrained: Path, graph: str) -> None:
    waveform = np.load(untrained / "golden.npz")["waveforms"]
    ours, theirs = (
        Predictor(read_bundle(untrained), graph, front_end=where).score_windows(waveform, "logits")
        for where in ("graph", "host")
    )
    if graph == "fp32":
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    else:  # a rounding that falls on the other side moves a value by one step of its grid
        np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
    assert np.abs(ours - theirs).max() < 0.05


def test_a_front_end_that_there_is_not(untrained: Path) -> None:
    with pytest.raises(EdgeAudioError, match="did you mean 'host'"):
        load(untrained, front_end="hosts")
    bundle = dataclasses.replace(read_bundle(untrained), runtime="litert")
    with pytest.raises(BundleError, match="needs a bundle for ONNX Runtime"):
        Predictor(bundle, front_end="host")


def onnx_log_mel(graph: bytes, waveform: np.ndarray) -> np.ndarray:
    """The inner tensor of the whole graph."""
    model = onnx.load_from_string(graph)
    model.graph.output.append(onnx.helper.make_tensor_value_info("log_mel", onnx.TensorProto.FLOAT, None))
    return run(model.SerializeToString(), "log_mel", waveform=waveform)


def run(graph: bytes, output: str, **inputs: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run([output], inputs)[0]


def test_what_has_no_front_end_or_is_damaged(untrained: Path) -> None:
    whole = read_bundle(untrained).graph_path("fp32").read_bytes()
    core = core_of(whole, SPEC.n_mels, 101)
    with pytest.raises(BundleError, match="no front end of its own"):
        core_of(core, SPEC.n_mels, 101)
    with pytest.raises(BundleError, match="damaged"):
        core_of(whole[: len(whole) // 2], SPEC.n_mels, 101)

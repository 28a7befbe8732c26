"""OpenVINO gives torch's and ONNX Runtime's answers, in float32 whatever the processor would rather do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from make_bundle import OPTIONS, SPEC

from edgeaudio.data.synth import SCENES, render
from edgeaudio.errors import BundleError
from edgeaudio.export import onnx as graphs
from edgeaudio.export.onnx_graphs import write
from edgeaudio.export.parity import compare
from edgeaudio.export.targets import Pieces
from edgeaudio.frontend import LogMel
from edgeaudio.models import build
from edgeaudio.recipes import load_target
from edgeaudio.runtimes import open_graph

openvino = pytest.importorskip("openvino", reason="the extra openvino isn't installed")

SCRIPT = Path(__file__).parents[1] / "export" / "predict_openvino.py"
WAVEFORMS = np.stack([render(scene, "a", 2, SPEC.sample_rate) for scene in SCENES])


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    torch.manual_seed(0)
    model = build("cp_mobile", len(SCENES), **OPTIONS)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with (
        torch.no_grad()
    ):  # the batch norms learn these sounds' statistics, so activations spread as when trained
        model.train()(LogMel(SPEC)(torch.from_numpy(WAVEFORMS)))
    model.eval()
    return Pieces(
        spec=SPEC, window=SPEC.sample_rate, model=model,
        front_end=graphs.export_front_end(SPEC, SPEC.sample_rate),
        network=graphs.export_model(model, (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))),
        calibration=WAVEFORMS, metadata={"labels": list(SCENES)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(pieces: Pieces, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(pieces, load_target("openvino"), tmp_path_factory.mktemp("openvino"))


def torch_logits(pieces: Pieces) -> np.ndarray:
    with torch.no_grad():
        return pieces.model(LogMel(SPEC)(torch.from_numpy(WAVEFORMS))).numpy()


@pytest.mark.parametrize("windows", [1, 3])
def test_float_graph_equals_torch_for_any_number_of_windows(
    pieces: Pieces, files: dict[str, Path], windows: int
) -> None:
    runner = open_graph("openvino", files["fp32"])
    expected = torch_logits(pieces)[:windows]
    np.testing.assert_allclose(runner.run("logits", WAVEFORMS[:windows]), expected, atol=1e-4)
    scores = torch.from_numpy(expected).softmax(1).numpy()
    np.testing.assert_allclose(runner.run("scores", WAVEFORMS[:windows]), scores, atol=1e-5)


def test_integers_give_the_same_answers_as_in_onnx_runtime(pieces: Pieces, files: dict[str, Path]) -> None:
    float_logits = torch_logits(pieces)
    assert float_logits.std(axis=0).min() > 0.01, "the network tells the scenes apart"
    here = open_graph("openvino", files["int8"]).run("logits", WAVEFORMS)
    there = open_graph("onnxruntime", files["int8"]).run("logits", WAVEFORMS)
    row = compare("torch → OpenVINO int8", "logits", [(float_logits, here)], len(WAVEFORMS))
    assert row.snr_db > 15
    assert row.max_abs > 1e-3, "a graph that equals the float one was not run in integers"
    assert compare("int8", "logits", [(there, here)], len(WAVEFORMS)).snr_db > 15
    assert (here.argmax(1) == float_logits.argmax(1)).mean() >= 0.8


def test_weights_really_are_multiplied_in_integers(files: dict[str, Path]) -> None:
    model = open_graph("openvino", files["int8"]).compiled.get_runtime_model()  # type: ignore[attr-defined]
    kinds = [
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in model.get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert len(kinds) > 10
    assert sum(kind in ("u8", "i8") for kind in kinds) >= len(kinds) - 1, "all but the one on the log-mel"


def test_computes_in_float32_on_the_threads_it_was_given(files: dict[str, Path]) -> None:
    for threads in (1, 2):
        compiled = open_graph("openvino", files["fp32"], threads).compiled  # type: ignore[attr-defined]
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
        assert compiled.get_property("INFERENCE_NUM_THREADS") == threads


def test_the_default_precision_would_spoil_the_log_mel(pieces: Pieces, tmp_path: Path) -> None:
    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in float32 by default")
    path = tmp_path / "front_end.onnx"
    graphs.save(pieces.front_end, path)
    right = LogMel(SPEC)(torch.from_numpy(WAVEFORMS[:1])).numpy()
    default = core.compile_model(path, "CPU")({0: WAVEFORMS[:1]})["log_mel"]
    ours = open_graph("openvino", path).run("log_mel", WAVEFORMS[:1])
    assert np.abs(ours - right).max() < 1e-3
    assert np.abs(default - right).max() > 1e-2


def test_a_network_without_its_front_end_runs_too(pieces: Pieces, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    graphs.save(pieces.network, path)
    log_mels = LogMel(SPEC)(torch.from_numpy(WAVEFORMS[:2])).numpy()
    answer = open_graph("openvino", path).run("logits", log_mels)
    np.testing.assert_allclose(answer, torch_logits(pieces)[:2], atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None], ids=["empty", "garbage", "cut"])
def test_a_damaged_file_is_one_sentence(
    files: dict[str, Path], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(files["fp32"].read_bytes()[:5000] if content is None else content)
    with pytest.raises(BundleError) as caught:
        open_graph("openvino", path)
    text = str(caught.value)
    assert text.startswith(f"{path} can't be read by OpenVINO (")
    assert text.endswith("copy the bundle again")
    assert "\n" not in text
    assert len(text) < len(str(path)) + 120


def test_script_alone_gives_what_onnx_runtime_gives(untrained: Path, tmp_path: Path) -> None:
    import soundfile

    sound = tmp_path / "bell.wav"
    soundfile.write(sound, render("bell", "a", 7, SPEC.sample_rate, 2.3), SPEC.sample_rate)
    environment = {**os.environ, "PYTHONPATH": ""}
    printed = [
        subprocess.run(
            [sys.executable, SCRIPT.with_name(name), untrained, sound, "--graph", "fp32", "--top", "10"],
            capture_output=True, text=True, check=True, env=environment, timeout=120,
        ).stdout
        for name in ("predict_openvino.py", "predict_onnxruntime.py")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    assert printed[0].count("0.") == len(SCENES)


def test_script_opens_nothing_of_edgeaudio() -> None:
    assert "import edgeaudio" not in (text := SCRIPT.read_text(encoding="utf-8"))
    assert "from edgeaudio" not in text
    assert len(text.splitlines()) < 120

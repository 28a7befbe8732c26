"""LiteRT: the files answer as torch does, integers are where they belong, and a device can be handed them."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("ai_edge_litert")
pytest.importorskip("ai_edge_quantizer")
pytest.importorskip("litert_torch")
pytest.importorskip("tflite")

from edge_pieces import SMALL, SPEC, clips, pieces_of, signal_to_noise, torch_logits, trained_pieces

from edgeaudio.bundle import Bundle, read_bundle
from edgeaudio.complexity import tflite_graph
from edgeaudio.data.synth import SCENES
from edgeaudio.errors import BoundError, BundleError, DataError
from edgeaudio.export import litert
from edgeaudio.export.c_header import write_c_header
from edgeaudio.export.package import write_bundle
from edgeaudio.export.targets import Pieces, write_graphs
from edgeaudio.frontend import LogMel, build_static_front_end
from edgeaudio.models.layers import Model
from edgeaudio.predictor import Predictor
from edgeaudio.presets import PRESETS
from edgeaudio.recipes import load_target
from edgeaudio.runtimes import open_graph

TARGET = load_target("litert")
NETWORKS = {
    "plain": ("cp_mobile", {**SMALL, "grn": False}),
    "grn": ("cp_mobile", {**SMALL, "grn": True}),
    "bc_resnet": ("bc_resnet", {"tau": 0.5}),
}
PREDICT = Path(__file__).parents[1] / "export" / "predict_litert.py"


@dataclasses.dataclass(frozen=True)
class Made:
    pieces: Pieces
    files: dict[str, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """One network of each kind, trained for a moment, and its files."""
    result = {}
    for key, (name, options) in NETWORKS.items():
        pieces = trained_pieces(name, **options)
        result[key] = Made(pieces, write_graphs(pieces, TARGET, tmp_path_factory.mktemp(key)))
    return result


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    return clips("c", range(10, 13))


@pytest.mark.parametrize("key", NETWORKS)
def test_float_file_equals_torch(made: dict[str, Made], sounds: np.ndarray, key: str) -> None:
    logits = torch_logits(made[key].pieces, sounds)
    runner = open_graph("litert", made[key].files["fp32"])
    np.testing.assert_allclose(runner.run("logits", sounds), logits, rtol=0, atol=TARGET.logits_max_abs)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(runner.run("scores", sounds), softmax, rtol=0, atol=1e-5)


@pytest.mark.parametrize("key", NETWORKS)
def test_integer_file_stays_near_torch(made: dict[str, Made], key: str) -> None:
    """On the clips that the network has learnt, whose classes it is sure of."""
    known = made[key].pieces.calibration
    before = torch_logits(made[key].pieces, known)
    after = open_graph("litert", made[key].files["int8"]).run("logits", known)
    assert 15 < signal_to_noise(before, after) < 60, "more would be a graph that was not quantised"
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() >= 0.9


@pytest.mark.parametrize("key", NETWORKS)
def test_integers_are_where_they_belong(made: dict[str, Made], key: str) -> None:
    graph = tflite_graph(made[key].files["int8"])
    by_kind: dict[str, list[str]] = {}
    for op in graph.ops:
        by_kind.setdefault(op.kind, []).append(graph.tensors[op.outputs[0]].dtype)
    convolutions = by_kind["CONV_2D"] + by_kind["DEPTHWISE_CONV_2D"]
    assert convolutions.count("float32") == 1, "the one that reads the log-mel"
    assert len(convolutions) > 8
    for kind in ("LOG", "BATCH_MATMUL", "SOFTMAX", "SQRT", "DIV"):
        assert set(by_kind.get(kind, [])) <= {"float32"}, f"{kind} stays in float"
    assert by_kind["FULLY_CONNECTED"] == ["float32"] * len(by_kind["FULLY_CONNECTED"]), "the mel bank"
    assert [graph.tensors[name].dtype for name in (*graph.inputs, *graph.outputs)] == ["float32"] * 3


@pytest.mark.parametrize("preset", ["bc_resnet", "dcase2024", "passt"])
def test_front_end_alone(preset: str) -> None:
    """A transform of 1024 taps was once lowered wrongly, which a network's answers may hide."""
    spec = PRESETS[preset]
    graph = litert._convert(
        litert._Named(
            torch.nn.Sequential(build_static_front_end(spec, spec.sample_rate), _Tuple()), ("log_mel",)
        ),
        {"waveform": torch.zeros(1, spec.sample_rate)},
    )
    interpreter = litert.Interpreter(model_content=graph, num_threads=1)
    infer = interpreter.get_signature_runner()
    waveforms = clips("c", range(1), spec)
    there = np.concatenate([infer(waveform=waveform[None])["log_mel"] for waveform in waveforms])
    here = LogMel(spec)(torch.from_numpy(waveforms)).numpy()
    assert np.sqrt(np.mean((there - here) ** 2)) < 1e-4
    assert np.abs(there - here).max() < 5e-3


class _Tuple(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x,)


@pytest.mark.parametrize(("calibration", "words"), [(0, "no clip"), (np.nan, "NaN")])
def test_ranges_are_never_made_up(
    made: dict[str, Made], tmp_path: Path, calibration: float, words: str
) -> None:
    windows = np.full((1, SPEC.sample_rate), np.nan, np.float32)[: 1 if calibration else 0]
    pieces = dataclasses.replace(made["plain"].pieces, calibration=windows)
    with pytest.raises(DataError, match=words):
        litert.write_microcontroller(pieces, TARGET, tmp_path)
    with pytest.raises(DataError, match=words):
        litert.write(pieces, TARGET, tmp_path)


def test_an_operator_that_is_missing_is_named(tmp_path: Path) -> None:
    class Strange(Model):
        def embed(self, x: torch.Tensor) -> torch.Tensor:
            return x

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.det(x[..., :10, :10]).expand(1, 3)

    with pytest.raises(BoundError, match=r"operator aten.*det.* of this network"):
        litert.write(pieces_of(Strange(), clips("a", range(1))), TARGET, tmp_path)


def test_damaged_files_are_refused(made: dict[str, Made], tmp_path: Path) -> None:
    data = made["plain"].files["int8"].read_bytes()
    for size in (0, 7, 20, len(data) // 2, len(data) - 1):
        path = tmp_path / "cut.tflite"
        path.write_bytes(data[:size])
        with pytest.raises(BundleError, match="copy the bundle again"):
            open_graph("litert", path)
    path.write_bytes(data[:4] + b"ABCD" + data[8:])
    with pytest.raises(BundleError, match="not a TFLite file"):
        open_graph("litert", path)
    with pytest.raises(BundleError, match="can't be read"):
        open_graph("litert", tmp_path / "missing.tflite")


@pytest.fixture(scope="module")
def bundle(made: dict[str, Made], sounds: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    draft = Bundle(
        folder=folder, name="untrained", labels=SCENES, sample_rate=SPEC.sample_rate,
        window_samples=SPEC.sample_rate, hop_samples=SPEC.sample_rate // 2, frontend=SPEC, graphs={},
        default_graph="int8", target="litert", runtime="litert",
    )  # fmt: skip
    write_bundle(draft, made["plain"].files, sounds[:2], "# a network for tests\n")
    return folder


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_script_stands_alone(bundle: Path, tmp_path: Path, precision: str) -> None:
    sound = tmp_path / "long.wav"
    soundfile.write(sound, np.tile(clips("b", range(1))[3], 3)[:40000], SPEC.sample_rate)
    words = [sys.executable, "-c", _ALONE, PREDICT, bundle, sound, "--graph", precision, "--top", "2"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, check=True)
    expected = Predictor(read_bundle(bundle), precision).predict_file(sound).top(2)
    assert done.stdout.strip() == f"{sound}: " + "  ".join(
        f"{label} {score:.3f}" for label, score in expected
    )


_ALONE = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert not {"torch", "edgeaudio"} & set(sys.modules), "it must stand alone"
"""


@pytest.fixture(scope="module")
def network(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return litert.write_microcontroller(made["plain"].pieces, TARGET, tmp_path_factory.mktemp("micro"))


@pytest.fixture(scope="module")
def log_mels(sounds: np.ndarray) -> np.ndarray:
    return LogMel(SPEC)(torch.from_numpy(sounds[:3])).numpy()


def test_microcontroller_file_is_integer_through_and_through(network: Path) -> None:
    graph = tflite_graph(network)
    moving = {name for op in graph.ops for name in (*op.inputs, *op.outputs)}
    assert {graph.tensors[name].dtype for name in moving} == {"int8"}
    assert graph.tensors[graph.inputs[0]].shape == (1, 1, SPEC.n_mels, SPEC.frames(SPEC.sample_rate))
    assert graph.tensors[graph.outputs[0]].shape == (1, len(SCENES))


def test_a_network_that_needs_floats_is_refused(made: dict[str, Made], tmp_path: Path) -> None:
    pieces = made["grn"].pieces
    with pytest.raises(BoundError, match=r"ABS.* can't run in integers alone"):
        litert.write_microcontroller(pieces, TARGET, tmp_path)
    assert not list(tmp_path.iterdir())


def test_header_gives_a_c_program_the_same_bytes_and_goldens(
    made: dict[str, Made], network: Path, log_mels: np.ndarray, tmp_path: Path
) -> None:
    labels = ('dog\'s "bark"??/', "Tür", *SCENES[2:])
    header = write_c_header(network, tmp_path / "bark.h", labels, SPEC, SPEC.sample_rate, log_mels)
    (tmp_path / "main.c").write_text(PROGRAM, encoding="ascii")
    for compiler, standard in (("gcc", "c11"), ("g++", "c++11")):
        if not shutil.which(compiler):
            pytest.skip(f"needs {compiler}")
        language = "c" if compiler == "gcc" else "c++"
        words = [compiler, f"-std={standard}", "-x", language, "-Wall", "-Wextra", "-Werror", "-pedantic"]
        subprocess.run([*words, "main.c", "-o", "main"], cwd=tmp_path, check=True, capture_output=True)
        out = subprocess.run([tmp_path / "main"], capture_output=True, check=True, cwd=tmp_path).stdout
        facts, told_labels, rest = out.split(b"\0", 2)
        model, goldens = rest[: network.stat().st_size], rest[network.stat().st_size :]
        assert model == network.read_bytes()
        facts = json.loads(facts)
        assert tuple(told_labels.decode().split("\n")[:-1]) == labels
        inputs, outputs = np.split(
            np.frombuffer(goldens, np.int8), [len(log_mels) * SPEC.n_mels * facts["frames"]]
        )
        real = (inputs.astype(np.float32) - facts["in_zero"]) * facts["in_scale"]
        assert np.abs(real.reshape(log_mels.shape) - log_mels).max() < 3 * facts["in_scale"]
        scores = (outputs.reshape(3, -1) - facts["out_zero"]) * facts["out_scale"]
        logits = made["plain"].pieces.model(torch.from_numpy(log_mels)).detach()
        np.testing.assert_allclose(scores, logits.softmax(1).numpy(), atol=0.1)
        assert (facts["mels"], facts["window"]) == (SPEC.n_mels, SPEC.sample_rate)
        assert facts["aligned"] == 0
    assert header.name == "bark.h"


PROGRAM = r"""
#include <stdio.h>
#include "bark.h"
int main(void) {
    printf("{\"mels\": %d, \"frames\": %d, \"window\": %d, \"aligned\": %d,", BARK_MELS, BARK_FRAMES,
           BARK_WINDOW_SAMPLES, (int)((uintptr_t)bark_model % 16));
    printf("\"in_scale\": %.9g, \"in_zero\": %d, \"out_scale\": %.9g, \"out_zero\": %d}", BARK_INPUT_SCALE,
           BARK_INPUT_ZERO_POINT, BARK_OUTPUT_SCALE, BARK_OUTPUT_ZERO_POINT);
    putchar(0);
    for (int i = 0; i < BARK_CLASSES; i++) printf("%s\n", bark_labels[i]);
    putchar(0);
    fwrite(bark_model, 1, BARK_MODEL_BYTES, stdout);
    fwrite(bark_golden_inputs, 1, sizeof bark_golden_inputs, stdout);
    fwrite(bark_golden_outputs, 1, sizeof bark_golden_outputs, stdout);
    return BARK_ARENA_BYTES < BARK_INPUT_VALUES;
}
"""


def test_tflite_micro_gives_the_goldens(network: Path, log_mels: np.ndarray, tmp_path: Path) -> None:
    runtime = pytest.importorskip("tflite_micro").runtime
    header = write_c_header(network, tmp_path / "a.h", SCENES, SPEC, SPEC.sample_rate, log_mels).read_text()
    arrays = {
        side: np.array(re.findall(r"-?\d+", _between(header, f"a_golden_{side}[", "};")), np.int8)
        for side in ("inputs", "outputs")
    }
    arena = int(_between(header, "#define A_ARENA_BYTES ", "\n"))
    micro = runtime.Interpreter.from_file(str(network), arena_size=arena + 64 * 1024)
    for given, expected in zip(
        arrays["inputs"].reshape(log_mels.shape), arrays["outputs"].reshape(3, -1), strict=True
    ):
        micro.set_input(given[None], 0)
        micro.invoke()
        np.testing.assert_array_equal(micro.get_output(0)[0], expected)


def _between(text: str, start: str, stop: str) -> str:
    return text.split(start, 1)[1].split(stop, 1)[0].split("= {")[-1]


def test_header_refuses_what_does_not_fit(network: Path, log_mels: np.ndarray, tmp_path: Path) -> None:
    path, window = tmp_path / "a.h", SPEC.sample_rate
    with pytest.raises(DataError, match="no golden input"):
        write_c_header(network, path, SCENES, SPEC, window, log_mels[:0])
    with pytest.raises(DataError, match="the network takes int8"):
        write_c_header(network, path, SCENES, SPEC, window, log_mels[..., :-1])
    with pytest.raises(DataError, match="as many labels"):
        write_c_header(network, path, SCENES[1:], SPEC, window, log_mels)
    assert not path.exists()

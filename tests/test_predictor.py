"""The deployed half: bundles, predictions, the standalone script, and that none of it needs torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from make_bundle import OPTIONS, SPEC

import edgeaudio
from edgeaudio.bundle import read_bundle, write_manifest
from edgeaudio.data.synth import SCENES, render
from edgeaudio.errors import AudioError, BundleError, EdgeAudioError
from edgeaudio.frontend import LogMel
from edgeaudio.models import build
from edgeaudio.predictor import expand
from edgeaudio.recordings import Wish, predict_files

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(untrained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(untrained, tmp_path / "copy")


def torch_scores(windows: np.ndarray) -> np.ndarray:
    torch.manual_seed(0)
    model = build("cp_mobile", len(SCENES), **OPTIONS).eval()
    with torch.no_grad():
        return model(LogMel(SPEC)(torch.from_numpy(windows))).softmax(1).numpy()


@pytest.mark.parametrize(("graph", "tolerance"), [("fp32", 1e-5), ("int8", 0.05)])
def test_windows_score_as_in_torch(untrained: Path, graph: str, tolerance: float) -> None:
    windows = np.stack([render(scene, "b", 5, SPEC.sample_rate) for scene in SCENES])
    scores = edgeaudio.load(untrained, graph).score_windows(windows)
    np.testing.assert_allclose(scores, torch_scores(windows), atol=tolerance)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_long_clip_is_the_mean_of_its_audible_windows(untrained: Path) -> None:
    sound = np.concatenate([render("bell", "a", 1, 16000), np.zeros(32000, np.float32)])
    predictor = edgeaudio.load(untrained, "fp32")
    prediction = predictor(sound, 16000)
    np.testing.assert_allclose(prediction.starts, [0, 0.5, 1.0, 1.5, 2.0])
    by_hand = predictor.score_windows(np.stack([sound[:16000], sound[8000:24000]]))
    np.testing.assert_allclose(prediction.scores, by_hand.mean(axis=0), atol=1e-6)


def test_a_file_is_scored_as_its_array_is(untrained: Path, tmp_path: Path) -> None:
    sound = render("bell", "a", 1, 16000, 4.3)
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    for graph in ("fp32", "int8"):
        predictor = edgeaudio.load(untrained, graph)
        file, array = predictor.predict_file(tmp_path / "a.wav"), predictor(sound, 16000)
        for name in ("scores", "window_scores", "starts", "ends", "padded", "power"):
            np.testing.assert_array_equal(getattr(file, name), getattr(array, name))


@pytest.mark.parametrize("graph", ["fp32", "int8"])
def test_a_window_scores_the_same_beside_any_others(untrained: Path, graph: str) -> None:
    windows = np.stack([render(scene, "b", 5, SPEC.sample_rate) for scene in SCENES])
    predictor = edgeaudio.load(untrained, graph)
    together = predictor.score_windows(windows)
    for i, window in enumerate(windows):
        np.testing.assert_array_equal(predictor.score_windows(window[None])[0], together[i])
    batched = edgeaudio.load(untrained, graph, batch=4)
    np.testing.assert_allclose(batched.score_windows(windows), together, atol=1e-6)
    assert batched(windows[0], 16000).label == predictor(windows[0], 16000).label


def test_ends_padding_and_power_of_windows(untrained: Path) -> None:
    sound = render("bell", "a", 1, 16000, 2.25)
    prediction = edgeaudio.load(untrained)(sound, 16000)
    assert prediction.starts.tolist() == [0, 0.5, 1.0, 1.5]
    assert prediction.ends.tolist() == [1.0, 1.5, 2.0, 2.25]
    assert prediction.padded.tolist() == [False, False, False, True]
    assert prediction.power[3] == pytest.approx(np.sum(sound[24000:].astype(np.float64) ** 2))
    windows = list(prediction.windows())
    assert [(w.start, w.end, w.padded) for w in windows] == list(
        zip(prediction.starts, prediction.ends, prediction.padded, strict=True)
    )
    assert windows[1].label == windows[1].top(1)[0][0]
    assert windows[1].score == prediction.window_scores[1].max()


def test_another_hop(untrained: Path) -> None:
    sound = render("bell", "a", 1, 16000, 5.0)
    predictor = edgeaudio.load(untrained)
    assert predictor(sound, 16000, hop=0.25).starts.tolist() == [0.25 * i for i in range(17)]
    assert predictor(sound, 16000, hop=3.0).starts.tolist() == [0, 3]
    assert predictor(sound, 16000, hop=1.5).ends.tolist() == [1, 2.5, 4, 5]
    with pytest.raises(EdgeAudioError, match="the hop of 0 s is shorter than one sample"):
        predictor(sound, 16000, hop=0)
    with pytest.raises(EdgeAudioError, match="batch is 0"):
        edgeaudio.load(untrained, batch=0)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_long_file_is_never_held_whole(untrained: Path, tmp_path: Path, rate: int) -> None:
    minute = render("rain", "a", 1, rate, 60)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, 1, "PCM_16") as file:
        for _ in range(10):
            file.write(minute)
    predictor = edgeaudio.load(untrained)
    tracemalloc.start()
    try:
        prediction = predictor.predict_file(tmp_path / "long.wav", hop=10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert prediction.ends[-1] == pytest.approx(591)
    assert len(prediction.starts) == 60
    assert (
        peak < 4e6 < 600 * rate * 4 / 9
    )  # a block and a window, where the file's samples are 38 MB and more


def test_a_graph_without_embeddings_says_so(untrained: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", render("bell", "a", 1, 16000), 16000)
    with pytest.raises(BundleError, match="its graph has no output 'embedding'; make one"):
        edgeaudio.load(untrained).embed_file(tmp_path / "a.wav")


def test_embeddings_of_a_graph_that_has_them(copy: Path, tmp_path: Path) -> None:
    """The network's logits under the name of the output stand for an embedding."""
    bundle = read_bundle(copy)
    graph = onnx.load(copy / "model.onnx")
    graph.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["embedding"]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("embedding", 1, ["n", len(SCENES)]))
    onnx.save(graph, copy / "model.onnx")
    write_manifest(replace(bundle, folder=copy))
    sound = render("bell", "a", 1, 16000, 1.75)
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    predictor = edgeaudio.load(copy, "fp32")
    embeddings = predictor.embed_file(tmp_path / "a.wav", hop=0.75)
    assert embeddings.starts.tolist() == [0, 0.75]
    assert embeddings.ends.tolist() == [1, 1.75]
    windows = np.stack([sound[:16000], sound[12000:28000]])
    np.testing.assert_array_equal(embeddings.vectors, predictor.score_windows(windows, "logits"))
    told: list[float] = []
    wish = Wish(0.75, embeddings={tmp_path / "a.wav": tmp_path / "a.npz"})
    list(predict_files(lambda: predictor, [tmp_path / "a.wav"], wish, progress=told.append))
    first, second = [0.5 / 1.75, 0.5], [0.5 + 0.5 / 1.75, 1.0]  # the file is read twice
    assert told == pytest.approx([*first, *second, 1.0])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["vectors"], embeddings.vectors)


def test_prediction_answers(untrained: Path) -> None:
    prediction = edgeaudio.load(untrained)(render("rain", "a", 1, 16000), 16000)
    top = prediction.top(3)
    assert [score for _, score in top] == sorted(prediction.scores, reverse=True)[:3]
    assert (prediction.label, prediction.score) == top[0]
    assert json.loads(json.dumps(prediction.to_json(2)))["top"][1]["label"] == top[1][0]
    assert repr(prediction).startswith(f"Prediction({top[0][0]}: ")


def test_integers_score_like_floats(untrained: Path) -> None:
    sound = render("rain", "a", 1, 16000)
    predictor = edgeaudio.load(untrained, "fp32")
    integers = np.round(sound * 32768).clip(-32768, 32767).astype(np.int16)
    np.testing.assert_allclose(predictor(integers, 16000).scores, predictor(sound, 16000).scores, atol=1e-3)


def test_other_sample_rate_is_refused_or_resampled(untrained: Path) -> None:
    predictor = edgeaudio.load(untrained, "fp32")
    sound = render("bell", "a", 1, 44100)
    with pytest.raises(
        AudioError, match="clip is 44100 Hz but the bundle wants 16000 Hz; pass resample=True"
    ):
        predictor(sound, 44100)
    assert predictor(sound, 44100, resample=True).scores.shape == (10,)


@pytest.mark.parametrize(
    ("waveform", "words"),
    [
        (np.zeros((2, 16000), np.float32), r"shape \(2, 16000\)"),
        (np.zeros(0, np.float32), "no samples"),
        (np.full(16000, np.nan, np.float32), "NaN"),
        (np.zeros(16000, np.uint8), "type uint8"),
    ],
)
def test_what_is_no_clip_is_refused(untrained: Path, waveform: np.ndarray, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        edgeaudio.load(untrained)(waveform, 16000)


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx", "golden.npz", "README.md"])
def test_a_changed_byte_is_noticed(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
        edgeaudio.load(copy)


def change(bundle: Path, **entries: object) -> None:
    path = bundle / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_bundles_that_are_not_right(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no graph 'int9'; did you mean 'int8'"):
        edgeaudio.load(copy, "int9")
    (copy / "model.onnx").rename(tmp_path / "away")
    with pytest.raises(BundleError, match=r"model.onnx is missing"):
        edgeaudio.load(copy)
    (tmp_path / "away").rename(copy / "model.onnx")
    change(copy, schema=99)
    with pytest.raises(BundleError, match="schema 99, this edgeaudio reads schema 2; update edgeaudio"):
        edgeaudio.load(copy)
    change(copy, schema=1)
    assert edgeaudio.load(copy).labels == SCENES  # bundles of the first schema are still read
    change(copy, frontend={**vars(SPEC), "fmax": 7000.0})
    with pytest.raises(BundleError, match="the front end has the hash"):
        edgeaudio.load(copy)
    (copy / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="not a valid manifest"):
        edgeaudio.load(copy)
    with pytest.raises(BundleError, match="no such folder"):
        edgeaudio.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"it has no bundle\.json"):
        edgeaudio.load(tmp_path)


def test_a_bundle_survives_a_round_trip(untrained: Path) -> None:
    bundle = read_bundle(untrained)
    assert bundle.frontend == SPEC
    assert bundle.labels == SCENES
    assert bundle.files.keys() == {"README.md", "golden.npz", "model.int8.onnx", "model.onnx"}


def test_expand(tmp_path: Path) -> None:
    for name in ("b.wav", "a.WAV", "deep/c.flac", ".hidden/d.wav", "note.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    names = [path.relative_to(tmp_path).as_posix() for path in expand([tmp_path, str(tmp_path / "*.wav")])]
    assert names == ["a.WAV", "b.wav", "deep/c.flac"]
    with pytest.raises(AudioError, match="no such file"):
        expand([str(tmp_path / "*.mp3")])


@pytest.mark.parametrize(
    "program",
    [
        "import edgeaudio",
        "import edgeaudio; edgeaudio.load({bundle!r}).predict_file({sound!r})",
        "import sys; sys.argv[1:] = ['predict', {bundle!r}, {sound!r}]; from edgeaudio.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code",
        "import sys; sys.argv[1:] = ['--help']; from edgeaudio.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code",
    ],
)
def test_torch_is_never_imported(untrained: Path, tmp_path: Path, program: str) -> None:
    sound = tmp_path / "bell.wav"
    soundfile.write(sound, render("bell", "a", 1, 16000), 16000)
    heavy = "{'torch', 'onnx', 'sklearn', 'matplotlib', 'scipy'}"
    check = f"\nimport sys; found = {heavy} & set(sys.modules); assert not found, found"
    program = program.format(bundle=str(untrained), sound=str(sound)) + check
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("graph", ["fp32", "int8"])
def test_standalone_script_agrees(untrained: Path, tmp_path: Path, graph: str) -> None:
    sound = tmp_path / "bell.wav"
    stereo = np.stack([render("bell", "a", 1, 44100, 2.3), render("rain", "a", 1, 44100, 2.3)], axis=1)
    soundfile.write(sound, stereo, 44100)
    script = ROOT / "export" / "predict_onnxruntime.py"
    done = subprocess.run(
        [sys.executable, str(script), str(untrained), str(sound), "--graph", graph],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    top = edgeaudio.load(untrained, graph).predict_file(sound).top(3)
    assert done.stdout.strip() == f"{sound}: " + "  ".join(f"{label} {score:.3f}" for label, score in top)
    assert "edgeaudio" not in {
        line.split()[1] for line in script.read_text().splitlines() if "import" in line[:7]
    }

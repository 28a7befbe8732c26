"""The C++ program is compiled with ONNX Runtime's headers and prints what the Python predictor scores."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile

import edgeaudio
from edgeaudio.data.synth import SCENES, render

SOURCE = Path(__file__).parents[1] / "export" / "predict_onnxruntime.cpp"
HEADERS = [
    Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime")),
    Path("/usr/local/include/onnxruntime"),
]
RATE = 16000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, linked against the library that the Python package brings."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is here")
    include = next((folder for folder in HEADERS if (folder / "onnxruntime_cxx_api.h").is_file()), None)
    if include is None:
        pytest.skip("no headers of ONNX Runtime: install libonnxruntime-dev, or set ONNXRUNTIME_INCLUDE")
    found = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    if not found:
        pytest.skip("this build of the Python package holds no libonnxruntime.so")
    folder = tmp_path_factory.mktemp("cpp")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # what the linker and the loader look for
        (folder / name).symlink_to(found[0])
    words = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", SOURCE, f"-I{include}", f"-L{folder}"]
    words += ["-lonnxruntime", f"-Wl,-rpath,{folder}", "-o", folder / "predict"]
    subprocess.run(words, check=True, timeout=120)
    return folder / "predict"


@pytest.fixture(scope="module")
def graph(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's graph with the facts that a training job writes into it, one name being awkward."""
    model = onnx.load(untrained / "model.onnx")
    labels = '["caf\\u00e9 \\"noisy\\"", ' + ", ".join(f'"{scene}"' for scene in SCENES[1:]) + "]"
    onnx.helper.set_model_props(model, {"edgeaudio.labels": labels, "edgeaudio.sample_rate": str(RATE)})
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(model, path)
    return path


def run(*words: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == expect, done.stderr
    return done


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.7])
def test_scores_are_those_of_the_python_predictor(
    program: Path, graph: Path, untrained: Path, tmp_path: Path, seconds: float
) -> None:
    sound = tmp_path / "sound.wav"
    samples = render("siren", "a", 3, RATE, seconds)
    samples[len(samples) // 2 :] *= 1e-6  # the second half must not vote
    soundfile.write(sound, samples, RATE, subtype="PCM_16")
    printed = run(program, graph, sound, len(SCENES)).stdout.splitlines()
    scores = dict(line.rsplit(" ", 1) for line in printed)
    expected = edgeaudio.load(untrained, graph="fp32").predict_file(sound)
    assert len(scores) == len(SCENES)
    np.testing.assert_allclose(
        [float(scores[label]) for label in SCENES[1:]], expected.scores[1:], atol=2e-6
    )  # six digits are printed
    values = [float(line.rsplit(" ", 1)[1]) for line in printed]
    assert values == sorted(values, reverse=True)


def test_names_are_read_as_json(program: Path, graph: Path, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, render("bell", "a", 3, RATE), RATE, subtype="PCM_16")
    names = {line.rsplit(" ", 1)[0] for line in run(program, graph, sound, len(SCENES)).stdout.splitlines()}
    assert names == {'café "noisy"', *SCENES[1:]}


def test_what_it_cannot_read_is_a_sentence(program: Path, graph: Path, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, np.zeros((RATE, 2), np.float32), RATE, subtype="PCM_16")
    assert run(program, graph, sound, expect=1).stderr == f"{sound} is not 16-bit mono\n"
    soundfile.write(sound, np.zeros(RATE, np.float32), 8000, subtype="PCM_16")
    assert run(program, graph, sound, expect=1).stderr == f"{sound} must have {RATE} Hz\n"
    sound.write_bytes(b"RIFF")
    assert run(program, graph, sound, expect=1).stderr == f"{sound} is no WAV file\n"
    assert "usage" in run(program, expect=2).stderr

"""Teachers from checkpoints, of other sample rates and on the waveform, in the main job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import here as edgeaudio
from safetensors.torch import save_file

from edgeaudio.models import build

YAMNET = """
[model]
name = "yamnet"
width = 64
[frontend]
preset = "yamnet"
sample_rate = 8000
n_fft = 256
win_length = 200
hop_length = 80
fmax = 3750.0
[train]
epochs = 2
learning_rate = 1e-3
[augment]
freq_mixstyle_p = 0.0
"""
ON_WAVEFORM = """
window_seconds = 1.0
[model]
name = "acdnet"
input_samples = 8000
sample_rate = 8000
channels = [4, 8, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]
[frontend]
preset = "waveform"
sample_rate = 8000
[train]
epochs = 2
learning_rate = 2e-3
[augment]
freq_mixstyle_p = 0.0
gain_db = 6.0
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 7 classes, as if it had been published."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / "yamnet.safetensors"
    save_file(build("yamnet", 7, width=64).state_dict(), path)
    return path


def test_an_ensemble_with_a_teacher_from_a_checkpoint_at_another_rate(
    scenes: Path, recipes: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    yamnet = tmp_path / "small_yamnet.toml"
    yamnet.write_text(YAMNET)
    words = [
        "distill", scenes, "--student", recipes["student"], "--teacher", recipes["teacher"],
        "--teacher", yamnet, "--from", f"small_yamnet={checkpoint}", "--set", "student.train.epochs=2",
        "--set", "small_teacher.train.epochs=1", "--set", "student.distill.teacher_mode=live",
        "-o", tmp_path / "run", "--json",
    ]  # fmt: skip
    answer = json.loads(edgeaudio(*words).stdout)
    assert (tmp_path / "run" / "bundle" / "bundle.json").is_file()
    job = json.loads((tmp_path / "run" / "job.json").read_text())
    assert [t["weights"] for t in job["teachers"]] == ["", checkpoint.as_posix()]
    assert [t["train"]["epochs"] for t in job["teachers"]] == [1, 2]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert f"--from small_yamnet={checkpoint}" in report["reproduce"]["command"]
    assert {row["role"] for row in report["models"]} >= {"teacher", "student", "student int8"}
    assert answer


def test_training_starts_from_the_checkpoint(scenes: Path, checkpoint: Path, tmp_path: Path) -> None:
    yamnet = tmp_path / "small_yamnet.toml"
    yamnet.write_text(YAMNET)
    still = ["--set", "student.train.learning_rate=1e-12", "--set", "student.train.epochs=1"]
    done = edgeaudio(
        "train", scenes, "--model", yamnet, "--from", checkpoint, *still, "-o", tmp_path / "run", "--json"
    )
    from safetensors.torch import load_file

    trained = load_file(json.loads(done.stdout)["weights"])
    published = load_file(checkpoint)
    # a rate of nothing leaves the published weights, but for the classifier, which is for other classes
    for name, value in published.items():
        if name.startswith("logits."):
            assert len(trained[name]) == 10
        elif not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(trained[name], value, atol=1e-6, rtol=0)


def test_a_network_on_the_waveform_becomes_a_bundle(scenes: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "small_acdnet.toml"
    recipe.write_text(ON_WAVEFORM)
    edgeaudio("train", scenes, "--model", recipe, "-o", tmp_path / "run", "-q")
    edgeaudio("export", tmp_path / "run", "-q")
    sound = next(scenes.rglob("*.wav"))
    said = json.loads(edgeaudio("predict", tmp_path / "run" / "bundle", sound, "--json").stdout)
    assert said
    assert "the network hears the waveform" in (tmp_path / "run" / "bundle" / "README.md").read_text()


def test_a_checkpoint_of_another_architecture_is_one_sentence(
    scenes: Path, recipes: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    done = edgeaudio(
        "train", scenes, "--model", recipes["teacher"], "--from", checkpoint, "-o", tmp_path / "run", expect=2
    )
    assert "doesn't fit CPResNet" in done.stderr
    assert "Traceback" not in done.stderr
    done = edgeaudio(
        "train",
        scenes,
        "--model",
        recipes["teacher"],
        "--from",
        "nothing.pt",
        "-o",
        tmp_path / "run",
        expect=2,
    )
    assert "nothing.pt" in done.stderr

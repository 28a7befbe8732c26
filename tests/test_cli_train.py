"""Options of the training verbs, on real (small) trainings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import here as edgeaudio
from safetensors.torch import load_file

SHORT = ["--set", "student.train.epochs=2", "--set", "teacher.train.epochs=2", "--json"]


@pytest.fixture(scope="module")
def run(scenes: Path, recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs") / "run"
    edgeaudio(
        "distill", scenes, "--student", recipes["student"], "--teacher", recipes["teacher"],
        "--teacher", recipes["teacher"], "--teacher-mode", "live", "--alone", "--per-device",
        "--set", "devices.epochs=1", "--set", "student.distill.fusion=learned", *SHORT, "-o", folder,
    )  # fmt: skip
    return folder


def test_what_the_teachers_were_worth_is_in_the_report(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    roles = [model["role"] for model in report["models"]]
    assert roles.count("teacher") == 2
    assert {"student alone", "student", "student int8"} <= set(roles)
    said = report["test"]["teaching"]["sentence"]
    assert re.search(r"The teachers (bring \+|cost )\d+\.\d\d points", said)
    assert said in (run / "report.html").read_text()


def test_learnt_weights_are_kept_and_used(run: Path) -> None:
    (fusion,) = run.glob("stages/fusion-*/result.json")
    weights = json.loads(fusion.read_text())["weights"]
    assert len(weights) == 2
    assert sum(weights) == pytest.approx(1)


def test_each_seen_device_has_a_bundle_of_its_own(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    rows = {row["device"]: row for row in report["own_devices"]}
    assert sorted(rows) == ["a", "b", "c"]  # d is unseen in training
    for device, row in rows.items():
        bundle = run / "devices" / device / "bundle"
        assert row["bundle"] == f"devices/{device}/bundle"
        assert (bundle / "bundle.json").is_file()
        general = load_file(next(run.glob("stages/student-*")) / "model.safetensors")
        own = load_file(next(run.glob(f"stages/device.{device}-*")) / "model.safetensors")
        same = all((general[key] == own[key]).all() for key in general)
        before, after = row["validation"]
        # the general one stays exactly where the validation clips hear no gain
        assert same == (row["kept"] == "general") == (after >= before)
    done = edgeaudio("predict", run / "devices" / "a" / "bundle", next(run.parent.parent.rglob("*-a.wav")))
    assert done.stdout


def test_the_command_in_the_report_repeats_the_job(run: Path) -> None:
    command = json.loads((run / "report.json").read_text())["reproduce"]["command"]
    assert "--alone" in command
    assert "--per-device" in command
    assert "student.distill.teacher_mode=live" in command


def test_a_second_run_does_nothing_again(run: Path, scenes: Path, recipes: dict[str, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()}
    edgeaudio(
        "distill", scenes, "--student", recipes["student"], "--teacher", recipes["teacher"],
        "--teacher", recipes["teacher"], "--teacher-mode", "live", "--alone", "--per-device",
        "--set", "devices.epochs=1", "--set", "student.distill.fusion=learned", *SHORT, "-o", run,
    )  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()} == before


def test_frozen_layers_come_from_the_run(
    run: Path, scenes: Path, recipes: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = next(run.glob("stages/student-*")) / "model.safetensors"
    edgeaudio(
        "train", scenes, "--model", recipes["student"], "--from", run, "--freeze", "convs",
        "--set", "student.train.epochs=1", "-o", tmp_path / "run",
    )  # fmt: skip
    before, after = (
        load_file(checkpoint),
        load_file(next((tmp_path / "run").glob("stages/student-*")) / "model.safetensors"),
    )
    for key, value in before.items():
        if not key.startswith("feed_forward."):
            assert (after[key] == value).all(), key
    assert not all((after[key] == value).all() for key, value in before.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--freeze", "convs"], "--from"),
        (["distill", "--set", "devices.epochs=3"], "--per-device"),
        (["distill", "--teacher-mode", "lively"], "live"),
        (["distill", "--logger", "wandb"], "tensorboard"),
        (["distill", "--set", 'student.train.freeze="2"'], "--from small_student=CHECKPOINT"),
        (["distill", "--views", "2", "--teacher-mode", "live"], "views"),
        (["train", "--from", "."], "holds no trained network"),
    ],
)
def test_wrong_use_is_one_sentence(
    words: list[str], said: str, scenes: Path, recipes: dict[str, Path], tmp_path: Path
) -> None:
    verb, *options = words
    model = ["--model" if verb == "train" else "--student", recipes["student"]]
    done = edgeaudio(verb, scenes, *model, *options, "-o", tmp_path / "run", expect=2)
    assert said in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (tmp_path / "run" / "stages").exists()

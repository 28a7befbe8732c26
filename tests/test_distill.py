"""The main job, end to end in processes of its own: what it leaves, and that a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import distill_arguments, edgeaudio

KILL_AT = """
import os, signal, sys
from pathlib import Path
from edgeaudio import cli
from edgeaudio.training import chain, loop

point = sys.argv.pop(1)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if point.endswith("@epoch"):
    save = loop.save

    def save_and_die(folder, *rest):
        save(folder, *rest)
        if folder.name.startswith(point.removesuffix("@epoch")):
            die()

    loop.save = save_and_die
elif point == "publish":
    rename = Path.rename

    def rename_or_die(self, target):
        if self.name == ".bundle.new":
            die()
        return rename(self, target)

    Path.rename = rename_or_die
else:
    rename = Path.rename

    def rename_or_die(self, target):
        if self.parent.name == "stages" and self.name.startswith(point + "-"):
            die()
        return rename(self, target)

    Path.rename = rename_or_die
cli.main()
"""
POINTS = [
    "data", "teacher.1@epoch", "teacher.1", "logits", "student@epoch", "student", "export", "quantize",
    "measure", "bundle", "publish",
]  # fmt: skip


def test_run_leaves_bundle_and_report(finished: tuple[Path, dict[str, object]]) -> None:
    run, answer = finished
    names = {path.name for path in (run / "bundle").iterdir()}
    assert names == {"bundle.json", "model.onnx", "model.int8.onnx", "golden.npz", "README.md"}
    assert (run / "report.html").stat().st_size > 10_000
    report = json.loads((run / "report.json").read_text())
    assert report["verdict"]["ok"] is True
    assert [row["role"] for row in report["models"]] == ["teacher", "student", "student int8"]
    assert {row["device"]: row["seen"] for row in report["test"]["per_device"]} == {
        "a": True, "b": True, "c": True, "d": False,
    }  # fmt: skip
    assert answer["verdict"]["rules"] == "dcase2024"  # type: ignore[index]
    assert all(row["ok"] for row in report["parity"])


def test_metrics_are_one_json_line_an_epoch(finished: tuple[Path, dict[str, object]]) -> None:
    [metrics] = finished[0].glob("stages/student-*/metrics.jsonl")
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(12))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert {"val_loss", "val_accuracy", "learning_rate", "clips_per_second"} <= rows[0].keys()


def test_measured_accuracy_is_what_the_shipped_predictor_gives(
    finished: tuple[Path, dict[str, object]],
) -> None:
    run, answer = finished
    told = {row["role"]: row["accuracy"] for row in answer["models"]}  # type: ignore[attr-defined]
    for graph, role in (("int8", "student int8"), ("fp32", "student ONNX")):
        done = edgeaudio("evaluate", run, "--graph", graph, "--json")
        assert json.loads(done.stdout)["accuracy"] == pytest.approx(told[role], abs=1e-9)


def test_second_run_redoes_nothing_and_force_does(
    finished: tuple[Path, dict[str, object]], scenes: Path, recipes: dict[str, Path]
) -> None:
    run, answer = finished
    before = {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()}
    again = edgeaudio(*distill_arguments(scenes, recipes, run))
    assert {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()} == before
    assert again.stderr.count("already done") >= 6
    assert json.loads(again.stdout)["bundle_hash"] == answer["bundle_hash"]
    forced = edgeaudio(*distill_arguments(scenes, recipes, run), "--force", "export")
    assert json.loads(forced.stdout)["bundle_hash"] == answer["bundle_hash"]
    redone = {p.name.split("-")[0] for p in (run / "stages").iterdir() if p.stat().st_mtime_ns != before[p]}
    assert redone == {"export", "quantize", "measure", "bundle"}


def test_a_kill_in_any_stage_changes_nothing(
    finished: tuple[Path, dict[str, object]], scenes: Path, recipes: dict[str, Path], tmp_path: Path
) -> None:
    arguments = distill_arguments(scenes, recipes, tmp_path / "killed")
    for point in POINTS:
        killed = subprocess.run(
            [sys.executable, "-c", KILL_AT, point, *arguments], capture_output=True, text=True, check=False
        )
        assert killed.returncode == -signal.SIGKILL, f"{point}: {killed.stderr}"
    done = edgeaudio(*arguments)
    assert json.loads(done.stdout)["bundle_hash"] == finished[1]["bundle_hash"]
    assert not list((tmp_path / "killed").glob("stages/*.partial"))


def test_golden_vectors_are_reproduced(finished: tuple[Path, dict[str, object]]) -> None:
    import edgeaudio as public

    bundle = finished[0] / "bundle"
    with np.load(bundle / "golden.npz") as golden:
        for graph in ("fp32", "int8"):
            scores = public.load(bundle, graph).score_windows(golden["waveforms"])
            np.testing.assert_allclose(scores, golden[f"scores_{graph}"], atol=1e-6)


def test_student_over_the_limits_is_refused_before_training(
    scenes: Path, recipes: dict[str, Path], tmp_path: Path
) -> None:
    arguments = [*distill_arguments(scenes, recipes, tmp_path), "--set", "student.model.base_channels=128"]
    done = edgeaudio(*arguments, expect=1)
    assert "over dcase2024" in done.stderr
    assert not (tmp_path / "stages").exists()


def test_a_short_window_does_not_look_cheaper(recipes: dict[str, Path]) -> None:
    from dataclasses import replace

    from edgeaudio.console import Console
    from edgeaudio.recipes import load_recipe, load_target
    from edgeaudio.training.distill import check_limits
    from edgeaudio.training.job import Job

    student = load_recipe(recipes["student"])
    job = Job(Path("data"), student, (), load_target("x86"))
    half = replace(job, student=replace(student, window_seconds=0.5))
    double = replace(job, student=replace(student, window_seconds=2.0))
    macs = [check_limits(j, 10, Console(quiet=True))[0].macs for j in (job, half, double)]
    assert macs[0] == macs[1] < macs[2]


def test_the_report_tells_the_command_that_repeats_the_job(
    finished: tuple[Path, dict[str, object]], scenes: Path
) -> None:
    command = json.loads((finished[0] / "report.json").read_text())["reproduce"]["command"]
    assert command.startswith(f"edgeaudio distill {scenes} --student small_student --teacher small_teacher")
    assert "--set student.distill.temperature=3.0" in command
    assert str(scenes) not in (finished[0] / "bundle" / "README.md").read_text(), "a bundle tells no paths"


def test_two_jobs_in_one_folder(scenes: Path, recipes: dict[str, Path], tmp_path: Path) -> None:
    from edgeaudio.training.chain import locked

    with locked(tmp_path):
        done = edgeaudio(*distill_arguments(scenes, recipes, tmp_path), expect=2)
    assert "in use by another edgeaudio" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="file size limits are a POSIX matter")
def test_a_full_disk_is_a_sentence_and_loses_nothing(
    finished: tuple[Path, dict[str, object]], scenes: Path, recipes: dict[str, Path], tmp_path: Path
) -> None:
    """A limit on the size of a file stands for the full disk: the error comes from the same place."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1)); "
        "from edgeaudio import cli; cli.main()"
    )
    arguments = distill_arguments(scenes, recipes, tmp_path / "full")
    full = subprocess.run(
        [sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False
    )
    assert full.returncode == 2, full.stderr
    assert "the disk is full" in full.stderr
    assert "Traceback" not in full.stderr
    done = edgeaudio(*arguments)
    assert json.loads(done.stdout)["bundle_hash"] == finished[1]["bundle_hash"]

"""Learning from the validation clips too, and clips that are scored by denser windows; on a real training."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import here as edgeaudio

from edgeaudio.predictor import load
from edgeaudio.training.job import load_job

WORDS = ["--all-clips", "--set", "student.hop_seconds=0.25", "--set", "student.distill.teacher_mode=cached"]


@pytest.fixture(scope="module")
def run(scenes: Path, recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Device c is heard by validation and test clips alone."""
    folder = tmp_path_factory.mktemp("all") / "run"
    with (scenes / "clips.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"], row["device"]) != ("train", "c")]
    table = folder.parent / "clips.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "path": str(scenes / row["path"])} for row in rows)
    done = edgeaudio(
        "distill", table, "--student", recipes["student"], "--teacher", recipes["teacher"], *WORDS,
        "--set", "student.train.epochs=2", "--set", "teacher.train.epochs=2", "-o", folder,
    )  # fmt: skip
    assert "validation, learnt from too" in done.stderr + done.stdout
    return folder


def _clips(run: Path, split: str) -> list[dict[str, str]]:
    with (run / "clips.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def test_the_teachers_answer_for_validation_clips_too(run: Path) -> None:
    """All scenes are equally long, so each clip has as many windows, a quarter of one apart."""
    (stored,) = run.glob("stages/logits-*/result.json")
    job = load_job(run)
    clips = len(_clips(run, "train")) + len(_clips(run, "val"))
    assert len(_clips(run, "val")) > 0
    seconds = json.loads((run / "report.json").read_text())["data"]["seconds"]
    total = sum(len(_clips(run, split)) for split in ("train", "val", "test"))
    each = round((seconds / total - job.student.window_seconds) / (job.student.window_seconds / 4)) + 1
    assert json.loads(stored.read_text())["windows"] == clips * each


def test_calibration_may_hear_them_and_the_list_is_taken_back(run: Path, tmp_path: Path) -> None:
    """With every window asked for, the list names all clips that were learnt from."""
    run = shutil.copytree(run, tmp_path / "run")
    edgeaudio("quantize", run, "--calibration", "100000")
    text = max((path.read_text() for path in run.glob("stages/quantize-*/calibration.csv")), key=len)
    (tmp_path / "list.csv").write_text(text)
    named = {Path(row["path"]).name for row in csv.DictReader(text.splitlines())}
    learnt = {Path(row["path"]).name for split in ("train", "val") for row in _clips(run, split)}
    assert named == learnt
    edgeaudio("quantize", run, "--calibration-list", tmp_path / "list.csv")


def test_the_last_weights_are_kept_and_the_report_says_so(run: Path) -> None:
    job = load_job(run)
    assert job.all_clips
    assert {recipe.train.keep for recipe in (job.student, *job.teachers)} == {"last"}
    report = json.loads((run / "report.json").read_text())
    assert "--all-clips" in report["reproduce"]["command"]
    page = (run / "report.html").read_text()
    assert "val was learnt from too" in page
    assert "their curves say nothing about unheard sounds" in page
    assert "tells of overfitting" not in page


def test_a_device_of_validation_clips_is_a_seen_one(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    seen = {row["device"]: row["seen"] for row in report["test"]["per_device"]}
    assert seen == {"a": True, "b": True, "c": True, "d": False}


def test_the_bundle_scores_by_the_recipes_windows(run: Path) -> None:
    bundle = load(run / "bundle")
    rate = bundle.sample_rate
    assert bundle.hop_samples(None) == rate // 4
    sound = Path(_clips(run, "test")[0]["path"])
    dense, sparse = bundle.predict_file(sound), bundle.predict_file(sound, hop=0.5)
    assert len(dense.starts) == 2 * len(sparse.starts) - 1
    measured = json.loads(next(run.glob("stages/measure-*/result.json")).read_text())
    (row,) = [row for row in measured["clips"] if Path(row["path"]).name == sound.name]
    assert row["scores"] == pytest.approx(dense.scores.tolist(), abs=2e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "student.train.keep=average"], "--set student.train.keep=last"),
        (["--set", "teacher.train.patience=3"], "--set teacher.train.patience=0"),
        (["--set", "student.distill.fusion=learned"], "fusion = learned goes by validation clips"),
        (["--per-device"], "--per-device goes by validation clips"),
        (["--prune-to", "dcase2024"], "--prune-to goes by validation clips"),
        (["--set", "student.hop_seconds=3"], "sounds would go unheard"),
    ],
)
def test_what_goes_by_validation_clips_is_refused(
    words: list[str], said: str, scenes: Path, recipes: dict[str, Path], tmp_path: Path
) -> None:
    done = edgeaudio(
        "distill", scenes, "--student", recipes["student"], "--teacher", recipes["teacher"], "--all-clips",
        *words, "-o", tmp_path / "run", expect=2,
    )  # fmt: skip
    assert said in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (tmp_path / "run").exists()

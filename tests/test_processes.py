"""Two processes that train together, started as torchrun starts them, against one process alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import edgeaudio
from safetensors.torch import load_file

from edgeaudio.training.processes import rows_of


class _Fabric:
    """The two numbers that the rows depend on."""

    def __init__(self, rank: int, world: int) -> None:
        self.global_rank, self.world_size = rank, world


@pytest.mark.parametrize("total", [1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_rows_cover_a_batch_once(total: int, world: int) -> None:
    parts = [list(range(total))[rows_of(total, _Fabric(rank, world))] for rank in range(world)]  # type: ignore[arg-type]
    assert all(parts)
    if total >= world:
        assert [row for part in parts for row in part] == list(range(total))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def start_two(words: list[str], folder: Path) -> list[subprocess.CompletedProcess[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torchrun = {**shared, "TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "edgeaudio", *words],
            env={**os.environ, **torchrun, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    done = []
    for process in running:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return done


def history(run: Path, stage: str) -> list[dict[str, float]]:
    (folder,) = run.glob(f"stages/{stage}-*")
    rows: list[dict[str, float]] = json.loads((folder / "result.json").read_text())["history"]
    return rows


@pytest.fixture(scope="module")
def runs(
    scenes: Path, recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("together")
    words = [
        "distill", scenes, "--student", recipes["student"], "--teacher", recipes["teacher"], "--views", 2,
        "--set", "student.train.epochs=3", "--set", "teacher.train.epochs=2",
        "--json",
    ]  # fmt: skip
    for role in ("student", "teacher"):
        # the halves of every batch are then the very pieces that one process takes it in: equal batch norms;
        # and no Adam, which turns the rounding of a gradient of nearly zero into a whole step
        for setting in ("batch_size=30", "micro_batch=15", "optimizer=sgd", "learning_rate=0.05"):
            words += ["--set", f"{role}.train.{setting}"]
    edgeaudio(*words, "-o", folder / "one", env={**os.environ, "OMP_NUM_THREADS": "1"})
    first, second = start_two([*map(str, words), "-o", str(folder / "two")], folder)
    assert json.loads(first.stdout)["bundle"]
    assert second.stdout == ""
    return folder / "one", folder / "two"


@pytest.mark.parametrize("stage", ["teacher.1", "student"])
def test_two_processes_come_to_the_losses_of_one(runs: tuple[Path, Path], stage: str) -> None:
    one, two = (history(run, stage) for run in runs)
    assert len(one) == len(two)
    # the student's teacher differs by its batch norms' statistics: the order of the pieces counts in them
    tolerance = 1e-4 if stage == "teacher.1" else 0.05
    for mine, theirs in zip(one, two, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=tolerance)


def test_both_stored_the_views_and_one_shipped(runs: tuple[Path, Path]) -> None:
    (stored,) = runs[1].glob("stages/logits-*")
    assert sorted(path.name for path in stored.glob("*.safetensors")) == [
        "view-000.safetensors", "view-001.safetensors",
    ]  # fmt: skip
    assert (runs[1] / "bundle" / "bundle.json").is_file()
    assert (runs[1] / "report.html").is_file()


def test_weights_agree(runs: tuple[Path, Path]) -> None:
    one, two = (load_file(next(run.glob("stages/teacher.1-*")) / "model.safetensors") for run in runs)
    for key, value in one.items():
        if "running" not in key and value.is_floating_point():
            assert float((value - two[key]).abs().max()) < 1e-4 * (float(value.abs().max()) + 1), key

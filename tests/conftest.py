"""What several tests share: a private cache, a small data set, a bundle and one finished run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeaudio.cli import main

STUDENT = """
summary = "a small network for tests"
[model]
name = "cp_mobile"
base_channels = 8
channels_multiplier = 1.5
expansion_rate = 2.0
grn = false
[frontend]
preset = "bc_resnet"
[train]
epochs = {epochs}
learning_rate = 5e-3
warmup_epochs = 1
batch_size = 32
[augment]
roll_seconds = 0.05
"""
TEACHER = """
[model]
name = "cp_resnet"
rho = 5
base_channels = 8
cut_channels_s3 = 0
[frontend]
preset = "bc_resnet"
[train]
epochs = {epochs}
learning_rate = 5e-3
warmup_epochs = 1
batch_size = 32
"""


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every test, and every process it starts, keeps its caches in a folder that goes away."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["EDGEAUDIO_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in scenes, in a small edition."""
    from edgeaudio.data import synth

    folder = tmp_path_factory.mktemp("data") / "scenes"
    return synth.write(
        folder, clips_per_class=9, val_clips_per_class=3, test_clips_per_class_per_device=2
    ).parent


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recipes that train in seconds."""
    folder = tmp_path_factory.mktemp("recipes")
    paths = {"student": folder / "small_student.toml", "teacher": folder / "small_teacher.toml"}
    paths["student"].write_text(STUDENT.format(epochs=12))
    paths["teacher"].write_text(TEACHER.format(epochs=10))
    return paths


def edgeaudio(*arguments: object, expect: int = 0, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeaudio", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, **kwargs,  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def here(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has loaded torch already: for what needs no process of its own."""
    out, err = io.StringIO(), io.StringIO()
    words, before = ["edgeaudio", *map(str, arguments)], sys.argv
    code: object = 0
    try:
        sys.argv = words
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    assert code == expect, f"exit {code}\n{out.getvalue()}\n{err.getvalue()}"
    return subprocess.CompletedProcess(words, expect, out.getvalue(), err.getvalue())


def distill_arguments(scenes: Path, recipes: dict[str, Path], output: Path) -> list[str]:
    """The main job on the small scenes."""
    words = ["distill", scenes, "--student", recipes["student"], "--teacher", recipes["teacher"]]
    return [*map(str, words), "--set", "student.distill.temperature=3.0", "-o", str(output), "--json"]


@pytest.fixture(scope="session")
def finished(
    scenes: Path, recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    """A run of the main job from beginning to end, and its JSON answer."""
    output = tmp_path_factory.mktemp("runs") / "finished"
    done = edgeaudio(*distill_arguments(scenes, recipes, output))
    return output, json.loads(done.stdout)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of an untrained network."""
    from make_bundle import make_bundle

    return make_bundle(tmp_path_factory.mktemp("bundles") / "untrained").folder

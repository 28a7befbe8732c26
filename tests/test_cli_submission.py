"""`edgeaudio export --package`, in a process of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import here as edgeaudio


@pytest.fixture
def clips(scenes: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for sound in sorted(scenes.rglob("*.wav"))[:3]:
        shutil.copy(sound, folder)
    return folder


def test_a_submission_is_written(
    finished: tuple[Path, dict[str, object]], clips: Path, tmp_path: Path
) -> None:
    words = ["export", finished[0], "--package", "dcase2024", "--evaluation", clips]
    told = json.loads(edgeaudio(*words, "-o", tmp_path / "submission", "--json").stdout)
    rows = Path(told["output"]).read_text().splitlines()
    assert rows[0].startswith("filename\tscene_label\t")
    assert len(rows) == 1 + told["clips"] == 4
    assert Path(told["archive"]).is_file()
    assert "already" in edgeaudio(*words, "-o", tmp_path / "submission", expect=2).stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--package", "dcase2024"], "name them with --evaluation"),
        (["--package", "dcase2023", "--evaluation", "."], "dcase2023"),
    ],
)
def test_wrong_use_is_one_sentence(
    finished: tuple[Path, dict[str, object]], words: list[str], sentence: str, tmp_path: Path
) -> None:
    done = edgeaudio("export", finished[0], *words, "-o", tmp_path / "submission", expect=2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr

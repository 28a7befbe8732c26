"""Calibration: as many windows of each class, of training clips only, on a list that can be read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data import readers, splits, waveforms
from edgeaudio.data.clips import Clips
from edgeaudio.data.synth import render
from edgeaudio.errors import DataError
from edgeaudio.training.calibration import (
    calibration_table,
    draw_calibration,
    listed_calibration,
)
from edgeaudio.training.windows import WindowSet

RATE = 16000
CLIPS = {"bell": 12, "rain": 5, "sawing": 5}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clips, WindowSet]:
    """Three classes, one of them with far more windows than the others."""
    folder = tmp_path_factory.mktemp("sounds")
    for label, count in CLIPS.items():
        (folder / label).mkdir()
        for i in range(count):
            soundfile.write(folder / label / f"{i}.wav", render(label, "a", i, RATE), RATE)
    clips, waves = waveforms.prepare(readers.read(folder), RATE)
    clips = splits.split(clips, 0, None)
    train = clips.split_indices("train")
    return clips, WindowSet(waves, train, clips.targets, RATE // 2, RATE // 8)


def test_each_class_has_as_many_windows(table: tuple[Clips, WindowSet]) -> None:
    _, train = table
    index = draw_calibration(train, 12, seed=0)
    labels = train.targets.numpy()[train.grid.clip[index]]
    assert np.bincount(labels).tolist() == [4, 4, 4]
    assert len(set(index.tolist())) == 12
    assert np.array_equal(index, draw_calibration(train, 12, seed=0))
    assert not np.array_equal(index, draw_calibration(train, 12, seed=1))
    everything = draw_calibration(train, 10**6, seed=0)
    assert np.array_equal(everything, np.arange(len(train)))
    with pytest.raises(DataError, match="never made up"):
        draw_calibration(train, 0, seed=0)


def test_a_list_is_read_back_and_another_draw_gives_another_list(
    table: tuple[Clips, WindowSet], tmp_path: Path
) -> None:
    clips, train = table
    text = calibration_table(draw_calibration(train, 9, seed=0), clips, train)
    assert text.splitlines()[0] == "path,start,label"
    assert len(text.splitlines()) == 10
    (tmp_path / "list.csv").write_text(text)
    index = listed_calibration(tmp_path / "list.csv", clips, train)
    named = {row.split(",")[0] for row in text.splitlines()[1:]}
    assert {clips.name_of(clips[train.positions[train.grid.clip[i]]]) for i in index} == named
    other = calibration_table(draw_calibration(train, 9, seed=1), clips, train)
    assert text != other


@pytest.mark.parametrize("split", ["test", "val"])
def test_clips_that_are_tested_on_are_refused(
    table: tuple[Clips, WindowSet], tmp_path: Path, split: str
) -> None:
    clips, train = table
    name = clips.name_of(clips[clips.split_indices(split)[0]])
    (tmp_path / "list.csv").write_text(f"path\n{name}\n")
    with pytest.raises(DataError, match=f"a {split} clip; .* name training clips only"):
        listed_calibration(tmp_path / "list.csv", clips, train)


@pytest.mark.parametrize(
    ("text", "words"),
    [("path\n", "names no clip"), ("clip\nx\n", "needs a column path"), ("path\nx.wav\n", "not among")],
)
def test_a_list_that_is_no_list(
    table: tuple[Clips, WindowSet], tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        listed_calibration(tmp_path / "list.csv", *table)

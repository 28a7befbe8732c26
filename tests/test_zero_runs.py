"""Digital silence is filled, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data import readers, waveforms
from edgeaudio.data.zero_runs import LEVEL, FilledWaveforms, fill, silent


def padded() -> np.ndarray:
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 3000).astype(np.float32)
    sound[1000:2000] = 0
    sound[2500] = 0  # a zero crossing
    return sound


def test_only_runs_of_zeros_change() -> None:
    sound = padded()
    filled = fill(sound, 16000, 1)
    assert np.array_equal(filled[:1000], sound[:1000])
    assert np.array_equal(filled[2000:], sound[2000:])
    assert filled[1000:2000].std() == pytest.approx(LEVEL, rel=0.1)
    assert np.array_equal(filled, fill(sound, 16000, 1))
    assert not np.array_equal(filled, fill(sound, 16000, 2))


def test_a_sound_without_silence_is_itself() -> None:
    sound = padded()[:1000]
    assert fill(sound, 16000, 0) is sound
    assert silent(np.zeros(5, np.float32), 6).sum() == 0
    assert silent(np.zeros(6, np.float32), 6).all()


def test_a_table_tells_what_it_changes(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        soundfile.write(tmp_path / label / "padded.wav", padded(), 16000)
        soundfile.write(tmp_path / label / "whole.wav", padded()[:1000], 16000)
    clips = readers.read(tmp_path)
    _, waves = waveforms.prepare(clips, 16000)
    filled = FilledWaveforms(waves)
    assert [clips[i].path.name for i in filled.affected] == ["padded.wav", "padded.wav"]
    assert len(filled) == 4
    assert (filled[0] == 0).sum() < 3 < (waves[0] == 0).sum()

"""Many files: in order, side by side as one after the other, and bad ones hold up nothing."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data.synth import SCENES, render
from edgeaudio.errors import AudioError, EdgeAudioError
from edgeaudio.predictor import Prediction, Predictor, load
from edgeaudio.recordings import AHEAD, Wish, predict_files


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A long file first, so that the others are done before it; a bad one in the middle."""
    folder = tmp_path_factory.mktemp("sounds")
    for i in range(8):
        seconds = 60 if i == 0 else 1.0 + 0.3 * i
        soundfile.write(folder / f"{i}.wav", render(SCENES[i], "a", 1, 16000, seconds), 16000)
    (folder / "4.wav").write_text("no sound")
    return sorted(folder.iterdir())


def test_workers_give_what_one_gives_in_order(untrained: Path, sounds: list[Path]) -> None:
    opener = partial(load, untrained)
    alone = list(predict_files(opener, sounds, Wish(hop=0.7)))
    shared = list(predict_files(opener, sounds, Wish(hop=0.7), workers=2))
    assert [path for path, _ in alone] == [path for path, _ in shared] == sounds
    for (path, one), (_, other) in zip(alone, shared, strict=True):
        if path.name == "4.wav":
            assert isinstance(one, AudioError)
            assert isinstance(other, AudioError)
            assert str(one) == str(other)
            assert "4.wav can't be read as sound" in str(one)
        else:
            assert isinstance(one, Prediction)
            assert isinstance(other, Prediction)
            np.testing.assert_array_equal(one.window_scores, other.window_scores)
            np.testing.assert_array_equal(one.scores, other.scores)


def test_windows_are_left_out_where_nobody_wants_them(untrained: Path, sounds: list[Path]) -> None:
    opener = partial(load, untrained)
    ((_, lean),) = predict_files(opener, sounds[1:2], Wish(with_windows=False))
    ((_, full),) = predict_files(opener, sounds[1:2], Wish())
    assert isinstance(lean, Prediction)
    assert isinstance(full, Prediction)
    np.testing.assert_array_equal(lean.scores, full.scores)
    assert len(lean.window_scores) == len(lean.starts) == 0 < len(full.starts)


def test_files_are_taken_up_as_answers_are_fetched(untrained: Path, sounds: list[Path]) -> None:
    taken: list[Path] = []

    def endless() -> list[Path]:
        while True:
            taken.append(sounds[1])
            yield sounds[1]

    answers = predict_files(partial(load, untrained), endless(), Wish(with_windows=False), workers=2)
    for count in range(1, 4):
        next(answers)
        assert len(taken) == 2 * AHEAD + count
    answers.close()


def killed() -> Predictor:
    """Stands for a worker that the system kills for its memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_worker_is_named(sounds: list[Path]) -> None:
    with pytest.raises(EdgeAudioError, match="a worker was killed, perhaps for want of memory; use fewer"):
        list(predict_files(killed, sounds, Wish(), workers=2))


def test_progress_counts_files_and_shares_of_them(
    untrained: Path, sounds: list[Path], tmp_path: Path
) -> None:
    told: list[float] = []
    opener = partial(load, untrained)
    seen = [len(told) for _ in predict_files(opener, sounds[:1], Wish(hop=1.0), progress=told.append)]
    assert told == pytest.approx([*np.arange(1, 61) / 60, 1])
    assert seen == [61], "all of a file's shares come before its answer"
    told.clear()
    list(predict_files(opener, sounds[3:6], Wish(hop=1.0), progress=told.append))
    assert told == sorted(told)
    assert {1, 2, 3} <= set(told)
    assert not [done for done in told if 1 < done < 2], "4.wav can't be read"
    told.clear()
    list(predict_files(opener, sounds, Wish(), workers=2, progress=told.append))
    assert told == list(range(1, 9))

"""The waveform cache: decoded once, mapped, keyed by content, whole or not there."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.audio import load_mono
from edgeaudio.console import Console
from edgeaudio.data import waveforms
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.waveforms import cache_folder, prepare
from edgeaudio.errors import AudioError

RATE = 16000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEAUDIO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "waveforms"


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    """Three whole files of different rate and length, and a stretch of the last."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "set"
    folder.mkdir()
    for i, rate in enumerate((8000, 16000, 44100)):
        wave = 0.1 * rng.standard_normal((rate // (i + 1), 1 + i % 2))
        soundfile.write(folder / f"{i}.wav", wave, rate, subtype="PCM_24")
    items = [Clip(folder / f"{i}.wav", "ab"[i % 2]) for i in range(3)]
    return Clips(folder, (*items, Clip(folder / "2.wav", "b", start=0.1, duration=0.05)))


def breaking(clips: Clips) -> Clips:
    """The table with a text file that calls itself sound put first."""
    (clips.root / "bad.wav").write_text("no sound")
    return replace(clips, items=(Clip(clips.root / "bad.wav", "a"), *clips.items))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def test_cache_holds_what_decoding_gives(clips: Clips) -> None:
    kept, waves = prepare(clips, RATE)
    assert kept == clips
    assert (len(waves), waves.sample_rate) == (4, RATE)
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(waves[i], load_mono(clip.path, RATE, clip.start, clip.duration))
        base = waves[i]
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap)
        assert not waves[i].flags.writeable
    assert [s.rate for s in waves.stats] == [8000, 16000, 44100, 44100]
    assert [s.seconds for s in waves.stats] == pytest.approx([1, 0.5, 1 / 3, 0.05], abs=1e-4)
    assert waves.stats[2].sha256 == waves.stats[3].sha256 != waves.stats[1].sha256


def test_statistics_are_those_of_the_waveform(tmp_path: Path) -> None:
    wave = np.zeros(1000, np.float32)
    wave[:100], wave[100:130] = 0.5, -1.5
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    _, waves = prepare(Clips(tmp_path, (Clip(tmp_path / "a.wav", "x"),)), RATE)
    stats = waves.stats[0]
    assert (stats.peak, stats.zero_share, stats.clipped_share) == pytest.approx((1.5, 0.87, 0.03))
    assert stats.rms == pytest.approx(np.sqrt((100 * 0.25 + 30 * 2.25) / 1000))


def test_second_call_touches_nothing(clips: Clips, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = prepare(clips, RATE)
    before = snapshot(cache)

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(waveforms, "decode", refuse)
    _, second = prepare(clips, RATE)
    assert snapshot(cache) == before
    assert second.key == first.key
    np.testing.assert_array_equal(second[2], first[2])


def test_moved_folder_has_the_same_key(clips: Clips, tmp_path: Path, cache: Path) -> None:
    _, first = prepare(clips, RATE)
    shutil.move(clips.root, tmp_path / "moved")
    items = tuple(replace(clip, path=tmp_path / "moved" / clip.path.name) for clip in clips)
    _, second = prepare(Clips(tmp_path / "moved", items), RATE)
    assert second.key == first.key
    assert len(list(cache.iterdir())) == 1


def test_changed_content_rate_or_stretch_has_another_key(clips: Clips) -> None:
    keys = [prepare(clips, RATE)[1].key, prepare(clips, 8000)[1].key]
    shorter = replace(clips, items=(*clips.items[:3], replace(clips[3], duration=0.04)))
    keys.append(prepare(shorter, RATE)[1].key)
    wave, rate = soundfile.read(clips[0].path)
    times = clips[0].path.stat()
    soundfile.write(clips[0].path, -wave, rate, subtype="PCM_24")
    os.utime(clips[0].path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same length, same time
    changed = prepare(clips, RATE)[1]
    keys.append(changed.key)
    assert len(set(keys)) == 4
    np.testing.assert_array_equal(changed[0], load_mono(clips[0].path, RATE))


def test_bad_clip_is_named_and_nothing_partial_stays(clips: Clips, cache: Path) -> None:
    broken = breaking(clips)
    for _ in range(2):  # decoding, then from the cache
        with pytest.raises(AudioError, match=r"bad\.wav can't be read as sound .*; mend or remove it"):
            prepare(broken, RATE)
    twice = replace(broken, items=(*broken.items, replace(broken[0], path=clips.root / "gone.wav")))
    with pytest.raises(AudioError, match=r"bad\.wav .*, and 1 more like it; .*--skip-bad"):
        prepare(twice, RATE)
    assert not list(cache.glob("*.partial"))


def test_skip_bad_keeps_the_rest_in_order(clips: Clips, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # decoding, then from the cache
        kept, waves = prepare(breaking(clips), RATE, Console(quiet=True), skip_bad=True)
        assert kept.items == clips.items
        assert len(waves) == len(kept)
        for i, clip in enumerate(kept):
            np.testing.assert_array_equal(waves[i], load_mono(clip.path, RATE, clip.start, clip.duration))
        assert capsys.readouterr().err.count("skipped: ") == 1


def test_none_readable_is_refused_even_with_skip_bad(clips: Clips, cache: Path) -> None:
    broken = breaking(clips).take([0])
    for _ in range(2):
        with pytest.raises(AudioError, match="none of the 1 clips can be read"):
            prepare(broken, RATE, skip_bad=True)
    assert not list(cache.iterdir())


def test_interrupted_decoding_leaves_no_cache(
    clips: Clips, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(waveforms, "resample", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(clips, RATE)
    assert not list(cache.iterdir())
    assert len(prepare(clips, RATE)[1]) == 4


def test_more_clips_than_a_block_stay_in_order(tmp_path: Path) -> None:
    items = []
    for i in range(150):
        soundfile.write(tmp_path / f"{i}.wav", np.full(10 + i, (i + 1) / 200), RATE, subtype="FLOAT")
        items.append(Clip(tmp_path / f"{i}.wav", "x"))
    _, waves = prepare(Clips(tmp_path, tuple(items)), RATE)
    assert [len(waves[i]) for i in range(150)] == [10 + i for i in range(150)]
    assert [float(waves[i][0]) for i in range(150)] == pytest.approx([(i + 1) / 200 for i in range(150)])


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("EDGEAUDIO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "edgeaudio"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "edgeaudio"

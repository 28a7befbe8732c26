"""Sound files in, windows out: odd and broken files, resampling, and windows that miss nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from edgeaudio.audio import (
    Cutter,
    Resampler,
    as_floats,
    audible,
    cut,
    cut_windows,
    decode,
    find_files,
    load_mono,
    read_blocks,
    resample,
    window_power,
    window_starts,
)
from edgeaudio.errors import AudioError


def power_of(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power of windows that lie side by side."""
    count, size = windows.shape
    return window_power(windows.reshape(-1), np.arange(count) * size, size)


ODD = Path(__file__).parents[1] / ".." / "shared" / "data" / "odd-inputs"
Wave = NDArray[np.float32]


def tone(hz: float, rate: int, seconds: float = 1.0, level: float = 0.5) -> Wave:
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


# --- files of others ------------------------------------------------------------------------------------


def odd_files() -> list[dict[str, str]]:
    table = ODD / "odd_inputs.csv"
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(not odd_files(), reason="the odd inputs are not here")
@pytest.mark.parametrize("row", odd_files(), ids=lambda row: row["file"])
def test_odd_file_is_read_or_refused(row: dict[str, str]) -> None:
    path = ODD / row["file"]
    if row["error"] or row["decoded_frames"] == "0":
        with pytest.raises(AudioError, match=row["file"]):
            decode(path)
        return
    waveform, rate = decode(path)
    assert (len(waveform), rate) == (int(row["decoded_frames"]), int(row["rate"]))
    assert np.isfinite(waveform).all()
    # the peak was recorded before the channels were mixed
    assert np.abs(waveform).max() <= float(row["peak"]) + 1e-6
    if row["channels"] == "1":
        assert np.abs(waveform).max() == pytest.approx(float(row["peak"]), rel=1e-3)


# --- our own odd files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
def test_wav_of_every_depth_keeps_the_wave(tmp_path: Path, subtype: str) -> None:
    wave = tone(440, 8000, 0.1)
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype=subtype)
    decoded, rate = decode(tmp_path / "a.wav")
    assert rate == 8000
    assert np.abs(decoded - wave).max() < (0.02 if subtype in ("PCM_U8", "ULAW", "ALAW") else 1e-4)


@pytest.mark.parametrize("ending", ["flac", "ogg", "opus", "mp3", "aiff", "au", "w64", "caf"])
def test_every_format_that_is_looked_for_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    options = {"format": "OGG", "subtype": "OPUS"} if ending == "opus" else {}
    if options.get("format", ending).upper() not in soundfile.available_formats():
        pytest.skip(f"this libsndfile doesn't write {ending}")
    soundfile.write(path, tone(440, 48000, 0.5), 48000, **options)
    decoded, rate = decode(path)
    assert rate == 48000
    assert len(decoded) == pytest.approx(24000, abs=2400)  # coders may pad to whole blocks
    middle = decoded[8000:16000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) == round(440 * len(middle) / 48000)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert find_files(tmp_path) == [path]


def test_stereo_is_mixed_to_its_mean(tmp_path: Path) -> None:
    left, right = tone(440, 8000), tone(1000, 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav")[0], (left + right) / 2, atol=1e-7)


def test_stretch_is_cut_in_seconds(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 8000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", ramp, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(decode(tmp_path / "a.wav", 0.25, 0.5)[0], ramp[2000:6000])
    np.testing.assert_array_equal(decode(tmp_path / "a.wav", 0.75)[0], ramp[6000:])
    np.testing.assert_array_equal(decode(tmp_path / "a.wav", 0.75, 9.0)[0], ramp[6000:])


def write_broken(path: Path) -> None:
    silence = np.zeros(100, np.float32)
    if path.name == "empty.wav":
        soundfile.write(path, silence[:0], 8000)
    elif path.name == "text.wav":
        path.write_text("../somewhere/else.wav")
    elif path.name == "nothing.wav":
        path.write_bytes(b"")
    elif path.name in ("nan.wav", "inf.wav"):
        silence[50] = float(path.stem)
        soundfile.write(path, silence, 8000, subtype="FLOAT")
    elif path.name == "folder.wav":
        path.mkdir()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.wav", "holds no samples"),
        ("text.wav", "can't be read as sound"),
        ("nothing.wav", "can't be read as sound"),
        ("folder.wav", "can't be read as sound"),
        ("nan.wav", "NaN or infinite"),
        ("inf.wav", "NaN or infinite"),
        ("missing.wav", "no such file"),
    ],
)
def test_broken_file_is_named_and_explained(tmp_path: Path, name: str, reason: str) -> None:
    write_broken(tmp_path / name)
    with pytest.raises(AudioError, match=rf"{name}.*{reason}"):
        decode(tmp_path / name)


def test_stretch_after_the_end_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 8000), 8000)
    with pytest.raises(AudioError, match=r"a\.wav holds no samples after 2 s"):
        decode(tmp_path / "a.wav", start=2)


def test_five_samples_survive_every_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(5, 0.5), 44100)
    for rate in (8000, 44100, 192000):
        assert len(load_mono(tmp_path / "a.wav", rate)) == max(1, round(5 * rate / 44100))


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b.WAV", "deep/a.flac", ".hidden.wav", ".cache/c.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path) == [tmp_path / "b.WAV", tmp_path / "deep/a.flac"]


# --- resampling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "target"), [(44100, 32000), (48000, 16000), (8000, 32000), (22050, 44100)])
def test_resampled_tone_is_the_same_tone(rate: int, target: int) -> None:
    resampled = resample(tone(1000, rate), rate, target)
    assert resampled.dtype == np.float32
    assert len(resampled) == target
    inner = slice(target // 10, -target // 10)  # the filter rings at the ends
    error = resampled[inner] - tone(1000, target)[inner]
    assert np.sqrt(np.mean(error**2)) < 1e-4 * 0.5


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    aliased = resample(tone(12000, 44100), 44100, 16000)
    assert np.abs(aliased[1600:-1600]).max() < 1e-3 * 0.5


def test_same_rate_is_untouched() -> None:
    wave = tone(440, 8000)
    assert resample(wave, 8000, 8000) is wave


# --- windows --------------------------------------------------------------------------------------------


def test_windows_cover_every_sample_and_no_window_is_idle() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        samples, window = (int(n) for n in rng.integers(1, 200, 2))
        hop = int(rng.integers(1, window + 1))
        wave = np.arange(1, samples + 1, dtype=np.float32)
        starts = window_starts(samples, window, hop)
        windows = cut_windows(wave, starts, window)
        assert windows.shape == (len(starts), window)
        assert set(wave) == set(windows.ravel()) - {0.0}
        for start, heard in zip(starts, windows, strict=True):
            np.testing.assert_array_equal(heard[heard > 0], wave[start : start + window])
        # the window before the last one did not reach the end
        assert len(starts) == 1 or starts[-2] + window < samples


def test_window_grid_of_one_second() -> None:
    assert window_starts(32000, 32000, 16000).tolist() == [0]
    assert window_starts(32001, 32000, 16000).tolist() == [0, 16000]
    assert window_starts(1, 32000, 16000).tolist() == [0]


def test_only_windows_within_60_db_of_the_loudest_vote() -> None:
    loud = tone(500, 8000, 0.1)
    windows = np.stack([loud, loud * 10 ** (-59.9 / 20), loud * 10 ** (-60.1 / 20), 0 * loud])
    assert audible(power_of(windows)).tolist() == [True, True, False, False]
    assert audible(power_of(windows[::-1] * np.float32(1e-4))).tolist() == [False, False, True, True]


def test_silent_clip_keeps_all_its_windows() -> None:
    assert audible(np.zeros(3)).all()


def test_power_of_overlapping_windows_by_hand() -> None:
    waveform = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    starts = window_starts(len(waveform), 64, 16)  # more windows than are held at a time
    padded = np.concatenate([waveform, np.zeros(64, np.float32)]).astype(np.float64)
    by_hand = [np.sum(padded[s : s + 64] ** 2) for s in starts]
    np.testing.assert_allclose(window_power(waveform, starts, 64), by_hand, rtol=1e-6)


# --- block by block -------------------------------------------------------------------------------------


def in_pieces(wave: Wave, rng: np.random.Generator, longest: int) -> Iterator[Wave]:
    """Pieces of random lengths, some of them empty."""
    at = 0
    while at < len(wave):
        size = int(rng.integers(0, longest))
        yield wave[at : at + size]
        at += size


def test_windows_do_not_depend_on_where_blocks_end() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        samples, window, hop = (int(n) for n in rng.integers(1, 200, 3))
        wave = rng.normal(size=samples).astype(np.float32)
        starts = window_starts(samples, window, hop)
        whole = np.concatenate([wave, np.zeros(window, np.float32)])
        cutter = Cutter(window, hop)
        for _ in range(2):  # after a flush it begins anew
            found = [w for piece in in_pieces(wave, rng, 2 * window + 2) for w in cutter.feed(piece)]
            assert all(w.heard == window for w in found)
            found += cutter.flush()
            assert [w.start for w in found] == starts.tolist()
            for w in found:
                np.testing.assert_array_equal(w.samples, whole[w.start : w.start + window])
                assert w.heard == min(window, samples - w.start)
        if hop <= window:
            np.testing.assert_array_equal(
                np.stack([w.samples for w in cut([wave], window, hop)]), cut_windows(wave, starts, window)
            )


def test_long_hops_leave_gaps_but_begin_no_window_past_the_end() -> None:
    assert window_starts(100, 10, 40).tolist() == [0, 40, 80]
    assert window_starts(80, 10, 40).tolist() == [0, 40]
    assert window_starts(81, 10, 40).tolist() == [0, 40, 80]
    assert window_starts(100, 10, 1000).tolist() == [0]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_blocks_of_a_file_are_the_file(tmp_path: Path, ending: str, channels: int) -> None:
    if ending == "mp3" and channels > 2:
        pytest.skip("MP3 has two channels at most")
    wave = np.stack([tone(300 * (i + 1), 16000, 9.4) for i in range(channels)], axis=1)
    soundfile.write(tmp_path / f"a.{ending}", wave, 16000)
    whole, rate = soundfile.read(tmp_path / f"a.{ending}", dtype="float32", always_2d=True)
    blocks = list(read_blocks(tmp_path / f"a.{ending}"))
    assert len(blocks) > 2
    assert {r for _, r in blocks} == {rate}
    expected = whole[:, 0] if channels == 1 else whole.mean(axis=1, dtype=np.float32)
    together = np.concatenate([block for block, _ in blocks])
    # libsndfile's MP3 decoder gives other last bits after a seek, and soundfile.read begins with one
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-6 if ending == "mp3" else 0)
    np.testing.assert_array_equal(decode(tmp_path / f"a.{ending}")[0], together)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3"])
def test_a_stretch_is_the_same_stretch_of_the_whole(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    options = {"format": "OGG", "subtype": "OPUS"} if ending == "opus" else {}
    soundfile.write(path, tone(300, 16000, 9.4), 16000, **options)
    whole, rate = decode(path)
    for start, duration in ((0.5, 1.0), (4.1, 5.2), (7.0, None)):
        first = round(start * rate)
        end = None if duration is None else first + round(duration * rate)
        # Opus needs a while after a seek until its predictions agree again
        tolerance = 0.02 if ending == "opus" else 0
        np.testing.assert_allclose(decode(path, start, duration)[0], whole[first:end], rtol=0, atol=tolerance)


def test_nan_in_a_late_block_is_found(tmp_path: Path) -> None:
    wave = np.zeros(200_000, np.float32)
    wave[190_000] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav holds NaN"):
        load_mono(tmp_path / "a.wav", 8000)


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (48000, 32000), (8000, 32000), (44056, 32000)])
def test_resampling_does_not_depend_on_where_blocks_end(rate: int, target: int) -> None:
    rng = np.random.default_rng(rate)
    resampler = Resampler(rate, target)
    for samples in (1, 5, 1000, 3 * rate + 7):
        wave = rng.normal(0, 0.1, samples).astype(np.float32)
        parts = [resampler.feed(piece) for piece in in_pieces(wave, rng, samples // 5 + 2)]
        together = np.concatenate([*parts, resampler.flush()])
        in_one = soxr.resample(wave, rate, target, quality="HQ")
        np.testing.assert_array_equal(together, in_one if len(in_one) else wave[:1])
        np.testing.assert_array_equal(together, resample(wave, rate, target))


def test_rates_that_cannot_be() -> None:
    for rate in (0, -16000):
        with pytest.raises(AudioError, match="must be positive"):
            Resampler(rate, 16000)


def test_samples_of_every_type_become_floats() -> None:
    for kind in (np.int8, np.int16, np.int32):
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        np.testing.assert_allclose(as_floats(np.array([low, 0, high], kind)), [-1, 0, 1], atol=0.01)
    assert as_floats(np.array([0.25], np.float64)).dtype == np.float32
    with pytest.raises(AudioError, match="block has the type uint16"):
        as_floats(np.zeros(3, np.uint16), "block")
    with pytest.raises(AudioError, match="block holds NaN"):
        as_floats(np.array([1, np.inf]), "block")

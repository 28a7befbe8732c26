"""Spectrogram sets: auDeep's recorded numbers, a second computation by np.fft, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import xarray
from typer.testing import CliRunner

from edgeaudio.cli import app
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.errors import AudioError, DataError, RecipeError
from edgeaudio.features.featureset import MISSING, UNASSIGNED
from edgeaudio.features.sets import of_clip, spectrogram_set
from edgeaudio.features.sounds import of_length, one_channel
from edgeaudio.features.spectrograms import (
    SpectrogramSettings,
    decibels,
    mel_bank,
    power_spectrum,
    scaled,
    spectrogram,
)

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "audeep_spectrograms.json").read_text())
ESC10 = Path(__file__).parents[1] / ".." / "shared" / "data" / "esc10"


def sound(rate: int, seconds: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The sound of the fixture: a rising tone left, two beating tones right, a gap in both."""
    t = np.arange(int(rate * seconds)) / rate
    left = 0.5 * np.sin(2 * np.pi * (200 * t + 900 * t**2))
    right = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * 455 * t)
    both = np.stack([left, right], 1)
    both[int(0.4 * rate) : int(0.5 * rate)] = 0
    return both


def written(path: Path, rate: int = 8000, seconds: float = 1.0, scale: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, scale * sound(rate, seconds), rate, subtype="PCM_16")
    return path


def tree(folder: Path, seconds: float = 1.0) -> Path:
    """Two folds of two classes with two sounds each."""
    for fold in (1, 2):
        for name in ("dog", "rain"):
            for k in range(2):
                written(folder / f"fold_{fold}" / name / f"{k}.wav", seconds=seconds, scale=1 / (1 + k))
    return folder


def run(*arguments: object, expect: int = 0) -> str:
    result = CliRunner().invoke(app, ["features", *map(str, arguments)])
    assert result.exit_code == expect, result.output or result.exception
    return result.output


# ── numerics ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", FIXTURE["made"], ids=lambda case: case["settings"]["channels"])
def test_audeep_gives_these_numbers(case: dict[str, Any], tmp_path: Path) -> None:
    wanted = dict(case["settings"])
    rate = wanted.pop("rate")
    path = written(tmp_path / "g.wav", rate, wanted.pop("seconds"))
    found, found_rate = of_clip(Clip(path, ""), SpectrogramSettings(**wanted), "g.wav")
    assert found_rate == rate
    assert [len(found.chunks), *found.chunks[0].shape] == case["shape"]
    assert [chunk.mean() for chunk in found.chunks] == pytest.approx(case["mean"], abs=1e-7)
    assert (found.frequencies[0], found.frequencies[-1]) == pytest.approx((case["first_hz"], case["last_hz"]))
    assert found.times[-1] == pytest.approx(case["last_time"])
    for chunk, time, band, value in case["values"]:
        assert found.chunks[chunk][time, band] == pytest.approx(value, abs=1e-7)


@pytest.mark.skipif(not ESC10.is_dir(), reason="the ESC-10 clips are not beside the checkout")
@pytest.mark.parametrize("case", FIXTURE["esc10"], ids=lambda case: case["file"])
def test_audeep_gives_these_numbers_of_esc10(case: dict[str, Any]) -> None:
    settings = SpectrogramSettings(0.08, 0.04, 128, 5.0, True, clip_below=-60)
    found, _ = of_clip(Clip(ESC10 / "audio" / case["file"], ""), settings, "")
    (chunk,) = found.chunks
    assert list(chunk.shape) == case["shape"]
    # decoders of Vorbis differ in the last bits of a float32
    assert chunk.mean() == pytest.approx(case["mean"], abs=1e-5)
    for time, band, value in case["values"]:
        assert chunk[time, band] == pytest.approx(value, abs=1e-4)


def test_a_second_computation_agrees() -> None:
    """Loops and np.fft, written from the description alone."""
    rate, width, overlap, bands = 8000, 320, 160, 24
    samples = np.random.default_rng(0).standard_normal(rate)
    settings = SpectrogramSettings(mel=bands, clip_below=-40, clip_above=-3)
    found = spectrogram(samples, rate, settings, "").chunks[0]

    emphasised = [samples[0]] + [samples[n] - 0.95 * samples[n - 1] for n in range(1, rate)]
    hann = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / width) for n in range(width)])
    power = []
    for start in range(0, rate - width + 1, width - overlap):
        frame = np.array(emphasised[start : start + width])
        magnitude = np.abs(np.fft.rfft((frame - frame.mean()) * hann)) / np.sqrt(rate * (hann**2).sum())
        power.append(magnitude**2 / width)
    top = 2595 * np.log10(1 + 4000 / 700)
    edges = [
        int((width + 1) * 700 * (10 ** (top * i / (bands + 1) / 2595) - 1) / rate) for i in range(bands + 2)
    ]
    mels = np.zeros((len(power), bands))
    for m in range(bands):
        low, middle, high = edges[m : m + 3]
        for k in range(low, high):
            weight = (k - low) / (middle - low) if k < middle else (high - k) / (high - middle)
            mels[:, m] += weight * np.array(power)[:, k]
    levels = np.clip(10 * np.log10(mels / mels.max()), -40, -3)
    expected = 2 * (levels - levels.min()) / (levels.max() - levels.min()) - 1
    assert found.shape == (49, bands)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_known_sizes() -> None:
    samples = np.random.default_rng(1).standard_normal(5 * 44100)
    frequencies, _, power = power_spectrum(samples, 44100, 3528, 1764)
    assert power.shape == (1765, 124)
    assert frequencies[-1] == 22050
    _, bank = mel_bank(44100, 3528, 128)
    assert bank.shape == (128, 1765)
    assert (bank.sum(axis=1) > 0).all()


def test_a_tone_is_loudest_at_its_frequency() -> None:
    t = np.arange(16000) / 16000
    found = spectrogram(np.sin(2 * np.pi * 3000 * t), 16000, SpectrogramSettings(scaled=False), "")
    loudest = found.frequencies[found.chunks[0].argmax(axis=1)]
    assert (loudest == 3000).all()
    assert found.chunks[0].max() == 0  # dB under itself


@pytest.mark.parametrize(
    ("rate", "width", "overlap", "seconds", "by_itself", "fixed"),
    [
        (8000, 0.0333, 0.0111, 0.9, 39, 40),
        (8000, 0.0251, 0.01, 1.0, 66, 65),
        (11025, 0.04, 0.02, 1.0, 48, 49),
    ],
)
def test_the_overlap_moves_by_a_sample_where_rounding_changes_the_frames(
    rate: int, width: float, overlap: float, seconds: float, by_itself: int, fixed: int
) -> None:
    samples = np.random.default_rng(2).standard_normal(int(rate * seconds))
    free = spectrogram(samples, rate, SpectrogramSettings(width, overlap), "")
    held = spectrogram(samples, rate, SpectrogramSettings(width, overlap, fixed_length=seconds), "")
    assert len(free.chunks[0]) == by_itself
    assert len(held.chunks[0]) == fixed == int((seconds - overlap) / (width - overlap))


def test_zeros_are_lifted_and_silence_is_flat() -> None:
    power = np.array([[0.0, 1e-6], [1e-3, 1.0]])
    np.testing.assert_allclose(decibels(power), [[-60, -60], [-30, 0]])
    assert not decibels(np.zeros((2, 3))).any()
    assert not scaled(np.full((3, 4), -7.0)).any()
    np.testing.assert_allclose(scaled(np.array([[-40.0, -20.0, 0.0]])), [[-1, 0, 1]])


def test_lengths_and_channels() -> None:
    ramp = np.arange(1.0, 8.0)
    assert of_length(ramp, 4, False).tolist() == [1, 2, 3, 4]
    assert of_length(ramp, 4, True).tolist() == [2, 3, 4, 5]
    assert of_length(ramp, 10, False).tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 0, 0]
    assert of_length(ramp, 10, True).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 0]
    stereo = np.array([[1.0, 0.5], [0.0, 1.0]])
    found = {name: one_channel(stereo, name, "x").tolist() for name in ("mean", "left", "right", "diff")}
    assert found == {"mean": [0.75, 0.5], "left": [1, 0], "right": [0.5, 1], "diff": [0.5, -1]}
    assert one_channel(stereo[:, :1], "diff", "x").tolist() == [1, 0]
    assert one_channel(np.ones((2, 5)), "mean", "x").tolist() == [1, 1]
    with pytest.raises(DataError, match=r"x\.wav has 5 channels.*use --channels mean"):
        one_channel(np.ones((2, 5)), "left", "x.wav")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"window_overlap": 0.04}, "windows of 0.04 s can't overlap by 0.04 s"),
        ({"chunk_length": 1.0}, "--chunk-length and --chunk-count belong together"),
        ({"chunk_count": 2}, "--chunk-length and --chunk-count belong together"),
        ({"channels": "lft"}, "did you mean 'left'"),
        ({"mel": 0}, "--mel is 0; it must be above 0"),
        ({"center_fixed": True}, "--center-fixed belongs to --fixed-length"),
        ({"clip_below": 30}, "loudest value is 0 dB"),
        ({"clip_below": -10, "clip_above": -20}, "must be under --clip-above -20 dB"),
    ],
)
def test_impossible_settings(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        SpectrogramSettings(**wrong)


# ── sets ─────────────────────────────────────────────────────────────────────────────────────────


def clips_of(*paths: Path, **fields: Any) -> Clips:
    return Clips(paths[0].parent, tuple(Clip(path, "a", **fields) for path in paths))


def test_a_set_has_a_row_for_each_chunk_in_order(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{k}.wav", seconds=1.0 + k, scale=0.1 + 0.2 * k) for k in range(3)]
    settings = SpectrogramSettings(mel=8, chunk_length=0.25, chunk_count=3)
    found = spectrogram_set(clips_of(*paths), settings)
    assert found.features.shape == (9, 12, 8)
    assert found.dims == ("time", "freq")
    assert found.filenames == ("0.wav",) * 3 + ("1.wav",) * 3 + ("2.wav",) * 3
    assert found.chunks.tolist() == [0, 1, 2] * 3
    for k, path in enumerate(paths):
        alone, _ = of_clip(Clip(path, ""), settings, "")
        np.testing.assert_array_equal(
            found.features[3 * k : 3 * k + 3], np.array(alone.chunks).astype(np.float32)
        )


def test_labels_folds_and_partitions_go_along(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{k}.wav") for k in range(4)]
    labels, folds, splits = ("b", "", "a", "b"), ("1", "2", "10", ""), ("train", "val", "test", "")
    items = [
        Clip(p, label, fold=fold, split=split)
        for p, label, fold, split in zip(paths, labels, folds, splits, strict=True)
    ]
    found = spectrogram_set(Clips(tmp_path, tuple(items), ("b", "a")), SpectrogramSettings(mel=8))
    assert found.labels == labels
    assert found.label_ids is not None
    assert found.label_ids.tolist() == [0, MISSING, 1, 0]
    assert found.label_map == {"b": 0, "a": 1}
    assert found.folds is not None
    assert found.folds.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert found.partitions is not None
    assert found.partitions.tolist() == [0, 1, 2, UNASSIGNED]


def test_stretches_of_one_file_are_sounds_of_their_own(tmp_path: Path) -> None:
    path = written(tmp_path / "long.wav", seconds=3)
    clips = Clips(tmp_path, (Clip(path, "a", 0.5, 1.0), Clip(path, "a", 1.5, 1.0)))
    found = spectrogram_set(clips)
    assert found.filenames == ("long.wav[0.5–1.5 s]", "long.wav[1.5–2.5 s]")
    samples = soundfile.read(path)[0].mean(axis=1)[12000:20000]
    alone = spectrogram(samples, 8000, SpectrogramSettings(), "").chunks[0]
    np.testing.assert_allclose(found.features[1], alone, atol=1e-6)
    with pytest.raises(DataError, match=r"long\.wav\[0\.5–1\.5 s\] is there twice"):
        spectrogram_set(clips.take([0, 1, 0]))


def test_a_fixed_length_reads_no_more_than_it_needs(tmp_path: Path) -> None:
    """The result is that of the whole file, from the start and centred."""
    path = written(tmp_path / "long.wav", seconds=4)
    samples = soundfile.read(path)[0].mean(axis=1)
    for center, first in ((False, 0), (True, 12000)):
        settings = SpectrogramSettings(fixed_length=1.0, center_fixed=center)
        found, _ = of_clip(Clip(path, ""), settings, "")
        alone = spectrogram(samples[first : first + 8000], 8000, SpectrogramSettings(), "").chunks[0]
        np.testing.assert_allclose(found.chunks[0], alone, atol=1e-6)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    short, long = written(tmp_path / "short.wav"), written(tmp_path / "long.wav", seconds=2)
    with pytest.raises(DataError, match=r"long\.wav gives features of 99 × 161 and short\.wav of 49 × 161"):
        spectrogram_set(clips_of(short, long))
    settings = SpectrogramSettings(chunk_length=0.5, chunk_count=3)
    with pytest.raises(DataError, match=r"short\.wav has 49 windows, so 1 whole chunks.*--chunk-count 3"):
        spectrogram_set(clips_of(long, short), settings)
    assert len(spectrogram_set(clips_of(long), settings)) == 3


def test_bad_sounds_are_named_or_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = written(tmp_path / "good.wav")
    (tmp_path / "bad.wav").write_text("no sound")
    soundfile.write(tmp_path / "blip.wav", np.zeros(22), 8000)
    clips = clips_of(tmp_path / "bad.wav", tmp_path / "blip.wav", good)
    with pytest.raises(AudioError, match=r"bad\.wav can't be read as sound.*pass --skip-bad"):
        spectrogram_set(clips)
    found = spectrogram_set(clips, skip_bad=True)
    assert found.filenames == ("good.wav",)
    assert "blip.wav has 22 samples, fewer than the 320 of a window" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(AudioError, match="none of the 2 clips can be read"):
        spectrogram_set(clips.take([0, 1]), skip_bad=True)


def test_a_set_that_is_larger_than_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"1 instances of 49 × 161 values need 0\.0 GB on the disk"):
        spectrogram_set(clips_of(written(tmp_path / "a.wav")), scratch=tmp_path)


def test_odd_sounds_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    found = spectrogram_set(
        clips_of(tmp_path / "silent.wav", written(tmp_path / "a.wav")), SpectrogramSettings(mel=100)
    )
    said = " ".join(capsys.readouterr().err.split())
    assert not found.features[0].any()
    assert found.attributes["sample_rate"] == [8000, 16000]
    assert "of 100 mel bands are empty" in said
    assert "silent throughout, so that the spectrogram is flat: silent.wav" in said
    assert "at 8000, 16000 Hz" in said


# ── command line ─────────────────────────────────────────────────────────────────────────────────


def test_the_verb_writes_a_set(tmp_path: Path) -> None:
    output = tmp_path / "new" / "set.nc"
    options = ("--mel", 16, "--chunk-length", 0.25, "--chunk-count", 2, "--clip-below", -60)
    assert run("spectrograms", tree(tmp_path / "data"), "-o", output, *options, "-q").strip() == str(output)
    with xarray.open_dataset(output, engine="h5netcdf") as data:
        assert dict(data.sizes) == {"instance": 16, "fold": 2, "time": 12, "freq": 16}
        assert data["filename"].values[0] == "fold_1/dog/0.wav"
        assert data["label_nominal"].values.tolist() == (["dog"] * 4 + ["rain"] * 4) * 2
        assert data["cv_folds"].values.tolist() == [[1, 0]] * 8 + [[0, 1]] * 8
        assert data.attrs["window_width"] == 0.04
        assert data.attrs["clip_below"] == -60
        assert data.attrs["sample_rate"] == 8000
        assert data["features"].values.min() == -1
        assert data["features"].values.max() == 1
    assert not list(output.parent.glob(".*"))


def test_pretend_writes_a_picture_and_nothing_else(tmp_path: Path) -> None:
    folder = tree(tmp_path / "data")
    out = tmp_path / "out"
    said = run("spectrograms", folder, "-o", out / "look.png", "--mel", 16, "--pretend", 3)
    for line in ("fold_1/rain/1.wav", "rain (1)", "1 valid, 2 train", "8000 Hz", "49", "16"):
        assert line in said
    run("spectrograms", folder, "-o", out / "set.nc", "--pretend", 3)
    assert sorted(path.name for path in out.iterdir()) == ["look.png", "set-3.png"]
    assert (out / "look.png").read_bytes().startswith(b"\x89PNG")
    result = CliRunner().invoke(app, ["features", "spectrograms", str(folder), "--pretend", "8"])
    assert "there is no clip 8" in str(result.exception)


def test_pretend_of_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    run("spectrograms", tmp_path, "-o", tmp_path / "x.png", "--pretend", 0)
    assert (tmp_path / "x.png").stat().st_size > 1000

"""Statistics of hand-crafted features, held against tones and noise whose features are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import xarray
from numpy.typing import NDArray
from typer.testing import CliRunner

from edgeaudio.cli import app
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.errors import AudioError, DataError, RecipeError
from edgeaudio.features.sets import statistics_set
from edgeaudio.features.statistics import StatisticsSettings, frames_of, statistics

RATE = 16000
Array = NDArray[np.float32]


def tone(hz: float, seconds: float = 1.0, rate: int = RATE) -> Array:
    t = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * t + 0.1)).astype(np.float32)


def noise(seconds: float = 1.0) -> Array:
    return (0.2 * np.random.default_rng(0).standard_normal(int(RATE * seconds))).astype(np.float32)


@pytest.mark.parametrize("hz", [440.0, 1000.0, 2500.0])
def test_a_tone_has_the_features_of_its_frequency(hz: float) -> None:
    found = statistics(tone(hz), RATE, StatisticsSettings())
    # the first and the last frame reach over the ends: the median is free of them
    assert found["centroid_p50"] == pytest.approx(hz, rel=0.01)
    assert found["rolloff_p50"] == pytest.approx(hz, abs=30)  # a bin is 20 Hz
    assert found["zero_crossings_p50"] == pytest.approx(2 * hz / RATE, rel=0.03)
    assert found["rms_p50"] == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert found["flatness_p50"] < 1e-3
    assert found["bandwidth_p50"] < 60
    assert abs(found["mfcc_1_delta_p50"]) < 0.05
    pitch = round(12 * np.log2(hz / 440) + 9) % 12
    assert max(range(12), key=lambda k: found[f"chroma_{k}_p50"]) == pitch


def test_a_rate_without_an_octave_of_contrast(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--rate is 400; it must be above 400 Hz"):
        StatisticsSettings(rate=400)
    soundfile.write(tmp_path / "slow.wav", tone(50.0, rate=400), 400)
    with pytest.raises(AudioError, match=r"slow\.wav is at 400 Hz.*--rate"):
        statistics_set(Clips(tmp_path, (Clip(tmp_path / "slow.wav", ""),)), StatisticsSettings())
    assert np.isfinite(list(statistics(tone(50.0, rate=402), 402, StatisticsSettings()).values())).all()


def test_noise_is_flat_and_its_centroid_in_the_middle() -> None:
    found = statistics(noise(4), RATE, StatisticsSettings())
    assert found["flatness_mean"] == pytest.approx(np.exp(-np.euler_gamma), abs=0.03)  # of an exponential
    assert found["centroid_mean"] == pytest.approx(RATE / 4, rel=0.02)
    assert found["rolloff_mean"] == pytest.approx(0.85 * RATE / 2, rel=0.03)
    assert found["rms_mean"] == pytest.approx(0.2, rel=0.02)


def test_centroid_and_bandwidth_by_hand() -> None:
    """One frame in the middle of the sound, in float64."""
    settings = StatisticsSettings(window_width=0.064, window_overlap=0.032)
    samples = noise()
    found = frames_of(samples, RATE, settings)
    frame, width, hop = 10, 1024, 512
    piece = samples[frame * hop - width // 2 : frame * hop + width // 2].astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    magnitude = np.abs(np.fft.rfft(piece * window))
    hz = np.arange(width // 2 + 1) * RATE / width
    share = magnitude / magnitude.sum()
    centroid = (hz * share).sum()
    assert found["centroid"][frame] == pytest.approx(centroid, rel=1e-5)
    assert found["bandwidth"][frame] == pytest.approx(np.sqrt((share * (hz - centroid) ** 2).sum()), rel=1e-5)
    assert found["rms"][frame] == pytest.approx(np.sqrt((piece**2).mean()), rel=1e-5)


def test_the_statistics_are_those_of_the_frames() -> None:
    settings = StatisticsSettings(mfcc=13, percentiles=(25, 99.5))
    frames = frames_of(noise(), RATE, settings)
    found = statistics(noise(), RATE, settings)
    assert len(frames) == 5 + 1 + 3 * 13 + 12 + 7
    assert len(found) == 4 * len(frames)
    values = np.sort(frames["mfcc_4_delta2"].astype(np.float64))
    assert found["mfcc_4_delta2_mean"] == pytest.approx(values.mean(), rel=1e-4, abs=1e-6)
    assert found["mfcc_4_delta2_std"] == pytest.approx(
        np.sqrt(((values - values.mean()) ** 2).mean()), rel=1e-4
    )
    place = 0.25 * (len(values) - 1)
    between = np.interp(place, np.arange(len(values)), values)
    assert found["mfcc_4_delta2_p25"] == pytest.approx(between, rel=1e-4)
    assert "mfcc_4_delta2_p99.5" in found


def test_the_tempo_of_clicks() -> None:
    clicks = np.zeros(10 * RATE, np.float32)
    clicks[:: RATE // 2] = 1  # two a second
    found = statistics(clicks, RATE, StatisticsSettings(tempo=True))
    assert found["tempo"] == pytest.approx(120, rel=0.05)


def test_low_rates_and_short_sounds_have_features_too() -> None:
    for rate, octaves in ((8000, 6), (2000, 4), (48000, 7)):
        found = frames_of(tone(300, 0.1, rate), rate, StatisticsSettings())
        assert sum(name.startswith("contrast") for name in found) == octaves
        assert all(np.isfinite(values).all() for values in found.values())


def test_silence_is_finite() -> None:
    found = statistics(np.zeros(RATE, np.float32), RATE, StatisticsSettings())
    assert all(np.isfinite(value) for value in found.values())
    assert found["centroid_mean"] == found["rms_mean"] == 0


# ── sets ─────────────────────────────────────────────────────────────────────────────────────────


def written(path: Path, samples: Array, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def test_chunks_are_sounds_of_their_own(tmp_path: Path) -> None:
    both = np.concatenate([tone(500), tone(2000), tone(300, 0.4)])
    clips = Clips(tmp_path, (Clip(written(tmp_path / "a.wav", both), ""),))
    found = statistics_set(clips, StatisticsSettings(chunk_length=1.0))
    assert found.chunks.tolist() == [0, 1]
    assert found.labels is None
    place = found.attributes["feature_names"].index("centroid_p50")
    assert found.features[:, place] == pytest.approx([500, 2000], rel=0.01)
    assert len(statistics_set(clips, StatisticsSettings(chunk_length=1.0, chunk_count=1))) == 1
    with pytest.raises(DataError, match=r"a\.wav gives 2 chunks of 1 s, fewer than 3"):
        statistics_set(clips, StatisticsSettings(chunk_length=1.0, chunk_count=3))


def test_rates_must_agree_or_be_brought_to_one(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a.wav", tone(500)), written(tmp_path / "b.wav", tone(500, rate=8000), 8000)]
    clips = Clips(tmp_path, tuple(Clip(path, "x") for path in paths))
    with pytest.raises(DataError, match=r"(16000|8000) Hz and .*bring all to one by --rate"):
        statistics_set(clips)
    found = statistics_set(clips, StatisticsSettings(rate=8000))
    assert found.attributes["sample_rate"] == 8000
    place = found.attributes["feature_names"].index("centroid_p50")
    assert found.features[:, place] == pytest.approx([500, 500], rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"window_overlap": 0.05}, "can't overlap"),
        ({"mfcc": 41}, "--mfcc is 41; 40 mel bands give 1 to 40"),
        ({"percentiles": (101.0,)}, "--percentiles has 101"),
        ({"chunk_count": 2}, "--chunk-count belongs to --chunk-length"),
        ({"rate": 0}, "--rate is 0"),
        ({"channels": "both"}, "unknown channels 'both'"),
    ],
)
def test_impossible_settings(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        StatisticsSettings(**wrong)  # type: ignore[arg-type]


def test_too_short_a_sound(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", tone(500, 0.01))
    with pytest.raises(AudioError, match=r"a\.wav has 160 samples, less than one window.*--skip-bad"):
        statistics_set(Clips(tmp_path, (Clip(path, "x"),)))


def test_the_verb_writes_vectors_with_names(tmp_path: Path) -> None:
    for name in ("low", "high"):
        written(tmp_path / "data" / name / "a.wav", tone({"low": 300, "high": 3000}[name]))
    output = tmp_path / "s.nc"
    arguments = ["features", "statistics", str(tmp_path / "data"), "-o", str(output), "--mfcc", "5", "-q"]
    result = CliRunner().invoke(app, [*arguments, "--percentiles", "50"])
    assert result.exit_code == 0, result.output
    with xarray.open_dataset(output, engine="h5netcdf") as data:
        names = json.loads(data.attrs["feature_names"])
        assert dict(data.sizes) == {"instance": 2, "fold": 0, "generated": len(names)}
        assert len(names) == 3 * (5 + 1 + 3 * 5 + 12 + 7)
        assert data["label_nominal"].values.tolist() == ["high", "low"]
        centroids = data["features"].values[:, names.index("centroid_p50")]
        assert centroids == pytest.approx([3000, 300], rel=0.02)
    wrong = CliRunner().invoke(app, [*arguments, "--percentiles", "ten"])
    assert "must be numbers with commas" in str(wrong.exception)

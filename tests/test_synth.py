"""The synthetic scenes: repeatable, varied, split without leaks, and told apart by time, not by spectrum."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data import devices, synth
from edgeaudio.errors import DataError

SETTINGS = {"clips_per_class": 4, "val_clips_per_class": 2, "test_clips_per_class_per_device": 1, "seed": 7}
CLIPS = 10 * (4 + 2 + 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synth.write(tmp_path_factory.mktemp("scenes") / "set", **SETTINGS).parent


@pytest.fixture(scope="module")
def rows(folder):
    with (folder / "clips.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fingerprint():
    clips = [synth.render(s, d, (3, 1)) for s in synth.SCENES for d in synth.DEVICES]
    return hashlib.sha256(b"".join(clip.tobytes() for clip in clips)).hexdigest()


def test_the_same_seed_gives_the_same_bytes_in_every_process():
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_synth; print(test_synth.fingerprint())"
    folders = [str(Path(__file__).parent), str(Path(synth.__file__).parents[2])]
    env = {**os.environ, "PYTHONHASHSEED": "1234"}
    other = subprocess.run(
        [sys.executable, "-c", code, *folders], env=env, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == fingerprint() == fingerprint()


@pytest.mark.parametrize("scene", synth.SCENES)
def test_seeds_make_different_clips_and_devices_record_the_same_one(scene):
    takes = {seed: synth.render(scene, "a", seed) for seed in (0, 1, (0, 1), (1, 1))}
    correlations = np.corrcoef(np.stack(list(takes.values())))
    assert np.abs(correlations - np.eye(4)).max() < 0.5
    elsewhere = synth.render(scene, "d", 1)
    assert 0.5 < np.corrcoef(takes[1], elsewhere)[0, 1] < 0.9999


@pytest.mark.parametrize("scene", synth.SCENES)
def test_clips_are_finite_audible_and_within_full_scale(scene):
    clips = np.stack([synth.render(scene, device, i) for device in synth.DEVICES for i in range(8)])
    assert clips.shape == (32, 32000)
    assert clips.dtype == np.float32
    assert np.abs(clips).max() < 1  # False for NaN too
    level_db = 10 * np.log10((clips**2).mean(1))
    assert level_db.min() > -45
    assert level_db.max() < -5
    assert np.ptp(level_db) > 5


def test_the_amplifier_squeezes_peaks_but_hardly_touches_quiet_sounds():
    t = np.arange(32000) / 32000
    rng = np.random.default_rng(0)
    peaks = [
        np.abs(devices.record(level * np.sin(2 * np.pi * 1000 * t), "a", rng, 32000)).max()
        for level in (0.1, 10)
    ]
    assert peaks[0] == pytest.approx(0.1, rel=0.05)
    assert 0.95 < peaks[1] <= 1


@pytest.mark.parametrize("device", synth.DEVICES + synth.HARSH_DEVICES)
def test_a_silent_room_leaves_the_devices_own_noise_at_its_level(device):
    noise = devices.record(np.zeros(32000), device, np.random.default_rng(0), 32000)
    level_db = 10 * np.log10(np.mean(noise**2))
    assert level_db == pytest.approx(devices.MICROPHONES[device].floor_db, abs=1)


@pytest.mark.parametrize(("sample_rate", "seconds"), [(16000, 1.0), (44100, 2.5), (32000, 0.1), (22050, 0.5)])
def test_other_rates_and_lengths(sample_rate, seconds):
    for scene in synth.SCENES:
        clip = synth.render(scene, "c", 0, sample_rate, seconds)
        assert clip.shape == (round(sample_rate * seconds),)
        assert 0.001 < np.sqrt(np.mean(clip**2)) < 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sirn", "a", 0), "did you mean 'siren'"),
        (("siren", "z", 0), "known: a, b, c, d, e, f, g"),
        (("siren", "a", -1), "from 0 up"),
        (("siren", "a", ()), "from 0 up"),
        (("siren", "a", 0, 8000), "16000 Hz or more"),
        (("siren", "a", 0, 32000, 0.05), "at least 0.1 s"),
    ],
)
def test_render_refuses_what_it_cannot_do(arguments, sentence):
    with pytest.raises(DataError, match=sentence):
        synth.render(*arguments)


def test_the_manifest_lists_every_file_once(folder, rows):
    assert list(rows[0]) == ["path", "label", "split", "group", "device"]
    assert len(rows) == CLIPS
    assert {row["path"] for row in rows} == {f"audio/{file.name}" for file in (folder / "audio").iterdir()}
    for label in synth.SCENES:
        splits = [row["split"] for row in rows if row["label"] == label]
        assert [splits.count(split) for split in ("train", "val", "test")] == [4, 2, 4]


def test_files_hold_what_render_gives(folder, rows):
    row = next(r for r in rows if (r["label"], r["split"], r["device"]) == ("bell", "test", "d"))
    written, rate = soundfile.read(folder / row["path"], dtype="float32")
    info = soundfile.info(folder / row["path"])
    assert (rate, info.channels, info.subtype) == (32000, 1, "PCM_16")
    rendered = synth.render("bell", "d", (SETTINGS["seed"], synth.SCENES.index("bell"), 2, 0))
    assert np.abs(written - rendered).max() <= 1 / 32768


def test_no_performance_and_no_unseen_device_leaks(rows):
    splits_of = {}
    for row in rows:
        splits_of.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_of.values())
    devices = {s: {r["device"] for r in rows if r["split"] == s} for s in ("train", "val", "test")}
    assert devices["train"] == set(synth.SEEN_DEVICES)
    assert devices["val"] <= set(synth.SEEN_DEVICES)
    assert devices["test"] == set(synth.DEVICES)


def test_more_training_clips_leave_the_test_set_alone(folder, tmp_path):
    settings = {**SETTINGS, "clips_per_class": 1, "val_clips_per_class": 0}
    other = synth.write(tmp_path / "set", **settings).parent
    files = sorted(file.name for file in (other / "audio").glob("*-test-*"))
    assert len(files) == 40
    assert all((folder / "audio" / f).read_bytes() == (other / "audio" / f).read_bytes() for f in files)


def test_harsh_devices_are_heard_in_the_test_only(folder, tmp_path):
    tiny = {"clips_per_class": 1, "val_clips_per_class": 0, "test_clips_per_class_per_device": 1}
    manifest = synth.write(tmp_path / "set", **tiny, harsh=True, seed=SETTINGS["seed"])
    rows = list(csv.DictReader(manifest.open()))
    tested = {row["device"] for row in rows if row["split"] == "test"}
    assert tested == set(synth.DEVICES + synth.HARSH_DEVICES)
    assert {row["device"] for row in rows if row["split"] == "train"} <= set(synth.SEEN_DEVICES)
    shared = {path.name for path in (folder / "audio").iterdir()} & {row["path"][6:] for row in rows}
    assert shared
    assert all(
        (folder / "audio" / n).read_bytes() == (manifest.parent / "audio" / n).read_bytes() for n in shared
    )
    with pytest.raises(DataError, match="other settings"):
        synth.write(tmp_path / "set", **tiny)


def test_writing_again_returns_at_once(folder):
    def fail(done, total):
        raise AssertionError("a clip was written again")

    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert synth.write(folder, **SETTINGS, progress=fail) == folder / "clips.csv"
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_another_set_or_a_foreign_or_damaged_folder_is_refused(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="something else"):
        synth.write(tmp_path / "notes")
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    tiny = {"clips_per_class": 1, "val_clips_per_class": 0, "test_clips_per_class_per_device": 0}
    (tmp_path / "set").mkdir()  # an empty folder is welcome
    manifest = synth.write(tmp_path / "set", **tiny)
    with pytest.raises(DataError, match="other settings"):
        synth.write(tmp_path / "set", **tiny, seed=1)
    next((tmp_path / "set" / "audio").iterdir()).unlink()
    with pytest.raises(DataError, match="lacks audio/"):
        synth.write(manifest.parent, **tiny)
    with pytest.raises(DataError, match="something else"):
        synth.write(manifest, **tiny)  # a file


@pytest.mark.parametrize(
    "settings", [{"seed": -1}, {"clips_per_class": -1}, dict.fromkeys(list(SETTINGS)[:3], 0)]
)
def test_impossible_numbers_write_nothing(tmp_path, settings):
    with pytest.raises(DataError, match=r"negative"):
        synth.write(tmp_path / "set", **settings)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_nothing_behind(tmp_path):
    seen = []

    def stop(done, total):
        seen.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth.write(tmp_path / "set", **SETTINGS, progress=stop)
    assert seen == [(1, CLIPS), (2, CLIPS), (3, CLIPS)]
    assert not list(tmp_path.iterdir())


def test_of_two_writers_at_once_the_slower_accepts_the_faster_ones_set(tmp_path):
    tiny = {"clips_per_class": 1, "val_clips_per_class": 0, "test_clips_per_class_per_device": 0}

    def overtake(done, total):
        if done == total:
            synth.write(tmp_path / "set", **tiny)

    assert synth.write(tmp_path / "set", **tiny, progress=overtake).is_file()
    assert [file.name for file in tmp_path.iterdir()] == ["set"]


# ---- what the scenes are for: the spectrum over time tells them apart, the average spectrum does not ----


def mel_bank(bands, n_fft, rate):
    """HTK triangles `(bands, n_fft // 2 + 1)`."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hertz = np.fft.rfftfreq(n_fft, 1 / rate)
    return np.maximum(0, np.minimum((hertz - low) / (mid - low), (high - hertz) / (high - mid)))


BANK = mel_bank(128, 2048, 32000)


def log_mel(clip):
    """Waveform `(samples,)` → log-mel `(128, frames)`."""
    frames = np.lib.stride_tricks.sliding_window_view(clip, 2048)[::500] * np.hanning(2048)
    power = np.abs(np.fft.rfft(frames.astype(np.float32))) ** 2
    return np.log(BANK @ power.T + 1e-5)


def moves(mel):
    """Strength of each modulation frequency in 16 groups of bands: time structure without its phase."""
    grouped = mel.reshape(16, 8, -1).mean(1)
    spectrum = np.abs(np.fft.rfft((grouped - grouped.mean(1, keepdims=True)) * np.hanning(grouped.shape[1])))
    changes = np.abs(np.diff(mel, axis=1)).reshape(16, 8, -1).mean((1, 2))
    return np.concatenate([np.log(spectrum[:, 1:24] + 1e-2).ravel(), changes])


def recordings(split, takes, devices):
    for label, scene in enumerate(synth.SCENES):
        for take in range(takes):
            device = devices[take % len(devices)]
            yield log_mel(synth.render(scene, device, (0, split, take))), label


def test_average_spectra_fail_where_time_structure_succeeds():
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    sets = [
        list(recordings(*which))
        for which in (
            (0, 36, synth.SEEN_DEVICES),
            (1, 12, synth.SEEN_DEVICES),
            (1, 12, devices.UNSEEN_DEVICES),
        )
    ]
    labels = [[label for _, label in clips] for clips in sets]

    def accuracies(feature):
        x = [np.stack([feature(mel) for mel, _ in clips]) for clips in sets]
        scaler = preprocessing.StandardScaler().fit(x[0])
        model = linear_model.LogisticRegression(C=0.1, max_iter=300).fit(scaler.transform(x[0]), labels[0])
        return [model.score(scaler.transform(x[i]), labels[i]) for i in (1, 2)]

    seen, unseen = accuracies(lambda mel: mel.mean(1))
    assert 0.2 < seen < 0.8  # chance is 0.1
    assert 0.2 < unseen < 0.75
    seen_moving, unseen_moving = accuracies(moves)
    assert min(seen_moving, unseen_moving) > 0.78

"""What `inspect` says about data sets with one thing wrong each, and its figures of a healthy one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.durations import draw_durations
from edgeaudio.data.inspect import Inspection, inspect
from edgeaudio.data.readers import read
from edgeaudio.data.waveforms import Waveforms, prepare
from edgeaudio.errors import DataError

ESC10 = Path(__file__).parents[1] / ".." / "shared" / "data" / "esc10"
RATE = 16000
Wave = NDArray[np.float32]
Change = Callable[[int, Clip, Wave], tuple[Clip, Wave, int]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAUDIO_CACHE", str(tmp_path / "cache"))


def noise(seed: int, seconds: float = 0.2, rate: int = RATE) -> Wave:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def unchanged(i: int, clip: Clip, wave: Wave) -> tuple[Clip, Wave, int]:
    return clip, wave, RATE


def build(folder: Path, change: Change = unchanged, per_class: int = 12) -> tuple[Clips, Waveforms]:
    """Two healthy classes of noise, `a` then `b`, after `change` has had its way with each clip."""
    items = []
    for i in range(2 * per_class):
        label = "ab"[i // per_class]
        clip, wave, rate = change(i, Clip(folder / f"{label}{i:02d}.wav", label), noise(i))
        soundfile.write(clip.path, wave, rate, subtype="FLOAT")
        items.append(clip)
    return prepare(Clips(folder, tuple(items)), RATE)


def look(folder: Path, change: Change = unchanged, per_class: int = 12) -> Inspection:
    return inspect(*build(folder, change, per_class))


def the_warning(found: Inspection) -> str:
    assert len(found.warnings) == 1, found.warnings
    return found.warnings[0]


# --- figures --------------------------------------------------------------------------------------------


def test_healthy_set_has_figures_and_no_warning(tmp_path: Path) -> None:
    found = look(tmp_path, lambda i, clip, wave: (clip, wave[: 3000 if i else 2000], RATE))
    assert found.warnings == ()
    assert (found.clips, found.files, found.rates) == (24, 24, {RATE: 24})
    lengths = (found.min_seconds, found.median_seconds, found.max_seconds, found.total_seconds)
    assert lengths == pytest.approx((2000 / RATE, 3000 / RATE, 3000 / RATE, (2000 + 23 * 3000) / RATE))
    assert [(c.label, c.clips) for c in found.classes] == [("a", 12), ("b", 12)]
    assert found.classes[0].level_db == pytest.approx(-20, abs=0.3)
    assert found.peak == pytest.approx(max(np.abs(noise(i)[: 3000 if i else 2000]).max() for i in range(24)))
    assert (found.folds, found.splits, found.devices, found.groups) == ({}, {}, {}, 0)


def test_counts_by_fold_split_and_device(tmp_path: Path) -> None:
    def change(i: int, clip: Clip, wave: Wave) -> tuple[Clip, Wave, int]:
        part = "test" if i % 4 == 0 else "train"
        return replace(clip, fold=str(i % 12), split=part, device="xy"[i % 2], group=str(i)), wave, RATE

    found = look(tmp_path, change)
    assert found.splits == {"train": 18, "test": 6}
    assert list(found.splits) == ["train", "test"]
    assert found.devices == {"x": 12, "y": 12}
    assert list(found.folds) == [str(k) for k in range(12)]  # 10 after 9, not after 1
    assert found.groups == 24
    assert found.classes[1].splits == {"train": 9, "test": 3}
    titles = [title for title, _, _ in found.tables()]
    assert titles == ["overview", "classes", "folds", "splits", "devices"]


def test_tables_are_text_of_the_right_width_and_json_is_plain(tmp_path: Path) -> None:
    found = look(tmp_path, lambda i, clip, wave: (clip, wave * (i > 11), RATE))  # class a has no level
    for _, header, rows in found.tables():
        assert all(len(row) == len(header) for row in rows)
        assert all(isinstance(cell, str) for row in rows for cell in row)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["classes"][0]["level_db"] is None
    assert data["rates"] == {str(RATE): 24}
    assert repr(found) == f"Inspection(24 clips, 2 classes, 4.8 s, {len(found.warnings)} warnings)"


def test_stretches_of_one_file_are_one_file_and_no_copies(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", noise(0, 6), RATE)
    items = [Clip(tmp_path / "long.wav", "ab"[i % 2], start=i / 4, duration=0.25) for i in range(24)]
    found = inspect(*prepare(Clips(tmp_path, tuple(items)), RATE))
    assert (found.clips, found.files, found.warnings) == (24, 1, ())


def test_neither_torch_nor_scikit_learn_is_imported() -> None:
    code = "import sys, edgeaudio.data.inspect as _; print({'torch', 'sklearn'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# --- warnings -------------------------------------------------------------------------------------------


def test_copies_are_named(tmp_path: Path) -> None:
    found = look(tmp_path, lambda i, clip, wave: (clip, noise(0) if i < 6 else wave, RATE))
    assert the_warning(found).startswith(
        "5 clips are copied byte for byte from another: "
        "a00.wav = a01.wav, a00.wav = a02.wav, a00.wav = a03.wav and 2 more;"
    )


def given(clip: Clip, what: str, part: str) -> Clip:
    return replace(clip, fold=part) if what == "fold" else replace(clip, split=part)


@pytest.mark.parametrize("what", ["label", "split", "fold"])
def test_copies_that_contradict_each_other_are_told_apart(tmp_path: Path, what: str) -> None:
    def change(i: int, clip: Clip, wave: Wave) -> tuple[Clip, Wave, int]:
        if what != "label":
            clip = given(clip, what, "test" if i == 1 else "train")
        twin = i == (12 if what == "label" else 1)
        return clip, noise(0) if twin else wave, RATE

    copies, contradiction = look(tmp_path, change).warnings
    assert copies.startswith("1 clip is copied")
    assert contradiction.startswith(f"The same sound has two {what}s")
    pair = "a00.wav (a) = b12.wav (b)" if what == "label" else "a00.wav (train) = a01.wav (test)"
    assert pair in contradiction


@pytest.mark.parametrize("what", ["split", "fold"])
def test_group_in_two_parts_is_a_leak(tmp_path: Path, what: str) -> None:
    def change(i: int, clip: Clip, wave: Wave) -> tuple[Clip, Wave, int]:
        part = "test" if i in (0, 3, 4, 5) else "train"
        return given(replace(clip, group=f"g{i // 3}"), what, part), wave, RATE

    text = the_warning(look(tmp_path, change))
    assert text.startswith(f"1 group is in more than one {what}")
    assert "g0 (test, train);" in text


def test_small_and_rare_classes(tmp_path: Path) -> None:
    def take(a: int, b: int) -> str:
        clips, waves = build(tmp_path / f"{a}-{b}", per_class=1)
        many = Clips(clips.root, (clips[0],) * a + (clips[1],) * b)
        waves.stats = [replace(waves.stats[0], sha256=str(i)) for i in range(a + b)]
        return the_warning(inspect(many, waves))

    for name in ("9-10", "100-10"):
        (tmp_path / name).mkdir()
    assert take(9, 10).startswith("1 class has fewer than 10 clips, too few to test on: a (9);")
    assert take(100, 10).startswith("1 class has at least 10 times fewer clips than a (100): b (10);")


@pytest.mark.parametrize(
    ("change", "start", "names"),
    [
        (lambda i, w: w * 5e-4 if i == 3 else w, None, None),
        (lambda i, w: w * 1e-5 if i == 3 else w, "1 clip is silent (peak below −80 dBFS)", "a03.wav;"),
        (
            lambda i, w: w * 0 if i % 4 == 3 else w,
            "6 clips are silent (peak below −80 dBFS, 6 of them all zeros)",
            "a03.wav, a07.wav, a11.wav and 3 more;",
        ),
        (lambda i, w: np.clip(w * 20, -1, 1) if i == 3 else w, "1 clip is clipped (over 1 %", "a03.wav;"),
        (lambda i, w: w[:1500] if i == 3 else w, "1 clip is shorter than 0.1 s", "a03.wav;"),
        (lambda i, w: w[:1600] if i == 3 else w, None, None),
    ],
)
def test_levels_and_lengths(
    tmp_path: Path, change: Callable[[int, Wave], Wave], start: str | None, names: str | None
) -> None:
    found = look(tmp_path, lambda i, clip, wave: (clip, change(i, wave), RATE))
    if start is None or names is None:
        assert found.warnings == ()
    else:
        assert the_warning(found).startswith(start)
        assert names in the_warning(found)


@pytest.mark.parametrize(("zeros", "warned"), [(0.5, True), (0.25, True), (0.1, False)])
def test_padding_that_betrays_the_class(tmp_path: Path, zeros: float, warned: bool) -> None:
    def change(i: int, clip: Clip, wave: Wave) -> tuple[Clip, Wave, int]:
        if clip.label == "a":
            wave[len(wave) - round(zeros * len(wave)) :] = 0
        return clip, wave, RATE

    found = look(tmp_path, change)
    assert len(found.warnings) == warned
    if warned:
        assert "Digital silence betrays the class" in found.warnings[0]
        assert f"a {100 * zeros:.0f} %, elsewhere 0 %" in found.warnings[0]


@pytest.mark.parametrize(
    ("narrow", "text"),
    [
        (lambda i: i < 12, "The sample rate betrays the class: files at 8,000 Hz"),
        (lambda i: i % 4 == 0, "6 of 24 clips are from files at 8,000 Hz"),
        (lambda i: True, "All are files at 8,000 Hz"),
    ],
)
def test_files_without_the_upper_band(tmp_path: Path, narrow: Callable[[int], bool], text: str) -> None:
    def change(i: int, clip: Clip, wave: Wave) -> tuple[Clip, Wave, int]:
        return (clip, noise(i, rate=8000), 8000) if narrow(i) else (clip, wave, RATE)

    assert the_warning(look(tmp_path, change)).startswith(text)


def test_lengths_are_drawn(tmp_path: Path) -> None:
    def longer(i: int, clip: Clip, wave: Wave) -> tuple[Clip, Wave, int]:
        return clip, noise(i, 0.2 if clip.label == "a" else 0.4), RATE

    alike, differing = build(tmp_path), build(tmp_path, longer)
    pictures = [
        draw_durations(*table, tmp_path / "out" / f"{i}.png") for i, table in enumerate((alike, differing))
    ]
    drawn = [matplotlib.image.imread(path) for path in pictures]
    assert drawn[0].shape == drawn[1].shape
    assert np.abs(drawn[0] - drawn[1]).max() > 0.5  # equal lengths are one bar, others two
    with pytest.raises(DataError, match=r"let its name end in \.png"):
        draw_durations(*alike, tmp_path / "lengths.jpg")


@pytest.mark.skipif(not ESC10.is_dir(), reason="ESC-10 is not here")
def test_padding_of_esc10_is_seen() -> None:
    clips = read(ESC10)
    some = clips.indices(lambda clip: clip.fold in ("1", "2"))
    found = inspect(*prepare(clips.take(some), 32000))
    (text,) = [w for w in found.warnings if w.startswith("Digital silence")]
    assert "rooster" in text
    assert "sneezing" in text
    assert "rain" not in text

"""The picture that `preview` draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

pytest.importorskip("torch", reason="pictures belong to the training half")
pytest.importorskip("matplotlib", reason="pictures belong to the training half")
from matplotlib.image import imread

from edgeaudio.config import ModelSpec, Recipe
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.preview import frequency_ticks, loudest, preview
from edgeaudio.data.waveforms import Waveforms, prepare
from edgeaudio.errors import DataError, RecipeError
from edgeaudio.mel import hz_to_mel
from edgeaudio.presets import PRESETS
from edgeaudio.training.preview import OFF, everything, find, preview_augment

RATE = 16000
SPEC = PRESETS["bc_resnet"]
NAMES = [f"{i}.wav" for i in range(8)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAUDIO_CACHE", str(tmp_path / "cache"))


def noise(seed: int, samples: int) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def build(
    folder: Path, names: Sequence[str] = NAMES, lengths: Sequence[int] = (3200,)
) -> tuple[Clips, Waveforms]:
    """Noise of two classes in turn; the lengths (in samples) come round."""
    for i, name in enumerate(names):
        soundfile.write(folder / name, noise(i, lengths[i % len(lengths)]), RATE)
    items = tuple(Clip(folder / name, "ab"[i % 2]) for i, name in enumerate(names))
    return prepare(Clips(folder, items), RATE)


def test_picture_has_a_row_for_each_class(tmp_path: Path) -> None:
    clips, waves = build(tmp_path)
    one = imread(preview(clips, waves, SPEC, tmp_path / "new" / "one.png", per_class=1))
    two = imread(preview(clips, waves, SPEC, tmp_path / "two.png", per_class=2))
    single = replace(clips, items=clips.items, classes=("a", "b", "none"))
    same = imread(preview(single, waves, SPEC, tmp_path / "same.png", per_class=1))
    assert two.shape[0] == one.shape[0]
    assert two.shape[1] > 1.5 * one.shape[1]
    np.testing.assert_array_equal(same, one)  # a class without clips takes no row
    # noise is painted in many colours in both halves: neither panel is blank
    for half in (one[: len(one) // 2], one[len(one) // 2 :]):
        assert len(np.unique((half[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 100


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    clips, waves = build(tmp_path)
    first, again, other = (
        preview(clips, waves, SPEC, tmp_path / f"{i}.png", 2, seed).read_bytes()
        for i, seed in enumerate((5, 5, 6))
    )
    assert first == again != other
    assert not list(tmp_path.glob("*.partial"))


def test_odd_names_and_lengths_are_drawn(tmp_path: Path) -> None:
    names = [f"${i}^_{{{'x' * 60}.wav" for i in range(4)]
    clips, waves = build(tmp_path, names, (1, 50, 3000, 7 * RATE))
    assert imread(preview(clips, waves, SPEC, tmp_path / "odd.png")).size


def test_loudest_stretch_is_found() -> None:
    wave = noise(0, 10 * RATE) * np.float32(0.01)
    wave[7 * RATE : 8 * RATE] *= 100
    start, stop = loudest(wave, 2 * RATE, RATE // 4)
    assert stop - start == 2 * RATE
    assert start <= 7 * RATE < 8 * RATE <= stop
    assert loudest(wave[:100], 200, 10) == (0, 100)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"waveform"}))
def test_frequency_ticks_lie_on_their_mel_bands(name: str) -> None:
    spec = PRESETS[name]
    positions, names = frequency_ticks(spec)
    assert len(positions) >= 2
    low, high = hz_to_mel(np.array([spec.fmin, spec.fmax]), spec.mel_scale)
    for position, text in zip(positions, names, strict=True):
        hz = float(text.split()[0]) * (1000 if text.endswith("kHz") else 1)
        expected = (hz_to_mel(np.array([hz]), spec.mel_scale)[0] - low) / (high - low) * (spec.n_mels + 1) - 1
        assert position == pytest.approx(expected, abs=0.1)


def test_wrong_use_of_preview_is_explained(tmp_path: Path) -> None:
    clips, waves = build(tmp_path)
    with pytest.raises(DataError, match="use 1 or more"):
        preview(clips, waves, SPEC, tmp_path / "a.png", per_class=0)
    with pytest.raises(DataError, match=r"end in \.png"):
        preview(clips, waves, SPEC, tmp_path / "a.jpg")
    with pytest.raises(DataError, match="16000 Hz but the front end wants 32000 Hz"):
        preview(clips, waves, PRESETS["dcase2024"], tmp_path / "a.png")
    with pytest.raises(DataError, match="no log-mels to draw"):
        preview(clips, waves, PRESETS["waveform"], tmp_path / "a.png")


# ── augmentation ─────────────────────────────────────────────────────────────────────────────────


def pixels(path: Path) -> NDArray[np.float32]:
    return np.asarray(imread(path)[..., :3])


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Clips, Waveforms, Recipe]:
    clips, waves = build(tmp_path, lengths=(RATE,))
    return clips, waves, Recipe("some", ModelSpec("cp_mobile"), frontend=SPEC, augment=OFF)


def test_each_augmentation_has_a_row_and_all_together_one_more(
    tmp_path: Path, scene: tuple[Clips, Waveforms, Recipe]
) -> None:
    clips, waves, plain = scene
    heights = []
    for settings in ({"gain_db": 6.0}, {"gain_db": 6.0, "noise_p": 0.5}):
        recipe = replace(plain, augment=replace(OFF, **settings))
        heights.append(len(pixels(preview_augment(clips, waves, recipe, tmp_path / "a.png", 2))))
    untouched_and_one, untouched_two_and_all = heights
    assert untouched_two_and_all - untouched_and_one == pytest.approx(2 * 125, abs=2)  # rows of 1.25 inch


def test_the_rows_show_what_their_names_say(tmp_path: Path, scene: tuple[Clips, Waveforms, Recipe]) -> None:
    clips, waves, plain = scene
    recipe = replace(plain, augment=replace(OFF, shift_seconds=0.4, shift_p=0.01))
    picture = pixels(preview_augment(clips, waves, recipe, tmp_path / "shift.png", 3))
    # the second row: though one window in a hundred is shifted, each is here, and what comes in is silent
    row = picture[135:, :]
    dark = (row.max(2) < 0.05).sum()
    assert dark > 1000
    assert (picture[:110].max(2) < 0.05).sum() < dark / 3


def test_equal_seeds_give_equal_pictures_of_augmentation(
    tmp_path: Path, scene: tuple[Clips, Waveforms, Recipe]
) -> None:
    clips, waves, plain = scene
    recipe = everything(plain)
    first, again, other = (
        preview_augment(clips, waves, recipe, tmp_path / f"{i}.png", 2, seed).read_bytes()
        for i, seed in enumerate((1, 1, 2))
    )
    assert first == again != other


def test_impulse_responses_are_drawn_where_a_folder_is_given(
    tmp_path: Path, scene: tuple[Clips, Waveforms, Recipe]
) -> None:
    clips, waves, _ = scene
    (tmp_path / "responses").mkdir()
    soundfile.write(tmp_path / "responses" / "dull.wav", np.hanning(40) / 20, RATE, subtype="FLOAT")
    without, none = find("all", SPEC)
    recipe, responses = find("all", SPEC, tmp_path / "responses")
    assert none is None
    assert responses is not None
    assert responses.names == ["dull"]
    tall, short = (
        len(pixels(preview_augment(clips, waves, r, tmp_path / "x.png", 1, 0, given)))
        for r, given in ((recipe, responses), (without, None))
    )
    assert tall - short == pytest.approx(125, abs=2)
    with pytest.raises(RecipeError, match="draws no impulse responses"):
        find("dcase2024_baseline", SPEC, tmp_path / "responses")


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"waveform"}))
def test_every_front_end_can_be_shown_everything(name: str) -> None:
    spec = find("all", PRESETS[name])[0].augment
    assert spec.noise_p == spec.low_pass_p == spec.freq_mixstyle_p == 1
    assert spec.time_stretch > 0
    assert spec.pitch_shift > 0
    assert bool(spec.gain_db) == (not PRESETS[name].squared)


def test_wrong_use_of_the_augmented_picture_is_explained(
    tmp_path: Path, scene: tuple[Clips, Waveforms, Recipe]
) -> None:
    clips, waves, plain = scene
    with pytest.raises(DataError, match="some turns no augmentation on"):
        preview_augment(clips, waves, plain, tmp_path / "a.png")
    with pytest.raises(DataError, match="no log-mels to draw"):
        find("all", PRESETS["waveform"])
    named = replace(
        OFF, impulse_responses="x", impulse_response_p=1.0, impulse_response_devices=("s1",), gain_db=1.0
    )
    with pytest.raises(DataError, match="no clip is of a device among"):
        preview_augment(clips, waves, replace(plain, augment=named), tmp_path / "a.png")

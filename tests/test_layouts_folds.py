"""Layouts with folds and parts in their folders, challenge data with kept-back labels, sounds without any."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data.clips import Clips
from edgeaudio.data.readers import LAYOUTS, CsvColumns, layout_of, read
from edgeaudio.data.splits import split
from edgeaudio.errors import DataError


def sounds(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(80, 0.1), 8000)
    return folder


def written(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def by_name(clips: Clips) -> dict[str, tuple[str, str, str]]:
    return {clip.path.name: (clip.label, clip.fold, clip.split) for clip in clips}


# ── ESC in numbered folders ──────────────────────────────────────────────────────────────────────


def esc(folder: Path) -> Path:
    return sounds(
        folder,
        "001 - Dog bark/1-30226-A.ogg", "001 - Dog bark/2-30226-B.ogg",
        "002 - Rain/1-17367-A.ogg", "002 - Rain/5-21189-A.ogg",
        "010 - Fire crackling/3-4164-A.ogg",
    )  # fmt: skip


def test_esc_folders(tmp_path: Path) -> None:
    clips = read(esc(tmp_path))
    assert layout_of(tmp_path).name == "ESC in numbered folders"
    assert clips.classes == ("Dog bark", "Rain", "Fire crackling")  # by number, not by the alphabet
    assert clips.folds == ["1", "2", "3", "5"]
    assert by_name(clips)["5-21189-A.ogg"] == ("Rain", "5", "")
    assert clips[0].group == clips[1].group == "30226"


@pytest.mark.parametrize("odd", ["Wind/1-1-A.ogg", "003 - Wind/6-1-A.ogg", "003 - Wind/wind.ogg"])
def test_folders_that_are_named_only_partly_so_are_classes(odd: str, tmp_path: Path) -> None:
    clips = read(sounds(esc(tmp_path), odd))
    assert layout_of(tmp_path).name == "class folders"
    assert "001 - Dog bark" in clips.classes
    assert clips.folds == []


# ── folders of folds and parts ───────────────────────────────────────────────────────────────────


def test_fold_folders(tmp_path: Path) -> None:
    names = [
        f"fold_{n}/{label}/{n}{label}{k}.wav" for n in (1, 2, 10) for label in ("b", "a") for k in (0, 1)
    ]
    clips = read(sounds(tmp_path, *names))
    assert layout_of(tmp_path).name == "folders of folds"
    assert clips.classes == ("a", "b")
    assert clips.folds == ["1", "2", "10"]
    assert by_name(clips)["10b1.wav"] == ("b", "10", "")
    assert Counter(clip.split for clip in split(clips, 0, "10"))["test"] == 4


def test_what_is_no_fold_is_a_class(tmp_path: Path) -> None:
    assert read(sounds(tmp_path / "one", "fold_1/a/x.wav")).classes == ("fold_1",)
    assert read(sounds(tmp_path / "loose", "fold_1/x.wav", "fold_2/y.wav")).classes == ("fold_1", "fold_2")
    mixed = sounds(tmp_path / "mixed", "fold_1/a/x.wav", "fold_2/a/y.wav", "dog/z.wav")
    assert read(mixed).classes == ("dog", "fold_1", "fold_2")
    with pytest.raises(DataError, match="fold_01 and fold_1 are the same fold"):
        read(sounds(tmp_path / "twice", "fold_1/a/x.wav", "fold_01/a/y.wav"))


def test_train_devel_and_test_folders_are_splits(tmp_path: Path) -> None:
    names = [f"{part}/{label}/{part}{label}.wav" for part in ("train", "devel", "test") for label in "ab"]
    clips = read(sounds(tmp_path, *names))
    assert clips.classes == ("a", "b")
    assert by_name(clips)["develb.wav"] == ("b", "", "val")
    assert by_name(clips)["testa.wav"] == ("a", "", "test")


# ── DCASE with folds ─────────────────────────────────────────────────────────────────────────────


def dcase(folder: Path, third: bool = True) -> Path:
    rows: list[str] = []
    lists: dict[int, list[str]] = {fold: [] for fold in (1, 2, 3, 4)}
    for k, place in enumerate(("b020", "b021", "a131", "b036")):
        for second in (0, 10):
            name = f"audio/{place}_{second}_{second + 10}.wav"
            scene = "cafe/restaurant" if k % 2 else "beach"
            sounds(folder, name)
            rows.append(f"{name}\t{scene}" + (f"\t{place}" if third else ""))
            for fold, listed in lists.items():
                if fold != k + 1:
                    listed.append(f"{name}\t{scene}")
    written(folder / "meta.txt", *rows)
    for fold, lines in lists.items():
        written(folder / "evaluation_setup" / f"fold{fold}_train.txt", *lines)
        written(folder / "evaluation_setup" / f"fold{fold}_test.txt", "audio/unread.wav")
    return folder


@pytest.mark.parametrize("third", [True, False])
def test_dcase_folds(third: bool, tmp_path: Path) -> None:
    clips = read(dcase(tmp_path, third))
    assert layout_of(tmp_path).name == "a DCASE development set with folds"
    assert clips.classes == ("beach", "cafe/restaurant")
    assert clips.folds == ["1", "2", "3", "4"]
    assert by_name(clips)["a131_10_20.wav"] == ("beach", "3", "")
    assert {clip.group for clip in clips} == {"b020", "b021", "a131", "b036"}


def test_home_activities_keep_their_numbers(tmp_path: Path) -> None:
    labels = ("absence", "cooking", "dishwashing", "eating", "other", "social_activity", "vacuum_cleaner",
              "watching_tv", "working")  # fmt: skip
    names = [f"audio/DevNode1_ex{k}_1.wav" for k in range(9)]
    rows = [
        f"{name}\t{label}\tDevNode1_ex{k}" for k, (name, label) in enumerate(zip(names, labels, strict=True))
    ]
    written(sounds(tmp_path, *names) / "meta.txt", *rows)
    for fold in (1, 2):
        written(tmp_path / "evaluation_setup" / f"fold{fold}_train.txt", *rows[fold - 1 :: 2])
    clips = read(tmp_path)
    assert clips.classes[:3] == ("other", "social_activity", "eating")
    assert clips[0].group == "DevNode1_ex0"


def test_dcase_mistakes_are_named(tmp_path: Path) -> None:
    folder = dcase(tmp_path)
    table = folder / "evaluation_setup" / "fold1_train.txt"
    good = table.read_text()
    table.write_text("")
    with pytest.raises(DataError, match=r"b021_0_10\.wav is held out in 2 of 4 folds"):
        read(folder)
    table.write_text(good + "audio/nowhere.wav\tbeach\n")
    with pytest.raises(DataError, match=r"fold1_train\.txt, line 7: audio/nowhere\.wav is not in"):
        read(folder)
    table.write_text(good)
    written(folder / "meta.txt", "audio/b020_0_10.wav")
    with pytest.raises(DataError, match=r"meta\.txt, line 1: .*a file and its class with a tab between"):
        read(folder)


# ── ComParE ──────────────────────────────────────────────────────────────────────────────────────

PARTS = ("train_1.wav", "train_2.wav", "devel_1.wav", "devel_2.wav", "test_1.wav")


def compare(folder: Path, table: str, *lines: str) -> Path:
    sounds(folder, *(f"wav/{name}" for name in PARTS))
    written(folder / "lab" / table, *lines)
    return folder


def test_compare_2018(tmp_path: Path) -> None:
    rows = [f"{name}\t{label}" for name, label in zip(PARTS, "lmhm", strict=False)]
    folder = compare(tmp_path, "ComParE2018_SelfAssessedAffect.tsv", "file_name\tValence", *rows)
    clips = read(folder, unlabelled=True)
    assert layout_of(folder).name == "a ComParE challenge"
    assert clips.classes == ("l", "m", "h")
    assert by_name(clips) == {
        "train_1.wav": ("l", "", "train"), "train_2.wav": ("m", "", "train"), "devel_1.wav": ("h", "", "val"),
        "devel_2.wav": ("m", "", "val"), "test_1.wav": ("", "", "test"),
    }  # fmt: skip


def test_labels_that_are_kept_back_are_left_out_where_labels_are_needed(tmp_path: Path) -> None:
    rows = [
        f"{name},{label}" for name, label in zip(PARTS, ("mask", "clear", "mask", "clear", "?"), strict=True)
    ]
    folder = compare(tmp_path, "labels.csv", "file_name,label", *rows)
    clips = read(folder)
    assert "test_1.wav" not in by_name(clips)
    assert clips.notes == ("1 of 5 clips have no label and are left out.",)
    assert len(read(folder, unlabelled=True)) == 5
    confidential = [row.replace("?", "mask") for row in rows]
    written(folder / "lab" / "labels_confidential.csv", "file_name,label", *confidential)
    assert by_name(read(folder))["test_1.wav"] == ("mask", "", "test")


def test_compare_2020_has_two_tasks(tmp_path: Path) -> None:
    rows = [f"{name},{v},{a}" for name, v, a in zip(PARTS, "LMHL?", "HHLM?", strict=True)]
    folder = compare(tmp_path, "labels.csv", "filename_audio,V_cat,A_cat", *rows)
    assert read(folder)[0].label == "H"  # devel_1 comes first
    assert read(folder, CsvColumns(subset="arousal"))[0].label == "L"
    with pytest.raises(DataError, match="no subset 'pitch'; there are: valence, arousal"):
        read(folder, CsvColumns(subset="pitch"))


def test_compare_2021_has_a_table_for_each_part(tmp_path: Path) -> None:
    folder = compare(tmp_path, "train.csv", "filename,label", "train_1.wav,b", "train_2.wav,a")
    written(folder / "lab/devel.csv", "filename,label", "devel_1.wav,a", "devel_2.wav,b")
    written(folder / "lab/test.csv", "filename,label", "test_1.wav,?")
    assert Counter(clip.label for clip in read(folder, unlabelled=True)) == {"a": 2, "b": 2, "": 1}
    written(folder / "lab/test.csv", "filename,label", "test_2.wav,?")
    with pytest.raises(DataError, match=r"test\.csv: 1 of 1 files are missing, the first is .*test_2\.wav"):
        read(folder)


# ── sounds without labels ────────────────────────────────────────────────────────────────────────


def test_loose_sounds_are_unlabelled_where_that_will_do(tmp_path: Path) -> None:
    sounds(tmp_path, "b.wav", "a.flac")
    clips = read(tmp_path, unlabelled=True)
    assert [clip.path.name for clip in clips] == ["a.flac", "b.wav"]
    assert clips.classes == ()
    assert clips[0].labels == ()
    assert not clips.label_matrix.size
    with pytest.raises(DataError, match="2 sound files but no class folders"):
        read(tmp_path)
    (one,) = read(tmp_path / "b.wav", unlabelled=True)
    assert one.path == tmp_path / "b.wav"
    with pytest.raises(DataError, match="neither a folder nor a CSV file"):
        read(tmp_path / "b.wav")
    with pytest.raises(
        DataError, match="none of the 2 clips has a label; only the `edgeaudio features` verbs"
    ):
        read(tmp_path, parser="unlabelled")


def test_folders_are_classes_unless_it_is_said_that_they_are_not(tmp_path: Path) -> None:
    sounds(tmp_path, "day/x.wav", "night/deep/y.wav", "loose.wav")
    assert read(tmp_path, unlabelled=True).classes == ("day", "night")
    clips = read(tmp_path, parser="unlabelled", unlabelled=True)
    assert len(clips) == 3
    assert clips.classes == ()


def test_a_layout_may_be_named(tmp_path: Path) -> None:
    esc(tmp_path)
    assert read(tmp_path, parser="folders").classes[0] == "001 - Dog bark"
    assert read(tmp_path, parser="esc-folders").classes[0] == "Dog bark"
    with pytest.raises(DataError, match="isn't UrbanSound8K; leave --parser out"):
        read(tmp_path, parser="urbansound")
    with pytest.raises(DataError, match="unknown parser 'esc-folder'; did you mean 'esc-folders'"):
        read(tmp_path, parser="esc-folder")
    assert len({layout.name for layout in LAYOUTS.values()}) == len(LAYOUTS)

"""Public data sets in small: each tree is built as its publisher lays it out, with sounds in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data.clips import Clips
from edgeaudio.data.readers import CsvColumns, layout_of, read
from edgeaudio.data.splits import groups_in_two_splits, split
from edgeaudio.errors import DataError

TAU_SAMPLE = Path(__file__).parents[1] / ".." / "shared" / "data" / "tau-sample"


def sounds(folder: Path, *names: str, seconds: float = 0.01) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(round(8000 * seconds), 0.1), 8000)
    return folder


def written(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def refused(source: Path, sentence: str, subset: str = "") -> None:
    with pytest.raises(DataError, match=sentence):
        read(source, CsvColumns(subset=subset))


# --- TAU ------------------------------------------------------------------------------------------------


def tau(folder: Path, locations: int = 12, setup: bool = True) -> Path:
    """Two scenes, `locations` places each with three clips; the last quarter of the places is tested on."""
    rows, train, test = [], [], []
    for scene in ("bus", "park"):
        for place in range(locations):
            for second in range(3):
                device = "as"[second % 2] + ("1" if second % 2 else "")
                name = f"audio/{scene}-lyon-{place}-{place}00-{second}-{device}.wav"
                rows.append(f"{name}\t{scene}\tlyon-{place}\t{device}")
                part = test if place >= locations * 3 // 4 else train
                part.append(f"{name}\t{scene}")
                sounds(folder, name)
    written(folder / "meta.csv", "filename\tscene_label\tidentifier\tsource_label", *rows)
    if setup:
        written(folder / "evaluation_setup/fold1_train.csv", "filename\tscene_label", *train[1:])
        written(folder / "evaluation_setup/fold1_test.csv", "filename", *(row.split("\t")[0] for row in test))
        written(folder / "evaluation_setup/split25.csv", "filename\tscene_label", *train[1::4])
        written(folder / "split5.csv", "filename", *(row.split("\t")[0] for row in train[1::20]))
    return folder


def test_tau(tmp_path: Path) -> None:
    clips = read(tau(tmp_path))
    assert layout_of(tmp_path).name == "TAU Urban Acoustic Scenes"
    assert clips.classes == ("bus", "park")
    assert clips.devices == ["a", "s1"]
    assert clips.counts(lambda clip: clip.split) == {"train": 53, "test": 18}
    assert all(clip.group == "-".join(clip.path.stem.split("-")[1:3]) for clip in clips)
    (note,) = clips.notes
    assert "1 of 72 clips in meta.csv are in neither" in note
    assert "bus-lyon-0-000-0-a.wav" in note


def test_tau_validation_is_cut_from_training_by_place(tmp_path: Path) -> None:
    clips = read(tau(tmp_path))
    found = split(clips, 0)
    tested = {clip.path for clip in clips if clip.split == "test"}
    assert {clip.path for clip in found if clip.split == "test"} == tested
    assert {"train", "val", "test"} == {clip.split for clip in found}
    assert groups_in_two_splits(found) == []


def test_tau_subsets(tmp_path: Path) -> None:
    tau(tmp_path)
    quarter = read(tmp_path, CsvColumns(subset="25"))
    assert quarter.counts(lambda clip: clip.split) == {"train": 14, "test": 18}
    everything = {clip.path for clip in read(tmp_path) if clip.split == "train"}
    assert {clip.path for clip in quarter if clip.split == "train"} < everything
    assert read(tmp_path, CsvColumns(subset="5")).counts(lambda clip: clip.split)["train"] == 3
    refused(tmp_path, "has no subset '26'; there are: 5, 25", "26")


def test_tau_without_lists_has_no_split(tmp_path: Path) -> None:
    clips = read(tau(tmp_path, setup=False))
    assert len(clips) == 72
    assert {clip.split for clip in clips} == {""}
    refused(tmp_path, "has no subsets; leave --subset out", "25")


def test_tau_mistakes(tmp_path: Path) -> None:
    tau(tmp_path)
    (tmp_path / "audio/park-lyon-3-300-1-s1.wav").rename(tmp_path / "away.wav")
    refused(tmp_path, r"meta\.csv: 1 of 71 files are missing, the first is .*park-lyon-3-300-1-s1\.wav")
    (tmp_path / "away.wav").rename(tmp_path / "audio/park-lyon-3-300-1-s1.wav")
    tests = tmp_path / "evaluation_setup" / "fold1_test.csv"
    good = tests.read_text()
    tests.write_text(good + "audio/bus-lyon-1-100-1-s1.wav\n")
    refused(tmp_path, r"fold1_test\.csv, line 20: audio/bus-lyon-1.* is in fold1_train\.csv too")
    tests.write_text(good + "audio/other.wav\n")
    refused(tmp_path, r"fold1_test\.csv, line 20: audio/other\.wav is not in .*meta\.csv")
    tests.write_text(good)
    (tmp_path / "evaluation_setup" / "fold1_train.csv").unlink()
    refused(tmp_path, r"fold1_train\.csv is missing beside fold1_test\.csv")
    written(tmp_path / "meta.csv", "filename\tscene_label\tsource_label", "audio/x.wav\t\ta")
    refused(tmp_path, r"meta\.csv, line 2: the column 'scene_label' is empty")


@pytest.mark.skipif(not TAU_SAMPLE.is_dir(), reason="the TAU sample is not here")
def test_the_real_tau_sample_leaks_on_purpose() -> None:
    clips = read(TAU_SAMPLE)
    assert clips.counts(lambda clip: clip.split) == {"train": 120, "test": 80}
    assert len(clips.devices) == 9
    assert len(groups_in_two_splits(clips)) == 8


# --- Speech Commands ------------------------------------------------------------------------------------

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def speech_commands(folder: Path) -> Path:
    """Ten words and three more; speakers 0 … 7 are trained on, 8 is validated and 9 tested on."""
    names = [
        f"{word}/{speaker:08x}_nohash_0.wav" for word in (*TEN, "bed", "cat", "bird") for speaker in range(10)
    ]
    sounds(folder, *names)
    written(folder / "validation_list.txt", *(name for name in names if "00000008_" in name))
    written(folder / "testing_list.txt", *(name for name in names if "00000009_" in name))
    for name in ("pink_noise", "running_tap"):
        sounds(folder, f"_background_noise_/{name}.wav", seconds=20)
    written(folder / "_background_noise_/README.md", "noise")
    return folder


def test_all_speech_commands(tmp_path: Path) -> None:
    clips = read(speech_commands(tmp_path))
    assert len(clips.classes) == 13
    assert "_background_noise_" not in clips.classes
    assert clips.counts(lambda clip: clip.split) == {"train": 104, "val": 13, "test": 13}
    assert {clip.group for clip in clips if clip.split == "test"} == {"00000009"}
    assert split(clips, 0).items == clips.items
    assert groups_in_two_splits(clips) == []


def test_twelve_speech_commands(tmp_path: Path) -> None:
    clips = read(speech_commands(tmp_path), CsvColumns(subset="12"))
    assert set(clips.classes) == {*TEN, "silence", "unknown"}
    sizes = Counter((clip.label, clip.split) for clip in clips)
    assert set(sizes.values()) == {8, 1}
    assert all(sizes[label, "train"] == 8 for label in clips.classes)
    assert {clip.path.parent.name for clip in clips if clip.label == "unknown"} <= {"bed", "cat", "bird"}
    assert groups_in_two_splits(clips) == []
    assert read(tmp_path, CsvColumns(subset="12")) == clips  # the same draws each time
    refused(tmp_path, "no subset '35'; there are: 12", "35")


def test_no_split_hears_another_splits_silence(tmp_path: Path) -> None:
    clips = read(speech_commands(tmp_path), CsvColumns(subset="12"))
    parts = {"train": (0, 16), "val": (16, 18), "test": (18, 20)}  # of twenty seconds
    silence = [clip for clip in clips if clip.label == "silence"]
    assert len(silence) == 10
    for clip in silence:
        assert clip.duration == 1
        first, end = parts[clip.split]
        assert first <= clip.start <= clip.start + clip.duration <= end + 1e-9


def test_official_test_set_has_the_same_names(tmp_path: Path) -> None:
    sounds(tmp_path, "_silence_/1.wav", "_unknown_/backward_0c540988_nohash_0.wav",
           *(f"{word}/0c540988_nohash_1.wav" for word in TEN))  # fmt: skip
    clips = read(tmp_path)
    assert set(clips.classes) == {*TEN, "silence", "unknown"}
    assert {clip.label: clip.group for clip in clips}["unknown"] == "0c540988"
    assert clips.classes == read(speech_commands(tmp_path / "training"), CsvColumns(subset="12")).classes


def test_speech_commands_mistakes(tmp_path: Path) -> None:
    speech_commands(tmp_path)
    (tmp_path / "yes/00000009_nohash_0.wav").unlink()
    refused(
        tmp_path, r"testing_list\.txt: 1 of 13 files are missing, the first is .*yes/00000009_nohash_0\.wav"
    )
    sounds(tmp_path, "yes/00000009_nohash_0.wav")
    for noise in (tmp_path / "_background_noise_").glob("*.wav"):
        noise.unlink()
    assert len(read(tmp_path)) == 130  # all words need no silence
    refused(tmp_path, "_background_noise_ holds no sound files to cut silence from", "12")
    with (tmp_path / "testing_list.txt").open("a") as file:
        file.write("no/00000008_nohash_0.wav\n")
    refused(tmp_path, r"testing_list\.txt, line 14: no/00000008_nohash_0\.wav is in validation_list\.txt too")


# --- UrbanSound8K, BirdCLEF, GTZAN ----------------------------------------------------------------------


@pytest.mark.parametrize(("table", "audio"), [("metadata/", "audio/"), ("", "")])
def test_urbansound(tmp_path: Path, table: str, audio: str) -> None:
    rows = [
        f"{10 * n}-3-0-{n}.wav,{10 * n},0,4,1,{n},3,{'dog_bark' if n % 2 else 'siren'}" for n in range(1, 11)
    ]
    header = "slice_file_name,fsID,start,end,salience,fold,classID,class"
    written(tmp_path / f"{table}UrbanSound8K.csv", header, *rows)
    sounds(tmp_path, *(f"{audio}fold{n}/{10 * n}-3-0-{n}.wav" for n in range(1, 11)))
    clips = read(tmp_path)
    assert clips.folds == [str(n) for n in range(1, 11)]
    assert [(clip.label, clip.group) for clip in clips][:2] == [("dog_bark", "10"), ("siren", "20")]
    assert clips[0].duration is None  # `start` and `end` are places in the recording that it was cut from
    (tmp_path / f"{audio}fold2/20-3-0-2.wav").unlink()
    refused(tmp_path, r"UrbanSound8K\.csv: 1 of 10 files are missing, the first is .*fold2/20-3-0-2\.wav")


@pytest.mark.parametrize(("audio", "prefix"), [("train_audio", "acafly/"), ("train_short_audio", "")])
def test_birdclef(tmp_path: Path, audio: str, prefix: str) -> None:
    sounds(tmp_path, *(f"{audio}/acafly/XC{n}.wav" for n in range(3)))
    lines = [f"acafly,\"['amered', 'acafly']\",3.5,{prefix}XC0.wav", f"acafly,[],2,{prefix}XC1.wav",
             f"acafly,\"['']\",0,{prefix}XC2.wav"]  # fmt: skip
    meta = written(tmp_path / "train_metadata.csv", "primary_label,secondary_labels,rating,filename", *lines)
    clips = read(tmp_path)
    assert clips.classes == ("acafly", "amered")
    assert [clip.others for clip in clips] == [("amered",), (), ()]
    assert clips.multi_label
    assert clips.label_matrix.tolist() == [[1, 1], [1, 0], [1, 0]]
    written(meta, "primary_label,secondary_labels,filename", f"acafly,__import__('os'),{prefix}XC0.wav")
    refused(tmp_path, r"line 2: secondary_labels is .*; it must be a list like")


def gtzan(folder: Path) -> Path:
    return sounds(folder, *(f"{genre}/{genre}.{n:05d}.wav" for genre in ("blues", "jazz") for n in range(4)))


@pytest.mark.parametrize("name", ["genres_original", "genres", "."])
def test_gtzan(tmp_path: Path, name: str) -> None:
    gtzan(tmp_path / name)
    assert layout_of(tmp_path).name == "GTZAN"
    assert read(tmp_path).counts(lambda clip: clip.label) == {"blues": 4, "jazz": 4}


def test_gtzan_without_its_faults(tmp_path: Path) -> None:
    gtzan(tmp_path / "genres_original")
    written(tmp_path / "train_filtered.txt", "blues/blues.00000.wav", "jazz/jazz.00003.wav")
    written(tmp_path / "valid_filtered.txt", "jazz.00001")
    written(tmp_path / "test_filtered.txt", "blues/blues.00002.au")
    clips = read(tmp_path)
    assert [(clip.path.stem, clip.split) for clip in clips] == [
        ("blues.00000", "train"), ("jazz.00003", "train"), ("jazz.00001", "val"), ("blues.00002", "test"),
    ]  # fmt: skip
    assert "4 of 8 clips are in none of the filtered lists" in clips.notes[0]
    written(tmp_path / "test_filtered.txt", "rock/rock.00002.wav")
    refused(tmp_path, r"test_filtered\.txt: 1 of 1 files are missing, the first is rock\.00002")
    (tmp_path / "test_filtered.txt").unlink()
    refused(tmp_path, r"test_filtered\.txt is missing; give all three")


# --- several labels -------------------------------------------------------------------------------------


def test_fsd50k(tmp_path: Path) -> None:
    sounds(tmp_path, *(f"FSD50K.dev_audio/{n}.wav" for n in range(3)), "FSD50K.eval_audio/9.wav")
    written(tmp_path / "FSD50K.ground_truth/dev.csv", "fname,labels,mids,split",
            '0,"Guitar,Music","/m/1,/m/2",train', "1,Bark,/m/3,val",
            '2,"Bark,Dog,Animal","/m/3,/m/4,/m/5",train')  # fmt: skip
    written(tmp_path / "FSD50K.ground_truth/eval.csv", "fname,labels,mids", '9,"Dog,Animal","/m/4,/m/5"')
    clips = read(tmp_path)
    assert [(clip.label, clip.others, clip.split) for clip in clips] == [
        ("Guitar", ("Music",), "train"), ("Bark", (), "val"), ("Bark", ("Dog", "Animal"), "train"),
        ("Dog", ("Animal",), "test"),
    ]  # fmt: skip
    assert clips.label_matrix.sum(axis=1).tolist() == [2, 1, 3, 2]
    (tmp_path / "FSD50K.eval_audio/9.wav").unlink()
    refused(tmp_path, r"eval\.csv: 1 of 1 files are missing")
    (tmp_path / "FSD50K.eval_audio").rmdir()
    assert "FSD50K.eval_audio is not here" in read(tmp_path).notes[0]
    written(tmp_path / "FSD50K.ground_truth/dev.csv", "fname,labels,mids,split", "0,Bark,/m/3,hidden")
    refused(tmp_path, r"dev\.csv, line 2: unknown split 'hidden'")


def audioset(folder: Path) -> Path:
    written(folder / "balanced_train_segments.csv", "# Segments csv created Sun Mar  5 10:54:31 2017",
            "# num_ytids=4, num_segs=4", "# YTID, start_seconds, end_seconds, positive_labels",
            '--aE2O5G5WE, 0.000, 1.000, "/m/03fwl,/m/04rlf"', 'zzya4dDVRLk, 2.000, 3.000, "/m/04rlf"',
            '-gonegone-1, 0.000, 10.000, "/m/04rlf"', '_BbIEfXEAaE, 3.000, 4.000, "/m/03fwl"')  # fmt: skip
    sounds(folder, "audio/Y--aE2O5G5WE.wav", "audio/zzya4dDVRLk_2000_3000.wav", seconds=1)
    sounds(folder, "audio/_BbIEfXEAaE.wav", seconds=6)
    return folder


def test_audioset(tmp_path: Path) -> None:
    clips = read(audioset(tmp_path) / "balanced_train_segments.csv")
    assert [(clip.group, clip.start, clip.duration) for clip in clips] == [
        ("--aE2O5G5WE", 0, None), ("zzya4dDVRLk", 0, None),  # these files are their segments
        ("_BbIEfXEAaE", 3, 1),  # of this one the segment is cut
    ]  # fmt: skip
    assert clips.classes == ("/m/03fwl", "/m/04rlf")
    assert clips[0].others == ("/m/04rlf",)
    assert "1 of 4 sounds are missing and left out, the first is -gonegone-1" in clips.notes[0]
    assert {clip.split for clip in clips} == {"train"}


def test_audioset_names_and_folder(tmp_path: Path) -> None:
    audioset(tmp_path)
    names = tmp_path / "class_labels_indices.csv"
    written(names, "index,mid,display_name", '0,/m/03fwl,"Goat, bleat"', '1,/m/04rlf,"Music"')
    clips = read(tmp_path)
    assert clips.classes == ("Goat, bleat", "Music")
    written(names, "index,mid,display_name", '1,/m/04rlf,"Music"')
    refused(tmp_path, r"balanced_train_segments\.csv, line 4: /m/03fwl is not in class_labels_indices\.csv")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('zzya4dDVRLk, 4, 3, "/m/1"', "line 2: end 3 s is not after start 4 s"),
        ('zzya4dDVRLk, x, 3, "/m/1"', "line 2: start_seconds is 'x'"),
        ("zzya4dDVRLk, 1, 3, /m/1,/m/2", "line 2: 5 cells; it must be YTID, start, end and quoted labels"),
        ('-gonegone-1, 1, 3, "/m/1"', "none of the 1 sounds is below .*, e.g. -gonegone-1"),
    ],
)
def test_audioset_mistakes(tmp_path: Path, row: str, sentence: str) -> None:
    sounds(tmp_path, "zzya4dDVRLk.wav")
    table = written(
        tmp_path / "eval_segments.csv", "# YTID, start_seconds, end_seconds, positive_labels", row
    )
    refused(table, sentence)


def test_several_labels_in_a_csv(tmp_path: Path) -> None:
    sounds(tmp_path, "a.wav", "b.wav", "c.wav")
    path = written(tmp_path / "set.csv", "path,label,others", "a.wav,x,y; z;x;y", "b.wav,y,", "c.wav,x,")
    clips = read(path)
    assert clips.classes == ("x", "y", "z")
    assert [clip.others for clip in clips] == [("y", "z"), (), ()]
    assert clips.label_matrix.dtype == np.float32
    assert clips.label_matrix.tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert clips.take([1]).multi_label
    again = read(written(tmp_path / "copy.csv", clips.to_csv()))
    assert again.items == clips.items
    single = Clips(tmp_path, tuple(clips.items[1:]))
    assert not single.multi_label
    assert "others" not in single.to_csv()
    written(path, "path,label,other", "a.wav,x,y")
    refused(path, "unknown column 'other'; did you mean 'others'")

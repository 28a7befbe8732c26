"""Manifests of others: Kaldi folders, JSONL and fold tables; and which layout is taken where two could be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgeaudio.data.clips import Clip
from edgeaudio.data.readers import CsvColumns, layout_of, read
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


# --- Kaldi ----------------------------------------------------------------------------------------------


def kaldi(folder: Path, labels: str = "utt2label") -> Path:
    sounds(folder, "a.wav", "deep/b.wav")
    written(folder / "wav.scp", "u1 a.wav", f"u2 {folder / 'deep' / 'b.wav'}")
    written(folder / labels, "u1 yes please", "u2 no")
    written(folder / "utt2spk", "u1 anna", "u2 ben")
    return folder


@pytest.mark.parametrize("labels", ["utt2label", "utt2class", "text"])
def test_kaldi(tmp_path: Path, labels: str) -> None:
    clips = read(kaldi(tmp_path, labels))
    assert clips.items == (
        Clip(tmp_path / "a.wav", "yes please", group="anna"),
        Clip(tmp_path / "deep" / "b.wav", "no", group="ben"),
    )
    assert read(tmp_path / "wav.scp").items == clips.items


def test_kaldi_segments(tmp_path: Path) -> None:
    kaldi(tmp_path)
    written(tmp_path / "segments", "s1 u1 0.001 0.005", "s2 u1 0.005 -1")
    written(tmp_path / "utt2label", "s1 x", "s2 y")
    assert [(clip.label, clip.start, clip.duration) for clip in read(tmp_path)] == [
        ("x", 0.001, 0.004), ("y", 0.005, None),
    ]  # fmt: skip


def test_kaldi_splits(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        kaldi(tmp_path / name)
    assert read(tmp_path).counts(lambda clip: clip.split) == {"train": 2, "val": 2, "test": 2}


def test_kaldi_commands_are_never_run(tmp_path: Path) -> None:
    kaldi(tmp_path)
    for command in (f"touch {tmp_path / 'done'} |", f"| touch {tmp_path / 'done'}"):
        written(tmp_path / "wav.scp", f"u1 {command}", "u2 deep/b.wav")
        with pytest.raises(DataError, match=r"'u1' is a command \(.*touch .*\), and commands are not run"):
            read(tmp_path)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("name", "lines", "sentence"),
    [
        ("wav.scp", ["u1 data.ark:17", "u2 deep/b.wav"], r"'u1' lies in an archive \(data\.ark:17\)"),
        ("wav.scp", ["u1", "u2 deep/b.wav"], r"wav\.scp, line 1: 'u1' stands alone"),
        ("wav.scp", ["u1 a.wav", "u1 a.wav"], r"wav\.scp, line 2: 'u1' is there twice"),
        ("wav.scp", ["u1 z.wav", "u2 y.wav"], r"wav\.scp: 2 of 2 files are missing, the first is .*z\.wav"),
        ("wav.scp", [], r"wav\.scp names no recordings"),
        ("utt2label", ["u1 x"], r"utt2label: utterance 'u2' has no label"),
        ("utt2label", ["u1 x", "u2 y", "u3 z"], r"utt2label: utterance 'u3' has no sound"),
        ("segments", ["u1 u9 0 1", "u2 u2 0 1"], r"segments, line 1: recording 'u9' is not in wav\.scp"),
        ("segments", ["u1 u1 0 1", "u2 u2 1 0.5"], r"segments, line 2: end 0\.5 s is not after start 1 s"),
        ("segments", ["u1 u1 0"], r"segments, line 1: 3 words"),
    ],
)
def test_kaldi_mistakes(tmp_path: Path, name: str, lines: list[str], sentence: str) -> None:
    written(kaldi(tmp_path) / name, *lines)
    with pytest.raises(DataError, match=sentence):
        read(tmp_path)


def test_kaldi_needs_labels(tmp_path: Path) -> None:
    (kaldi(tmp_path) / "utt2label").unlink()
    with pytest.raises(DataError, match=r"has no labels; write utt2label beside wav\.scp"):
        read(tmp_path)


# --- JSONL ----------------------------------------------------------------------------------------------


def jsonl(folder: Path, *records: Any, name: str = "set.jsonl") -> Path:
    sounds(folder, "a.wav", "b.wav")
    return written(folder / name, *(r if isinstance(r, str) else json.dumps(r) for r in records))


@pytest.mark.parametrize("name", ["set.jsonl", "train_manifest.json"])
@pytest.mark.parametrize("path", ["path", "audio_filepath", "wav"])
@pytest.mark.parametrize("label", ["label", "class", "command", "text"])
def test_jsonl(tmp_path: Path, name: str, path: str, label: str) -> None:
    source = jsonl(
        tmp_path,
        {
            path: "a.wav",
            label: "x",
            "offset": 0.5,
            "duration": 1.5,
            "split": "Train",
            "fold": 3,
            "group": "g",
        },
        "",
        {path: str(tmp_path / "b.wav"), label: 7, "start": 1, "end": 1.25, "device": "mic", "speaker": 1},
        name=name,
    )
    assert read(source).items == (
        Clip(tmp_path / "a.wav", "x", 0.5, 1.5, split="train", fold="3", group="g"),
        Clip(tmp_path / "b.wav", "7", 1.0, 0.25, device="mic"),
    )


def test_jsonl_with_several_labels_and_columns_of_its_own(tmp_path: Path) -> None:
    records = [{"path": "a.wav", "label": ["x", "y"]}, {"path": "b.wav", "label": "y", "others": ["z"]}]
    clips = read(jsonl(tmp_path, *records))
    assert [(clip.label, clip.others) for clip in clips] == [("x", ("y",)), ("y", ("z",))]
    source = jsonl(tmp_path, {"file": "a.wav", "scene": "x", "label": "no"})
    assert read(source, CsvColumns("file", "scene"))[0].label == "x"


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ("{oops", r"line 1: not JSON \(.*\); each line must be one object"),
        ("[1]", r"line 1: '\[1\]' is no JSON object"),
        ({"label": "x"}, "line 1: no path; name the sound file in 'path'"),
        ({"path": "a.wav"}, "line 1: no label; give it in 'label'"),
        ({"path": "a.wav", "label": {"a": 1}}, "is neither a text nor a number"),
        ({"path": "a.wav", "label": "x", "offset": "soon"}, "line 1: offset is 'soon'; it must be a number"),
        ({"path": "a.wav", "label": "x", "duration": 0}, "line 1: it ends 0 s, not after its start 0 s"),
        ({"path": "a.wav", "label": "x", "split": "trian"}, "line 1: unknown split 'trian'"),
        ({"path": "a.wav", "label": "x", "others": "y"}, "line 1: others is 'y'; it must be a list"),
        ({"path": "c.wav", "label": "x"}, r"1 of 1 files are missing, the first is .*c\.wav"),
        ("", "holds no clips"),
    ],
)
def test_jsonl_mistakes(tmp_path: Path, record: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=rf"set\.jsonl.*{sentence}"):
        read(jsonl(tmp_path, record))


# --- fold tables, and which layout is taken ---------------------------------------------------------------


def test_fold_table(tmp_path: Path) -> None:
    sounds(tmp_path, "a.wav", "b.wav")
    header = "path,class_id,class,fold,frames,sr,duration"
    path = written(tmp_path / "folds.csv", header, "a.wav,1,y,0,80,8000,0.01", "b.wav,0,x,1,80,8000,0.01")
    clips = read(path)
    assert [(clip.label, clip.fold, clip.duration) for clip in clips] == [("y", "0", None), ("x", "1", None)]
    written(path, "path,class_id,fold", "a.wav,1,0")
    with pytest.raises(DataError, match=r"no column 'label'.*--label-column"):
        read(path)


def test_the_more_special_layout_is_taken(tmp_path: Path) -> None:
    """Each layer is more special than those before it, and all lie in one folder."""
    layers = [
        ("x/1.wav", "class folders"),
        ("wav.scp", "a Kaldi folder"),
        ("UrbanSound8K.csv", "UrbanSound8K"),
        ("meta.csv", "TAU Urban Acoustic Scenes"),
        ("clips.csv", "a folder with a clips.csv"),
    ]
    for name, layout in layers:
        if name.endswith(".wav"):
            sounds(tmp_path, name)
        else:
            written(tmp_path / name, "filename,scene_label,source_label")
        assert layout_of(tmp_path).name == layout


def test_an_archive_left_beside_the_sounds_is_no_shard(tmp_path: Path) -> None:
    sounds(tmp_path, "dog/1.wav", "cat/1.wav")
    written(tmp_path / "download.tar", "not even a tar file")
    assert read(tmp_path).classes == ("cat", "dog")


def test_what_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"readme\.md is neither a folder nor a CSV file .*\.jsonl, \.h5 or \.tar"
    ):
        read(written(tmp_path / "readme.md", "hello"))

"""Every layout of labelled sound, and every sentence that refuses one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.readers import CsvColumns, read
from edgeaudio.errors import DataError

ESC10 = Path(__file__).parents[1] / ".." / "shared" / "data" / "esc10"


def sounds(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(80, 0.1), 8000)
    return folder


def manifest(folder: Path, text: str, name: str = "set.csv") -> Path:
    """A manifest beside the sounds a.wav and b.wav."""
    sounds(folder, "a.wav", "b.wav")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# --- folders --------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    sounds(tmp_path, "dog/2.wav", "dog/1.WAV", "cat/deep/er/3.flac", "loose.wav", ".git/4.wav", "cat/.5.wav")
    (tmp_path / "dog" / "notes.txt").touch()
    clips = read(tmp_path)
    assert clips.classes == ("cat", "dog")
    assert clips.targets == [0, 1, 1]
    assert [clips.name_of(clip) for clip in clips] == ["cat/deep/er/3.flac", "dog/1.WAV", "dog/2.wav"]
    assert {clip.split for clip in clips} == {""}
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"empty holds no sound files, so it can't be a class; fill it, take it away"
    ):
        read(tmp_path)


def test_columns_of_ones_own_are_left_alone(tmp_path: Path) -> None:
    sounds(tmp_path, "a.wav", "b.wav")
    (tmp_path / "set.csv").write_text("path,label,folder,state,device_id\na.wav,x,1,2,3\nb.wav,y,1,2,3\n")
    assert [clip.fold for clip in read(tmp_path / "set.csv")] == ["", ""]


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "eval"), ("train", "dev")]
)
def test_split_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    sounds(tmp_path, *(f"{name}/{label}/{i}.wav" for name in names for label in "xy" for i in range(2)))
    clips = read(str(tmp_path))
    assert clips.classes == ("x", "y")
    expected = dict.fromkeys(("train", "val", "test")[: len(names)], 4)
    assert clips.counts(lambda clip: clip.split) == expected
    expected_of = dict(zip(names, ("train", "val", "test"), strict=False))
    assert all(clip.split == expected_of[clip.path.parts[-3]] for clip in clips)


def test_classes_named_like_one_split_stay_classes(tmp_path: Path) -> None:
    clips = read(sounds(tmp_path, "train/1.wav", "plane/1.wav"))
    assert clips.classes == ("plane", "train")


def test_clips_csv_goes_before_the_folders(tmp_path: Path) -> None:
    sounds(tmp_path, "audio/1.wav", "audio/2.wav")
    manifest(tmp_path, "path,label\naudio/1.wav,x\naudio/2.wav,y\n", "clips.csv")
    assert read(tmp_path).classes == ("x", "y")


def test_esc_layout(tmp_path: Path) -> None:
    sounds(tmp_path, *(f"audio/{i}.wav" for i in range(4)))
    rows = "".join(f"{i}.wav,{i % 2 + 1},{i},{'xy'[i // 2]},rec{i % 2}\n" for i in range(4))
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "attribution.csv").write_text("file,author\n")
    (tmp_path / "meta" / "esc.csv").write_text("filename,fold,target,category,src_file\n" + rows)
    clips = read(tmp_path)
    assert [(c.path.name, c.label, c.fold, c.group) for c in clips] == [
        ("0.wav", "x", "1", "rec0"), ("1.wav", "x", "2", "rec1"),
        ("2.wav", "y", "1", "rec0"), ("3.wav", "y", "2", "rec1"),
    ]  # fmt: skip
    assert clips.folds == ["1", "2"]
    (tmp_path / "audio" / "3.wav").unlink()
    with pytest.raises(DataError, match=r"esc\.csv, line 5: .*3\.wav is missing"):
        read(tmp_path)


@pytest.mark.skipif(not ESC10.is_dir(), reason="ESC-10 is not here")
def test_the_real_esc10() -> None:
    clips = read(ESC10)
    assert clips.folds == ["1", "2", "3", "4", "5"]
    assert set(clips.counts(lambda clip: clip.label).values()) == {40}
    assert set(clips.counts(lambda clip: clip.fold).values()) == {80}


# --- manifests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_column(tmp_path: Path, delimiter: str, end: str, mark: str) -> None:
    lines = ["path,label,fold,split,group,device,start,end,comment", "a.wav,x,1,Validation,g,mic,0.5,2,fine",
             "b.wav, y ,2,train,h,,,,", "a.wav,y,10,TEST,g,,1.5,,", ""]  # fmt: skip
    path = manifest(tmp_path, mark + end.join(lines).replace(",", delimiter), "set.tsv")
    clips = read(path)
    a, b = tmp_path / "a.wav", tmp_path / "b.wav"
    assert clips.items == (
        Clip(a, "x", start=0.5, duration=1.5, fold="1", split="val", group="g", device="mic"),
        Clip(b, "y", fold="2", split="train", group="h"),
        Clip(a, "y", start=1.5, fold="10", split="test", group="g"),
    )
    assert clips.folds == ["1", "2", "10"]
    assert [clips.name_of(clip) for clip in clips] == ["a.wav[0.5–2 s]", "b.wav", "a.wav[1.5– s]"]


def test_other_names_for_path_and_label(tmp_path: Path) -> None:
    path = manifest(tmp_path, "scene,file\nx,a.wav\ny,b.wav\n")
    clips = read(path, CsvColumns(path="file", label="scene"))
    assert [(clip.path.name, clip.label) for clip in clips] == [("a.wav", "x"), ("b.wav", "y")]


def test_spaces_in_the_header_do_no_harm(tmp_path: Path) -> None:
    assert read(manifest(tmp_path, "path, label , start\na.wav, x, 1\nb.wav, y, 2\n"))[1].start == 2


def test_absolute_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    sounds(tmp_path / "elsewhere", "c.wav")
    path = manifest(tmp_path / "here", f"path,label\n{tmp_path / 'elsewhere' / 'c.wav'},x\na.wav,y\n")
    assert read(path)[0].path == tmp_path / "elsewhere" / "c.wav"


def test_written_table_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 'a.wav,x,1,val,g,mic,0.5,2\nb.wav,"y, or z",2,train,,,,\n'
    manifest(tmp_path / "data", "path,label,fold,split,group,device,start,end\n" + rows)
    monkeypatch.chdir(tmp_path)
    clips = read("data/set.csv")  # relative here, and the copy lies elsewhere
    (tmp_path / "copy.csv").write_text(clips.to_csv())
    again = read(tmp_path / "copy.csv")
    assert [c.path for c in again] == [tmp_path / c.path for c in clips]
    assert [(c.label, c.fold, c.split, c.group, c.device, c.start, c.duration) for c in again] == [
        (c.label, c.fold, c.split, c.group, c.device, c.start, c.duration) for c in clips
    ]


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no column 'path'"),
        ("path,label\n", "has a header and no clips"),
        ("paht,label\na.wav,x\n", r"no column 'path'; did you mean 'paht'\? \(name it with --path-column\)"),
        ("path,class\na.wav,x\n", r"no column 'label'; .*class.*\(name it with --label-column\)"),
        ("path,label,spilt\na.wav,x,train\n", "unknown column 'spilt'; did you mean 'split'?"),
        ("path,label,Device\na.wav,x,mic\n", "unknown column 'Device'; did you mean 'device'?"),
        ("path,label\na.wav,x\nb.wav,\n", "line 3: the column 'label' is empty"),
        ("path,label\n,x\n", "line 2: the column 'path' is empty"),
        ("path,label,split\na.wav,x,trian\n", "line 2: unknown split 'trian'; use one of train, val, test"),
        ("path,label,start\na.wav,x,soon\n", "line 2: start is 'soon'; it must be a number of seconds"),
        ("path,label,start\na.wav,x,-1\n", "line 2: start is '-1'"),
        ("path,label,end\na.wav,x,nan\n", "line 2: end is 'nan'"),
        ("path,label,end\na.wav,x,inf\n", "line 2: end is 'inf'"),
        ("path,label,start,end\na.wav,x,2,2\n", "line 2: end 2 s is not after start 2 s"),
        ("path,label\na.wav,x\nc.wav,y\nd.wav,y\n", r"2 of 3 files are missing, the first is .*c\.wav"),
        ('path,label\na.wav,"' + 140_000 * "x" + "\n", "not valid CSV"),
    ],
)
def test_wrong_manifest_is_explained(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=rf"set\.csv.*{sentence}"):
        read(manifest(tmp_path, text))


def test_manifest_must_be_utf8_text(tmp_path: Path) -> None:
    path = manifest(tmp_path, "")
    path.write_bytes("path,label\na.wav,Gebäude\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        read(path)


def test_wrong_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no sound files in class folders \(looked for .*\.flac.*\.wav"):
        read(tmp_path)
    sounds(tmp_path, "a.wav", "b.wav")
    with pytest.raises(DataError, match="2 sound files but no class folders; give each class a folder"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"a\.wav is neither a folder nor a CSV file"):
        read(tmp_path / "a.wav")
    sounds(tmp_path, "only/1.wav")
    assert read(tmp_path).classes == ("only",)  # enough to be scored, not to be trained on


def test_table_refuses_labels_outside_its_classes() -> None:
    with pytest.raises(DataError, match=r"unknown label 'dgo'; did you mean 'dog'\?"):
        Clips(Path("set"), (Clip(Path("1.wav"), "dgo"),), classes=("cat", "dog"))

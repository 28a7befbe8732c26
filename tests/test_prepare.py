"""Data sets written anew: what comes back is what went in, and nothing half written is ever left."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from edgeaudio.audio import decode, load_mono
from edgeaudio.cli.data import data_app
from edgeaudio.console import Console
from edgeaudio.data import waveforms
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.hdf5 import write_hdf5
from edgeaudio.data.prepare import Wish, prepare
from edgeaudio.data.prepare_folds import with_folds
from edgeaudio.data.prepare_tau import find_runs
from edgeaudio.data.readers import CsvColumns, layout_of, read
from edgeaudio.data.shards import write_shards
from edgeaudio.errors import AudioError, DataError, EdgeAudioError

T = TypeVar("T")
TAU_SAMPLE = Path(__file__).parents[1] / ".." / "shared" / "data" / "tau-sample"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEAUDIO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def noise(
    path: Path, seconds: float, seed: int, rate: int = 8000, channels: int = 1, subtype: str = "PCM_24"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.9, 0.9, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Clips:
    """Every field in use, of files of three formats, lengths and rates; one file holds two clips."""
    folder = tmp_path / "set"
    a, b = noise(folder / "x/a.wav", 0.2, 1), noise(folder / "x/b.flac", 0.3, 2, channels=2, subtype="PCM_16")
    c, d = noise(folder / "y/a.wav", 0.5, 3, 11025, subtype="FLOAT"), noise(folder / "y/d ü.wav", 0.25, 4)
    items = (
        Clip(c, "y", start=0.1, duration=0.15, split="train", group="c", device="mic"),
        Clip(a, "x", fold="1", split="train", group="a", device="s1", others=("y", "z")),
        Clip(b, "x", fold="2", split="test", group="b"),
        Clip(c, "ü y", start=0.3, split="train", group="c"),
        Clip(d, "z", split="val", others=("x",)),
    )
    return Clips(folder, items)


def fields(clips: Clips) -> list[Clip]:
    return [replace(clip, path=Path()) for clip in clips]


def same_sounds(a: Clips, b: Clips, rate: int | None = None) -> None:
    """The same waveforms bit for bit; at `rate` if `b` was brought to it."""
    for one, other in zip(a, b, strict=True):
        wanted = decode(one.path) if rate is None else (load_mono(one.path, rate), rate)
        found = decode(other.path)
        assert wanted[1] == found[1]
        np.testing.assert_array_equal(wanted[0], found[0])


class Killer(Console):
    """A console in which the process is killed after two steps of work."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        for i, item in enumerate(items):
            if i == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item


def killed_in(work: Any) -> None:
    """Run `work` in a process of its own, in which it must be killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


# --- HDF5 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, 16000])
def test_hdf5_keeps_everything(table: Clips, tmp_path: Path, rate: int | None) -> None:
    write_hdf5(table, tmp_path / "set.h5", rate)
    again = read(tmp_path / "set.h5")
    assert fields(again) == fields(table)
    assert (again.classes, again.multi_label) == (table.classes, True)
    same_sounds(table, again, rate)
    assert [again.name_of(clip) for clip in again][1] == "x/a.wav"
    assert again[0].path == again[3].path  # one file, two clips


def test_hdf5_as_others_see_it(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"set/{label}/{n}.wav", 0.1, n) for n, label in enumerate("xyx")]
    table = Clips(
        tmp_path / "set", tuple(Clip(p, p.parent.name, device=f"d{i}") for i, p in enumerate(paths))
    )
    write_hdf5(table, tmp_path / "set.h5")
    with h5py.File(tmp_path / "set.h5") as file:
        assert file["data"].shape == (3, 800)
        assert file.attrs["sample_rate"] == 8000
        for i, path in enumerate(paths):
            np.testing.assert_array_equal(file["data"][i], soundfile.read(path, dtype="float32")[0])
        assert file["label"].asstr()[:].tolist() == ["x", "y", "x"]
        assert file["device"].asstr()[:].tolist() == ["d0", "d1", "d2"]
        assert file["filename"].asstr()[:].tolist() == ["x/0.wav", "y/1.wav", "x/2.wav"]
        assert file["class_id"][:].tolist() == [0, 1, 0]


def test_hdf5_of_others(tmp_path: Path) -> None:
    data = np.random.default_rng(0).uniform(-1, 1, (2, 50)).astype("f4")
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["data"], file["label"], file["device"] = data, [3, 1], [b"a", b"b"]
    with pytest.raises(DataError, match=r"other\.hdf5 doesn't say its sample rate; add it with h5py"):
        read(path)
    with h5py.File(path, "a") as file:
        file.attrs["sample_rate"] = 4000
    clips = read(path)
    assert [(clip.label, clip.device) for clip in clips] == [("3", "a"), ("1", "b")]
    samples, rate = soundfile.read(clips[1].path, dtype="float32")
    assert rate == 4000
    np.testing.assert_array_equal(samples, data[1])
    with h5py.File(path, "a") as file:
        del file["label"]
    with pytest.raises(DataError, match=r"has no data set 'label'"):
        read(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=r"other\.hdf5 can't be read as HDF5"):
        read(path)


def test_hdf5_that_breaks_off_leaves_nothing(table: Clips, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed_in(lambda: write_hdf5(table, out / "set.h5", console=Killer()))
    assert not (out / "set.h5").exists()
    bad = replace(table, items=(*table, Clip(tmp_path / "bad.wav", "x")))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"bad\.wav can't be read as sound"):
        write_hdf5(bad, out / "two.h5")
    assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    write_hdf5(table, out / "set.h5")
    before = (out / "set.h5").read_bytes()
    with pytest.raises(DataError, match=r"set\.h5 is there already and isn't overwritten"):
        write_hdf5(table, out / "set.h5")
    assert (out / "set.h5").read_bytes() == before


# --- the cache that they are unpacked into ----------------------------------------------------------------


def test_unpacked_once_and_by_content(table: Clips, tmp_path: Path, cache: Path) -> None:
    write_hdf5(table, tmp_path / "set.h5")
    first = read(tmp_path / "set.h5")
    times = [clip.path.stat().st_mtime_ns for clip in first]
    (tmp_path / "set.h5").rename(tmp_path / "moved.h5")
    moved = read(tmp_path / "moved.h5")
    assert moved == first
    assert [clip.path.stat().st_mtime_ns for clip in moved] == times
    content = [clip.path.read_bytes() for clip in first]
    for name in (cache / "unpacked").iterdir():
        name.rename(tmp_path / f"old-{name.name}")
    assert [clip.path.read_bytes() for clip in read(tmp_path / "moved.h5")] == content  # no time of day in it


def test_interrupted_unpacking_leaves_nothing_half(table: Clips, tmp_path: Path, cache: Path) -> None:
    write_shards(table, tmp_path / "shards", encoding="wav")
    tar = tmp_path / "shards" / "train-000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train-000000\.tar can't be read as a tar file"):
        read(tmp_path / "shards")
    assert not [path for path in (cache / "unpacked").iterdir() if path.is_dir()]
    tar.write_bytes(whole)
    assert fields(read(tmp_path / "shards")) == fields(table)
    (folder,) = [path for path in (cache / "unpacked").iterdir() if path.is_dir()]
    partial = folder.with_name(f"{folder.name}.partial")  # what a kill would leave
    folder.rename(partial)
    (partial / "clips.jsonl").write_text("")
    assert fields(read(tmp_path / "shards")) == fields(table)
    assert not partial.exists()


def test_names_in_a_tar_cannot_lead_out_of_the_cache(tmp_path: Path, cache: Path) -> None:
    sound = noise(tmp_path / "a.wav", 0.1, 0)
    evil = {"label": "x", "filename": "../../../evil.wav"}
    (tmp_path / "a.json").write_text(json.dumps(evil))
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(sound, "../../worse.wav")
        tar.add(tmp_path / "a.json", "../../worse.json")
    clips = read(tmp_path / "evil.tar")
    assert clips[0].path.resolve().is_relative_to((cache / "unpacked").resolve())
    assert len(list(tmp_path.rglob("*.wav"))) == 2


# --- shards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "rate"), [("original", None), ("wav", None), ("wav", 16000)])
@pytest.mark.parametrize("shards", [None, 1, 2])
def test_shards_keep_everything(
    table: Clips, tmp_path: Path, encoding: str, rate: int | None, shards: int | None
) -> None:
    names = write_shards(table, tmp_path / "shards", shards, encoding, rate)
    again = read(tmp_path / "shards")
    assert fields(again) == fields(table)
    assert (again.classes, again.multi_label) == (table.classes, True)
    same_sounds(table, again, rate)
    assert again.name_of(again[1]) == "x/a.wav"
    assert names == sorted(names)
    assert {name.split("-")[0] for name in names} == {"train", "val", "test"}
    assert len([name for name in names if name.startswith("train")]) == (shards or 1)


def test_shards_as_others_see_them(tmp_path: Path) -> None:
    paths = [noise(tmp_path / f"set/{'xy'[n % 2]}/{n}.wav", 0.1, n) for n in range(9)]
    table = Clips(tmp_path / "set", tuple(Clip(path, path.parent.name) for path in paths))
    names = write_shards(table, tmp_path / "shards", 2, "flac")
    assert names == ["clips-000000.tar", "clips-000001.tar"]
    seen = []
    for name in names:
        with tarfile.open(tmp_path / "shards" / name) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert len(members) % 3 == 0
        keys = [key for key, _ in itertools.groupby(members, key=lambda name: name.split(".")[0])]
        assert len(keys) == len(set(keys)) == len(members) // 3  # parts of a sample stand together
        for key in keys:
            about = json.loads(members[f"{key}.json"])
            assert about["label"] == "xy"[int(members[f"{key}.cls"])]
            (tmp_path / "one.flac").write_bytes(members[f"{key}.flac"])
            heard, _ = soundfile.read(tmp_path / "one.flac", dtype="int32")
            wanted, _ = soundfile.read(tmp_path / "set" / about["filename"], dtype="int32")
            np.testing.assert_array_equal(heard, wanted)
            seen.append(about["filename"])
    assert sorted(seen) == sorted(f"{path.parent.name}/{path.name}" for path in paths)
    assert seen != sorted(seen)  # shuffled
    assert fields(read(tmp_path / "shards")) == fields(table)
    assert len(read(tmp_path / "shards" / names[0])) == 5


def test_shards_of_others(tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 0.1, 0)
    (tmp_path / "dog.cls").write_text("dog\n")
    (tmp_path / "cat.json").write_text('{"class": "cat", "speaker": 7}')
    parts = [("a.wav", "d/1.wav"), ("dog.cls", "d/1.cls"), ("a.wav", "d/2.left.WAV"), ("a.wav", "3.wav"),
             ("cat.json", "3.json"), ("dog.cls", "d/readme")]  # fmt: skip
    folder = tmp_path / "shards"
    folder.mkdir()

    def pack(*members: tuple[str, str]) -> None:
        with tarfile.open(folder / "0.tar", "w") as tar:
            for path, name in members:
                tar.add(tmp_path / path, name)

    pack(parts[0], parts[1], parts[3], parts[4])
    assert sorted(clip.label for clip in read(folder)) == ["cat", "dog"]
    for members, sentence in (
        (parts[:1], "sample d/1 has no label in .json or .cls"),
        (parts[1:2], "sample d/1 has no sound"),
        ([parts[0], parts[1], ("a.wav", "d/1.flac")], "sample d/1 has two sounds"),
        ([], "holds no samples"),
    ):
        pack(*members)
        with pytest.raises(DataError, match=sentence):
            read(folder)


def test_flac_refuses_what_it_cannot_hold(table: Clips, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"FLAC can't hold the samples of .*a\.wav \(FLOAT\) exactly"):
        write_shards(table, tmp_path / "shards", encoding="flac")
    assert not (tmp_path / "shards").exists()


# --- folds ----------------------------------------------------------------------------------------------


def grouped(tmp_path: Path, clips: int = 60, groups: int = 15) -> Clips:
    path = noise(tmp_path / "set" / "a.wav", 0.1, 0)
    items = [
        Clip(path, "xyz"[i // (clips // 3)], start=i / 1000, group=f"g{i % groups}") for i in range(clips)
    ]
    return Clips(tmp_path / "set", tuple(items))


def test_folds_are_stratified_and_group_safe(tmp_path: Path) -> None:
    clips = with_folds(grouped(tmp_path), 5, seed=3)
    assert clips.folds == ["0", "1", "2", "3", "4"]
    of_group: dict[str, set[str]] = {}
    for clip in clips:
        of_group.setdefault(clip.group, set()).add(clip.fold)
    assert all(len(folds) == 1 for folds in of_group.values())
    sizes = [
        sum(c.label == label and c.fold == fold for c in clips) for label in "xyz" for fold in clips.folds
    ]
    assert min(sizes) >= 2
    assert max(sizes) <= 6
    assert with_folds(grouped(tmp_path), 5, seed=3) == clips != with_folds(grouped(tmp_path), 5, seed=4)


def test_official_folds_are_kept(tmp_path: Path) -> None:
    clips = grouped(tmp_path)
    official = replace(clips, items=tuple(replace(c, fold=f"{i % 3 + 1}") for i, c in enumerate(clips)))
    assert with_folds(official, 5, 0) == official
    some = replace(clips, items=(replace(clips[0], fold="1"), *clips.items[1:]))
    with pytest.raises(DataError, match="has no fold though others have"):
        with_folds(some, 5, 0)


def test_too_few_for_folds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 3 groups, too few for 5 folds; use --folds 3"):
        with_folds(grouped(tmp_path, groups=3), 5, 0)
    few = grouped(tmp_path, clips=9, groups=9)
    with pytest.raises(DataError, match="has 3 clips of x, its largest class, too few for 5 folds"):
        with_folds(few, 5, 0)
    rare = replace(grouped(tmp_path), classes=(), items=(*grouped(tmp_path), Clip(few[0].path, "rare")))
    assert "1 class has clips or groups for fewer than 5 folds: rare." in with_folds(rare, 5, 0).notes


@pytest.mark.parametrize("absolute", [False, True])
def test_fold_table(table: Clips, tmp_path: Path, absolute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clips = Clips(table.root, tuple(replace(clip, fold=str(i % 2)) for i, clip in enumerate(table)))
    out = Path("out/folds.csv")
    (told,) = prepare(clips, out, Wish(absolute=absolute))
    assert "2 official folds; paths are " + ("absolute" if absolute else "relative to folds.csv") in told
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert list(rows[0])[:7] == ["path", "class_id", "class", "fold", "frames", "sr", "duration"]
    assert all(Path(row["path"]).is_absolute() == absolute for row in rows)
    heard = [decode(clip.path, clip.start, clip.duration) for clip in clips]
    assert [(int(row["frames"]), int(row["sr"])) for row in rows] == [(len(w), rate) for w, rate in heard]
    assert [float(row["duration"]) for row in rows] == pytest.approx(
        [len(w) / rate for w, rate in heard], abs=1e-6
    )
    assert [clips.classes[int(row["class_id"])] for row in rows] == [row["class"] for row in rows]
    again = read(out)
    assert [replace(c, duration=None) for c in fields(again)] == [
        replace(c, duration=None) for c in fields(clips)
    ]
    assert [clip.path.resolve() for clip in again] == [clip.path for clip in table]
    assert again[0].duration == pytest.approx(0.15, abs=1e-6)


# --- reassembly -----------------------------------------------------------------------------------------


def seconds(folder: Path, *names: str, rate: int = 2000) -> Clips:
    """One-second clips of TAU, in the order of the names."""
    rows = ["filename\tscene_label\tidentifier\tsource_label"]
    for i, name in enumerate(names):
        noise(folder / "audio" / f"{name}.wav", 1, i, rate)
        scene, city, place, _, _, device = name.split("-")
        rows.append(f"audio/{name}.wav\t{scene}\t{city}-{place}\t{device}")
    (folder / "meta.csv").write_text("\n".join(rows) + "\n")
    return read(folder)


def test_reassembly_goes_by_the_second(tmp_path: Path) -> None:
    order = [3, 0, 9, 1, 8, 2, 7, 4, 6, 5]  # not the order of the rows
    names = [f"bus-lyon-1-7-{second}-{device}" for second in order for device in ("a", "s1")]
    clips = seconds(tmp_path / "tau", *names)
    told = prepare(clips, tmp_path / "long", Wish(reassemble=True))
    assert told == ["20 clips were put together into 2 whole segments of 10 s."]
    long = read(tmp_path / "long")
    assert [(clip.path.name, clip.group, clip.device) for clip in long] == [
        ("bus-lyon-1-7-a.wav", "lyon-1", "a"), ("bus-lyon-1-7-s1.wav", "lyon-1", "s1"),
    ]  # fmt: skip
    for clip in long:
        parts = [tmp_path / f"tau/audio/bus-lyon-1-7-{second}-{clip.device}.wav" for second in range(10)]
        wanted = np.concatenate([soundfile.read(part, dtype="int32")[0] for part in parts])
        np.testing.assert_array_equal(soundfile.read(clip.path, dtype="int32")[0], wanted)
        assert soundfile.info(clip.path).subtype == "PCM_24"
    (tmp_path / "long").rename(tmp_path / "moved")
    assert len(read(tmp_path / "moved")) == 2


def test_incomplete_segments_are_told_and_never_spliced(tmp_path: Path) -> None:
    clips = seconds(tmp_path / "tau", *(f"bus-lyon-1-7-{second}-a" for second in (0, 1, 2, 5, 6, 9)))
    runs = find_runs(clips.items)
    assert [(run.name, len(run.clips)) for run in runs] == [
        ("bus-lyon-1-7-0to2-a", 3), ("bus-lyon-1-7-5to6-a", 2), ("bus-lyon-1-7-9-a", 1),
    ]  # fmt: skip
    told = prepare(clips, tmp_path / "long", Wish(reassemble=True))
    assert "1 segments are incomplete and written as 3 runs" in told[1]
    assert sum(soundfile.info(clip.path).duration for clip in read(tmp_path / "long")) == 6


def test_tested_clips_stay_as_they_are(tmp_path: Path) -> None:
    train = [f"bus-lyon-1-7-{second}-a" for second in range(10)]
    test = [f"bus-oslo-2-9-{second}-a" for second in range(3)]
    seconds(tmp_path / "tau", *train, *test)
    setup = tmp_path / "tau" / "evaluation_setup"
    setup.mkdir()
    for name, part in (("train", train), ("test", test)):
        (setup / f"fold1_{name}.csv").write_text("filename\n" + "".join(f"audio/{n}.wav\n" for n in part))
    prepare(read(tmp_path / "tau"), tmp_path / "long", Wish(reassemble=True))
    long = read(tmp_path / "long")
    assert long.counts(lambda clip: clip.split) == {"train": 1, "test": 3}
    for clip in long.take(long.split_indices("test")):
        assert clip.path.read_bytes() == (tmp_path / "tau/audio" / clip.path.name).read_bytes()


def test_one_second_windows_of_ten_second_clips(tmp_path: Path) -> None:
    from edgeaudio.training.windows import WindowSet

    clips = seconds(tmp_path / "tau", *(f"bus-lyon-1-7-{s}-{d}" for s in range(10) for d in "ab"), rate=2000)
    prepare(clips, tmp_path / "long", Wish(reassemble=True))
    table, waves = waveforms.prepare(read(tmp_path / "long"), 2000)
    windows = WindowSet(waves, [0, 1], table.targets, window=2000, hop=500)
    assert len(windows) == 2 * 37  # a quarter second apart, across the joints
    long, _ = soundfile.read(tmp_path / "long/audio/bus-lyon-1-7-b.wav", dtype="float32")
    np.testing.assert_array_equal(windows.waveform([38])[0].numpy(), long[500:2500])


def test_reassembly_mistakes(tmp_path: Path) -> None:
    clips = seconds(tmp_path / "tau", "bus-lyon-1-7-0-a", "bus-lyon-1-7-1-a")
    with pytest.raises(DataError, match=r"1\.wav can't be put together: files must be .*<second>-<device>"):
        prepare(
            Clips(tmp_path, (Clip(noise(tmp_path / "1.wav", 1, 0), "x"),)),
            tmp_path / "o",
            Wish(reassemble=True),
        )
    noise(clips[1].path, 1, 0, rate=4000)
    with pytest.raises(DataError, match=r"7-1-a\.wav has another format than the seconds before it"):
        prepare(clips, tmp_path / "o", Wish(reassemble=True))
    assert not (tmp_path / "o").exists()
    noise(clips[1].path, 0.9, 0, rate=2000)
    assert "1 of the clips are not exactly 1 s long." in prepare(clips, tmp_path / "o", Wish(reassemble=True))


@pytest.mark.skipif(not TAU_SAMPLE.is_dir(), reason="the TAU sample is not here")
def test_the_real_tau_sample_survives_every_form(tmp_path: Path) -> None:
    clips = read(TAU_SAMPLE)
    some = clips.take(range(0, 200, 10))
    write_hdf5(some, tmp_path / "tau.h5", 32000)
    write_shards(some, tmp_path / "shards", 1)
    for source, rate in ((tmp_path / "tau.h5", 32000), (tmp_path / "shards", None)):
        again = read(source)
        assert fields(again) == fields(some)
        same_sounds(some, again, rate)


# --- wishes and the command line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "wish", "sentence"),
    [
        ("out", Wish(), r"can't tell from .*out what to write; name a \.csv"),
        ("out.csv", Wish(rate=8000), "--rate means nothing for csv"),
        ("out.h5", Wish(encoding="flac"), "--encoding means nothing for hdf5"),
        ("out.h5", Wish(absolute=True), "--absolute means nothing for hdf5"),
        ("out.h5", Wish(shards=2), "can't be hdf5 and webdataset at once"),
        ("out", Wish(shards=2, reassemble=True), "can't be reassembled and webdataset at once"),
        ("out", Wish("webdatset"), "unknown --format 'webdatset'; did you mean 'webdataset'"),
        ("out", Wish(shards=1, encoding="falc"), "unknown --encoding 'falc'; did you mean 'flac'"),
        ("out", Wish(shards=1, rate=8000, encoding="flac"), "--rate makes new samples"),
        ("set", Wish(shards=1), "set is there already and isn't overwritten"),
    ],
)
def test_impossible_wishes(table: Clips, tmp_path: Path, output: str, wish: Wish, sentence: str) -> None:
    with pytest.raises(EdgeAudioError, match=sentence):
        prepare(table, tmp_path / output, wish)


def test_bad_sounds_are_left_out_on_request(table: Clips, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    bad = replace(table, items=(*table, Clip(tmp_path / "bad.wav", "x")))
    prepare(bad, tmp_path / "set.h5", Wish(skip_bad=True))
    assert fields(read(tmp_path / "set.h5")) == fields(table)


def test_from_the_command_line(tmp_path: Path) -> None:
    for i in range(20):
        noise(tmp_path / "set" / "xy"[i % 2] / f"{i}.wav", 0.1, i)
    run = CliRunner().invoke
    for name, options in (
        ("f.csv", ["--folds", "4"]),
        ("d.h5", ["--rate", "8000"]),
        ("s", ["--shards", "2"]),
    ):
        done = run(data_app, ["prepare", str(tmp_path / "set"), "-o", str(tmp_path / name), *options])
        assert done.exit_code == 0, done.output
        assert done.stdout.strip() == str(tmp_path / name)
        assert (
            layout_of(tmp_path / name).name
            == {"f": "a CSV of clips", "d": "an HDF5 file", "s": "WebDataset shards"}[name[0]]
        )
        assert sorted(clip.label for clip in read(tmp_path / name)) == ["x"] * 10 + ["y"] * 10
    done = run(data_app, ["prepare", str(tmp_path / "set"), "-o", str(tmp_path / "x.csv"), "--subset", "12"])
    assert isinstance(done.exception, DataError)
    assert "(class folders) has no subsets; leave --subset out" in str(done.exception)


def test_the_subset_is_kept_with_the_job(tmp_path: Path) -> None:
    from edgeaudio.recipes import load_recipe, load_target
    from edgeaudio.training.job import Job, load_job

    job = Job(tmp_path, load_recipe("dcase2024_baseline", "students"), (), load_target("x86"))
    assert "--subset" not in job.command()
    asked = replace(job, columns=CsvColumns(subset="25"))
    assert "--subset 25" in asked.command()
    assert "--path-column" not in asked.command()
    asked.save(tmp_path)
    assert load_job(tmp_path).columns == CsvColumns(subset="25")

"""`edgeaudio segments` as a user meets it: recordings pasted together from sounds that the bundle knows."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import Result
from conftest import edgeaudio
from tone_bundle import RATE, tone, tone_bundle
from typer.testing import CliRunner

from edgeaudio.cli import app
from edgeaudio.errors import EdgeAudioError
from edgeaudio.segments.timeline import lines_of, tick_name, tick_step

SOUNDS = [("low", 2.0), ("high", 3.0), ("middle", 1.0), ("low", 2.0), ("middle", 2.0)]
"""Ten seconds."""
RED = (212, 0, 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_bundle(tmp_path_factory.mktemp("tones") / "bundle").folder


@pytest.fixture(scope="module")
def polyphonic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_bundle(tmp_path_factory.mktemp("tones") / "several", several=True).folder


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "pasted.wav"
    soundfile.write(path, np.concatenate([tone(name, seconds=length) for name, length in SOUNDS]), RATE)
    return path


def listed(path: Path, sounds: list[tuple[str, float]], shift: float = 0.0) -> Path:
    lines, start = [], 0.0
    for name, length in sounds:
        begin, end = start + shift, min(start + length + shift, 10.0)
        lines += [f"{begin:.3f}\t{end:.3f}\t{name}\n"] if name else []
        start += length
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def truth(recording: Path) -> Path:
    return listed(recording.with_suffix(".txt"), SOUNDS)


def segments(*words: object) -> Result:
    return CliRunner().invoke(app, ["segments", *map(str, words)])


def figures(*words: object) -> dict[str, Any]:
    done = segments(*words, "--json", "--quiet")
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*words: object) -> str:
    done = segments(*words)
    assert isinstance(done.exception, EdgeAudioError), (done.output, done.exception)
    return str(done.exception)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def test_known_sounds_are_all_right(bundle: Path, recording: Path, truth: Path) -> None:
    found = figures(bundle, recording, truth)
    assert found["time"]["accuracy"] == found["time"]["macro_f1"] == 1
    assert found["time"]["told"] == 1
    for kind in ("segment_based", "event_based"):
        assert (found[kind]["f1"], found[kind]["error_rate"]) == (1, 0)
    assert found["event_based"]["truth"] == 5
    assert found["time"]["confusion"]["seconds"] == [[4, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]]
    assert (found["labels_at_a_time"], found["gaps"]) == ("one", "unknown")


def test_truth_that_is_shifted(bundle: Path, recording: Path) -> None:
    late = listed(recording.with_name("late.txt"), SOUNDS, shift=0.5)
    found = figures(bundle, recording, late)
    # half a second at each of the four changes is wrong, and the first half second has no truth
    assert found["time"]["told"] == 0.95
    assert found["time"]["accuracy"] == pytest.approx((9.5 - 4 * 0.5) / 9.5, abs=1e-6)
    assert found["event_based"]["f1"] == 0
    wide = figures(bundle, recording, late, "--collar", 0.5)
    assert wide["event_based"]["f1"] == 1


def test_unknown_and_silent_gaps(bundle: Path, recording: Path) -> None:
    sounds = [("low", 2.0), ("", 3.0), ("middle", 1.0), ("low", 2.0), ("middle", 2.0)]
    gap = listed(recording.with_name("gap.txt"), sounds)
    assert figures(bundle, recording, gap)["time"]["accuracy"] == 1
    assert figures(bundle, recording, gap, "--gaps", "silent")["time"]["accuracy"] == 0.7
    filled = figures(bundle, recording, gap, "--background", "high")
    assert (filled["time"]["accuracy"], filled["time"]["untold"]) == (1, 0.3)
    assert filled["event_based"]["insertions"] == 0  # the background is no event
    assert "did you mean 'silent'" in refused(bundle, recording, gap, "--gaps", "silence")


def test_labels_that_differ(bundle: Path, recording: Path) -> None:
    sounds = [("bass", 2.0), ("music", 3.0), ("middle", 1.0), ("bass", 2.0), ("middle", 2.0)]
    other = listed(recording.with_name("other.txt"), sounds)
    found = figures(bundle, recording, other, "--map", "bass=low", "--ignore", "music")
    assert (found["time"]["accuracy"], found["time"]["ignored"]) == (1, 0.3)
    assert found["segment_based"]["error_rate"] == found["event_based"]["error_rate"] == 0
    sentence = refused(bundle, recording, other)
    assert "other.txt:1: the bundle doesn't know the label 'bass'" in sentence
    assert sentence.endswith("known: high, low, middle")
    assert "'midle'; did you mean 'middle'?" in refused(bundle, recording, other, "--map", "bass=midle")


def test_thresholds_make_events(bundle: Path, tmp_path: Path) -> None:
    sound = np.concatenate([tone(seconds=2), tone("low", seconds=1), tone(seconds=1), tone("low", seconds=1)])
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    (tmp_path / "a.txt").write_text("2 3 low\n4 5 low\n")
    words = (bundle, tmp_path / "a.wav", tmp_path / "a.txt")
    found = figures(*words, "--threshold", 0.7)  # in silence all three share what there is
    assert (found["gaps"], found["time"]["accuracy"], found["event_based"]["f1"]) == ("silent", 1, 1)
    bridged = figures(*words, "--threshold", 0.7, "--max-gap", 1)
    assert bridged["time"]["accuracy"] == 0.8
    dropped = figures(*words, "--threshold", 0.7, "--min-duration", 1.5)
    assert dropped["time"]["per_class"]["low"]["recall"] == 0
    assert "add --threshold" in refused(*words, "--low", 0.3)
    assert "unknown class 'lo'; did you mean 'low'" in refused(*words, "--threshold", "lo=0.5")


def test_several_labels_at_a_time(polyphonic: Path, bundle: Path, tmp_path: Path) -> None:
    chords = [("low",), ("low", "high"), ("high",), (), ("middle", "low")]
    soundfile.write(tmp_path / "a.wav", np.concatenate([tone(*names, seconds=1) for names in chords]), RATE)
    text = "start,end,label\n0,2,low\n1,3,high\n4,5,middle\n4,5,low\n"
    (tmp_path / "a.csv").write_text(text)
    found = figures(polyphonic, tmp_path / "a.wav", tmp_path / "a.csv", "-o", tmp_path / "out")
    assert found["labels_at_a_time"] == "several"
    assert (found["time"]["accuracy"], found["time"]["confusion"]) == (1, None)
    assert found["segment_based"]["f1"] == found["event_based"]["f1"] == 1
    (tmp_path / "a.csv").write_text(text.replace("1,3,high", "1,2,high"))
    assert figures(polyphonic, tmp_path / "a.wav", tmp_path / "a.csv")["time"]["accuracy"] == 0.8
    one = segments(bundle, tmp_path / "a.wav", tmp_path / "a.csv", "--json")
    assert "a.wav at 1.05 s: several labels at a time" in one.stderr
    assert json.loads(one.stdout)["labels_at_a_time"] == "several"


def test_a_folder_is_counted_as_one(bundle: Path, recording: Path, truth: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone("low", seconds=5), RATE)
    (tmp_path / "short.txt").write_text("0 5 high\n")
    soundfile.write(tmp_path / "untold.wav", tone("low", seconds=1), RATE)
    done = segments(bundle, tmp_path, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "untold.wav has no list of segments, and is left out" in done.stderr
    found = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert found["time"]["accuracy"] == pytest.approx(10 / 15, abs=1e-6)
    assert {name: part["time"]["accuracy"] for name, part in found["recordings"].items()} == {
        "pasted.wav": 1, "short.wav": 0,
    }  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "out" / "timelines").iterdir())
    assert names == ["pasted.wav.png", "short.wav.png"]
    assert "By recording" in done.stdout


# ── predictions from elsewhere ───────────────────────────────────────────────────────────────────


def test_our_own_predictions_in_every_format(
    bundle: Path, recording: Path, truth: Path, tmp_path: Path
) -> None:
    for form in ([], ["--json"], ["--jsonl"], ["--csv"], ["--audacity"]):
        path = tmp_path / f"predicted{len(form)}.txt"
        words = ["predict", bundle, recording, "--events", *form, "-o", path]
        assert CliRunner().invoke(app, [*map(str, words)]).exit_code == 0
        found = figures(recording, truth, "--predictions", path)
        # an event reaches over the windows at its ends, here by 0.1 s
        assert found["time"]["macro_recall"] == 1
        assert found["event_based"]["f1"] == 1


def test_lists_alone(tmp_path: Path) -> None:
    head = "filename\tonset\toffset\tevent_label\n"
    (tmp_path / "truth.tsv").write_text(f"{head}a.wav\t0\t4\tdog\nb.wav\t0\t2\tcat\n")
    (tmp_path / "guess.tsv").write_text(f"{head}a.wav\t0\t2\tdog\n")
    found = figures(tmp_path / "truth.tsv", "--predictions", tmp_path / "guess.tsv", "-o", tmp_path / "out")
    assert found["time"]["accuracy"] == pytest.approx(2 / 6, abs=1e-6)
    assert found["segment_based"]["f1"] == pytest.approx(2 * 2 / (6 + 2))
    assert (tmp_path / "out" / "timelines" / "b.png").is_file()


def test_what_predictions_cannot_be(bundle: Path, recording: Path, truth: Path, tmp_path: Path) -> None:
    guess = listed(tmp_path / "guess.txt", [("Low", 5.0)])
    assert "shares no label with the truth" in refused(recording, truth, "--predictions", guess)
    late = tmp_path / "late.txt"
    late.write_text("11 12 low\n")
    assert "late.txt:1: starts at 11 s, but pasted.wav is 10.00 s" in refused(
        recording, truth, "--predictions", late
    )
    assert "is a bundle; --predictions takes its place" in refused(
        bundle, recording, truth, "--predictions", guess
    )
    assert "need a bundle" in refused(recording, truth, "--predictions", guess, "--hop", 1)


# ── what is written ──────────────────────────────────────────────────────────────────────────────


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.round(255 * imread(path)[..., :3]).astype(int)


def has(colour: tuple[int, int, int], path: Path) -> bool:
    """Whether a bar of a colour is there, not only the letters of a word."""
    match = (pixels(path) == colour).all(axis=2)
    return bool((match[:, :-8] & match[:, 8:]).any() and match.sum() > 300)


def test_stretches_and_a_picture(bundle: Path, recording: Path, truth: Path, tmp_path: Path) -> None:
    wrong = listed(tmp_path / "wrong.txt", [("low", 2.0), ("high", 2.0), ("low", 1.0), ("middle", 1.0)])
    figures(bundle, recording, wrong, "-o", tmp_path / "out")
    with (tmp_path / "out" / "segments.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["recording", "start", "end", "truth", "predicted", "verdict"],
        ["pasted.wav", "0.0", "2.0", "low", "low", "right"],
        ["pasted.wav", "2.0", "4.0", "high", "high", "right"],
        ["pasted.wav", "4.0", "5.0", "low", "high", "wrong"],
        ["pasted.wav", "5.0", "6.0", "middle", "middle", "right"],
        ["pasted.wav", "6.0", "8.0", "", "low", "no truth"],
        ["pasted.wav", "8.0", "10.0", "", "middle", "no truth"],
    ]
    picture = tmp_path / "out" / "timeline.png"
    assert has(RED, picture)
    before = picture.read_bytes()
    figures(bundle, recording, wrong, "-o", tmp_path / "out")
    assert picture.read_bytes() == before
    figures(bundle, recording, truth, "-o", tmp_path / "out")
    assert not has(RED, picture)
    assert not list((tmp_path / "out").glob(".*"))  # no drafts are left


def test_a_table_for_the_terminal(bundle: Path, recording: Path, truth: Path) -> None:
    done = segments(bundle, recording, truth)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["accuracy,", "of", "the", "time", "with", "truth", "100.0", "%"] in lines
    assert ["high", "3.0", "s", "3.0", "s", *["100.0", "%"] * 4, "1", "100.0", "%"] in lines


@pytest.mark.parametrize(
    ("seconds", "lines", "length", "step"),
    [
        (3, 1, 3, 0.5), (10, 1, 10, 1), (120, 1, 120, 10),
        (169, 3, 60, 5), (1800, 6, 300, 30), (86400, 8, 10800, 900),
    ],
)  # fmt: skip
def test_lines_of_a_picture(seconds: float, lines: int, length: float, step: float) -> None:
    starts, found = lines_of(seconds)
    assert (len(starts), found, tick_step(found)) == (lines, length, step)
    assert starts[-1] < seconds <= starts[-1] + found


def test_times_on_the_axis() -> None:
    assert [tick_name(t, 0.5) for t in (0, 1.5, 61)] == ["0:00.0", "0:01.5", "1:01.0"]
    assert [tick_name(t, 30) for t in (0, 90, 3690)] == ["0:00", "1:30", "1:01:30"]


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────────


def test_mistakes_are_one_sentence(bundle: Path, recording: Path, truth: Path, tmp_path: Path) -> None:
    beyond = tmp_path / "beyond.txt"
    beyond.write_text("0 5 low\n5 12.5 high\n")
    assert "beyond.txt:2: ends at 12.5 s, but pasted.wav is 10.00 s long" in refused(
        bundle, recording, beyond
    )
    assert "the resolution is 0 s" in refused(bundle, recording, truth, "--resolution", 0)
    assert "has no list of segments" in refused(bundle, recording)
    assert "pasted.txt is a file, and a folder is written" in refused(bundle, recording, truth, "-o", truth)
    (tmp_path / "noise.wav").write_text("no sound")
    assert "not readable as sound" in refused(bundle, tmp_path / "noise.wav", truth)
    ignored = ["--ignore", "low", "--ignore", "high", "--ignore", "middle"]
    assert "no segment of truth is left" in refused(bundle, recording, truth, *ignored)
    (broken := tmp_path / "broken.txt").write_text("0 5 low\n5 high\n")
    done = edgeaudio("segments", bundle, recording, broken, expect=2)
    assert done.stderr.startswith(f"error: {broken}:2: '5 high' is no segment")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("package", ["sed_eval", "pkg_resources"])
def test_a_package_that_is_missing(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    sentence = refused(tmp_path / "bundle", tmp_path / "a.wav", tmp_path / "a.txt")
    assert sentence == f"this verb needs {package}; install it with: pip install 'edgeaudio[features]'"


def test_neither_torch_nor_sklearn_is_loaded(bundle: Path, recording: Path, truth: Path) -> None:
    program = (
        "import sys\n"
        f"sys.argv[1:] = ['segments', {str(bundle)!r}, {str(recording)!r}, {str(truth)!r}, '--json']\n"
        "from edgeaudio.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print({'torch', 'sklearn', 'onnx', 'matplotlib.figure'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "Warning" not in done.stderr

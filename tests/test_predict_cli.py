"""`edgeaudio predict` as a user meets it: every format, events, folders, workers, live sound, mistakes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from conftest import edgeaudio
from typer.testing import CliRunner

from edgeaudio.cli import app
from edgeaudio.data.synth import SCENES, render
from edgeaudio.errors import EdgeAudioError, MissingExtraError
from edgeaudio.predictor import load

RATE = 16000


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for name, seconds in (("a/bell", 2.25), ("a/rain", 1.0), ("b/bell", 3.0)):
        path = folder / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, render(path.stem, "a", 1, RATE, seconds), RATE)
    return folder


def predict(*words: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)], input=stdin)


def answer(*words: object, stdin: bytes | None = None) -> str:
    done = predict(*words, stdin=stdin)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*words: object, stdin: bytes | None = None) -> str:
    done = predict(*words, stdin=stdin)
    assert isinstance(done.exception, EdgeAudioError), (done.output, done.exception)
    return str(done.exception)


# --- formats --------------------------------------------------------------------------------------------


def test_windows_as_text(untrained: Path, sounds: Path) -> None:
    lines = answer(untrained, sounds / "a/bell.wav", "--windows", "--top", 2).splitlines()
    best = load(untrained).predict_file(sounds / "a/bell.wav").windows()
    for text, window in zip(lines, best, strict=True):
        (one, first), (two, second) = window.top(2)
        span = f"{window.start:.2f}–{window.end:.2f} s"
        assert text == f"{sounds / 'a/bell.wav'}: {span}: {one} {first:.3f}  {two} {second:.3f}"
    assert "1.50–2.25 s" in lines[-1]


def test_windows_as_csv(untrained: Path, sounds: Path) -> None:
    text = answer(untrained, sounds, "--windows", "--csv", "--top", 2, "--scores")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["path", "start", "end", "label", "score", "label2", "score2", *SCENES]
    assert len(rows) == 4 + 1 + 5
    prediction = load(untrained).predict_file(sounds / "a/bell.wav")
    for row, scores in zip(rows, prediction.window_scores, strict=False):
        np.testing.assert_allclose([float(row[name]) for name in SCENES], scores, atol=1e-6)
        assert float(row[row["label"]]) == float(row["score"]) == max(float(row[name]) for name in SCENES)
        assert float(row[row["label2"]]) == float(row["score2"])
    assert (rows[3]["start"], rows[3]["end"]) == ("1.5", "2.25")


def test_windows_as_json_and_json_lines(untrained: Path, sounds: Path) -> None:
    words = (untrained, sounds / "a/bell.wav", "--windows", "--window-hop", 1, "--scores", "--top", 3)
    rows = [json.loads(text) for text in answer(*words, "--jsonl").splitlines()]
    assert rows == json.loads(answer(*words, "--json"))
    assert [(row["start"], row["end"], row["padded"]) for row in rows] == [
        (0, 1, False), (1, 2, False), (2, 2.25, True),
    ]  # fmt: skip
    for row in rows:
        assert list(row["scores"]) == list(SCENES)
        assert row["top"][0] == {"label": row["label"], "score": row["score"]}
        assert len(row["top"]) == 3


def test_files_as_json_lines_and_csv(untrained: Path, sounds: Path) -> None:
    rows = [json.loads(text) for text in answer(untrained, sounds, "--jsonl", "--top", 2).splitlines()]
    assert rows == json.loads(answer(untrained, sounds, "--json", "--top", 2))
    table = list(csv.DictReader(io.StringIO(answer(untrained, sounds, "--csv"))))
    assert [(row["path"], row["label"]) for row in rows] == [(row["path"], row["label"]) for row in table]
    assert list(table[0]) == ["path", "label", "score", *SCENES]


def test_audacity_labels(untrained: Path, sounds: Path, tmp_path: Path) -> None:
    lines = answer(untrained, sounds / "a/bell.wav", "--audacity").splitlines()
    assert [text.split("\t")[:2] for text in lines] == [
        ["0.000000", "1.000000"], ["0.500000", "1.500000"], ["1.000000", "2.000000"],
        ["1.500000", "2.250000"],
    ]  # fmt: skip
    assert "name a folder: --output" in refused(untrained, sounds, "--audacity")
    answer(untrained, sounds, "--audacity", "-o", f"{tmp_path}/labels/")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt"))
    assert written == ["labels/a/bell.wav.txt", "labels/a/rain.wav.txt", "labels/b/bell.wav.txt"]
    assert (tmp_path / "labels/a/bell.wav.txt").read_text().splitlines() == lines


def test_output_file(untrained: Path, sounds: Path, tmp_path: Path) -> None:
    for format_ in ("--json", "--jsonl", "--csv"):
        assert answer(untrained, sounds, format_, "-o", tmp_path / "out") == ""
        assert (tmp_path / "out").read_text() == answer(untrained, sounds, format_)
    assert answer(untrained, sounds, "--csv", "-o", tmp_path) == ""  # a folder that is there
    assert len(list(tmp_path.rglob("*.csv"))) == 3


def test_events(untrained: Path, sounds: Path) -> None:
    bell = sounds / "a/bell.wav"
    prediction = load(untrained).predict_file(bell)
    label = prediction.label
    words = (untrained, bell, "--events", "--threshold", "0.9", "--threshold", f"{label}=0.01")
    (event,) = [json.loads(text) for text in answer(*words, "--jsonl").splitlines()]
    scores = prediction.window_scores[:, SCENES.index(label)]
    assert (event["label"], event["start"], event["end"]) == (label, 0, 2.25)
    assert event["peak"] == pytest.approx(scores.max(), abs=1e-6)
    assert event["mean"] == pytest.approx(scores.mean(), abs=1e-6)
    assert (
        answer(*words)
        == f"{bell}: 0.00–2.25 s: {label} (peak {scores.max():.3f}, mean {scores.mean():.3f})\n"
    )
    assert answer(*words, "--audacity") == f"0.000000\t2.250000\t{label}\n"
    assert answer(*words, "--csv").splitlines()[0] == "path,start,end,label,peak,mean"
    assert answer(*words, "--min-duration", 3) == f"{bell}: no events\n"
    assert answer(*words, "--min-duration", 3, "--jsonl") == ""
    assert "goes with --windows" in refused(*words, "--scores")


def test_embeddings_are_asked_of_a_graph_without_them(untrained: Path, sounds: Path, tmp_path: Path) -> None:
    assert "no output 'embedding'" in refused(untrained, sounds, "--embeddings", tmp_path)
    assert "needs sound files" in refused(untrained, "-", "--rate", 16000, "--embeddings", tmp_path)


def test_workers_write_the_same(untrained: Path, sounds: Path, tmp_path: Path) -> None:
    (bad := tmp_path / "bad.wav").write_text("no sound")
    words = ("predict", untrained, sounds / "a", bad, sounds / "b", "--windows", "--csv")
    one, two = edgeaudio(*words, expect=2), edgeaudio(*words, "--workers", 2, "--batch", 1, expect=2)
    assert one.stdout == two.stdout
    assert len(one.stdout.splitlines()) == 1 + 4 + 1 + 5
    assert one.stderr == two.stderr == f"error: {bad} can't be read as sound (Format not recognised)\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name sound files, or - for standard input, or --microphone: one of the three"),
        (["-", "x.wav"], "one of the three"),
        (["-", "--microphone"], "one of the three"),
        (["x.wav", "--json", "--jsonl"], "--json and --jsonl exclude each other"),
        (["x.wav", "--windows", "--events"], "--windows and --events exclude each other"),
        (["x.wav", "--low", "0.2"], "go with --events"),
        (["x.wav", "--events", "--threshold", "bel=0.2"], "unknown class 'bel'; did you mean 'bell'"),
        (["-"], "don't say their sample rate; add it, e.g. --rate 16000"),
        (["-", "--rate", "16000", "--format", "s16be"], "unknown format 's16be'"),
    ],
)
def test_mistakes(untrained: Path, words: list[str], sentence: str) -> None:
    assert sentence in refused(untrained, *words)


def test_a_hop_of_nothing(untrained: Path, sounds: Path) -> None:
    assert "shorter than one sample" in refused(untrained, sounds, "--window-hop", 0)


# --- live -----------------------------------------------------------------------------------------------


def raw(scene: str, seconds: float, rate: int = RATE) -> bytes:
    return (20000 * render(scene, "a", 1, rate, seconds)).astype("<i2").tobytes()


def test_standard_input(untrained: Path, tmp_path: Path) -> None:
    data = raw("bell", 1.7)
    samples = np.frombuffer(data, "<i2")
    prediction = load(untrained)(samples, RATE)
    lines = answer(untrained, "-", "--rate", RATE, stdin=data).splitlines()
    shown = [f"{w.start:.2f}–{w.end:.2f} s: {w.label} {w.score:.3f}" for w in prediction.windows()]
    assert lines == shown
    floats = (samples / 32768).astype("<f4").tobytes()
    words = (untrained, "-", "--rate", RATE, "--format", "f32le", "--jsonl", "-o", tmp_path / "out")
    answer(*words, stdin=floats)
    rows = [json.loads(text) for text in (tmp_path / "out").read_text().splitlines()]
    assert [row["score"] for row in rows] == [round(w.score, 6) for w in prediction.windows()]
    assert rows[-1]["padded"]
    assert rows[0]["path"] == "-"
    stereo = np.repeat(samples, 2).tobytes()
    assert answer(untrained, "-", "--rate", RATE, "--channels", 2, stdin=stereo).splitlines() == shown
    assert "is a folder" in refused(untrained, "-", "--rate", RATE, "-o", tmp_path, stdin=data)


def test_standard_input_that_is_not_right(untrained: Path) -> None:
    words = (untrained, "-", "--rate", RATE)
    assert "held no samples" in refused(*words, stdin=b"")
    cut = predict(*words, stdin=raw("bell", 1.0) + b"x")
    assert "ended within a sample (1 of its 2 bytes)" in str(cut.exception)
    assert cut.stdout.startswith("0.00–1.00 s: ")  # what came before it is told


def test_events_of_standard_input(untrained: Path) -> None:
    words = (untrained, "-", "--rate", RATE, "--events", "--threshold", 0.0, "--jsonl")
    events = [json.loads(text) for text in answer(*words, stdin=raw("bell", 1.7)).splitlines()]
    assert {(event["label"], event["start"], event["end"]) for event in events} == {
        (label, 0, 1.7) for label in SCENES
    }


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
def test_a_window_is_told_at_once_and_ctrl_c_ends_it_well(untrained: Path) -> None:
    command = [sys.executable, "-m", "edgeaudio", "predict", str(untrained), "-", "--rate", str(RATE)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(raw("bell", 1.0))
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"0.00")  # while the pipe is still open
        process.send_signal(signal.SIGINT)
        rest, complaint = process.communicate(timeout=60)
    assert (process.returncode, rest, complaint.strip()) == (0, b"", b"")


# --- microphone -----------------------------------------------------------------------------------------


class FakeSoundDevice(types.ModuleType):
    """Stands for the package sounddevice, as no machine that tests has a microphone."""

    class PortAudioError(Exception):
        pass

    def __init__(self, devices: list[dict[str, object]], rates: set[int], wave: np.ndarray) -> None:
        super().__init__("sounddevice")
        self.devices, self.rates, self.wave = devices, rates, wave
        self.opened: dict[str, object] = {}

    def query_devices(self, device: object = None, kind: str | None = None) -> object:
        if kind is None:
            return self.devices
        if not self.devices or device == "nothing":
            raise ValueError("No input device matching")
        return self.devices[0]

    def check_input_settings(self, device: object, samplerate: int, **_: object) -> None:
        if samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate")

    def InputStream(self, callback, blocksize: int, **settings: object) -> object:
        self.opened = settings
        package = self

        class Stream:
            def __enter__(self) -> None:
                for i in range(0, len(package.wave), blocksize):
                    block = package.wave[i : i + blocksize, None]
                    callback(block, len(block), None, types.SimpleNamespace(input_overflow=i == 0))

            def __exit__(self, *_: object) -> None:
                pass

        return Stream()


@pytest.fixture
def microphone(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSoundDevice]:
    wave = render("bell", "a", 1, 48000, 2.0)
    device = {"name": "USB Audio", "default_samplerate": 48000.0, "max_input_channels": 1}
    package = FakeSoundDevice([device], {48000}, wave)
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    # a microphone never ends: when all has been heard, the user presses Ctrl-C
    monkeypatch.setattr("edgeaudio.microphone.queue.SimpleQueue", lambda: Ending())
    return package


class Ending(list[np.ndarray]):
    put = list.append

    def get(self) -> np.ndarray:
        if not self:
            raise KeyboardInterrupt
        return self.pop(0)


def test_microphone_at_its_own_rate(untrained: Path, microphone: FakeSoundDevice) -> None:
    done = predict(untrained, "--microphone", "--device", "3", "--jsonl")
    assert done.exit_code == 0
    rows = [json.loads(text) for text in done.stdout.splitlines()]
    assert [(row["path"], row["start"]) for row in rows] == [("microphone", 0), ("microphone", 0.5)]
    offline = load(untrained)(microphone.wave, 48000, resample=True)
    assert [row["score"] for row in rows] == [round(w.score, 6) for w in offline.windows()][:2]
    assert microphone.opened["device"] == 3
    assert "listening to USB Audio at 48000 Hz; Ctrl-C ends it" in done.stderr
    assert "samples were lost" in done.stderr


def test_microphones_that_are_not_there(
    untrained: Path, microphone: FakeSoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = refused(untrained, "--microphone", "--device", "nothing")
    assert listed == "no microphone 'nothing'; there are: 0 USB Audio"
    microphone.devices = []
    assert "no microphone found; plug one in" in refused(untrained, "--microphone")
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    missing = predict(untrained, "--microphone").exception
    assert isinstance(missing, MissingExtraError)
    assert "pip install 'edgeaudio[microphone]'" in str(missing)


# --- progress -------------------------------------------------------------------------------------------


def on_a_terminal(*words: object) -> tuple[str, str]:
    """Standard output, which is a pipe, and what a terminal as standard error shows."""
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    here, there = pty.openpty()
    command = [sys.executable, "-m", "edgeaudio", "predict", *map(str, words)]
    # where rich sees a CI service or a simple terminal it draws no bar
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=there, env=environment) as process:
        os.close(there)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the other end was closed
            while piece := os.read(here, 1 << 16):
                shown += piece
        os.close(here)
        assert process.stdout is not None
        answers = process.stdout.read().decode()
    assert process.returncode == 0, shown
    return answers, shown.decode()


def test_a_long_recording_has_a_progress_bar(untrained: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(render("rain", "a", 1, RATE, 10.0), 30), RATE)  # 5 min: a second's work
    answers, shown = on_a_terminal(untrained, path, "--events", "--threshold", 0.99)
    assert answers == f"{path}: no events\n"
    assert "predicting" in shown
    shares = [int(share) for share in re.findall(r"(\d+)%", shown)]
    assert shares == sorted(shares)
    assert len(set(shares)) > 2, "it moves inside the file"
    _, shown = on_a_terminal(untrained, path, "--quiet")
    assert shown == ""


def test_a_short_recording_has_none(untrained: Path, sounds: Path) -> None:
    answers, shown = on_a_terminal(untrained, sounds / "a/bell.wav")
    assert answers.startswith(str(sounds / "a/bell.wav"))
    assert shown == ""
    _, shown = on_a_terminal(untrained, sounds)
    assert "predicting" in shown


# --- start ----------------------------------------------------------------------------------------------


def test_predict_imports_no_other_verb(untrained: Path, sounds: Path) -> None:
    program = (
        f"import sys; sys.argv[1:] = ['predict', {str(untrained)!r}, {str(sounds / 'a/rain.wav')!r}]\n"
        "from edgeaudio.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(sorted(name for name in sys.modules if name.startswith(('edgeaudio.cli', 'rich.'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours = [f"edgeaudio.cli{room}" for room in ("", ".ask", ".group", ".options")]
    assert done.stdout.splitlines()[-1] == str(ours)

"""The service answers what `edgeaudio predict` answers, however it is asked, to many at once."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import edgeaudio
from prometheus_client.parser import text_string_to_metric_families
from service_pieces import Service, in_thread, long_sound, running, wait_until, wav
from starlette.requests import Request
from starlette.routing import Route

from edgeaudio.bundle import read_bundle
from edgeaudio.cli import serve as verb
from edgeaudio.data.synth import SCENES
from edgeaudio.errors import EdgeAudioError, MissingExtraError
from edgeaudio.predictor import Prediction, Predictor, load
from edgeaudio.service import app
from edgeaudio.service.metrics import Metrics
from edgeaudio.service.scoring import Scorer, Sound
from edgeaudio.service.server import Server
from edgeaudio.service.settings import ServiceSettings

ESC10 = Path(__file__).parents[2] / "shared" / "data" / "esc10" / "audio"


@pytest.fixture(scope="module")
def service(untrained: Path) -> Iterator[Service]:
    with running(untrained) as service:
        yield service


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sounds of several lengths, and one in every format that is usual."""
    folder = tmp_path_factory.mktemp("sounds")
    for i, scene in enumerate(SCENES):
        (folder / f"{scene}.wav").write_bytes(wav(scene, 0.4 + 0.7 * i))
    samples, rate = soundfile.read(folder / "rain.wav")
    for suffix in ("flac", "ogg", "mp3", "aiff"):
        soundfile.write(folder / f"rain.{suffix}", samples, rate)
    return sorted(folder.iterdir())


# ── equal to predict ─────────────────────────────────────────────────────────────────────────────


def same_as_predict(service: Service, bundle: Path, files: list[Path]) -> None:
    """Each file's answer is the text that another process, the command line, prints of it."""
    told = json.loads(edgeaudio("predict", bundle, *files, "--top", 3, "--json").stdout)
    words = ["--top", 3, "--windows", "--scores", "--json"]
    of_windows = json.loads(edgeaudio("predict", bundle, *files, *words).stdout)
    for path, expected in zip(files, told, strict=True):
        answer = service.form(("file", path.name, path.read_bytes()), query="?topk=3&windows=true").json
        windows = [dict(record) for record in of_windows if record["path"] == str(path)]
        assert all(record.pop("path") for record in windows)
        assert {name: answer[name] for name in ("label", "score", "top")} == {
            name: expected[name] for name in ("label", "score", "top")
        }
        assert answer["window_scores"] == windows
        assert answer["windows"] == len(windows)
        assert answer["duration"] == windows[-1]["end"]


def test_answers_are_those_of_predict(service: Service, untrained: Path, files: list[Path]) -> None:
    same_as_predict(service, untrained, files)


@pytest.mark.skipif(not ESC10.is_dir(), reason="the ESC-10 sample isn't there")
def test_answers_of_real_recordings_are_those_of_predict(service: Service, untrained: Path) -> None:
    same_as_predict(service, untrained, sorted(ESC10.iterdir())[:6])


@pytest.mark.parametrize("graph", ["fp32", "int8"])
def test_no_bit_differs_however_many_ask_at_once(untrained: Path, files: list[Path], graph: str) -> None:
    alone = load(untrained, graph)
    expected = [alone.predict_file(path) for path in files]

    async def at_once() -> list[Any]:
        with Scorer(partial(Predictor, read_bundle(untrained), graph), ServiceSettings(workers=4)) as scorer:
            asked = [scorer.predict([Sound(path, path.name)]) for _ in range(3) for path in files]
            return await asyncio.gather(*asked)

    for (answer,), one in zip(asyncio.run(at_once()), 3 * expected, strict=True):
        assert isinstance(answer, Prediction)
        for name in ("scores", "window_scores", "starts", "ends", "padded", "power"):
            assert np.array_equal(getattr(answer, name), getattr(one, name)), name


# ── ways to ask ──────────────────────────────────────────────────────────────────────────────────


def test_the_ways_to_send_a_sound_agree(service: Service) -> None:
    sound = wav()
    by_form = service.form(("file", "my bell.wav", sound), ("topk", None, b"2"), ("windows", None, b"1")).json
    assert by_form.pop("file") == "my bell.wav"
    assert len(by_form["top"]) == 2
    for kind in ("audio/wav", "audio/x-wav; rate=44100", "application/octet-stream"):
        assert service.send(sound, "?topk=2&windows=1", Content_Type=kind).json == by_form
    text = base64.encodebytes(sound).decode()  # with line breaks
    assert service.post_json({"audio": text, "topk": 2, "windows": True}).json == by_form
    once = service.send(sound).json
    assert set(once) == {"label", "score", "top", "duration", "windows"}
    assert len(once["top"]) == 1
    assert once["duration"] == pytest.approx(2.3, abs=1e-3)


def test_several_files_are_answered_one_by_one(service: Service) -> None:
    parts = [("file", f"{scene}.wav", wav(scene)) for scene in ("rain", "bell")]
    answer = service.form(*parts, ("file", "notes.txt", b"no sound"))
    assert answer.status == 200
    *scored, bad = answer.json["results"]
    assert [one["file"] for one in scored] == ["rain.wav", "bell.wav"]
    assert scored == [{**service.send(content).json, "file": name} for _, name, content in parts]
    assert bad == {"file": "notes.txt", "error": "notes.txt can't be read as sound (Format not recognised)"}
    none = service.form(("file", "a", b"1"), ("file", "b", b"2"))
    assert (none.status, len(none.json["results"])) == (422, 2)
    assert "results says why" in none.error


def test_paddlespeech_clients_are_understood(service: Service, untrained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    audio = base64.b64encode(wav()).decode()
    answer = service.post_json({"audio": audio, "topk": 3}, "/paddlespeech/cls").json
    assert answer == {
        "success": True,
        "code": 200,
        "message": {"description": "success"},
        "result": {
            "topk": 3,
            "results": [
                {"class_name": label, "prob": score}
                for label, score in load(untrained).predict_file(tmp_path / "a.wav").top(3)
            ],
        },
    }
    bad = service.post_json({"audio": audio, "topk": 99}, "/paddlespeech/cls")
    assert (bad.status, bad.json["success"], bad.json["code"]) == (400, False, 400)
    assert bad.error == "topk is 99; give a number from 1 to 10 (the classes)"
    assert bad.json["message"] == {"description": bad.error}
    text = base64.b64encode(b"no sound").decode()
    assert service.post_json({"audio": text}, "/paddlespeech/cls").status == 422
    assert service.ask("/paddlespeech/cls/help").json["code"] == 200


def test_it_says_what_it_serves(service: Service, untrained: Path) -> None:
    bundle = read_bundle(untrained)
    health = service.ask("/health").json
    assert (health["status"], health["bundle"], health["hash"]) == ("ready", bundle.name, bundle.hash)
    assert service.ask("/labels").json == {"labels": list(bundle.labels), "several": False}
    head = service.ask("/health", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Server"].startswith("edgeaudio/")


# ── many ─────────────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_at_once_are_answered_without_an_error(service: Service) -> None:
    sounds = [wav(scene, 1.7) for scene in SCENES]
    expected = [service.send(sound).json for sound in sounds]
    together = threading.Barrier(200)

    def ask(i: int) -> bool:
        together.wait()
        answer = service.send(sounds[i % len(sounds)])
        return answer.status == 200 and answer.json == expected[i % len(sounds)]

    with ThreadPoolExecutor(200) as clients:
        assert all(clients.map(ask, range(200)))


def test_what_is_counted_is_what_was_asked(untrained: Path) -> None:
    with running(untrained) as service:
        for seconds in (0.5, 1.0, 2.5):
            assert service.send(wav(seconds=seconds)).status == 200
        service.form(("file", "a.wav", wav(seconds=1.0)), ("file", "b.wav", b"no sound"))
        service.send(b"no sound")
        service.ask("/no/such/path")
        service.ask("/predict")
        service.ask("/health")
        answer = service.ask("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    expected = {
        ("requests_total", "/predict", "200"): 4,
        ("requests_total", "/predict", "422"): 1,
        ("requests_total", "/predict", "405"): 1,
        ("requests_total", "/health", "200"): 1,
        ("requests_total", "other", "404"): 1,
        ("request_seconds_count", "/predict"): 4,
        ("sounds_total",): 4,
        ("unreadable_sounds_total",): 2,
        ("windows_total",): 1 + 1 + 4 + 1,  # of one second, half a second apart
        ("rejected_total",): 0,
        ("queue_length",): 0,
    }
    assert {name: found[(f"edgeaudio_{name[0]}", *name[1:])] for name in expected} == expected
    assert found["edgeaudio_sound_seconds_total",] == pytest.approx(5.0, abs=1e-3)
    assert 0 < found["edgeaudio_request_seconds_sum", "/predict"] < 20


# ── the verb ─────────────────────────────────────────────────────────────────────────────────────


def start(*words: object, **environment: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeaudio", "serve", *map(str, words), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(process.stdout.readline().split("/")[2].split(":")[1])


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_running_requests_end(untrained: Path, stop: signal.Signals) -> None:
    process, port = start(untrained, "--no-page", "--workers", 1, "--max-duration", 3000)
    client = Service(port, None)  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(client.send, long_sound(600)) for _ in range(2)]  # one waits for the other
        wait_until(lambda: client.ask("/health").json["waiting"] == 1)
        process.send_signal(stop)
        answers = [future.result() for future in asked]
    assert [answer.status for answer in answers] == [200, 200]
    _, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (0, "")


def test_a_page_that_cannot_be_had_leaves_the_rest(untrained: Path, tmp_path: Path) -> None:
    process, port = start(untrained, PATH=str(tmp_path), EDGEAUDIO_CACHE=str(tmp_path))
    client = Service(port, None)  # type: ignore[arg-type]
    assert client.send(wav()).status == 200
    assert client.ask("/").status == 404
    process.terminate()
    _, complaints = process.communicate(timeout=20)
    assert process.returncode == 0
    assert complaints.startswith("without the page: npm, which fetches onnxruntime-web, isn't installed; ")
    assert complaints.count("\n") == 1
    done = edgeaudio("serve", untrained, "--runtime-folder", tmp_path, expect=2)  # it was asked for
    assert "lacks" in done.stderr


def test_settings_that_cannot_be_are_told(untrained: Path) -> None:
    assert "is no origin" in edgeaudio("serve", untrained, "--allow-origin", "example.org", expect=2).stderr
    assert "--max-body is nan" in edgeaudio("serve", untrained, "--max-body", "nan", expect=2).stderr
    for words, told in (
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"max_held": 5}, "max_held is 5; it must be at least max_body"),
        ({"queue": -1}, "queue is -1; it must be at least 0"),
        ({"answer_timeout": 0.0}, "answer_timeout is 0 s; it must be more than 0"),
    ):
        with pytest.raises(EdgeAudioError, match=told):
            ServiceSettings(**words)  # type: ignore[arg-type]


def test_a_missing_extra_is_named(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "_NEEDED", ("json", "no_such_server"))
    with pytest.raises(MissingExtraError, match=r"no_such_server; .* pip install 'edgeaudio\[serve\]'"):
        verb.serve(untrained)


def test_an_answer_does_not_wait_for_a_receipt() -> None:
    with in_thread(Server(app.build([], [], Metrics()), port=0)) as server:
        line = Service(server.port, None).connect()  # type: ignore[arg-type]
        wait_until(lambda: bool(server._uvicorn.server_state.connections))
        (connection,) = server._uvicorn.server_state.connections
        kept = connection.transport.get_extra_info("socket")
        wait_until(lambda: kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        line.close()


# ── other people's pages, our own faults ─────────────────────────────────────────────────────────


def test_no_page_of_others_reads_answers_unless_allowed(service: Service, untrained: Path) -> None:
    theirs = "https://example.org"
    assert "Access-Control-Allow-Origin" not in service.send(wav(), Origin=theirs).headers
    with running(untrained, allow_origins=(theirs,)) as open_one:
        for answer in (open_one.send(wav(), Origin=theirs), open_one.send(b"", Origin=theirs)):
            assert answer.headers["Access-Control-Allow-Origin"] == theirs
        assert "Access-Control-Allow-Origin" not in open_one.send(wav(), Origin="https://evil.org").headers
        wish = {"Origin": theirs, "Access_Control_Request_Method": "POST"}
        wish |= {"Access_Control_Request_Headers": "content-type"}
        assert open_one.ask("/predict", method="OPTIONS", **wish).status == 200


def test_a_fault_of_ours_is_logged_and_answered(capfd: pytest.CaptureFixture[str]) -> None:
    async def broken(request: Request) -> None:
        raise ZeroDivisionError("a fault for this test")

    with in_thread(Server(app.build([Route("/broken", broken)], [], Metrics()), port=0)) as server:
        answer = Service(server.port, None).ask("/broken")  # type: ignore[arg-type]
    assert answer.status == 500
    assert "standard error says more" in answer.error
    assert b"fault for this test" not in answer.body
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    logged = capfd.readouterr().err
    assert "Traceback" in logged
    assert "ZeroDivisionError: a fault for this test" in logged

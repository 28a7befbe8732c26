"""What the service refuses, and whom it doesn't wait for: always with one sentence."""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from service_pieces import BOUNDARY, RATE, Service, encoded, long_sound, multipart, running, wait_until, wav

from edgeaudio.service import server
from edgeaudio.service.settings import MIB

FORM = f"multipart/form-data; boundary={BOUNDARY}"
HEAD = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"


@pytest.fixture(scope="module")
def service(untrained: Path) -> Iterator[Service]:
    limits = {"max_body": MIB, "max_duration": 30.0, "max_files": 3, "upload_timeout": 1.0}
    with running(untrained, **limits) as service:
        yield service
        assert service.send(wav()).status == 200, "after all that was sent it still answers"
        assert (service.scorer.busy, service.scorer.waiting) == (0, 0)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "isn't JSON"),
        (b"[" * 100_000, "isn't JSON"),
        (b"\xff\xfe\x00", "isn't JSON"),
        (b"[1]", "no text 'audio'"),
        (b'{"audio": 3}', "no text 'audio'"),
        (b'{"topk": 3}', "no text 'audio'"),
        (b'{"audio": "a*b="}', "isn't base64"),
        (b'{"audio": "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"}', "isn't base64"),
        (b'{"audio": ""}', "empty"),
        (b'{"audio": "YQ==", "top": 3}', "unknown 'top'; did you mean 'topk'"),
        (b'{"audio": "YQ==", "topk": 0}', "topk is 0; give a number from 1 to 10"),
        (b'{"audio": "YQ==", "topk": true}', "topk is True"),
        (b'{"audio": "YQ==", "topk": 1.5}', "topk is 1.5"),
        (b'{"audio": "YQ==", "topk": NaN}', "topk is nan"),
        (b'{"audio": "YQ==", "windows": "perhaps"}', "windows is 'perhaps'; give true or false"),
    ],
)
def test_json_that_is_wrong(service: Service, body: bytes, told: str) -> None:
    answer = service.ask("/predict", body, Content_Type="application/json")
    assert answer.status == 400
    assert told in answer.error


@pytest.mark.parametrize(
    ("parts", "status", "told"),
    [
        ([], 400, "no field 'file'"),
        ([("file", None, b"text")], 400, "with the @"),
        ([("file", "a.wav", b"")], 400, "a.wav is empty"),
        ([("fil", "a.wav", b"x")], 400, "did you mean 'file'"),
        ([("file", "a.wav", b"x"), ("topk", None, b"many")], 400, "topk is 'many'"),
        ([("file", "a.wav", b"x")] * 4, 413, "more than 3 files"),
        ([("file", "a.wav", b"x")] + [("topk", None, b"1")] * 9, 400, "too many fields"),
        ([("file", "../../etc/a.wav", b"no sound")], 422, "a.wav can't be read as sound (Format"),
    ],
)  # fmt: skip
def test_forms_that_are_wrong(
    service: Service, parts: list[tuple[str, str | None, bytes]], status: int, told: str
) -> None:
    answer = service.form(*parts)
    assert answer.status == status
    assert told in answer.error
    assert "/" not in answer.error or "curl" in answer.error


@pytest.mark.parametrize("body", [b"", b"x", b"--" + BOUNDARY.encode(), multipart(("file", "a", b"x"))[:-20]])
def test_forms_that_are_broken(service: Service, body: bytes) -> None:
    assert service.ask("/predict", body, Content_Type=FORM).status == 400
    assert "form can't be read" in service.ask("/predict", b"x", Content_Type="multipart/form-data").error


def test_bodies_that_are_no_sound(service: Service) -> None:
    for body, told in (
        (b"no sound", "the sound can't be read as sound"),
        (wav()[:44], "holds no samples"),
        (encoded(np.full(900, np.nan, np.float32), subtype="FLOAT"), "NaN or infinite"),
    ):
        answer = service.send(body)
        assert (answer.status, told in answer.error) == (422, True), answer.body
        assert "/tmp" not in answer.error


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_scores_that_are_no_numbers_are_no_answer(untrained: Path) -> None:
    with running(untrained, "fp32") as service:
        answer = service.send(encoded(np.full(RATE, 1e38, np.float32), subtype="FLOAT"))
    assert (answer.status, "far beyond ±1" in answer.error) == (422, True)


def test_types_methods_and_paths(service: Service) -> None:
    typed = service.ask("/predict", wav(), Content_Type="application/x-www-form-urlencoded")
    assert typed.status == 415  # what curl --data-binary says by itself
    assert "curl -F file=@sound.wav" in typed.error
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = service.ask("/predict", method=method)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert "use POST" in answer.error
    assert service.ask("/labels", b"", "POST").headers["Allow"] == "GET, HEAD"
    for path in ("/predictions", "/predict/", "/%2e%2e/etc/passwd", "/../bundle.json", "/model.onnx", "//"):
        assert service.ask(path).status == 404
    assert "did you mean '/predict'" in service.ask("/predictions").error
    assert "unknown 'top'; did you mean 'topk'" in service.send(wav(), "?top=3").error
    assert service.send(wav(), "?topk=11").status == 400
    assert service.send(wav(), "?topk=" + "9" * 5000).status == 400


def test_what_is_no_http_is_answered_in_json(service: Service) -> None:
    with service.connect() as line:
        line.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        answer = read_all(line)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "use an HTTP client" in json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]


def read_all(line: socket.socket) -> bytes:
    answer = b""
    while piece := line.recv(65536):
        answer += piece
    return answer


# ── too much ─────────────────────────────────────────────────────────────────────────────────────


def test_a_large_body_is_refused_before_it_has_come(service: Service) -> None:
    with service.connect() as line:
        line.sendall(f"{HEAD}Content-Length: {MIB + 1}\r\n\r\n".encode())  # and nothing of it
        assert line.recv(1000).startswith(b"HTTP/1.1 413 ")
    with service.connect() as line:
        line.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(20):  # 1.25 MiB, and no end
            line.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        assert line.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert service.send(bytes(MIB)).status == 422  # just as large as it may be


def test_the_refusal_of_a_large_body_can_be_read(service: Service) -> None:
    answer = service.send(bytes(8 * MIB))  # a client that sends all of it before it listens
    assert answer.status == 413
    assert "larger than 1 MiB" in answer.error
    request = Request(f"http://127.0.0.1:{service.port}/predict", bytes(8 * MIB))  # closes its connection
    request.add_header("Content-Type", "audio/wav")
    with pytest.raises(HTTPError, match="413"):
        urlopen(request, timeout=20)


def test_bodies_held_at_once_are_bounded(untrained: Path) -> None:
    with running(untrained, max_held=3 * MIB, max_body=2 * MIB) as service, service.connect() as line:
        line.sendall(f"{HEAD}Content-Length: {2 * MIB}\r\n\r\n".encode() + bytes(2 * MIB - 1))
        time.sleep(0.3)
        answer = service.send(bytes(int(1.5 * MIB)))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        line.sendall(b"\0")
        assert line.recv(1000).startswith(b"HTTP/1.1 422 ")
        assert service.send(bytes(int(1.5 * MIB))).status == 422  # it is given back


def test_long_sounds_are_refused(service: Service) -> None:
    answer = service.send(long_sound(31))
    assert answer.status == 422
    assert "longer than 30 s" in answer.error
    assert "--max-duration" in answer.error
    assert service.send(long_sound(30)).status == 200
    hours = encoded(np.zeros(65536, np.int16), rate=1)  # 18 hours in 128 KiB
    assert "longer than 30 s" in service.send(hours).error


def test_a_full_queue_says_when_to_come_again(untrained: Path) -> None:
    with (
        running(untrained, workers=1, queue=1, max_duration=3000) as service,
        ThreadPoolExecutor(2) as clients,
    ):
        asked = [clients.submit(service.send, long_sound(900)) for _ in range(2)]
        wait_until(lambda: service.scorer.waiting == 1)
        with service.connect() as line:  # it isn't even read
            line.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n".encode())
            assert line.recv(1000).startswith(b"HTTP/1.1 503 ")
        answer = service.send(wav())
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "queue is full (1 wait)" in answer.error
        assert b"edgeaudio_rejected_total 2.0" in service.ask("/metrics").body
        assert b"edgeaudio_queue_length 1.0" in service.ask("/metrics").body
        assert [future.result().status for future in asked] == [200, 200]
        assert service.send(wav()).status == 200


# ── too slow ─────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_has_its_time(untrained: Path) -> None:
    with (
        running(untrained, workers=1, max_duration=9999, answer_timeout=0.4) as service,
        ThreadPoolExecutor(2) as clients,
    ):
        first = clients.submit(service.send, long_sound(3000))
        wait_until(lambda: service.scorer.busy == 1)
        second = clients.submit(service.send, long_sound(3000))
        assert first.result().status == 504
        assert "--answer-timeout" in first.result().error
        # the worker ended the first at its next window, and took the second
        assert second.result().status in (503, 504)
        assert service.send(wav()).status == 200


def test_slow_clients_hold_nobody(service: Service) -> None:
    lines = [service.connect() for _ in range(40)]
    for line in lines:
        line.sendall(f"{HEAD}Content-Length: 5000\r\n\r\nRIFF".encode())
    assert service.send(wav()).status == 200
    assert (service.scorer.busy, service.scorer.waiting) == (0, 0)
    for line in lines:
        answer = http.client.HTTPResponse(line)
        answer.begin()
        assert answer.status == 408
        assert "didn't arrive within 1 s" in json.loads(answer.read())["error"]
        line.close()


def test_first_lines_have_their_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.4)
    kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    kept.request("GET", "/health")
    kept.getresponse().read()
    its_socket = kept.sock
    with service.connect() as silent, service.connect() as dawdler:
        dawdler.sendall(b"POST /predict HTTP/1.1\r\nHost:")
        time.sleep(0.2)
        dawdler.sendall(b" x\r\nA:")  # each word doesn't begin the time anew
        assert b"408" in dawdler.recv(4000).split(b"\r\n")[0]
        assert silent.recv(4000) == b""
    kept.request("GET", "/health")  # who has been answered may rest
    assert kept.getresponse().status == 200
    assert kept.sock is its_socket
    kept.close()


def test_who_goes_away_frees_the_worker(untrained: Path) -> None:
    with running(untrained, workers=1, max_duration=9999) as service:
        sound = long_sound(6000)  # twelve seconds of work
        for _ in range(3):
            line = service.connect()
            line.sendall(f"{HEAD}Content-Length: {len(sound)}\r\n\r\n".encode() + sound)
            wait_until(lambda: service.scorer.busy == 1)
            line.close()
            wait_until(lambda: service.scorer.busy == 0, 6.0)
        for end in (10, 4000):  # in the midst of the head, and of the sound
            line = service.connect()
            line.sendall((f"{HEAD}Content-Length: {len(sound)}\r\n\r\n".encode() + sound)[:end])
            line.close()
        assert service.send(wav()).status == 200
        counted = b'edgeaudio_requests_total{path="/predict",status="499"} 4.0'
        wait_until(lambda: counted in service.ask("/metrics").body)


# ── anything ─────────────────────────────────────────────────────────────────────────────────────


def test_damaged_requests_never_break_it(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    sound, form = wav(seconds=0.3), multipart(("file", "a.wav", wav(seconds=0.3)), ("topk", None, b"2"))
    asked = json.dumps({"audio": base64.b64encode(sound).decode(), "topk": 2}).encode()
    for kind, whole in (("audio/wav", sound), (FORM, form), ("application/json", asked)):
        for _ in range(60):
            damaged = bytearray(whole[: draw.randrange(len(whole))] if draw.random() < 0.3 else whole)
            for _ in range(draw.choice((0, 1, 5, 200)) if damaged else 0):
                # mostly where the structure is
                at = draw.randrange(min(len(damaged), draw.choice((60, 200, len(damaged)))))
                damaged[at] = draw.randrange(256)
            answer = service.ask("/predict", bytes(damaged), Content_Type=kind)
            assert answer.status in (200, 400, 413, 422), answer.body
            assert answer.status == 200 or answer.error
    for _ in range(40):
        with service.connect() as line:
            line.sendall(
                b"POST /predict HTTP/1.1\r\n" * draw.randrange(2) + draw.randbytes(300) + b"\r\n\r\n"
            )
    assert "Traceback" not in capfd.readouterr().err

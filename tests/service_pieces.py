"""What the tests of the service share: a service in a thread of its own, sounds, and a plain client."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edgeaudio.bundle import read_bundle
from edgeaudio.data.synth import render
from edgeaudio.predictor import Predictor
from edgeaudio.service import app, paddlespeech
from edgeaudio.service.api import Api
from edgeaudio.service.metrics import Metrics
from edgeaudio.service.scoring import Scorer
from edgeaudio.service.server import Server
from edgeaudio.service.settings import ServiceSettings

RATE = 44100  # of the sounds that are sent: the bundle's is another
BOUNDARY = "----a-boundary"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence of a refusal, which is one line and no traceback."""
        sentence = str(self.json["error"])
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        return sentence


@dataclass(frozen=True)
class Service:
    port: int
    scorer: Scorer

    def ask(self, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        answer = connection.getresponse()
        found = Answer(answer.status, answer.headers, answer.read())
        connection.close()
        return found

    def send(self, sound: bytes, query: str = "", **headers: str) -> Answer:
        """A sound as the body."""
        return self.ask(f"/predict{query}", sound, **{"Content_Type": "audio/wav", **headers})

    def form(self, *parts: tuple[str, str | None, bytes], query: str = "") -> Answer:
        """A form of parts: field, file name, content."""
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self.ask(f"/predict{query}", multipart(*parts), Content_Type=kind)

    def post_json(self, value: Any, path: str = "/predict") -> Answer:
        return self.ask(path, json.dumps(value).encode(), Content_Type="application/json")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


def multipart(*parts: tuple[str, str | None, bytes]) -> bytes:
    body = b""
    for field, name, content in parts:
        of_file = "" if name is None else f'; filename="{name}"'
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"{of_file}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def running(folder: Path, graph: str | None = None, **limits: Any) -> Iterator[Service]:
    """A service of a bundle, with other limits than the usual ones."""
    settings = ServiceSettings(**{"workers": 2, **limits})
    bundle, metrics = read_bundle(folder), Metrics()
    with Scorer(partial(Predictor, bundle, graph), settings) as scorer:
        api = Api(bundle, scorer, settings, metrics)
        routes = [*api.routes(), *paddlespeech.routes(api)]
        with in_thread(Server(app.build(routes, [], metrics, settings.allow_origins), port=0)) as server:
            yield Service(server.port, scorer)


@contextlib.contextmanager
def in_thread(server: Server) -> Iterator[Server]:
    with server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def wav(scene: str = "bell", seconds: float = 2.3, seed: int = 3) -> bytes:
    return encoded(render(scene, "a", seed, RATE, seconds))


def encoded(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def long_sound(seconds: float) -> bytes:
    """Silence that is small to send and takes a while to score: some 2 ms a second of sound."""
    return encoded(np.zeros(round(seconds * 16000), np.int16), 16000, "FLAC")


def wait_until(met: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it didn't happen in time"
        time.sleep(0.01)

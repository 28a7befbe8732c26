"""The page in a real browser scores what Python scores; what it is made of and how it is served.

The browser's tests need Chromium (Debian's package ``chromium``) and npm or its cache; they are skipped where
one is missing. Nothing here is a stand-in: the page runs ONNX Runtime's WebAssembly build.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
from browser_bundle import LABELS, RATE, make_trained_bundle
from browser_driver import CHROMIUM, Browser

from edgeaudio.browser import FACTS, write_page
from edgeaudio.browser.page_folder import PAGE
from edgeaudio.browser.runtime import copy_runtime, read_pin
from edgeaudio.bundle import Bundle
from edgeaudio.data.synth import render
from edgeaudio.errors import BundleError, CheckpointError, EdgeAudioError
from edgeaudio.predictor import Prediction, load
from edgeaudio.service.app import build
from edgeaudio.service.metrics import Metrics
from edgeaudio.service.page import routes as page_routes
from edgeaudio.service.server import Server

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
SAME = {"fp32": 1e-4, "int8": 1e-3}  # of a clip's scores; measured 1e-6 and 2e-5
WINDOW = {"fp32": 1e-4, "int8": 2e-2}
"""Of a window's. A last bit of float can turn an integer's rounding: 1 window of 200 by up to 4e-3."""
RESAMPLED = 0.02  # of any score, where the browser's resampler stands in for soxr; measured 6e-3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_trained_bundle(tmp_path_factory.mktemp("bundles") / "four-scenes")


@pytest.fixture(scope="module")
def page(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return write_page(bundle, tmp_path_factory.mktemp("pages") / "page")
    except CheckpointError as error:
        if "npm" not in str(error) or "SHA-512" in str(error):
            raise
        pytest.skip(f"onnxruntime-web can't be had here: {error}")


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Browser]:
    with serving(page) as server, Browser() as browser:
        browser.open(server.url)
        yield browser


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with Server(build([], page_routes(folder), Metrics()), port=0) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def scored_file(browser: Browser, path: Path) -> dict[str, object]:
    """What the page shows for a file that is chosen in it."""
    browser.give_file("#file", path)
    shown = (
        "({scores: Array.from(edgeaudio.shown.scores), windows: edgeaudio.shown.windows.map("
        "({scores, votes, ms}) => ({scores: Array.from(scores), votes, ms}))})"
    )
    result = browser.wait_for(f"edgeaudio.shown?.source === {json.dumps(path.name)} && {shown}")
    assert isinstance(result, dict)
    return result


def text(browser: Browser, element: str) -> str:
    return str(browser.run(f"document.getElementById({element!r}).textContent"))


def furthest(result: dict[str, object], expected: Prediction) -> float:
    return float(np.abs(np.array(result["scores"]) - expected.scores).max())


# ── in the browser ───────────────────────────────────────────────────────────────────────────────


@needs_chromium
@pytest.mark.parametrize("graph", ["fp32", "int8"])
def test_page_scores_a_file_as_python_does(
    browser: Browser, bundle: Bundle, tmp_path: Path, graph: str
) -> None:
    sound = np.concatenate([render(scene, "a", 101, RATE, 1.7) for scene in ("rain", "siren", "bell")])
    sound = np.concatenate([sound, 1e-5 * sound[: 2 * RATE]])  # its end is too quiet to vote
    path = tmp_path / f"{graph}.wav"  # stereo, and no multiple of the hop
    soundfile.write(path, np.stack([sound, 0.5 * sound], axis=1)[:-123], RATE, subtype="FLOAT")
    expected = load(bundle.folder, graph).predict_file(path)
    browser.run(f"edgeaudio.useGraph({graph!r})")
    result = scored_file(browser, path)

    assert furthest(result, expected) < SAME[graph]
    windows = result["windows"]
    assert isinstance(windows, list)
    scores = np.array([window["scores"] for window in windows])
    assert scores.shape == expected.window_scores.shape
    assert np.abs(scores - expected.window_scores).max() < WINDOW[graph]
    assert len({int(best) for best in scores.argmax(axis=1)}) > 1  # the bound above means something
    votes = [window["votes"] for window in windows]
    assert not votes[-1]
    assert all(votes[:9])
    assert text(browser, "heading") == expected.label
    assert text(browser, "count-note").endswith("too quiet to vote")
    assert browser.run("document.querySelectorAll('#windows tr').length") == len(windows)
    check = browser.run("edgeaudio.selfCheck()")
    assert check["graph"] == graph
    assert check["windows"] == 4
    assert check["passed"]
    assert check["difference"] < WINDOW[graph]


@needs_chromium
def test_page_resamples_as_well_as_python(browser: Browser, bundle: Bundle, tmp_path: Path) -> None:
    for scene in ("engine", "rain", "siren"):
        path = tmp_path / f"{scene}-44k.wav"
        soundfile.write(path, render(scene, "a", 102, 44100, 2.5), 44100)
        browser.run("edgeaudio.useGraph('int8')")
        expected = load(bundle.folder).predict_file(path)
        result = scored_file(browser, path)
        assert expected.label == scene == text(browser, "heading")
        assert furthest(result, expected) < RESAMPLED


@needs_chromium
def test_page_says_what_is_no_sound_and_goes_on(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("no sound at all")
    browser.give_file("#file", path)
    browser.wait_for("!document.getElementById('problem').hidden")
    assert "can't read that file as sound" in text(browser, "problem")
    sound = tmp_path / "after.wav"
    soundfile.write(sound, render("rain", "a", 103, RATE, 0.3), RATE)  # shorter than a window
    assert len(scored_file(browser, sound)["windows"]) == 1  # type: ignore[arg-type]
    assert browser.run("document.getElementById('problem').hidden")


@needs_chromium
def test_page_asks_nobody_but_its_own_server(browser: Browser) -> None:
    origin = browser.run("location.origin")
    assert any(address.endswith(".wasm") for address in browser.requests)  # workers are watched too
    assert any(address.endswith(".onnx") for address in browser.requests)
    assert all(address.startswith(f"{origin}/") for address in browser.requests)
    assert not browser.complaints, browser.complaints
    refused = browser.run(
        "new Promise((done) => {document.addEventListener('securitypolicyviolation', "
        "(event) => done(event.effectiveDirective)); fetch('http://127.0.0.1:9/').catch(() => {});})"
    )
    assert refused == "connect-src"


@needs_chromium
def test_page_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    sound = tmp_path / "phone.wav"
    soundfile.write(sound, render("siren", "a", 104, RATE, 4.0), RATE)
    scored_file(browser, sound)
    for name, width in (("phone", 360), ("desktop", 1200)):
        picture = browser.picture(tmp_path / f"{name}.png", width, 800)
        assert picture.stat().st_size > 20_000
        assert browser.run("document.documentElement.scrollWidth") <= width
    painted = (
        "(() => {const c = document.getElementById('spectrogram'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return new Set(new Uint32Array(d.buffer)).size;})()"
    )
    assert browser.run(painted) > 200


@needs_chromium
def test_page_hears_the_microphone(page: Path, bundle: Bundle, tmp_path: Path) -> None:
    sound = tmp_path / "microphone.wav"
    soundfile.write(sound, render("siren", "a", 101, 48000, 3.0), 48000)  # looped by Chromium
    flags = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={sound}",
    ]
    with serving(page) as server, Browser(*flags) as browser:
        browser.open(server.url)
        browser.run("edgeaudio.useGraph('fp32')")
        browser.run("document.getElementById('microphone').click()")
        browser.wait_for("edgeaudio.shown?.windows.length >= 4")
        heard = browser.run(
            "({window: Array.from(edgeaudio.lastWindow), scores: Array.from(edgeaudio.lastScores)})"
        )
        assert text(browser, "heading") == "siren"
        assert browser.run("document.getElementById('microphone').ariaPressed") == "true"
        browser.run("document.getElementById('microphone').click()")
        browser.wait_for("document.getElementById('microphone').ariaPressed === 'false'")
        assert all(address.startswith(server.url) for address in browser.requests)
    window = np.array(heard["window"], np.float32)
    assert window.shape == (RATE,)
    assert window.std() > 1e-3
    expected = load(bundle.folder, "fp32").score_windows(window[None])[0]
    assert LABELS[int(expected.argmax())] == "siren"
    assert np.abs(np.array(heard["scores"]) - expected).max() < SAME["fp32"]


@needs_chromium
def test_page_refuses_a_damaged_graph(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    shutil.copytree(page, folder)
    graph = folder / "model.int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with serving(folder) as server, Browser() as browser:
        with pytest.raises(RuntimeError, match="changed or damaged"):
            browser.open(server.url)
        assert "model.int8.onnx was changed or damaged" in text(browser, "problem")


# ── what the page is made of ─────────────────────────────────────────────────────────────────────


def test_page_folder_is_whole(page: Path, bundle: Bundle) -> None:
    facts = json.loads((page / FACTS).read_text())
    assert facts["labels"] == list(LABELS)
    assert facts["default_graph"] == "int8"
    for graph in facts["graphs"].values():
        assert (page / graph["file"]).read_bytes() == (bundle.folder / graph["file"]).read_bytes()
    assert {path.name for path in (page / "ort").iterdir()} == set(read_pin().files)
    assert (page / "golden.bin").stat().st_size == facts["golden"]["windows"] * RATE * 4
    sources = {path.name for path in PAGE.iterdir()}
    for path in PAGE.iterdir():
        said = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http:" not in said, path.name
        assert "https:" not in said, path.name
        for name in re.findall(r'"(?:\./)?([a-z]+\.(?:js|css|svg))"', said):
            assert name in sources, f"{path.name} names {name}"


def test_page_is_written_over_a_page_but_over_nothing_else(
    page: Path, bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "page"
    for _ in range(2):
        write_page(bundle, folder, page / "ort")
    assert (folder / "ort" / read_pin().files[-1]).stat().st_size > 1_000_000
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(EdgeAudioError, match="isn't empty and holds no page"):
        write_page(bundle, other, page / "ort")
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_bundles_of_other_runtimes_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = replace(bundle, runtime="litert", graphs={"int8": "model.int8.tflite"})
    with pytest.raises(BundleError, match=r"was made for litert .* --target browser"):
        write_page(other, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_runtime_folder_must_hold_the_files(tmp_path: Path) -> None:
    (tmp_path / "ort.wasm.min.mjs").write_text("")
    with pytest.raises(CheckpointError, match=r"lacks ort-wasm-simd-threaded\.mjs, ort-wasm"):
        copy_runtime(tmp_path / "ort", tmp_path)


def test_a_wrong_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAUDIO_CACHE", str(tmp_path))
    archive = tmp_path / "npm" / read_pin().archive
    archive.parent.mkdir()
    archive.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="SHA-512 differs"):
        copy_runtime(tmp_path / "ort")
    assert not (tmp_path / "ort").exists()


@pytest.mark.usefixtures("page")  # skips where npm can't fetch
def test_what_npm_brings_is_held_against_the_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAUDIO_CACHE", str(tmp_path))
    pin = replace(read_pin(), integrity="sha512-" + "A" * 86 + "==")
    with pytest.raises(CheckpointError, match=r"SHA-512 differs.* was deleted"):
        copy_runtime(tmp_path / "ort", pin=pin)
    assert not any((tmp_path / "npm").iterdir())


def test_without_npm_or_network_there_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAUDIO_CACHE", str(tmp_path))
    if shutil.which("npm"):
        monkeypatch.setenv("npm_config_offline", "true")
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "empty"))
        with pytest.raises(CheckpointError, match=r"npm can't fetch onnxruntime-web@.*--runtime-folder"):
            copy_runtime(tmp_path / "ort")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CheckpointError, match="npm, which fetches onnxruntime-web, isn't installed"):
        copy_runtime(tmp_path / "ort")


# ── the server ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "page"
    shutil.copytree(PAGE, folder)
    (folder / "ort").mkdir()
    (folder / "ort" / "a.wasm").write_bytes(b"\0asm")
    (folder / "ort" / "a.mjs").write_text("export {};")
    (folder / "model.onnx").write_bytes(b"onnx")
    (folder / "notes.txt").write_text("not a part of the page")
    (tmp_path / "secret.json").write_text("{}")
    with serving(folder) as server:
        yield server


def ask(server: Server, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_server_says_types_and_isolates_the_page(server: Server) -> None:
    for path, kind in {
        "/": "text/html; charset=utf-8",
        "/app.js?v=1": "text/javascript; charset=utf-8",
        "/ort/a.mjs": "text/javascript; charset=utf-8",
        "/ort/a.wasm": "application/wasm",
        "/model.onnx": "application/octet-stream",
    }.items():
        answer, body = ask(server, path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert int(answer.headers["Content-Length"]) == len(body) > 0
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    answer, body = ask(server, "/app.js", "HEAD")
    assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/../secret.json", "/%2e%2e/secret.json", "/..%2fsecret.json", "/ort/../../secret.json",
     "//etc/passwd", "/ort/", "/ort", "/notes.txt", "/app.js/", "/%00"],
)  # fmt: skip
def test_server_knows_nothing_but_the_page(server: Server, path: str) -> None:
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_server_only_reads(server: Server, method: str) -> None:
    answer, _ = ask(server, "/", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_server_says_why_it_cannot_listen(server: Server, tmp_path: Path) -> None:
    app, port = build([], [], Metrics()), server.port
    with pytest.raises(EdgeAudioError, match=f"port {port} of 127.0.0.1 is in use; .*--port"):
        Server(app, port=port)
    with pytest.raises(EdgeAudioError, match="port 70000 is no port"):
        Server(app, port=70000)
    with pytest.raises(EdgeAudioError, match=r"can't listen on 192\.0\.2\.1"):
        Server(app, host="192.0.2.1", port=0)
    with pytest.raises(EdgeAudioError, match=r"holds no index\.html"):
        page_routes(tmp_path)


def test_verb_serves_until_ctrl_c(page: Path, bundle: Bundle) -> None:
    verb = [sys.executable, "-m", "edgeaudio", "serve"]
    for words, stop in (
        ([page], signal.SIGINT),
        ([bundle.folder, "--runtime-folder", page / "ort"], signal.SIGTERM),
    ):
        process = subprocess.Popen(
            [*verb, *map(str, words), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        with urlopen(url + FACTS, timeout=10) as answer:
            assert json.load(answer)["name"] == "four-scenes"
        process.send_signal(stop)
        _, complaints = process.communicate(timeout=30)
        assert (process.returncode, complaints) == (0, "")


def test_verb_says_that_the_port_is_taken(page: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "edgeaudio", "serve", str(page), "--port", port],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert done.stderr.count("\n") == 1

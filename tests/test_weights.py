"""Published weights are fetched over real HTTP: resumed, verified, and refused in one sentence otherwise."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from edgeaudio import weights
from edgeaudio.cli.weights import weights_app
from edgeaudio.console import Console
from edgeaudio.errors import CheckpointError
from edgeaudio.models import MODELS, model_options
from edgeaudio.recipes import recipe_from_table
from edgeaudio.weights.entries import Entry, read_catalogue

CONTENT = bytes(range(256)) * 4000  # about 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PUBLISHED = Path(__file__).parents[1] / ".." / "shared" / "weights"


@dataclass
class Server:
    """A file server with the habits of real ones."""

    base: str = ""
    ranges: bool = True
    """Whether it knows the Range header."""
    lengths: bool = True
    """Whether it says how much will come."""
    break_after: int | None = None
    """Bytes after which it drops the connection."""
    breaks: int = 0
    """How often it does so."""
    seen: list[str] = field(default_factory=list)
    """Range headers of the requests, '' where there was none."""

    def entry(self, path: str = "weights.pt", **changed: object) -> Entry:
        """The entry of a file on this server."""
        known = {"bytes": len(CONTENT), "sha256": SHA256, **changed}
        return Entry(
            "tested", "cp_mobile", f"{self.base}/{path}?download=1", "noise", "MIT", "nobody", {},
            **known,  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    config = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"

        def do_GET(self) -> None:
            config.seen.append(self.headers.get("Range", ""))
            if self.path.startswith("/moved"):
                return self.answer(302, {"Location": "/weights.pt", "Content-Length": "0"})
            if not self.path.startswith("/weights.pt"):
                return self.answer(404, {"Content-Length": "0"})
            start, code = 0, 200
            headers = {"Content-Length": str(len(CONTENT))} if config.lengths else {"Connection": "close"}
            if config.ranges and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
                start, code = int(match[1]), 206
                if start >= len(CONTENT):
                    size = {"Content-Range": f"bytes */{len(CONTENT)}", "Content-Length": "0"}
                    return self.answer(416, size)
                headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
                headers["Content-Length"] = str(len(CONTENT) - start)
            self.answer(code, headers)
            body = CONTENT[start:]
            if config.break_after is not None and config.breaks > 0:
                config.breaks -= 1
                body = body[: config.break_after]
                self.close_connection = True
            self.wfile.write(body)
            if not config.lengths:
                self.close_connection = True

        def answer(self, code: int, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        config.base = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield config
        http.shutdown()
        thread.join()


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


@pytest.mark.parametrize("address", ["weights.pt", "moved"])
def test_a_file_is_fetched_once(server: Server, tmp_path: Path, address: str) -> None:
    path = tmp_path / "new folder" / "w.pt"
    assert weights.fetch(server.entry(address), path=path) == path
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    asked = len(server.seen)
    weights.fetch(server.entry(address), path=path)
    assert len(server.seen) == asked


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.break_after, server.breaks = 300_000, 2
    path = weights.fetch(server.entry(), path=tmp_path / "w.pt")
    assert path.read_bytes() == CONTENT
    assert server.seen == ["", "bytes=300000-", "bytes=600000-"]


def test_a_rest_of_yesterday_is_continued(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    partial_of(path).write_bytes(CONTENT[:123_456])
    weights.fetch(server.entry(), path=path)
    assert path.read_bytes() == CONTENT
    assert server.seen == ["bytes=123456-"]
    assert not partial_of(path).exists()


def test_a_rest_that_was_whole_already(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    partial_of(path).write_bytes(CONTENT)
    weights.fetch(server.entry(), path=path)
    assert path.read_bytes() == CONTENT
    assert server.seen == [f"bytes={len(CONTENT)}-"]


def test_a_rest_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    partial_of(path).write_bytes(CONTENT + b"more")
    weights.fetch(server.entry(), path=path)
    assert path.read_bytes() == CONTENT
    assert server.seen == [f"bytes={len(CONTENT) + 4}-", ""]


def test_a_server_that_knows_no_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.break_after, server.breaks = False, 300_000, 1
    path = weights.fetch(server.entry(), path=tmp_path / "w.pt")
    assert path.read_bytes() == CONTENT
    assert server.seen == ["", "bytes=300000-"]


def test_a_server_that_says_no_lengths(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    assert weights.fetch(server.entry(), path=tmp_path / "w.pt").read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_left_and_the_rest_kept(server: Server, tmp_path: Path) -> None:
    server.ranges, server.break_after, server.breaks = False, 5000, 1000
    path = tmp_path / "w.pt"
    with pytest.raises(CheckpointError, match=r"broke off after 5000 bytes, which are kept.*try again"):
        weights.fetch(server.entry(), path=path)
    assert len(server.seen) == 5  # the first and four in vain
    assert partial_of(path).read_bytes() == CONTENT[:5000]
    server.ranges, server.breaks = True, 0
    weights.fetch(server.entry(), path=path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sha256": "0" * 64}, f"its sha256 is {SHA256}, not {'0' * 64}"),
        (
            {"sha256": None, "md5": "1" * 32},
            f"its md5 is {hashlib.md5(CONTENT).hexdigest()}, not {'1' * 32}",
        ),
        ({"sha256": None, "bytes": 7}, f"it has {len(CONTENT)} bytes, not 7"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_deleted(
    server: Server, tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(CheckpointError, match=f"{said}; it was deleted") as caught:
        weights.fetch(server.entry(**wrong), path=path)
    assert not list(tmp_path.iterdir())
    assert "\n" not in str(caught.value)


def test_archives_that_publish_only_md5(server: Server, tmp_path: Path) -> None:
    entry = server.entry(sha256=None, md5=hashlib.md5(CONTENT).hexdigest().upper())
    assert weights.fetch(entry, path=tmp_path / "w.pt").read_bytes() == CONTENT


def test_nothing_known_of_a_file_is_said(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.fetch(server.entry(sha256=None, bytes=None), Console(), tmp_path / "w.pt")
    assert "tested: 1.0 MB, no checksum is published" in capsys.readouterr().err
    weights.fetch(server.entry(), Console(), tmp_path / "v.pt")
    assert "tested: 1.0 MB, verified" in capsys.readouterr().err


def test_missing_on_the_server(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    entry = server.entry("gone.pt")
    with pytest.raises(CheckpointError, match="HTTP 404 Not Found") as caught:
        weights.fetch(entry, path=path)
    assert entry.address in str(caught.value)
    assert f"fetch it by hand and put it at {path}" in str(caught.value)
    assert not list(tmp_path.iterdir())


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def test_offline_names_the_address_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    partial_of(path).write_bytes(CONTENT[:1000])
    entry = Server(f"http://127.0.0.1:{closed_port()}").entry()
    with pytest.raises(CheckpointError, match="Connection refused") as caught:
        weights.fetch(entry, path=path)
    assert entry.address in str(caught.value)
    assert f"put it at {path}" in str(caught.value)
    assert partial_of(path).stat().st_size == 1000


def test_a_file_put_there_by_hand_is_verified_and_used(tmp_path: Path) -> None:
    entry = Server(f"http://127.0.0.1:{closed_port()}").entry()
    path = tmp_path / "w.pt"
    path.write_bytes(CONTENT)
    assert weights.fetch(entry, path=path) == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match=f"not {SHA256}; remove it"):
        weights.fetch(entry, path=path)
    assert path.exists()  # it is the user's


def test_a_place_that_can_not_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="can't be fetched"):
        weights.fetch(server.entry(), path=tmp_path / "file" / "w.pt")


# ── the catalogue ────────────────────────────────────────────────────────────────────────────────

ENTRIES = weights.catalogue()


def test_catalogue_holds_the_families() -> None:
    models = {entry.model for entry in ENTRIES.values()}
    assert models >= {"cnn14", "cnn10", "cnn6", "passt", "mobilenet", "dymn", "acdnet", "yamnet", "cp_mobile"}
    assert len({entry.file for entry in ENTRIES.values()}) == len(ENTRIES)
    assert len({entry.address for entry in ENTRIES.values()}) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_entries_are_whole(entry: Entry) -> None:
    assert entry.address.startswith("https://")
    assert Path(entry.file).suffix in (".pt", ".pth", ".ckpt", ".h5")
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert entry.md5 is None or re.fullmatch("[0-9a-f]{32}", entry.md5)
    assert entry.classes in (None, 10, 50, 527)
    assert all((entry.trained_on, entry.licence, entry.citation))
    json.dumps(entry.to_json())


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_entries_are_recipes_that_hold(entry: Entry) -> None:
    augment = {"freq_mixstyle_p": 0} if entry.frontend.get("preset") == "waveform" else {}
    table = {
        "model": {"name": entry.model, **entry.options}, "frontend": entry.frontend, "augment": augment
    }  # fmt: skip
    recipe = recipe_from_table(table, entry.name, "catalogue.toml")
    assert recipe.frontend.sample_rate in (16000, 20000, 32000)
    if entry.model in MODELS:
        assert entry.options.keys() <= model_options(entry.model).keys()


def test_a_wrong_catalogue_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text('[weights.x]\nmodell = "passt"\n')
    with pytest.raises(CheckpointError, match=r"weights.x\]: unknown key 'modell'; did you mean 'model'"):
        read_catalogue(path)
    path.write_text('[source.panns]\n[weights.x]\nsource = "pann"\n')
    with pytest.raises(CheckpointError, match="unknown source 'pann'; did you mean 'panns'"):
        read_catalogue(path)


def test_names_and_paths_are_resolved(private_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(b"x")
    assert weights.resolve(str(path)) == path
    for text, said in {"mn1O": "did you mean 'mn1", "nowhere/w.pt": "neither a file nor a name"}.items():
        with pytest.raises(CheckpointError, match=said):
            weights.resolve(text)
    with pytest.raises(CheckpointError, match="did you mean 'passt_s'"):
        weights.get("past_s")
    assert weights.place(weights.find("cnn14")) == private_cache / "weights" / "cnn14.pth"


@pytest.fixture
def micro(private_cache: Path) -> Iterator[Path]:
    """Published weights, put by hand where they belong."""
    file = PUBLISHED / "micro_acdnet_fold4_86.00.pt"
    if not file.is_file():
        pytest.skip("the published weights are not beside this checkout")
    place = weights.place(weights.find("micro_acdnet"))
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)
    yield place
    place.unlink()


def test_published_weights_put_by_hand(micro: Path) -> None:
    assert weights.get("micro_acdnet") == weights.resolve("micro_acdnet") == micro


# ── the command line ─────────────────────────────────────────────────────────────────────────────

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a verb behind a proxy that isn't there: these tests must not reach the network."""
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    urllib.request.install_opener(urllib.request.build_opener())  # which reads the proxies once

    def invoke(*words: str) -> str:
        result = CliRunner().invoke(weights_app, list(words), catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    yield invoke
    monkeypatch.undo()
    urllib.request.install_opener(urllib.request.build_opener())


def test_list(run: Run) -> None:
    text = run("list")
    assert all(name in text for name in ENTRIES)
    assert "CC-BY-4.0" in text
    rows = json.loads(run("list", "--json"))
    assert [row["name"] for row in rows] == list(ENTRIES)
    assert next(row for row in rows if row["name"] == "mn10")["bytes"] == 19708753


def test_get_says_where_it_lies(run: Run, micro: Path) -> None:
    assert run("get", "micro_acdnet").strip() == str(micro)
    answer = json.loads(run("get", "micro_acdnet", "--json"))
    assert answer["path"] == str(micro)
    assert answer["licence"] == "MIT"
    assert next(r for r in json.loads(run("list", "--json")) if r["name"] == answer["name"])["path"]


def test_get_offline_is_a_sentence(run: Run, private_cache: Path) -> None:
    place = private_cache / "weights" / "mn01.pt"
    with pytest.raises(CheckpointError, match="Connection refused") as caught:
        run("get", "mn01", "-q")
    assert "releases/download/v0.0.1/mn01_as_mAP_298.pt" in str(caught.value)
    assert f"put it at {place}" in str(caught.value)
    with pytest.raises(CheckpointError, match="did you mean 'mn01'"):
        run("get", "mn011")


def test_weights_need_no_torch() -> None:
    code = (
        "import sys, edgeaudio.weights as w; w.place(w.find('mn10')); "
        "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Headless Chromium, driven over the DevTools protocol through two pipes: no driver and no package.

Chromium reads commands from its file descriptor 3 and writes answers to 4, JSON with a zero byte after each.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
]  # fmt: skip
_ON_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One Chromium with one page, gone with the ``with`` block.

    Args:
        flags: in addition to `FLAGS`.
        patience: seconds for any one answer.
    """

    def __init__(self, *flags: str, patience: float = 60.0) -> None:
        assert CHROMIUM is not None
        self.patience = patience
        self.requests: list[str] = []
        """Addresses that the page and its workers asked for."""
        self.complaints: list[str] = []
        """What they wrote to the console as errors, and their uncaught exceptions."""
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        to_read, self._commands = os.pipe()
        self._answers, to_write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_3_AND_4, str(to_read), str(to_write), CHROMIUM, *FLAGS,
             f"--user-data-dir={self._profile.name}", *flags, "about:blank"],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._next = 0
        self._waiting: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        pages = [t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        target = {"targetId": pages[0]["targetId"], "flatten": True}
        self.session: str = self.send("Target.attachToTarget", target)["sessionId"]
        self._observe(self.session)
        self.send("Page.enable", session=self.session)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.send("Browser.close")
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._commands)
            self._profile.cleanup()

    def send(self, method: str, values: object = None, session: str | None = None) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        number, answer = self._post(method, values, session)
        try:
            message = answer.get(timeout=self.patience)
        finally:
            del self._waiting[number]
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        result: dict[str, Any] = message["result"]
        return result

    def open(self, url: str) -> None:
        """Load a page and wait until its graph is ready."""
        self.send("Page.navigate", {"url": url}, self.session)
        self.wait_for("window.edgeaudio !== undefined")
        self.run("edgeaudio.ready")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate",
            {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True},
            self.session,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> Any:
        """Ask until an expression holds; its value."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            if value := self.run(condition):
                return value
            time.sleep(0.05)
        raise TimeoutError(f"{condition} didn't come true in {self.patience} s; {self.complaints}")

    def give_file(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        root = self.send("DOM.getDocument", session=self.session)["root"]["nodeId"]
        query = {"nodeId": root, "selector": selector}
        node = self.send("DOM.querySelector", query, self.session)["nodeId"]
        self.send("DOM.setFileInputFiles", {"files": [str(path)], "nodeId": node}, self.session)

    def picture(self, path: Path, width: int, height: int, dark: bool = False) -> Path:
        """A screenshot of the whole page at a width in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", metrics, self.session)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", {"features": [scheme]}, self.session)
        self.run("new Promise((done) => setTimeout(done, 300))")
        options = {"captureBeyondViewport": True}
        data = self.send("Page.captureScreenshot", options, self.session)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def _post(
        self, method: str, values: object, session: str | None
    ) -> tuple[int, queue.Queue[dict[str, Any]]]:
        self._next += 1
        number = self._next
        answer: queue.Queue[dict[str, Any]] = queue.Queue()
        self._waiting[number] = answer
        message = {"id": number, "method": method, "params": values or {}}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return number, answer

    def _read(self) -> None:
        """Sort what Chromium writes into answers and events."""
        rest = b""
        while block := os.read(self._answers, 1 << 16):
            *messages, rest = (rest + block).split(b"\0")
            for message in map(json.loads, messages):
                if "id" not in message:
                    self._events.put(message)
                elif message["id"] in self._waiting:
                    self._waiting[message["id"]].put(message)
        os.close(self._answers)

    def _watch(self) -> None:
        """Note requests and complaints, of workers too: they are held until their network is watched."""
        notes: dict[str, Callable[[dict[str, Any]], None]] = {
            "Target.attachedToTarget": lambda values: self._observe(values["sessionId"]),
            "Network.requestWillBeSent": lambda values: self.requests.append(values["request"]["url"]),
            "Log.entryAdded": lambda values: self._complain(
                values["entry"]["level"], values["entry"]["text"]
            ),
            "Runtime.exceptionThrown": lambda values: self.complaints.append(
                json.dumps(values["exceptionDetails"])
            ),
        }
        while True:
            event = self._events.get()
            if event["method"] in notes:
                notes[event["method"]](event["params"])

    def _complain(self, level: str, text: str) -> None:
        if level == "error":
            self.complaints.append(text)

    def _observe(self, session: str) -> None:
        """Watch a page or a worker, and the workers that it starts; answers aren't waited for."""
        attach = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        for method, values in (
            ("Network.enable", None), ("Log.enable", None), ("Runtime.enable", None),
            ("Target.setAutoAttach", attach), ("Runtime.runIfWaitingForDebugger", None),
        ):  # fmt: skip
            number, _ = self._post(method, values, session)
            del self._waiting[number]

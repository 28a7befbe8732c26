"""`edgeaudio serve` under load: many clients at once, and whether memory stays flat.

    python benchmarks/service.py BUNDLE [--clients 200] [--requests 5000] [--seconds 5] [--workers 2] [--json]

The service runs in a process of its own. One client asks one request after another; then as many clients as
are wanted ask at once, each on a connection of its own; the ratio of their requests a second is what the
workers are worth. Then a few clients ask until there were as many requests as are wanted, while the memory
of the service is read (Linux only). The sounds are noise with a tone in it; each answer is held against the
one that the predictor gives in this process.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

import edgeaudio
from edgeaudio.answers import print_table
from edgeaudio.service.settings import cores

SOUNDS = 16
SEQUENTIAL = 200
"""Requests of the client that asks alone."""
STEADY = 8
"""Clients of the long run."""
EARLY = 500
"""Requests after which the memory is read for the first time: all is allocated then."""


def make_sounds(seconds: float, rate: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * rate)) / rate
    sounds = []
    for _ in range(SOUNDS):
        tone = 0.2 * np.sin(2 * np.pi * rng.uniform(100, rate / 3) * times)
        file = io.BytesIO()
        soundfile.write(file, tone + rng.normal(0, 0.05, len(times)), rate, format="WAV")
        sounds.append(file.getvalue())
    return sounds


class Client:
    """One connection that is kept; counts what isn't answered as it should be."""

    def __init__(self, port: int, sounds: Sequence[bytes], expected: Sequence[object]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self._sounds = sounds
        self._expected = expected
        self.errors = 0
        self.took: list[float] = []

    def ask(self, number: int) -> None:
        """One request."""
        sound = number % len(self._sounds)
        began = time.perf_counter()
        try:
            self._connection.request("POST", "/predict", self._sounds[sound], {"Content-Type": "audio/wav"})
            answer = self._connection.getresponse()
            right = answer.status == 200 and json.load(answer)["top"] == self._expected[sound]
        except (OSError, http.client.HTTPException):
            right = False
        self.took.append(time.perf_counter() - began)
        self.errors += not right


def together(clients: Sequence[Client], numbers: Sequence[range]) -> float:
    """All begin at once; the seconds until the last is done."""
    gate = threading.Barrier(len(clients) + 1)

    def work(client: Client, mine: range) -> None:
        gate.wait()
        for number in mine:
            client.ask(number)

    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(work, *pair) for pair in zip(clients, numbers, strict=True)]
        gate.wait()
        began = time.perf_counter()
        for future in running:
            future.result()
    return time.perf_counter() - began


def resident(pid: int) -> float:
    """Memory of a process in MiB; 0 where the system doesn't say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measure(port: int, pid: int, args: argparse.Namespace, *given: Sequence[object]) -> dict[str, float]:
    def clients(number: int) -> list[Client]:
        return [Client(port, *given) for _ in range(number)]  # type: ignore[arg-type]

    clients(1)[0].ask(0)
    alone, crowd, steady = clients(1), clients(args.clients), clients(STEADY)
    seconds_alone = together(alone, [range(SEQUENTIAL)])
    rounds = max(1, SEQUENTIAL // args.clients)
    seconds_crowd = together(crowd, [range(i, i + rounds) for i in range(args.clients)])
    asked = SEQUENTIAL + args.clients * rounds
    memory = []
    for goal in (EARLY, *(args.requests * quarter // 4 for quarter in (1, 2, 3, 4))):
        if goal > asked:
            each = -(-(goal - asked) // STEADY)
            together(steady, [range(each)] * STEADY)
            asked += each * STEADY
        memory.append(resident(pid))
    took = np.array([seconds for client in crowd for seconds in client.took])
    rates = (SEQUENTIAL / seconds_alone, args.clients * rounds / seconds_crowd)
    return {
        "errors": sum(client.errors for client in (*alone, *crowd, *steady)),
        "requests": asked,
        "alone_p50_ms": 1000 * float(np.median(alone[0].took)),
        "alone_requests_per_second": rates[0],
        "crowd_p50_ms": 1000 * float(np.median(took)),
        "crowd_p95_ms": 1000 * float(np.quantile(took, 0.95)),
        "crowd_requests_per_second": rates[1],
        "crowd_over_alone": rates[1] / rates[0],
        **{f"memory_mib_{i}": size for i, size in enumerate(memory)},
    }


def rows(figures: dict[str, float], args: argparse.Namespace) -> list[list[str]]:
    crowd = f"{args.clients} clients at once"
    memory = [figures[f"memory_mib_{i}"] for i in range(5)]
    return [
        ["requests", f"{figures['requests']:.0f}"],
        ["errors, wrong answers included", f"{figures['errors']:.0f}"],
        ["one client: p50", f"{figures['alone_p50_ms']:.1f} ms"],
        ["one client: requests a second", f"{figures['alone_requests_per_second']:.1f}"],
        [f"{crowd}: p50", f"{figures['crowd_p50_ms']:.0f} ms"],
        [f"{crowd}: p95", f"{figures['crowd_p95_ms']:.0f} ms"],
        [f"{crowd}: requests a second", f"{figures['crowd_requests_per_second']:.1f}"],
        [f"{crowd}: throughput over one client's", f"{figures['crowd_over_alone']:.2f}"],
        [f"memory after {EARLY} requests", f"{memory[0]:.1f} MiB"],
        [f"memory after {args.requests} requests", f"{memory[-1]:.1f} MiB"],
        ["growth between them", f"{100 * (memory[-1] / max(memory[0], 1e-9) - 1):+.1f} %"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The service under load.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=44100, help="Hz of the sounds")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sounds = make_sounds(args.seconds, args.rate)
    predictor = edgeaudio.load(args.bundle)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        expected = []
        for sound in sounds:
            Path(file.name).write_bytes(sound)
            expected.append(predictor.predict_file(file.name).to_json(1)["top"])
    words = ["serve", args.bundle, "--no-page", "--port", 0, "--workers", args.workers]
    command = [sys.executable, "-m", "edgeaudio", *map(str, words)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().split("/")[2].split(":")[1])
            figures = measure(port, process.pid, args, sounds, expected)
        finally:
            process.send_signal(signal.SIGTERM)
    if args.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return
    title = f"{args.workers} workers, sounds of {args.seconds:g} s at {args.rate} Hz"
    print_table(title, ["", "measured"], rows(figures, args))


if __name__ == "__main__":
    main()

"""A folder of sounds through `edgeaudio predict --workers`: how fast, and whether memory stays flat.

    python benchmarks/many_files.py BUNDLE [--files 1000] [--seconds 5] [--workers 2] [--json]

The sounds are noise with a tone in it, made in a temporary folder. What the model alone costs for as many
windows is measured before and after, so that the rest (reading, resampling, cutting, writing, processes) can
be told apart. What a core does is counted in processor seconds, so that a busy machine changes little. Memory
is that of the process and its children (Linux only).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile

import edgeaudio
from edgeaudio.predictor import Predictor

PROC = Path("/proc")
POLL_SECONDS = 0.1


def make_sounds(folder: Path, files: int, seconds: float, rate: int) -> None:
    rng = np.random.default_rng(0)
    time_axis = np.arange(round(seconds * rate)) / rate
    for i in range(files):
        tone = 0.2 * np.sin(2 * np.pi * rng.uniform(100, rate / 3) * time_axis)
        noise = rng.normal(0, 0.05, len(time_axis))
        soundfile.write(folder / f"{i:05}.wav", (tone + noise).astype(np.float32), rate)


def seconds_per_window(predictor: Predictor, runs: int = 300) -> float:
    """Median time of one inference, one window at a time as the predictor does it."""
    shape = (1, predictor.bundle.window_samples)
    window = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        predictor.score_windows(window)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def resident_bytes(root: int) -> int:
    """Memory of a process and all below it."""
    parents: dict[int, int] = {}
    memory: dict[int, int] = {}
    for status in PROC.glob("[0-9]*/status"):
        try:
            facts = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # it ended while we looked
            continue
        pid = int(status.parent.name)
        parents[pid] = int(facts["PPid"])
        memory[pid] = 1024 * int(facts.get("VmRSS", "0").split()[0])
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(memory.get(pid, 0) for pid in family)


class MemoryWatch:
    """Looks at the memory of a process from time to time, on a thread of its own."""

    def __init__(self, pid: int) -> None:
        self.readings: list[tuple[float, int]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid,))
        self._thread.start()

    def _watch(self, pid: int) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.readings.append((time.perf_counter(), resident_bytes(pid)))

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()

    def peak(self, begin: float, end: float) -> float:
        """Highest reading between two moments, in MiB."""
        return max((size for moment, size in self.readings if begin <= moment <= end), default=0) / 2**20


def measure(bundle: Path, folder: Path, files: int, workers: int) -> dict[str, float]:
    """Seconds on the clock and of processors, all in all and until the first answer, and peak memory."""
    command = [sys.executable, "-m", "edgeaudio", "predict", str(bundle), str(folder)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE) as process:
        watch = MemoryWatch(process.pid) if PROC.is_dir() else None
        assert process.stdout is not None
        moments = [time.perf_counter() for _ in process.stdout]
    ended = time.perf_counter()
    if process.returncode or len(moments) != files:
        raise SystemExit(f"{len(moments)} of {files} files were answered, exit {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {"wall_seconds": ended - began, "cpu_seconds": cpu, "first_answer_seconds": moments[0] - began}
    if watch is not None:
        watch.stop()
        quarter = files // 4
        figures["early_peak_mib"] = watch.peak(began, moments[quarter])
        figures["late_peak_mib"] = watch.peak(moments[-quarter - 1], ended)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of predict on many files.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=int, help="Hz of the files (default: the bundle's)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    predictor = edgeaudio.load(args.bundle)
    rate = args.rate or predictor.sample_rate
    with tempfile.TemporaryDirectory() as name:
        make_sounds(Path(name), args.files, args.seconds, rate)
        clip = np.zeros(round(args.seconds * predictor.sample_rate), np.float32)
        windows = len(predictor(clip, predictor.sample_rate).starts)
        before = seconds_per_window(predictor)
        figures = measure(args.bundle, Path(name), args.files, args.workers)
        after = seconds_per_window(predictor)
    sound = args.files * args.seconds
    model = args.files * windows * (before + after) / 2
    figures |= {
        "sound_seconds": sound,
        "model_cpu_seconds": model,
        "times_real_time": sound / figures["wall_seconds"],
        "times_real_time_per_core": sound / figures["cpu_seconds"],
        "times_real_time_per_core_beyond_the_model": sound / max(figures["cpu_seconds"] - model, 1e-9),
    }
    if args.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return
    print(f"{args.files} files of {args.seconds:g} s at {rate} Hz, {args.workers} workers")
    for title, value in figures.items():
        print(f"  {title.replace('_', ' '):42} {value:10.2f}")


if __name__ == "__main__":
    main()

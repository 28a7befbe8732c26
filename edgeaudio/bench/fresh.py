"""What a bundle costs a process of its own: peak memory, and the time from its start to the first label.

Both are measured in new processes, since this one has long loaded everything. `python -m
edgeaudio.bench.fresh BUNDLE GRAPH` is the one that tells its memory.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeaudio.errors import EdgeAudioError
from edgeaudio.runtimes import RUNTIMES

if TYPE_CHECKING:
    from edgeaudio.bundle import Bundle

STARTS = 5
_MEGABYTE = 1e6


def memory(bundle: Bundle, graph: str) -> dict[str, float]:
    """Peak resident memory of one prediction.

    Returns:
        ``peak_mb`` of the whole process, and ``peak_over_runtime_mb`` beyond importing NumPy and the
        runtime alone, in 10⁶ bytes; nothing on systems that don't tell it.
    """
    command = [sys.executable, "-m", "edgeaudio.bench.fresh", str(bundle.folder), graph]
    figures: dict[str, float] = json.loads(_output(command))
    return figures


def cold_start(bundle: Bundle, graph: str, sound: Path | None = None, runs: int = STARTS) -> dict[str, float]:
    """Seconds from the start of `edgeaudio predict` to its end, in turns with the bare start of the runtime.

    Args:
        bundle: the bundle.
        graph: which of its graphs.
        sound: what it predicts; a golden window of the bundle where None.
        runs: processes of each kind; the median counts, and one more of each fills the disk cache.

    Returns:
        ``cold_start_s`` of the whole, ``bare_start_s`` of Python with NumPy and the runtime.
    """
    with tempfile.TemporaryDirectory() as folder:
        sound = sound or _golden_sound(bundle, Path(folder))
        words = ["-m", "edgeaudio", "predict", str(bundle.folder), str(sound), "--graph", graph]
        commands = {
            "cold_start_s": [sys.executable, *words],
            "bare_start_s": [sys.executable, "-c", f"import numpy, edgeaudio.runtimes.{_module(bundle)}"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for run in range(runs + 1):
            for name, command in commands.items():
                began = time.perf_counter()
                _output(command)
                if run:
                    times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def _module(bundle: Bundle) -> str:
    return RUNTIMES[bundle.runtime]


def _golden_sound(bundle: Bundle, folder: Path) -> Path:
    import soundfile

    from edgeaudio.verify import golden_of

    path = folder / "golden.wav"
    soundfile.write(path, golden_of(bundle)["waveforms"][0], bundle.sample_rate, subtype="FLOAT")
    return path


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EdgeAudioError(f"a fresh process of edgeaudio failed: {last.removeprefix('error: ')}")
    return done.stdout


# ── inside the fresh process ─────────────────────────────────────────────────────────────────────


def peak_bytes() -> int | None:
    """Most memory that this process has held at once; None where the system doesn't tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage's ru_maxrss outlives exec on Linux: it would tell the size of the process that started us
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    try:
        import resource
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def tell_memory(folder: str, graph: str) -> None:
    """Predict once in this process and print its `memory` as JSON."""
    import numpy as np

    from edgeaudio.bundle import read_bundle

    bundle = read_bundle(folder)
    importlib.import_module(f"edgeaudio.runtimes.{_module(bundle)}")
    before = peak_bytes()
    from edgeaudio.predictor import Predictor

    Predictor(bundle, graph).score_windows(np.zeros((1, bundle.window_samples), np.float32))
    after = peak_bytes()
    figures = {}
    if before is not None and after is not None:
        figures = {
            "peak_mb": after / _MEGABYTE,
            "peak_over_runtime_mb": (after - before) / _MEGABYTE,
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    tell_memory(*sys.argv[1:])

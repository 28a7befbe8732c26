"""How fast a bundle's graphs are here: waveform in, scores out, front end and network apart.

The network's share is timed on the same graph without its front end (`edgeaudio.onnx_split`), in turns with
the whole; the front end's is the rest. That works for every runtime that reads ONNX files as they are, and
adds no profiler to what is timed.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeaudio.bundle import Bundle
from edgeaudio.errors import EdgeAudioError, did_you_mean
from edgeaudio.host_frontend import HostLogMel
from edgeaudio.latency import RUNS, WARM_UP, Call, interleaved, noise, percentiles, throughput
from edgeaudio.onnx_split import core_of
from edgeaudio.predictor import Predictor
from edgeaudio.runtimes import open_graph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeaudio.bench.eager import Eager
    from edgeaudio.console import Console

SPLITS = ("onnxruntime", "onnxruntime-web", "openvino")
"""Runtimes whose graphs are timed in two parts."""
PROTOCOLS = ("latency", "mlperf-tiny")
WINDOWS, WINDOW_SECONDS = 5, 10.0  # MLPerf Tiny's performance mode: the median of five runs of ten seconds
WHOLE, MODEL, TORCH = "whole", "model", "torch"


@dataclass(frozen=True)
class Plan:
    """What is timed."""

    graphs: tuple[str, ...]
    threads: tuple[int, ...] = (1,)
    """Cores that one inference may use."""
    batches: tuple[int, ...] = (1, 8, 32)
    """Windows in one call."""
    runs: int = RUNS
    """Timed calls of one window; larger batches are called less often."""
    protocol: str = "latency"
    """``mlperf-tiny`` adds the median throughput of `WINDOWS` stretches."""
    window_seconds: float = WINDOW_SECONDS
    """Least length of one such stretch."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise EdgeAudioError(f"--protocol is {self.protocol!r}; {did_you_mean(self.protocol, PROTOCOLS)}")
        for name, values in (("--threads", self.threads), ("--batch", self.batches), ("--runs", [self.runs])):
            if not values or min(values) < 1:
                raise EdgeAudioError(f"{name} must be at least 1, e.g. {name} 1")

    @property
    def sentence(self) -> str:
        """How it is timed, for tables."""
        text = f"waveform → scores, {WARM_UP} runs to warm up, {self.runs} timed (fewer at larger batches)"
        if self.protocol == "mlperf-tiny":
            text += f"; throughput: median of {WINDOWS} windows of ≥ {self.window_seconds:g} s"
        return text

    def runs_of(self, batch: int) -> int:
        """Timed calls at a batch size: at least 20, so that a 95th percentile means something."""
        return min(self.runs, max(20, self.runs // batch))


def rows(bundle: Bundle, plan: Plan, console: Console, eager: Eager | None = None) -> list[dict[str, Any]]:
    """Time every graph at every number of threads and batch size.

    Args:
        bundle: the bundle.
        plan: what is timed.
        console: shows the progress.
        eager: the same network in torch, timed in turns with the graphs; its scores are compared, too.

    Returns:
        A row each: ``graph``, ``threads``, ``batch``, ``runs``, ``p50_ms``, ``p95_ms`` and ``p99_ms`` of one
        call, ``windows_per_second``, ``real_time_factor`` (below 1 is faster than real time),
        ``front_end_ms`` and ``model_ms`` (None where the graph can't be split); with the protocol
        ``mlperf-tiny`` also ``mlperf_windows_per_second``; with torch ``torch_ms``,
        ``times_faster_than_torch`` and ``max_abs_to_torch`` of the scores.
    """
    cases = list(product(plan.graphs, plan.threads, plan.batches))
    return [_row(bundle, plan, *case, eager) for case in console.track(cases, "timing")]


def _row(
    bundle: Bundle, plan: Plan, graph: str, threads: int, batch: int, eager: Eager | None
) -> dict[str, Any]:
    predictor = Predictor(bundle, graph, threads, batch)
    windows = noise(batch, bundle.window_samples)
    calls: dict[str, Call] = {WHOLE: lambda: predictor.score_windows(windows)}
    if bundle.runtime in SPLITS and bundle.frontend.kind == "log_mel":
        calls[MODEL] = _core(bundle, graph, threads, windows)
    if eager is not None:
        eager.use(threads)
        calls[TORCH] = lambda: eager.scores(windows)
    times = interleaved(calls, plan.runs_of(batch))
    figures = percentiles(times[WHOLE])
    seconds = figures["p50_ms"] / 1000
    row: dict[str, Any] = {
        "graph": graph,
        "threads": threads,
        "batch": batch,
        "runs": len(times[WHOLE]),
        **figures,
        "windows_per_second": batch / seconds,
        "real_time_factor": seconds * bundle.sample_rate / (batch * bundle.window_samples),
        **_parts(times),
    }
    if plan.protocol == "mlperf-tiny":
        rates = [batch * throughput(calls[WHOLE], plan.window_seconds) for _ in range(WINDOWS)]
        row["mlperf_windows_per_second"], row["mlperf_each"] = statistics.median(rates), rates
    if eager is not None:
        torch_ms = percentiles(times[TORCH])["p50_ms"]
        row["torch_ms"], row["times_faster_than_torch"] = torch_ms, torch_ms / figures["p50_ms"]
        row["max_abs_to_torch"] = float(abs(predictor.score_windows(windows) - eager.scores(windows)).max())
    return row


def _core(bundle: Bundle, graph: str, threads: int, windows: NDArray[np.float32]) -> Call:
    """The graph behind its front end, on the log-mels of the windows."""
    log_mels = HostLogMel(bundle.frontend, bundle.window_samples)(windows)
    with tempfile.TemporaryDirectory() as folder:  # a runtime opens files, not bytes
        path = Path(folder) / "core.onnx"
        path.write_bytes(core_of(bundle.graph_path(graph).read_bytes(), *log_mels.shape[2:]))
        runner = open_graph(bundle.runtime, path, threads)
    return lambda: runner.run("scores", log_mels)


def _parts(times: dict[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """The front end is what the whole takes beyond the network."""
    if MODEL not in times:
        return {"front_end_ms": None, "model_ms": None}
    whole, model = (percentiles(times[name])["p50_ms"] for name in (WHOLE, MODEL))
    return {"front_end_ms": max(0.0, whole - model), "model_ms": model}

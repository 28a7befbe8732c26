"""What the service counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.process_collector import ProcessCollector

from edgeaudio import __version__
from edgeaudio.bundle import Bundle
from edgeaudio.predictor import Prediction
from edgeaudio.service.refusals import BUSY
from edgeaudio.service.scoring import Scorer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ANSWERED = 200
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""Upper bounds of the latency's buckets: from one window on a fast core to the time limit."""


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "edgeaudio_requests", "Requests by path and status; 499: the client went away.",
            ["path", "status"], registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "edgeaudio_request_seconds", "From a request to its scores; without those that got none.",
            ["path"], registry=self.registry, buckets=SECONDS,
        )  # fmt: skip
        self._rejected = Counter(
            "edgeaudio_rejected", "Requests that were refused since the service was busy.",
            registry=self.registry,
        )  # fmt: skip
        self._sounds = Counter("edgeaudio_sounds", "Sounds that were scored.", registry=self.registry)
        self._unreadable = Counter(
            "edgeaudio_unreadable_sounds", "Sounds that couldn't be scored.", registry=self.registry
        )
        self._sound_seconds = Counter(
            "edgeaudio_sound_seconds", "Seconds of sound that were scored.", registry=self.registry
        )
        self._windows = Counter("edgeaudio_windows", "Windows that were scored.", registry=self.registry)
        ProcessCollector(registry=self.registry)

    def watch(self, scorer: Scorer, bundle: Bundle, bundle_hash: str) -> None:
        """Tell the state of the workers too, and which bundle they have."""
        about = Info("edgeaudio", "What is served.", registry=self.registry)
        about.info({"bundle": bundle.name, "hash": bundle_hash, "version": __version__})
        waiting = Gauge("edgeaudio_queue_length", "Requests that wait for a worker.", registry=self.registry)
        waiting.set_function(lambda: scorer.waiting)
        busy = Gauge("edgeaudio_workers_busy", "Workers that are scoring.", registry=self.registry)
        busy.set_function(lambda: scorer.busy)

    def count_request(self, path: str, status: int, seconds: float, *, timed: bool) -> None:
        """One request that was answered, or whose client went away; only good answers have a latency."""
        self._requests.labels(path, str(status)).inc()
        if status == BUSY:
            self._rejected.inc()
        if timed and status == ANSWERED:
            self._seconds.labels(path).observe(seconds)

    def count_sounds(self, answers: Iterable[Prediction | Exception]) -> None:
        """The sounds of one request."""
        for answer in answers:
            if isinstance(answer, Exception):
                self._unreadable.inc()
                continue
            self._sounds.inc()
            self._sound_seconds.inc(float(answer.ends[-1]))
            self._windows.inc(len(answer.starts))

    def text(self) -> bytes:
        """The answer to a scrape."""
        return generate_latest(self.registry)

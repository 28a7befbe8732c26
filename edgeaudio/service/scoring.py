"""Sound files → predictions: the workers, and the queue before them.

Each worker is a thread with a predictor of its own, since not every runtime may be shared between threads;
the runtimes let go of Python's lock while they compute. A job that nobody waits for any more ends at its next
window. Windows are scored one at a time, as everywhere (docs/architecture.md, decision 17), so an answer
doesn't depend on what else is asked at the moment.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from edgeaudio.errors import AudioError
from edgeaudio.predictor import Prediction, Predictor
from edgeaudio.recordings import duration
from edgeaudio.service.refusals import BUSY, TOO_LATE, Refusal
from edgeaudio.service.settings import ServiceSettings


@dataclass(frozen=True)
class Sound:
    """A sound file that came with a request."""

    path: Path
    name: str
    """What the client calls it."""


class _Abandoned(Exception):
    """Nobody waits for this job any more."""


class _Job:
    """The sounds of one request."""

    def __init__(self, sounds: Sequence[Sound], max_duration: float) -> None:
        self._sounds = sounds
        self._max_duration = max_duration
        self.started = self.abandoned = False

    def run(self, predictor: Predictor) -> list[Prediction | AudioError]:
        """Score them one after another; what can't be read gives its error."""
        self.started = True
        return [self._score(predictor, sound) for sound in self._sounds]

    def _score(self, predictor: Predictor, sound: Sound) -> Prediction | AudioError:
        try:
            self._check_duration(duration(sound.path), sound.name)
            prediction = predictor.predict_file(
                sound.path, progress=lambda heard: self._check_duration(heard, sound.name)
            )
        except AudioError as error:
            return AudioError(str(error).replace(str(sound.path), sound.name))
        if not np.isfinite(prediction.window_scores).all():
            return AudioError(f"{sound.name} has samples so far beyond ±1 that it has no scores; scale it")
        return prediction

    def _check_duration(self, seconds: float, name: str) -> None:
        """Asked with what the header says, then again at each window: headers may lie."""
        if self.abandoned:
            raise _Abandoned
        if seconds > self._max_duration:
            raise AudioError(
                f"{name} is longer than {self._max_duration:g} s; send it in parts, "
                "or start the service with a higher --max-duration"
            )


class Scorer:
    """Scores the sounds of many requests; closed by leaving its ``with``.

    Args:
        opener: opens a predictor; called once a worker.
        settings: the limits.
    """

    def __init__(self, opener: Callable[[], Predictor], settings: ServiceSettings) -> None:
        self._settings = settings
        self._jobs: set[_Job] = set()
        self._fresh: queue.SimpleQueue[Predictor] = queue.SimpleQueue()
        for _ in range(settings.workers):
            predictor = opener()
            # what a runtime does at its first inference shall not be the first client's wait
            predictor.score_windows(np.zeros((1, predictor.bundle.window_samples), np.float32))
            self._fresh.put(predictor)
        self._mine = threading.local()
        self._pool = ThreadPoolExecutor(settings.workers, "scorer", self._begin)

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self._jobs:
            job.abandoned = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Requests that no worker has begun."""
        return sum(not job.started for job in self._jobs)

    @property
    def busy(self) -> int:
        """Requests that are being scored."""
        return sum(job.started for job in self._jobs)

    def check_room(self) -> None:
        """Refuse where the queue is full: also before a body is read that couldn't be scored.

        Raises:
            Refusal: it is full.
        """
        if len(self._jobs) >= self._settings.workers + self._settings.queue:
            raise Refusal(
                BUSY, f"the queue is full ({self.waiting} wait); ask again after the seconds of Retry-After"
            )

    async def predict(self, sounds: Sequence[Sound]) -> list[Prediction | AudioError]:
        """Wait for a worker, and for its answers; a caller that is cancelled frees its place.

        Returns:
            For each sound its prediction, or why there is none.

        Raises:
            Refusal: the queue is full, or the time is up.
        """
        self.check_room()
        job = _Job(sounds, self._settings.max_duration)
        self._jobs.add(job)
        answers = asyncio.wrap_future(self._pool.submit(self._work, job))
        try:
            return await asyncio.wait_for(answers, self._settings.answer_timeout)
        except asyncio.TimeoutError:
            raise self._too_late(job) from None
        finally:
            job.abandoned = True
            self._jobs.discard(job)

    def _too_late(self, job: _Job) -> Refusal:
        seconds = f"{self._settings.answer_timeout:g} s"
        if job.started:
            return Refusal(
                TOO_LATE,
                f"the sound wasn't scored within {seconds}; send a shorter one, "
                "or start the service with a higher --answer-timeout",
            )
        return Refusal(
            BUSY, f"no worker was free within {seconds}; ask again after the seconds of Retry-After"
        )

    def _begin(self) -> None:
        self._mine.predictor = self._fresh.get_nowait()

    def _work(self, job: _Job) -> list[Prediction | AudioError]:
        try:
            return job.run(self._mine.predictor)
        except _Abandoned:
            return []

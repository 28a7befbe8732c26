"""Scores of windows → events: from when to when a class was heard.

A class enters an event at a window whose score reaches its threshold, and stays while scores don't fall below
the lower one; such hysteresis keeps an event whole where scores waver about the threshold. An event reaches
from the begin of its first window to the end of its last, so it can be longer than the sound by up to a
window at either end. Events of one class that touch, or lie no further apart than the gap allowed, are one;
then those that are too short are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edgeaudio.errors import EdgeAudioError, did_you_mean
from edgeaudio.predictor import WindowScore

_CLOSE = 1e-9  # seconds: times are sums of floats


@dataclass(frozen=True)
class Event:
    """A stretch of a recording in which a class was heard."""

    label: str
    start: float
    """Seconds from the beginning of the recording."""
    end: float
    """Seconds."""
    peak: float
    """Highest score of its windows."""
    mean: float
    """Mean score of its windows; those of a bridged gap don't count."""


@dataclass(frozen=True)
class Rules:
    """What makes an event.

    Raises:
        EdgeAudioError: a score outside 0 … 1, a lower threshold above the upper one, or a negative time.
    """

    threshold: float = 0.5
    """Score at which an event begins."""
    low: float | None = None
    """Score below which it ends; the threshold itself where None."""
    min_duration: float = 0.0
    """Seconds; shorter events are dropped."""
    max_gap: float = 0.0
    """Seconds; events of one class that lie no further apart are one."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Class → its own threshold."""

    def __post_init__(self) -> None:
        for label, high in {"": self.threshold, **self.thresholds}.items():
            of = f" of {label!r}" if label else ""
            if not 0 <= high <= 1:
                raise EdgeAudioError(f"the threshold{of} is {high:g}; scores lie between 0 and 1")
            if self.low is not None and self.low > high:
                raise EdgeAudioError(
                    f"the lower threshold {self.low:g} is above the threshold {high:g}{of}; lower it"
                )
        if self.low is not None and self.low < 0:
            raise EdgeAudioError(f"the lower threshold is {self.low:g}; scores lie between 0 and 1")
        for name, seconds in (("duration", self.min_duration), ("gap", self.max_gap)):
            if not seconds >= 0:
                raise EdgeAudioError(f"the {name} of events is {seconds:g} s; it can't be negative")

    @classmethod
    def parse(
        cls,
        thresholds: Iterable[str],
        low: float | None = None,
        min_duration: float = 0.0,
        max_gap: float = 0.0,
    ) -> Rules:
        """From words of the command line: ``0.5`` for all classes, ``bell=0.7`` for one."""
        common, own = cls.threshold, {}
        for word in thresholds:
            label, _, text = word.rpartition("=")
            try:
                value = float(text)
            except ValueError:
                raise EdgeAudioError(
                    f"threshold {word!r} is no number; write 0.5, or bell=0.7 for one class"
                ) from None
            if label:
                own[label] = value
            else:
                common = value
        return cls(common, low, min_duration, max_gap, own)

    def check(self, labels: Iterable[str]) -> None:
        """Refuse thresholds of classes that are not there.

        Raises:
            EdgeAudioError: an unknown class.
        """
        known = list(labels)
        for label in self.thresholds:
            if label not in known:
                raise EdgeAudioError(f"threshold of an unknown class {label!r}; {did_you_mean(label, known)}")


def merge(windows: Iterable[WindowScore], rules: Rules | None = None) -> list[Event]:
    """Events of one recording, by their begin.

    Args:
        windows: in order, such as `Prediction.windows()`.
        rules: thresholds and times; those of `Rules()` where None.

    Raises:
        EdgeAudioError: the rules name an unknown class.
    """
    return sorted(follow(windows, rules), key=lambda event: (event.start, event.label))


def follow(windows: Iterable[WindowScore], rules: Rules | None = None) -> Iterator[Event]:
    """The same for windows that are still coming in: each event as soon as it can't grow any more."""
    rules = rules or Rules()
    tracks: list[_Track] = []
    for window in windows:
        if not tracks:
            rules.check(window.labels)
            tracks = [_Track(label, rules) for label in window.labels]
            entry = np.array([track.high for track in tracks])
            running: set[int] = set()  # with hundreds of classes most tracks rest, and cost nothing
        for i in sorted({*np.flatnonzero(window.scores >= entry).tolist(), *running}):
            yield from tracks[i].feed(window.start, window.end, float(window.scores[i]))
            (running.add if tracks[i].running else running.discard)(i)
    for track in tracks:
        yield from track.flush()


class _Track:
    """One class over time."""

    def __init__(self, label: str, rules: Rules) -> None:
        self.high = rules.thresholds.get(label, rules.threshold)
        self._rules = rules
        self._label = label
        self._low = self.high if rules.low is None else rules.low
        self._event: Event | None = None  # it may still grow
        self._windows = 0  # of that event
        self._inside = False

    @property
    def running(self) -> bool:
        """Whether an event may still grow."""
        return self._event is not None

    def feed(self, start: float, end: float, score: float) -> Iterator[Event]:
        if self._event is not None and start - self._event.end > self._rules.max_gap + _CLOSE:
            yield from self.flush()
        self._inside = score >= (self._low if self._inside else self.high)
        if self._inside:
            self._grow(start, end, score)

    def flush(self) -> Iterator[Event]:
        event, self._event, self._inside = self._event, None, False
        if event is not None and event.end - event.start >= self._rules.min_duration - _CLOSE:
            yield event

    def _grow(self, start: float, end: float, score: float) -> None:
        if self._event is None:
            self._event, self._windows = Event(self._label, start, end, score, score), 1
            return
        self._windows += 1
        mean = self._event.mean + (score - self._event.mean) / self._windows
        self._event = replace(self._event, end=end, peak=max(self._event.peak, score), mean=mean)

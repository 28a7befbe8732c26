"""Segment-based and event-based F1 and error rate, as sound event detection is judged, by sed_eval.

Source: Mesaros, Heittola and Virtanen, "Metrics for polyphonic sound event detection", Applied Sciences 6(6),
2016. sed_eval counts and matches; the ratios are formed here from its counts, so that a class that is never
predicted has an F1 of 0 and lowers the mean over the classes, where sed_eval passes it over as undefined.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeaudio.errors import EdgeAudioError, MissingExtraError
from edgeaudio.segments.figures import ClassCounts, mean, rounded
from edgeaudio.segments.reading import Segment


@dataclass(frozen=True)
class Heard:
    """One recording."""

    truth: list[Segment]
    in_segments: list[Segment]
    """What is predicted, for the segment-based figures."""
    as_events: list[Segment]
    """What is predicted, for the event-based ones."""
    seconds: float
    """Its length."""


@dataclass(frozen=True)
class Judged:
    """What counts as found.

    Raises:
        EdgeAudioError: a length or a collar that isn't positive, or a share outside 0 … 1.
    """

    segment: float = 1.0
    """Seconds of the segments in which it is asked whether a class sounds."""
    collar: float = 0.25
    """Seconds by which an event may begin, or end, too early or too late."""
    offset_share: float = 0.5
    """Share of the true event's length by which it may end too early or too late, where that is more."""

    def __post_init__(self) -> None:
        for name, seconds in (("segment length", self.segment), ("collar", self.collar)):
            if not seconds > 0:
                raise EdgeAudioError(f"the {name} is {seconds:g} s; it must be above 0")
        if not 0 <= self.offset_share <= 1:
            raise EdgeAudioError(f"the offset's share is {self.offset_share:g}; it lies between 0 and 1")


@dataclass(frozen=True)
class EventFigures:
    """Segment-based or event-based figures."""

    overall: ClassCounts
    """All classes together."""
    per_class: dict[str, ClassCounts]
    substitutions: float
    """A wrong class in place of the right one."""
    deletions: float
    """Missed."""
    insertions: float
    """Where there was nothing."""

    @property
    def error_rate(self) -> float | None:
        """(substitutions + deletions + insertions) / truth; can pass 1; None where there is no truth."""
        wrong = self.substitutions + self.deletions + self.insertions
        return wrong / self.overall.truth if self.overall.truth else None

    @property
    def macro_f1(self) -> float | None:
        """Mean F1 of the classes that have truth."""
        return mean(counts.f1 for counts in self.per_class.values() if counts.truth)

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON values."""
        return {
            **self.overall.to_json(),
            "macro_f1": rounded(self.macro_f1),
            "error_rate": rounded(self.error_rate),
            **_numbers(self.overall),
            "substitutions": int(self.substitutions),
            "deletions": int(self.deletions),
            "insertions": int(self.insertions),
            "per_class": {
                label: {
                    "truth": int(c.truth),
                    "predicted": int(c.predicted),
                    "hits": int(c.hits),
                    **c.to_json(),
                }
                for label, c in self.per_class.items()
            },
        }


def _numbers(counts: ClassCounts) -> dict[str, int]:
    return {"truth": int(counts.truth), "predicted": int(counts.predicted), "hits": int(counts.hits)}


def need_sed_eval() -> None:
    """Say what to install where sed_eval, or what it leans on, is missing; matplotlib comes with it.

    Raises:
        MissingExtraError: it is.
    """
    import importlib.util

    # dcase_util, which sed_eval stands on, still imports pkg_resources
    missing = [name for name in ("sed_eval", "pkg_resources") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"this verb needs {' and '.join(missing)}; install it with: pip install 'edgeaudio[features]'"
        )


def event_figures(
    recordings: Iterable[Heard], labels: Iterable[str], judged: Judged
) -> tuple[EventFigures, EventFigures]:
    """Segment-based and event-based figures over recordings.

    Args:
        recordings: what is said of each.
        labels: all classes.
        judged: lengths and collars.

    Returns:
        The segment-based ones, and the event-based ones.

    Raises:
        MissingExtraError: sed_eval isn't installed.
    """
    need_sed_eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
        from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics

    names = sorted(labels)
    segments = SegmentBasedMetrics(names, time_resolution=float(judged.segment))
    events = EventBasedMetrics(
        names, t_collar=float(judged.collar), percentage_of_length=float(judged.offset_share)
    )
    for one in recordings:
        truth = _as_events(one.truth)
        segments.evaluate(truth, _as_events(one.in_segments), evaluated_length_seconds=one.seconds)
        events.evaluate(truth, _as_events(one.as_events))
    return (
        _figures(segments.overall, segments.class_wise, ("S", "D", "I")),
        _figures(events.overall, events.class_wise, ("Nsubs", "Nfn", "Nfp")),
    )


def _as_events(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    return [
        {"event_onset": segment.start, "event_offset": segment.end, "event_label": segment.label}
        for segment in segments
    ]


def _figures(
    overall: Mapping[str, float], class_wise: Mapping[str, Mapping[str, float]], wrong: tuple[str, str, str]
) -> EventFigures:
    return EventFigures(
        _counts(overall),
        {label: _counts(numbers) for label, numbers in class_wise.items()},
        *(float(overall[name]) for name in wrong),
    )


def _counts(numbers: Mapping[str, float]) -> ClassCounts:
    return ClassCounts(float(numbers["Nref"]), float(numbers["Nsys"]), float(numbers["Ntp"]))

"""A bundle, or a list that another system made, against the truth of long recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from edgeaudio.console import Console
from edgeaudio.errors import AudioError, DataError, EdgeAudioError, did_you_mean
from edgeaudio.predictor import Predictor
from edgeaudio.recordings import duration
from edgeaudio.segments.figures import Laid, TimeFigures, stacked, time_figures
from edgeaudio.segments.grid import Grid, mostly_outside, seconds_of, without
from edgeaudio.segments.naming import Naming, fitted
from edgeaudio.segments.pairing import Pair, guesses
from edgeaudio.segments.reading import Segment
from edgeaudio.segments.scoring import Decision, Scores, cell_scores, predicted
from edgeaudio.segments.sound_events import EventFigures, Heard, Judged, event_figures

CURVES = 10
"""Classes of a recording whose scores are kept for its picture."""


GAPS = ("silent", "unknown")


@dataclass(frozen=True)
class Options:
    """How recordings are evaluated.

    Raises:
        EdgeAudioError: a resolution that isn't positive, or another word for gaps.
    """

    resolution: float = 0.1
    """Seconds of a cell of the grid."""
    hop: float | None = None
    """Seconds from one window to the next; the bundle's where None."""
    naming: Naming = field(default_factory=Naming)
    decision: Decision = field(default_factory=Decision)
    judged: Judged = field(default_factory=Judged)
    gaps: str | None = None
    """What time without truth says: one of `GAPS`. Where None, ``unknown`` for a bundle that always names one
    class, and ``silent`` for all that can predict nothing."""

    def __post_init__(self) -> None:
        if self.gaps is not None and self.gaps not in GAPS:
            raise EdgeAudioError(f"--gaps can't be {self.gaps!r}; {did_you_mean(self.gaps, GAPS)}")
        if not 0.001 <= self.resolution <= 60:
            raise EdgeAudioError(
                f"the resolution is {self.resolution:g} s; give between 0.001 and 60, e.g. --resolution 0.1"
            )


@dataclass(frozen=True)
class Curves:
    """Scores of the few classes that matter most in a recording."""

    labels: tuple[str, ...]
    scores: Scores
    """`(cells, labels)`."""


@dataclass(frozen=True)
class Track:
    """One recording with all that is said of it."""

    name: str
    grid: Grid
    truth: tuple[Segment, ...]
    """By class, within the recording."""
    predicted: tuple[Segment, ...]
    """By class."""
    ignored: tuple[Segment, ...]
    """Stretches in which only ignored labels are told."""
    filled: tuple[Segment, ...] = ()
    """Time without truth, where that has a class of its own."""
    curves: Curves | None = None
    """None where the prediction came without scores."""


@dataclass(frozen=True)
class Result:
    """Figures of some recordings, of one or of all."""

    time: TimeFigures
    segment_based: EventFigures
    event_based: EventFigures


@dataclass(frozen=True)
class Evaluation:
    """How well the truth of some recordings was predicted."""

    labels: tuple[str, ...]
    """Classes of the columns of `laid`."""
    several: bool
    """Whether several labels sound at a time."""
    silent: bool
    """Whether time without truth says that nothing sounds."""
    options: Options
    tracks: tuple[Track, ...]
    laid: tuple[Laid, ...]
    """Of each track."""
    whole: Result
    """Of all recordings together."""
    parts: tuple[Result, ...]
    """Of each."""


def by_bundle(predictor: Predictor, pairs: Sequence[Pair], options: Options, console: Console) -> Evaluation:
    """Score recordings with a bundle and hold them against their truth.

    Args:
        predictor: an opened bundle.
        pairs: recordings with their truth.
        options: how.
        console: shows progress.

    Raises:
        DataError: a label that the bundle doesn't know, or truth beyond the end of a recording.
        AudioError: a recording can't be read.
    """
    labels, naming = predictor.labels, options.naming
    naming.check((segment.label for pair in pairs for segment in pair.segments), labels)
    _check_background(naming, labels)
    options.decision.rules.check(labels)
    lengths = [_length(pair.recording) for pair in pairs]
    for one, seconds in zip(pairs, lengths, strict=True):  # all lists, before the long work
        naming.split(fitted(one.segments, seconds, one.list, one.recording), labels, one.list)
    names, tracks, before = _names([pair.recording for pair in pairs]), [], 0.0
    with console.counting("scoring") as count:
        for one, name, seconds in zip(pairs, names, lengths, strict=True):
            tell = partial(_tell, count, before, sum(lengths))
            tracks.append(_scored(predictor, one, name, options, tell))
            before += seconds
    several = predictor.bundle.several
    silent = _silent(options, several or options.decision.thresholded)
    return _evaluation(tracks, labels, several, silent, options, console)


def by_lists(
    pairs: Sequence[Pair], predictions: Path, options: Options, console: Console, with_sounds: bool = True
) -> Evaluation:
    """Hold lists of predictions against the truth.

    Args:
        pairs: recordings with their truth.
        predictions: one list, or a folder with a list of each recording's stem.
        options: how.
        console: takes warnings.
        with_sounds: whether the recordings are there to tell their length; else the lists do.

    Raises:
        DataError: a list can't be read or reaches beyond the end of its recording.
    """
    naming = options.naming
    guessed = guesses(pairs, predictions)
    naming.check(segment.label for one in (*pairs, *guessed) for segment in one.segments)
    tracks = []
    names = _names([pair.recording for pair in pairs])
    for one, guess, name in zip(pairs, guessed, names, strict=True):
        ends = [segment.end for segment in (*one.segments, *guess.segments)]
        seconds = _length(one.recording) if with_sounds else max(ends, default=0.0)
        truth, ignored = naming.split(fitted(one.segments, seconds, one.list, one.recording), None, one.list)
        told = _clipped(guess, seconds)
        heard = naming.split(told, None, guess.list)[0]
        grid = Grid(seconds, options.resolution)
        filled = naming.filled(seconds, truth, ignored)
        tracks.append(Track(name, grid, tuple(truth), tuple(heard), tuple(ignored), tuple(filled)))
    labels = tuple(sorted({s.label for track in tracks for s in (*track.truth, *track.predicted)}))
    _check_common(tracks, predictions)
    if naming.background is not None:
        _check_background(naming, labels)
    return _evaluation(tracks, labels, False, _silent(options, True), options, console)


def _scored(
    predictor: Predictor, one: Pair, name: str, options: Options, progress: Callable[[float], None]
) -> Track:
    prediction = predictor.predict_file(one.recording, options.hop, progress)
    grid = Grid(float(prediction.ends[-1]), options.resolution)
    fitting = fitted(one.segments, grid.seconds, one.list, one.recording)
    truth, ignored = options.naming.split(fitting, predictor.labels, one.list)
    scores = cell_scores(prediction, grid, options.decision.smooth)
    found = predicted(scores, grid, predictor.labels, predictor.bundle.several, options.decision)
    heard = [segment for segment in found if segment.label not in options.naming.ignored]
    curves = _curves(scores, predictor.labels, grid, (*truth, *heard))
    filled = options.naming.filled(grid.seconds, truth, ignored)
    return Track(name, grid, tuple(truth), tuple(heard), tuple(ignored), tuple(filled), curves)


def _curves(scores: Scores, labels: tuple[str, ...], grid: Grid, segments: Iterable[Segment]) -> Curves:
    """The classes that sound longest; where fewer do, those with the highest scores beside them."""
    seconds = seconds_of(segments)
    peaks = np.nan_to_num(scores).max(axis=0)
    order = sorted(range(len(labels)), key=lambda i: (-seconds.get(labels[i], 0.0), -peaks[i]))[:CURVES]
    return Curves(tuple(labels[i] for i in order), scores[:, order])


def _tell(count: Callable[[float, float], None], before: float, all_of_it: float, done: float) -> None:
    count(before + done, all_of_it)


def _evaluation(
    tracks: Sequence[Track],
    labels: tuple[str, ...],
    several: bool,
    silent: bool,
    options: Options,
    console: Console,
) -> Evaluation:
    laid = tuple(_laid(track, labels) for track in tracks)
    if not any(track.truth for track in tracks):
        raise DataError("no segment of truth is left to evaluate on; check the lists and --ignore")
    if not several and (where := _overlap(tracks, laid)):
        console.warn(f"{where}: several labels at a time, and all is judged as such")
        several = True
    sounding = [label for label in labels if label != options.naming.background]

    def figures(indices: Sequence[int]) -> Result:
        time = time_figures(stacked([laid[i] for i in indices]), labels, options.resolution, several, silent)
        heard = [_heard(tracks[i], sounding) for i in indices]
        there = sorted({s.label for one in heard for s in (*one.truth, *one.in_segments, *one.as_events)})
        return Result(time, *event_figures(heard, there, options.judged))

    whole = figures(range(len(tracks)))
    parts = (whole,) if len(tracks) == 1 else tuple(figures([i]) for i in range(len(tracks)))
    return Evaluation(labels, several, silent, options, tuple(tracks), laid, whole, parts)


def _laid(track: Track, labels: tuple[str, ...]) -> Laid:
    told = track.grid.draw(track.truth, labels).any(axis=1)
    apart = track.grid.draw([replace(stretch, label="") for stretch in track.ignored], ("",))[:, 0]
    return Laid(
        truth=track.grid.draw((*track.truth, *track.filled), labels),
        predicted=track.grid.draw(track.predicted, labels),
        told=np.asarray(told),
        apart=np.asarray(apart & ~told),
    )


def _heard(track: Track, sounding: Sequence[str]) -> Heard:
    """What sed_eval is told: the background is no event."""
    truth, found = (
        [s for s in segments if s.label in sounding] for segments in (track.truth, track.predicted)
    )
    inside, whole = without(found, track.ignored), mostly_outside(found, track.ignored)
    return Heard(truth, inside, whole, track.grid.seconds)


def _silent(options: Options, can_say_nothing: bool) -> bool:
    """Whether time without truth says that nothing sounds."""
    return can_say_nothing if options.gaps is None else options.gaps == "silent"


def _overlap(tracks: Sequence[Track], laid: Sequence[Laid]) -> str | None:
    """Where several labels come first at a time, in truth or prediction."""
    for track, part in zip(tracks, laid, strict=True):
        if (cells := np.flatnonzero(part.overlaps)).size:
            return f"{track.name} at {track.grid.middles[cells[0]]:.2f} s"
    return None


def _clipped(guess: Pair, seconds: float) -> list[Segment]:
    """Predictions within the recording: the last window of many systems reaches beyond its end."""
    late = next((s for s in guess.segments if s.start >= seconds), None)
    if late is not None:
        raise DataError(
            f"{guess.list}:{late.line}: starts at {late.start:g} s, but {guess.recording.name} is "
            f"{seconds:.2f} s long; is it the list of another recording?"
        )
    cut = [replace(segment, end=min(segment.end, seconds)) for segment in guess.segments]
    return fitted(cut, seconds, guess.list, guess.recording)


def _check_common(tracks: Sequence[Track], predictions: Path) -> None:
    """Refuse lists that share no label with the truth: all figures would be 0 for want of a spelling."""
    truth = {s.label for track in tracks for s in track.truth}
    found = {s.label for track in tracks for s in track.predicted}
    if truth and found and not truth & found:
        raise DataError(
            f"{predictions} shares no label with the truth: it has {_few(found)}, the truth {_few(truth)}; "
            "rename labels with --map OLD=NEW"
        )


def _few(labels: Iterable[str]) -> str:
    names = sorted(labels)
    return ", ".join(map(repr, names[:5])) + (" …" if len(names) > 5 else "")


def _check_background(naming: Naming, labels: Sequence[str]) -> None:
    if naming.background is not None and naming.background not in labels:
        raise EdgeAudioError(
            f"--background {naming.background!r} is no class here; {did_you_mean(naming.background, labels)}"
        )


def _length(recording: Path) -> float:
    """Seconds that the header tells."""
    if not (seconds := duration(recording)):
        raise AudioError(f"{recording}: not readable as sound; use WAV, FLAC, Ogg, Opus, MP3 or AIFF")
    return seconds


def _names(recordings: Sequence[Path]) -> list[str]:
    """File names where those tell recordings apart, else paths."""
    names = [path.name for path in recordings]
    return names if len(set(names)) == len(names) else [str(path) for path in recordings]

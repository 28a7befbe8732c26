"""Labels of lists → classes: some are renamed, some left out, and time without any may have a class too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeaudio.errors import DataError, EdgeAudioError, did_you_mean
from edgeaudio.segments.grid import joined, without
from edgeaudio.segments.reading import Segment

LATE = 0.1
"""Seconds by which a list may reach beyond the end of its recording: times in lists are rounded."""


@dataclass(frozen=True)
class Naming:
    """What is done to the labels of lists."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Label → the class that is meant."""
    ignored: frozenset[str] = frozenset()
    """Labels that are left out; where nothing else is told, a prediction is neither right nor wrong."""
    background: str | None = None
    """The class of all time without truth."""

    @classmethod
    def parse(cls, renamed: Iterable[str], ignored: Iterable[str], background: str | None = None) -> Naming:
        """From words of the command line: ``barking=dog`` renames.

        Raises:
            EdgeAudioError: a word without ``=``.
        """
        pairs = {}
        for word in renamed:
            old, equals, new = word.partition("=")
            if not (old and equals and new):
                raise EdgeAudioError(f"--map {word!r} renames nothing; write --map OLD=NEW, e.g. barking=dog")
            pairs[old] = new
        return cls(pairs, frozenset(ignored), background)

    def check(self, labels: Iterable[str], classes: Iterable[str] = ()) -> None:
        """Refuse to rename or leave out what is nowhere: it would be a typing error without a word.

        Args:
            labels: of all lists.
            classes: of the bundle, which may be left out too.

        Raises:
            EdgeAudioError: such a label.
        """
        listed = set(labels)
        for option, names, there in (
            ("--map", self.renamed, listed),
            ("--ignore", sorted(self.ignored), listed.union(classes)),
        ):
            for name in names:
                if name not in there:
                    raise EdgeAudioError(
                        f"{option} {name!r}: no list has this label; {did_you_mean(name, there)}"
                    )

    def split(
        self, segments: Iterable[Segment], known: Sequence[str] | None, source: Path
    ) -> tuple[list[Segment], list[Segment]]:
        """Segments by their classes, and the stretches in which only ignored labels are told.

        Args:
            segments: of one recording.
            known: the classes there are; None where any will do.
            source: the list, for the error.

        Raises:
            DataError: an unknown label.
        """
        kept, left_out = [], []
        for segment in segments:
            label = self.renamed.get(segment.label, segment.label)
            if {label, segment.label} & self.ignored:
                left_out.append(segment)
            elif known is None or label in known:
                kept.append(replace(segment, label=label))
            else:
                raise DataError(_unknown(source, segment, label, known))
        return joined(kept), without(left_out, kept)

    def filled(self, seconds: float, truth: Sequence[Segment], ignored: Sequence[Segment]) -> list[Segment]:
        """The rest of a recording of some `seconds`, as background; nothing where that has no class."""
        if self.background is None:
            return []
        return without([Segment(0.0, seconds, self.background)], (*truth, *ignored))


def _unknown(source: Path, segment: Segment, label: str, known: Sequence[str]) -> str:
    if label != segment.label:
        return f"--map {segment.label}={label}: unknown class {label!r}; {did_you_mean(label, known)}"
    return (
        f"{source}:{segment.line}: the bundle doesn't know the label {label!r}; rename it by --map "
        f"{label!r}=CLASS or leave it out by --ignore {label!r}; {did_you_mean(label, known)}"
    )


def fitted(segments: Iterable[Segment], seconds: float, source: Path, recording: Path) -> list[Segment]:
    """Segments within their recording; what reaches a little beyond its end is cut.

    Raises:
        DataError: a segment that ends more than `LATE` after the recording.
    """
    kept = []
    for segment in segments:
        if segment.end > seconds + LATE:
            raise DataError(
                f"{source}:{segment.line}: ends at {segment.end:g} s, but {recording.name} is {seconds:.2f} "
                "s long; is it the list of another recording, or are its times not in seconds?"
            )
        if segment.start < seconds:
            kept.append(replace(segment, end=min(segment.end, seconds)))
    return kept

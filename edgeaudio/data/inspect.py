"""What is in a data set, and what is wrong with it: read from the clips table and the waveform statistics.

No warning stops a job: a data set can be odd on purpose, but its owner should have been told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeaudio.data.clips import SPLITS, Clips
from edgeaudio.data.findings import findings, median, percent
from edgeaudio.data.waveforms import ClipStats, Waveforms


@dataclass(frozen=True)
class ClassSummary:
    """The clips of one class; a clip of several labels is one of each of its classes."""

    label: str
    clips: int
    splits: Mapping[str, int]
    """Clips in each split; empty where the table has none."""
    seconds: float
    """All clips together."""
    median_seconds: float
    level_db: float | None
    """Median RMS in dB below full scale (a full-scale sine has −3); None where the median clip is silent."""
    peak: float
    """Largest absolute sample; 1 is full scale."""
    zero_share: float
    """Median share of samples that are exactly zero."""


@dataclass(frozen=True, repr=False)
class Inspection:
    """What `inspect` found; `warnings` are whole sentences."""

    clips: int
    files: int
    """Sound files; fewer than clips where a file holds several."""
    groups: int
    classes: tuple[ClassSummary, ...]
    folds: Mapping[str, int]
    """Clips in each fold; empty where the table has no folds. Likewise the next two."""
    splits: Mapping[str, int]
    devices: Mapping[str, int]
    rates: Mapping[int, int]
    """Files at each sample rate in Hz."""
    min_seconds: float
    median_seconds: float
    max_seconds: float
    total_seconds: float
    peak: float
    """Largest absolute sample of all clips; 1 is full scale."""
    labels_per_clip: float
    """Mean number of labels of a clip; 1 where none has several."""
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values, ready for `json.dumps`."""
        return {**asdict(self), "rates": {str(rate): n for rate, n in self.rates.items()}}

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """What a terminal shows: `(title, header, rows)`, all cells text; empty tables are left out."""
        header, rows = self._class_rows()
        lengths = (self.min_seconds, self.median_seconds, self.max_seconds)
        overview = [
            ["clips", f"{self.clips:,}"],
            ["files", f"{self.files:,} at {_rates(self.rates)}"],
            ["length", " / ".join(f"{s:.2f}" for s in lengths) + " s (shortest / median / longest)"],
            ["in all", _long(self.total_seconds)],
            ["peak", f"{_decibel(self.peak)} dBFS"],
        ]
        if self.labels_per_clip > 1:
            overview.append(["labels", f"{self.labels_per_clip:.2f} a clip on average"])
        if self.groups:
            overview.append(["groups", f"{self.groups:,}"])
        counted = (("fold", self.folds), ("split", self.splits), ("device", self.devices))
        tables = [("overview", ["", ""], overview), ("classes", header, rows)]
        tables += [(f"{w}s", [w, "clips"], [[k, str(n)] for k, n in c.items()]) for w, c in counted if c]
        return tables

    def _class_rows(self) -> tuple[list[str], list[list[str]]]:
        header = ["class", "clips", *self.splits, "median s", "level dB", "peak dB", "zeros"]
        rows = [
            [c.label, str(c.clips), *(str(c.splits.get(split, 0)) for split in self.splits),
             f"{c.median_seconds:.2f}", "silent" if c.level_db is None else f"{c.level_db:.1f}",
             _decibel(c.peak), percent(c.zero_share)]
            for c in self.classes
        ]  # fmt: skip
        return header, rows

    def __repr__(self) -> str:
        folds = f", {len(self.folds)} folds" if self.folds else ""
        return (
            f"Inspection({self.clips} clips, {len(self.classes)} classes{folds}, "
            f"{_long(self.total_seconds)}, {len(self.warnings)} warnings)"
        )


def inspect(clips: Clips, waveforms: Waveforms) -> Inspection:
    """Count, measure and warn.

    Args:
        clips: a table that holds at least one clip; split or not.
        waveforms: those that `waveforms.prepare` gave for it, in the same order. Levels, zeros and clipping
            are those of the mono mix at `waveforms.sample_rate`.
    """
    assert len(clips) == len(waveforms) > 0, (len(clips), len(waveforms))
    stats = waveforms.stats
    seconds = np.array([s.seconds for s in stats])
    rate_of = {clip.path: s.rate for clip, s in zip(clips, stats, strict=True)}
    return Inspection(
        clips=len(clips),
        files=len(rate_of),
        groups=len({clip.group for clip in clips if clip.group}),
        classes=tuple(_summary(label, clips, stats) for label in clips.classes),
        folds=_ordered(clips.counts(lambda c: c.fold), clips.folds),
        splits=_ordered(clips.counts(lambda c: c.split), SPLITS),
        devices=_ordered(clips.counts(lambda c: c.device), clips.devices),
        rates=dict(sorted(Counter(rate_of.values()).items())),
        min_seconds=float(seconds.min()),
        median_seconds=float(np.median(seconds)),
        max_seconds=float(seconds.max()),
        total_seconds=float(seconds.sum()),
        peak=max(s.peak for s in stats),
        labels_per_clip=sum(len(clip.labels) for clip in clips) / len(clips),
        warnings=tuple(findings(clips, stats, waveforms.sample_rate)),
    )


def _summary(label: str, clips: Clips, stats: Sequence[ClipStats]) -> ClassSummary:
    members = clips.indices(lambda clip: label in clip.labels)
    own = [stats[i] for i in members]
    rms = median(s.rms for s in own)
    return ClassSummary(
        label=label,
        clips=len(own),
        splits=_ordered(clips.take(members).counts(lambda c: c.split), SPLITS),
        seconds=sum(s.seconds for s in own),
        median_seconds=median(s.seconds for s in own),
        level_db=20 * float(np.log10(rms)) if rms > 0 else None,
        peak=max((s.peak for s in own), default=0.0),
        zero_share=median(s.zero_share for s in own),
    )


def _ordered(counts: Counter[str], names: Iterable[str]) -> dict[str, int]:
    return {name: counts[name] for name in names if counts[name]}


def _rates(rates: Mapping[int, int]) -> str:
    if len(rates) == 1:
        return f"{next(iter(rates)):,} Hz"
    return ", ".join(f"{rate:,} Hz ({n})" for rate, n in rates.items())


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _decibel(value: float) -> str:
    return f"{20 * np.log10(value):.1f}" if value > 0 else "−∞"

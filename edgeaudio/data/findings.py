"""What may be wrong with a data set: each finding one sentence with a figure, examples and the way out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.waveforms import ClipStats

SILENT_PEAK = 1e-4  # −80 dBFS: below what a 16-bit recorder resolves with three bits
CLIPPED_SHARE = 0.01
SHORT_SECONDS = 0.1
SMALL_CLASS = 10  # clips; fewer leave one or two to test on
IMBALANCE = 10  # times fewer than the largest class
ZERO_EXCESS = 0.2
"""A class whose median share of exact zeros lies this far above the other classes' is told by its padding."""
NARROW = 0.75
"""A file at less than this share of the wanted sample rate has a visibly empty band at the top."""
NARROW_EXCESS = 0.5
"""A class whose share of such files differs this much from the other classes' is told by its recorder."""

_REHEARD = "what is held out was heard in training"


def findings(clips: Clips, stats: Sequence[ClipStats], sample_rate: int) -> list[str]:
    """All that seems wrong, the gravest first.

    Args:
        clips: the table.
        stats: of each of its clips.
        sample_rate: Hz that the network will hear.
    """
    return [
        *_duplicates(clips, stats),
        *_leaks(clips, "split", lambda clip: clip.split),
        *_leaks(clips, "fold", lambda clip: clip.fold),
        *_small_classes(clips),
        *_bad_levels(clips, stats),
        *_padding(clips, stats),
        *_narrow_files(clips, stats, sample_rate),
    ]


def _duplicates(clips: Clips, stats: Sequence[ClipStats]) -> list[str]:
    first: dict[tuple[str, float, float | None], Clip] = {}
    pairs: list[tuple[Clip, Clip]] = []
    for clip, stat in zip(clips, stats, strict=True):
        original = first.setdefault((stat.sha256, clip.start, clip.duration), clip)
        if original is not clip:
            pairs.append((original, clip))
    if not pairs:
        return []
    names = _some([f"{clips.name_of(a)} = {clips.name_of(b)}" for a, b in pairs])
    return [
        f"{_are(len(pairs), 'clip')} copied byte for byte from another: {names}; remove the copies.",
        *_contradictions(clips, pairs, "label", _labels, "one of them is wrong"),
        *_contradictions(clips, pairs, "split", lambda clip: clip.split, _REHEARD),
        *_contradictions(clips, pairs, "fold", lambda clip: clip.fold, _REHEARD),
    ]


def _labels(clip: Clip) -> str:
    return ", ".join(sorted(clip.labels))


def _contradictions(
    clips: Clips, pairs: Sequence[tuple[Clip, Clip]], what: str, key: Callable[[Clip], str], why: str
) -> list[str]:
    found = [
        f"{clips.name_of(a)} ({key(a)}) = {clips.name_of(b)} ({key(b)})"
        for a, b in pairs
        if key(a) and key(b) and key(a) != key(b)
    ]
    return [f"The same sound has two {what}s, and {why}: {_some(found)}."] if found else []


def _leaks(clips: Clips, what: str, key: Callable[[Clip], str]) -> list[str]:
    seen: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.group and key(clip):
            seen[clip.group].add(key(clip))
    found = [f"{group} ({', '.join(sorted(v))})" for group, v in sorted(seen.items()) if len(v) > 1]
    if not found:
        return []
    return [
        f"{_are(len(found), 'group')} in more than one {what}, and {_REHEARD}: {_some(found)}; "
        f"keep each group in one {what}."
    ]


def _small_classes(clips: Clips) -> list[str]:
    counts = clips.label_counts
    largest, most = max(counts.items(), key=lambda item: item[1])
    few = [f"{label} ({counts[label]})" for label in clips.classes if counts[label] < SMALL_CLASS]
    rare = [
        f"{label} ({counts[label]})"
        for label in clips.classes
        if SMALL_CLASS <= counts[label] <= most / IMBALANCE
    ]
    texts = []
    if few:
        who = _have(len(few))
        texts.append(f"{who} fewer than {SMALL_CLASS} clips, too few to test on: {_some(few)}; add clips.")
    if rare:
        texts.append(
            f"{_have(len(rare))} at least {IMBALANCE} times fewer clips than {largest} ({most}): "
            f"{_some(rare)}; add clips, and go by "
            + ("the classes' average precisions." if clips.multi_label else "the macro accuracy.")
        )
    return texts


def _bad_levels(clips: Clips, stats: Sequence[ClipStats]) -> list[str]:
    def named(keep: Callable[[ClipStats], bool]) -> list[str]:
        return [clips.name_of(clip) for clip, s in zip(clips, stats, strict=True) if keep(s)]

    texts = []
    if silent := named(lambda s: s.peak < SILENT_PEAK):
        zeros = sum(s.peak == 0 for s in stats)
        digital = f", {zeros} of them all zeros" if zeros else ""
        texts.append(
            f"{_are(len(silent), 'clip')} silent (peak below −80 dBFS{digital}): {_some(silent)}; remove "
            "them, or give silence a class of its own."
        )
    if clipped := named(lambda s: s.clipped_share > CLIPPED_SHARE):
        texts.append(
            f"{_are(len(clipped), 'clip')} clipped (over {percent(CLIPPED_SHARE)} of it at full scale): "
            f"{_some(clipped)}; record them at a lower level."
        )
    if short := named(lambda s: s.seconds < SHORT_SECONDS):
        texts.append(
            f"{_are(len(short), 'clip')} shorter than {SHORT_SECONDS:g} s and will be mostly padding: "
            f"{_some(short)}; check that they are whole."
        )
    return texts


def _padding(clips: Clips, stats: Sequence[ClipStats]) -> list[str]:
    shares = _by_class(clips, [s.zero_share for s in stats])
    medians = {label: median(values) for label, values in shares.items()}
    told = {k: m for k, m in medians.items() if m - _median_of_others(medians, k) >= ZERO_EXCESS}
    if not told:
        return []
    rest = median(m for label, m in medians.items() if label not in told)
    names = _some([f"{label} {percent(m)}" for label, m in told.items()])
    return [
        f"Digital silence betrays the class: the median share of exact zeros is {names}, "
        f"elsewhere {percent(rest)}; trim the padding, or measure accuracy with faint noise in its place."
    ]


def _narrow_files(clips: Clips, stats: Sequence[ClipStats], sample_rate: int) -> list[str]:
    narrow = [s.rate < NARROW * sample_rate for s in stats]
    if not any(narrow):
        return []
    rates = sorted({s.rate for s, is_narrow in zip(stats, narrow, strict=True) if is_narrow})
    files = f"files at {_some([f'{rate:,} Hz' for rate in rates])}"
    gap = f"hold nothing above half their rate, where {sample_rate:,} Hz leave room"
    if all(narrow):
        return [f"All are {files} and {gap}; a front end at {rates[-1]:,} Hz costs less."]
    shares = {label: float(np.mean(values)) for label, values in _by_class(clips, narrow).items()}
    told = {k: v for k, v in shares.items() if abs(v - _median_of_others(shares, k)) >= NARROW_EXCESS}
    if not told:
        return [
            f"{sum(narrow)} of {len(narrow)} clips are from {files} and {gap}; bring all files to one rate."
        ]
    names = _some([f"{label} {percent(share)}" for label, share in told.items()])
    rest = [share for label, share in shares.items() if label not in told]
    elsewhere = f", elsewhere {percent(median(rest))}" if rest else ""
    return [
        f"The sample rate betrays the class: {files} {gap}, and their share is {names}{elsewhere}; "
        "bring all files to the lowest rate before training."
    ]


def _by_class(clips: Clips, values: Sequence[float]) -> dict[str, list[float]]:
    parts: dict[str, list[float]] = defaultdict(list)
    for clip, value in zip(clips, values, strict=True):
        for label in clip.labels:
            parts[label].append(value)
    return dict(sorted(parts.items()))


def _median_of_others(values: Mapping[str, float], label: str) -> float:
    others = [value for name, value in values.items() if name != label]
    return median(others) if others else values[label]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _have(classes: int) -> str:
    return f"{classes} classes have" if classes > 1 else "1 class has"


def _are(number: int, what: str) -> str:
    return f"{number} {what}s are" if number > 1 else f"1 {what} is"


def median(values: Iterable[float]) -> float:
    """The median, and 0 of nothing."""
    found = list(values)
    return float(np.median(found)) if found else 0.0


def percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{100 * share:.0f} %"

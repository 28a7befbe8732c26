"""Which list of segments is of which recording.

Words of the command line become pairs: a recording and its list, a folder of recordings with lists of the
same stem beside them, a folder and another one of lists, or a folder and one list that names its recordings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeaudio.audio import SUFFIXES, find_files
from edgeaudio.errors import DataError, did_you_mean
from edgeaudio.segments.reading import Segment, read_segments

LISTS = (".txt", ".tsv", ".csv", ".lab", ".json", ".jsonl")
"""Endings of lists of segments, in folders."""


@dataclass(frozen=True)
class Pair:
    """A recording with a list of what sounds in it."""

    recording: Path
    list: Path
    segments: tuple[Segment, ...]


def pairs(words: Sequence[Path], left_out: list[Path]) -> list[Pair]:
    """Recordings with their lists, as they are named.

    Args:
        words: recordings and lists in turn; a folder may stand alone.
        left_out: takes the recordings of folders that have no list.

    Raises:
        DataError: a file has no partner, or a list can't be read.
    """
    if not words:
        raise DataError("name a recording and its list of segments, or a folder that holds both")
    found: list[Pair] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.exists():
            raise DataError(f"{word}: no such file or folder")
        if word.is_dir():
            where = rest.pop(0) if rest and _may_hold_lists(rest[0]) else word
            found += _of_folder(word, where, left_out)
        elif word.suffix.lower() not in SUFFIXES:
            raise DataError(f"{word} is no sound file; name each recording before its list of segments")
        elif not rest:
            raise DataError(
                f"{word} has no list of segments; name it after the recording, e.g. {word.stem}.txt"
            )
        else:
            found.append(pair(word, rest.pop(0)))
    return found


def pair(recording: Path, listed: Path) -> Pair:
    """A recording with the segments that a list, or the list of its stem in a folder, has of it.

    Raises:
        DataError: there is no such list, or it names other recordings only.
    """
    if listed.is_dir():
        listed = _in_folder(recording, listed)
    if listed.suffix.lower() in SUFFIXES:
        raise DataError(f"{listed} is no list of segments; after {recording} name its list, e.g. a .txt file")
    if not listed.is_file():
        raise DataError(f"{listed}: no such list of segments")
    named, stem = by_recording(read_segments(listed)), stem_of(recording.name)
    if named and not named.keys() & {"", stem}:
        raise DataError(f"{listed} names no recording {recording.name!r}; {did_you_mean(stem, named)}")
    return Pair(recording, listed, (*named.get("", ()), *named.get(stem, ())))


def listed_alone(path: Path) -> list[Pair]:
    """A list without its recordings: a pair for each recording that it names, or one."""
    named = by_recording(read_segments(path))
    return [Pair(Path(name or path.stem), path, tuple(segments)) for name, segments in named.items()]


def guesses(pairs: Sequence[Pair], predictions: Path) -> list[Pair]:
    """The predictions of the same recordings; none for one that a list of several doesn't name.

    Args:
        pairs: recordings with their truth.
        predictions: one list, or a folder with a list of each recording's stem.

    Raises:
        DataError: a list is missing, or doesn't say which recording its lines are of.
    """
    if predictions.is_dir() or len(pairs) == 1:
        return [pair(one.recording, predictions) for one in pairs]
    if not predictions.is_file():
        raise DataError(f"{predictions}: no such file or folder")
    named = by_recording(read_segments(predictions))
    if "" in named:
        raise DataError(
            f"{predictions} doesn't say which of the {len(pairs)} recordings each line is of; "
            "add a column 'path', or name a folder with a list for each"
        )
    stems = [stem_of(one.recording.name) for one in pairs]
    if named and not named.keys() & set(stems):
        raise DataError(
            f"{predictions} names none of the recordings, e.g. {stems[0]!r}; it has {next(iter(named))!r}"
        )
    return [
        Pair(one.recording, predictions, tuple(named.get(stem, ())))
        for one, stem in zip(pairs, stems, strict=True)
    ]


def by_recording(segments: Iterable[Segment]) -> dict[str, list[Segment]]:
    """Stem of the recording that a line names → its segments; those that name none under an empty stem."""
    found: dict[str, list[Segment]] = {}
    for segment in segments:
        mine = found.setdefault(stem_of(segment.path), [])
        if segment.label:
            mine.append(segment)
    return found


def stem_of(name: str) -> str:
    """What tells a recording in lists: its file name, without the ending of a sound file."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    before, dot, ending = last.rpartition(".")
    return before if before and f"{dot}{ending}".lower() in SUFFIXES else last


def is_list(word: Path) -> bool:
    """Whether a word of the command line is a list, not a sound or a folder."""
    return word.is_file() and word.suffix.lower() not in SUFFIXES


def _may_hold_lists(word: Path) -> bool:
    """Whether a word after a folder of recordings says where their lists are."""
    if word.is_dir():
        return not find_files(word)
    return word.suffix.lower() not in SUFFIXES


def _of_folder(folder: Path, where: Path, left_out: list[Path]) -> list[Pair]:
    recordings = find_files(folder)
    if not recordings:
        raise DataError(f"{folder} holds no sound files; name a folder of recordings")
    if where.is_file():
        named = by_recording(read_segments(where))
        if "" in named:
            raise DataError(
                f"{where} doesn't say which recording each line is of; add a column 'path', "
                f"or put a list for each recording into {folder}"
            )
        stems = [stem_of(sound.name) for sound in recordings]
        left_out += [sound for sound, stem in zip(recordings, stems, strict=True) if stem not in named]
        return [
            Pair(sound, where, tuple(named[stem]))
            for sound, stem in zip(recordings, stems, strict=True)
            if stem in named
        ]
    found = []
    for sound in recordings:
        beside = sound.parent if where == folder else where
        if (listed := _same_stem(sound, beside)) is None:
            left_out.append(sound)
        else:
            found.append(pair(sound, listed))
    if not found:
        raise DataError(
            f"{where} has no list of segments for any of the {len(recordings)} recordings of {folder}; "
            f"e.g. {recordings[0].stem}.txt for {recordings[0].name}"
        )
    return found


def _in_folder(recording: Path, folder: Path) -> Path:
    if (found := _same_stem(recording, folder)) is None:
        raise DataError(f"{folder} has no list for {recording.name}, such as {stem_of(recording.name)}.txt")
    return found


def _same_stem(recording: Path, folder: Path) -> Path | None:
    stem = stem_of(recording.name)
    there = [path for ending in LISTS if (path := folder / f"{stem}{ending}").is_file()]
    if len(there) > 1:
        raise DataError(
            f"{folder} has {' and '.join(path.name for path in there)} for {recording.name}; keep one of them"
        )
    return there[0] if there else None

"""Lists of segments: files that say from when to when something sounds.

One form serves many tools: start, end and label, in seconds, a line a segment, between tabs, commas or
spaces. Audacity's labels, the event lists of DCASE and sed_eval, deep_audio_features' ground truth and what
`edgeaudio predict --events` writes are all read here.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeaudio.errors import DataError

NAMES = {
    "start": ("start", "onset", "event_onset", "begin", "start_time", "start_seconds"),
    "end": ("end", "offset", "event_offset", "stop", "end_time", "end_seconds"),
    "label": ("label", "event_label", "event", "class", "name"),
    "path": ("path", "filename", "file", "recording", "audio_filename"),
}
"""What the columns of a header may be called."""
DIGITS = 6
"""Decimals of a second that are kept: sums of floats would else reach into the next second."""

_TOLD = re.compile(r"(?:(?P<path>.*): )?(?P<start>[\d.]+)–(?P<end>[\d.]+) s: (?P<label>.*) \(peak .*\)")
_JSON = ("[", "{")  # first characters


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with a label."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    """Seconds."""
    label: str
    """Empty in a line that names a recording alone: nothing sounds in it."""
    line: int = 0
    """Where it stands in its file; 0 for one that was computed."""
    path: str = ""
    """The recording that its file names; empty where the file is of one recording."""


@dataclass(frozen=True)
class _Columns:
    """Which field of a line is what."""

    start: int
    end: int
    label: int
    path: int | None = None


def read_segments(path: Path) -> list[Segment]:
    """Read a list of segments, in the order of its lines.

    Fields stand between tabs, commas, semicolons or spaces. With spaces all that follows the end is the
    label. A header is recognised by its names; without one a line is ``start end label``, ``path start end
    label``, or DCASE's ``path scene start end label``. Under a header a line may name a path alone: nothing
    sounds in that recording. Lines that begin with ``#`` or, in Audacity's files, with a backslash are passed
    over. JSON and JSON lines hold objects with ``start``, ``end`` and ``label``.

    Args:
        path: the file, in UTF-8.

    Raises:
        DataError: not readable as such; the sentence names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error.reason}); save it as such") from None
    if text.lstrip().startswith(_JSON):
        return list(_of_json(path, text))
    return list(_of_lines(path, text))


# ── lines ────────────────────────────────────────────────────────────────────────────────────────


def _of_lines(path: Path, text: str) -> Iterator[Segment]:
    columns: _Columns | None = None
    first = True
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith(("#", "\\")):
            continue
        if told := _TOLD.fullmatch(line):
            yield _segment(path, number, told["start"], told["end"], told["label"], told["path"] or "")
            continue
        if line.endswith(": no events"):
            continue
        fields, separator = _split(raw)
        if first and (found := _header(fields)):
            columns, first = found, False
            continue
        first = False
        where = columns or _guess(path, number, fields, separator)
        yield _of_fields(path, number, fields, where)


def _split(line: str) -> tuple[list[str], str]:
    """Fields of a line, and what stands between them."""
    separator = next((mark for mark in "\t,;" if mark in line), " ")
    if separator == " ":
        words = line.split()
        with_path = len(words) > 3 and not _is_number(words[0])
        return line.split(maxsplit=3 if with_path else 2), separator
    quoted = separator != "\t"  # an inch or a quote in a label between tabs is just that
    rows = csv.reader([line], delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    return [field.strip() for field in next(rows)], separator


def _header(fields: Sequence[str]) -> _Columns | None:
    """The columns that a header names; None for a line that is none."""
    words = [field.lower() for field in fields]
    found = {
        what: next((words.index(name) for name in names if name in words), None)
        for what, names in NAMES.items()
    }
    start, end, label = found["start"], found["end"], found["label"]
    if start is None or end is None or label is None:
        return None
    return _Columns(start, end, label, found["path"])


def _guess(path: Path, number: int, fields: Sequence[str], separator: str) -> _Columns:
    numeric = [_is_number(field) for field in fields[:4]]
    if len(fields) >= 3 and numeric[:2] == [True, True]:
        if len(fields) > 3 and separator != "\t":
            raise DataError(
                f"{path}:{number}: {len(fields)} fields in place of start, end and label; put a label with "
                "commas in quotes, or name the columns in a first line"
            )
        return _Columns(0, 1, 2)
    if len(fields) >= 4 and numeric[1:3] == [True, True]:
        return _Columns(1, 2, 3, path=0)
    if len(fields) >= 5 and numeric[2:4] == [True, True]:
        return _Columns(2, 3, 4, path=0)
    raise DataError(
        f"{path}:{number}: {_shown(fields)} is no segment; write start, end (in seconds) and label, "
        "e.g. 1.5 3.25 dog"
    )


def _of_fields(path: Path, number: int, fields: Sequence[str], where: _Columns) -> Segment:
    wanted = max(where.start, where.end, where.label, where.path or 0) + 1
    if len(fields) < wanted:
        raise DataError(f"{path}:{number}: {len(fields)} fields where the header promises {wanted} or more")
    named = "" if where.path is None else fields[where.path]
    if named and not any((fields[where.start], fields[where.end], fields[where.label])):
        return Segment(0.0, 0.0, "", number, named)
    return _segment(path, number, fields[where.start], fields[where.end], fields[where.label], named)


def _segment(path: Path, number: int, start: object, end: object, label: object, named: str) -> Segment:
    begin, stop = _seconds(path, number, "start", start), _seconds(path, number, "end", end)
    name = str(label).strip()
    if not name:
        raise DataError(f"{path}:{number}: the segment has no label; write one after its end")
    if begin < 0:
        raise DataError(f"{path}:{number}: starts at {begin:g} s; times count from the beginning, 0")
    if stop <= begin:
        raise DataError(
            f"{path}:{number}: goes from {begin:g} to {stop:g} s, which has no length; write a later end"
        )
    return Segment(round(begin, DIGITS), round(stop, DIGITS), name, number, named)


def _seconds(path: Path, number: int, what: str, value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise DataError(f"{path}:{number}: the {what} is {value!r}; write seconds, e.g. 12.5")
    return seconds


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _shown(fields: Sequence[str]) -> str:
    line = " ".join(fields)
    return repr(line if len(line) <= 60 else line[:59] + "…")


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────


def _of_json(path: Path, text: str) -> Iterator[Segment]:
    for number, item in _objects(path, text):
        if missing := [name for name in ("start", "end", "label") if name not in item]:
            raise DataError(f"{path}:{number}: a segment without {', '.join(missing)}; write all three")
        yield _segment(path, number, item["start"], item["end"], item["label"], str(item.get("path", "")))


def _objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Each object with its line, or in an array with its place."""
    for number, item in _items(path, text):
        if not isinstance(item, dict):
            raise DataError(f"{path}:{number}: {item!r} is no object with start, end and label")
        yield number, item


def _items(path: Path, text: str) -> Iterator[tuple[int, object]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = None
    if isinstance(whole, list):
        yield from enumerate(whole, start=1)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not valid JSON ({error.msg})") from None

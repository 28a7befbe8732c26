"""Unlabelled evaluation clips: a folder, or a list of files with the device of each."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from edgeaudio.audio import SUFFIXES, find_files
from edgeaudio.errors import DataError, did_you_mean

LISTS = ("evaluation_setup/fold1_test.csv", "meta.csv")
"""Lists that the organisers put into an evaluation set, the first that is there is read."""
FILENAME = "filename"
DEVICES = ("device_id", "source_label", "device")
"""Columns that may say what a clip was recorded with."""
UNKNOWN = "unknown"
"""Device of a clip of which nothing is said."""


@dataclass(frozen=True)
class EvaluationClip:
    """One clip to be scored."""

    name: str
    """As the list writes it."""
    path: Path
    device: str = UNKNOWN


def read_evaluation(source: Path) -> list[EvaluationClip]:
    """Find the clips that are to be scored.

    Args:
        source: a folder with one of the `LISTS` or just with sound files, or a CSV or TSV with the column
            `filename` and perhaps one of `DEVICES`; files are looked for beside the list and one folder up.

    Raises:
        DataError: nothing is there, the column is missing, or a file is.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder of evaluation clips")
    if source.is_file():
        return _listed(source)
    if table := next((source / name for name in LISTS if (source / name).is_file()), None):
        return _listed(table)
    files = find_files(source)
    if not files:
        raise DataError(
            f"{source} holds no sound files (looked for {' '.join(sorted(SUFFIXES))}); "
            "name the folder of the evaluation clips, or a CSV with the column filename"
        )
    return [EvaluationClip(path.relative_to(source).as_posix(), path) for path in files]


def _listed(table: Path) -> list[EvaluationClip]:
    rows, header = _rows(table)
    if FILENAME not in header:
        raise DataError(f"{table} has no column {FILENAME!r}; {did_you_mean(FILENAME, header)}")
    if not rows:
        raise DataError(f"{table} has a header and no clips")
    names = [(row[FILENAME] or "").strip() for row in rows]
    if "" in names:
        raise DataError(f"{table}, line {names.index('') + 2}: the column {FILENAME!r} is empty")
    column = next((name for name in DEVICES if name in header), None)
    devices = [(row[column] or "").strip() if column else "" for row in rows]
    base = _base(table, names[0])
    clips = [EvaluationClip(n, base / n, d or UNKNOWN) for n, d in zip(names, devices, strict=True)]
    missing = [clip.path for clip in clips if not clip.path.is_file()]
    if missing:
        raise DataError(
            f"{table}: {len(missing)} of {len(clips)} files are missing, the first is {missing[0]}"
        )
    return clips


def _base(table: Path, name: str) -> Path:
    """The folder that the list's names are relative to: its own, or the one above it."""
    folders = (table.parent, table.absolute().parent.parent)
    return next((folder for folder in folders if (folder / name).is_file()), table.parent)


def _rows(table: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text; give a CSV with the column {FILENAME}") from error
    delimiter = max("\t,;", key=text.split("\n", 1)[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    try:
        return list(reader), list(reader.fieldnames)
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: not valid CSV ({error})") from error

"""What every layout shares: what a layout is, how tables are read, and how their mistakes are told."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeaudio.data.clips import SPLITS, Clip, Clips
from edgeaudio.errors import DataError, did_you_mean

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
               "dev": "val", "devel": "val", "test": "test", "testing": "test", "eval": "test",
               "": ""}  # fmt: skip
"""What others call the splits → what they are called here."""

Rows = list[tuple[int, dict[str, str]]]
"""`(line number, column → cell)` of each row of a table."""


@dataclass(frozen=True)
class CsvColumns:
    """How a data set is read where there is a choice."""

    path: str = "path"
    """Column of a CSV that holds the path."""
    label: str = "label"
    """Column of a CSV that holds the label."""
    subset: str = ""
    """Part of a data set that comes in several, or its task; the whole where empty."""


def no_subsets(source: Path) -> Sequence[str]:
    """Of a layout that comes as a whole only."""
    return ()


@dataclass(frozen=True)
class Layout:
    """One way in which labelled sound lies on disk."""

    name: str
    """As it is called in sentences."""
    found: Callable[[Path], bool]
    """Whether a file or folder that exists has this layout."""
    read: Callable[[Path, CsvColumns], Clips]
    """The clips of a file or folder that has it."""
    subsets: Callable[[Path], Sequence[str]] = no_subsets
    """Names that `CsvColumns.subset` may have."""
    labelled: bool = True
    """Whether its clips have labels; a layout without is looked for only where none are needed."""


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones are passed over."""
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """`(line number, text)` of the lines that aren't blank, without the spaces around them."""
    lines = enumerate(read_text(path).splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_table(path: Path) -> tuple[Rows, list[str]]:
    """The rows and the header of a CSV; comma, tab or semicolon is told from the first line."""
    text = read_text(path)
    first = text.split("\n", 1)[0]
    delimiter = max("\t,;", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    try:
        return [(reader.line_num, row) for row in reader], list(reader.fieldnames)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error


def header_of(path: Path) -> set[str]:
    """Column names of what may be a CSV; none where there is no such file."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(1 << 16).strip()
    return {name.strip().strip('"') for name in first.split(max("\t,;", key=first.count))}


def rows_with(path: Path, *columns: str) -> Rows:
    """The rows of a layout's own table; none of `columns` may be empty in any.

    Raises:
        DataError: the file or a column is missing, a cell is empty (the row is named), or there are no rows.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; unpack the data set again")
    rows, header = read_table(path)
    for name in columns:
        if name not in header:
            raise DataError(f"{path} has no column {name!r}; {did_you_mean(name, header)}")
        for line, row in rows:
            row[name] = row[name].strip()
            if not row[name]:
                raise DataError(f"{path}, line {line}: the column {name!r} is empty")
    if not rows:
        raise DataError(f"{path} has a header and no clips")
    return rows


def check_files(items: Iterable[Clip], where: Path) -> None:
    """One sentence for a whole moved folder, not one at each decode.

    Raises:
        DataError: sound files are missing; they are counted and the first is named.
    """
    paths = list(dict.fromkeys(clip.path for clip in items))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(paths)} files are missing, the first is {missing[0]}"
        )


def split_called(name: str, where: str) -> str:
    """``train``, ``val``, ``test`` or empty, by what others call them.

    Raises:
        DataError: no such split; `where` is said.
    """
    if name.strip().lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: unknown split {name.strip()!r}; use one of {', '.join(SPLITS)}")
    return SPLIT_NAMES[name.strip().lower()]


def seconds(text: str, where: str) -> float | None:
    """A number of seconds; None of an empty text.

    Raises:
        DataError: it is no such number; `where` is said.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise DataError(f"{where} is {text!r}; it must be a number of seconds")
    return value


def stretch(start: str, end: str, where: str, names: tuple[str, str]) -> tuple[float, float | None]:
    """Start and duration in seconds (None: to the end of the file) from two cells called `names`.

    Raises:
        DataError: a cell is no number of seconds, or the end is not after the start.
    """
    first, last = (
        seconds(text.strip(), f"{where}: {name}") for text, name in zip((start, end), names, strict=True)
    )
    first = first or 0.0
    if last is not None and last <= first:
        raise DataError(f"{where}: end {last:g} s is not after start {first:g} s")
    return first, None if last is None else last - first


def counted(number: int, of: int, what: str) -> str:
    """`12 of 200 clips`, for sentences."""
    return f"{number:,} of {of:,} {what}"


def first_cell(row: Mapping[str, str], *names: str) -> str:
    """The first of the cells that is there and not empty."""
    return next((cell for name in names if (cell := (row.get(name) or "").strip())), "")

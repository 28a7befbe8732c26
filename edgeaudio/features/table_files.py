"""One table in one file, CSV or ARFF: header, then a row for each instance.

CSV is quoted as RFC 4180 says. ARFF is read by liac-arff, but written here: liac-arff writes braces and a
lone question mark without quotes, and can't read them back.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from edgeaudio.errors import DataError, MissingExtraError

SUFFIXES = {"csv": ".csv", "arff": ".arff"}
"""Format → ending of its files."""
Cell = str | int | float | None
Row = Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """A table that is being read."""

    columns: tuple[str, ...]
    """Names of the columns."""
    nominal: Mapping[str, tuple[str, ...]]
    """Column → the values that are declared for it; of ARFF only."""
    rows: Iterator[tuple[str, list[Any]]]
    """Where each row stands (such as "line 3") and its cells; None or an empty text of a missing value."""


def write_table(path: Path, columns: Mapping[str, str | Sequence[str]], rows: Iterable[Row]) -> None:
    """Write a table, as CSV or ARFF by its ending.

    Args:
        path: the file.
        columns: name → ``STRING``, ``INTEGER``, ``REAL``, or the possible values; CSV has names only.
        rows: the cells; texts of numbers are written as they are, and None as a missing value.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        (_write_arff if path.suffix == SUFFIXES["arff"] else _write_csv)(file, columns, rows)


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Read a table, as CSV or ARFF by its ending, row by row.

    Raises:
        DataError: the file isn't such a table; also while its rows are read.
    """
    arff = path.suffix.lower() == SUFFIXES["arff"]
    try:
        with path.open(encoding="utf-8-sig", newline="\n" if arff else "") as file:
            yield (_read_arff if arff else _read_csv)(path, file)
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8") from None


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────


_SPECIAL = re.compile(r'[",\r\n]')


def _write_csv(file: TextIO, columns: Mapping[str, Any], rows: Iterable[Row]) -> None:
    for row in chain([list(columns)], rows):
        file.write(",".join("" if cell is None else _in_csv(str(cell)) for cell in row) + "\n")


def _in_csv(text: str) -> str:
    # Python's csv leaves a lone carriage return without quotes, and can't read it back
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


def _read_csv(path: Path, file: TextIO) -> Table:
    reader = csv.reader(file, strict=True)
    header = next(reader, None)
    if not header:
        raise DataError(f"{path} is empty; a table begins with the names of its columns")
    columns = _once(path, header)

    def rows() -> Iterator[tuple[str, list[Any]]]:
        try:
            for cells in reader:
                if len(cells) != len(columns):
                    if not cells:
                        continue
                    raise DataError(
                        f"{path}, line {reader.line_num}, has {len(cells)} cells under {len(columns)} columns"
                    )
                yield f"line {reader.line_num}", cells
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}, is no CSV: {error}") from None

    return Table(columns, {}, rows())


def _once(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path} has the column {name!r} twice; rename one of them")
    return tuple(names)


# ── ARFF ─────────────────────────────────────────────────────────────────────────────────────────

_PLAIN = re.compile(r"(?!\?$)[^\s\"'\\%,{}\x00-\x20\x7f]+")
"""Texts that need no quotes."""
_ESCAPES = {"\\": "\\\\", "'": "\\'", '"': '\\"', "%": "\\%", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    # liac-arff reads the other control characters as octal numbers
    return "'" + "".join(_ESCAPES.get(c) or (f"\\{ord(c):03o}" if c < " " else c) for c in text) + "'"


def _write_arff(file: TextIO, columns: Mapping[str, str | Sequence[str]], rows: Iterable[Row]) -> None:
    file.write("@RELATION 'feature set'\n\n")
    for name, kind in columns.items():
        text = kind if isinstance(kind, str) else "{" + ", ".join(map(_quoted, kind)) + "}"
        file.write(f"@ATTRIBUTE {_quoted(name)} {text}\n")
    file.write("\n@DATA\n")
    for row in rows:
        file.write(",".join("?" if cell is None else _quoted(str(cell)) for cell in row) + "\n")


def _read_arff(path: Path, file: TextIO) -> Table:
    try:
        import arff
    except ImportError:
        raise MissingExtraError(
            "ARFF needs liac-arff; install it with: pip install 'edgeaudio[features]'"
        ) from None
    try:
        found = arff.load(file, return_type=arff.DENSE_GEN)
    except (arff.ArffException, ValueError) as error:
        raise DataError(f"{path} is no ARFF: {error}") from None
    kinds = dict(found["attributes"])

    def rows() -> Iterator[tuple[str, list[Any]]]:
        number = 0
        try:
            for number, cells in enumerate(found["data"], start=1):
                yield f"row {number}", cells
        except (arff.ArffException, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}, row {number + 1} of its data, is no ARFF: {error}") from None

    nominal = {name: tuple(kind) for name, kind in kinds.items() if isinstance(kind, list | tuple)}
    return Table(tuple(kinds), nominal, rows())

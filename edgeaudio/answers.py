"""How answers are written: predictions as text, JSON or CSV, tables for the terminal."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any, Protocol

from edgeaudio.predictor import Prediction


class Writer(Protocol):
    """Takes predictions one by one."""

    def add(self, path: Path, prediction: Prediction) -> None:
        """Write one file's prediction."""

    def close(self) -> None:
        """Write what is written last."""


def writer(labels: tuple[str, ...], top: int, as_json: bool, as_csv: bool) -> Writer:
    """The writer for a format, onto standard output."""
    if as_json:
        return _Json(top)
    return _Csv(labels) if as_csv else _Text(top)


class _Text:
    def __init__(self, top: int) -> None:
        self._top = top

    def add(self, path: Path, prediction: Prediction) -> None:
        answers = "  ".join(f"{label} {score:.3f}" for label, score in prediction.top(self._top))
        print(f"{path}: {answers}", flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


class _Json:
    def __init__(self, top: int) -> None:
        self._top = top
        self._rows: list[dict[str, Any]] = []

    def add(self, path: Path, prediction: Prediction) -> None:
        self._rows.append({"path": str(path), **prediction.to_json(self._top)})

    def close(self) -> None:
        print(json.dumps(self._rows, indent=1, ensure_ascii=False))


class _Csv:
    def __init__(self, labels: tuple[str, ...]) -> None:
        self._csv = csv.writer(sys.stdout, lineterminator="\n")
        self._csv.writerow(["path", "label", "score", *labels])

    def add(self, path: Path, prediction: Prediction) -> None:
        scores = [f"{score:.6f}" for score in prediction.scores]
        self._csv.writerow([path, prediction.label, f"{prediction.score:.6f}", *scores])

    def close(self) -> None:
        sys.stdout.flush()


def print_json(value: Any) -> None:
    """A JSON answer on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table on standard output; columns of numbers are set flush right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(header):
        numeric = i > 0 and all(row[i][:1].isdigit() or row[i][:1] in "–-+" or not row[i] for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    # a pipe has no width: a table must not be cut for it
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
    console.print()

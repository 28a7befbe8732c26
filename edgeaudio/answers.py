"""How answers are written: predictions as text, JSON, CSV or Audacity labels; tables for the terminal.

A prediction becomes records: one of the file, one a window, or one an event. A format writes them one by
one, so that nothing piles up, however many files there are.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from edgeaudio.errors import EdgeAudioError

if TYPE_CHECKING:  # all verbs write answers, and most of them need no NumPy for it
    from edgeaudio.events import Event, Rules
    from edgeaudio.predictor import Prediction, WindowScore

ENDINGS = {"text": ".txt", "json": ".json", "jsonl": ".jsonl", "csv": ".csv", "audacity": ".txt"}
"""Format → ending of the files in an output folder."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Style:
    """What is written of predictions, and in which format."""

    labels: tuple[str, ...]
    """Class names."""
    of: str = "files"
    """``files``, ``windows`` or ``events``: what one record is of."""
    format: str = "text"
    """One of `ENDINGS`."""
    top: int = 1
    """Classes that are shown."""
    scores: bool = False
    """Also the scores of all classes, with windows."""
    rules: Rules | None = None
    """What makes an event."""

    def records(self, name: str, prediction: Prediction) -> Iterator[Record]:
        """The records of one file."""
        if self.of == "files":
            yield self._of_file(name, prediction)
        elif self.of == "windows":
            yield from (self._of_window(name, window) for window in prediction.windows())
        else:
            from edgeaudio.events import merge

            yield from (_of_event(name, event) for event in merge(prediction.windows(), self.rules))

    def live(self, name: str, windows: Iterable[WindowScore]) -> Iterator[Record]:
        """The records of windows that are still coming in."""
        if self.of == "windows":
            yield from (self._of_window(name, window) for window in windows)
        else:
            from edgeaudio.events import follow

            yield from (_of_event(name, event) for event in follow(windows, self.rules))

    def columns(self) -> list[str]:
        """Header of the CSV; `cells` gives the rows."""
        if self.of == "files":
            return ["path", "label", "score", *self.labels]
        if self.of == "events":
            return ["path", "start", "end", "label", "peak", "mean"]
        further = [f"{name}{i}" for i in range(2, self.top + 1) for name in ("label", "score")]
        return ["path", "start", "end", "label", "score", *further, *(self.labels if self.scores else ())]

    def _of_file(self, name: str, prediction: Prediction) -> Record:
        record = {"path": name, **prediction.to_json(self.top)}
        if self.format == "csv":
            del record["top"]
            record["scores"] = _by_label(self.labels, prediction.scores)
        return record

    def _of_window(self, name: str, window: WindowScore) -> Record:
        record: Record = {"path": name, "start": round(window.start, 6), "end": round(window.end, 6)}
        record |= {"padded": window.padded, "label": window.label, "score": round(window.score, 6)}
        if self.top > 1:
            record["top"] = [{"label": n, "score": round(s, 6)} for n, s in window.top(self.top)]
        if self.scores:
            record["scores"] = _by_label(self.labels, window.scores)
        return record


def _of_event(name: str, event: Event) -> Record:
    return {
        "path": name, "start": round(event.start, 6), "end": round(event.end, 6), "label": event.label,
        "peak": round(event.peak, 6), "mean": round(event.mean, 6),
    }  # fmt: skip


def _by_label(labels: Sequence[str], scores: Iterable[float]) -> dict[str, float]:
    return {label: round(float(score), 6) for label, score in zip(labels, scores, strict=True)}


def cells(record: Record) -> list[Any]:
    """A record as a row of CSV, under `Style.columns`."""
    row: list[Any] = []
    for name, value in record.items():
        if name == "top":
            row += [cell for further in value[1:] for cell in (further["label"], f"{further['score']:.6f}")]
        elif name == "scores":
            row += [f"{score:.6f}" for score in value.values()]
        elif name in ("score", "peak", "mean"):
            row.append(f"{value:.6f}")
        elif name != "padded":
            row.append(value)
    return row


def line(record: Record) -> str:
    """A record as a line of text; sound without a path came in live."""
    where = f"{record['path']}: " if record["path"] else ""
    if "start" in record:
        where += f"{record['start']:.2f}–{record['end']:.2f} s: "
    if "peak" in record:
        return f"{where}{record['label']} (peak {record['peak']:.3f}, mean {record['mean']:.3f})"
    shown = record.get("top") or [record]
    return where + "  ".join(f"{one['label']} {one['score']:.3f}" for one in shown)


# ── formats ──────────────────────────────────────────────────────────────────────────────────────


class Format(Protocol):
    """Writes records into an open file."""

    def add(self, record: Record) -> None:
        """Write one."""

    def close(self) -> None:
        """Write what is written last; the file stays open."""


class _Lines:
    """Text, JSON lines or Audacity labels: a line a record, at once."""

    def __init__(self, style: Style, out: TextIO) -> None:
        self._out = out
        self._write = {"text": line, "jsonl": _json_line, "audacity": _audacity_line}[style.format]

    def add(self, record: Record) -> None:
        print(self._write(record), file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


def _json_line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False)


def _audacity_line(record: Record) -> str:
    return f"{record['start']:.6f}\t{record['end']:.6f}\t{record['label']}"


class _Json:
    """One array, written as its items come."""

    def __init__(self, style: Style, out: TextIO) -> None:
        self._out = out
        self._before = "[\n"

    def add(self, record: Record) -> None:
        print(self._before + json.dumps(record, indent=1, ensure_ascii=False), end="", file=self._out)
        self._before = ",\n"

    def close(self) -> None:
        print("[]" if self._before == "[\n" else "\n]", file=self._out, flush=True)


class _Csv:
    def __init__(self, style: Style, out: TextIO) -> None:
        self._out = out
        self._csv = csv.writer(out, lineterminator="\n")
        self._csv.writerow(style.columns())

    def add(self, record: Record) -> None:
        self._csv.writerow(cells(record))
        self._out.flush()

    def close(self) -> None:
        """Nothing is left to write."""


_FORMATS: dict[str, type[_Lines] | type[_Json] | type[_Csv]] = {
    "text": _Lines, "jsonl": _Lines, "audacity": _Lines, "json": _Json, "csv": _Csv,
}  # fmt: skip

# ── where to ─────────────────────────────────────────────────────────────────────────────────────


class Answers:
    """Writes the records of many files to standard output, into one file, or into a folder, a file for each.

    Args:
        style: what is written.
        output: a file; a folder where it is one already or ends with a slash; standard output where None.

    Raises:
        OSError: it can't be written.
    """

    def __init__(self, style: Style, output: str | None = None) -> None:
        self._style = style
        self._folder = None
        self._file: TextIO | None = None
        if output is not None and (output.endswith(("/", os.sep)) or Path(output).is_dir()):
            self._folder = Path(output)
            self._folder.mkdir(parents=True, exist_ok=True)
            return
        if output is not None:
            self._file = Path(output).open("w", encoding="utf-8", newline="")  # noqa: SIM115 - closed below
        self._one: Format = _FORMATS[style.format](style, self._file or sys.stdout)

    @property
    def in_folder(self) -> bool:
        """Whether each file's records go into a file of their own."""
        return self._folder is not None

    def add(self, name: str, prediction: Prediction, place: Path | None = None) -> None:
        """Write one file's prediction.

        Args:
            name: what the records call it.
            prediction: its scores.
            place: its path within an output folder, without the ending.
        """
        if self._folder is None:
            self._write(self._one, self._style.records(name, prediction), name)
            return
        path = self._folder / f"{place or Path(name).name}{ENDINGS[self._style.format]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            one = _FORMATS[self._style.format](self._style, file)
            self._write(one, self._style.records(name, prediction), name)
            one.close()

    def follow(self, name: str, windows: Iterable[WindowScore]) -> None:
        """Write windows, or their events, as they come in."""
        for record in self._style.live(name, windows):
            self._one.add(record)

    def close(self) -> None:
        """Write what is written last, and close."""
        if self._folder is None:
            self._one.close()
        if self._file is not None:
            self._file.close()

    def _write(self, one: Format, records: Iterator[Record], name: str) -> None:
        empty = True
        for record in records:
            empty = False
            one.add(record)
        if empty and self._style.format == "text" and self._folder is None and self._file is None:
            print(f"{name}: no events", flush=True)


def places(files: Sequence[Path]) -> dict[Path, Path]:
    """Where the answers for files lie in an output folder: as the files do below what they have in common."""
    if not files:
        return {}
    parents = [str(path.resolve().parent) for path in files]
    try:
        common = Path(os.path.commonpath(parents))
    except ValueError:  # drives of their own
        raise EdgeAudioError("the sounds lie on several drives; predict one after the other") from None
    return {path: path.resolve().relative_to(common) for path in files}


# ── other verbs ──────────────────────────────────────────────────────────────────────────────────


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

"""Public layouts of labelled sound → one clips table.

* a CSV or TSV: `path`, `label`, and where wanted `fold`, `split`, `group`, `device`, `start`, `end` (seconds)
* ESC-50 and ESC-10: `meta/*.csv` with `filename`, `fold`, `category` beside `audio/`
* a folder with a `clips.csv` (what `edgeaudio data synth` writes)
* a folder of class folders
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeaudio.audio import SUFFIXES, find_files
from edgeaudio.data.clips import SPLITS, Clip, Clips
from edgeaudio.errors import DataError, did_you_mean

COLUMNS = ("path", "label", "fold", "split", "group", "device", "start", "end")
_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                "dev": "val", "test": "test", "testing": "test", "eval": "test", "": ""}  # fmt: skip


@dataclass(frozen=True)
class CsvColumns:
    """Which columns of a manifest hold the path and the label."""

    path: str = "path"
    label: str = "label"


def read(source: str | Path, columns: CsvColumns | None = None) -> Clips:
    """Read a data set, recognising its layout.

    Args:
        source: a folder or a CSV / TSV file.
        columns: names of the path and label columns of a CSV that calls them otherwise.

    Raises:
        DataError: nothing is there, the layout is not known, or a row is wrong (the row is named).
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_file():
        if source.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise DataError(f"{source} is neither a folder nor a CSV file of clips (path,label,…)")
        clips = read_csv(source, columns or CsvColumns())
    elif (source / "clips.csv").is_file():
        clips = read_csv(source / "clips.csv", columns or CsvColumns())
    elif esc_meta := _esc_meta(source):
        clips = read_esc(source, esc_meta)
    else:
        clips = read_class_folders(source)
    return clips


def read_csv(path: Path, columns: CsvColumns) -> Clips:
    """Read a manifest; paths are relative to the file itself."""
    rows, header = _rows(path)
    _check_header(path, header, columns)
    items = [_clip(row, f"{path}, line {line}", path.parent, columns) for line, row in rows]
    if not items:
        raise DataError(f"{path} has a header and no clips")
    # one message for a whole moved folder, not one at each decode
    missing = [clip.path for clip in items if not clip.path.is_file()]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(items)} files are missing, the first is {missing[0]}"
        )
    return Clips(path.parent, tuple(items))


def read_esc(folder: Path, meta: Path) -> Clips:
    """Read ESC-50 or ESC-10: official folds, and the source recording as group."""
    rows, _ = _rows(meta)
    items = []
    for line, row in rows:
        path = folder / "audio" / row["filename"]
        if not path.is_file():
            raise DataError(f"{meta}, line {line}: {path} is missing")
        items.append(Clip(path, row["category"], fold=row["fold"], group=row.get("src_file") or ""))
    if not items:
        raise DataError(f"{meta} has a header and no clips")
    return Clips(folder, tuple(items))


def read_class_folders(folder: Path) -> Clips:
    """Read `folder/<class>/**/<file>`, or `folder/<train|val|test>/<class>/<file>`."""
    children = _subfolders(folder)
    split_names = {child.name.lower() for child in children}
    if len(split_names) > 1 and split_names <= _SPLIT_NAMES.keys():
        items = [
            clip
            for child in children
            for clip in _class_folders(_subfolders(child), _SPLIT_NAMES[child.name.lower()])
        ]
    else:
        items = _class_folders(children)
    if not items:
        raise DataError(_why_empty(folder))
    return Clips(folder, tuple(items))


def _class_folders(folders: list[Path], split: str = "") -> list[Clip]:
    found = {folder: find_files(folder) for folder in folders}
    for folder, files in found.items():
        # with no sounds anywhere the whole folder is the mistake, and is said so elsewhere
        if not files and any(found.values()):
            raise DataError(
                f"{folder} holds no sound files, so it can't be a class; "
                "fill it, take it away, or name the clips in a CSV"
            )
    return [Clip(path, folder.name, split=split) for folder, files in found.items() for path in files]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _why_empty(folder: Path) -> str:
    endings = " ".join(sorted(SUFFIXES))
    if loose := [path for path in find_files(folder) if path.parent == folder]:
        return f"{folder} holds {len(loose)} sound files but no class folders; give each class a folder"
    return f"{folder} holds no sound files in class folders (looked for {endings})"


def _esc_meta(folder: Path) -> Path | None:
    for path in sorted((folder / "meta").glob("*.csv")) if (folder / "audio").is_dir() else []:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            if {"filename", "fold", "category"} <= set(next(csv.reader(file), [])):
                return path
    return None


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error
    first = text.split("\n", 1)[0]
    delimiter = max("\t,;", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
    try:
        return [(reader.line_num, row) for row in reader], list(reader.fieldnames)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error


def _check_header(path: Path, header: list[str], columns: CsvColumns) -> None:
    for wanted, option in ((columns.path, "--path-column"), (columns.label, "--label-column")):
        if wanted not in header:
            hint = did_you_mean(wanted, header)
            raise DataError(f"{path} has no column {wanted!r}; {hint} (name it with {option})")
    # a misspelt optional column would be ignored in silence; other columns of the user's are fine
    for name in header:
        if name not in (*COLUMNS, columns.path, columns.label):
            for known in COLUMNS[2:]:
                if _one_typo_apart(name.lower(), known):
                    raise DataError(f"{path}: unknown column {name!r}; did you mean {known!r}?")


def _one_typo_apart(a: str, b: str) -> bool:
    """Equal, or one letter more, less or other, or two neighbours swapped; `state` is no `start`."""
    if len(a) == len(b):
        wrong = [i for i in range(len(a)) if a[i] != b[i]]
        return len(wrong) < 2 or (
            len(wrong) == 2 and a[wrong[0] : wrong[1] + 1] == b[wrong[0] : wrong[1] + 1][::-1]
        )
    shorter, longer = sorted((a, b), key=len)
    return any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


def _clip(row: Mapping[str, str], where: str, folder: Path, columns: CsvColumns) -> Clip:
    def cell(name: str) -> str:
        return (row.get(name) or "").strip()

    if not cell(columns.path) or not cell(columns.label):
        empty = columns.path if not cell(columns.path) else columns.label
        raise DataError(f"{where}: the column {empty!r} is empty")
    split = cell("split").lower()
    if split not in _SPLIT_NAMES:
        raise DataError(f"{where}: unknown split {cell('split')!r}; use one of {', '.join(SPLITS)}")
    start, end = (_seconds(cell(name), f"{where}: {name}") for name in ("start", "end"))
    start = start or 0.0
    if end is not None and end <= start:
        raise DataError(f"{where}: end {end:g} s is not after start {start:g} s")
    return Clip(
        path=folder / cell(columns.path), label=cell(columns.label), start=start,
        duration=None if end is None else end - start,
        fold=cell("fold"), split=_SPLIT_NAMES[split], group=cell("group"), device=cell("device"),
    )  # fmt: skip


def _seconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise DataError(f"{where} is {text!r}; it must be a number of seconds")
    return value

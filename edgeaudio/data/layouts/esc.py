"""ESC-50 and ESC-10: `meta/*.csv` with `filename`, `fold`, `category` beside `audio/`.

Source: Piczak, ESC: Dataset for Environmental Sound Classification (2015), github.com/karolpiczak/ESC-50.
"""

from __future__ import annotations

from pathlib import Path

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, header_of, read_table
from edgeaudio.errors import DataError


def _meta(folder: Path) -> Path | None:
    tables = sorted((folder / "meta").glob("*.csv")) if (folder / "audio").is_dir() else []
    return next((path for path in tables if {"filename", "fold", "category"} <= header_of(path)), None)


def read_esc(folder: Path, columns: CsvColumns) -> Clips:
    """Read ESC-50 or ESC-10: official folds, and the source recording as group."""
    meta = _meta(folder)
    assert meta is not None
    rows, _ = read_table(meta)
    items = []
    for line, row in rows:
        path = folder / "audio" / row["filename"]
        if not path.is_file():
            raise DataError(f"{meta}, line {line}: {path} is missing")
        items.append(Clip(path, row["category"], fold=row["fold"], group=row.get("src_file") or ""))
    if not items:
        raise DataError(f"{meta} has a header and no clips")
    return Clips(folder, tuple(items))


ESC = Layout("ESC-50", lambda source: source.is_dir() and _meta(source) is not None, read_esc)

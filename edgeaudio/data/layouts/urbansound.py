"""UrbanSound8K: `metadata/UrbanSound8K.csv` and `audio/fold1…10`, or both without their folder.

Source: Salamon, Jacoby, Bello, A Dataset and Taxonomy for Urban Sound Research (2014).
"""

from __future__ import annotations

from pathlib import Path

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, check_files, rows_with

_TABLE = "UrbanSound8K.csv"


def _meta(folder: Path) -> Path | None:
    places = (folder / "metadata" / _TABLE, folder / _TABLE)
    return next((path for path in places if path.is_file()), None)


def read_urbansound(folder: Path, columns: CsvColumns) -> Clips:
    """Read UrbanSound8K: official folds, and the recording that a slice was cut from as group."""
    meta = _meta(folder)
    assert meta is not None
    audio = folder / "audio" if (folder / "audio").is_dir() else folder
    items = [
        Clip(
            audio / f"fold{row['fold']}" / row["slice_file_name"],
            row["class"],
            fold=row["fold"],
            group=row["fsID"],
        )
        for _, row in rows_with(meta, "slice_file_name", "fsID", "fold", "class")
    ]
    check_files(items, meta)
    return Clips(folder, tuple(items))


URBANSOUND = Layout("UrbanSound8K", lambda source: _meta(source) is not None, read_urbansound)

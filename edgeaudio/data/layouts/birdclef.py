"""BirdCLEF: `train_metadata.csv` beside `train_audio/` (2021: `train_short_audio/`).

The primary label comes first, the secondary ones are further labels of the same recording. Ratings are left
out: they tell how well a recording sounds, not what is in it.

Source: the metadata of the yearly BirdCLEF challenges (LifeCLEF).
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from edgeaudio.data.clips import Clip, Clips, further_labels
from edgeaudio.data.layouts.common import CsvColumns, Layout, check_files, header_of, rows_with
from edgeaudio.errors import DataError

_TABLE = "train_metadata.csv"
_AUDIO = ("train_audio", "train_short_audio")


def read_birdclef(folder: Path, columns: CsvColumns) -> Clips:
    """Read BirdCLEF's labelled recordings."""
    meta = folder / _TABLE
    audio = next((folder / name for name in _AUDIO if (folder / name).is_dir()), folder / _AUDIO[0])
    items = []
    for line, row in rows_with(meta, "filename", "primary_label"):
        label, name = row["primary_label"], row["filename"]
        # before 2022 the folder of the label wasn't part of the name
        path = audio / name if "/" in name else audio / label / name
        others = _listed(row.get("secondary_labels") or "", f"{meta}, line {line}")
        items.append(Clip(path, label, others=further_labels(others, label)))
    check_files(items, meta)
    return Clips(folder, tuple(items), multi_label=True)


def _listed(text: str, where: str) -> Sequence[str]:
    """`"['a', 'b']"` → its words."""
    try:
        found = ast.literal_eval(text.strip() or "[]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise DataError(f"{where}: secondary_labels is {text[:60]!r}; it must be a list like ['a', 'b']")
    return found


BIRDCLEF = Layout(
    "BirdCLEF",
    lambda source: {"filename", "primary_label"} <= header_of(source / _TABLE),
    read_birdclef,
)

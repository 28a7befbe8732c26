"""AudioSet: segment tables (`# YTID, start_seconds, end_seconds, positive_labels`) and sounds by YTID.

The sounds may lie anywhere below the table's folder, called by the YTID, with a `Y` before it or anything
behind it. A sound no longer than its segment is the segment; of a longer one the segment is cut. Names come
from `class_labels_indices.csv` where it is beside the table, else the mids are the labels. Videos vanish
from the source, so sounds that are missing are told and left out.

Source: Gemmeke et al., Audio Set: An ontology and human-labeled dataset for audio events (2017).
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from edgeaudio.audio import find_files
from edgeaudio.data.clips import Clip, Clips, further_labels
from edgeaudio.data.layouts.common import CsvColumns, Layout, counted, read_text, rows_with, stretch
from edgeaudio.errors import DataError

_NAMES = "class_labels_indices.csv"
_SPLITS = {"balanced_train_segments": "train", "unbalanced_train_segments": "train", "eval_segments": "test"}
_ID = 11  # characters of a YTID
_ALIKE = 0.5  # seconds that a cut segment may be longer than its row says


def _is_table(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = [file.readline(1 << 16) for _ in range(3)]
    return any(line.startswith("#") and "YTID" in line for line in lines)


def _tables(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if _is_table(source) else []
    return [path for path in sorted(source.glob("*_segments.csv")) if _is_table(path)]


def read_audioset(source: Path, columns: CsvColumns) -> Clips:
    """Read one segment table, or all in a folder; the official tables' names give the split."""
    tables = _tables(source)
    folder = source if source.is_dir() else source.parent
    names, sounds = _class_names(folder), _by_id(folder)
    items: list[Clip] = []
    notes: list[str] = []
    for table in tables:
        found, missing = _segments(table, names, sounds)
        if not found:
            raise DataError(
                f"{table}: none of the {len(missing)} sounds is below {folder}, e.g. {missing[0]}"
            )
        if missing:
            total = len(found) + len(missing)
            notes.append(
                f"{table.name}: {counted(len(missing), total, 'sounds')} are missing and left out, "
                f"the first is {missing[0]}."
            )
        items += found
    return Clips(folder, tuple(items), multi_label=True, notes=tuple(notes))


def _class_names(folder: Path) -> dict[str, str]:
    """Mid → display name."""
    table = folder / _NAMES
    rows = rows_with(table, "mid", "display_name") if table.is_file() else []
    return {row["mid"]: row["display_name"] for _, row in rows}


def _by_id(folder: Path) -> dict[str, Path]:
    """Every name that a sound may be looked up by → its file; whole names go before beginnings."""
    files = find_files(folder)
    beginnings = {path.stem[skip : skip + _ID]: path for path in files for skip in _skips(path.stem)}
    return beginnings | {path.stem: path for path in files}


def _skips(stem: str) -> tuple[int, ...]:
    return (1, 0) if stem.startswith("Y") else (0,)


def _segments(table: Path, names: dict[str, str], sounds: dict[str, Path]) -> tuple[list[Clip], list[str]]:
    """The clips whose sounds are there, and the YTIDs of the others."""
    items, missing = [], []
    reader = csv.reader(io.StringIO(read_text(table), newline=""), skipinitialspace=True)
    for cells in reader:
        if not cells or cells[0].startswith("#"):
            continue
        where = f"{table}, line {reader.line_num}"
        if len(cells) != 4 or not all(cell.strip() for cell in cells):
            raise DataError(f"{where}: {len(cells)} cells; it must be YTID, start, end and quoted labels")
        mids = [mid.strip() for mid in cells[3].split(",")]
        start, duration = stretch(cells[1], cells[2], where, ("start_seconds", "end_seconds"))
        if names and (unknown := [mid for mid in mids if mid not in names]):
            raise DataError(f"{where}: {unknown[0]} is not in {_NAMES}")
        label, *others = (names.get(mid, mid) for mid in mids)
        if cells[0] not in sounds:
            missing.append(cells[0])
            continue
        path = sounds[cells[0]]
        start, duration = _inside(path, start, duration)
        split = _SPLITS.get(table.stem, "")
        further = further_labels(others, label)
        items.append(Clip(path, label, start, duration, split=split, group=cells[0], others=further))
    if not items and not missing:
        raise DataError(f"{table} has a header and no clips")
    return items, missing


def _inside(path: Path, start: float, duration: float | None) -> tuple[float, float | None]:
    """The segment's stretch in a file: all of it where the file was cut already."""
    import soundfile

    try:
        length = soundfile.info(path).duration
    except soundfile.LibsndfileError:
        return start, duration  # it is told with all unreadable files, when they are decoded
    cut_already = duration is None or length <= duration + _ALIKE
    return (0.0, None) if cut_already else (start, duration)


AUDIOSET = Layout("AudioSet segments", lambda source: bool(_tables(source)), read_audioset)

"""FSD50K: `FSD50K.ground_truth/dev.csv` and `eval.csv` beside `FSD50K.dev_audio/` and `FSD50K.eval_audio/`.

Every clip has all labels of its branches of the AudioSet ontology; the first one is the most special.

Source: Fonseca et al., FSD50K: An Open Dataset of Human-Labeled Sound Events (2022).
"""

from __future__ import annotations

from pathlib import Path

from edgeaudio.data.clips import Clip, Clips, further_labels
from edgeaudio.data.layouts.common import CsvColumns, Layout, check_files, rows_with, split_called
from edgeaudio.errors import DataError

_TABLES = "FSD50K.ground_truth"


def read_fsd50k(folder: Path, columns: CsvColumns) -> Clips:
    """Read FSD50K; of its two halves, those whose sounds are there."""
    halves = {name: folder / f"FSD50K.{name}_audio" for name in ("dev", "eval")}
    present = {name: audio for name, audio in halves.items() if audio.is_dir()}
    if not present:
        raise DataError(f"{halves['dev']} is missing; unpack the sounds beside {_TABLES}")
    items = [clip for name, audio in present.items() for clip in _half(folder, name, audio)]
    notes = [
        f"{audio.name} is not here, so the official {'test' if name == 'eval' else 'training'} clips are not."
        for name, audio in halves.items()
        if name not in present
    ]
    return Clips(folder, tuple(items), multi_label=True, notes=tuple(notes))


def _half(folder: Path, name: str, audio: Path) -> list[Clip]:
    table = folder / _TABLES / f"{name}.csv"
    columns = ("fname", "labels", "split") if name == "dev" else ("fname", "labels")
    items = []
    for line, row in rows_with(table, *columns):
        label, *others = row["labels"].split(",")
        split = split_called(row["split"], f"{table}, line {line}") if name == "dev" else "test"
        path = audio / f"{row['fname']}.wav"
        items.append(Clip(path, label.strip(), split=split, others=further_labels(others, label.strip())))
    check_files(items, table)
    return items


FSD50K = Layout("FSD50K", lambda source: (source / _TABLES / "dev.csv").is_file(), read_fsd50k)

"""The ComParE challenges of 2018 to 2021: sounds in `wav/`, tables in `lab/`.

Which part a file belongs to stands in its name: `train_…`, `devel_…`, `test_…`. Test labels are mostly kept
back: a question mark, an empty cell or no row at all; such clips have no label here. A table called
`…confidential…` has them and goes first.

| year | table | columns |
| --- | --- | --- |
| 2018 | `ComParE2018_<task>.tsv` | `file_name` and `label`, `emotion` or `Valence` |
| 2019, 2020 | `labels.csv` | `file_name`, `label`; the elderly of 2020 `filename_audio`, `V_cat`, `A_cat` |
| 2021 | `train.csv`, `devel.csv`, `test.csv` | `filename`, `label` |

Source: Schuller et al., The INTERSPEECH Computational Paralinguistics Challenge (2018 … 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeaudio.audio import find_files
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, check_files, header_of, read_table
from edgeaudio.errors import DataError

_FILES = ("file_name", "filename", "filename_audio")
_LABELS = ("label", "emotion", "Valence", "V_cat", "A_cat")
_TASKS = {"valence": "V_cat", "arousal": "A_cat"}
"""Of the elderly, who have two labels; valence where none is asked for."""
_PARTS = {"train": "train", "devel": "val"}
"""Beginning of a file name → split; everything else is test."""
_ORDERS = (("happy", "sad", "neutral", "angry"), ("l", "m", "h"), ("L", "M", "H"))
"""Classes that are numbered otherwise than by the alphabet."""
_UNKNOWN = "?"


def _tables(folder: Path) -> list[Path]:
    """The tables to be read: one, or three of 2021; none where the folder is something else."""
    if not (folder / "wav").is_dir() or not (folder / "lab").is_dir():
        return []
    named = [*folder.glob("lab/ComParE20*.tsv"), *folder.glob("lab/labels*.csv")]
    # the confidential one goes first
    whole = sorted(filter(_is_table, named), key=lambda path: ("confidential" not in path.name, path.name))
    parts = [folder / "lab" / f"{part}.csv" for part in ("train", "devel", "test")]
    return whole[:1] or (parts if all(map(_is_table, parts)) else [])


def _is_table(path: Path) -> bool:
    header = header_of(path)
    return not header.isdisjoint(_FILES) and not header.isdisjoint(_LABELS)


def _subsets(folder: Path) -> Sequence[str]:
    header = header_of(_tables(folder)[0])
    return list(_TASKS) if header.issuperset(_TASKS.values()) else ()


def read_compare(folder: Path, columns: CsvColumns) -> Clips:
    """Read a ComParE task: its parts as splits, kept-back labels as empty ones."""
    found: dict[str, str] = {}
    for table in _tables(folder):
        found |= _labels(folder, table, columns.subset)
    items = [
        Clip(path, found.get(path.name, ""), split=_PARTS.get(path.name[:5], "test"))
        for path in find_files(folder / "wav")
    ]
    if not items:
        raise DataError(f"{folder / 'wav'} holds no sound files; unpack the data set again")
    labels = {clip.label for clip in items} - {""}
    order = next((order for order in _ORDERS if labels and labels == set(order)), ())
    return Clips(folder, tuple(items), order)


def _labels(folder: Path, table: Path, task: str) -> dict[str, str]:
    """File name → label; empty where it is kept back."""
    rows, header = read_table(table)
    file = next(name for name in _FILES if name in header)
    label = _TASKS[task] if task else next(name for name in _LABELS if name in header)
    check_files((Clip(folder / "wav" / row[file].strip(), "") for _, row in rows), table)
    return {row[file].strip(): row[label].strip().removeprefix(_UNKNOWN) for _, row in rows}


COMPARE = Layout(
    "a ComParE challenge",
    lambda source: bool(_tables(source)),
    read_compare,
    _subsets,
)

"""A CSV of clips: our own columns, and the fold tables of Kaggle baselines.

* `path`, `label`, and where wanted `fold`, `split`, `group`, `device`, `start`, `end` (seconds), `others`
  (further labels, joined by `;`); a folder with such a `clips.csv`
* `path,class_id,class,fold,frames,sr,duration`: `class` is the label
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeaudio.data.clips import SEPARATOR, Clip, Clips, further_labels
from edgeaudio.data.layouts.common import CsvColumns, Layout, check_files, read_table, split_called, stretch
from edgeaudio.errors import DataError, did_you_mean

COLUMNS = ("path", "label", "fold", "split", "group", "device", "start", "end", "others")
TABLE = "clips.csv"
FOLD_TABLE = ("path", "class_id", "class", "fold")
"""The columns that tell a fold table from a CSV that lacks `label` by mistake."""


def read_csv(path: Path, columns: CsvColumns) -> Clips:
    """Read a manifest; paths are relative to the file itself."""
    rows, header = read_table(path)
    if columns == CsvColumns() and "label" not in header and set(FOLD_TABLE) <= set(header):
        columns = CsvColumns(label="class")
    _check_header(path, header, columns)
    items = [_clip(row, f"{path}, line {line}", path.parent, columns) for line, row in rows]
    if not items:
        raise DataError(f"{path} has a header and no clips")
    check_files(items, path)
    return Clips(path.parent, tuple(items), multi_label="others" in header)


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
    label = cell(columns.label)
    split = split_called(cell("split"), where)
    start, duration = stretch(cell("start"), cell("end"), where, ("start", "end"))
    return Clip(
        path=folder / cell(columns.path), label=label, start=start, duration=duration, split=split,
        fold=cell("fold"), group=cell("group"), device=cell("device"),
        others=further_labels(cell("others").split(SEPARATOR), label),
    )  # fmt: skip


CSV = Layout(
    "a CSV of clips",
    lambda source: source.is_file() and source.suffix.lower() in (".csv", ".tsv", ".txt"),
    read_csv,
)
CLIPS_CSV = Layout(
    f"a folder with a {TABLE}",
    lambda source: (source / TABLE).is_file(),
    lambda source, columns: read_csv(source / TABLE, columns),
)

"""Kaldi-style folders: `wav.scp`, labels in `utt2label`, `utt2class` or `text`, `segments`, `utt2spk`.

`wav.scp` gives each recording its file, relative to the folder; commands and archives in it are refused and
never run. `segments` cuts utterances from recordings. Speakers are the groups. A folder of such folders
called `train`, `dev`, `test` gives the split.

Source: "Data preparation", kaldi-asr.org/doc/data_prep.html.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import (
    SPLIT_NAMES,
    CsvColumns,
    Layout,
    check_files,
    read_lines,
    stretch,
    subfolders,
)
from edgeaudio.errors import DataError

_LABELS = ("utt2label", "utt2class", "text")


def _parts(source: Path) -> dict[Path, str]:
    """Kaldi folders → the split that each is."""
    if source.is_file() and source.name == "wav.scp":
        return {source.parent: ""}
    if (source / "wav.scp").is_file():
        return {source: ""}
    parts = [child for child in subfolders(source) if (child / "wav.scp").is_file()]
    if not all(child.name.lower() in SPLIT_NAMES for child in parts):
        return {}
    return {child: SPLIT_NAMES[child.name.lower()] for child in parts}


def read_kaldi(source: Path, columns: CsvColumns) -> Clips:
    """Read a Kaldi folder, or one for each split."""
    items = [clip for folder, split in _parts(source).items() for clip in _folder(folder, split)]
    return Clips(source.parent if source.is_file() else source, tuple(items))


def _folder(folder: Path, split: str) -> list[Clip]:
    files = _recordings(folder)
    utterances = _segments(folder, files)
    table = next((folder / name for name in _LABELS if (folder / name).is_file()), None)
    if table is None:
        raise DataError(
            f"{folder} has no labels; write utt2label beside wav.scp (utterance and class a line)"
        )
    labels, speakers = _pairs(table), _pairs(folder / "utt2spk")
    for utterance in labels:
        if utterance not in utterances:
            raise DataError(
                f"{table}: utterance {utterance!r} has no sound; take it out or add it to wav.scp"
            )
    items = []
    for utterance, (path, start, duration) in utterances.items():
        if utterance not in labels:
            raise DataError(
                f"{table}: utterance {utterance!r} has no label; add one or take it out of wav.scp"
            )
        group = speakers.get(utterance, "")
        items.append(Clip(path, labels[utterance], start, duration, split=split, group=group))
    check_files(items, folder / "wav.scp")
    return items


def _pairs(path: Path) -> dict[str, str]:
    """`key rest of the line` for each line; nothing where there is no such file."""
    found: dict[str, str] = {}
    for number, line in read_lines(path) if path.is_file() else []:
        key, *rest = line.split(maxsplit=1)
        if not rest:
            raise DataError(f"{path}, line {number}: {key!r} stands alone; a line is a name and its value")
        if key in found:
            raise DataError(f"{path}, line {number}: {key!r} is there twice")
        found[key] = rest[0]
    return found


def _recordings(folder: Path) -> dict[str, Path]:
    table = folder / "wav.scp"
    pairs = _pairs(table)
    if not pairs:
        raise DataError(f"{table} names no recordings")
    for key, value in pairs.items():
        if value.endswith("|") or value.startswith("|"):
            raise DataError(
                f"{table}: {key!r} is a command ({value[:60]}), and commands are not run; "
                "write the sounds out and name the files"
            )
        if re.search(r"\.ark:\d+$", value):
            raise DataError(f"{table}: {key!r} lies in an archive ({value}); write it out as a sound file")
    return {key: folder / value for key, value in pairs.items()}


def _segments(folder: Path, files: dict[str, Path]) -> dict[str, tuple[Path, float, float | None]]:
    """Utterance → file, start and duration in seconds."""
    table = folder / "segments"
    if not table.is_file():
        return {key: (path, 0.0, None) for key, path in files.items()}
    found: dict[str, tuple[Path, float, float | None]] = {}
    for number, line in read_lines(table):
        where = f"{table}, line {number}"
        cells = line.split()
        if len(cells) != 4:
            raise DataError(f"{where}: {len(cells)} words; it must be utterance, recording, start and end")
        utterance, recording, start, end = cells
        if recording not in files:
            raise DataError(f"{where}: recording {recording!r} is not in wav.scp")
        if utterance in found:
            raise DataError(f"{where}: {utterance!r} is there twice")
        to_the_end = "" if end in ("-1", "-1.0") else end
        found[utterance] = (files[recording], *stretch(start, to_the_end, where, ("start", "end")))
    return found


KALDI = Layout("a Kaldi folder", lambda source: bool(_parts(source)), read_kaldi)

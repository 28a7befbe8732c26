"""GTZAN: `genres_original/` or `genres/`, a folder for each genre, files called `blues.00042.wav`.

The data set has repeated, mislabelled and distorted tracks, and artists in many clips. Where the lists of
the fault-filtered split (`train_filtered.txt`, `valid_filtered.txt`, `test_filtered.txt`) lie beside the
folder or in it, their clips are taken, as they split them, and no others.

Source: Tzanetakis, Cook, Musical genre classification of audio signals (2002); Kereliuk, Sturm, Larsen, Deep
Learning and Music Adversaries (2015) for the filtered split.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgeaudio.audio import find_files
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, counted, read_lines, subfolders
from edgeaudio.data.layouts.folders import class_folders
from edgeaudio.errors import DataError

_FOLDERS = ("genres_original", "genres")
_LISTS = {"train": "train_filtered.txt", "val": "valid_filtered.txt", "test": "test_filtered.txt"}


def _genres(source: Path) -> Path | None:
    """The folder of genre folders; it may be the source itself."""
    for folder in (*(source / name for name in _FOLDERS), source):
        if any(_is_genre(child) for child in subfolders(folder)):
            return folder
    return None


def _is_genre(folder: Path) -> bool:
    first = next(iter(folder.glob(f"{folder.name}.*")), None)
    return (
        first is not None and re.fullmatch(r"\d{5}", first.stem.removeprefix(f"{folder.name}.")) is not None
    )


def read_gtzan(source: Path, columns: CsvColumns) -> Clips:
    """Read GTZAN, by the fault-filtered split where its lists are there."""
    folder = _genres(source)
    assert folder is not None
    items = class_folders([child for child in subfolders(folder) if find_files(child)])
    lists = _lists(source, folder)
    if not lists:
        return Clips(source, tuple(items))
    by_stem = {clip.path.stem: clip for clip in items}
    taken = [clip for split, path in lists.items() for clip in _listed(path, split, by_stem)]
    note = (
        f"{counted(len(items) - len(taken), len(items), 'clips')} are in none of the filtered lists and left "
        "out: repetitions, distortions and wrong labels."
    )
    return Clips(source, tuple(taken), notes=(note,) if len(taken) < len(items) else ())


def _lists(source: Path, folder: Path) -> dict[str, Path]:
    for place in dict.fromkeys((source, folder, folder.parent)):
        found = {split: place / name for split, name in _LISTS.items() if (place / name).is_file()}
        if found and len(found) < len(_LISTS):
            absent = next(name for split, name in _LISTS.items() if split not in found)
            raise DataError(f"{place / absent} is missing; give all three filtered lists or none")
        if found:
            return found
    return {}


def _listed(path: Path, split: str, by_stem: dict[str, Clip]) -> list[Clip]:
    # the lists name .wav, the original files are .au
    stems = [PurePosixPath(name).name.removesuffix(PurePosixPath(name).suffix) if _has_ending(name)
             else PurePosixPath(name).name for _, name in read_lines(path)]  # fmt: skip
    if missing := [stem for stem in stems if stem not in by_stem]:
        raise DataError(
            f"{path}: {len(missing)} of {len(stems)} files are missing, the first is {missing[0]}"
        )
    return [replace(by_stem[stem], split=split) for stem in stems]


def _has_ending(name: str) -> bool:
    return not re.fullmatch(r"\.\d{5}", PurePosixPath(name).suffix)


GTZAN = Layout("GTZAN", lambda source: source.is_dir() and _genres(source) is not None, read_gtzan)

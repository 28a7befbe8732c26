"""Folds for cross-validation, and the table of them that Kaggle baselines read.

Source: the columns are those of ChristofHenkel's and hirune924's BirdCLEF baselines.
"""

from __future__ import annotations

import csv
import os
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeaudio.data.clips import Clip, Clips, join_labels
from edgeaudio.data.prepare_files import appearing, sounds_of
from edgeaudio.errors import AudioError, DataError

HEADER = ("path", "class_id", "class", "fold", "frames", "sr", "duration")
_FURTHER = ("split", "group", "device", "start", "end", "others")
"""Columns that follow where the data set uses them."""


def with_folds(clips: Clips, folds: int, seed: int) -> Clips:
    """Give every clip a fold: official ones are kept, else stratified by class and never through a group.

    Args:
        clips: the table.
        folds: how many; they are called 0, 1, 2 …
        seed: of the draw.

    Raises:
        DataError: some clips have folds and others don't, or there are too few groups or clips of a class.
    """
    given = [bool(clip.fold) for clip in clips]
    if all(given):
        return clips
    if any(given):
        lacking = clips.name_of(clips[given.index(False)])
        raise DataError(f"{lacking} has no fold though others have; fill the column or drop it")
    names = _drawn(clips, folds, seed)
    items = tuple(replace(clip, fold=str(name)) for clip, name in zip(clips, names, strict=True))
    notes = (*clips.notes, *_absences(replace(clips, items=items), folds))
    return replace(clips, items=items, notes=notes)


def _drawn(clips: Clips, folds: int, seed: int) -> list[int]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = [clip.label for clip in clips]
    groups = [clip.group or f"\0{i}" for i, clip in enumerate(clips)]  # without a group, one of its own
    largest, size = clips.counts(lambda clip: clip.label).most_common(1)[0]
    distinct = len(set(groups))
    if folds > min(size, distinct):
        what = f"{distinct} groups" if distinct < size else f"{size} clips of {largest}, its largest class"
        raise DataError(
            f"{clips.root} has {what}, too few for {folds} folds; use --folds {min(size, distinct)}"
        )
    kind = StratifiedKFold if distinct == len(clips) else StratifiedGroupKFold
    names = [0] * len(clips)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small classes are told in our words
        splitter = kind(folds, shuffle=True, random_state=seed % 2**32)
        for fold, (_, held) in enumerate(splitter.split(np.zeros(len(clips)), labels, groups)):
            for i in held:
                names[i] = fold
    return names


def _absences(clips: Clips, folds: int) -> list[str]:
    found: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        found[clip.label].add(clip.fold)
    few = [label for label, names in sorted(found.items()) if len(names) < folds]
    if not few:
        return []
    who = f"{len(few)} classes have" if len(few) > 1 else "1 class has"
    names = ", ".join(few[:3]) + (" …" if len(few) > 3 else "")
    return [f"{who} clips or groups for fewer than {folds} folds: {names}."]


def write_folds(clips: Clips, path: Path, absolute: bool = False) -> None:
    """Write the fold table.

    Args:
        clips: a table in which every clip has a fold.
        path: the CSV; it appears whole, and an existing one is left alone.
        absolute: write absolute paths, else such as are relative to the CSV.

    Raises:
        DataError: the file is there already.
        AudioError: a sound can't be read.
    """
    lengths = {sound: _length(sound) for sound in sounds_of(clips).paths}
    base = None if absolute else path.absolute().parent
    further = [_further(clip) for clip in clips]
    extra = [name for name in _FURTHER if any(cells[name] for cells in further)]
    if clips.multi_label and "others" not in extra:
        extra.append("others")  # says that clips may have several labels, though none has
    with appearing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*HEADER, *extra])
        for clip, target, cells in zip(clips, clips.targets, further, strict=True):
            frames, rate = _heard(clip, *lengths[clip.path])
            row = [_where(clip.path, base), target, clip.label, clip.fold, frames, rate]
            writer.writerow([*row, f"{frames / rate:.6f}", *(cells[name] for name in extra)])


def _heard(clip: Clip, frames: int, rate: int) -> tuple[int, int]:
    """Frames of the clip's stretch, as it is decoded, and their rate."""
    rest = max(0, frames - round(clip.start * rate))
    return (rest if clip.duration is None else min(rest, round(clip.duration * rate))), rate


def _where(path: Path, base: Path | None) -> str:
    absolute = path.absolute()
    return (absolute if base is None else Path(os.path.relpath(absolute, base))).as_posix()


def _further(clip: Clip) -> dict[str, str]:
    end = "" if clip.duration is None else f"{clip.start + clip.duration:.6f}"
    start = f"{clip.start:.6f}" if clip.start else ""
    return {"split": clip.split, "group": clip.group, "device": clip.device, "start": start, "end": end,
            "others": join_labels(clip.others)}  # fmt: skip


def _length(path: Path) -> tuple[int, int]:
    """Frames and sample rate of a sound, from its header."""
    import soundfile

    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path} can't be read as sound ({error.error_string}); mend it, or pass --skip-bad"
        ) from error
    return int(info.frames), int(info.samplerate)

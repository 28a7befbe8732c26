"""Speech Commands v1 and v2: a folder for each word, and two lists that name what is held out.

`validation_list.txt` and `testing_list.txt` give the split, the part of a file's name before `_nohash_` is
the speaker, who is the group. Without a subset all words are classes. The subset 12 is the usual task of ten
words, `silence` and `unknown`:

* `silence` is cut from `_background_noise_`, one second at a seeded place. Each noise file is divided at
  80 % and 90 % of its length, so that no split hears what another does.
* `unknown` is drawn, seeded, from the other words of the same split.

Both get as many clips as the ten words have on average in that split. The draws are the same on every
machine. The official test set of the task is a folder of its own in which `_silence_` and `_unknown_` are
class folders; it is read under the same names, so that what was trained on the one is tested on the other.

Source: Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeaudio.audio import find_files
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.data.layouts.common import CsvColumns, Layout, read_lines, subfolders
from edgeaudio.data.layouts.folders import class_folders
from edgeaudio.errors import DataError

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = "silence", "unknown"
NOISE = "_background_noise_"
SHARES = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
"""Which part of each noise file a split's silence is cut from."""
_LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
_OFFICIAL = {f"_{SILENCE}_": SILENCE, f"_{UNKNOWN}_": UNKNOWN}
_SEED = 0  # the table must be the same for training and for what comes after it
_SECONDS = 1.0


def read_speech_commands(folder: Path, columns: CsvColumns) -> Clips:
    """Read all words, or the twelve classes of the subset 12."""
    held_out = _held_out(folder)
    words = [child for child in subfolders(folder) if child.name != NOISE]
    items, seen = [], set()
    for clip in class_folders(words):
        name = f"{clip.label}/{clip.path.name}"
        items.append(replace(clip, split=held_out.get(name, "train"), group=_speaker(clip.path)))
        seen.add(name)
    _check_lists(folder, held_out, seen)
    if not columns.subset:
        return Clips(folder, tuple(items))
    twelve = _twelve(folder, items)
    kept = {label: sum(clip.label == label for clip in twelve) for label in (SILENCE, UNKNOWN)}
    note = (
        f"{kept[SILENCE]:,} clips of {SILENCE} were cut from {NOISE}, {kept[UNKNOWN]:,} of {UNKNOWN} drawn."
    )
    return Clips(folder, tuple(twelve), notes=(note,))


def _speaker(path: Path) -> str:
    """`bed/0c40e715_nohash_0.wav` → `0c40e715`; a word before the speaker is taken off."""
    name, marked, _ = path.stem.partition("_nohash_")
    return name.rsplit("_", 1)[-1] if marked else ""


def _held_out(folder: Path) -> dict[str, str]:
    """`word/file` → ``val`` or ``test``."""
    found: dict[str, str] = {}
    for split, name in _LISTS.items():
        for line, entry in read_lines(folder / name):
            if found.setdefault(entry, split) != split:
                raise DataError(f"{folder / name}, line {line}: {entry} is in {_LISTS['val']} too")
    return found


def _check_lists(folder: Path, held_out: dict[str, str], seen: set[str]) -> None:
    for split, name in _LISTS.items():
        listed = [entry for entry, where in held_out.items() if where == split]
        if missing := [entry for entry in listed if entry not in seen]:
            raise DataError(
                f"{folder / name}: {len(missing)} of {len(listed)} files are missing, "
                f"the first is {folder / missing[0]}"
            )


def _twelve(folder: Path, items: Sequence[Clip]) -> list[Clip]:
    if absent := [word for word in WORDS if not any(clip.label == word for clip in items)]:
        raise DataError(f"{folder} has no folder {absent[0]!r}, a word of the task; leave --subset out")
    noises = _noises(folder)
    rng = np.random.default_rng(_SEED)
    chosen = [clip for clip in items if clip.label in WORDS]
    for split in SHARES:
        others = [clip for clip in items if clip.label not in WORDS and clip.split == split]
        mean = round(sum(clip.split == split for clip in chosen) / len(WORDS))
        drawn = rng.permutation(len(others))[:mean]
        chosen += [replace(others[i], label=UNKNOWN) for i in sorted(drawn)]
        chosen += [_silence(noises, split, rng) for _ in range(mean)]
    return chosen


def _noises(folder: Path) -> list[tuple[Path, float]]:
    """The noise files, each with its length in seconds."""
    import soundfile

    files = find_files(folder / NOISE) if (folder / NOISE).is_dir() else []
    if not files:
        raise DataError(
            f"{folder / NOISE} holds no sound files to cut silence from; unpack the data set again"
        )
    try:
        return [(path, soundfile.info(path).duration) for path in files]
    except soundfile.LibsndfileError as error:
        raise DataError(f"{folder / NOISE}: a file can't be read as sound ({error})") from error


def _silence(noises: list[tuple[Path, float]], split: str, rng: np.random.Generator) -> Clip:
    path, length = noises[int(rng.integers(len(noises)))]
    first, end = (length * share for share in SHARES[split])
    start = round(float(rng.uniform(first, max(first, end - _SECONDS))), 3)
    duration = round(min(_SECONDS, end - start), 3)
    return Clip(path, SILENCE, start=start, duration=duration, split=split, group=f"{path.stem} {split}")


def read_test_set(folder: Path, columns: CsvColumns) -> Clips:
    """Read the official test set of the twelve classes; which split it is, is left to the caller."""
    items = [
        replace(clip, label=_OFFICIAL.get(clip.label, clip.label), group=_speaker(clip.path))
        for clip in class_folders(subfolders(folder))
    ]
    return Clips(folder, tuple(items))


SPEECH_COMMANDS = Layout(
    "Speech Commands",
    lambda source: all((source / name).is_file() for name in _LISTS.values()),
    read_speech_commands,
    lambda source: ["12"],
)
TEST_SET = Layout(
    "the Speech Commands test set",
    lambda source: all((source / name).is_dir() for name in _OFFICIAL),
    read_test_set,
    lambda source: ["12"],
)

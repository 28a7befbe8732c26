"""The windows that integer ranges are taken from: training windows only, as many of each class, on a list."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.data.clips import Clips
from edgeaudio.errors import DataError
from edgeaudio.training.windows import WindowSet

CALIBRATION = "calibration.csv"


def draw_calibration(train: WindowSet, count: int, seed: int) -> NDArray[np.int64]:
    """Indices of training windows, the classes in turn until there are `count`, sorted.

    Args:
        train: the training windows.
        count: how many; all there are if there are fewer.
        seed: of the draw.

    Raises:
        DataError: `count` is below 1.
    """
    if count < 1:
        raise DataError(
            f"calibration with {count} windows: ranges are never made up; use at least one a class"
        )
    rng = np.random.default_rng([seed, 11])
    label = train.targets.numpy()[train.grid.clip]
    queues = [rng.permutation(np.flatnonzero(label == each)) for each in np.unique(label)]
    # the k-th window of every class before the (k + 1)-th of any
    turns = np.concatenate([np.arange(len(queue)) for queue in queues])
    order = np.concatenate(queues)[np.argsort(turns, kind="stable")]
    return np.sort(order[:count]).astype(np.int64)


def listed_calibration(path: Path, clips: Clips, train: WindowSet) -> NDArray[np.int64]:
    """Indices of the windows of the clips that a list names.

    Args:
        path: CSV with a column ``path``, as `calibration.csv` of an earlier run has it.
        clips: the whole table, with its splits.
        train: its training windows.

    Raises:
        DataError: the list is empty or unreadable, or names a clip that isn't a training clip.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row["path"] for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise DataError(
            f"{path} can't be read as a list of clips ({error}); it needs a column path"
        ) from error
    if not rows:
        raise DataError(f"{path} names no clip; ranges are never made up")
    splits = {clips.name_of(clip): clip.split for clip in clips}
    learnt = {clips.name_of(clips[position]) for position in train.positions}
    for name in dict.fromkeys(rows):
        if name not in splits:
            raise DataError(f"{path} names {name}, which is not among the clips of this run")
        if name not in learnt:
            raise DataError(
                f"{path} names {name}, a {splits[name]} clip; ranges that have seen what they are tested on "
                "make the integers look better than they are, so name training clips only"
            )
    wanted = set(rows)
    chosen = [clips.name_of(clips[position]) in wanted for position in train.positions]
    return np.flatnonzero(np.asarray(chosen)[train.grid.clip]).astype(np.int64)


def calibration_table(index: Sequence[int] | NDArray[np.int64], clips: Clips, train: WindowSet) -> str:
    """The windows as CSV: path, start in seconds, label."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "start", "label"])
    for i in index:
        clip = clips[train.positions[train.grid.clip[i]]]
        table.writerow(
            [clips.name_of(clip), f"{train.grid.start[i] / train.waveforms.sample_rate:.4f}", clip.label]
        )
    return text.getvalue()

"""The clips table: one row for each labelled stretch of audio."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.errors import DataError, did_you_mean

SPLITS = ("train", "val", "test")
SEPARATOR = ";"
"""Stands between further labels in one cell of a CSV."""


@dataclass(frozen=True)
class Clip:
    """One labelled stretch of audio."""

    path: Path
    """The sound file."""
    label: str
    """Its class; empty where it isn't known."""
    start: float = 0.0
    """Seconds into the file."""
    duration: float | None = None
    """Seconds; to the end of the file where None."""
    fold: str = ""
    """Official fold, where the data set has folds."""
    split: str = ""
    """``train``, ``val`` or ``test``; empty until split."""
    group: str = ""
    """What must not be split: clips of one recording, one speaker, one place."""
    device: str = ""
    """What it was recorded with."""
    others: tuple[str, ...] = ()
    """Further labels of the same stretch, where it has several."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of the stretch, the first one first; none where it isn't labelled."""
        return (self.label, *self.others) if self.label else ()


@dataclass(frozen=True)
class Clips:
    """An ordered table of clips and the classes they may have."""

    root: Path
    """Folder that the data set was read from; paths are shown relative to it."""
    items: tuple[Clip, ...]
    classes: tuple[str, ...] = field(default=())
    """Sorted class names; their order is the order of the scores. Taken from the clips where empty."""
    multi_label: bool = False
    """Whether a clip may have several labels: where one has, and where the layout says so."""
    notes: tuple[str, ...] = ()
    """What reading the layout left out or drew: whole sentences for the data set's owner."""

    def __post_init__(self) -> None:
        found = {label for clip in self.items for label in clip.labels}
        if any(clip.others for clip in self.items):
            object.__setattr__(self, "multi_label", True)
        if not self.classes:
            object.__setattr__(self, "classes", tuple(sorted(found)))
        for label in sorted(found - set(self.classes)):
            raise DataError(f"{self.root}: unknown label {label!r}; {did_you_mean(label, self.classes)}")

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Clip:
        return self.items[index]

    @property
    def targets(self) -> list[int]:
        """Class index of each clip."""
        index = {name: i for i, name in enumerate(self.classes)}
        return [index[clip.label] for clip in self.items]

    @property
    def label_matrix(self) -> NDArray[np.float32]:
        """`(clips, classes)`: 1 where the clip has the label, first or further, else 0."""
        index = {name: i for i, name in enumerate(self.classes)}
        matrix = np.zeros((len(self.items), len(self.classes)), np.float32)
        for row, clip in zip(matrix, self.items, strict=True):
            row[[index[label] for label in clip.labels]] = 1
        return matrix

    @property
    def folds(self) -> list[str]:
        """Names of the folds, in natural order."""
        return sorted({clip.fold for clip in self.items if clip.fold}, key=lambda f: (len(f), f))

    @property
    def devices(self) -> list[str]:
        """Names of the devices, sorted."""
        return sorted({clip.device for clip in self.items if clip.device})

    def indices(self, keep: Callable[[Clip], bool]) -> list[int]:
        """Positions of the clips that `keep` accepts."""
        return [i for i, clip in enumerate(self.items) if keep(clip)]

    def split_indices(self, split: str) -> list[int]:
        """Positions of the clips of one split."""
        assert split in SPLITS
        return self.indices(lambda clip: clip.split == split)

    def take(self, positions: Sequence[int]) -> Clips:
        """The table of some of the clips, with the same classes."""
        return replace(self, items=tuple(self.items[i] for i in positions))

    def name_of(self, clip: Clip) -> str:
        """The clip's path relative to the data set, with its stretch where it has one."""
        try:
            name = clip.path.relative_to(self.root).as_posix()
        except ValueError:
            name = clip.path.as_posix()
        if clip.start or clip.duration is not None:
            end = "" if clip.duration is None else f"{clip.start + clip.duration:g}"
            name += f"[{clip.start:g}–{end} s]"
        return name

    def counts(self, key: Callable[[Clip], str]) -> Counter[str]:
        """Number of clips for each value of `key`."""
        return Counter(key(clip) for clip in self.items)

    @property
    def label_counts(self) -> Counter[str]:
        """Number of clips that have each label, first or further."""
        return Counter(label for clip in self.items for label in clip.labels)

    def to_csv(self) -> str:
        """The table as CSV text, readable by `readers.read`; the column `others` only where it is used.

        Raises:
            DataError: a further label holds the sign that separates them.
        """
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        header = ["path", "label", "fold", "split", "group", "device", "start", "end"]
        writer.writerow([*header, "others"] if self.multi_label else header)
        for clip in self.items:
            end = "" if clip.duration is None else f"{clip.start + clip.duration:.6f}"
            start = f"{clip.start:.6f}" if clip.start else ""
            path = clip.path.absolute().as_posix()
            row = [path, clip.label, clip.fold, clip.split, clip.group, clip.device, start, end]
            writer.writerow([*row, join_labels(clip.others)] if self.multi_label else row)
        return out.getvalue()


def join_labels(labels: Sequence[str]) -> str:
    """Further labels as one cell.

    Raises:
        DataError: a label holds the separator.
    """
    for label in labels:
        if SEPARATOR in label:
            raise DataError(f"the label {label!r} holds {SEPARATOR!r}, which separates labels; rename it")
    return SEPARATOR.join(labels)


def further_labels(labels: Sequence[str], first: str) -> tuple[str, ...]:
    """`labels` without blanks, repetitions and the first label."""
    names = dict.fromkeys(label.strip() for label in labels)
    return tuple(name for name in names if name and name != first)

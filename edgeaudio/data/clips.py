"""The clips table: one row for each labelled stretch of audio."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeaudio.errors import DataError, did_you_mean

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Clip:
    """One labelled stretch of audio."""

    path: Path
    """The sound file."""
    label: str
    """Its class."""
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


@dataclass(frozen=True)
class Clips:
    """An ordered table of clips and the classes they may have."""

    root: Path
    """Folder that the data set was read from; paths are shown relative to it."""
    items: tuple[Clip, ...]
    classes: tuple[str, ...] = field(default=())
    """Sorted class names; their order is the order of the scores. Taken from the clips where empty."""

    def __post_init__(self) -> None:
        found = {clip.label for clip in self.items}
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

    def to_csv(self) -> str:
        """The table as CSV text, readable by `readers.read`."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["path", "label", "fold", "split", "group", "device", "start", "end"])
        for clip in self.items:
            end = "" if clip.duration is None else f"{clip.start + clip.duration:.6f}"
            start = f"{clip.start:.6f}" if clip.start else ""
            path = clip.path.absolute().as_posix()
            writer.writerow([path, clip.label, clip.fold, clip.split, clip.group, clip.device, start, end])
        return out.getvalue()

"""Clips → a feature set: each clip's chunks computed on all cores, with its label, fold and partition.

The rows lie in a file without a name until the set is written, so a set may be larger than the memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio import __version__
from edgeaudio.console import Console
from edgeaudio.data.clips import SPLITS, Clip, Clips
from edgeaudio.errors import AudioError, DataError
from edgeaudio.features.featureset import MISSING, PARTITIONS, TRAIN, UNASSIGNED, VALID, FeatureSet

Chunks = Sequence[NDArray[np.float32]]
_ROOM = 1.1  # of the disk: the scratch file and the written set lie on it together for a moment
_AHEAD = 4  # clips for each core that may be computed before their turn


def collect(
    clips: Clips,
    compute: Callable[[Clip], Chunks],
    dims: tuple[str, ...],
    attributes: dict[str, Any],
    console: Console | None = None,
    skip_bad: bool = False,
    scratch: Path | None = None,
) -> FeatureSet:
    """Compute the features of all clips.

    Args:
        clips: the table; clips may be without labels.
        compute: clip → the features of each of its chunks, each `(…)` as `dims`; called from several threads.
        dims: names of the axes of an instance.
        attributes: where the features come from.
        console: shows progress.
        skip_bad: leave unreadable clips out, with a warning each, instead of refusing the data set.
        scratch: folder for what doesn't fit into memory; the system's where None.

    Returns:
        The set, in the order of the clips.

    Raises:
        AudioError: a clip can't be read.
        DataError: the features of two clips differ in shape, two clips have one name, or the disk is too
            small.
    """
    console = console or Console(quiet=True)
    _check_names(clips)
    rows = _Rows(len(clips), scratch)
    sources: list[int] = []
    numbers: list[int] = []
    for i, result in _computed(clips, compute, console):
        if isinstance(result, AudioError):
            if not skip_bad:
                raise AudioError(f"{result}; mend or remove it, or pass --skip-bad")
            console.warn(f"skipped: {result}")
            continue
        rows.add(result, clips.name_of(clips[i]))
        sources += [i] * len(result)
        numbers += range(len(result))
    if not sources:
        raise AudioError(f"{clips.root}: none of the {len(clips)} clips can be read")
    about = {"source": str(clips.root), "written_by": f"edgeaudio {__version__}", **attributes}
    return _described(clips, sources, rows.all(), numbers, dims, about)


def _check_names(clips: Clips) -> None:
    names: set[str] = set()
    for clip in clips:
        if (name := clips.name_of(clip)) in names:
            raise DataError(f"{clips.root}: {name} is there twice; each sound may be once in a feature set")
        names.add(name)


def _computed(
    clips: Clips, compute: Callable[[Clip], Chunks], console: Console
) -> Iterator[tuple[int, Chunks | AudioError]]:
    """Position and features of each clip, in order; no more than a few are computed ahead."""

    def one(clip: Clip) -> Chunks | AudioError:
        try:
            return compute(clip)
        except AudioError as error:
            return error

    workers = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[Chunks | AudioError]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for i, clip in enumerate(console.track(clips, "features", len(clips))):
                waiting.append((i, pool.submit(one, clip)))
                if len(waiting) > _AHEAD * workers:
                    position, future = waiting.popleft()
                    yield position, future.result()
            for position, future in waiting:
                yield position, future.result()
        finally:
            for _, future in waiting:  # a mistake is told at once
                future.cancel()


class _Rows:
    """Rows of equal shape in a nameless file, which goes when nothing reads it any more."""

    def __init__(self, clips: int, scratch: Path | None) -> None:
        self._clips = clips
        self._scratch = Path(scratch or tempfile.gettempdir())
        try:
            self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - it outlives this object
        except OSError as error:
            raise DataError(f"{self._scratch} can't be written to ({error.strerror})") from error
        self._shape: tuple[int, ...] = ()
        self._count = 0
        self._first = ""

    def add(self, chunks: Chunks, name: str) -> None:
        """Append the chunks of one sound."""
        for chunk in chunks:
            if not self._first:
                self._first, self._shape = name, chunk.shape
                self._check_room(len(chunks))
            if chunk.shape != self._shape:
                raise DataError(
                    f"{name} gives features of {_size(chunk.shape)} and {self._first} of "
                    f"{_size(self._shape)}; pass --fixed-length, or --chunk-length with --chunk-count, or "
                    "bring the sounds to one sample rate"
                )
            self._file.write(np.ascontiguousarray(chunk, "<f4").tobytes())
            self._count += 1

    def all(self) -> NDArray[np.float32]:
        """All rows `(instances, …)`, read from the file as they are needed."""
        self._file.flush()
        return np.memmap(self._file, "<f4", "r+", shape=(self._count, *self._shape))

    def _check_room(self, chunks: int) -> None:
        needed = self._clips * chunks * 4 * int(np.prod(self._shape)) * 2 * _ROOM
        free = shutil.disk_usage(self._scratch).free
        if needed > free:
            raise DataError(
                f"{self._clips * chunks:,} instances of {_size(self._shape)} values need "
                f"{needed / 1e9:.1f} GB on the disk while they are written, and {self._scratch} has "
                f"{free / 1e9:.1f} GB; use fewer bands or longer windows, or write to another disk"
            )


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


# ── what is known of the clips ───────────────────────────────────────────────────────────────────


def _described(
    clips: Clips,
    sources: list[int],
    features: NDArray[np.float32],
    numbers: list[int],
    dims: tuple[str, ...],
    attributes: dict[str, Any],
) -> FeatureSet:
    """The set; `sources` tells the clip of each row, `numbers` the chunk in it."""
    names = [clips.name_of(clip) for clip in clips]
    ids = {label: i for i, label in enumerate(clips.classes)}
    label_ids = np.array([ids.get(clip.label, MISSING) for clip in clips], np.int64)
    folds, partitions = folds_of(clips), partitions_of(clips)
    return FeatureSet(
        features=features,
        dims=dims,
        filenames=tuple(names[i] for i in sources),
        chunks=np.array(numbers, np.int64),
        labels=tuple(clips[i].label for i in sources) if ids else None,
        label_ids=label_ids[sources] if ids else None,
        label_map=ids or None,
        folds=None if folds is None else folds[sources],
        partitions=None if partitions is None else partitions[sources],
        attributes=attributes,
    )


def folds_of(clips: Clips) -> NDArray[np.int8] | None:
    """`(clips, folds)`: a clip is of the validation part in its own fold, else of the training part."""
    if not clips.folds:
        return None
    own = np.array([[clip.fold == name for name in clips.folds] for clip in clips])
    return np.where(own, VALID, TRAIN).astype(np.int8)


def partitions_of(clips: Clips) -> NDArray[np.int8] | None:
    """`(clips,)`: train, devel and test for the splits train, val and test; `UNASSIGNED` without one."""
    if not any(clip.split for clip in clips):
        return None
    assert len(SPLITS) == len(PARTITIONS)
    numbers = {name: i for i, name in enumerate(SPLITS)}
    return np.array([numbers.get(clip.split, UNASSIGNED) for clip in clips], np.int8)

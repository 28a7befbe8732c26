"""What a network knows of the sounds of a data set, as a feature set.

Sounds are cut into windows, and silent windows left out, as in training. So an embedding is of what the
network was trained to hear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgeaudio.audio import load_mono
from edgeaudio.console import Console
from edgeaudio.data import waveforms
from edgeaudio.data.clips import Clip, Clips
from edgeaudio.errors import DataError
from edgeaudio.features.collecting import folds_of, partitions_of
from edgeaudio.features.featureset import MISSING, FeatureSet
from edgeaudio.features.networks import EmbeddingSpec, Network, open_network
from edgeaudio.training.windows import WindowGrid, lay_grid

_BATCH = 64  # windows in one inference
_CLIPS = 16  # clips whose windows are laid at once


class Sounds(Protocol):
    """Mono samples `(samples,)` of each of some clips."""

    def __getitem__(self, i: int, /) -> NDArray[np.float32]: ...


def embed_clips(
    spec: EmbeddingSpec,
    clips: Clips,
    device: str = "auto",
    console: Console | None = None,
    skip_bad: bool = False,
) -> FeatureSet:
    """Embed the clips of a data set.

    Args:
        spec: which network, which layer, how windows are brought together.
        clips: labelled or not; folds, splits and labels are carried over.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: shows progress.
        skip_bad: leave unreadable clips out, with a warning each.

    Returns:
        A row for each clip, or for each of its audible windows where windows aren't pooled.

    Raises:
        AudioError: a clip can't be read.
        RecipeError: the network or its layer isn't known.
    """
    if not len(clips):
        raise DataError(f"{clips.root}: there are no clips to embed")
    return embed_with(open_network(spec, device, console), clips, console, skip_bad)


def embed_with(
    network: Network, clips: Clips, console: Console | None = None, skip_bad: bool = False
) -> FeatureSet:
    """The same by a network that is open already."""
    console = console or Console(quiet=True)
    if clips.multi_label:
        console.warn("a feature set knows one label a sound, so only the first label of each clip is kept")
    clips, waves = waveforms.prepare(clips, network.sample_rate, console, skip_bad)
    return embedded(network, clips, waves, console)


def embed_files(network: Network, paths: Sequence[Path], console: Console | None = None) -> FeatureSet:
    """Embed sound files that belong to no data set, as `embed_clips` embeds clips; none has a label.

    Raises:
        AudioError: a file can't be read as sound.
    """
    clips = Clips(Path(), tuple(Clip(path, "") for path in paths))
    return embedded(network, clips, [load_mono(path, network.sample_rate) for path in paths], console)


def embedded(network: Network, clips: Clips, waves: Sounds, console: Console | None = None) -> FeatureSet:
    """The set of some clips.

    Args:
        network: embeds windows.
        clips: whose labels, folds and splits are carried over.
        waves: mono samples of each clip, at the network's rate.
        console: shows progress.
    """
    console = console or Console(quiet=True)
    vectors: list[NDArray[np.float32]] = []
    clip_of: list[int] = []
    chunks: list[int] = []
    for clip, rows in console.track(_each(network, waves, len(clips)), "embedding", len(clips)):
        pooled = pool(rows, network.spec.pool)
        vectors.append(pooled)
        clip_of += [clip] * len(pooled)
        chunks += range(len(pooled))
    labels = tuple(clips[i].label for i in clip_of)
    numbers = {name: i for i, name in enumerate(clips.classes)}
    folds, partitions = folds_of(clips), partitions_of(clips)
    return FeatureSet(
        features=np.concatenate(vectors),
        dims=("generated",),
        filenames=tuple(clips.name_of(clips[i]) for i in clip_of),
        chunks=np.asarray(chunks, np.int64),
        labels=labels if numbers else None,
        label_ids=np.array([numbers.get(label, MISSING) for label in labels], np.int64) if numbers else None,
        label_map=numbers or None,
        folds=None if folds is None else folds[clip_of],
        partitions=None if partitions is None else partitions[clip_of],
        attributes={**network.attributes, "data": clips.root.resolve().as_posix()},
    )


def pool(rows: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    """The windows of one sound `(windows, features)` brought together.

    Args:
        rows: what the layer knows of each audible window.
        how: ``mean`` → `(1, features)`; ``mean+std`` → `(1, 2 · features)`, means before standard deviations
            (over the windows, not corrected for their number); ``none`` → as they are.
    """
    if how == "none":
        return rows
    mean: NDArray[np.float64] = rows.mean(axis=0, dtype=np.float64, keepdims=True)
    if how == "mean":
        return mean.astype(np.float32)
    deviation = rows.std(axis=0, dtype=np.float64, keepdims=True)
    both: NDArray[np.float32] = np.hstack([mean, deviation]).astype(np.float32)
    return both


def _each(network: Network, waves: Sounds, count: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Number of each clip and what the network knows of its audible windows `(windows, features)`."""
    for first in range(0, count, _CLIPS):
        block = range(first, min(first + _CLIPS, count))
        grid = lay_grid(cast(waveforms.Waveforms, waves), block, network.window, network.hop)
        vectors = np.concatenate(
            [
                network.embed(_cut(waves, block, grid, range(i, min(i + _BATCH, len(grid))), network.window))
                for i in range(0, len(grid), _BATCH)
            ]
        )
        for clip, rows in zip(block, grid.of_clip(), strict=True):
            yield clip, vectors[rows]


def _cut(waves: Sounds, block: range, grid: WindowGrid, rows: range, window: int) -> NDArray[np.float32]:
    """Windows `(rows, window)`, zero past the ends of their clips."""
    out = np.zeros((len(rows), window), np.float32)
    for i, row in enumerate(rows):
        start = grid.start[row]
        piece = waves[block[grid.clip[row]]][start : start + window]
        out[i, : len(piece)] = piece
    return out

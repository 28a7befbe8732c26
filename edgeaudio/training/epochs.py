"""What is heard in an epoch: which windows, in which batches, changed by which draws.

Every draw comes from (seed, epoch) alone, or from (seed, view) where a few views are gone through in turn.
So a job that goes on after a kill, a teacher in another process and a student hear the very same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeaudio.config import Recipe, TrainSpec
from edgeaudio.training.views import Draws, draw
from edgeaudio.training.windows import WindowSet

_VIEW, _ORDER = 7001, 7002  # streams of their own beside those of the epochs


@dataclass(frozen=True)
class Hearing:
    """One batch of an epoch."""

    index: NDArray[np.int64]
    """`(batch,)` windows."""
    draws: Draws
    """How they are changed."""
    at: float
    """Share of the epoch that is over when it begins."""
    view: int | None = None
    """Which of the recurring views it belongs to, if any."""
    first: int = 0
    """Place of its first window in that view."""


def seed_of(seed: int, epoch: int) -> int:
    """Seed of torch's own generator in an epoch: dropout and the like."""
    return int(np.random.default_rng([seed, epoch]).integers(2**31))


def hearings(recipe: Recipe, train: WindowSet, seed: int, epoch: int) -> Iterator[Hearing]:
    """The batches of an epoch.

    Args:
        recipe: its augmentation, batch size and, where the teachers' answers are stored, the number of views.
        train: the windows to draw from.
        seed: of the training.
        epoch: from 0 on.
    """
    if not recipe.distill.views:
        rng = np.random.default_rng([seed, epoch])
        rng.integers(2**31)  # the seed of torch's generator
        yield from _batches(recipe, train, rng, None)
        return
    view = epoch % recipe.distill.views
    batches = list(view_batches(recipe, train, seed, view))
    # what recurs is how windows are changed and mixed; the order of the batches is each epoch's own
    order = np.random.default_rng([seed, _ORDER, epoch]).permutation(len(batches))
    for place, k in enumerate(order):
        batch = batches[k]
        yield Hearing(batch.index, batch.draws, place / len(order), view, batch.first)


def view_batches(recipe: Recipe, train: WindowSet, seed: int, view: int) -> Iterator[Hearing]:
    """The batches of one recurring view, in the order in which answers to them are stored."""
    yield from _batches(recipe, train, np.random.default_rng([seed, _VIEW, view]), view)


def _batches(
    recipe: Recipe, train: WindowSet, rng: np.random.Generator, view: int | None
) -> Iterator[Hearing]:
    size = recipe.train.batch_size
    order = draw_windows(train, recipe.train, rng)
    steps = math.ceil(len(order) / size)
    for step in range(steps):
        index = order[step * size : (step + 1) * size]
        draws = draw(recipe, len(index), rng, train.device_of(index))
        yield Hearing(index, draws, step / steps, view, step * size)


def draw_windows(train: WindowSet, spec: TrainSpec, rng: np.random.Generator) -> NDArray[np.int64]:
    """Windows of one epoch in random order: some of every clip's, without repeats while they last.

    With `oversample`, clips of the smaller classes are drawn again until every class has as many windows.
    """
    of_clip = train.grid.of_clip()
    chosen = [_some(train, spec, rng, k, windows) for k, windows in enumerate(of_clip)]
    if spec.oversample:
        chosen += _repeats(train, spec, rng, chosen)
    return rng.permutation(np.concatenate(chosen))


def _some(
    train: WindowSet, spec: TrainSpec, rng: np.random.Generator, clip: int, windows: NDArray[np.int64]
) -> NDArray[np.int64]:
    length = len(train.waveforms[train.positions[clip]])
    wanted = spec.windows_per_clip or max(1, round(length / train.window))
    # a grid finer than the windows: take no more than the clip's audible part holds side by side
    wanted = min(wanted, len(windows)) if not spec.windows_per_clip else wanted
    rounds = [rng.permutation(windows) for _ in range(-(-wanted // len(windows)))]
    return np.concatenate(rounds)[:wanted]


def _repeats(
    train: WindowSet, spec: TrainSpec, rng: np.random.Generator, chosen: list[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    targets, of_clip = train.targets.numpy(), train.grid.of_clip()
    sizes = np.bincount(targets, weights=[len(part) for part in chosen])
    more = []
    for label in np.flatnonzero(sizes):
        members, missing = np.flatnonzero(targets == label), int(sizes.max() - sizes[label])
        while missing > 0:
            for clip in rng.permutation(members):
                part = _some(train, spec, rng, clip, of_clip[clip])[:missing]
                more.append(part)
                missing -= len(part)
    return more
